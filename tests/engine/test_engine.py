"""What the engine does around a source and a destination that work: retry, stop, fail apart, take over."""

import errno
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from strandline.destination import WriteMode
from strandline.engine.administer import reset_states
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lease import Claim
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.engine.task import Retries
from strandline.engine.window import Bounds, Stop
from strandline.errors import LockedError, RetryableError, TaskError, UnreachableError, UsageError
from strandline.message import Checkpoint, Complete, Delete, Insert, Present
from strandline.plugins import load_plugin
from strandline.runs import EventKind, Status
from strandline.source import Task
from strandline.state import RUN_TASK
from strandline.table import Table

QUICK = Retries(attempts_max=3, first_s=0.001, longest_s=0.001)


class Numbers:
    """Tables of numbers, each a batch and a checkpoint; `trouble` is called with (table, number) before it is sent."""

    def __init__(self, *names, count=6, incremental=True, trouble=lambda table, number: None):
        key = ("id",) if incremental else ()
        schema = pa.schema({"id": pa.int64()})
        self.offered = [Table(name, schema, ("id",), key, incremental=incremental) for name in names]
        self.count, self.trouble, self.acknowledged = count, trouble, []

    def tables(self):
        return self.offered

    def tasks(self, tables):
        return [Task(table.name, (table,)) for table in tables]

    def read(self, task, reading):
        cursor = reading.cursor
        (table,) = task.tables
        for number in range(0 if cursor is None else cursor["next"], self.count):
            self.trouble(table.name, number)
            yield Insert(table.name, pa.record_batch({"id": pa.array([number], pa.int64())}))
            yield Checkpoint({"next": number + 1})
        yield Complete(table.name)
        yield Checkpoint({"next": self.count} if table.incremental else None)

    def acknowledge(self, task, cursors):
        self.acknowledged.append((task.id, {name: cursor["next"] for name, cursor in cursors.items()}))

    def close(self):
        pass


def destination(name, **settings):
    cls = load_plugin("destination", "memory")
    return cls(cls.Spec(name=name, **settings))


def backend():
    cls = load_plugin("state_backend", "memory")
    return cls(cls.Spec())


@pytest.fixture
def store(request):
    return destination(request.node.nodeid)


def job(source, *stores, mode=WriteMode.APPEND, rows_max=2, **more):
    into = [Into(f"d{n}", one, mode, bounds=Bounds(rows_max=rows_max)) for n, one in enumerate(stores)]
    more.setdefault("backend", backend())
    return Job("numbers", source, into, retries=QUICK, **more)


def ids(store, name="a"):
    table = Table(name, pa.schema({"id": pa.int64()}), ("id",))
    return sorted(row["id"] for batch in store.read(table) for row in batch.to_pylist())


def test_a_first_sync_delivers_everything_and_a_second_has_nothing_to_do(store):
    source = Numbers("a")
    one = job(source, store)
    first, second = sync(one), sync(one)
    assert (first.exit_code, first.tasks[0].rows_read, first.tasks[0].cursor_to) == (0, 6, {"next": 6})
    assert (second.exit_code, second.tasks[0].rows_read, second.tasks[0].cursor_from) == (0, 0, {"next": 6})
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    assert source.acknowledged[-1] == ("a", {"d0": 6})


def test_a_passing_failure_is_resumed_from_the_last_checkpoint(store):
    failures = [1, 1]

    def trouble(table, number):
        if number == 3 and failures:
            failures.pop()
            raise RetryableError("line dropped")

    events = []
    report = sync(job(Numbers("a", trouble=trouble), store), observer=lambda event: events.append(event.kind))
    assert report.exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    assert events.count(EventKind.RETRY) == 2


def test_a_failure_that_does_not_pass_is_given_up_and_the_cursor_stays(store):
    def trouble(table, number):
        if number == 4:
            raise UnreachableError("no route")

    one = job(Numbers("a", trouble=trouble), store)
    report = sync(one)
    assert report.exit_code == UnreachableError.exit_code
    assert report.tasks[0].cursor_to == {"next": 4}
    assert ids(store) == [0, 1, 2, 3]


