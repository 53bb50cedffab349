"""A full refresh that was interrupted: it goes on, or begins again, and leaves nothing over."""

from collections import Counter
from dataclasses import replace

import pytest
from scenarios import KINDS
from worlds import MemoryWorld

from strandline.connectors.memory.source import MemoryStore
from strandline.destination import WriteMode
from strandline.testing.faults import Killed, Killer, Outside, Point

pytestmark = pytest.mark.crash

REFRESHED = 2


def killed(world, step, point):
    killer = Killer(point)
    with pytest.raises(Killed):
        world.run(step, killer)


def begun(kind, mode, point, **options):
    """A filled table, and a full refresh of it that was killed."""
    world = MemoryWorld(kind, mode, refresh_at=REFRESHED, **options)
    for step in range(REFRESHED):
        assert world.run(step, Outside()).exit_code == 0
    killed(world, REFRESHED, point)
    return world


@pytest.mark.parametrize("point", [Point("destination.migrate", 1, after=True), Point("destination.write", 3)], ids=str)
@pytest.mark.parametrize("backend", ["memory", "none"])
def test_its_hidden_table_is_not_left_over(backend, point):
    world = begun("keyed", WriteMode.OVERWRITE, point, backend=backend)
    assert len(world.hidden()) == 1
    assert world.run(REFRESHED, Outside()).exit_code == 0
    assert world.hidden() == []
    assert world.content() == world.contents[REFRESHED]


@pytest.mark.parametrize("backend", ["memory", "none"])
def test_it_goes_on_where_it_was_and_also_unasked(backend):
    world = begun("keyed", WriteMode.OVERWRITE, Point("destination.write", 3), backend=backend)
    world.refresh_at = None
    report = world.run(REFRESHED, Outside())
    assert report.exit_code == 0
    assert 0 < report.tasks[0].rows_read < world.contents[REFRESHED].total()
    assert world.content() == world.contents[REFRESHED]


def test_without_a_backend_a_clock_that_went_back_brings_no_duplicates():
    world = begun("log", WriteMode.APPEND, Point("destination.write", 3), backend="none", clock_step_s=-3600)
    assert world.run(REFRESHED, Outside()).exit_code == 0
    assert world.content() == world.contents[REFRESHED]


def test_it_begins_again_when_its_hidden_table_is_gone():
    world = begun("keyed", WriteMode.OVERWRITE, Point("destination.write", 4))
    world.inner.drop_table(world.hidden()[0])
    report = world.run(REFRESHED, Outside())
    assert report.exit_code == 0
    assert world.content() == world.contents[REFRESHED]
    assert any("beginning another one" in warning for warning in report.tasks[0].warnings)


def test_it_begins_again_when_the_table_is_read_otherwise():
    world = begun("keyed", WriteMode.OVERWRITE, Point("destination.write", 4))
    store = MemoryStore.named(f"{world.name} {REFRESHED}")
    store.create(replace(KINDS["keyed"][1], selection="all of it"))
    report = world.run(REFRESHED, Outside())
    assert report.exit_code == 0
    assert report.tasks[0].rows_read == world.contents[REFRESHED].total()
    assert world.content() == world.contents[REFRESHED]


def test_a_destination_without_transactions_swaps_once():
    """Killed when the rows were exchanged, but the cursor was not saved: there is nothing to exchange any more."""
    undisturbed = MemoryWorld("keyed", WriteMode.APPEND, loose=True, refresh_at=REFRESHED)
    for step in range(REFRESHED):
        undisturbed.run(step, Outside())
    outside = Outside()
    undisturbed.run(REFRESHED, outside)
    writes = Counter(point.call for point in outside.calls)["destination.write"]
    world = begun("keyed", WriteMode.APPEND, Point("destination.write", writes, after=True), loose=True)
    assert world.hidden() == []
    assert world.run(REFRESHED, Outside()).exit_code == 0
    assert world.content() == world.contents[REFRESHED] == undisturbed.content()


def test_the_mirror_forgets_it_too():
    """Killed between the two saves that end it."""
    world = MemoryWorld("keyed", WriteMode.OVERWRITE, refresh_at=REFRESHED)
    outside = Outside()
    for step in range(REFRESHED):
        world.run(step, Outside())
    before = world.snapshot()
    world.run(REFRESHED, outside)
    world.restore(before)
    last = Counter(point.call for point in outside.calls)["backend.save"]
    killed(world, REFRESHED, Point("backend.save", last))
    world.refresh_at = None
    assert world.run(REFRESHED, Outside()).exit_code == 0
    assert list(world.settled(REFRESHED, kills=1, skipped=True)) == []
