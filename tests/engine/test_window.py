"""The messages between two commits, and the thread that reads them."""

import threading

import pyarrow as pa
import pytest

from strandline.destination import Scope, WriteMode
from strandline.engine.clock import Clock
from strandline.engine.feed import Ended, Feed, NothingYet
from strandline.engine.window import Bounds, Stop, StoppedError, StreamWindow
from strandline.errors import RetryableError, TaskError
from strandline.message import Checkpoint, Complete, Delete, Failure, Insert, Schema, Truncate
from strandline.state import Pass, State, StateKey
from strandline.table import Table

KEY = StateKey("s", "t", "d")
TABLE = Table("t", pa.schema({"id": pa.int64()}), ("id",))


class SteppingClock(Clock):
    """A second passes whenever somebody looks."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic_s(self):
        self.seconds += 1
        return self.seconds


def rows(*ids):
    return Insert("t", pa.record_batch({"id": pa.array(ids, pa.int64())}))


def window(feed, *, bounds=Bounds(), mode=WriteMode.OVERWRITE, clock=None, stop=None):  # noqa: B008 -- frozen
    return StreamWindow(
        feed,
        key=KEY,
        expected=None,
        tables={"t": TABLE},
        scope=Scope("s", None, 0),
        pass_=Pass(0, full=True),
        mode=mode,
        bounds=bounds,
        following=lambda w: State(w.checkpoint, 1, 1, "r"),
        clock=clock or Clock(),
        stop=stop or Stop(),
    )


def feed_of(*messages):
    return Feed(lambda: iter(messages), bytes_max=1 << 20, name="test")


def test_a_window_takes_all_messages_when_no_bound_is_passed():
    with feed_of(rows(1), Checkpoint({"n": 1}), rows(2), Complete("t"), Checkpoint({"n": 2})) as feed:
        one = window(feed)
        assert [type(message) for message in one] == [Insert, Insert, Complete]
        assert one.checkpoint == {"n": 2}
        assert one.state.cursor == {"n": 2}
        assert one.counts.rows["t"] == 2


def test_a_window_closes_at_the_first_checkpoint_after_a_bound():
    with feed_of(rows(1, 2), rows(3), Checkpoint({"n": 3}), rows(4), Checkpoint({"n": 4})) as feed:
        first = window(feed, bounds=Bounds(rows_max=1))
        assert sum(message.batch.num_rows for message in first) == 3
        assert first.checkpoint == {"n": 3}
        second = window(feed, bounds=Bounds(bytes_max=1))
        assert len(list(second)) == 1
        assert second.checkpoint == {"n": 4}


def test_a_window_has_no_checkpoint_before_its_messages_are_exhausted():
    with feed_of(rows(1), Checkpoint({"n": 1})) as feed:
        one = window(feed)
        for _ in one:
            with pytest.raises(RuntimeError, match="exhausted"):
                _ = one.checkpoint
            with pytest.raises(RuntimeError, match="exhausted"):
                _ = one.state
        assert one.checkpoint == {"n": 1}


def test_rows_without_a_checkpoint_after_them_are_never_committed():
    with (
        feed_of(rows(1), Checkpoint({"n": 1}), rows(2)) as feed,
        pytest.raises(TaskError, match="without a checkpoint"),
    ):
        list(window(feed))


def test_a_failure_of_the_source_is_raised_after_what_it_sent():
    def messages():
        yield rows(1)
        raise RetryableError("line dropped")

    with Feed(messages, bytes_max=1 << 20, name="test") as feed:
        taken = iter(window(feed))
        assert isinstance(next(taken), Insert)
        with pytest.raises(RetryableError, match="line dropped"):
            next(taken)


def test_what_came_before_a_failure_is_committed_up_to_its_checkpoint():
    def messages():
        yield rows(1)
        yield Checkpoint({"n": 1})
        raise TaskError("line 7 is bad")

    with Feed(messages, bytes_max=1 << 20, name="test") as feed:
        one = window(feed)
        assert len(list(one)) == 1
        assert one.checkpoint == {"n": 1}
        with pytest.raises(TaskError, match="line 7"):
            list(window(feed))


def test_a_failed_table_fails_the_window_and_takes_no_cursor():
    with feed_of(Failure("t", TaskError("denied")), Checkpoint({"n": 9})) as feed:
        one = window(feed)
        with pytest.raises(TaskError, match="denied"):
            list(one)
        with pytest.raises(RuntimeError):
            _ = one.checkpoint


def test_a_changed_table_starts_a_window_of_its_own():
    with feed_of(rows(1), Checkpoint({"n": 1}), Schema(TABLE), rows(2), Checkpoint({"n": 2})) as feed:
        one = window(feed)
        assert len(list(one)) == 1
        assert one.checkpoint == {"n": 1}
        assert isinstance(feed.get(timeout_s=1), Schema)


def test_a_changed_table_between_checkpoints_is_refused():
    with feed_of(rows(1), Schema(TABLE), Checkpoint({})) as feed, pytest.raises(TaskError, match="between two"):
        list(window(feed))


def test_deletes_are_ignored_in_append_mode():
    keys = pa.record_batch({"id": [1]})
    with feed_of(rows(1), Delete("t", keys), Truncate("t"), Checkpoint({})) as feed:
        one = window(feed, mode=WriteMode.APPEND)
        assert [type(message) for message in one] == [Insert]
        assert not one.counts.removes


def test_a_stop_ends_the_window_at_the_next_checkpoint():
    stop = Stop()
    with feed_of(rows(1), rows(2), Checkpoint({"n": 2}), rows(3), Checkpoint({"n": 3})) as feed:
        one = window(feed, stop=stop)
        taken = iter(one)
        next(taken)
        stop.set(15)
        assert len(list(taken)) == 1
        assert one.checkpoint == {"n": 2}


def test_a_stop_does_not_wait_for_ever_for_a_checkpoint():
    stop = Stop(grace_s=3)
    stop.set(2)

    def endless():
        while True:
            yield rows(1)

    with Feed(endless, bytes_max=1 << 10, name="test") as feed, pytest.raises(StoppedError):
        list(window(feed, clock=SteppingClock(), stop=stop))


def test_a_quiet_source_lets_a_window_close_in_time_and_a_silent_one_is_given_up():
    quiet = threading.Event()

    def messages():
        yield rows(1)
        yield Checkpoint({"n": 1})
        quiet.wait(20)

    with Feed(messages, bytes_max=1 << 20, name="test") as feed:
        one = window(feed, clock=SteppingClock(), bounds=Bounds(seconds_max=20, stall_s=10_000))
        assert len(list(one)) == 1
        assert one.checkpoint == {"n": 1}
        with pytest.raises(RetryableError, match="nothing for"):
            list(window(feed, clock=SteppingClock(), bounds=Bounds(stall_s=5)))
        quiet.set()


def test_a_source_that_waits_for_a_rate_limit_and_says_so_is_not_given_up():
    ready, said = threading.Event(), threading.Event()

    class Limited(SteppingClock):
        """Says that it is alive whenever somebody looks; done after a hundred seconds."""

        def monotonic_s(self):
            feed.alive()
            if self.seconds > 100:
                ready.set()
            return super().monotonic_s()

    def messages():
        assert ready.wait(60)
        yield rows(1)
        yield Checkpoint({"n": 1})
        said.set()

    feed = Feed(messages, bytes_max=1 << 20, name="test")
    with feed:
        one = window(feed, clock=Limited(), bounds=Bounds(stall_s=5))
        assert len(list(one)) == 1
    assert said.is_set()


def test_a_slow_destination_slows_the_source():
    sent = []

    def messages():
        for number in range(1000):
            sent.append(number)
            yield rows(number)

    with Feed(messages, bytes_max=80, name="test") as feed:
        for _ in range(10):
            feed.get(timeout_s=5)
        assert len(sent) <= 10 + 80 // 8 + 2


def test_leaving_early_closes_the_source():
    closed = threading.Event()

    def messages():
        try:
            while True:
                yield rows(1)
        finally:
            closed.set()

    with Feed(messages, bytes_max=100, name="test") as feed:
        feed.get(timeout_s=5)
    assert closed.is_set()


def test_a_feed_tells_nothing_yet_from_nothing_more():
    release = threading.Event()

    def messages():
        release.wait(20)
        return iter(())

    with Feed(messages, bytes_max=100, name="test") as feed:
        with pytest.raises(NothingYet):
            feed.get(timeout_s=0.01)
        release.set()
        with pytest.raises(Ended):
            feed.get(timeout_s=5)