def test_a_failed_table_leaves_the_others_alone(store):
    def trouble(table, number):
        if table == "b":
            raise TaskError("permission denied on b")

    report = sync(job(Numbers("a", "b", "c", trouble=trouble), store))
    assert report.exit_code == 1
    assert [task.status for task in report.tasks] == [Status.COMPLETED, Status.FAILED, Status.COMPLETED]
    assert ids(store, "c") == [0, 1, 2, 3, 4, 5]


def test_a_bug_in_a_plugin_fails_its_task_with_exit_70(store):
    def trouble(table, number):
        if table == "b":
            raise ZeroDivisionError

    report = sync(job(Numbers("a", "b", trouble=trouble), store))
    assert report.exit_code == 70
    assert ids(store, "a") == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENOMEM])
def test_a_machine_that_fails_below_a_plugin_is_no_bug(store, number):
    def trouble(table, _):
        if table == "b":
            raise OSError(number, os.strerror(number), "/data/b")

    report = sync(job(Numbers("a", "b", trouble=trouble), store))
    assert report.exit_code == 1
    assert report.tasks[1].error.message == f"/data/b: {os.strerror(number)}"
    assert report.tasks[1].error.hint
    assert ids(store, "a") == [0, 1, 2, 3, 4, 5]


def test_a_failing_destination_holds_back_no_other(request):
    class Unreachable(load_plugin("destination", "memory")):
        @property
        def states(self):
            raise UnreachableError("the warehouse does not answer")

    good = destination(request.node.nodeid)
    bad = Unreachable(Unreachable.Spec(name=request.node.nodeid + "bad"))
    one = job(Numbers("a"), bad, good)
    report = sync(one)
    assert [task.status for task in report.tasks] == [Status.FAILED, Status.COMPLETED]
    assert ids(good) == [0, 1, 2, 3, 4, 5]


def test_a_destination_that_is_held_by_another_process_holds_back_no_other(request):
    class Held(load_plugin("destination", "memory")):
        @property
        def states(self):
            raise LockedError("held by process 7")

    good = destination(request.node.nodeid)
    report = sync(job(Numbers("a"), Held(Held.Spec(name=request.node.nodeid + "held")), good))
    assert report.exit_code == 4
    assert ids(good) == [0, 1, 2, 3, 4, 5]


def test_a_table_that_cannot_be_stored_fails_alone(store):
    source = Numbers("a", "b")
    one = job(source, store)
    assert sync(one).exit_code == 0
    source.offered[0] = Table("a", pa.schema({"id": pa.string()}), ("id",), ("id",), incremental=True)
    source.count = 8
    report = sync(one)
    assert report.exit_code == 1
    assert [task.status for task in report.tasks] == [Status.FAILED, Status.COMPLETED]
    assert ids(store, "b") == list(range(8))


def test_a_stop_commits_what_was_read_and_the_next_run_goes_on(store):
    stop = Stop()

    def trouble(table, number):
        if number == 3:
            stop.set(15)

    one = job(Numbers("a", trouble=trouble), store)
    report = sync(one, stop=stop)
    assert report.exit_code == 128 + 15
    assert report.tasks[0].status is Status.STOPPED
    delivered = ids(store)
    assert delivered == list(range(len(delivered)))
    one.source.trouble = lambda table, number: None
    assert sync(one).exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5]


def test_the_rows_of_a_resumed_pass_carry_the_time_of_the_pass(store):
    def trouble(table, number):
        if number == 4:
            raise TaskError("dies")

    source = Numbers("a", incremental=False, trouble=trouble)
    one = job(source, store, mode=WriteMode.OVERWRITE_DELETE_STALE)
    assert sync(one).exit_code == 1
    source.trouble = lambda table, number: None
    report = sync(one)
    assert report.exit_code == 0
    assert report.tasks[0].rows_read == 2
    assert report.tasks[0].rows_deleted == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5]


