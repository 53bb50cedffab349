"""The path of a batch and of a cursor: source → feed → window → destination, and only then state → source.

One ``Pipeline`` is one task into one destination, in one pass, in one thread (and the reader's).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from strandline.destination import Destination, Fence, MigrateMode, Migration, Receipt, Scope, WriteMode
from strandline.engine.clock import Clock
from strandline.engine.feed import Ended, Feed, NothingYet
from strandline.engine.ledger import Ledger
from strandline.engine.lineage import Decorator, stored_table
from strandline.engine.plan import fingerprint, has_other_rows, recreates
from strandline.engine.window import Bounds, Stop, StoppedError, StreamWindow
from strandline.errors import StateError, TaskError
from strandline.message import Checkpoint, Cursor, Delete, Insert, Message, Notice, Present, Schema
from strandline.runs import TaskReport
from strandline.source import RunContext, Source, Task
from strandline.state import Pass, Phase, State, StateKey, TableState
from strandline.table import Table

__all__ = ["Into", "Pipeline"]

_FEED_BYTES_MAX = Bounds().bytes_max * 3 // 2
"""As much as a window, which closes some way beyond its bound, so that the next one is read while one is committed."""
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Into:
    """A destination with how it is to be written."""

    name: str
    destination: Destination
    mode: WriteMode
    migrate_mode: MigrateMode = MigrateMode.SAFE
    cq_id_only: bool = False
    bounds: Bounds = field(default_factory=Bounds)
    may_migrate: bool = True
    share_max: float | None = 0.5
    """See ``Scope.share_max``."""

    def stored(self, table: Table, task: Task) -> Table:
        """The table as it is stored here."""
        return stored_table(table, mode=self.mode, partitioned=task.partition is not None, cq_id_only=self.cq_id_only)

    def scope(self, key: StateKey, task: Task, current: Pass) -> Scope:
        """Which rows here are the task's, and which of them are stale after a pass."""
        return Scope(key.source, task.partition, current.sync_time_us, self.share_max)

    def find(self, table: Table, task: Task, fence: Fence) -> Migration:
        """What is there of a table, and what it needs. Changes nothing."""
        return self.destination.migrate(self.stored(table, task), mode=self.migrate_mode, fence=fence, apply=False)

    def migrate(self, stored: Table, fence: Fence) -> Migration:
        """Apply what a table needs, if the user lets us."""
        found = self.destination.migrate(stored, mode=self.migrate_mode, fence=fence, apply=self.may_migrate)
        if found.changes and not self.may_migrate:
            wanted = "; ".join(f"{change.kind} {change.column}".strip() for change in found.changes)
            raise TaskError(
                f"table {stored.name!r} needs a migration ({wanted}), which --no-migrate forbids",
                hint="run strandline migrate",
            )
        return found


