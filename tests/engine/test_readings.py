"""What a source is told of the read that is asked for, and what the engine does when a read does not get on."""

import pickle
import signal
import threading
from dataclasses import replace

import pytest
from test_engine import Numbers, destination, ids, job
from test_engine_borders import Plain

from strandline.destination import WriteMode
from strandline.engine.run import sync
from strandline.engine.window import Bounds, Stop
from strandline.errors import Problem, RetryableError, TaskError, UsageError
from strandline.message import Checkpoint, Complete
from strandline.runs import EventKind, Status


@pytest.fixture
def store(request):
    return destination(request.node.nodeid)


class Asked(Numbers):
    """Remembers what it was asked for."""

    def __init__(self, *names, **more):
        super().__init__(*names, **more)
        self.asked = []

    def read(self, task, reading):
        self.asked.append((reading.cursor and reading.cursor["next"], reading.resumed))
        return super().read(task, reading)


def interrupted(at, errors):
    def trouble(table, number):
        if number == at and errors:
            raise errors.pop()

    return trouble


@pytest.mark.parametrize("keeps_states", [True, False])
def test_a_source_is_told_whether_a_pass_begins_or_goes_on(store, keeps_states):
    store = store if keeps_states else Plain(store)
    errors = [TaskError("killed"), RetryableError("cut")]
    source = Asked("a", trouble=interrupted(3, errors))
    one = job(source, store, rows_max=1)
    assert [sync(one).exit_code, sync(one).exit_code] == [1, 0]
    assert source.asked == [(None, False), (3, True), (3, True)]
    source.asked.clear()
    assert sync(one).exit_code == 0
    errors += [RetryableError("cut")]
    source.count, source.trouble = 12, interrupted(8, errors)
    assert sync(one).exit_code == 0
    assert source.asked == [(6, False), (6, False), (8, True)]
    assert ids(store.inner if isinstance(store, Plain) else store) == list(range(12))


def test_a_full_refresh_that_was_interrupted_is_resumed(store):
    errors = []
    source = Asked("a", trouble=interrupted(3, errors))
    sync(job(source, store, mode=WriteMode.OVERWRITE, rows_max=1))
    errors += [TaskError("killed")]
    one = job(source, store, mode=WriteMode.OVERWRITE, rows_max=1, refresh=lambda _: True)
    assert sync(one).exit_code == 1
    one.refresh = lambda _: False
    assert sync(one).exit_code == 0
    assert source.asked == [(None, False), (None, False), (3, True)]


class StandsStill(Numbers):
    """Each read saves the cursor that it was given, and is cut then."""

    reads = 0

    def read(self, task, reading):
        self.reads += 1
        yield Checkpoint(reading.cursor or {"next": 0})
        raise RetryableError("too many requests")


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
def test_a_read_that_is_interrupted_at_the_same_place_each_time_is_given_up(store, mode):
    source = StandsStill("a")
    report = sync(job(source, store, mode=mode))
    assert report.exit_code == 1
    assert "too many requests" in report.tasks[0].error.message
    assert source.reads <= 4


class GoesRound(Numbers):
    reads = 0

    def read(self, task, reading):
        self.reads += 1
        yield Checkpoint({"next": 0 if reading.cursor is None else (reading.cursor["next"] + 1) % 3})
        raise RetryableError("too many requests")


def test_a_read_that_goes_round_in_a_circle_is_given_up(store):
    source = GoesRound("a")
    assert sync(job(source, store)).exit_code == 1
    assert source.reads <= 8


def test_the_engine_waits_as_long_as_a_rate_limit_says(store, monkeypatch):
    waited = []
    monkeypatch.setattr(Stop, "wait", lambda self, timeout_s: waited.append(timeout_s))
    errors = [RetryableError("429", after_s=70)]
    report = sync(job(Numbers("a", trouble=interrupted(3, errors)), store))
    assert (report.exit_code, ids(store)) == (0, [0, 1, 2, 3, 4, 5])
    assert 70 in waited


def test_an_error_says_the_same_in_another_process():
    error = pickle.loads(pickle.dumps(RetryableError("429", hint="slower", after_s=70)))
    assert (error.message, error.hint, error.after_s) == ("429", "slower", 70)
    usage = pickle.loads(pickle.dumps(UsageError("two", problems=[Problem("one"), Problem("other")])))
    assert [one.message for one in usage.problems] == ["one", "other"]


class Details(Numbers):
    """Asks for each row, one call hanging in the service."""

    def __init__(self, *names):
        super().__init__(*names)
        self.hangs, self.left = threading.Event(), threading.Event()

    def read(self, task, reading):
        def detail(number):
            if number == 3:
                self.hangs.set()
                self.left.wait(20)
            return number

        try:
            for number in reading.each(detail, range(6), at_once=2):
                yield Checkpoint({"next": number + 1})
            yield Complete("a")
        finally:
            self.left.set()


def test_a_run_that_is_stopped_leaves_a_source_that_waits_for_an_answer(store):
    stop, one = Stop(), job(Details("a"), store)
    one.into = [replace(into, bounds=Bounds(seconds_max=0.05)) for into in one.into]

    def observe(event):
        if event.kind is EventKind.COMMITTED and event.report.cursor_to == {"next": 3}:
            assert one.source.hangs.wait(20)
            stop.set(signal.SIGTERM)

    report = sync(one, observer=observe, stop=stop)
    assert (report.tasks[0].status, report.tasks[0].cursor_to) == (Status.STOPPED, {"next": 3})
    assert one.source.left.wait(10)


def test_the_longest_statement_of_a_source_is_in_the_report(store):
    class Held(Numbers):
        def read(self, task, reading):
            for seconds in (0.25, 1.5, 0.5):
                reading.on_held(seconds)
            with reading.statement():
                yield from super().read(task, reading)

    (task,) = sync(job(Held("a"), store)).tasks
    assert task.statement_s == 1.5
    assert task.record()["statement_s"] == 1.5
