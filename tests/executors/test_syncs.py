"""Syncs whose tasks others do: they store what a run of threads stores, whoever dies."""

import importlib
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from strandline.engine import elsewhere
from strandline.engine.ledger import Ledger
from strandline.errors import StateConflictError
from strandline.executor import Done, Lost, Said, carry_out
from strandline.plugins import load_plugin
from strandline.runs import EventKind, Status, TaskReport

DOUBLES = str(Path(__file__).parents[1] / "crash" / "doubles")
FEED = Path(__file__).with_name("feed.py")
WANTED = {name: list(range(40)) for name in "abc"}
DEADLINE_S = 120


@pytest.fixture
def feed(cli, monkeypatch, tmp_path):
    """Writes a spec: three tables of a module into files and into a store that knows windows again."""
    monkeypatch.syspath_prepend(DOUBLES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "feed", raising=False)
    shutil.copy(FEED, tmp_path)

    def spec(*into, mode="append", **settings):
        source = {"name": "feed", "registry": "python", "path": "feed", "destinations": list(into), **settings}
        kinds = {
            "files": {"path": "files", "spec": {"path": "files", "batch_size": 5}},
            "again": {"path": "plain", "spec": {"path": "again", "delivery": "idempotent", "batch_size": 5}},
            "one": {"path": "sqlite", "spec": {"path": "one.db"}},
        }
        cli.spec(
            ("source", source), *(("destination", {"name": name, "write_mode": mode, **kinds[name]}) for name in into)
        )

    yield spec
    sys.modules.pop("feed", None)


def in_files():
    return {name: sorted(ds.dataset(f"files/{name}", format="parquet").to_table()["id"].to_pylist()) for name in "abc"}


def in_again():
    found = {}
    for name in "abc":
        with pa.OSFile(f"again/{name}.rows") as file, pa.ipc.open_file(file) as reader:
            found[name] = sorted(reader.read_all()["id"].to_pylist())
    return found


def until(happens):
    deadline_s = time.monotonic() + DEADLINE_S
    while not (found := happens()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return found


PROCESSES = {"executor": "processes", "executor_spec": {"workers": 2}}


def test_the_task_of_a_worker_that_dies_goes_on_at_its_last_saved_cursor(cli, feed):
    """In a destination that is atomic, and in one that is not; and the summary is that of one run."""
    feed("files", "again", **PROCESSES)
    for name in "ac":
        Path(f"dies-{name}").touch()
    done = cli("sync", "--summary-location", "s.jsonl")
    assert done.exit_code == 0, done.output
    assert in_files() == in_again() == WANTED
    assert "6 of 6 tasks completed" in done.output
    (record,) = map(json.loads, Path("s.jsonl").read_text("utf-8").splitlines())
    assert {one["status"] for one in record["tasks"]} == {"completed"}
    assert done.output.count("a worker was lost: its process ended (killed by SIGKILL); another one goes on") == 2
    assert cli("sync", "--executor", "threads").exit_code == 0
    assert in_files() == WANTED


@pytest.fixture
def started():
    """Starts a sync of its own process group; what still runs at the end is ended."""
    with ExitStack() as stack:

        def start(*arguments):
            command = [sys.executable, "-m", "strandline", "sync", *arguments]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join([DOUBLES, *filter(None, sys.path)])}
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def test_workers_of_a_run_that_is_killed_end_and_those_of_one_that_is_asked_to_stop_too(cli, feed, started):
    """At a commit; and the next sync reads only what is left."""
    feed("files", **PROCESSES)

    def hold(held):
        for name in "abc":
            Path(f"waits-{name}").touch() if held else Path(f"waits-{name}").unlink()

    def came():
        return [int(path.name.rpartition("-")[2]) for path in Path().glob("came-*")]

    hold(True)
    killed = started()
    workers = until(lambda: found if len(found := came()) == 2 else [])
    killed.kill()
    hold(False)
    until(lambda: not any(map(_runs, workers)))
    assert [path.unlink() for path in Path().glob("came-*")]
    hold(True)
    stopped = started()  # of the third table, at least: the other two may be further
    until(came)
    stopped.send_signal(signal.SIGTERM)
    hold(False)
    output, _ = stopped.communicate(timeout=DEADLINE_S)
    assert stopped.returncode == 143, output
    assert "stopped by SIGTERM" in output
    done = cli("sync", "--executor", "threads")
    assert done.exit_code == 0, done.output
    assert in_files() == WANTED
    assert int(re.search(r"completed: (\d+) rows? read", done.output)[1]) <= 3 * 20


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Threads:
    """A crew in threads of this process, so that a worker can be taken for lost, and go on all the same."""

    def __init__(self):
        self._events, self._lock, self._threads, self.stopping = [], threading.Lock(), [], threading.Event()
        self.parcels, self.results = {}, {}

    def submit(self, parcel):
        work = pickle.loads(parcel.content).work
        self.parcels.setdefault((work.task.id, work.fence.destination), []).append(parcel.id)
        thread = threading.Thread(target=self._do, args=(parcel,))
        self._threads.append(thread)
        thread.start()

    def _do(self, parcel):
        result = carry_out(parcel.content, lambda said: self.tell(Said(parcel.id, said)), self.stopping.is_set)
        self.results[parcel.id] = pickle.loads(result)
        self.tell(Done(parcel.id, result))

    def tell(self, event):
        with self._lock:
            self._events.append(event)

    def events(self, timeout_s):
        time.sleep(0.02)
        with self._lock:
            found, self._events = self._events, []
        return found

    def ask_to_stop(self):
        self.stopping.set()

    def close(self):
        for thread in self._threads:
            thread.join(DEADLINE_S)


