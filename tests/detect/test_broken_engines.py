"""Engines that are broken on purpose, each as somebody might have written it: a check that the sound one passes notices."""

from contextlib import suppress
from dataclasses import replace

import checks
import pyarrow as pa
import pytest
import test_engine
import test_plan
import test_window
from changed import Replayed
from checks import DELETE_STALE, OVERWRITE, Broken, kills, syncs, the_test, zombies

import strandline.engine.plan as plan_module
import strandline.engine.task as task_module
import strandline.sources.memory as memory_module
from strandline.destination import Fence
from strandline.destinations.memory import MemoryDestination
from strandline.engine.feed import Feed
from strandline.engine.ledger import Ledger
from strandline.engine.lineage import Decorator
from strandline.engine.pipeline import Into, Pipeline
from strandline.engine.plan import next_pass
from strandline.engine.task import TaskRun
from strandline.engine.window import StreamWindow
from strandline.errors import RetryableError, StateConflictError
from strandline.message import Checkpoint, Complete, Failure, Insert, Truncate
from strandline.runs import RunReport, Status
from strandline.state import RUN_TASK, Pass, State
from strandline.table import CQ_ID

pytestmark = pytest.mark.crash

broken = Broken()

plain = syncs("keyed", OVERWRITE)
loose = syncs("keyed", OVERWRITE, loose=True)
in_full = kills("full", DELETE_STALE, share=0.1, share_max=None)


# rows and cursor -------------------------------------------------------------------------------------------------------


def before_writing(patch, act):
    """Let something happen when a window was pulled, before the destination writes it."""
    deliver = Pipeline.deliver

    class Early:
        def __init__(self, inner, pipeline):
            self._inner, self._pipeline = inner, pipeline

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def write(self, window, *, mode, fence):
            pulled = Replayed(window)
            act(self._pipeline, pulled)
            return self._inner.write(pulled, mode=mode, fence=fence)

    def delivers(self, feed, following=None):
        sound = self.into
        self.into = replace(sound, destination=Early(sound.destination, self))
        try:
            deliver(self, feed, following)
        finally:
            self.into = sound

    patch.setattr(Pipeline, "deliver", delivers)


@broken("P2", "the state is saved before its rows", loose)
def saves_first(patch):
    save = Ledger.save
    before_writing(patch, lambda pipeline, window: pipeline.ledger.save(window.key, window.state))
    patch.setattr(
        Ledger, "save", lambda self, key, state: state if self.stored(key) is state else save(self, key, state)
    )


@broken("P1", "the mirror is written before the destination", plain)
def mirrors_first(patch):
    def mirror(pipeline, window):
        ledger, key = pipeline.ledger, window.key
        token = ledger._mirror.save(key, window.state, expected=ledger._mirror_tokens.get(key))
        ledger._mirror_tokens[key] = token

    before_writing(patch, mirror)


@broken("P2", "the source is told before the cursor is saved", plain)
def acknowledges_first(patch):
    before_writing(
        patch,
        lambda pipeline, window: window.checkpoint and pipeline.source.acknowledge(pipeline.task, window.checkpoint),
    )


@broken(
    "P1",
    "of two states the newer one is believed, not the destination's",
    the_test(test_plan.test_a_restored_destination_is_believed_with_a_warning),
)
def believes_the_newer(patch):
    sound = plan_module._authoritative

    def authoritative(lineage, *, anew):
        stored, mirrored = lineage.stored, lineage.mirrored
        if stored and mirrored and mirrored.version > stored.version:
            return mirrored, ("the destination was restored",), True
        return sound(lineage, anew=anew)

    patch.setattr(plan_module, "_authoritative", authoritative)


@broken("P5", "a source reads > its cursor, not >=", plain)
def reads_greater(patch):
    sound = memory_module._by_key

    def by_key(table, rows, place, horizon):
        column, start = table.incremental_key[0], place.get("key") if place else None
        if start is not None:
            rows = [row for row in rows if row.values.get(column) is None or row.values[column] != start]
        return sound(table, rows, place, horizon)

    patch.setattr(memory_module, "_by_key", by_key)


@broken("P4", "the cursor moves past the horizon, as with a row dated in the future", plain)
def has_no_horizon(patch):
    sound = memory_module._by_key
    patch.setattr(memory_module, "_by_key", lambda table, rows, place, _: sound(table, rows, place, None))


@broken("P32", "rows without a key are skipped", plain)
def skips_nulls(patch):
    sound = memory_module._by_key

    def by_key(table, rows, place, horizon):
        column = table.incremental_key[0]
        return sound(table, [row for row in rows if row.values.get(column) is not None], place, horizon)

    patch.setattr(memory_module, "_by_key", by_key)


@broken("P7", "rows of equal content get one id", kills("bare", OVERWRITE, share=0.05))
def collapses_equal_rows(patch):
    sound = Decorator.insert

    def insert(self, message):
        out = sound(self, message)
        if out.version is None or self.stored[out.table].primary_key != (CQ_ID,):
            return out
        ids = pa.ExtensionArray.from_storage(pa.uuid(), out.version)
        return Insert(out.table, out.batch.append_column(CQ_ID, ids), out.reread)

    patch.setattr(Decorator, "insert", insert)


@broken("P10", "a lost reply is taken for a lost commit, and the window written again", checks.lost_replies)
def writes_again(patch):
    def resolve(self, key, state, unknown):
        found = self._states(self._authority).get(key)
        self._tokens[key] = found.token if found else None
        raise RetryableError("no reply") from unknown

    patch.setattr(Ledger, "resolve", resolve)


