"""An error at every outside call, once and from then on, before the call and instead of its reply."""

import pytest
from worlds import MemoryWorld

from strandline.destination import WriteMode
from strandline.errors import RetryableError, StateError, TaskError, UnreachableError
from strandline.testing.crash import worth_striking
from strandline.testing.faults import Injector, Outside, Point

pytestmark = pytest.mark.crash

APPEND, OVERWRITE, DELETE_STALE = WriteMode
CASES = [
    ("keyed", APPEND, False, None),
    ("full", DELETE_STALE, False, None),
    ("log", APPEND, False, 2),
    ("keyed", OVERWRITE, True, None),
]
SAVES = {"destination.write", "states.save", "backend.save"}
"""The calls that may report, by a StateError, that it is not known whether they were done."""


def struck(world, step, *, after=False, calls=None):
    """Each point of a step with the world before it; afterwards the world is as it was.

    But for the last thing that a run does, giving its lease back.
    """
    for earlier in range(step):
        assert world.run(earlier, Outside()).exit_code == 0
    before, outside = world.snapshot(), Outside()
    assert world.run(step, outside).exit_code == 0
    last = {point.call: point for point in outside.calls}
    returning = {last.get("states.save"), last.get("backend.save")}
    for point in worth_striking(outside):
        if not point.after and point not in returning and (calls is None or point.call in calls):
            world.restore(before)
            yield Point(point.call, point.number, after=after)


def meet(world, step, point, error, *, forever):
    """Let the error happen; then sync undisturbed. What came of the first run, and what is wrong."""
    injector = Injector(point, error, forever=forever)
    report = world.run(step, injector)
    watch = world.watcher(step)
    wrong = list(watch())
    again = world.run(step, Outside())
    assert again.exit_code == 0, (point, again)
    wrong += [*watch(), *world.settled(step, kills=2 if injector.struck else 0, skipped=False)]
    return injector, report, wrong


@pytest.mark.parametrize("forever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize(("kind", "mode", "loose", "refresh_at"), CASES[1:])
def test_a_call_that_fails(kind, mode, loose, refresh_at, forever):
    """It fails the run, with nothing lost; the next run makes it good."""
    world = MemoryWorld(kind, mode, loose=loose, refresh_at=refresh_at)
    step = refresh_at or 1
    for point in struck(world, step):
        injector, report, wrong = meet(world, step, point, lambda: UnreachableError("no route"), forever=forever)
        assert injector.struck or point.call == "source.message"  # another thread's, and nobody waits for the last one
        assert not wrong, (point, wrong)
        if injector.struck and point.call != "source.message":
            assert report.exit_code in {1, UnreachableError.exit_code}, (point, report)


@pytest.mark.parametrize("loose", [False, True])
def test_a_lease_that_cannot_be_given_back_is_told_and_fails_nothing(loose):
    world, outside = MemoryWorld("keyed", OVERWRITE, loose=loose), Outside()
    before = world.snapshot()
    assert world.run(0, outside).exit_code == 0
    world.restore(before)
    last = [point for point in outside.calls if point.call == ("backend.save" if loose else "states.save")][-1]
    injector, report, wrong = meet(world, 0, last, lambda: UnreachableError("no route"), forever=True)
    assert injector.struck
    assert not wrong
    assert report.exit_code == 0
    assert "may not have been given back" in " ".join(report.warnings)


@pytest.mark.parametrize(("kind", "mode", "loose", "refresh_at"), CASES)
def test_a_reply_that_is_lost_is_looked_up(kind, mode, loose, refresh_at):
    """What was saved, or committed, is found there: the run goes on to its end as if nothing had happened."""
    world = MemoryWorld(kind, mode, loose=loose, refresh_at=refresh_at)
    step = refresh_at or 1
    for point in struck(world, step, after=True, calls=SAVES):
        injector, report, wrong = meet(world, step, point, lambda: StateError("no reply"), forever=False)
        assert injector.struck == 1
        assert not wrong, (point, wrong)
        if point.call != "destination.write" or not loose:
            assert report.exit_code == 0, (point, report)


@pytest.mark.parametrize(("kind", "mode", "loose", "refresh_at"), CASES)
def test_a_save_that_is_lost_is_made_again(kind, mode, loose, refresh_at):
    """Nothing was saved, and nobody said so: looked up, it is known not to be there, and the task tries again."""
    world = MemoryWorld(kind, mode, loose=loose, refresh_at=refresh_at, attempts_max=3)
    step = refresh_at or 1
    for point in struck(world, step, calls={"states.save", "backend.save"}):
        injector, report, wrong = meet(world, step, point, lambda: StateError("no reply"), forever=False)
        assert injector.struck == 1
        assert not wrong, (point, wrong)
        assert report.exit_code == (1 if point.number == 1 else 0), (point, report)  # the fence is not tried again


def test_a_destination_that_cannot_trust_its_state_stops_the_run():
    """It says so before it has pulled anything, so that there is nothing to look up."""
    world = MemoryWorld("keyed", OVERWRITE)
    report = world.run(0, Injector(Point("destination.write", 2), lambda: StateError("the states are damaged")))
    assert report.exit_code == StateError.exit_code
    assert world.content().total() == 4


@pytest.mark.parametrize(("kind", "mode", "loose", "refresh_at"), CASES)
def test_a_reply_that_is_called_a_failure(kind, mode, loose, refresh_at):
    """A connector that did it and says that it failed is wrong, but even so no row is lost or stored twice."""
    world = MemoryWorld(kind, mode, loose=loose, refresh_at=refresh_at)
    step = refresh_at or 1
    for point in struck(world, step, after=True, calls=SAVES | {"destination.migrate"}):
        _, _, wrong = meet(world, step, point, lambda: RetryableError("connection reset"), forever=False)
        assert not wrong, (point, wrong)


def test_a_task_error_in_the_middle_of_a_window_writes_nothing_of_it():
    world = MemoryWorld("keyed", OVERWRITE)
    report = world.run(0, Injector(Point("window.message", 3), lambda: TaskError("row 5 cannot be stored")))
    assert report.exit_code == 1
    assert world.content().total() == 4
    assert list(world.watcher(0)()) == []
