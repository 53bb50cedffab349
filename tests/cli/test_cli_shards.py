"""`--shard`, as processes that run at once, into what each destination allows."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import duckdb
import psycopg
import pyarrow.dataset as ds
import pytest

from services.redis import DURABLE, RedisServer, valkey_program
from strandline.shard import Shard

NAMES = ("orders", "items", "clients", "visits")
COUNTS = dict.fromkeys(NAMES, 2)


@pytest.fixture
def started():
    """Starts ``strandline sync``; what still runs at the end is ended."""
    with ExitStack() as stack:

        def start(*arguments, **variables):
            command = [sys.executable, "-m", "strandline", "sync", *arguments]
            process = subprocess.Popen(
                command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def ended(process):
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def add_rows():
    with closing(sqlite3.connect("shop.db")) as database, database:
        for name in NAMES:
            database.execute(f"INSERT INTO {name} (status, at) VALUES ('new', '2026-01-01 00:01:00')")


def count(fetch):
    return {name: fetch(f"SELECT count(*) FROM {name}") for name in NAMES}


def in_postgresql(place):
    with psycopg.connect(place) as database:
        return count(lambda query: database.execute(query).fetchone()[0])


def in_files(place):
    return {name: ds.dataset(f"{place}/{name}", format="parquet").count_rows() for name in NAMES}


def in_sqlite(place):
    with closing(sqlite3.connect(place)) as database:
        return count(lambda query: database.execute(query).fetchone()[0])


def in_duckdb(place):
    with closing(duckdb.connect(place, read_only=True)) as database:
        return count(lambda query: database.execute(query).fetchone()[0])


@pytest.fixture(params=["postgresql, local", "files, redis", "sqlite, postgresql"])
def place(request, cli, tmp_path):
    """The destination with a backend of another kind, and what counts the rows there."""
    into, backend = request.param.split(", ")
    url = request.getfixturevalue("postgresql") if "postgresql" in request.param else ""
    settings = {
        "postgresql": ({"connection_string": url}, in_postgresql, url),
        "files": ({"path": "copy"}, in_files, "copy"),
        "sqlite": ({"path": "copy.db"}, in_sqlite, "copy.db"),
    }
    with ExitStack() as stack:
        keeps = {"connection_string": url} if backend == "postgresql" else {}
        if backend == "redis":
            keeps = {"url": stack.enter_context(RedisServer(valkey_program(), *DURABLE)).url}
        spec, counted, where = settings[into]
        cli.shop(
            *NAMES,
            tables={"*": {"incremental_key": "at"}},
            into=into,
            mode="append",
            backend=backend,
            backend_spec=keeps,
        )
        text = Path("strandline.yml").read_text("utf-8").replace('{"path": "w.duckdb"}', json.dumps(spec))
        Path("strandline.yml").write_text(text, "utf-8")
        yield lambda: counted(where)


def test_shards_that_run_at_once_sync_what_one_run_does(cli, place, started):
    """From the first sync on, when nothing is there yet: neither tables of ours, nor states."""
    for rows in (2, 3):
        if rows == 2:
            results = [ended(one) for one in [started("--shard", f"{number}/2") for number in range(2)]]
            assert [code for code, _ in results] == [0, 0], results
        else:
            add_rows()
            assert [cli("sync", "--shard", f"{number}/3").exit_code for number in range(3)] == [0] * 3
        assert place() == dict.fromkeys(NAMES, rows)
    done = cli("sync")
    assert done.exit_code == 0
    assert "4 rows read, 4 unchanged" in done.output


def test_into_one_duckdb_file_shards_run_one_after_the_other(cli, started):
    cli.shop(*NAMES)
    running = [started("--shard", f"{number}/2", "--wait-lock", "2m") for number in range(2)]
    results = [ended(one) for one in running]
    assert [code for code, _ in results] == [0, 0], results
    assert in_duckdb("w.duckdb") == COUNTS


@pytest.mark.parametrize(
    ("into", "path", "says"),
    [("duckdb", "w.duckdb", "cannot run at once"), ("sqlite", "w.db", "in turns"), ("files", "w", "in turns")],
)
def test_plan_shows_what_a_shard_has_and_what_is_not_possible(cli, into, path, says):
    cli.shop(*NAMES, into=into, path=path, mode="append")
    for options in ([], ["-v"]):
        shown = cli("plan", "--shard", "1/2", *options)
        assert shown.exit_code == 0, shown.output
        assert {name: f"{name} " in shown.output or f": {name}\n" in shown.output for name in NAMES} == {
            name: Shard(1, 2).owns(name) for name in NAMES
        }
        assert ("shards: " in shown.output) is bool(says)
        assert says in " ".join(shown.output.split())
    assert "shop, shard 1/2 → copy" in cli("plan", "--shard", "1/2").output
    assert "shard" not in cli("plan").output
    records = [json.loads(line) for line in cli("plan", "--shard", "1/2", "--json").output.splitlines()]
    assert {one["shard"] for one in records} == {"1/2"}


def test_the_summary_and_the_log_of_runs_name_the_shard(cli):
    cli.shop("orders", into="sqlite", path="w.db")
    owner = next(number for number in range(4) if Shard(number, 4).owns("orders"))
    done = cli("sync", "--shard", f"{owner}/4", "--summary-location", "s.jsonl")
    assert done.exit_code == 0
    assert f"shop → copy (shard {owner}/4)" in done.output
    other = (owner + 1) % 4
    idle = cli("sync", "--shard", f"{other}/4", "--summary-location", "s.jsonl")
    assert idle.exit_code == 0
    assert f"shop, shard {other}/4: it has none of the tables" in idle.output
    assert f"shop, shard {other}/4: it has none" in cli("plan", "--shard", f"{other}/4").output
    assert cli("sync").exit_code == 0
    listed = cli("runs").output
    assert f"shop, shard {owner}/4 → copy" in listed
    records = [json.loads(line) for line in Path("s.jsonl").read_text("utf-8").splitlines()]
    assert [one["shard"] for one in records] == [f"{owner}/4", f"{other}/4"]
    assert f"of shop, shard {owner}/4" in cli("runs", records[0]["run_id"]).output
    assert "@run" not in cli("state", "list").output


@pytest.mark.parametrize("written", ["4/4", "1", "a/b"])
def test_what_is_no_shard_is_refused(cli, written):
    cli.shop("orders")
    refused = cli("sync", "--shard", written)
    assert refused.exit_code == 2
    assert "shard" in refused.output
