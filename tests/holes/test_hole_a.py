"""Hole A through the command line: a row that commits late, with an older stamp than rows that were synced already.

PostgreSQL has many ways to this, each of them in ``test_late_rows.py``; here is the plain one, into every destination.

SQLite has one writer: the next one begins to write when the last has committed, so the order of commits is the order of
writing. Late is only a stamp that an application took before it got the lock, and that is what `lag` is for.
"""

import sqlite3
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta

import pytest
from places import STAMP, between

INSERT = "INSERT INTO t (at, v) VALUES (now(), '{}')"
SETTLED = {"xid": {}, "cap": {"incremental_key": "at", "margin": "0"}}


@pytest.mark.parametrize("settle", SETTLED)
@between("postgresql")
def test_hole_a_a_row_that_commits_late(bench, sync, settle):
    bench.tables = {"t": SETTLED[settle]}
    bench.origin.execute(
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, v text)",
        INSERT.format("first"),
    )
    sync()
    with closing(bench.origin.connect()) as late:
        late.execute(INSERT.format("late"))
        bench.origin.execute(INSERT.format("soon"))
        sync()
        bench.origin.execute(INSERT.format("then"))
        sync()
        assert bench.store.rows("v") == [("first",), ("soon",), ("then",)]
        late.commit()
    sync()
    sync()
    assert bench.store.rows("v") == [("first",), ("late",), ("soon",), ("then",)]


def _ago(minutes):
    return (datetime.now(UTC) - timedelta(minutes=minutes)).strftime(STAMP)


@pytest.fixture
def stamped(bench):
    bench.origin.execute(
        "PRAGMA journal_mode = WAL",  # or a sync would wait for the writer
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, v TEXT)",
        f"INSERT INTO t VALUES (1, '{_ago(3)}', 'first')",
    )
    return bench


@between("sqlite")
def test_hole_a_a_row_that_is_not_committed_while_a_sync_reads(stamped, sync):
    stamped.tables = {"t": {"incremental_key": "at"}}
    with ExitStack() as stack:
        late = stack.enter_context(closing(sqlite3.connect(stamped.origin.path)))
        late.execute(f"INSERT INTO t VALUES (2, '{_ago(2)}', 'late')")
        other = stack.enter_context(closing(sqlite3.connect(stamped.origin.path, timeout=0)))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute(f"INSERT INTO t VALUES (3, '{_ago(1)}', 'soon')")
        sync()
        assert stamped.store.rows("v") == [("first",)]
        late.commit()
    stamped.origin.execute(f"INSERT INTO t VALUES (3, '{_ago(1)}', 'soon')")
    sync()
    sync()
    assert stamped.store.rows("v") == [("first",), ("late",), ("soon",)]


@between("sqlite")
def test_hole_a_a_stamp_that_is_older_than_the_lock_is_covered_by_the_lag(stamped, sync):
    stamped.tables = {"t": {"incremental_key": "at", "lag": "5m"}}
    sync()
    late = _ago(2)  # and then it waits for the lock
    stamped.origin.execute(f"INSERT INTO t VALUES (3, '{_ago(1)}', 'soon')")
    sync()
    stamped.origin.execute(f"INSERT INTO t VALUES (2, '{late}', 'late')")
    sync()
    sync()
    assert stamped.store.rows("v") == [("first",), ("late",), ("soon",)]