@dataclass(slots=True)
class Pipeline:
    """Delivers what ``task`` yields and moves its cursor after it, until the source has no more."""

    key: StateKey
    task: Task
    source: Source
    into: Into
    fence: Fence
    ledger: Ledger
    context: RunContext
    report: TaskReport
    state: State | None
    """The last saved state."""
    current: Pass
    """The pass that is being delivered."""
    clock: Clock
    stop: Stop
    stateless: bool = False
    sweeps: bool = False
    """Whether stale rows are to be deleted when the pass has delivered everything."""
    hidden: Callable[[str], str] | None = None
    """For a full refresh: the name of the stored table, by the table's own."""
    on_commit: Callable[[], None] = lambda: None
    on_notice: Callable[[str], None] = lambda _: None
    """Called in the reader's thread."""
    deletes: bool = False
    """Whether anything was deleted, so that a table may be empty now for a good reason."""
    position: Cursor | None = None
    """The last committed checkpoint, also where no cursor is kept."""
    marks: dict[str, str] = field(default_factory=dict)
    """Identities of the stored tables, by the source's names of them."""
    _offered: dict[str, Table] = field(default_factory=dict)
    _stored: dict[str, Table] = field(default_factory=dict)

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make the destination's tables fit. Before the first message, and when a table changes."""
        for table in tables:
            stored = self.into.stored(table, self.task)
            if self.hidden is not None:
                stored = stored.named(self.hidden(table.name))
            found = self.into.migrate(stored, self.fence)
            self._offered[table.name], self._stored[table.name] = table, stored
            self.marks[table.name] = found.mark or ""

    def run(self, cursor: Cursor | None) -> None:
        """One attempt: from ``cursor`` until the source has no more.

        Raises:
            StoppedError: it was stopped before its tables were complete.
            TaskError: among others, when the source ends without having completed its tables.
        """
        self.prepare(self.task.tables)
        name = f"{self.key}"
        with Feed(lambda: self._messages(cursor), bytes_max=_FEED_BYTES_MAX, name=name) as feed:
            while self._more(feed):
                self.deliver(feed)
        missing = [table.name for table in self.task.tables if table.name not in self.current.completed]
        if missing and self.stop.requested:
            # what is saved may be the last pass's state, so that nobody else can tell that this one is not complete
            raise StoppedError("")
        if missing:
            raise TaskError(
                f"the source ended without completing {', '.join(missing)}", hint="this is a fault of the source plugin"
            )

    def _messages(self, cursor: Cursor | None) -> Iterator[Message]:
        """In the reader's thread: the source's messages, as the destination takes them."""
        decorator = Decorator(
            self.key.source,
            self.task.partition,
            self.current.sync_time_us,
            self.into.mode,
            self._offered,
            self._stored,
        )
        for message in self.source.read(self.task, cursor, self.context):
            match message:
                case Insert():
                    if message.batch.num_rows:
                        yield decorator.insert(message)
                case Notice():
                    self.on_notice(message.text)
                case Present() if self._has_other_rows(message.table):
                    self.on_notice(
                        f"{self.key}: rows of {message.table!r} were read with another filter, so none is removed by the "
                        f"sweep of keys; --full-refresh {message.table!r} replaces them"
                    )
                case Delete() | Present():
                    yield replace(message, keys=decorator.keys(message.table, message.keys))
                case _:
                    yield message

    def _has_other_rows(self, name: str) -> bool:
        known = None if self.state is None or self.hidden is not None else self.state.tables.get(name)
        return has_other_rows(self._offered[name], known)

    def _more(self, feed: Feed) -> bool:
        """Whether there is another window to write. Handles what may only stand between windows."""
        began_s = self.clock.monotonic_s()
        while not self.stop.requested:
            try:
                message = feed.get(timeout_s=_POLL_S)
            except Ended:
                return False
            except NothingYet:
                silent_s = self.clock.monotonic_s() - began_s
                if silent_s >= self.into.bounds.stall_s:
                    raise TaskError(f"the source has sent nothing for {silent_s:.0f} s") from None
                continue
            if isinstance(message, Schema):
                self._change(message.table)
                continue
            feed.put_back(message)
            return True
        return False

    def _change(self, table: Table) -> None:
        found = self.into.find(table, self.task, self.fence)
        if recreates(found):
            raise TaskError(
                f"table {table.name!r} changed while it was read, and has to be created again",
                hint="the next sync does so, and reads it from nothing",
            )
        self.prepare([table])

    def deliver(self, feed: Feed, following: Callable[[StreamWindow], State] | None = None) -> None:
        """Write one window, then move the cursor, then tell the source."""
        into = self.into
        window = StreamWindow(
            feed,
            key=self.key,
            expected=self.ledger.token(self.key),
            tables=dict(self._stored),
            scope=into.scope(self.key, self.task, self.current),
            pass_=self.current,
            mode=into.mode,
            bounds=into.bounds,
            following=following or self._following,
            clock=self.clock,
            stop=self.stop,
        )
        try:
            receipt = into.destination.write(window, mode=into.mode, fence=self.fence)
        except StateError as unknown:
            receipt = self._in_doubt(window, unknown)
        self._account(window, receipt)
        if receipt.state is not None:
            self.state = self.ledger.committed(self.key, receipt.state)
        else:
            self.state = self.ledger.save(self.key, window.state)
        self.current = window.state.current or self.current
        self.position = window.checkpoint
        self.deletes = self.deletes or window.counts.deletes
        self.report.cursor_to = self.position
        self.on_commit()
        if self.state.cursor is not None:
            self.source.acknowledge(self.task, self.state.cursor)

    def settle(self, messages: Sequence[Message], state: State) -> None:
        """One window of the engine's own messages, and then ``state``."""
        with Feed(lambda: iter([*messages, Checkpoint(state.cursor)]), bytes_max=1, name=f"{self.key}") as feed:
            self.deliver(feed, lambda _: state)

    def _in_doubt(self, window: StreamWindow, unknown: StateError) -> Receipt:
        """The reply to the commit was lost. What is stored says what happened; nothing is assumed."""
        if not self.ledger.transactional or not window.exhausted:
            raise unknown
        state = self.ledger.resolve(self.key, window.state, unknown)
        return Receipt(state, dict(window.counts.rows))

    def _account(self, window: StreamWindow, receipt: Receipt) -> None:
        """Rows read are rows taken, or the run has failed: nothing is dropped silently."""
        counts, report = window.counts, self.report
        for table, read in counts.rows.items():
            taken = receipt.rows.get(table, 0)
            if taken != read:
                raise TaskError(
                    f"table {table!r}: {read} rows were sent, but the destination took {taken}",
                    hint="this is a fault of the destination plugin; the table should be read again (--full-refresh)",
                )
        read, known = sum(counts.rows.values()), sum(receipt.known.values())
        report.windows += 1
        report.rows_read += read
        report.rows_reread += 0 if self.current.full else counts.reread
        report.rows_known += known
        report.rows_written += read - known
        report.rows_deleted += receipt.removed

    def _following(self, window: StreamWindow) -> State:
        """The state to commit with a window's rows."""
        completed = tuple(dict.fromkeys([*self.current.completed, *window.counts.completed]))
        everything = {table.name for table in self.task.tables} <= set(completed)
        read = Phase.READ if self.sweeps else Phase.DONE
        phase = read if everything else Phase.READING
        current = replace(self.current, phase=phase, completed=completed)
        before = self.state or State(None, self.fence.epoch, 0, self.fence.run_id)
        tables = dict(before.tables)
        for name, table in self._offered.items():
            known, selections = tables.get(name), {table.selection_fingerprint}
            rows = known.rows if known is not None and known.mark == self.marks[name] else 0
            if known is not None and rows:
                selections |= set(known.selections)
            tables[name] = TableState(
                fingerprint(table, self.into.mode),
                self.marks[name],
                rows + window.counts.rows[name],
                tuple(sorted(selections)),
            )
        return before.following(
            run_id=self.fence.run_id,
            epoch=self.fence.epoch,
            now=self.clock.now(),
            cursor=None if self.stateless else window.checkpoint,
            current=current,
            tables=tables,
        )
