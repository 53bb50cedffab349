"""Hole F: rows that were deleted at the source, into every destination."""

from datetime import UTC, datetime, timedelta

import pytest
from places import STAMP, between

ALL = [(n, f"v{n}") for n in range(1, 7)]


@pytest.fixture
def swept(bench):
    stamps = [(datetime.now(UTC) - timedelta(hours=n)).strftime(STAMP) for n in range(7)]
    bench.origin.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, at {bench.origin.time}, v TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(n, stamps[-n], f"v{n}") for n in range(1, 6)])
    bench.tables = {"t": {"incremental_key": "at", "deletes": "sweep"}}
    return bench


def change(bench):
    at = datetime.now(UTC).strftime(STAMP)
    bench.origin.execute("DELETE FROM t WHERE id IN (2, 4)", f"INSERT INTO t VALUES (6, '{at}', 'v6')")


@between(modes="overwrite-delete-stale")
def test_hole_f_the_key_sweep_removes_deleted_rows_in_the_same_sync(swept, sync):
    sync()
    change(swept)
    sync("--summary-location", "summary.jsonl")
    assert swept.store.rows() == [row for row in ALL if row[0] not in {2, 4}]
    task = swept.summary()[-1]["tasks"][0]
    assert task["rows_read"] < 4
    assert task["rows_deleted"] == 2


@between(modes="append")
def test_hole_f_append_keeps_what_was_deleted(swept, sync):
    sync()
    change(swept)
    sync()
    sync()
    assert swept.store.rows() == ALL


@between(modes="overwrite overwrite-delete-stale")
def test_hole_f_a_sweep_that_would_remove_most_rows_is_refused(swept, sync):
    sync()
    swept.origin.execute("DELETE FROM t WHERE id > 1")
    sync(code=1)
    assert swept.store.rows() == ALL[:5]
    sync("--allow-mass-delete")
    assert swept.store.rows() == ALL[:1]


@between("postgresql", modes="overwrite-delete-stale")
def test_hole_f_without_an_incremental_key_deletes_are_swept_unasked(swept, sync):
    swept.tables = {}
    sync()
    change(swept)
    sync()
    assert swept.store.rows() == [row for row in ALL if row[0] not in {2, 4}]
