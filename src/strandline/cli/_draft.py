"""A spec as `init` drafts it: what the source offers, how it is read, and what must not be written down."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

from strandline.cli._places import Meant
from strandline.cli._spec_text import Document, spec_text
from strandline.cli.schema import spec_schema
from strandline.describe import check_drivers
from strandline.destination import WriteMode
from strandline.engine.answer import answered
from strandline.errors import UsageError
from strandline.logs import MASK, redact
from strandline.plugins import load_plugin
from strandline.proposal import Proposal, Proposals, Proposes
from strandline.spec import load
from strandline.table import Table

__all__ = ["THERE", "Draft", "Seen", "draft", "look"]

THERE = "--force writes another one, and keeps this under another name; --output names another file"

SCHEMA = Path(".cq/schema.json")
"""Beside the spec, for editors; `.cq` is where the states are."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A spec that is not yet written."""

    source: Document
    destination: Document
    proposals: Proposals
    mode: str
    text: str
    output: Path
    variables: Mapping[str, str]
    """Those that the spec needs, with their values."""
    exports: Mapping[str, str]
    """Those of them that the user has to set, with their values without a password."""

    def save(self, *, force: bool) -> Path | None:
        """Write it, once the loader has found nothing wrong with it. With ``force`` what is there gets another name, which is returned.

        Raises:
            UsageError: it cannot be written there.
        """
        kept: Path | None = None
        beside = self.output.with_name(f".{self.output.name}.{token_hex(4)}.yml")
        try:
            beside.write_text(self.text, "utf-8")
            try:
                load([beside], environment={**os.environ, **self.variables})
                if force and self.output.exists():
                    kept = _kept(self.output)
                with self.output.open("x", encoding="utf-8") as file:
                    file.write(self.text)
            finally:
                beside.unlink(missing_ok=True)
            schema = self.output.parent / SCHEMA
            schema.parent.mkdir(0o700, exist_ok=True)
            schema.write_text(json.dumps(spec_schema(), indent=1) + "\n", "utf-8")
        except FileExistsError as error:
            raise UsageError(f"{error.filename} is there already", hint=THERE) from error
        except OSError as error:
            raise UsageError(f"{self.output}: {error.strerror}", hint="choose another --output") from error
        return kept


