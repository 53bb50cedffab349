"""A second run while another process holds the destination, or another run the lease: said once, with what helps."""

import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from test_engine import Numbers, destination, job

from strandline.cli._summary import summary
from strandline.engine.run import sync
from strandline.errors import RetryableError, TaskError

TABLES = ("orders", "items", "people", "notes", "visits")
HOLD = """
import duckdb, sys
connection = duckdb.connect("w.duckdb")
print("held", flush=True)
sys.stdin.read()
"""
LEASE = """
import sys
from datetime import UTC, datetime
from strandline.engine.clock import Clock
from strandline.engine.lease import Claim, take_over
from strandline.engine.ledger import Ledger
from strandline.engine.window import Stop
from strandline.plugins import load_plugin

cls = load_plugin("state_backend", "local")
own = load_plugin("destination", "sqlite")
own = own(own.Spec(path="w.db"))
ledger = Ledger("shop", "copy", own=own.states, backend=cls(cls.Spec()))
ledger.load()
take_over(ledger, Claim(), "nightly", clock=Clock(), stop=Stop())
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder():
    """Start a process that runs a script until the test ends; its pid."""
    started = []

    def holder(script):
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process.pid

    yield holder
    for process in started:
        process.communicate()


def test_a_file_of_duckdb_that_is_held_is_said_once(cli, holder):
    cli.shop(*TABLES)
    assert cli("sync").exit_code == 0
    pid = holder(HOLD)
    done = cli("sync")
    assert done.exit_code == 4
    said = done.stdout + done.stderr
    assert said.count(f"process {pid} has the file open, and only one can write to it") == 1
    assert f"hint: wait for it with --wait-lock 10m, or end process {pid}\n" in said
    for noise in ("http", "python", "IO Error", "cursors above", "cursor –"):
        assert noise not in said
    assert "0 of 5 tasks completed" in said


def test_takeover_is_said_not_to_help_there(cli, holder):
    cli.shop(*TABLES)
    pid = holder(HOLD)
    said = cli("sync", "--takeover").stdout
    assert "--takeover cannot help" in said
    assert f"--wait-lock 10m, or end process {pid}" in said


def test_a_lease_is_said_once_by_sync_and_is_one_warning_of_doctor(cli, holder):
    cli.shop(*TABLES, into="sqlite", path="w.db")
    assert cli("sync").exit_code == 0
    holder(LEASE)
    done = cli("sync")
    assert (done.exit_code, done.stdout.count("has been syncing shop into copy")) == (4, 1)
    assert done.stdout.count("--takeover fences it out") == 1
    examined = cli("doctor").stdout
    assert examined.count("has been syncing shop into copy") == 1
    assert re.search(r"fix: wait until it ends\n", examined)


def failed_with(*errors):
    report = sync(job(Numbers(*"abc"[: len(errors)]), destination(datetime.now(UTC).isoformat())))
    for task, error in zip(report.tasks, errors, strict=True):
        task.error = error
    return summary([report])


def test_an_error_of_some_tasks_names_them_and_one_of_its_own_names_its_task():
    said = failed_with(
        RetryableError("it hangs", hint="look"), RetryableError("it hangs", hint="look"), TaskError("odd")
    )
    assert said.count("it hangs") == said.count("look") == 1
    assert "  error: a and b: it hangs\n  hint: look\n" in said
    assert "  error: c: odd\n" in said
