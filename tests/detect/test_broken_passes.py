"""Passes, deletes, leases and fences that are broken on purpose: a check that the sound engine passes notices each."""

from contextlib import suppress
from dataclasses import replace

import checks
import pytest
import test_engine
import test_lease
from changed import Replayed
from checks import DELETE_STALE, OVERWRITE, Broken, kills, syncs, the_test, zombies

import strandline.engine.plan as plan_module
import strandline.engine.refresh as refresh_module
import strandline.engine.run as run_module
import strandline.engine.task as task_module
from strandline.connectors.memory.destination import MemoryDestination
from strandline.destination import Fence
from strandline.engine.into import Into
from strandline.engine.lease import Heartbeat, Lease
from strandline.engine.ledger import Ledger
from strandline.engine.pipeline import Pipeline
from strandline.engine.plan import next_pass
from strandline.engine.refresh import FullRefresh
from strandline.engine.task import TaskRun
from strandline.engine.window import StreamWindow
from strandline.errors import RetryableError, StateConflictError
from strandline.message import Checkpoint, Complete, Failure, Truncate
from strandline.state import RUN_TASK, Pass, State

pytestmark = pytest.mark.crash

broken = Broken()

in_full = kills("full", DELETE_STALE, share=0.1, share_max=None)


# deletes ---------------------------------------------------------------------------------------------------------------


@broken("P15", "what the run did not deliver is stale, not what the pass did not", in_full)
def deletes_by_run(patch):
    sound = task_module.open_lineage

    def opens(lineage, *, now_us, **options):
        opening = sound(lineage, now_us=now_us, **options)
        return replace(opening, current=replace(opening.current, sync_time_us=now_us + 1))

    patch.setattr(task_module, "open_lineage", opens)


@broken(
    "P15",
    "a new pass has the time of the clock, though that went back",
    syncs("full", DELETE_STALE, clock_step_s=-3600),
)
def believes_the_clock(patch):
    for module in (plan_module, refresh_module):
        patch.setattr(module, "next_pass", lambda last, now_us, *, full: Pass(now_us, full))


@broken("P13", "an incremental pass deletes what it did not deliver", syncs("keyed", DELETE_STALE, share_max=None))
def sweeps_always(patch):
    sound = TaskRun.pipeline

    def pipeline(self, key, state, current, *, sweeps=False, hide=None):
        return sound(self, key, state, current, sweeps=sweeps or self.into.mode is DELETE_STALE, hide=hide)

    patch.setattr(TaskRun, "pipeline", pipeline)


@broken("P14", "a table that could not be read counts as read", checks.failed_table)
def completes_failures(patch):
    sound = StreamWindow._take

    def take(self, message):
        return sound(self, Complete(message.table) if isinstance(message, Failure) else message)

    patch.setattr(StreamWindow, "_take", take)


@broken(
    "P14",
    "the end of the stream is taken for the end of the table",
    the_test(test_engine.test_a_source_that_ends_without_completing_its_table_fails, store=checks.new_store),
)
def ends_with_the_stream(patch):
    sound = Pipeline._messages

    def messages(self, cursor):
        for message in sound(self, cursor):
            cursor = message.cursor if isinstance(message, Checkpoint) else cursor
            yield message
        yield from [*(Complete(table.name) for table in self.task.tables), Checkpoint(cursor)]

    patch.setattr(Pipeline, "_messages", messages)


@broken("P14", "an error of the source is taken for the end of the table", checks.failing_source)
def ends_at_errors(patch):
    sound = Pipeline._messages

    def messages(self, cursor):
        with suppress(RetryableError):
            yield from sound(self, cursor)
        yield from [*(Complete(table.name) for table in self.task.tables), Checkpoint(None)]

    patch.setattr(Pipeline, "_messages", messages)


@broken(
    "P16",
    "the limit of a delete by age is not passed on",
    the_test(
        test_engine.test_a_source_that_was_empty_for_once_deletes_nothing_and_blocks_nothing, store=checks.new_store
    ),
)
def forgets_the_limit(patch):
    sound = Into.scope
    patch.setattr(Into, "scope", lambda self, *arguments: replace(sound(self, *arguments), share_max=None))


@broken("P7", "a full refresh empties the table, and fills it again", syncs("keyed", OVERWRITE, refresh_at=2))
def refreshes_in_place(patch):
    def full_refresh(self, opening, pending, now_us):
        run, key = self._run, self._key
        current = next_pass(opening.state.current, now_us, full=True)
        pipeline = run.pipeline(key, opening.state, current)
        pipeline.prepare(run.task.tables)
        emptied = [Truncate(table.name) for table in run.task.tables]
        pipeline.settle(emptied, run.following(opening.state, cursor=None, current=current))
        run._deliver(key, replace(opening, state=pipeline.state, cursor=None, current=current))
        return run.done

    patch.setattr(FullRefresh, "run", full_refresh)


