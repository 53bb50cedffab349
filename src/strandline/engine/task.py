"""One task into one destination, from opening its lineage to deleting what is stale.

Crash, retry and next run are one code path: open, go on from the last saved cursor, finish the pass.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from strandline.destination import ADD_COLUMN, Fence, Migration, WriteMode
from strandline.engine.clock import Clock
from strandline.engine.ledger import Ledger
from strandline.engine.pipeline import Into, Pipeline
from strandline.engine.plan import (
    Lineage,
    Opening,
    fingerprint,
    has_other_rows,
    hidden_name,
    is_unfinished,
    next_pass,
    open_lineage,
    recreates,
    refresh_task,
)
from strandline.engine.window import Stop
from strandline.errors import CursorExpiredError, RetryableError
from strandline.message import Forget, Message, Swap
from strandline.runs import Event, EventKind, Observer, TaskReport
from strandline.source import RunContext, Source, Task
from strandline.state import Pass, Phase, State, StateKey, TableState
from strandline.table import Table

__all__ = ["Retries", "TaskRun", "announce", "drops", "survey"]


@dataclass(frozen=True, slots=True)
class Retries:
    """How long a passing failure is put up with. A commit starts the count again."""

    attempts_max: int = 5
    first_s: float = 0.5
    longest_s: float = 30.0

    def pause_s(self, attempt: int) -> float:
        """Seconds before the next attempt: doubling, with jitter."""
        return min(self.longest_s, self.first_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter


def survey(task: Task, into: Into, ledger: Ledger, fence: Fence) -> Lineage:
    """Look at what there is of a task in a destination. Changes nothing."""
    key = ledger.key(task.id)
    return Lineage(
        key=key,
        tables=task.tables,
        mode=into.mode,
        stored=ledger.stored(key),
        mirrored=ledger.mirrored(key),
        mirrors=ledger.mirrors,
        found={table.name: into.find(table, task, fence) for table in task.tables},
    )


@dataclass(slots=True)
class TaskRun:
    """Brings one task in one destination up to date. Used by one thread."""

    task: Task
    source: Source
    into: Into
    ledger: Ledger
    fence: Fence
    context: RunContext
    report: TaskReport
    observer: Observer
    clock: Clock
    stop: Stop
    refresh: bool = False
    stateless: bool = False
    retries: Retries = field(default_factory=Retries)
    done: bool = False
    """Whether the pass is complete, stale rows deleted."""
    _held: Pipeline | None = None
    """Where no cursor is kept: the pipeline whose position a retry goes on from."""

    def run(self) -> None:
        """Until the pass is done, or the run is stopped.

        Raises:
            StrandlineError: what stopped the task.
        """
        attempt, windows, expired = 0, 0, False
        while True:
            try:
                self._attempt()
            except CursorExpiredError as error:
                if expired:
                    raise
                expired = True
                self._forget_cursor(error)
            except RetryableError as error:
                attempt = 1 if self.report.windows > windows else attempt + 1
                windows = self.report.windows
                if attempt >= self.retries.attempts_max or self.stop.requested:
                    raise
                pause_s = self.retries.pause_s(attempt)
                self._say(EventKind.RETRY, f"{error.message}; trying again in {pause_s:.1f} s")
                self.stop.wait(pause_s)
            else:
                return

    def _forget_cursor(self, error: CursorExpiredError) -> None:
        """Durably, so that the next attempt begins a pass over everything; where that stores no row twice."""
        key = self.ledger.key(self.task.id)
        for side in (key, self.ledger.key(refresh_task(self.task.id))):
            state = self.ledger.stored(side)
            if state is None or state.cursor is None:
                continue
            if side == key and self.into.mode is WriteMode.APPEND and any(one.rows for one in state.tables.values()):
                raise error
            done = replace(state.current, phase=Phase.DONE) if state.current else None
            self.ledger.save(side, self._next(state, cursor=None, current=done, note=error.message))
        self._held = None
        self._warn(f"{key}: {error.message}; reading everything")

    def _attempt(self) -> None:
        lineage = survey(self.task, self.into, self.ledger, self.fence)
        now_us = int(self.clock.now().timestamp() * 1_000_000)
        side = self.ledger.key(refresh_task(self.task.id))
        pending, mirrored = self.ledger.stored(side), self.ledger.mirrored(side)
        unfinished = is_unfinished(pending)
        anew = self.refresh or unfinished
        opening = open_lineage(lineage, now_us=now_us, stateless=self.stateless, anew=anew)
        for warning in (*opening.warnings, *_without_values(lineage, opening)):
            self._warn(warning)
        if opening.mend and opening.state is not None:
            opening = replace(opening, state=self._mend(lineage.key, opening.state))
        if pending is not None and (mirrored is None or mirrored.nonce != pending.nonce):
            pending = self._mend(side, pending)
        # rows are replaced also where the state has forgotten them, as after a reset
        if anew and (opening.state is not None or any(not found.empty for found in lineage.found.values())):
            if unfinished and not self.refresh:
                self._warn(f"{lineage.key}: going on with a full refresh that was interrupted")
            self._full_refresh(lineage.key, opening, pending if unfinished else None, now_us)
            return
        if opening.doomed and opening.state is not None and self.into.may_migrate:
            state = announce(opening.doomed, opening.state, lineage.key, self.ledger, self.fence, self.clock)
            opening = replace(opening, state=state)
        if opening.sweep is not None and opening.state is not None and not opening.current.full:
            # a new full pass brings a delete of its own, and knows better
            opening = replace(opening, state=self._sweep(lineage.key, opening.state, opening.sweep))
        self._deliver(lineage.key, opening)

    def _mend(self, key: StateKey, stored: State) -> State:
        """Save ``stored`` on both sides, under an epoch of ours: the mirror takes no older one any more.

        What was given up stays as it is until there is something better.
        """
        return self.ledger.save(key, self._next(stored)) if stored.run_id else stored

    def _deliver(self, key: StateKey, opening: Opening) -> None:
        """The ordinary pass: into the table itself."""
        held, self._held = self._held, None
        state, cursor, current = opening.state, opening.cursor, opening.current
        if held is not None:
            state, cursor, current = self.ledger.stored(key), held.position, held.current
        elif not self.ledger.transactional and state is not None:
            # the fence of a destination that keeps no states is the backend's: an older run must not save any more
            state = self.ledger.save(key, self._next(state, current=state.current))
        if opening.doomed and state is not None:  # rows that will be gone are not counted with those that come
            state = replace(state, tables={n: one for n, one in state.tables.items() if n not in opening.doomed})
        sweeps = self.into.mode is WriteMode.OVERWRITE_DELETE_STALE and current.full
        pipeline = self._pipeline(key, state, current, sweeps=sweeps)
        pipeline.position = cursor
        self.report.cursor_from = self.report.cursor_from or cursor
        self.report.cursor_to = cursor
        self.report.full = current.full
        if self.stateless:
            self._held = pipeline
        pipeline.run(cursor)
        self._finish(key, pipeline)

    def _finish(self, key: StateKey, pipeline: Pipeline) -> None:
        state = pipeline.state
        if state is None or state.current is None or state.current.phase is Phase.READING:
            return
        if state.current.phase is Phase.READ:
            if self.stop.requested:
                return
            state = self._sweep(key, state, state.current)
        self.done = True
        if pipeline.deletes or self.report.rows_deleted:
            self._note_empty(key, state)

    def _sweep(self, key: StateKey, state: State, current: Pass) -> State:
        """Delete what the pass did not deliver; then the pass is done. Its rows are durable, its tables complete."""
        scope, mirrors = self.into.scope(key, self.task, current), self.into.mode is WriteMode.OVERWRITE_DELETE_STALE
        if not mirrors:  # another mode was asked for since, and that promises that rows stay
            self._warn(f"{key}: what the last pass did not find any more stays, as write_mode {self.into.mode} says")
        for table in self.task.tables if mirrors else ():
            if has_other_rows(table, state.tables.get(table.name)):
                continue  # a warning has said so when the lineage was opened
            stored = self.into.stored(table, self.task)
            self.report.rows_deleted += self.into.destination.delete_stale(stored, scope=scope, fence=self.fence)
        return self.ledger.save(key, self._next(state, current=replace(current, phase=Phase.DONE)))

    def _note_empty(self, key: StateKey, state: State) -> None:
        """Tables that are empty because their rows were deleted at the source are no contradiction next time."""
        empty = {
            table.name
            for table in self.task.tables
            if state.tables[table.name].rows and self.into.find(table, self.task, self.fence).empty
        }
        if empty:
            tables = {n: replace(table, rows=0) if n in empty else table for n, table in state.tables.items()}
            self.ledger.save(key, self._next(state, tables=tables))

    def _full_refresh(self, key: StateKey, opening: Opening, pending: State | None, now_us: int) -> None:
        """Into hidden tables, with a pass and a cursor of its own; a reader sees the old rows until all is there."""
        main = opening.state or State(None, self.fence.epoch, 0, self.fence.run_id)
        side = self.ledger.key(refresh_task(self.task.id))
        if pending and pending.current and main.current and pending.current.sync_time_us == main.current.sync_time_us:
            self._forget(side, pending)
            self.done = True
            return
        if pending is None or pending.current is None or not self._goes_on(key, pending, pending.current):
            pending, current = self._begin_refresh(key, main, pending, now_us)
        else:
            current = pending.current
        pipeline = self._pipeline(side, pending, current, hide=key)
        if current.phase is Phase.READING:
            pipeline.run(pending.cursor)
        side_state = pipeline.state
        if side_state is None or side_state.current is None or side_state.current.phase is Phase.READING:
            return
        self.report.full = True
        self.report.cursor_from, self.report.cursor_to = main.cursor, side_state.cursor
        self._swap(key, main, side_state)
        self._forget(side, side_state)
        self.done = True

    def _begin_refresh(self, key: StateKey, main: State, given_up: State | None, now_us: int) -> tuple[State, Pass]:
        """Save the pass before its hidden tables are made, so that the next run finds them; later than any other."""
        side = self.ledger.key(refresh_task(self.task.id))
        last = self.ledger.stored(side) or State(None, self.fence.epoch, 0, self.fence.run_id)
        current = next_pass(last.current, next_pass(main.current, now_us, full=True).sync_time_us, full=True)
        tables = {table.name: TableState(fingerprint(table, self.into.mode)) for table in self.task.tables}
        state = self._next(last, cursor=None, current=current, tables=tables)
        if given_up is None or given_up.current is None:
            return self.ledger.save(side, state), current
        pipeline = self._pipeline(side, given_up, given_up.current)
        pipeline.settle(drops(key, given_up, given_up.current), state)
        return pipeline.state or state, current

    def _goes_on(self, key: StateKey, pending: State, current: Pass) -> bool:
        """Whether a refresh may be resumed: its cursor is made for these tables, and what it covers is still there."""
        for table in self.task.tables:
            known = pending.tables.get(table.name)
            if known is None:
                continue
            found = self._find_hidden(key, table, current)
            swapped = current.phase is Phase.READ and found.mark is None and not self.ledger.transactional
            gone = found.empty or found.mark is None or known.mark not in {"", found.mark} or recreates(found)
            lost = known.rows and gone
            if known.fingerprint != fingerprint(table, self.into.mode) or (lost and not swapped):
                self._warn(f"{key}: an interrupted full refresh cannot be resumed; beginning another one")
                return False
        return True

    def _find_hidden(self, key: StateKey, table: Table, current: Pass) -> Migration:
        hidden = self.into.stored(table, self.task).named(hidden_name(key, table.name, current))
        return self.into.destination.migrate(hidden, mode=self.into.migrate_mode, fence=self.fence, apply=False)

    def _swap(self, key: StateKey, main: State, side: State) -> None:
        """One window of one transaction: the old rows of the scope go, the hidden ones come, the cursor moves.

        A destination without transactions may have swapped, and have been interrupted before the cursor was saved.
        """
        current = side.current
        if current is None:
            raise AssertionError("a refresh has a pass")
        done = replace(current, phase=Phase.DONE)
        pipeline = self._pipeline(key, main, done)
        tables: dict[str, TableState] = {}
        for table in self.task.tables:
            pipeline.prepare([table])
            tables[table.name] = replace(side.tables[table.name], mark=pipeline.marks[table.name])

        swaps = [
            Swap(table.name, hidden_name(key, table.name, current))
            for table in self.task.tables
            if self.ledger.transactional or self._find_hidden(key, table, current).mark is not None
        ]
        cursor = None if self.stateless else side.cursor
        pipeline.settle(swaps, self._next(main, cursor=cursor, current=done, tables=tables, note="full refresh"))

    def _forget(self, side: StateKey, state: State) -> None:
        done = replace(state.current, phase=Phase.DONE) if state.current else None
        self.ledger.save(side, self._next(state, cursor=None, current=done, tables={}))

    def _pipeline(
        self, key: StateKey, state: State | None, current: Pass, *, sweeps: bool = False, hide: StateKey | None = None
    ) -> Pipeline:
        hidden: Callable[[str], str] | None = None
        if hide is not None:
            lineage = hide

            def hidden(table: str) -> str:
                return hidden_name(lineage, table, current)

        return Pipeline(
            key=key,
            task=self.task,
            source=self.source,
            into=self.into,
            fence=self.fence,
            ledger=self.ledger,
            context=replace(self.context, mirror=self.into.mode is WriteMode.OVERWRITE_DELETE_STALE),
            report=self.report,
            state=state,
            current=current,
            clock=self.clock,
            stop=self.stop,
            stateless=self.stateless and hide is None,
            sweeps=sweeps or hide is not None,
            hidden=hidden,
            on_commit=lambda: self._say(EventKind.COMMITTED, ""),
            on_notice=self._warn,
        )

    def _next(self, state: State, **changes: object) -> State:
        return state.following(run_id=self.fence.run_id, epoch=self.fence.epoch, now=self.clock.now(), **changes)

    def _warn(self, text: str) -> None:
        if text not in self.report.warnings:
            self.report.warnings.append(text)
            self._say(EventKind.WARNING, text)

    def _say(self, kind: EventKind, text: str) -> None:
        self.observer(Event(kind, self.context.run_id, self.context.source_name, self.report, text))


def announce(doomed: Sequence[str], before: State, key: StateKey, ledger: Ledger, fence: Fence, clock: Clock) -> State:
    """Save which tables are about to be created again, before a forced migration drops their rows.

    The cursor goes with the first window after it, and not before: the migration may be refused, or fail. Whoever is
    interrupted in between finds tables with other marks, and knows why.
    """
    tables = {name: replace(table, doomed=name in doomed) for name, table in before.tables.items()}
    if tables == before.tables:
        return before
    note = f"migrate_mode: forced creates {', '.join(doomed)} again"
    state = before.following(run_id=fence.run_id, epoch=fence.epoch, now=clock.now(), tables=tables, note=note)
    return ledger.save(key, state)


def drops(key: StateKey, given_up: State, current: Pass) -> list[Message]:
    """What is left of a full refresh of ``key`` that is not gone on with."""
    return [Forget(hidden_name(key, name, current), drop=True) for name in given_up.tables]


def _without_values(lineage: Lineage, opening: Opening) -> Iterator[str]:
    """New columns of a table that goes on from a cursor: rows behind it are not read for them."""
    for name, found in lineage.found.items():
        added = [change.column for change in found.changes if change.kind == ADD_COLUMN]
        if added and opening.cursor is not None:
            yield (
                f"{lineage.key}: rows delivered before have no value in the new column {', '.join(added)}; "
                f"--full-refresh {name!r} fills it"
            )
