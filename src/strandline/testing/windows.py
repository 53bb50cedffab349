"""Windows from lists, and lineages that are written by hand: a destination without an engine."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from strandline.destination import (
    Destination,
    Fence,
    MigrateMode,
    Migration,
    Readable,
    Receipt,
    Scope,
    WriteMode,
)
from strandline.engine.window import window_id
from strandline.lazy import pa
from strandline.message import Checkpoint, Cursor, Insert, Stale, WindowMessage
from strandline.ownership import Ownership
from strandline.state import KeepsState, Pass, State, StateBackend, StateKey, Token
from strandline.table import CLIENT_ID, SOURCE_NAME, SYNC_TIME, Table, sync_time_type
from strandline.testing.exact import exact_rows

__all__ = ["Lineage", "ListWindow", "batch_of", "versions_of"]


class ListWindow:
    """Implements ``strandline.destination.Window`` over any iterable of messages that ends in a ``Checkpoint``.

    Args:
        messages: pulled lazily; what they raise is raised to the destination.
        before: the lineage's state, as it was loaded or committed last; ``None``: nothing was ever saved.
    """

    def __init__(
        self,
        messages: Iterable[WindowMessage],
        *,
        key: StateKey,
        before: State | None,
        tables: Mapping[str, Table],
        scope: Scope,
        pass_: Pass,
        fence: Fence,
    ) -> None:
        self.key, self.tables, self.scope, self.pass_ = key, tables, scope, pass_
        self.id = window_id(key, pass_)
        self.expected: Token | None = before.token if before else None
        self._messages = messages
        self._before = before or State(cursor=None, epoch=fence.epoch, sequence=0, run_id=fence.run_id)
        self._fence = fence
        self._state: State | None = None
        self.empty: frozenset[str] = frozenset()
        self.lacking: frozenset[str] = frozenset()
        """What the destination has called ``emptied`` with."""

    def __iter__(self) -> Iterator[WindowMessage]:
        last: WindowMessage | None = None
        for last in self._messages:
            yield last
        if not isinstance(last, Checkpoint):
            raise AssertionError("a window ends at a checkpoint")  # noqa: TRY004 -- the test is wrong, not a type
        self._state = self._before.following(
            run_id=self._fence.run_id, epoch=self._fence.epoch, cursor=last.cursor, current=self.pass_
        )

    def emptied(self, tables: Collection[str], lacking: Collection[str] = ()) -> None:
        """Keep it for the test."""
        self.empty, self.lacking = frozenset(tables), frozenset(lacking)

    @property
    def checkpoint(self) -> Cursor | None:
        """The cursor that covers the window."""
        return self.state.cursor

    @property
    def state(self) -> State:
        """The state that follows ``before``. The same object at every call."""
        if self._state is None:
            raise RuntimeError("a window has no state before its messages are exhausted")
        return self._state


@dataclass
class Lineage:
    """One task in one destination, without an engine: it knows its state, its pass and its fence.

    Args:
        destination: where it writes.
        tables: as stored, by the name that the messages use; ``migrate`` adds to them.
    """

    destination: Destination
    mode: WriteMode = WriteMode.OVERWRITE
    source: str = "shop"
    task: str = "orders"
    partition: str | None = None
    share_max: float | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    epoch: int = 1
    state: State | None = None
    """The last one that was committed."""
    pass_: Pass = field(default_factory=lambda: Pass(sync_time_us=1_700_000_000_000_000, full=True))
    windows: int = 0

    @property
    def key(self) -> StateKey:
        """Whose cursor it is."""
        return StateKey(self.source, self.task, "warehouse")

    @property
    def fence(self) -> Fence:
        """Under which the lineage writes."""
        return Fence(self.source, "warehouse", self.epoch, f"run-{self.epoch}")

    @property
    def scope(self) -> Scope:
        """Which rows are the lineage's."""
        return Scope(self.source, self.partition, self.pass_.stale_us or self.pass_.sync_time_us, self.share_max)

    @property
    def states(self) -> StateBackend:
        """The states beside the rows."""
        if not isinstance(self.destination, KeepsState):
            raise TypeError("an atomic destination has states")
        return self.destination.states

    def stored(self) -> State | None:
        """The state that the destination keeps."""
        return self.states.load(self.source).get(self.key)

    def take_over(self) -> None:
        """Raise the epoch, as a run does when it begins."""
        key = self.fence.key
        before = self.states.load(self.source).get(key)
        self.epoch = before.epoch + 1 if before else self.epoch
        first = before or State(cursor=None, epoch=self.epoch, sequence=0, run_id=self.fence.run_id)
        following = first.following(run_id=self.fence.run_id, epoch=self.epoch)
        self.states.save(key, following, expected=before.token if before else None)

    def migrate(
        self,
        *tables: Table,
        mode: MigrateMode = MigrateMode.SAFE,
        apply: bool = True,
        ownership: Ownership | None = None,
        replaces: Scope | None = None,
    ) -> Migration:
        """Make the stored tables fit, and write them under their names from here on; the last one's report."""
        for table in tables:
            found = self.destination.migrate(
                table, mode=mode, fence=self.fence, apply=apply, ownership=ownership, replaces=replaces
            )
            if apply:
                self.tables[table.name] = table
        return found

    def next_pass(self, *, later_us: int = 1_000_000) -> None:
        """Begin another pass."""
        self.pass_ = replace(self.pass_, sync_time_us=self.pass_.sync_time_us + later_us)

    def window(self, messages: Iterable[WindowMessage]) -> ListWindow:
        """A window of this lineage, as it is now."""
        return ListWindow(
            messages,
            key=self.key,
            before=self.state,
            tables=dict(self.tables),
            scope=self.scope,
            pass_=self.pass_,
            fence=self.fence,
        )

    def write(self, *messages: WindowMessage) -> Receipt:
        """Write the messages and a checkpoint after them as one window."""
        self.windows += 1
        return self.write_window(self.window([*messages, Checkpoint({"window": self.windows})]))

    def write_window(self, window: ListWindow) -> Receipt:
        """Write a window and go on from the state that it left."""
        receipt = self.destination.write(window, mode=self.mode, fence=self.fence)
        self.state = receipt.state or window.state
        self.pass_ = replace(self.pass_, windows=self.pass_.windows + 1)
        return receipt

    def delete_stale(self, table: Table) -> int:
        """Delete what is older than the pass; how many rows."""
        return self.write(Stale(table.name)).removed

    def holds(self, table: Table) -> bool:
        """Whether the destination has rows of this lineage's scope."""
        return self.destination.holds(table, scope=self.scope).rows

    def batch(self, table: Table, given: Mapping[str, Any] | None = None, /, **columns: Any) -> "pa.RecordBatch":
        """Rows of this lineage's pass: the columns that are given, and the lineage columns that the table has."""
        values = dict(given or {}) | columns
        return batch_of(table, self.lineage_columns(table, len(next(iter(values.values())))) | values)

    def lineage_columns(self, table: Table, count: int) -> dict[str, Any]:
        """What the engine would add to ``count`` rows."""
        values = {
            SYNC_TIME: pa.scalar(self.pass_.sync_time_us, sync_time_type()),
            SOURCE_NAME: pa.scalar(self.source, pa.string()),
            CLIENT_ID: pa.scalar(self.partition, pa.string()),
        }
        return {name: pa.repeat(value, count) for name, value in values.items() if name in table.schema.names}

    def insert(
        self, table: Table, given: Mapping[str, Any] | None = None, /, *, reread: bool = False, **columns: Any
    ) -> Insert:
        """An ``Insert`` of such rows, with their versions."""
        values = dict(given or {}) | columns
        batch = self.batch(table, values)
        return Insert(table.name, batch, reread, versions_of(batch, *values))

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "list[pa.RecordBatch]":
        """What is stored."""
        if not isinstance(self.destination, Readable):
            raise AssertionError("the suite compares what is stored: see Readable")  # noqa: TRY004 -- it is the plugin's
        return list(self.destination.read(table, columns=columns))


def batch_of(table: Table, columns: Mapping[str, Any]) -> "pa.RecordBatch":
    """The columns as a batch, in the table's types and order; what is not among them is absent."""
    fields = [one for one in table.schema if one.name in columns]
    arrays = [
        columns[one.name] if isinstance(columns[one.name], pa.Array) else pa.array(columns[one.name], one.type)
        for one in fields
    ]
    return pa.record_batch(arrays, schema=pa.schema(fields))


def versions_of(batch: "pa.RecordBatch", *columns: str) -> "pa.Array":
    """One version a row: a digest of the values of ``columns``, so that equal rows have equal versions."""
    rows = exact_rows(batch.select(sorted(columns)))
    return pa.array([hashlib.blake2b(repr(row).encode(), digest_size=16).digest() for row in rows], pa.binary(16))
