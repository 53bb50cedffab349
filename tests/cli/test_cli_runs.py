"""`runs`: what past syncs did."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

LOG = Path(".cq/runs/runs.jsonl")


@pytest.fixture
def shop(cli):
    """Two syncs that went well, and one of which a table failed."""
    cli.shop("items", "orders", tables={"orders": {"incremental_key": "at"}}, into="sqlite", path="copy.db")
    cli("sync")
    cli("sync")
    with closing(sqlite3.connect("shop.db")) as file, file:
        file.execute("INSERT INTO items (status) VALUES ('new')")
    with closing(sqlite3.connect("copy.db")) as file, file:
        file.execute("CREATE TRIGGER t BEFORE INSERT ON items BEGIN SELECT RAISE(ABORT, 'no more items'); END")
    assert cli("sync").exit_code == 1
    return cli


def dated(*days):
    """The runs of the log, moved to these days."""
    records = [json.loads(line) for line in LOG.read_text("utf-8").splitlines()]
    for record, day in zip(records, days, strict=True):
        record["started_at"] = f"{day}T03:00:00+00:00"
    LOG.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return [record["run_id"] for record in records]


def test_the_newest_comes_first_with_what_became_of_it(shop):
    ids = dated("2026-01-01", "2026-01-02", "2026-01-03")
    done = shop("runs")
    heading, *rows = done.stdout.splitlines()
    assert [row.split()[0] for row in rows] == [one[:8] for one in reversed(ids)]
    for name in ("when", "took", "from → to", "tables", "failed", "rows", "exit"):
        assert name in heading
    assert ["shop → copy" in row for row in rows] == [True] * 3
    assert rows[0].split()[-6:-3] == ["1", "of", "2"]
    assert [row.split()[-1] for row in rows] == ["1", "0", "0"]
    assert "2026-01-03" in rows[0]


def test_one_run_shows_each_table(shop):
    ids = dated("2026-01-01", "2026-01-02", "2026-01-03")
    said = shop("runs", ids[0]).stdout
    assert f"run {ids[0]} of shop" in said
    (orders,) = (line for line in said.splitlines() if line.startswith("orders"))
    assert orders.split()[1:4] == ["copy", "completed", "2"]
    assert orders.endswith("–            2026-01-01 00:00:01")
    failed = shop("runs", ids[2][:8]).stdout
    assert "exit code 1" in failed
    assert "error: items: " in failed
    assert "no more items" in failed


def test_only_some_of_them(shop):
    ids = dated("2020-01-01", "2026-01-02", "2026-01-03")
    assert shop("runs", "-n", "1").stdout.splitlines()[1].startswith(ids[2][:8])
    assert "… and 2 earlier" in shop("runs", "-n", "1").stdout
    assert len(shop("runs", "--since", "2026-01-02").stdout.splitlines()) == 3
    assert shop("runs", "--since", "1s").stdout == ""
    assert "no runs since then" in shop("runs", "--since", "1s").stderr
    wrong = shop("runs", "--since", "yesterday")
    assert (wrong.exit_code, "--since" in wrong.stderr) == (2, True)


def test_json_is_a_record_a_line(shop):
    ids = dated("2026-01-01", "2026-01-02", "2026-01-03")
    records = [json.loads(line) for line in shop("runs", "--json").stdout.splitlines()]
    assert [record["run_id"] for record in records] == ids[::-1]
    (one,) = shop("runs", ids[1], "--json").stdout.splitlines()
    assert json.loads(one) == records[1]


@pytest.mark.parametrize(
    "line", ['{"run_id": "to', "null", "[]", "{}", '{"started_at": 7}', '{"started_at": "2026-01-01T00:00:00+00:00"}']
)
def test_what_cannot_be_read_is_left_out_and_counted(shop, line):
    with LOG.open("ab") as file:
        file.write(f"{line}\n\xff\xfe\n".encode("latin-1"))
    done = shop("runs")
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 4)
    assert "2 lines of .cq/runs cannot be read: left out" in done.stderr


def test_a_run_that_nobody_knows(shop):
    done = shop("runs", "nope")
    assert (done.exit_code, "no run 'nope'" in done.stderr) == (2, True)
    ambiguous = shop("runs", "")
    assert (ambiguous.exit_code, "several runs begin with ''" in ambiguous.stderr) == (2, True)


def test_before_the_first_sync(cli):
    done = cli("runs")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no runs yet" in done.stderr


def test_from_a_directory_below_the_spec(shop, monkeypatch):
    Path(".git").mkdir()
    Path("models").mkdir()
    monkeypatch.chdir("models")
    assert len(shop("runs").stdout.splitlines()) == 4
