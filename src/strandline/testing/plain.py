"""A destination that keeps no states: a directory with a file of rows for each table. A double for tests, durable on disk.

What most stores outside databases are like: a window is not one transaction, and the cursor is kept elsewhere. ``delivery:
plain`` knows no repetition, so that rows of a window that was interrupted may be there twice; ``delivery: idempotent`` replaces
what an attempt at the same window has left, unless a later run has written meanwhile.
"""

import fcntl
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.arrow.changes import left_as_stored
from strandline.connectors.memory.data import Data, DeliveredRows
from strandline.connectors.memory.merge import Merge
from strandline.connectors.memory.rows import (
    Key,
    Row,
    Stored,
    batch_of,
    changes_of,
    keys_of,
    value_of,
)
from strandline.destination import (
    RECREATE,
    Capabilities,
    Delivery,
    Fence,
    Held,
    MigrateMode,
    Migration,
    Receipt,
    Scope,
    Window,
    WriteMode,
)
from strandline.errors import StateConflictError, TaskError
from strandline.lazy import pa
from strandline.message import Forget, Insert, Swap
from strandline.ownership import Ownership
from strandline.paths import FOLDER, encode_part, opened, replace_file
from strandline.place import file_places
from strandline.table import Table

__all__ = ["PlainDestination"]

_WINDOW = "_plain_window"
"""Column of a file: the window that a row came with."""
_SUFFIX = ".rows"


class _Delivery(StrEnum):
    PLAIN = Delivery.PLAIN.value
    IDEMPOTENT = Delivery.IDEMPOTENT.value


@dataclass(slots=True)
class _Kept:
    """One table with what is kept beside its rows."""

    stored: Stored
    epochs: dict[str, int] = field(default_factory=dict)
    """By source and destination: of the latest run that wrote."""
    numbered: "dict[str, _Numbered]" = field(default_factory=dict)
    """By lineage."""


@dataclass(frozen=True, slots=True)
class _Numbered:
    """How many rows of each content, of those without a key of their own, a pass has delivered."""

    pass_us: int
    window: str
    before: dict[str, int]
    """That window."""
    after: dict[str, int]


