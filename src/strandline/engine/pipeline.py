"""The path of a batch and of a cursor: source → feed → window → destination, and only then state → source.

One ``Pipeline`` is one task into one destination, in one pass, in one thread (and the reader's).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from strandline.destination import LACKING_MAX, Fence, Migration, Receipt, WriteMode
from strandline.engine.absence import why_kept
from strandline.engine.clock import Clock
from strandline.engine.feed import Ended, Feed, NothingYet
from strandline.engine.idle import noted, pass_over, says_the_same
from strandline.engine.into import Into
from strandline.engine.ledger import Ledger
from strandline.engine.lineage import Decorator, former_of, sent
from strandline.engine.plan import recreates
from strandline.engine.spool import KeySpool
from strandline.engine.versions import Form, forms_of
from strandline.engine.window import Bounds, Stop, StoppedError, StreamWindow
from strandline.errors import StateError, TaskError
from strandline.message import (
    Checkpoint,
    Cursor,
    Delete,
    Insert,
    Notice,
    Present,
    Replace,
    Schema,
    SourceMessage,
    WindowMessage,
)
from strandline.reading import Reading
from strandline.runs import TaskReport
from strandline.source import ReadsKeys, RunContext, Source, Task
from strandline.state import Pass, Phase, State, StateKey, TableState
from strandline.table import Table
from strandline.warned import Code, Warned

__all__ = ["Pipeline"]

_FEED_BYTES_MAX = Bounds().bytes_max * 3 // 2
"""As much as a window, which closes some way beyond its bound, so that the next one is read while one is committed."""
_POLL_S = 0.2
_Messages: TypeAlias = Callable[[Reading], Iterator[SourceMessage | WindowMessage]]


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
    acknowledge: Callable[[Cursor | None], None] = lambda _: None
    """Told of every cursor that was saved."""
    claim: Callable[[], State] | None = None
    """Saves the state that was found as this run's own, before the first row; ``None``: it is, or the destination compares."""
    on_commit: Callable[[], None] = lambda: None
    on_notice: Callable[[Warned], None] = lambda _: None
    """Called in the reader's thread."""
    position: Cursor | None = None
    """The last committed checkpoint, also where no cursor is kept."""
    _first: bool = False
    """Whether nothing of the task was stored when it began."""
    _found: dict[str, Migration] = field(default_factory=dict)
    """The stored tables, by the source's names of them."""
    _offered: dict[str, Table] = field(default_factory=dict)
    _stored: dict[str, Table] = field(default_factory=dict)
    _swept: defaultdict[str, KeySpool] = field(default_factory=lambda: defaultdict(KeySpool))
    """By table, the keys of a sweep as the source sent them."""
    _forms: Mapping[str, Mapping[str, Form]] = field(default_factory=dict)
    """See ``State.forms``."""

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make the destination's tables fit. Before the first message, and when a table changes."""
        hidden = self.hidden is not None
        for table in tables:
            # what replaces the rows of a table comes in the form that it will have
            kept = self.into.find(table, self.task, self.fence, refresh=True).kept if hidden else {}
            ownership = self.into.ownership(table, self.key.source) if not hidden else None
            stored = self._as_stored(table).keeping(kept)
            self._known(table, stored, self.into.migrate(stored, self.fence, ownership))

    def prepare_swap(self, table: Table, hidden: Migration) -> None:
        """Make a table fit for the rows of a hidden one, with the columns that stay as they are; the swap does the rest."""
        stored, ownership = self._as_stored(table).keeping(hidden.kept), self.into.ownership(table, self.key.source)
        replaces = self.into.replaced(self.task, self.fence)
        self._known(table, stored, self.into.migrate(stored, self.fence, ownership, replaces))

    def _known(self, table: Table, stored: Table, found: Migration) -> None:
        self._offered[table.name], self._stored[table.name] = table, stored.keeping(found.kept)
        self._found[table.name] = found

    def look(self, tables: Sequence[Table]) -> None:
        """Know the destination's tables as they are."""
        for table in tables:
            self._known(table, self._as_stored(table), self.into.find(table, self.task, self.fence))

    def known_as(self, name: str, noted: TableState) -> TableState:
        """With the identity of the stored table."""
        found, stored = self._found[name], self.into.stored_name(self._offered[name])
        return replace(noted, mark=found.mark or "", also=found.also, stored=stored)

    def _as_stored(self, table: Table) -> Table:
        stored = self.into.stored(table, self.task)
        return stored if self.hidden is None else stored.named(self.hidden(table.name))

    def run(self, cursor: Cursor | None, *, resumed: bool) -> None:
        """One attempt: from ``cursor`` until the source has no more; see ``Reading`` for ``resumed``.

        Raises:
            StoppedError: it was stopped before its tables were complete.
            TaskError: among others, when the source ends without having completed its tables.
        """
        self.prepare(self.task.tables)
        self._forms = forms_of(self.state, sent(self._offered, self._stored))
        self._first = self.state is None or not any(one.rows for one in self.state.tables.values())
        try:
            with self._fed(self._messages, cursor, resumed=resumed) as feed:
                pass_over(feed, cursor, lambda: self._more(feed), self._ends_idle)
                while self._more(feed):
                    receipt = self.deliver(feed)
                    for table, places in receipt.lacking.items():
                        self._fetch(table, places)
        finally:
            for swept in self._swept.values():
                swept.close()
        missing = [table.name for table in self.task.tables if table.name not in self.current.completed]
        if missing and self.stop.requested:
            # what is saved may be the last pass's state, so that nobody else can tell that this one is not complete
            raise StoppedError("")
        if missing:
            raise TaskError(
                f"the source ended without completing {', '.join(missing)}", hint="this is a fault of the source plugin"
            )

    def _ends_idle(self, completed: Sequence[str]) -> bool:
        """End a pass that has brought nothing. Nothing is written then: there may be 10,000 such tasks."""
        following = self._after(Counter(), completed, self.position)
        if self.state is None or not says_the_same(self.state, following):
            return False
        self.current = following.current or self.current
        self.acknowledge(following.cursor)
        return True

    @contextmanager
    def _fed(self, messages: _Messages, cursor: Cursor | None, *, resumed: bool) -> Iterator[Feed]:
        """What the source yields of a reading, which ends with the block."""
        feed = Feed(lambda: messages(reading), bytes_max=_FEED_BYTES_MAX, name=f"{self.key}")
        reading = Reading(
            cursor,
            self.context.started_at,
            resumed=resumed,
            mirror=self.into.mode is WriteMode.OVERWRITE_DELETE_STALE,
            absorbs=self.into.mode is not WriteMode.APPEND,
            lacks=self.state is not None and any(one.lacks for one in self.state.tables.values()),
            former=former_of(self._offered, self._stored),
            batch_rows=self.context.batch_rows,
            batch_bytes=self.context.batch_bytes,
            on_alive=feed.alive,
            on_held=self.report.held,
        )
        with feed, closing(reading):
            yield feed

    def _messages(self, reading: Reading) -> Iterator[SourceMessage]:
        """In the reader's thread: the source's messages, as the destination takes them.

        A changed table is known here at once, since the rows that follow are of it already; the writer's thread changes
        the stored table later, between the windows before and after it.
        """
        decorator = self._decorator()
        for message in self.source.read(self.task, reading):
            match message:
                case Schema(table=offered):
                    decorator.change(table := self.into.selecting(offered), self._as_stored(table))
                    yield Schema(table)
                case Insert():
                    if message.batch.num_rows:
                        yield decorator.insert(message)
                case Notice():
                    self.on_notice(Warned(message.code, message.text))
                case Present() | Replace() if message.table in self._offered and self._keeps(message):
                    pass
                case Delete() | Present() | Replace():
                    if isinstance(message, Present) and isinstance(self.source, ReadsKeys):
                        self._swept[message.table].add(message.keys)
                    yield replace(message, keys=decorator.keys(message))
                case _:
                    yield message

    def _keeps(self, message: Present | Replace) -> bool:
        """Whether rows that the source does not name are kept; then that is said."""
        state = self.state if self.hidden is None else None
        if why := why_kept(message, self.into.mode, self.current, self._offered[message.table], state):
            self.on_notice(Warned(Code.ROWS_KEPT, f"{self.key}: {why}"))
        return why is not None

    def _decorator(self) -> Decorator:
        """With tables of its own, since the reader's thread is ahead of the writer's."""
        tables, origin = sent(self._offered, self._stored), "" if self.state is None else self.state.versions_of
        about = self.key.source, self.task.partition, self.current.sync_time_us, self.into.mode
        return Decorator(*about, tables, dict(self._stored), origin, self._forms)

    def _fetch(self, table: str, places: Sequence[int]) -> None:
        """Read rows by their keys that a sweep has found at the source, and not in the destination.

        Whoever lost them: a key that was set back, a hand at the destination. They are written under the cursor that is
        saved already; killed before that, the next sweep finds them again.

        Raises:
            TaskError: the source cannot look rows up, or they were too many to be read at once.
        """
        count, source, swept = len(places), self.source, self._swept.get(table)
        again = f"strandline sync --full-refresh {table!r} reads all of it again"
        if not isinstance(source, ReadsKeys) or swept is None:
            raise TaskError(
                f"{self.key}: {count} rows of {table!r} that the source has are missing in the destination", hint=again
            )
        decorator, cursor = self._decorator(), self.position

        def messages(reading: Reading) -> Iterator[WindowMessage]:
            for keys in swept.take(places[:LACKING_MAX]):
                found = source.read_keys(self.task, table, keys, reading)
                yield from (decorator.insert(one) for one in found if one.batch.num_rows)
                yield Checkpoint(cursor)

        said = (
            f"{self.key}: {min(count, LACKING_MAX)} rows of {table!r} that the source has were missing in the destination, "
            "and are read by their keys"
        )
        self.on_notice(Warned(Code.ROWS_MISSING, said))
        with self._fed(messages, cursor, resumed=True) as feed:
            while self._more(feed):
                self.deliver(feed)
        if self.stop.requested:
            raise StoppedError("")
        if count > LACKING_MAX:
            raise TaskError(
                f"{self.key}: more rows of {table!r} are missing; the next sync goes on", hint=f"or {again}"
            )

    def _more(self, feed: Feed) -> bool:
        """Whether there is another window to write. Handles what may only stand between windows."""
        began_s = self.clock.monotonic_s()
        while not self.stop.requested:
            try:
                message = feed.get(timeout_s=_POLL_S)
            except Ended:
                return False
            except NothingYet:
                if feed.was_alive():
                    began_s = self.clock.monotonic_s()
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
        found = self.into.find(table, self.task, self.fence, refresh=self.hidden is not None)
        if recreates(found):
            raise TaskError(
                f"table {table.name!r} changed while it was read, and has to be created again",
                hint="the next sync does so, and reads it from nothing",
            )
        if self.hidden is not None:
            # the swap takes what the table itself has columns for, and another run may make it, to which nobody tells this one
            stored, ownership = self.into.stored(table, self.task), self.into.ownership(table, self.key.source)
            replaces = self.into.replaced(self.task, self.fence)
            self.into.migrate(stored.keeping(found.kept), self.fence, ownership, replaces)
        self.prepare([table])

    def deliver(self, feed: Feed, following: Callable[[StreamWindow], State] | None = None) -> Receipt:
        """Write one window, then move the cursor, then tell the source."""
        into, hold = self.into, self.into.destination.holds
        scope = into.scope(self.key, self.task, self.current)
        window = StreamWindow(
            feed,
            key=self.key,
            expected=self.ledger.token(self.key),
            tables=dict(self._stored),
            scope=scope,
            pass_=self.current,
            mode=into.mode,
            bounds=into.bounds,
            following=following or self._following,
            on_first=self._claim,
            clock=self.clock,
            stop=self.stop,
        )
        try:
            receipt = into.destination.write(window, mode=into.mode, fence=self.fence)
        except StateError as unknown:
            receipt = self._in_doubt(window, unknown)
        self._account(window, receipt)
        if not self.ledger.atomic and window.counts.removes:
            window.emptied(
                [one for one in window.counts.removes if not hold(self._stored[one], scope=scope).rows], receipt.lacking
            )
        if receipt.state is not None:
            self.state = self.ledger.committed(self.key, receipt.state)
        else:
            self.state = self.ledger.save(self.key, window.state)
        self.current = window.state.current or self.current
        if following is None:
            self.position = self.report.cursor_to = window.checkpoint
        self.on_commit()
        self.acknowledge(self.state.cursor)
        return receipt

    def _claim(self) -> None:
        """The state that was found, before the first row; see ``strandline.state.StateBackend.save``."""
        claim, self.claim = self.claim, None
        if claim is not None:
            self.state = claim()

    def settle(self, messages: Sequence[WindowMessage], state: State) -> None:
        """One window of the engine's own messages, and then ``state``; in the pass of this pipeline it counts as one."""
        if state.current is not None and state.current.sync_time_us == self.current.sync_time_us:
            state = replace(state, current=replace(state.current, windows=self.current.windows + 1))
        with Feed(lambda: iter([*messages, Checkpoint(state.cursor)]), bytes_max=1, name=f"{self.key}") as feed:
            self.deliver(feed, lambda _: state)

    def _in_doubt(self, window: StreamWindow, unknown: StateError) -> Receipt:
        """The reply to the commit was lost. What is stored says what happened; nothing is assumed."""
        if not self.ledger.atomic or not window.exhausted:
            raise unknown
        return Receipt(self.ledger.resolve(self.key, window.state, unknown), dict(window.counts.rows))

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
        report.rows_by_table = report.rows_by_table + counts.rows
        report.rows_reread += 0 if self.current.full else counts.reread
        report.rows_known += known
        report.rows_written += read - known
        if self.into.mode is not WriteMode.APPEND:
            report.rows_unsure += counts.reread if not self.current.full else 0 if self._first else read
        report.rows_deleted += receipt.removed

    def _following(self, window: StreamWindow) -> State:
        """The state to commit with a window's rows."""
        return self._after(window.counts.rows, window.counts.completed, None if self.stateless else window.checkpoint)

    def _after(self, rows: Counter[str], completed: Sequence[str], cursor: Cursor | None) -> State:
        """The state once so many rows of each table are stored, and these tables are complete."""
        completed = tuple(dict.fromkeys([*self.current.completed, *completed]))
        everything = {table.name for table in self.task.tables} <= set(completed)
        phase = Phase.READING if not everything else Phase.READ if self.sweeps else Phase.DONE
        current = replace(self.current, phase=phase, completed=completed, windows=self.current.windows + 1)
        before = self.state or State(None, self.fence.epoch, 0, self.fence.run_id)
        tables = dict(before.tables)
        for name, table in self._offered.items():
            found, stored = self._found[name], self.into.stored_name(table)
            tables[name] = noted(table, tables.get(name), found, self.into.mode, rows=rows[name], stored=stored)
        changes = {"cursor": cursor, "current": current, "tables": tables, "forms": self._forms}
        return before.following(run_id=self.fence.run_id, epoch=self.fence.epoch, now=self.clock.now(), **changes)