def _kept(output: Path) -> Path:
    """Give a spec another name: somebody may have written much of it by hand."""
    for number in count(1):
        other = output.with_name(f"{output.name}.{number}")
        try:
            other.open("x").close()  # never over another one
        except FileExistsError:
            continue
        output.replace(other)
        return other
    raise AssertionError("there is always another number")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a source has shown."""

    read: Meant
    tables: list[Table]
    proposals: Proposals


def look(read: Meant) -> Seen:
    """Look at the source.

    Raises:
        StrandlineError: it cannot be read, or has no tables.
    """
    tables, proposals = answered(partial(_look, read), of=f"source {read.plugin!r}")
    if not tables:
        raise UsageError(
            f"{read.place.shown} has no tables that can be read", hint="grant the role the right to read them"
        )
    return Seen(read, tables, proposals)


def draft(seen: Seen, write: Meant, *, name: str, output: Path) -> Draft:
    """A spec for a source that was looked at."""
    read, write = _reached_from(seen.read, output), _reached_from(write, output)
    mode, why = _mode(write, seen.tables)
    proposals = _fitting(seen.proposals, mode)
    variables: dict[str, str] = {}
    exports: dict[str, str] = {}
    source = _document(read, name or _name(read.place.stem, "source"), variables, exports)
    destination = _document(write, _name(write.place.stem, "warehouse"), variables, exports)
    text = spec_text(source, destination, proposals, mode=mode.value, mode_why=why, schema=str(SCHEMA))
    return Draft(source, destination, proposals, mode.value, text, output, variables, exports)


def _reached_from(meant: Meant, output: Path) -> Meant:
    """A path counts from the directory of the spec."""
    place = meant.place
    if not place.path or output.absolute().parent == Path.cwd():
        return meant
    absolute = str(Path(place.settings[place.path]).absolute())
    return replace(meant, place=replace(place, settings={**place.settings, place.path: absolute}))


def _look(read: Meant) -> tuple[list[Table], Proposals]:
    cls = load_plugin("source", read.plugin)
    check_drivers(cls, f"source {read.plugin!r}")
    settings = read.place.settings
    with closing(cls(cls.Spec(**settings))) as reader:
        if not isinstance(reader, Proposes):
            tables = list(reader.tables())
            return tables, Proposals(tuple(map(_as_offered, tables)))
        proposals = reader.proposals()
    found: dict[str, Any] = {**settings, **proposals.settings}
    if proposals.only_these:
        found["tables"] = {
            one.name: {setting.name: setting.value for setting in one.settings} for one in proposals.tables
        }
    with closing(cls(cls.Spec(**found))) as reader, _warned_already():
        return list(reader.tables()), proposals


@contextmanager
def _warned_already() -> Iterator[None]:
    """What the first look has warned of is not said again."""
    ours = logging.getLogger("strandline")
    level = ours.level
    ours.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        ours.setLevel(level)


def _as_offered(table: Table) -> Proposal:
    notes = (table.description,) if table.description else ()
    return Proposal(table.name, table.name, "", table.guarantee.name, notes=notes)


def _mode(write: Meant, tables: list[Table]) -> tuple[WriteMode, str]:
    cls = load_plugin("destination", write.plugin)
    can = cls(cls.Spec(**write.place.settings)).capabilities.write_modes
    if not can - {WriteMode.APPEND}:
        again = any(not table.incremental for table in tables)
        why = (
            "each sync adds every row again of tables that are read in full" if again else "each version of a row once"
        )
        return WriteMode.APPEND, why
    unkeyed = [table.name for table in tables if table.incremental and not table.primary_key]
    if unkeyed:
        return WriteMode.APPEND, f"each row once; {unkeyed[0]} has no `primary_key` by which to overwrite rows"
    if WriteMode.OVERWRITE_DELETE_STALE in can:
        return WriteMode.OVERWRITE_DELETE_STALE, "the destination holds what the source holds"
    return WriteMode.OVERWRITE, "the last version of each row"


def _fitting(proposals: Proposals, mode: WriteMode) -> Proposals:
    """Without settings that mean nothing in ``mode``."""
    if mode is not WriteMode.APPEND:
        return proposals

    def kept(one: Proposal) -> Proposal:
        settings, options = (
            tuple(setting for setting in some if not setting.overwrites_only) for some in (one.settings, one.options)
        )
        return replace(one, settings=settings, options=options)

    return replace(proposals, tables=tuple(map(kept, proposals.tables)))


def _document(meant: Meant, name: str, variables: dict[str, str], exports: dict[str, str]) -> Document:
    place = meant.place
    settings: dict[str, Any] = dict(place.settings)
    if place.secret:
        uri = settings[place.secret]
        given = next(
            (one for one in (_known(uri), *(key for key, value in variables.items() if value == uri)) if one), ""
        )
        variable = given or f"{re.sub('[^A-Z0-9]+', '_', name.upper()).strip('_') or 'DATABASE'}_URL"
        while variables.get(variable, uri) != uri:
            variable = f"{variable.removesuffix('_URL')}_2_URL"
        variables[variable] = uri
        if not given:
            exports[variable] = _with_mask(place.shown)
        settings[place.secret] = f"${{{variable}}}"
    return Document(name, meant.plugin, settings, place.shown if place.secret else "")


def _with_mask(shown: str) -> str:
    """A connection string with a mask where its password was."""
    if "://" not in shown:
        return f"{shown} password={MASK}"
    return shown.replace("@", f":{MASK}@", 1)


def _known(value: str) -> str:
    """A variable of the environment that has this value already."""
    names = (name for name, one in os.environ.items() if one == value and re.fullmatch("[A-Z][A-Z0-9_]*", name))
    return next(names, "")


def _name(stem: str, otherwise: str) -> str:
    if redact(stem) != stem:
        return otherwise
    return re.sub(r"[^\w-]+", "_", stem).strip("_-").lower()[:60] or otherwise
