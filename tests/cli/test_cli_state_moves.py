"""A person looks at the history of a cursor, and moves it."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

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