def test_a_source_that_was_empty_for_once_deletes_nothing_and_blocks_nothing(store):
    source = Numbers("a", incremental=False)
    one = job(source, store, mode=WriteMode.OVERWRITE_DELETE_STALE)
    assert sync(one).exit_code == 0
    source.count = 0
    refused = sync(one)
    assert refused.exit_code == 1
    assert "--allow-mass-delete" in refused.tasks[0].error.hint
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    source.count = 5
    fixed = sync(one)
    assert (fixed.exit_code, fixed.tasks[0].rows_deleted) == (0, 1)
    assert ids(store) == [0, 1, 2, 3, 4]


def test_two_runs_at_once_leave_one_holder(store):
    inside, go_on = threading.Event(), threading.Event()

    def trouble(table, number):
        if number == 3 and threading.current_thread().name.startswith("read") and not inside.is_set():
            inside.set()
            go_on.wait(20)

    keeper = backend()
    first, reports = job(Numbers("a", trouble=trouble), store, backend=keeper), []
    runner = threading.Thread(target=lambda: reports.append(sync(first)))
    runner.start()
    assert inside.wait(20)
    refused = sync(job(Numbers("a"), store, backend=keeper))
    second = sync(job(Numbers("a"), store, backend=keeper, claim=Claim(takeover=True)))
    go_on.set()
    runner.join(20)
    assert refused.exit_code == 4
    assert refused.tasks[0].rows_read == 0
    assert "--wait-lock" in refused.tasks[0].error.hint
    assert second.exit_code == 0
    assert reports[0].exit_code == 4
    assert ids(store) == [0, 1, 2, 3, 4, 5]


def test_overwriting_with_an_incremental_key_but_no_primary_key_is_refused_before_anything_is_written(store):
    source = Numbers("a")
    source.offered = [Table("a", pa.schema({"id": pa.int64()}), (), ("id",), incremental=True)]
    report = sync(job(source, store, mode=WriteMode.OVERWRITE))
    assert report.exit_code == 2
    assert isinstance(report.error, UsageError)
    assert "primary_key" in report.error.hint
    assert store.states.load("numbers") == {}


def test_an_emptied_destination_stops_the_run_and_a_full_refresh_fixes_it(store, request):
    one = job(Numbers("a"), store)
    assert sync(one).exit_code == 0
    other = job(Numbers("a"), destination(request.node.nodeid + "another"), backend=one.backend)
    assert sync(other).exit_code == 3
    other.refresh = lambda task: True
    assert sync(other).exit_code == 0
    assert ids(other.into[0].destination) == [0, 1, 2, 3, 4, 5]


def test_without_a_backend_every_sync_reads_everything(store):
    none = load_plugin("state_backend", "none")
    one = job(Numbers("a"), store, mode=WriteMode.OVERWRITE, backend=none(none.Spec()), stateless=True)
    assert [sync(one).tasks[0].rows_read for _ in range(2)] == [6, 6]
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    states = store.states.load("numbers").items()
    assert all(state.cursor is None for key, state in states if key.task != RUN_TASK)


def test_a_retry_without_a_backend_goes_on_within_its_pass(store):
    failures = [1]

    def trouble(table, number):
        if number == 3 and failures:
            failures.pop()
            raise RetryableError("line dropped")

    none = load_plugin("state_backend", "none")
    one = job(Numbers("a", trouble=trouble), store, backend=none(none.Spec()), stateless=True)
    assert sync(one).exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5]


def test_a_plan_says_what_a_sync_would_do_and_touches_nothing(store):
    one = job(Numbers("a"), store)
    (before,) = plan(one)
    assert (before.full, before.cursor, [change.kind for change in before.changes]) == (True, None, ["create"])
    assert store.states.load("numbers") == {}
    sync(one)
    (after,) = plan(one)
    assert (after.full, after.cursor, after.changes) == (False, {"next": 6}, ())


