"""How a run keeps the one before it out where only a backend keeps states: it claims each lineage before its first row."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from test_engine import Numbers, backend, destination, ids, job
from test_engine_borders import Plain
from test_readings import Asked

from strandline.destination import WriteMode
from strandline.engine.lease import Claim
from strandline.engine.ledger import Ledger
from strandline.engine.run import sync
from strandline.errors import StateConflictError
from strandline.state import RUN_TASK, StateKey

LINEAGE = StateKey("numbers", "a", "d0")


@pytest.fixture
def inner(request):
    return destination(request.node.nodeid)


@pytest.fixture(params=[True, False], ids=["keeps states", "keeps no states"])
def store(request, inner):
    return inner if request.param else Plain(inner)


def of_tasks(states):
    return {key: (state, state.token) for key, state in states.load("numbers").items() if key.task != RUN_TASK}


@pytest.mark.parametrize("mode", WriteMode)
def test_a_task_that_has_nothing_new_writes_nothing(store, inner, mode):
    kept, source, written = backend(), Numbers("a", "b"), []
    assert sync(job(source, store, mode=mode, backend=kept)).exit_code == 0
    before = [of_tasks(kept), of_tasks(inner.states)]
    sound = store.write
    store.write = lambda *args, **more: written.append(1) or sound(*args, **more)
    source.acknowledged.clear()
    report = sync(job(source, store, mode=mode, backend=kept))
    assert (report.exit_code, [one.cursor_to for one in report.tasks]) == (0, [{"next": 6}] * 2)
    assert not written
    assert [of_tasks(kept), of_tasks(inner.states)] == before
    assert sorted(source.acknowledged) == [("a", {"d0": 6}), ("b", {"d0": 6})]
    source.count = 7
    assert sync(job(source, store, mode=mode, backend=kept)).exit_code == 0
    assert ids(inner) == ids(inner, "b") == list(range(7))


def test_a_pass_that_only_moves_the_cursor_is_saved(store):
    class Moves(Numbers):
        def read(self, task, reading):
            return (one for one in super().read(task, reading) if type(one).__name__ != "Insert")

    kept, source = backend(), Moves("a")
    assert sync(job(source, store, backend=kept)).exit_code == 0
    source.count = 8
    assert sync(job(source, store, backend=kept)).exit_code == 0
    assert kept.load("numbers")[LINEAGE].cursor == {"next": 8}


def meanwhile(at, happens):
    """Once, before the row of that number is sent."""
    left = [happens]

    def trouble(table, number):
        if number == at and left:
            left.pop()()

    return trouble


@pytest.mark.parametrize("at", [6, 7], ids=["before its first row", "in mid-stream"])
@pytest.mark.parametrize("mode", WriteMode)
def test_a_run_that_was_overtaken_saves_nothing_any_more(store, inner, mode, at):
    kept, source = backend(), Numbers("a")
    assert sync(job(source, store, mode=mode, backend=kept)).exit_code == 0
    later, saved = job(Numbers("a", count=9), store, mode=mode, backend=kept, claim=Claim(takeover=True)), []

    def overtake():
        assert sync(later).exit_code == 0
        saved.append(of_tasks(kept))

    source.count, source.trouble = 9, meanwhile(at, overtake)
    report = sync(job(source, store, mode=mode, backend=kept, rows_max=1))
    assert report.exit_code == 4
    assert saved == [of_tasks(kept)]
    assert set(ids(inner)) == set(range(9))
    assert len(ids(inner)) == 9 or isinstance(store, Plain)


def test_once_a_row_is_written_no_earlier_run_saves(inner):
    kept, source, store, refused = backend(), Numbers("a"), Plain(inner), []
    assert sync(job(source, store, backend=kept)).exit_code == 0
    before, sound = kept.load("numbers")[LINEAGE], store.write

    def write(window, *, mode, fence):
        receipt = sound(window, mode=mode, fence=fence)
        late = before.following(run_id=before.run_id, epoch=before.epoch, cursor={"next": 6})
        with pytest.raises(StateConflictError):
            kept.save(LINEAGE, late, expected=before.token)
        refused.append(fence.epoch)
        return receipt

    source.count, store.write = 9, write
    assert sync(job(source, store, backend=kept)).exit_code == 0
    assert refused


def test_a_run_that_is_overtaken_before_its_first_row_cannot_hold_up_the_later_one(inner):
    """It had opened the lineage, and saves what it found there, after the later run has looked."""
    kept, source, store = backend(), Asked("a"), Plain(inner)
    assert sync(job(source, store, backend=kept)).exit_code == 0

    def save():
        before = kept.load("numbers")[LINEAGE]
        state = before.following(run_id=before.run_id, epoch=before.epoch, cursor={"next": 7})
        kept.save(LINEAGE, state, expected=before.token)

    source.count, source.trouble = 9, meanwhile(6, save)
    source.asked.clear()
    report = sync(job(source, store, backend=kept, rows_max=10))
    assert report.exit_code == 0
    assert source.asked == [(6, False), (7, False)]
    assert kept.load("numbers")[LINEAGE].cursor == {"next": 9}


def test_a_run_whose_epoch_is_over_does_not_take_that_for_a_save_of_an_earlier_run(inner):
    """Nobody has written the table since; it is the destination that refuses the epoch. Trying again is of no use."""
    kept, now = backend(), datetime.now(UTC)
    assert sync(job(Numbers("a"), inner, backend=kept)).exit_code == 0
    first, second = (Ledger("numbers", "d0", own=inner.states, backend=kept) for _ in range(2))
    first.load()
    fence = first.take_over("first", now)
    second.load()
    second.take_over("second", now)
    state = first.stored(LINEAGE).following(run_id="first", epoch=fence.epoch, now=now)
    with pytest.raises(StateConflictError):
        first.claim(LINEAGE, state)


def test_the_states_of_a_lineage_are_numbered_through_by_the_runs(inner):
    kept, store = backend(), Plain(inner)
    for count in (6, 6, 9, 12):
        assert sync(job(Numbers("a", count=count), store, backend=kept)).exit_code == 0
    versions = [state.version for state in kept.history(LINEAGE)]
    assert versions == sorted(set(versions), reverse=True)
    assert {replace(state, token=None).cursor["next"] for state in kept.history(LINEAGE) if state.cursor} >= {6, 9, 12}