@pytest.fixture
def crew(monkeypatch):
    found = Threads()
    monkeypatch.setattr(load_plugin("executor", "processes"), "crew", lambda *_: found)
    return found


@pytest.mark.parametrize("wakes", ["while the other one is at work", "when all is done"])
@pytest.mark.parametrize(("into", "mode"), [("files", "append"), ("again", "append"), ("again", "overwrite")])
def test_a_worker_that_was_taken_for_lost_and_goes_on_does_no_harm(cli, feed, crew, monkeypatch, into, mode, wakes):
    """It has read a page that has another row when the next one reads it: that row must stay."""
    feed(into, mode=mode, **PROCESSES)
    module = importlib.import_module("feed")
    held, go, woken = threading.Event(), threading.Event(), threading.Event()

    def trouble(table, page):
        if table != "a" or page < module.AT:
            return None
        ids = crew.parcels["a", into]
        if page == module.AT and not held.is_set():
            held.set()
            crew.tell(Lost(ids[0], "it is not heard of"))
            assert go.wait(DEADLINE_S)
            return None
        if page == module.AT:
            return [1000]
        if page == module.AT + 1 and len(ids) > 1 and wakes.startswith("while") and not woken.is_set():
            woken.set()
            go.set()
            until(lambda: crew.results.get(ids[0]))
        return None

    monkeypatch.setattr(module, "trouble", trouble)
    sound = crew.close
    monkeypatch.setattr(crew, "close", lambda: (go.set(), sound()))
    done = cli("sync")
    assert done.exit_code == 0, done.output
    first, second = crew.parcels["a", into]
    assert isinstance(crew.results[first].error, StateConflictError)
    assert crew.results[second].status is Status.COMPLETED
    found = (in_files if into == "files" else in_again)()
    assert found == WANTED | {"a": [*range(40), 1000]}
    assert cli("sync", "--executor", "threads").exit_code == 0
    assert (in_files if into == "files" else in_again)() == found


