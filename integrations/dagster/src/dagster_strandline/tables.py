"""What is known of a spec's tables without asking its sources: what the component keeps as its state."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import strandline as sl

__all__ = ["SpecTable", "inside", "loaded", "look", "read", "write"]

_VERSION = 1
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class SpecTable:
    """A table of a spec, as ``translation`` and ``get_asset_spec`` get it."""

    source: str
    """The source's name in the spec."""
    name: str
    """As the source calls it."""
    stored: str
    """As the destinations call it."""
    destinations: tuple[str, ...]
    plugins: tuple[str, ...]
    """Of the destinations: ``duckdb``."""
    parent: str | None
    description: str
    columns: tuple[tuple[str, str, bool], ...]
    """Name, type, and whether it may be null, as the source has them."""
    primary_key: tuple[str, ...]
    incremental_key: tuple[str, ...]
    incremental: bool
    guarantee: str


@contextmanager
def inside(spec: Path) -> Iterator[None]:
    """Work in the directory of a spec, where its paths and its states belong, as ``cd … && strandline sync`` does.

    The directory is the process's own. So it is one spec's at a time.
    """
    if not spec.is_file():
        raise sl.UsageError(f"there is no spec {spec}", hint="correct `spec` of the component")
    with _one_at_a_time:
        before = Path.cwd()
        os.chdir(spec.parent)
        try:
            yield
        finally:
            os.chdir(before)


def loaded(spec: Path) -> sl.Project:
    """To be called ``inside``. Raises ``UsageError``."""
    return sl.load(spec.name)


def look(spec: Path, **choice: Any) -> list[SpecTable]:
    """The tables that a sync would bring up to date. Asks the sources, and no destination."""
    with inside(spec):
        project = loaded(spec)
        plugins = {one.name: one.plugin for one in project.destinations}
        return [_of(one, plugins) for one in project.tables(**choice)]


def _of(one: sl.SelectedTable, plugins: dict[str, str]) -> SpecTable:
    table = one.table
    return SpecTable(
        source=one.source,
        name=one.name,
        stored=one.stored,
        destinations=one.destinations,
        plugins=tuple(plugins[name] for name in one.destinations),
        parent=table.parent,
        description=table.description,
        columns=tuple((column.name, str(column.type), column.nullable) for column in table.schema),
        primary_key=table.primary_key,
        incremental_key=table.incremental_key,
        incremental=table.incremental,
        guarantee=table.guarantee.name,
    )


def write(path: Path, tables: list[SpecTable]) -> None:
    """As JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": _VERSION, "tables": [asdict(one) for one in tables]}, indent=1), "utf-8")


def read(path: Path) -> list[SpecTable]:
    """What was written.

    Raises:
        ValueError: another version of this package wrote it.
    """
    state = json.loads(path.read_text("utf-8"))
    if state.get("version") != _VERSION:
        raise ValueError(f"{path} was written by another version of dagster-strandline: dg utils refresh-defs-state")
    return [SpecTable(**{name: _frozen(value) for name, value in one.items()}) for one in state["tables"]]


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
