"""A sync that was stopped says so, of the run and of each table that it did not complete."""

import json

import pytest
from test_engine import Numbers, destination, job

from strandline.cli._options import Settings
from strandline.cli._progress import progress
from strandline.cli._summary import summary
from strandline.engine.run import sync
from strandline.engine.window import Stop
from strandline.runs import EventKind, RunStore, Status


@pytest.fixture
def store(request):
    return destination(request.node.nodeid)


def stopped_at_the_start_of(task, one, *, number=15, observers=()):
    """The report of a run that is asked to stop when ``task`` has just begun."""
    stop = Stop()

    def observe(event):
        for observer in observers:
            observer(event)
        if event.kind is EventKind.TASK_STARTED and event.report.task == task:
            stop.set(number)

    return sync(one, observer=observe, stop=stop)


def test_a_later_pass_that_is_stopped_before_its_first_commit_is_not_completed(store):
    one = job(Numbers("a"), store)
    assert sync(one).exit_code == 0
    report = stopped_at_the_start_of("a", one)
    assert [task.status for task in report.tasks] == [Status.STOPPED]
    assert report.exit_code == 143


@pytest.mark.parametrize("incremental", [True, False])
def test_tables_that_were_not_begun_are_reported_too(store, logged, incremental):
    one = job(Numbers("a", "b", "c", incremental=incremental), store, concurrency=1)
    sync(one)
    with progress(Settings()) as lines:
        report = stopped_at_the_start_of("b", one, observers=[lines])
    assert [task.status.value for task in report.tasks] == ["completed", "stopped", "stopped"]
    said = "\n".join(logged())
    assert [f"numbers/{name} → d0: stopped" in said for name in "abc"] == [False, True, True]


@pytest.mark.parametrize(("number", "who", "name"), [(2, "Ctrl-C", "SIGINT"), (15, "SIGTERM", "SIGTERM")])
def test_summary_events_and_records_name_what_stopped_the_run(store, logged, tmp_path, number, who, name):
    one = job(Numbers("a", "b"), store, concurrency=1)
    sync(one)
    settings = Settings(log_format="json")
    settings.set_up_logging()
    with progress(settings) as events:
        report = stopped_at_the_start_of("b", one, number=number, observers=[events])
    said = summary([report])
    assert f"1 of 2 tasks completed; stopped by {who}, the next sync goes on from the cursors above" in said
    assert [line.split()[1] for line in said.splitlines() if line.startswith(("  a ", "  b "))] == [
        "completed",
        "stopped",
    ]
    finished = [json.loads(line) for line in logged()][-1]
    assert (finished["event"], finished["exit_code"]) == ("run_finished", 128 + number)
    assert finished["stopped_by"] == name
    assert finished["statuses"] == {"completed": 1, "stopped": 1}
    RunStore(tmp_path).add(report)
    ((record,), _) = RunStore(tmp_path).read()
    assert record["stopped_by"] == name
    assert [task["status"] for task in record["tasks"]] == ["completed", "stopped"]