def test_whoever_stops_a_run_stops_its_workers(cli, feed, crew, monkeypatch):
    feed("files", **PROCESSES)
    module, signals = importlib.import_module("feed"), [signal.SIGTERM]

    def trouble(table, page):
        if page == module.AT:
            if signals:  # a second one would end the process at once
                os.kill(os.getpid(), signals.pop())
            assert crew.stopping.wait(DEADLINE_S)
            time.sleep(0.5)  # longer than a worker takes to ask: a mere delay would let it complete, and fail the test

    monkeypatch.setattr(module, "trouble", trouble)
    done = cli("sync")
    assert done.exit_code == 143, done.output
    assert "stopped by SIGTERM" in done.output
    assert "FAILED" not in done.output, "a worker was not told"


@pytest.mark.parametrize("into", ["files", "again"])
def test_a_run_that_was_overtaken_keeps_nobody_out_by_who_goes_on_for_a_lost_worker(
    cli, feed, crew, started, monkeypatch, into
):
    """However many were lost: neither the third one nor the later run has written anything yet when it takes over."""
    feed(into, **PROCESSES)
    module, over, later, join = importlib.import_module("feed"), threading.Event(), [], Ledger.join

    def trouble(table, page):
        if table == "a" and page == module.AT and not later:
            crew.tell(Lost(crew.parcels["a", into][-1], "it is not heard of"))
            assert over.wait(DEADLINE_S)

    def joined(ledger, fence, task, *, attempt=0):
        join(ledger, fence, task, attempt=attempt)
        if attempt == 2:
            Path("waits-a").touch()
            later.append(started("--takeover", "--executor", "threads"))
            until(lambda: [*Path().glob("came-a-*")])

    monkeypatch.setattr(module, "trouble", trouble)
    monkeypatch.setattr(Ledger, "join", joined)
    sound = crew.close
    monkeypatch.setattr(crew, "close", lambda: (over.set(), sound()))
    done = cli("sync")
    assert done.exit_code == 4, done.output
    Path("waits-a").unlink()
    output, _ = later[0].communicate(timeout=DEADLINE_S)
    assert later[0].returncode == 0, output
    assert (in_files if into == "files" else in_again)() == WANTED


@pytest.mark.parametrize("overtaken", [False, True])
def test_a_conflict_with_a_worker_of_the_same_run_is_no_end_and_one_with_another_run_is(
    cli, feed, crew, monkeypatch, overtaken
):
    """As the one has it that goes on while the lost one still writes."""
    feed("files", **PROCESSES)
    conflicts = [StateConflictError("the stored state is not the one this run saved last")]

    def submit(parcel):
        work = pickle.loads(parcel.content).work
        if work.task.id != "b" or not conflicts:
            Threads.submit(crew, parcel)
            return
        report = TaskReport("feed", "b", "files", ("b",), status=Status.FAILED, error=conflicts.pop(), rows_written=20)
        crew.tell(Done(parcel.id, pickle.dumps(report)))

    monkeypatch.setattr(crew, "submit", submit)
    monkeypatch.setattr(Ledger, "is_overtaken", lambda *_: overtaken)
    done = cli("sync", "--summary-location", "s.jsonl")
    assert done.exit_code == (4 if overtaken else 0), done.output
    tasks = json.loads(Path("s.jsonl").read_text("utf-8"))["tasks"]
    written = {one["task"]: one["rows_written"] for one in tasks}
    assert written["b"] == (20 if overtaken else 60), "what both have done is told as one"
    assert overtaken or in_files() == WANTED


def test_a_task_that_kills_every_worker_fails_and_the_others_are_done(cli, feed, crew, monkeypatch):
    """It is not given out for ever."""
    feed("files", **PROCESSES)

    def submit(parcel):
        if pickle.loads(parcel.content).work.task.id == "b":
            crew.parcels.setdefault("b", []).append(parcel.id)
            crew.tell(Lost(parcel.id, "out of memory"))
        else:
            Threads.submit(crew, parcel)

    monkeypatch.setattr(crew, "submit", submit)
    done = cli("sync")
    assert done.exit_code == 1
    assert "out of memory, 5 times at the same cursor" in done.output
    assert len(crew.parcels["b"]) == 5
    assert "2 of 3 tasks completed" in done.output