@broken("P10", "a lost commit is taken for a lost reply", checks.lost_commit)
def believes_it_was_committed(patch):
    def resolve(self, key, state, unknown):
        return replace(state, token=self._states(self._authority)[key].token)

    patch.setattr(Ledger, "resolve", resolve)


@broken("P11", "the destination's count of rows is ignored", checks.dropped_row)
def ignores_receipts(patch):
    sound = Pipeline._account
    patch.setattr(
        Pipeline,
        "_account",
        lambda self, window, receipt: sound(self, window, replace(receipt, rows=dict(window.counts.rows))),
    )


@broken("P31", "columns that the table does not have are left out", checks.a_strange_column)
def leaves_columns_out(patch):
    sound = Decorator.insert

    def insert(self, message):
        known = [name for name in message.batch.schema.names if name in self.tables[message.table].schema.names]
        return sound(self, replace(message, batch=message.batch.select(known)))

    patch.setattr(Decorator, "insert", insert)


@broken("P39", "batches of a plugin are cast to what their table says", checks.a_strange_type)
def casts(patch):
    sound = Decorator.insert

    def insert(self, message):
        fields = [self.tables[message.table].schema.field(name) for name in message.batch.schema.names]
        columns = [column.cast(one.type, safe=False) for column, one in zip(message.batch, fields, strict=True)]
        return sound(self, replace(message, batch=pa.record_batch(columns, schema=pa.schema(fields))))

    patch.setattr(Decorator, "insert", insert)


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
    for module in (plan_module, task_module):
        patch.setattr(module, "next_pass", lambda last, now_us, *, full: Pass(now_us, full))


@broken("P13", "an incremental pass deletes what it did not deliver", syncs("keyed", DELETE_STALE, share_max=None))
def sweeps_always(patch):
    sound = TaskRun._pipeline

    def pipeline(self, key, state, current, *, sweeps=False, hide=None):
        return sound(self, key, state, current, sweeps=sweeps or self.into.mode is DELETE_STALE, hide=hide)

    patch.setattr(TaskRun, "_pipeline", pipeline)


@broken("P14", "a table that could not be read counts as read", checks.failed_table)
def completes_failures(patch):
    sound = StreamWindow._take

    def take(self, message):
        return sound(self, Complete(message.table) if isinstance(message, Failure) else message)

    patch.setattr(StreamWindow, "_take", take)


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
    def full_refresh(self, key, opening, pending, now_us):
        current = next_pass(opening.state.current, now_us, full=True)
        pipeline = self._pipeline(key, opening.state, current)
        pipeline.prepare(self.task.tables)
        emptied = [Truncate(table.name) for table in self.task.tables]
        pipeline.settle(emptied, self._next(opening.state, cursor=None, current=current))
        self._deliver(key, replace(opening, state=pipeline.state, cursor=None, current=current))

    patch.setattr(TaskRun, "_full_refresh", full_refresh)


@broken(
    "P7",
    "a full refresh exchanges the rows, and then saves the cursor",
    checks.killed_refresh,
)
def swaps_without_the_cursor(patch):
    sound = TaskRun._swap

    def swap(self, key, main, side):
        sound(self, key, main, replace(side, cursor=main.cursor))
        self.ledger.save(key, self._next(self.ledger.stored(key), cursor=side.cursor))

    patch.setattr(TaskRun, "_swap", swap)


# states that cannot be trusted -----------------------------------------------------------------------------------------


@broken(
    "P21",
    "a destination that knows nothing of delivered rows begins anew",
    the_test(
        test_engine.test_an_emptied_destination_stops_the_run_and_a_full_refresh_mends_it,
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
        self.reload()
        return Fence(self.source, self.destination, epoch, run_id)

    patch.setattr(Ledger, "take_over", take_over)


# the process -----------------------------------------------------------------------------------------------------------


@broken(
    "P28",
    "the exit code is 0 when some table was completed",
    the_test(test_engine.test_a_failed_table_leaves_the_others_alone, store=checks.new_store),
)
def exits_with_0(patch):
    def exit_code(self):
        return 0 if any(task.status is Status.COMPLETED for task in self.tasks) else 1

    patch.setattr(RunReport, "exit_code", property(exit_code))


@broken(
    "P25",
    "a signal cuts a window between two checkpoints",
    the_test(test_window.test_a_stop_ends_the_window_at_the_next_checkpoint),
)
def stops_anywhere(patch):
    sound = StreamWindow.__iter__

    def messages(self):
        for message in sound(self):
            yield message
            if self._stop.requested:
                break
        self.exhausted = True

    patch.setattr(StreamWindow, "__iter__", messages)


@broken("P26", "the reader does not wait for a slow destination", checks.greedy_reader)
def reads_on(patch):
    sound = Feed.__init__
    patch.setattr(
        Feed, "__init__", lambda self, messages, *, bytes_max, name: sound(self, messages, bytes_max=1 << 60, name=name)
    )


@broken("P27", "a source that hangs is waited for, for ever", checks.silent_source)
def waits_for_ever(patch):
    patch.setattr(StreamWindow, "_check_stall", lambda self: None)


@pytest.mark.parametrize(("check", "breaks"), broken)
def test_a_broken_engine_is_noticed(check, breaks, monkeypatch):
    assert check.passes()
    breaks(monkeypatch)
    assert check.findings()