class PlainDestination:
    """See ``strandline.destination.Destination``."""

    class Spec(BaseModel):
        """Where the files are."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(min_length=1, description="The directory; made if it is missing.")
        delivery: _Delivery = Field(_Delivery.PLAIN, description="plain or idempotent.")

    def __init__(self, spec: Spec) -> None:
        self._root, self._delivery = Path(spec.path), Delivery(spec.delivery.value)

    @property
    def capabilities(self) -> Capabilities:
        """All that can be done without transactions."""
        return Capabilities(
            write_modes=frozenset(WriteMode), delivery=self._delivery, orders_versions=True, writers_max=1
        )

    def places(self) -> Sequence[str]:
        """The directory; see ``strandline.place``."""
        return file_places(self._root)

    def migrate(
        self,
        table: Table,
        *,
        mode: MigrateMode,
        fence: Fence,
        apply: bool = True,
        ownership: Ownership | None = None,  # noqa: ARG002 -- there is no register
        replaces: Scope | None = None,
    ) -> Migration:
        """Make the stored table fit ``table``."""
        with self._locked():
            kept = self._load(table.name)
            changes, stays, users = changes_of(kept.stored if kept else None, table, mode, replaces)
            table = table.keeping(stays)
            if apply:
                self._check(kept, fence)
                if kept is None or any(change.kind == RECREATE for change in changes):
                    kept = _Kept(Stored(_with_window(table)))
                    self._save(kept)
                elif changes:
                    kept.stored.table = left_as_stored(kept.stored.table, table, changes)
                    self._save(kept)
        mark = kept.stored.mark if kept else None
        empty = kept is None or not kept.stored.rows
        return Migration(tuple(changes), mark, empty=empty, kept=stays, users=users)

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``; its tables become durable one after the other."""
        messages = list(window)
        others = [
            one.hidden if isinstance(one, Swap) else one.table for one in messages if isinstance(one, Swap | Forget)
        ]
        names = dict.fromkeys([*(table.name for table in window.tables.values()), *others])
        with self._locked():
            kept = {name: found for name in names if (found := self._load(name)) is not None}
            for one in kept.values():
                self._check(one, fence)
                if self._delivery is Delivery.IDEMPOTENT and mode is WriteMode.APPEND:
                    _take_back(one.stored, window.id)
            data = Data({name: one.stored for name, one in kept.items()})
            _recall(data, kept, window)
            before = {name: dict(one.stored.rows) for name, one in kept.items()}
            merge = Merge(data, window, mode)
            for message in messages:
                merge.take(_named(message, window) if isinstance(message, Insert) else message)
            self._keep(data, kept, before, window, fence)
        return Receipt(None, dict(merge.rows), removed=merge.removed, lacking=merge.lacking)

    def _keep(
        self,
        data: Data,
        kept: Mapping[str, _Kept],
        before: Mapping[str, dict[Key, tuple[Row, ...]]],
        window: Window,
        fence: Fence,
    ) -> None:
        for name, one in kept.items():
            numbered = data.delivered.get((window.key, name))
            if numbered is not None and numbered.numbered:
                after = {content.hex(): count for content, count in numbered.numbered.items()}
                counted = _counted(one, window)
                one.numbered[str(window.key)] = _Numbered(numbered.sync_time_us, window.id, counted, after)
            if name in data.tables and data.tables[name].rows != before[name]:
                one.epochs[_run_of(fence)] = fence.epoch
                self._save(one)
        for name in kept.keys() - data.tables.keys():  # last: until now a swap can be done again
            self._path(name).unlink()

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there are rows of a scope."""
        with self._locked():
            kept = self._load(table.name)
        if kept is None:
            return Held(rows=False)
        epochs = [epoch for run, epoch in kept.epochs.items() if run.startswith(json.dumps(scope.source_name))]
        idempotent = self._delivery is Delivery.IDEMPOTENT
        return Held(kept.stored.in_scope(scope) > 0, max(epochs, default=None) if idempotent else None)

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The stored rows."""
        with self._locked():
            kept = self._load(table.name)
        if kept is None:
            raise TaskError(f"there is no table {table.name!r} in {self._root}")
        schema = pa.schema([table.schema.field(name) for name in columns or table.schema.names])
        rows = [row for some in kept.stored.rows.values() for row in some]
        return iter([batch_of(rows, schema)] if rows else [])

    def close(self) -> None:
        """Nothing is held."""

    # files -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, table: str) -> Path:
        return self._root / (encode_part(table) + _SUFFIX)

    def _load(self, name: str) -> _Kept | None:
        try:
            with pa.OSFile(str(self._path(name))) as file, pa.ipc.open_file(file) as reader:
                rows = reader.read_all().combine_chunks()
        except FileNotFoundError:
            return None
        about = json.loads(rows.schema.metadata[b"about"])
        table = Table(name, rows.schema.remove_metadata(), tuple(about["primary_key"]))
        stored = Stored(table, mark=about["mark"])
        for batch in rows.to_batches():
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            for index, key in enumerate(keys_of(stored.table, batch)):
                row = {column: (values, index) for column, values in columns.items()}
                stored.rows[key] = (*stored.rows.get(key, ()), row)
        return _Kept(stored, about["epochs"], {key: _Numbered(**one) for key, one in about["numbered"].items()})

    def _save(self, kept: _Kept) -> None:
        """Durably, and all of it or nothing."""
        stored = kept.stored
        about: dict[str, Any] = {
            "primary_key": stored.table.primary_key,
            "mark": stored.mark,
            "epochs": kept.epochs,
            "numbered": {key: asdict(one) for key, one in kept.numbered.items()},
        }
        rows = [row for some in stored.rows.values() for row in some]
        batch = batch_of(rows, stored.table.schema).replace_schema_metadata({"about": json.dumps(about)})
        content = pa.BufferOutputStream()
        with pa.ipc.new_file(content, batch.schema) as writer:
            writer.write_batch(batch)
        with opened(self._root, FOLDER) as directory:
            replace_file(directory, self._path(stored.table.name).name, content.getvalue().to_pybytes())

    def _check(self, kept: _Kept | None, fence: Fence) -> None:
        """Whether no later run has written; only where a repetition replaces something."""
        latest = kept.epochs.get(_run_of(fence), 0) if kept else 0
        if self._delivery is Delivery.IDEMPOTENT and latest > fence.epoch:
            raise StateConflictError(
                f"run {fence.run_id} of {fence.source} is fenced: its epoch {fence.epoch} is over, {latest} has written",
                hint="let one run at a time sync this source",
            )


def _run_of(fence: Fence) -> str:
    return f"{json.dumps(fence.source)} {json.dumps(fence.destination)}"


def _with_window(table: Table) -> Table:
    return replace(table, schema=table.schema.append(pa.field(_WINDOW, pa.string())))


def _counted(kept: _Kept, window: Window) -> dict[str, int]:
    """How many rows of each content the pass had delivered when the window began, at its first attempt."""
    found = kept.numbered.get(str(window.key))
    if found is None or found.pass_us != window.pass_.sync_time_us:
        return {}
    return found.before if found.window == window.id else found.after


def _named(message: Insert, window: Window) -> Insert:
    """With the window; all rows are taken, whether they were delivered before or not."""
    names = pa.repeat(pa.scalar(window.id, pa.string()), message.batch.num_rows)
    return replace(message, batch=message.batch.append_column(pa.field(_WINDOW, pa.string()), names), reread=False)


def _take_back(stored: Stored, window: str) -> None:
    """What an attempt at this window has left."""
    left = {key: tuple(row for row in rows if value_of(row, _WINDOW) != window) for key, rows in stored.rows.items()}
    stored.rows = {key: rows for key, rows in left.items() if rows}


def _recall(data: Data, kept: Mapping[str, _Kept], window: Window) -> None:
    """How many rows without a key of their own the pass has delivered."""
    for name, one in kept.items():
        numbers = Counter({bytes.fromhex(content): count for content, count in _counted(one, window).items()})
        data.delivered[window.key, name] = DeliveredRows(window.pass_.sync_time_us, numbered=numbers)