def test_a_worker_that_is_lost_before_it_has_looked_does_not_hide_the_cursor(cli, feed, crew, monkeypatch):
    """In the summary, and where losses at one cursor are counted."""
    feed("files", **PROCESSES)
    sent = []

    def submit(parcel):
        if pickle.loads(parcel.content).work.task.id != "b":
            Threads.submit(crew, parcel)
            return
        report = TaskReport("feed", "b", "files", ("b",), cursor_to=None if sent else {"page": 3})
        sent.append(parcel.id)
        crew.tell(Said(parcel.id, elsewhere.told(EventKind.TASK_STARTED, "", report)))
        crew.tell(Lost(parcel.id, "out of memory"))

    monkeypatch.setattr(crew, "submit", submit)
    done = cli("sync", "--summary-location", "s.jsonl")
    assert done.exit_code == 1
    assert "out of memory, 5 times at the same cursor" in done.output
    assert len(sent) == 5
    tasks = json.loads(Path("s.jsonl").read_text("utf-8"))["tasks"]
    assert {one["task"]: one["cursor_to"] for one in tasks}["b"] == {"page": 3}


def test_a_task_whose_workers_are_lost_so_often_that_the_epochs_of_the_run_are_used_up_fails(
    cli, feed, crew, monkeypatch
):
    """Though each of them gets on. The next sync has others."""
    feed("files", **PROCESSES)
    monkeypatch.setattr(elsewhere, "ATTEMPTS_MAX", 3)
    sent = []

    def submit(parcel):
        if pickle.loads(parcel.content).work.task.id != "b":
            Threads.submit(crew, parcel)
            return
        sent.append(pickle.loads(parcel.content).work.attempt)
        report = TaskReport("feed", "b", "files", ("b",), cursor_to={"page": len(sent)})
        crew.tell(Said(parcel.id, elsewhere.told(EventKind.COMMITTED, "", report)))
        crew.tell(Lost(parcel.id, "it is not heard of"))

    monkeypatch.setattr(crew, "submit", submit)
    done = cli("sync")
    assert done.exit_code == 1
    assert "it is not heard of, 3 times" in done.output
    assert sent == [0, 1, 2]


def test_plan_says_which_tasks_nobody_else_can_do(cli, feed, crew):
    feed("files", "one", **PROCESSES)
    shown = " ".join(cli("plan").output.split())
    assert shown.count("are done by this one process, since it is one file") == 1
    assert "by this one process" not in cli("plan", "--executor", "threads").output
    assert cli("sync").exit_code == 0
    assert {destination for _, destination in crew.parcels} == {"files"}


def test_cursors_of_one_machine_are_refused_where_workers_are_on_several(cli, feed, crew, monkeypatch):
    """A destination that is atomic keeps them itself; one of this machine is written from here."""
    monkeypatch.setattr(load_plugin("executor", "processes"), "spans_hosts", True)
    feed("again", **PROCESSES)
    for command in ("plan", "sync"):
        refused = cli(command)
        assert refused.exit_code == 2, refused.output
        assert "keeps none itself" in " ".join(refused.output.split())
    assert not Path("again").exists()
    feed("files", **PROCESSES)
    assert cli("sync").exit_code == 0
    assert not crew.parcels


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"executor": "proceses"}, "did you mean 'processes'"),
        ({"executor": "processes", "executor_spec": {"wokers": 2}}, "did you mean 'workers'"),
        ({"executor_spec": {"workers": 2}}, "unknown field 'workers'"),
    ],
)
def test_what_is_wrong_with_an_executor_is_said_with_its_place(cli, feed, settings, says):
    feed("files", **settings)
    refused = cli("validate-config")
    assert refused.exit_code == 2
    assert says in refused.output
    assert "strandline.yml:1:" in refused.output
