"""One task into one destination, from opening its lineage to deleting what is stale.

Crash, retry and next run are one code path: open, go on from the last saved cursor, finish the pass.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from strandline.destination import BY_REFRESH, Fence, Held, Migration, WriteMode
from strandline.engine.acknowledgement import Acknowledgements
from strandline.engine.adoption import adopt
from strandline.engine.clock import Clock
from strandline.engine.into import Into
from strandline.engine.ledger import Ledger
from strandline.engine.owners import standing
from strandline.engine.pipeline import Pipeline
from strandline.engine.plan import (
    Lineage,
    Opening,
    has_other_rows,
    hidden_name,
    is_unfinished,
    open_lineage,
    refresh_task,
)
from strandline.engine.refresh import FullRefresh
from strandline.engine.window import Stop
from strandline.errors import CursorExpiredError, RetryableError, StateConflictError, UsageError
from strandline.message import Cursor, Stale
from strandline.parted import plain
from strandline.runs import Event, EventKind, Observer, TaskReport
from strandline.source import RunContext, Source, Task
from strandline.state import Pass, Phase, State, StateKey
from strandline.warned import Code, Warned

__all__ = ["Retries", "TaskRun", "backfills", "survey"]


@dataclass(frozen=True, slots=True)
class Retries:
    """How long a passing failure is put up with. The count starts again with a commit of a cursor that the run did not have yet."""

    attempts_max: int = 5
    first_s: float = 0.5
    longest_s: float = 30.0

    def pause_s(self, attempt: int) -> float:
        """Seconds before the next attempt: doubling, with jitter."""
        return min(self.longest_s, self.first_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter


def survey(task: Task, into: Into, ledger: Ledger, fence: Fence, *, refresh: bool = False) -> Lineage:
    """Look at what there is of a task in a destination, for a full ``refresh`` or an interrupted one too. Changes nothing."""
    key, side = ledger.key(task.id), ledger.key(refresh_task(task.id))
    kept = [find(one) for one in (key, side) for find in (ledger.stored, ledger.mirrored)]
    refresh = refresh or is_unfinished(ledger.stored(side))
    try:
        found = {table.name: into.find(table, task, fence, refresh=refresh) for table in task.tables}
    except UsageError as refused:
        if not refresh:
            raise
        return Lineage(key, task.tables, into.mode, kept[0], kept[1], ledger.mirrors, {}, refused=refused)
    unknown, held = kept[0] is None and kept[1] is None, dict[str, Held]()
    for table in task.tables:
        there = found[table.name]
        if not there.empty and (unknown or len(there.owners or ()) > 1):
            held[table.name] = into.holds(table, task, key)
            found[table.name] = replace(there, empty=not (unknown or held[table.name].rows))
    if unknown and any(one.rows for one in held.values()):
        # another run may have come in between; who has taken over must not see the states of a later one
        if fence.run_id and ledger.is_overtaken(fence):
            raise StateConflictError(
                f"{key}: another run has taken over", hint="let one run at a time sync this source"
            )
        if not fence.run_id:
            ledger.load()
            if ledger.stored(key) is not None or ledger.mirrored(key) is not None:
                return survey(task, into, ledger, fence, refresh=refresh)
    ledger.heard(max((one.epoch or 0 for one in held.values()), default=0))
    stands = standing(task, into, ledger, found, held if unknown else None)
    former = stands.former
    return Lineage(
        key=key,
        tables=task.tables,
        mode=into.mode,
        stored=former.state if former is not None else ledger.stored(key),
        mirrored=ledger.mirrored(key) if former is None else None,
        mirrors=ledger.mirrors,
        found=found,
        held=held if unknown else {},
        names={table.name: into.stored_name(table) for table in task.tables},
        refused=stands.refused,
        former=former,
        warnings=stands.warnings,
        untrusted=ledger.untrusted(key) or ledger.untrusted(side),
    )


def backfills(task: Task, into: Into, opening: Opening) -> bool:
    """Whether the tables are to be read again because of new columns.

    Never in append mode, where rows are versions, and the older ones cannot be read again.
    """
    asked = any(into.rules(table).backfill for table in task.tables if table.name in opening.unfilled)
    return asked and into.mode is not WriteMode.APPEND and not opening.current.full


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
    acknowledgements: Acknowledgements | None = None
    done: bool = False
    """Whether the pass is complete, stale rows deleted."""
    gives_up: bool = False
    """Whether a full refresh that was interrupted is begun again: its cursor has expired."""
    _refreshes: bool = False
    _held: Pipeline | None = None
    """Where no cursor is kept: the pipeline whose position a retry goes on from."""

    def run(self) -> None:
        """Until the pass is done, or the run is stopped.

        Raises:
            StrandlineError: what stopped the task.
        """
        attempt, expired, reached = 0, False, set[str]()
        while True:
            try:
                self._attempt()
            except CursorExpiredError as error:
                if expired:
                    raise
                expired = True
                self._forget_cursor(error)
            except RetryableError as error:
                place = json.dumps(plain(self.report.cursor_to), sort_keys=True)
                attempt = attempt + 1 if place in reached else 1
                reached.add(place)
                if attempt >= self.retries.attempts_max or self.stop.requested:
                    raise
                pause_s = max(self.retries.pause_s(attempt), error.after_s)
                self._say(EventKind.RETRY, f"{error.message}; trying again in {pause_s:.1f} s")
                self.stop.wait(pause_s)
            else:
                return

    def _forget_cursor(self, error: CursorExpiredError) -> None:
        """Durably, so that the next attempt begins a pass over everything; where that stores no row twice.

        A full refresh only begins again: its rows are beside the table's.
        """
        key = self.ledger.key(self.task.id)
        if self._refreshes:
            self.gives_up = True
            self.warn(Code.REFRESH_RESTARTED, f"{key}: {error.message}; beginning the full refresh again")
            return
        for side in (key, self.ledger.key(refresh_task(self.task.id))):
            state = self.ledger.stored(side)
            if state is None or state.cursor is None:
                continue
            if side == key and self._would_append_twice(state):
                raise error
            self._read_anew(side, state, error.message)
        self._held = None
        later = "; rows that are not found are deleted by the next sync"
        self.warn(Code.CURSOR_EXPIRED, f"{key}: {error.message}; reading everything{later * self._mirrors}")

    def _read_anew(self, key: StateKey, state: State, note: str) -> State:
        """Give up a cursor, durably. The pass over everything that follows deletes nothing."""
        done = replace(state.current, phase=Phase.DONE, expired=True) if state.current else None
        saved = self.ledger.claim(key, self.following(state, cursor=None, current=done, note=note))
        if self.acknowledgements is not None and key == self.ledger.key(self.task.id):
            self.acknowledgements.saved(self.task, key, None)
        return saved

    def _would_append_twice(self, state: State) -> bool:
        """Whether a pass over everything would store rows a second time that are promised once."""
        incremental = any(table.incremental for table in self.task.tables)
        return self.into.mode is WriteMode.APPEND and incremental and any(one.rows for one in state.tables.values())

    @property
    def _mirrors(self) -> bool:
        return self.into.mode is WriteMode.OVERWRITE_DELETE_STALE

    def _attempt(self) -> None:
        lineage = self._survey()
        now_us = int(self.clock.now().timestamp() * 1_000_000)
        side = self.ledger.key(refresh_task(self.task.id))
        pending, mirrored = self.ledger.stored(side), self.ledger.mirrored(side)
        unfinished = is_unfinished(pending)
        anew = self.refresh or unfinished
        opening = open_lineage(lineage, now_us=now_us, stateless=self.stateless, anew=anew, asked=self.refresh)
        if opening.state is not None and backfills(self.task, self.into, opening):
            text = "new columns have no values in rows that are stored; reading everything (`backfill`)"
            self.warn(Code.BACKFILL, f"{lineage.key}: {text}")
            lineage = replace(lineage, stored=self._read_anew(lineage.key, opening.state, text))
            opening = open_lineage(lineage, now_us=now_us, stateless=self.stateless)
        for warning in opening.warnings:
            self.say(warning)
        if opening.fix and opening.state is not None:
            opening = replace(opening, state=self._fix(lineage.key, opening.state))
        if pending is not None and (mirrored is None or mirrored.nonce != pending.nonce):
            pending = self._fix(side, pending)
        # rows are replaced also where the state has forgotten them, as after a reset
        there = any(not found.empty or _reshapes(found) for found in lineage.found.values())
        if anew and (opening.state is not None or there):
            if unfinished and not self.refresh:
                self.warn(Code.REFRESH_RESUMED, f"{lineage.key}: going on with a full refresh that was interrupted")
            self._refreshes = True
            self.done = FullRefresh(self, lineage.key).run(opening, pending if unfinished else None, now_us)
            return
        self._refreshes = False
        if opening.doomed and opening.state is not None and self.into.may_migrate:
            state = self.ledger.announce(
                lineage.key, opening.state, opening.doomed, fence=self.fence, now=self.clock.now()
            )
            opening = replace(opening, state=state)
        if opening.unfilled and opening.state is not None and self.into.may_migrate:
            opening = replace(opening, state=self._note_unfilled(lineage.key, opening.state, opening.unfilled))
        if opening.sweep is not None and opening.state is not None and not opening.current.full:
            # a new full pass brings a delete of its own, and knows better
            pipeline = self.pipeline(lineage.key, self.claimed(lineage.key, opening.state), opening.sweep)
            pipeline.prepare(self.task.tables)
            self._sweep(pipeline)
            opening = replace(opening, state=pipeline.state)
        self._deliver(lineage.key, opening)

    def _survey(self) -> Lineage:
        """What there is of the task; of one that was called otherwise, once it goes by its new name."""
        lineage = survey(self.task, self.into, self.ledger, self.fence, refresh=self.refresh)
        if lineage.former is None or lineage.refused is not None:
            return lineage
        for warning in lineage.warnings:
            self.say(warning)
        adopt(self, lineage.former)
        return survey(self.task, self.into, self.ledger, self.fence, refresh=self.refresh)

    def _fix(self, key: StateKey, stored: State) -> State:
        """Save ``stored`` on both sides, under an epoch of ours: the mirror takes no older one any more.

        What was given up stays as it is until there is something better.
        """
        return self.ledger.claim(key, self.following(stored)) if stored.run_id else stored

    def _note_unfilled(self, key: StateKey, state: State, unfilled: Mapping[str, tuple[str, ...]]) -> State:
        """Before the columns are added: afterwards nothing would tell that they are new."""
        tables = {name: replace(one, unfilled=unfilled.get(name, ())) for name, one in state.tables.items()}
        return state if tables == state.tables else self.ledger.claim(key, self.following(state, tables=tables))

    def _deliver(self, key: StateKey, opening: Opening) -> None:
        """The ordinary pass: into the table itself."""
        held, self._held = self._held, None
        claim: Callable[[], State] | None = None
        state, cursor, current = opening.state, opening.cursor, opening.current
        if held is not None:
            state, cursor, current = self.ledger.stored(key), held.position, held.current
        elif self.ledger.claims:
            claim = self._claiming(key, opening)
            if not opening.may_be_idle:
                state, claim = claim(), None
        if opening.doomed and state is not None:  # rows that will be gone are not counted with those that come
            state = replace(state, tables={n: one for n, one in state.tables.items() if n not in opening.doomed})
        if state is not None and current.full and not opening.resumed:  # it fills every column
            state = replace(state, tables={n: replace(one, unfilled=()) for n, one in state.tables.items()})
        sweeps = self._mirrors and ((current.full and not current.spares) or bool(current.stale_us))
        pipeline = self.pipeline(key, state, current, sweeps=sweeps)
        pipeline.position, pipeline.claim = cursor, claim
        self.report.cursor_from = self.report.cursor_from or cursor
        self.report.cursor_to = cursor
        self.report.full = current.full
        if self.stateless:
            self._held = pipeline
        pipeline.run(cursor, resumed=held is not None or opening.resumed)
        self._finish(pipeline)

    def claimed(self, key: StateKey, state: State) -> State:
        """As this run's own, where a destination does not compare epochs itself."""
        return self.ledger.claim(key, self.following(state)) if self.ledger.claims else state

    def _claiming(self, key: StateKey, opening: Opening) -> Callable[[], State]:
        """What claims a lineage of a destination that keeps no states, before its first row.

        Without a state, rows would look like those of a state that was lost; and without the pass, the next run would not
        know a window that was written.
        """
        found = opening.state or State(None, self.fence.epoch, 0, self.fence.run_id)
        # a cursor that a forced migration is about to give up is not one of this pass
        begun = opening.current if found.cursor == opening.cursor else found.current
        return lambda: self.ledger.claim(key, self.following(found, current=begun))

    def _finish(self, pipeline: Pipeline) -> None:
        state = pipeline.state
        if state is None or state.current is None or state.current.phase is Phase.READING:
            return
        if state.current.phase is Phase.READ:
            if self.stop.requested:
                return
            self._sweep(pipeline)
        self.done = True

    def _sweep(self, pipeline: Pipeline) -> None:
        """Delete what the pass did not deliver; then the pass is done. Its rows are durable, its tables complete."""
        state, current = pipeline.state, pipeline.current
        if state is None:
            raise AssertionError("a pass that was read has a state")
        if not self._mirrors:  # another mode was asked for since, and that promises that rows stay
            self.warn(
                Code.STALE_KEPT,
                f"{pipeline.key}: what the last pass did not find any more stays, as write_mode {self.into.mode} says",
            )
        # where rows of another filter are stored, a warning has said so when the lineage was opened
        kept = [table.name for table in self.task.tables if not has_other_rows(table, state.tables.get(table.name))]
        done = self.following(state, current=replace(current, phase=Phase.DONE))
        if self._mirrors and kept:
            pipeline.settle([Stale(name) for name in kept], done)
        else:
            pipeline.state = self.ledger.save(pipeline.key, done)

    def pipeline(
        self, key: StateKey, state: State | None, current: Pass, *, sweeps: bool = False, hide: StateKey | None = None
    ) -> Pipeline:
        """What delivers a pass; into hidden tables of the lineage ``hide``, where that is given."""
        hidden: Callable[[str], str] | None = None
        if hide is not None:
            lineage = hide

            def hidden(table: str) -> str:
                return hidden_name(lineage, table, current)

        stored = dict(self.report.stored) if hide is None else {}
        if hide is None:
            self.report.stored = stored
        return Pipeline(
            key=key,
            task=self.task,
            source=self.source,
            into=self.into,
            fence=self.fence,
            ledger=self.ledger,
            context=self.context,
            report=self.report,
            state=state,
            current=current,
            clock=self.clock,
            stop=self.stop,
            stateless=self.stateless and hide is None,
            sweeps=sweeps or hide is not None,
            hidden=hidden,
            acknowledge=lambda cursor: self._acknowledge(key, cursor),
            on_commit=lambda: self._say(EventKind.COMMITTED, ""),
            on_notice=self.say,
            _stored=stored,
        )

    def _acknowledge(self, key: StateKey, cursor: Cursor | None) -> None:
        """Of the table itself only: until a full refresh is swapped in, it may be given up, and the table goes on from its own."""
        if self.acknowledgements is not None and key == self.ledger.key(self.task.id):
            self.acknowledgements.saved(self.task, key, cursor)

    def following(self, state: State, **changes: object) -> State:
        """The next state of a lineage, as this run saves it."""
        return state.following(run_id=self.fence.run_id, epoch=self.fence.epoch, now=self.clock.now(), **changes)

    def warn(self, code: Code, text: str) -> None:
        """``say`` it."""
        self.say(Warned(code, text))

    def say(self, warned: Warned) -> None:
        """A warning, once, and keep it in the report."""
        if warned not in self.report.warnings:
            self.report.warnings.append(warned)
            self._say(EventKind.WARNING, warned)

    def _say(self, kind: EventKind, text: str) -> None:
        self.observer(Event(kind, self.context.run_id, self.context.source_name, self.report, text))


def _reshapes(found: Migration) -> bool:
    """Whether only a full refresh gives a table its columns and its key; though it may be empty."""
    return any(change.kind in BY_REFRESH for change in found.changes)