def test_a_source_that_ends_without_completing_its_table_fails(store):
    source = Numbers("a")
    source.read = lambda task, reading: iter([Checkpoint({"next": 1})])
    report = sync(job(source, store))
    assert report.exit_code == 1
    assert "without completing" in report.tasks[0].error.message


def test_rows_that_another_filter_let_through_are_never_deleted_as_stale(store):
    source = Numbers("a", incremental=False)
    one = job(source, store, mode=WriteMode.OVERWRITE_DELETE_STALE)
    assert sync(one).exit_code == 0
    everything, few = source.offered[0], replace(source.offered[0], selection="id < 4")
    source.offered, source.count = [few], 4
    for _ in range(2):
        assert "--full-refresh" in plan(one)[0].warnings[0]
        report = sync(one)
        assert (report.exit_code, report.tasks[0].rows_deleted) == (0, 0)
        assert "--full-refresh" in report.tasks[0].warnings[0]
        assert ids(store) == [0, 1, 2, 3, 4, 5]
    source.offered = [everything]
    assert sync(one).tasks[0].rows_deleted == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    source.offered, source.count, one.refresh = [few], 4, lambda task: True
    refreshed = sync(one)
    assert (refreshed.exit_code, refreshed.tasks[0].warnings) == (0, [])
    assert ids(store) == [0, 1, 2, 3]
    source.count, one.refresh = 3, lambda task: False
    assert sync(one).tasks[0].rows_deleted == 1
    assert ids(store) == [0, 1, 2]


def test_without_a_backend_a_changed_filter_deletes_nothing_either(store):
    none = load_plugin("state_backend", "none")
    source = Numbers("a", incremental=False)
    mode = WriteMode.OVERWRITE_DELETE_STALE
    one = job(source, store, mode=mode, backend=none(none.Spec()), stateless=True)
    assert sync(one).exit_code == 0
    source.offered, source.count = [replace(source.offered[0], selection="id < 4")], 4
    report = sync(one)
    assert (report.exit_code, report.tasks[0].rows_deleted, len(report.tasks[0].warnings)) == (0, 0, 1)
    assert ids(store) == [0, 1, 2, 3, 4, 5]


def test_a_table_that_is_offered_no_longer_is_named_until_its_state_is_forgotten(store):
    source = Numbers("a", "b")
    one = job(source, store)
    assert sync(one).warnings == []
    source.offered.pop()
    events = []
    report = sync(one, observer=lambda event: events.append((event.kind, event.text)))
    assert (report.exit_code, len(report.tasks), len(report.warnings)) == (0, 1, 1)
    assert "'b'" in report.warnings[0]
    assert "state reset" in report.warnings[0]
    assert (EventKind.WARNING, report.warnings[0]) in events
    assert report.record()["warnings"] == report.warnings
    assert ids(store, "b") == [0, 1, 2, 3, 4, 5]
    one.selects = lambda table: table != "b"
    assert sync(one).warnings == []
    one.selects = lambda table: True
    reset_states(one, ["b"], [], actor="ann", now=datetime.now(UTC))
    assert sync(one).warnings == []


def test_a_source_may_insist_on_a_table_that_is_offered_no_longer(store):
    class Insisting(Numbers):
        def missing(self, task):
            raise TaskError(f"{task} has to be there")

    source = Insisting("a", "b")
    one = job(source, store)
    assert sync(one).exit_code == 0
    source.offered.pop()
    source.count = 7
    report = sync(one)
    assert report.exit_code == 1
    assert [(task.task, task.status) for task in report.tasks] == [("a", Status.COMPLETED), ("b", Status.FAILED)]
    assert report.tasks[1].error.message == "b has to be there"
    assert ids(store, "a") == list(range(7))


