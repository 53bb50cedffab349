"""A task of which its source has proved that it has nothing new is not begun; and what has to be true before it is asked."""

from dataclasses import replace

import pytest
from test_engine import Numbers, backend, destination, job
from test_engine_borders import Plain

from strandline.destination import WriteMode
from strandline.engine.lease import Claim
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.runs import EventKind, Status
from strandline.state import StateKey

WHY = "nobody has written"


class Knows(Numbers):
    """Proves everything that it is asked of; it remembers of what, and what is read all the same."""

    def __init__(self, *names, **more):
        super().__init__(*names, **more)
        self.asked, self.begun, self.meanwhile, self.proves = [], [], lambda: None, lambda _task: True

    def idle(self, asked):
        self.asked += [task.id for task, _ in asked]
        self.meanwhile()
        return {
            task.id: WHY for task, reading in asked if self.proves(task.id) and reading.cursor == {"next": self.count}
        }

    def read(self, task, reading):
        self.begun.append(task.id)
        yield from super().read(task, reading)


@pytest.fixture(params=[True, False], ids=["keeps states", "keeps no states"])
def store(request):
    inner = destination(request.node.nodeid)
    return inner if request.param else Plain(inner)


@pytest.mark.parametrize("mode", WriteMode)
def test_what_is_proved_to_be_unchanged_is_completed_without_being_read(store, mode):
    source, kept, events = Knows("a", "b"), backend(), []
    sync(job(source, store, mode=mode, backend=kept))
    assert (source.asked, sorted(source.begun)) == ([], ["a", "b"])
    source.begun.clear()
    source.acknowledged.clear()
    report = sync(job(source, store, mode=mode, backend=kept), observer=events.append)
    assert (source.asked, source.begun) == (["a", "b"], [])
    assert [(one.status, one.cursor_to, one.windows, one.begun) for one in report.tasks] == [
        (Status.COMPLETED, {"next": 6}, 0, True)
    ] * 2
    assert report.exit_code == 0
    assert sorted(source.acknowledged) == [("a", {"d0": 6}), ("b", {"d0": 6})]
    of_tasks = [event.kind for event in events if event.report is not None]
    assert of_tasks == [EventKind.TASK_STARTED, EventKind.TASK_FINISHED] * 2
    source.count = 7
    assert sync(job(source, store, mode=mode, backend=kept)).exit_code == 0
    assert sorted(source.begun) == ["a", "b"]


def test_a_plan_says_by_what_evidence(store):
    source, kept = Knows("a", "b"), backend()
    sync(job(source, store, backend=kept))
    assert [one.evidence for one in plan(job(source, store, backend=kept))] == [WHY, WHY]
    source.count = 7
    assert [one.evidence for one in plan(job(source, store, backend=kept))] == ["", ""]


def test_a_state_that_was_put_back_meanwhile_is_gone_on_from(store):
    """The proof was of the state that was looked at, and not of the one that is there when the run has taken over."""
    source, kept = Knows("a", "b"), backend()
    source.proves = lambda task: task == "a"
    sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept))
    source.begun.clear()
    source.meanwhile = lambda: _change(kept, store, cursor={"next": 3})
    report = sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept))
    assert (report.exit_code, sorted(source.begun)) == (0, ["a", "b"])
    assert [one.rows_read for one in report.tasks if one.task == "a"] == [3]


@pytest.mark.parametrize("takeover", [False, True])
def test_where_no_task_has_anything_new_the_run_takes_nothing_over(store, takeover):
    """Nothing at all is written, unless another run is to be fenced out."""
    source, kept = Knows("a", "b"), backend()
    sync(job(source, store, backend=kept))
    before = _tokens(kept, store)
    report = sync(job(source, store, backend=kept, claim=Claim(takeover=takeover)))
    assert [one.status for one in report.tasks] == [Status.COMPLETED] * 2
    assert (_tokens(kept, store) == before) is not takeover


def test_a_state_that_is_put_back_while_nothing_is_taken_over_is_gone_on_from_by_the_next_sync(store):
    source, kept = Knows("a"), backend()
    sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept))
    source.meanwhile = lambda: _change(kept, store, cursor={"next": 3})
    assert sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept)).exit_code == 0
    source.begun.clear()
    report = sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept))
    assert (report.exit_code, source.begun, report.tasks[0].rows_read) == (0, ["a"], 3)


def _tokens(kept, store):
    """Of each state, what changes whenever it is written."""
    return [{key: state.token for key, state in one.load("numbers").items()} for one in _keepers(kept, store)]


def _keepers(kept, store):
    return [kept] if isinstance(store, Plain) else [kept, store.states]


def _change(kept, store, **changes):
    """The state of the task, wherever it is kept."""
    key = StateKey("numbers", "a", "d0")
    for one in _keepers(kept, store):
        state = one.load("numbers")[key]
        one.save(key, replace(state, nonce="0" * 32, **changes), expected=state.token)


@pytest.mark.parametrize(
    "why", ["a full refresh", "a first sync", "an interrupted pass", "a table that is gone", "rows that are missing"]
)
def test_where_something_is_to_be_done_the_source_is_not_even_asked(store, why):
    source, kept, more = Knows("a"), backend(), {}
    if why == "an interrupted pass":
        source.trouble = lambda _, number: (_ for _ in ()).throw(ValueError) if number == 4 else None
    if why != "a first sync":
        sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept))
    source.trouble = lambda *_: None
    if why == "a full refresh":
        more["refresh"] = lambda _: True
    if why == "a table that is gone":
        getattr(store, "inner", store).drop_table("a")
    if why == "rows that are missing":
        state = kept.load("numbers")[StateKey("numbers", "a", "d0")]
        _change(kept, store, tables={name: replace(table, lacks=True) for name, table in state.tables.items()})
    plan(job(source, store, mode=WriteMode.OVERWRITE, backend=kept, **more))
    sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept, **more))
    assert source.asked == []
