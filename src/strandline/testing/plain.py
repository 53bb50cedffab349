"""A destination that keeps no states: a directory with a file of rows for each table. A double for tests, durable on disk.

What most stores outside databases are like: a window is not one transaction, and the cursor is kept elsewhere. ``delivery:
plain`` knows no repetition, so that rows of a window that was interrupted may be there twice; ``delivery: idempotent`` replaces
what an attempt at the same window has left, unless a later run has written meanwhile.
"""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.arrow.changes import changes_of, left_as_stored
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
from strandline.fold import Delivered, Fold, Rows, batch_of
from strandline.lazy import pa
from strandline.message import Forget, Swap
from strandline.ownership import Ownership
from strandline.paths import FOLDER, encode_part, opened, replace_file
from strandline.place import file_places
from strandline.state import StateKey
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

    stored: Rows
    epochs: dict[str, int] = field(default_factory=dict)
    """By lineage: of the latest run that wrote."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """By lineage, of rows without a key of their own; see ``Delivered.numbers``."""


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
                recreates = any(change.kind == RECREATE for change in changes)
                if kept is not None and recreates:
                    self._check(kept, fence, _ours(kept, fence.source, fence.destination))
                if kept is None or recreates:
                    kept = _Kept(Rows(_with_window(table)))
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
                self._check(one, fence, [_name(window.key)])
            stored, lineage = {name: one.stored for name, one in kept.items()}, str(window.key)
            before = {name: dict(one.stored.rows) for name, one in kept.items()}
            delivered = {
                (window.key, name): Delivered.of_numbers(one.numbers[lineage])
                for name, one in kept.items()
                if lineage in one.numbers
            }
            fold = Fold(
                window,
                mode,
                stored,
                delivered,
                stamp=_WINDOW,
                replaces=self._delivery is Delivery.IDEMPOTENT,
                before_swap=lambda rows, table: changes_of(rows, table, MigrateMode.SAFE, window.scope),
            )
            fold.take(messages)
            for name, one in kept.items():
                if (counts := delivered.get((window.key, name))) is not None and counts.numbered:
                    one.numbers[lineage] = counts.numbers()
                if name in stored and stored[name].rows != before[name]:
                    one.epochs[_name(window.key)] = fence.epoch
                    self._save(one)
            for name in kept.keys() - stored.keys():  # last: until now a swap can be done again
                self._path(name).unlink()
        return fold.receipt()

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there are rows of a scope."""
        with self._locked():
            kept = self._load(table.name)
        if kept is None:
            return Held(rows=False)
        epochs = [kept.epochs[lineage] for lineage in _ours(kept, scope.source_name)]
        idempotent = self._delivery is Delivery.IDEMPOTENT
        return Held(kept.stored.in_scope(scope) > 0, max(epochs, default=None) if idempotent else None)

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The stored rows."""
        with self._locked():
            kept = self._load(table.name)
        if kept is None:
            raise TaskError(f"there is no table {table.name!r} in {self._root}")
        schema = pa.schema([table.schema.field(name) for name in columns or table.schema.names])
        rows = list(kept.stored)
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
        stored = Rows(table, mark=about["mark"])
        for batch in rows.to_batches():
            stored.add(batch)
        return _Kept(stored, about["epochs"], about["numbers"])

    def _save(self, kept: _Kept) -> None:
        """Durably, and all of it or nothing."""
        stored = kept.stored
        about: dict[str, Any] = {
            "primary_key": stored.table.primary_key,
            "mark": stored.mark,
            "epochs": kept.epochs,
            "numbers": kept.numbers,
        }
        batch = batch_of(list(stored), stored.table.schema).replace_schema_metadata({"about": json.dumps(about)})
        content = pa.BufferOutputStream()
        with pa.ipc.new_file(content, batch.schema) as writer:
            writer.write_batch(batch)
        with opened(self._root, FOLDER) as directory:
            replace_file(directory, self._path(stored.table.name).name, content.getvalue().to_pybytes())

    def _check(self, kept: _Kept, fence: Fence, lineages: Sequence[str]) -> None:
        """Whether no later run has written these; only where a repetition replaces something."""
        latest = max((kept.epochs.get(one, 0) for one in lineages), default=0)
        if self._delivery is Delivery.IDEMPOTENT and latest > fence.epoch:
            raise StateConflictError(
                f"run {fence.run_id} of {fence.source} is fenced: its epoch {fence.epoch} is over, {latest} has written",
                hint="let one run at a time sync this source",
            )


def _name(key: StateKey) -> str:
    return json.dumps([key.source, key.destination, key.task])


def _ours(kept: _Kept, *begins: str) -> list[str]:
    """The lineages of a source, into one destination or all, of which rows were written."""
    return [one for one in kept.epochs if json.loads(one)[: len(begins)] == list(begins)]


def _with_window(table: Table) -> Table:
    return replace(table, schema=table.schema.append(pa.field(_WINDOW, pa.string())))