@pytest.mark.parametrize("kind", [Delete, Present])
def test_deletes_reach_rows_whose_primary_key_is_their_cq_id(store, kind):
    class Deleting(Numbers):
        def read(self, task, reading):
            cursor = reading.cursor
            keys = [2, 3] if kind is Delete else [0, 1, 4, 5]
            if cursor is None:
                yield from super().read(task, reading)
                return
            yield kind("a", pa.record_batch({"id": pa.array(keys, pa.int64())}))
            yield Complete("a")
            yield Checkpoint(cursor)

    one = job(Deleting("a"), store, mode=WriteMode.OVERWRITE)
    one.into = [replace(one.into[0], cq_id_only=True)]
    assert [sync(one).exit_code for _ in range(2)] == [0, 0]
    assert ids(store) == [0, 1, 4, 5]


def test_a_run_that_was_taken_over_stops_no_other_run_of_the_command(store, request):
    keeper, stop = backend(), Stop()

    def trouble(table, number):
        if number == 3:
            first.source.trouble = lambda table, number: None
            assert sync(job(Numbers("a"), store, backend=keeper, claim=Claim(takeover=True))).exit_code == 0

    first = job(Numbers("a", trouble=trouble), store, backend=keeper)
    assert sync(first, stop=stop).exit_code == 4
    other = destination(request.node.nodeid + "other")
    assert sync(job(Numbers("a"), other), stop=stop).exit_code == 0
    assert ids(other) == [0, 1, 2, 3, 4, 5]
    stop.set(15)
    assert sync(job(Numbers("a"), other), stop=stop).exit_code == 128 + 15


def interrupted_refresh(store, source, **more):
    """A job whose full refresh was stopped after its first commit."""
    one = job(source, store, **more)
    assert sync(one).exit_code == 0
    stop, one.refresh = Stop(), lambda task: True

    def observe(event):
        if event.kind is EventKind.COMMITTED:
            stop.set(15)

    assert sync(one, stop=stop, observer=observe).exit_code == 128 + 15
    one.refresh = lambda task: False
    assert len(hidden(store)) == 1
    return one


def hidden(store):
    return [name for name in store._store.data.tables if name.startswith("_cq_refresh_")]


def test_a_full_refresh_that_cannot_be_gone_on_with_leaves_nothing_over(store):
    source = Numbers("a")
    one = interrupted_refresh(store, source)
    before = hidden(store)
    source.offered, source.count = [replace(source.offered[0], selection="id < 4")], 4
    stop = Stop()

    def observe(event):
        if event.kind is EventKind.COMMITTED:
            stop.set(15)

    assert sync(one, stop=stop, observer=observe).exit_code == 128 + 15
    assert not set(before) & set(hidden(store))
    assert sync(one).exit_code == 0
    assert hidden(store) == []
    assert ids(store) == [0, 1, 2, 3]


def test_a_full_refresh_of_a_table_that_is_not_synced_any_more_is_named_until_it_is_dropped(store):
    source = Numbers("a", "b")
    one = interrupted_refresh(store, source, select=lambda tables: tables[:1])
    one.select, one.selects = lambda tables: tables[1:], lambda name: name == "b"
    (warning,) = sync(one).warnings
    assert "full refresh of 'a'" in warning
    assert "state reset 'numbers' 'a'" in warning
    reset_states(one, ["a"], [], actor="ann", now=datetime.now(UTC))
    assert hidden(store) == []
    assert sync(one).warnings == []
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    one.select = lambda tables: tables[:1]
    assert "full refresh" not in " ".join(sync(one).tasks[0].warnings)


@pytest.mark.parametrize("mode", WriteMode)
def test_what_a_reset_forgets_is_delivered_again(store, mode):
    class Marking(Numbers):
        def read(self, task, reading):
            for message in super().read(task, reading):
                yield replace(message, reread=True) if isinstance(message, Insert) else message

    one = job(Marking("a"), store, mode=mode)
    assert sync(one).exit_code == 0
    ((key, before),) = reset_states(one, [], [], actor="ann", now=datetime.now(UTC))
    assert (key.task, before.cursor) == ("a", {"next": 6})
    assert sync(one).exit_code == 0
    assert ids(store) == sorted([0, 1, 2, 3, 4, 5] * (2 if mode is WriteMode.APPEND else 1))
