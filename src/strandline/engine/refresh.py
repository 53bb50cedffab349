"""A full refresh: the table is read again from nothing into hidden tables, which then replace its rows in one commit."""

from dataclasses import replace
from typing import TYPE_CHECKING

from strandline.destination import MigrateMode, Migration
from strandline.engine.plan import Opening, fingerprint, hidden_name, is_same, next_pass, recreates, refresh_task
from strandline.message import Forget, Swap, WindowMessage
from strandline.state import Pass, Phase, State, StateKey, TableState
from strandline.table import Table
from strandline.warned import Code

if TYPE_CHECKING:
    from strandline.engine.task import TaskRun

__all__ = ["FullRefresh", "drops"]


class FullRefresh:
    """Of one task into one destination, with a pass and a cursor of its own; a reader sees the old rows until all is there.

    Args:
        run: of the task.
        key: the lineage whose rows are replaced.
    """

    def __init__(self, run: "TaskRun", key: StateKey) -> None:
        self._run, self._key = run, key
        self._side = run.ledger.key(refresh_task(run.task.id))

    def run(self, opening: Opening, pending: State | None, now_us: int) -> bool:
        """Begin it, or go on with one that is ``pending``; whether it is complete."""
        main = opening.state or State(None, self._run.fence.epoch, 0, self._run.fence.run_id)
        key, side = self._key, self._side
        if pending and pending.current and main.current and pending.current.sync_time_us == main.current.sync_time_us:
            self._forget(side, pending)
            return True
        given_up, self._run.gives_up = self._run.gives_up, False
        if pending is None or pending.current is None or given_up or not self._goes_on(key, pending, pending.current):
            pending, current = self._begin_refresh(key, main, pending, now_us)
            resumed = False
        else:
            current, resumed = pending.current, True
            pending = self._run.claimed(side, pending)
        pipeline = self._run.pipeline(side, pending, current, hide=key)
        if current.phase is Phase.READING:
            pipeline.run(pending.cursor, resumed=resumed)
        side_state = pipeline.state
        if side_state is None or side_state.current is None or side_state.current.phase is Phase.READING:
            return False
        self._run.report.full = True
        self._run.report.cursor_from, self._run.report.cursor_to = main.cursor, side_state.cursor
        self._swap(key, main, side_state)
        self._forget(side, side_state)
        return True

    def _begin_refresh(self, key: StateKey, main: State, given_up: State | None, now_us: int) -> tuple[State, Pass]:
        """Save the pass before its hidden tables are made, so that the next run finds them; later than any other."""
        side = self._side
        last = self._run.ledger.stored(side) or State(None, self._run.fence.epoch, 0, self._run.fence.run_id)
        current = next_pass(last.current, next_pass(main.current, now_us, full=True).sync_time_us, full=True)
        tables = {table.name: TableState(fingerprint(table, self._run.into.mode)) for table in self._run.task.tables}
        state = self._run.following(last, cursor=None, current=current, tables=tables, forms={})
        if given_up is None or given_up.current is None:
            return self._run.ledger.save(side, state), current
        pipeline = self._run.pipeline(side, given_up, given_up.current)
        pipeline.settle(drops(key, given_up, given_up.current), state)
        return pipeline.state or state, current

    def _goes_on(self, key: StateKey, pending: State, current: Pass) -> bool:
        """Whether a refresh may be resumed: its cursor is made for these tables, and what it covers is still there."""
        for table in self._run.task.tables:
            known = pending.tables.get(table.name)
            if known is None:
                continue
            found = self._find_hidden(key, table, current)
            swapped = current.phase is Phase.READ and found.mark is None and not self._run.ledger.atomic
            gone = found.empty or found.mark is None or (known.mark and not is_same(known, found))
            lost = known.rows and gone
            # its columns are not those that are read now
            other = recreates(found) or (current.phase is Phase.READ and found.mark is not None and bool(found.changes))
            if known.fingerprint != fingerprint(table, self._run.into.mode) or other or (lost and not swapped):
                self._run.warn(
                    Code.REFRESH_RESTARTED,
                    f"{key}: an interrupted full refresh cannot be resumed; beginning another one",
                )
                return False
        return True

    def _find_hidden(self, key: StateKey, table: Table, current: Pass) -> Migration:
        """What is there of a hidden table. One that does not fit is given up, not refused."""
        hidden = self._run.into.stored(table, self._run.task).named(hidden_name(key, table.name, current))
        return self._run.into.destination.migrate(hidden, mode=MigrateMode.FORCED, fence=self._run.fence, apply=False)

    def _swap(self, key: StateKey, main: State, side: State) -> None:
        """One window of one transaction: the old rows of the scope go, the hidden ones come, the cursor moves.

        A destination without transactions may have swapped, and have been interrupted before the cursor was saved.
        """
        current = side.current
        if current is None:
            raise AssertionError("a refresh has a pass")
        done, main = replace(current, phase=Phase.DONE), self._run.claimed(key, main)
        pipeline = self._run.pipeline(key, main, done)
        tables: dict[str, TableState] = {}
        for table in self._run.task.tables:
            pipeline.prepare_swap(table, self._find_hidden(key, table, current))
            tables[table.name] = pipeline.known_as(table.name, side.tables[table.name])

        swaps = [
            Swap(table.name, hidden_name(key, table.name, current))
            for table in self._run.task.tables
            if self._run.ledger.atomic or self._find_hidden(key, table, current).mark is not None
        ]
        cursor = None if self._run.stateless else side.cursor
        pipeline.settle(
            swaps,
            self._run.following(
                main,
                cursor=cursor,
                current=done,
                tables=tables,
                versions_of=side.versions_of,
                forms=side.forms,
                note="full refresh",
            ),
        )

    def _forget(self, side: StateKey, state: State) -> None:
        done = replace(state.current, phase=Phase.DONE) if state.current else None
        self._run.ledger.save(side, self._run.following(state, cursor=None, current=done, tables={}))


def drops(key: StateKey, given_up: State, current: Pass) -> list[WindowMessage]:
    """What is left of a full refresh of ``key`` that is not gone on with."""
    return [Forget(hidden_name(key, name, current), drop=True) for name in given_up.tables]
