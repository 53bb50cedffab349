"""The engine killed at every outside call and restarted until it is done: no gap ever, no duplicate where promised."""

import pytest
from worlds import MemoryWorld

from sampling import MATRIX
from strandline.destination import WriteMode
from strandline.testing.crash import Campaign

pytestmark = pytest.mark.crash

APPEND, OVERWRITE, DELETE_STALE = WriteMode
CASES = [(kind, mode) for kind in ("keyed", "full", "bare") for mode in WriteMode]
CASES += [("log", APPEND), ("fed", APPEND), ("fed", DELETE_STALE)]
"""``log`` has no primary key: such a table can only be appended to."""
SOME = [("keyed", APPEND), ("full", DELETE_STALE), ("bare", OVERWRITE), ("log", APPEND)]
REFRESHED = 2


def campaign(world, *, kills=1, share=1.0, moving=False, steps=(0, 1), seed=20):
    """Plain syncs are killed in the first load and in the step with everything; a refresh in its own. At half of the
    calls: the same calls are killed at with real destinations, and `make matrix` tries all.
    """
    share = share if MATRIX else share / 2
    steps = steps if world.refresh_at is None else [world.refresh_at]
    report = Campaign(world, seed=seed, share=share, steps=steps).kill_everywhere(kills=kills, moving=moving)
    assert report.kills
    assert not report.findings, report


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_rows_and_cursor_committed_together(kind, mode):
    campaign(MemoryWorld(kind, mode), moving=(kind, mode) in SOME)


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_a_full_refresh(kind, mode):
    campaign(MemoryWorld(kind, mode, refresh_at=REFRESHED))


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_a_destination_that_commits_nothing_together(kind, mode):
    """Each message lasts as soon as it is pulled: after a kill the rows of one window may be there twice."""
    campaign(MemoryWorld(kind, mode, loose=True), share=0.5, moving=(kind, mode) in SOME)


@pytest.mark.parametrize(("kind", "mode"), SOME)
def test_a_full_refresh_of_such_a_destination(kind, mode):
    campaign(MemoryWorld(kind, mode, loose=True, refresh_at=REFRESHED), share=0.3)


@pytest.mark.parametrize("loose", [False, True], ids=["together", "apart"])
@pytest.mark.parametrize(("kind", "mode"), SOME)
def test_without_a_backend(kind, mode, loose):
    campaign(MemoryWorld(kind, mode, loose=loose, backend="none"), share=0.4)


@pytest.mark.parametrize(("kind", "mode"), SOME)
def test_a_full_refresh_without_a_backend(kind, mode):
    campaign(MemoryWorld(kind, mode, backend="none", refresh_at=REFRESHED), share=0.5)


@pytest.mark.parametrize(
    ("kind", "mode", "loose", "refresh_at"),
    [("keyed", APPEND, False, None), ("full", DELETE_STALE, True, None), ("log", APPEND, False, REFRESHED)],
)
def test_states_in_files(kind, mode, loose, refresh_at, tmp_path):
    world = MemoryWorld(kind, mode, loose=loose, backend="local", refresh_at=refresh_at, directory=tmp_path / "state")
    campaign(world, share=0.15)


@pytest.mark.parametrize("refresh_at", [None, REFRESHED], ids=["plain", "refresh"])
@pytest.mark.parametrize(("kind", "mode"), SOME)
def test_a_clock_that_goes_back_an_hour(kind, mode, refresh_at):
    campaign(MemoryWorld(kind, mode, refresh_at=refresh_at, clock_step_s=-3600), share=0.25)


@pytest.mark.parametrize(("kind", "mode"), SOME[:2])
def test_every_pair_of_kills(kind, mode):
    """Killed anywhere in the first load, and anywhere again while it recovers; a sample of both, but for `make matrix`."""
    campaign(MemoryWorld(kind, mode), kills=2, steps=[0], share=1.0 if MATRIX else 0.4)


@pytest.mark.parametrize(("loose", "refresh_at"), [(False, None), (False, REFRESHED), (True, None)])
@pytest.mark.parametrize(("kind", "mode"), SOME)
def test_some_pairs_of_kills(kind, mode, loose, refresh_at):
    campaign(MemoryWorld(kind, mode, loose=loose, refresh_at=refresh_at), kills=2, share=0.12)


def test_three_kills():
    campaign(MemoryWorld("keyed", APPEND), kills=3, share=0.1)
