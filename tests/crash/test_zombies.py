"""Two runs of one source at once: the later one wins, and the earlier one, however late it goes on, changes nothing."""

import threading

import pytest
from worlds import TASK, MemoryWorld

from strandline.destination import WriteMode
from strandline.errors import StateConflictError, StateError
from strandline.testing.crash import Campaign
from strandline.testing.faults import Meanwhile, Outside, Point

pytestmark = pytest.mark.crash

CASES = [(kind, mode) for kind in ("keyed", "full", "bare") for mode in WriteMode] + [("log", WriteMode.APPEND)]
FULL = [(kind, mode) for kind, mode in CASES if kind in {"full", "bare"}]


@pytest.mark.parametrize("refresh_at", [None, 2], ids=["plain", "refresh"])
@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_a_run_that_came_meanwhile_wins(kind, mode, refresh_at):
    world = MemoryWorld(kind, mode, refresh_at=refresh_at)
    report = Campaign(world, seed=1, share=0.25, steps=[1] if refresh_at is None else [2]).interfere_everywhere()
    assert not report.findings, report


@pytest.mark.parametrize(("kind", "mode"), CASES[::3] + CASES[-1:])
def test_where_nothing_keeps_a_fence_no_row_is_lost(kind, mode):
    report = Campaign(MemoryWorld(kind, mode, loose=True), seed=2, share=0.4, steps=[0]).interfere_everywhere(
        fenced=False
    )
    assert not report.findings, report


def filled(kind, mode, steps=1):
    world = MemoryWorld(kind, mode)
    for step in range(steps):
        assert world.run(step, Outside()).exit_code == 0
    return world


def undisturbed(kind, mode, step):
    """The calls of a sync of ``step``, in order."""
    outside = Outside()
    assert filled(kind, mode).run(step, outside).exit_code == 0
    return outside.calls


def interrupted(world, step, point, later):
    """Run ``step``; at ``point`` another run syncs what the source has become by the step ``later``."""
    reports = []
    meanwhile = Meanwhile({point: lambda: reports.append(world.run(later, Outside()))})
    report = world.run(step, meanwhile)
    assert meanwhile.happened
    assert reports[0].exit_code == 0
    return report


@pytest.mark.parametrize("point", [Point("window.message", 1), Point("window.message", 2, after=True)], ids=str)
@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_rows_that_a_zombie_holds_are_refused(kind, mode, point):
    """It read them before the source changed; written now, they would undo the change."""
    world = filled(kind, mode)
    report = interrupted(world, 1, point, later=2)
    assert report.exit_code == StateConflictError.exit_code
    assert list(world.settled(2, kills=0, skipped=True)) == []
    assert world.authority()[TASK].run_id != report.run_id


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_ddl_of_a_zombie_is_refused(kind, mode):
    world = filled(kind, mode, steps=0)
    report = interrupted(world, 0, Point("destination.migrate", 1), later=1)
    assert report.exit_code == StateConflictError.exit_code
    assert list(world.settled(1, kills=0, skipped=True)) == []


@pytest.mark.parametrize(("kind", "mode"), [case for case in FULL if case[1] is WriteMode.OVERWRITE_DELETE_STALE])
def test_a_delete_of_a_zombie_is_refused(kind, mode):
    """All that the later run wrote is newer, but what the zombie takes for stale is not its to judge any more."""
    world = filled(kind, mode)
    writes = [point.number for point in undisturbed(kind, mode, 1) if point.call == "destination.write"]
    report = interrupted(world, 1, Point("destination.write", writes[-1]), later=2)
    assert report.exit_code == StateConflictError.exit_code
    assert world.content() == world.contents[2]


@pytest.mark.parametrize(
    ("stops", "goes_on", "at"),
    [
        (Point("destination.write", 2), Point("destination.write", 3), Point("states.save", 1)),
        (Point("destination.write", 2), Point("destination.write", 3), Point("destination.look", 1)),
        (Point("backend.save", 2), Point("backend.save", 2, after=True), Point("destination.migrate", 1)),
        (Point("backend.save", 2), Point("backend.save", 2, after=True), Point("backend.save", 2)),
    ],
    ids=["before the fence is raised", "while it looks around", "in the mirror", "in the mirror while it is fixed"],
)
def test_the_earlier_run_may_go_on_until_the_later_one_takes_over(stops, goes_on, at):
    """The earlier one waits at ``stops``, then comes as far as ``goes_on`` while the later one waits ``at`` some point."""
    world = filled("keyed", WriteMode.APPEND, steps=0)
    waiting, may_go_on, has_gone_on, done = (threading.Event() for _ in range(4))
    earlier = {
        stops: lambda: waiting.set() or may_go_on.wait(20),
        goes_on: lambda: has_gone_on.set() or done.wait(20),
    }
    reports = []

    def run_earlier():
        reports.append(world.run(0, Meanwhile(earlier)))
        has_gone_on.set()  # as far as it could

    runner = threading.Thread(target=run_earlier)
    runner.start()
    assert waiting.wait(20)
    report = world.run(0, Meanwhile({at: lambda: may_go_on.set() or has_gone_on.wait(20)}))
    done.set()
    runner.join(20)
    assert report.exit_code == 0, report
    assert reports[0].exit_code == StateConflictError.exit_code
    assert list(world.settled(0, kills=0, skipped=False)) == []


@pytest.mark.parametrize("loose", [False, True])
def test_of_two_that_take_over_one_after_the_other_the_last_wins(loose):
    """Between its taking over and its look at what it took over, the first is taken over itself."""
    world = MemoryWorld("keyed", WriteMode.OVERWRITE, loose=loose)
    assert world.run(0, Outside()).exit_code == 0
    before, outside = world.snapshot(), Outside()
    world.run(1, outside)
    looks = [point for point in outside.calls if point.call == ("backend.load" if loose else "states.load")]
    assert len(looks) > 1
    for point in looks[1:]:
        world.restore(before)
        report = interrupted(world, 1, point, later=2)
        assert report.exit_code == StateConflictError.exit_code
        assert report.tasks[0].windows == 0
        assert list(world.settled(2, kills=0, skipped=True)) == []


def test_looking_at_the_states_while_another_run_begins_contradicts_nothing():
    """Between its two looks, at the mirror and at the destination, another run does its whole first sync."""
    world = filled("keyed", WriteMode.OVERWRITE, steps=0)
    for point in (Point("states.load", 1), Point("backend.load", 1)):
        before = world.snapshot()
        report = interrupted(world, 0, point, later=0)
        world.restore(before)
        assert not isinstance(report.error, StateError), report.error