@broken(
    "P7",
    "a full refresh exchanges the rows, and then saves the cursor",
    checks.killed_refresh,
)
def swaps_without_the_cursor(patch):
    sound = FullRefresh._swap

    def swap(self, key, main, side):
        sound(self, key, main, replace(side, cursor=main.cursor))
        ledger = self._run.ledger
        ledger.save(key, self._run.following(ledger.stored(key), cursor=side.cursor))

    patch.setattr(FullRefresh, "_swap", swap)


# states that cannot be trusted -----------------------------------------------------------------------------------------


@broken(
    "P21",
    "a destination that knows nothing of delivered rows begins anew",
    the_test(
        test_engine.test_an_emptied_destination_stops_the_run_and_a_full_refresh_fixes_it,
        store=checks.new_store,
        request=checks.new_request,
    ),
)
def begins_anew(patch):
    sound = plan_module._authoritative
    patch.setattr(plan_module, "_authoritative", lambda lineage, *, anew: sound(lineage, anew=True))


@broken("P21", "a table that was dropped is filled from the cursor on", checks.dropped_table)
def never_looks_at_the_table(patch):
    patch.setattr(plan_module, "_check_stored", lambda *_: None)


@broken("P22", "a cursor that was made for another filter is used", checks.another_filter)
def takes_any_cursor(patch):
    patch.setattr(plan_module, "_compatible", lambda *_: True)


# several runs ----------------------------------------------------------------------------------------------------------


@broken("P17", "a conflict is swallowed, and the window written all the same", zombies("keyed", OVERWRITE))
def swallows_conflicts(patch):
    sound = MemoryDestination.write

    def write(self, window, *, mode, fence):
        pulled = Replayed(window)
        try:
            return sound(self, pulled, mode=mode, fence=fence)
        except StateConflictError:
            stored = self.states.load(window.key.source).get(window.key)
            pulled.expected = stored.token if stored else None
            return sound(self, pulled, mode=mode, fence=replace(fence, epoch=1_000_000))

    patch.setattr(MemoryDestination, "write", write)


@broken("P17", "taking over does not raise the epoch", checks.two_runs)
def takes_over_gently(patch):
    def take_over(self, run_id, now, *more):
        key = self.key(RUN_TASK)
        epoch = max((state.epoch for state in [*self._stored.values(), *self._mirrored.values()]), default=1)
        before = self._stored.get(key) or self._mirrored.get(key) or State(None, epoch, 0, run_id)
        self.save(key, before.following(run_id=run_id, epoch=epoch, now=now))
        self.load()
        return Fence(self.source, self.destination, epoch, run_id)

    patch.setattr(Ledger, "take_over", take_over)


@broken(
    "P19",
    "a lease is not looked at",
    the_test(
        test_lease.test_while_a_run_goes_on_the_second_one_is_told_who_holds_the_lease_and_reads_nothing,
        store=checks.new_store,
    ),
)
def ignores_leases(patch):
    patch.setattr(Lease, "is_live", lambda *_: False)


@broken(
    "P19",
    "a lease lasts until it is given back",
    the_test(test_lease.test_a_lease_without_a_sign_of_life_expires, store=checks.new_store),
)
def believes_the_dead(patch):
    patch.setattr(Lease, "is_live", lambda *_: True)


@broken(
    "P29",
    "a lease is not given back",
    the_test(
        test_lease.test_a_run_gives_its_lease_back_whether_it_completes_fails_or_is_stopped, store=checks.new_store
    ),
)
def keeps_the_lease(patch):
    sound = Heartbeat._say
    patch.setattr(Heartbeat, "_say", lambda self, ledger, fence, lease: not lease or sound(self, ledger, fence, lease))


@broken(
    "P12",
    "a destination out of reach holds back the others",
    the_test(test_engine.test_a_failing_destination_holds_back_no_other, request=checks.new_request),
)
def stops_for_one(patch):
    def fail(self, reports, error):
        raise error

    patch.setattr(run_module._Run, "_fail", fail)


@pytest.mark.parametrize(("check", "breaks"), broken)
def test_a_broken_pass_is_noticed(check, breaks, monkeypatch):
    assert check.passes()
    breaks(monkeypatch)
    assert check.findings()
