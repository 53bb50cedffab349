"""Partitions of a source of which some cannot be read: they fail alone, and are not taken for gone."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from test_engine import Numbers, destination, ids, job

from strandline.destination import WriteMode
from strandline.engine.administer import migrate
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.errors import TaskError, UnreachableError, UsageError
from strandline.message import Insert
from strandline.runs import Status
from strandline.source import Task, TaskFailure


@pytest.fixture
def store(request):
    return destination(request.node.nodeid)


class Accounts(Numbers):
    """A task for each account; those in ``failing`` cannot be read, those in ``closed`` are gone."""

    def __init__(self):
        super().__init__("a")
        self.failing, self.closed = {}, set()

    def tasks(self, tables):
        for account in ("x", "y", "z"):
            if account in self.failing:
                yield TaskFailure(f"a/{account}", self.failing[account], ("a",))
            elif account not in self.closed:
                yield Task(f"a/{account}", tuple(tables), account)

    def read(self, task, reading):
        first = 100 * "xyz".index(task.partition)
        for message in super().read(task, reading):
            if isinstance(message, Insert):
                yield replace(message, batch=pa.record_batch({"id": pc.add(message.batch["id"], first)}))
            else:
                yield message


def told(report):
    return {one.task: (one.status, one.cursor_to and one.cursor_to["next"]) for one in report.tasks}


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE_DELETE_STALE])
def test_an_account_that_cannot_be_read_fails_alone_and_keeps_its_rows_and_its_state(store, mode):
    source = Accounts()
    one = job(source, store, mode=mode)
    assert sync(one).exit_code == 0
    source.count, source.failing = 8, {"y": TaskError("the key of account y was withdrawn", hint="give it a new one")}
    report = sync(one)
    assert report.exit_code == 1
    assert told(report) == {
        "a/x": (Status.COMPLETED, 8),
        "a/z": (Status.COMPLETED, 8),
        "a/y": (Status.FAILED, 6),
    }
    assert not report.warnings
    assert ids(store) == [*range(8), *range(100, 106), *range(200, 208)]
    source.failing = {}
    report = sync(one)
    assert ids(store) == [*range(8), *range(100, 108), *range(200, 208)]
    assert (report.exit_code, told(report)["a/y"], [task.cursor_from["next"] for task in report.tasks]) == (
        0,
        (Status.COMPLETED, 8),
        [8, 6, 8],
    )


def test_an_account_that_was_never_read_fails_too(store):
    source = Accounts()
    source.failing = {"y": UnreachableError("region y is down")}
    report = sync(job(source, store))
    assert report.exit_code == 1
    assert told(report)["a/y"] == (Status.FAILED, None)
    assert [one.tables for one in report.tasks] == [("a",)] * 3


def test_a_run_of_which_nothing_can_be_reached_says_so(store):
    source = Accounts()
    source.failing = dict.fromkeys("xyz", UnreachableError("down"))
    assert sync(job(source, store)).exit_code == 5


def test_an_account_that_is_gone_is_not_one_that_fails(store):
    source = Accounts()
    one = job(source, store)
    sync(one)
    source.closed = {"y"}
    report = sync(one)
    assert (report.exit_code, len(report.tasks)) == (0, 2)
    assert "does not offer 'a/y' any more" in report.warnings[0]


def test_plan_names_an_account_that_cannot_be_read(store):
    source = Accounts()
    one = job(source, store)
    sync(one)
    source.failing = {"y": TaskError("the key of account y was withdrawn", hint="give it a new one")}
    (problem,) = [found for found in plan(one) if found.problem]
    assert (problem.key.task, problem.hint, problem.exit_code) == ("a/y", "give it a new one", 1)
    assert problem.cursor == {"next": 6}


def test_two_tasks_of_one_name_are_refused_also_if_one_fails(store):
    source = Accounts()
    source.tasks = lambda tables: [Task("a/x", tuple(tables), "x"), TaskFailure("a/x", TaskError("down"))]
    report = sync(job(source, store))
    assert isinstance(report.error, UsageError)


def test_migrate_names_an_account_that_cannot_be_read_and_goes_on(store):
    source = Accounts()
    source.failing = {"y": TaskError("the key of account y was withdrawn", hint="give it a new one")}
    done = migrate(job(source, store), run_id="r")
    assert [(key.task, error.hint) for key, error in done.failures] == [("a/y", "give it a new one")]
    assert {change.table for change in done.changes} == {"a"}
