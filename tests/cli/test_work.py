"""Tasks that are done in other processes than the run that began them: all that they need is in one pickled value."""

import json
import os
import pickle
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from strandline.cli._jobs import carried_out
from strandline.engine import run
from strandline.errors import StateConflictError, UsageError
from strandline.runs import Status

SECRET = "hunter2-and-more"
WORKER = """
import json, pickle, sys
from strandline.cli._jobs import carried_out

report = carried_out(pickle.load(sys.stdin.buffer))
json.dump(report.record(), sys.stdout)
"""
DOUBLES = str(Path(__file__).parents[1] / "crash" / "doubles")


@pytest.fixture
def shop(cli, monkeypatch):
    """A source of two tables, and what is kept of it in a destination of some kind."""
    monkeypatch.setenv("SHOP", SECRET)
    cli.sqlite(f"{SECRET}.db", "orders", "items")

    def spec(**destination):
        tables = {"*": {"incremental_key": "at"}}
        settings = {"path": "${SHOP}.db", "tables": tables}
        source = {"name": "shop", "path": "sqlite", "destinations": ["warehouse"], "spec": settings, "concurrency": 2}
        cli.spec(("source", source), ("destination", {"name": "warehouse", **destination}))

    return spec


@pytest.fixture
def elsewhere(monkeypatch):
    """Every task of a sync is done in a process of its own; what they were sent."""
    sent = []

    def perform(work, opened, **_):
        parcel = pickle.dumps(work)
        sent.append(parcel)
        environment = {**os.environ, "PYTHONPATH": DOUBLES}
        done = subprocess.run(
            [sys.executable, "-c", WORKER], input=parcel, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        report = json.loads(done.stdout)
        opened.report.status = Status(report["status"])
        opened.report.rows_written = report["rows_written"]

    monkeypatch.setattr(run, "perform", perform)
    return sent


def stored(path):
    with closing(sqlite3.connect(path)) as database:
        return [database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("orders", "items")]


def add(path, second):
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO orders (status, at) VALUES ('new', ?)", (f"2026-01-01 00:01:{second:02}",))


@pytest.mark.parametrize("mode", ["append", "overwrite-delete-stale"])
def test_a_sync_is_the_same_where_others_do_its_tasks(cli, shop, elsewhere, mode):
    shop(path="sqlite", write_mode=mode, spec={"path": "warehouse.db"})
    for rows in ([2, 2], [3, 2]):
        done = cli("sync")
        assert done.exit_code == 0, done.output
        assert stored("warehouse.db") == rows
        add(f"{SECRET}.db", 3)
    assert len(elsewhere) == 4
    assert not [parcel for parcel in elsewhere if SECRET.encode() in parcel], "a secret travels by its name"


def test_where_the_states_are_kept_elsewhere_too(cli, shop, elsewhere, monkeypatch):
    monkeypatch.syspath_prepend(DOUBLES)
    shop(path="plain", write_mode="append", spec={"path": "rows"})
    assert cli("sync").exit_code == 0
    add(f"{SECRET}.db", 3)
    done = cli("sync")
    assert done.exit_code == 0, done.output
    assert len(elsewhere) == 4
    with pa.OSFile("rows/orders.rows") as file, pa.ipc.open_file(file) as reader:
        assert {*reader.read_all()["id"].to_pylist()} == {1, 2, 3}


def test_a_worker_of_a_run_that_was_overtaken_writes_nothing(cli, shop, monkeypatch):
    shop(path="sqlite", spec={"path": "warehouse.db"})
    kept, perform = [], run.perform
    with monkeypatch.context() as watched:
        watched.setattr(
            run, "perform", lambda work, *more, **options: (kept.append(work), perform(work, *more, **options))
        )
        assert cli("sync").exit_code == 0
    add(f"{SECRET}.db", 3)
    assert cli("sync").exit_code == 0
    add(f"{SECRET}.db", 4)
    with pytest.raises(StateConflictError, match="taken over"):
        carried_out(pickle.loads(pickle.dumps(kept[0])))
    assert stored("warehouse.db") == [3, 2]


def test_a_worker_without_the_variable_is_told_its_name(cli, shop, monkeypatch):
    shop(path="sqlite", spec={"path": "warehouse.db"})
    kept, perform = [], run.perform
    monkeypatch.setattr(
        run, "perform", lambda work, *more, **options: (kept.append(work), perform(work, *more, **options))
    )
    assert cli("sync").exit_code == 0
    monkeypatch.delenv("SHOP")
    with pytest.raises(UsageError) as refused:
        carried_out(kept[0])
    assert "SHOP" in str(refused.value.problems)
