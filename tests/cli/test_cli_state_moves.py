"""A person looks at the history of a cursor, and moves it."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from strandline.engine.lease import Lease
from strandline.plugins import load_plugin
from strandline.state import RUN_TASK, Pass, Phase, StateKey

RUN = StateKey("shop", RUN_TASK, "copy")
ORDERS = StateKey("shop", "orders", "copy")


def insert(*rows):
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.executemany("INSERT OR REPLACE INTO orders (id, status, at) VALUES (?, ?, ?)", rows)


@pytest.fixture
def shop(cli):
    """Three syncs, of which the last one has fetched a row."""

    def made(**settings):
        cli.shop("orders", tables={"orders": {"incremental_key": "at"}}, **settings)
        assert cli("sync").exit_code == 0
        insert((3, "late", "2026-02-01 00:00:00"))
        assert cli("sync").exit_code == 0
        return cli

    return made


def backend():
    cls = load_plugin("state_backend", "local")
    return cls(cls.Spec())


def versions():
    return [f"{state.epoch}.{state.sequence}" for state in backend().history(ORDERS)]


def stored():
    with duckdb.connect("w.duckdb", read_only=True) as warehouse:
        return warehouse.sql("SELECT id, status FROM orders ORDER BY ALL").fetchall()


def test_the_history_says_how_a_cursor_came_to_where_it_is(shop):
    cli = shop()
    said = cli("state", "history", "shop", "orders").stdout
    for told in ("version", "saved", "2026-01-01 00:00:01", "2026-02-01 00:00:00", *versions()):
        assert told in said
    records = json.loads(cli("state", "history", "shop", "orders", "--format", "json").stdout)
    assert [one["version"] for one in records] == versions()
    assert cli("state", "history", "shop", "nothing").exit_code == 2


def test_a_version_that_is_damaged_says_so_and_the_others_are_there(shop):
    cli = shop(backend="sqlite", backend_spec={"path": "kept.db"})
    insert((4, "later", "2026-03-01 00:00:00"))
    assert cli("sync").exit_code == 0
    with closing(sqlite3.connect("kept.db")) as connection, connection:
        mine = "task = 'orders' AND number = (SELECT max(number) - 1 FROM cq_cursors_history WHERE task = 'orders')"
        connection.execute(f"UPDATE cq_cursors_history SET state = replace(state, '2026-02', '2026-01') WHERE {mine}")
    said = cli("state", "history", "shop", "orders")
    assert said.exit_code == 0
    assert "untrusted" in said.stdout
    assert "2026-01-01 00:00:01" in said.stdout
    records = json.loads(cli("state", "history", "shop", "orders", "--format", "json").stdout)
    assert ["untrusted" in one for one in records] == [number == 1 for number in range(len(records))]
    compared = cli("state", "diff", "shop", "orders")
    assert compared.exit_code == 3
    assert "damaged" in compared.stderr
    Path("other.yml").write_text(Path("strandline.yml").read_text().replace("kept.db", "moved.db"))
    assert cli("state", "copy", "shop", "--to", "other.yml").exit_code == 0
    moved = json.loads(cli("state", "history", "shop", "orders", "other.yml", "--format", "json").stdout)
    assert moved == [one for one in records if "untrusted" not in one]


def test_what_moved_between_two_versions_is_shown(shop):
    cli = shop()
    newest, *_, first = versions()
    said = cli("state", "diff", "shop", "orders").stdout
    assert f"→ {newest}" in said
    assert "cursor" in said
    (found,) = json.loads(
        cli("state", "diff", "shop", "orders", "--from", first, "--to", newest, "--format", "json").stdout
    )
    assert found["versions"] == [first, newest]
    assert found["changes"]["cursor.shown"] == ["2026-01-01 00:00:01", "2026-02-01 00:00:00"]
    assert found["changes"]["tables.orders.rows"][1] >= 3
    (begun,) = json.loads(cli("state", "diff", "shop", "orders", "--to", first, "--format", "json").stdout)
    assert begun["versions"] == [None, first]
    for wrong in (("shop",), ("shop", "nothing"), ("shop", "orders", "--from", "99.9")):
        assert cli("state", "diff", *wrong).exit_code == 2


@pytest.mark.parametrize("how", ["restore", "rewind", "set"])
def test_after_a_cursor_was_moved_back_the_rows_behind_it_are_read_again(shop, how):
    cli = shop()
    first = next(state for state in reversed(backend().history(ORDERS)) if state.current.phase is Phase.DONE)
    options = {
        "restore": ("--version", f"{first.epoch}.{first.sequence}"),
        "rewind": ("--to-time", first.saved_at),
        "set": ("--cursor", json.dumps(first.cursor)),
    }[how]
    done = cli("state", how, "shop", "orders", *options, "--reason", "a bad load", "--yes")
    assert done.exit_code == 0, done.output
    assert "shop/orders → copy: 2026-02-01 00:00:00 → 2026-01-01 00:00:01" in done.output
    newest = backend().history(ORDERS)[0]
    assert newest.cursor == first.cursor
    assert newest.note.endswith(": a bad load")
    assert "a bad load" in cli("state", "history", "shop", "orders").stdout
    with duckdb.connect("w.duckdb") as warehouse:
        warehouse.sql("UPDATE orders SET status = 'lost' WHERE id = 3")
    again = cli("sync")
    assert again.exit_code == 0, again.output
    assert stored() == [(1, "new"), (2, "new"), (3, "late")]
    assert cli("state", "list").stdout.count("2026-02-01 00:00:00") == 1
    assert cli("plan").exit_code == 0


@pytest.mark.parametrize(
    ("options", "to", "rows"),
    [
        (("--to-cursor", "2026-01-01"), "2026-01-01 00:00:00", 2),
        (("--to-cursor", "2026-01-01 00:00:01"), "2026-01-01 00:00:01", 1),
        (("--by", "31d"), "2026-01-01 00:00:00", 2),
        (("--by", "30d"), "2026-01-02 00:00:00", 0),
    ],
)
def test_a_cursor_is_put_back_to_a_place_of_the_source(shop, options, to, rows):
    """How many rows lie before the cursor is said; that at the cursor itself comes at every sync."""
    cli = shop()
    with duckdb.connect("w.duckdb") as warehouse:
        warehouse.sql("UPDATE orders SET status = 'lost'")
    done = cli("state", "rewind", "shop", "orders", *options, "--reason", "a bad load", "--yes")
    assert done.exit_code == 0, done.output
    assert f"2026-02-01 00:00:00 → {to}" in done.stdout + done.stderr
    assert f"reads about {rows} rows again" in done.stderr if rows else "reads nothing again" in done.stderr
    assert "delivery: effectively once" in done.stderr
    assert cli("sync").exit_code == 0
    assert [status for _, status in stored()] == [*["lost"] * (2 - rows), *["new"] * rows, "late"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to-cursor", "yesterday"), "no time"),
        (("--to-cursor", "2026-03-01"), "behind the cursor"),
        (("--by", "2 weeks"), "duration"),
        (("--by", "2d", "--to-time", "3d"), "one of"),
        ((), "one of"),
    ],
)
def test_a_place_that_is_none_is_refused_and_nothing_moves(shop, options, said):
    cli = shop()
    before = backend().history(ORDERS)
    done = cli("state", "rewind", "shop", "orders", *options, "--yes")
    assert (done.exit_code, said in done.stderr) == (2, True), done.output
    assert backend().history(ORDERS) == before


def test_a_source_that_cannot_put_a_cursor_back_says_so_and_what_it_reads_again_is_not_known(cli):
    source = {"name": "shop", "path": "test", "destinations": ["copy"], "spec": {"tables": 1, "rows": 5}}
    cli.spec(("source", source), ("destination", {"name": "copy", "path": "duckdb", "spec": {"path": "w.duckdb"}}))
    for _ in range(2):
        assert cli("sync").exit_code == 0
    (task,) = {key.task for key in backend().load("shop")} - {RUN_TASK}
    done = cli("state", "rewind", "shop", task, "--by", "2d", "--yes")
    assert (done.exit_code, "--to-time" in done.stderr) == (2, True), done.output
    done = cli("state", "set", "shop", task, "--cursor", '{"x": 1}')
    assert "this source has no estimate" in done.stderr


def test_what_is_read_again_is_told_in_time_too_where_a_pass_was_long_enough(shop):
    cli = shop()
    insert(*((number, "new", f"2026-03-01 00:{number // 60 % 60:02}:{number % 60:02}") for number in range(10, 1_510)))
    assert cli("sync").exit_code == 0
    said = cli("state", "rewind", "shop", "orders", "--by", "1d").stderr
    assert "about 1,499 rows again, in about" in said


def test_the_source_need_not_be_there_to_go_back_by_the_history(shop):
    cli, path = shop(), Path("shop.db")
    path.rename("away.db")
    done = cli("state", "restore", "shop", "orders", "--version", versions()[-1], "--yes")
    assert (done.exit_code, "cannot be asked" in done.stderr) == (0, True), done.output
    assert cli("state", "rewind", "shop", "orders", "--by", "1d", "--yes").exit_code != 0


def test_a_reset_says_what_follows_asks_and_keeps_the_reason(shop):
    cli = shop()
    before = backend().history(ORDERS)
    done = cli("state", "reset", "shop", "orders")
    assert (done.exit_code, "--yes" in done.stderr) == (2, True), done.output
    assert "2026-02-01 00:00:00 → –" in done.stderr
    assert backend().history(ORDERS) == before
    assert cli("state", "reset", "shop", "orders", "--yes", "--reason", "bad file").exit_code == 0
    assert backend().history(ORDERS)[0].note.endswith(": bad file")


def test_off_a_terminal_nothing_is_moved_without_a_word(shop):
    cli = shop()
    before = backend().history(ORDERS)
    done = cli("state", "restore", "shop", "orders", "--version", versions()[-1])
    assert done.exit_code == 2
    assert "--yes" in done.stderr
    assert backend().history(ORDERS) == before


def test_what_follows_is_said_before_it_is_done(shop):
    cli = shop(mode="append")
    done = cli("state", "set", "shop", "orders", "--cursor", "{}")
    assert "stored again" in done.stderr


@pytest.mark.parametrize("cursor", ["no json", "[1]", '"text"'])
def test_a_cursor_that_is_none_is_refused(shop, cursor):
    cli = shop()
    assert cli("state", "set", "shop", "orders", "--cursor", cursor, "--yes").exit_code == 2


def test_a_version_or_a_time_that_the_history_does_not_have_is_refused(shop):
    cli = shop()
    done = cli("state", "restore", "shop", "orders", "--version", "99.9", "--yes")
    assert done.exit_code == 2
    assert versions()[0] in done.stderr
    long_ago = (datetime.now(UTC) - timedelta(days=9)).isoformat()
    done = cli("state", "rewind", "shop", "orders", "--to-time", long_ago, "--yes")
    assert done.exit_code == 2
    assert "state history" in done.stderr


def test_a_cursor_from_the_middle_of_a_pass_is_no_place_to_begin_one(shop):
    cli, states = shop(backend="destination"), load_plugin("destination", "duckdb")
    opened = states(states.Spec(path="w.duckdb"))
    before = opened.states.load("shop")[ORDERS]
    reading = before.following(run_id="x", epoch=before.epoch, current=Pass(1, full=True, phase=Phase.READING))
    token = opened.states.save(ORDERS, reading, expected=before.token)
    after = reading.following(run_id="x", epoch=before.epoch, current=before.current)
    opened.states.save(ORDERS, after, expected=token)
    opened.close()
    done = cli("state", "restore", "shop", "orders", "--version", f"{reading.epoch}.{reading.sequence}", "--yes")
    assert done.exit_code == 2
    assert "middle of a pass" in done.stderr


def test_while_a_run_goes_on_no_cursor_is_moved(shop):
    cli = shop()
    duck = load_plugin("destination", "duckdb")
    opened = duck(duck.Spec(path="w.duckdb"))
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    before = opened.states.load("shop")[RUN]
    lease = Lease("the other", now_us, now_us, 60.0)
    held = before.following(run_id="the other", epoch=before.epoch + 1, cursor=lease.cursor)
    opened.states.save(RUN, held, expected=before.token)
    opened.close()
    kept = backend().history(ORDERS)
    assert cli("state", "restore", "shop", "orders", "--version", versions()[-1], "--yes").exit_code == 4
    assert backend().history(ORDERS) == kept
