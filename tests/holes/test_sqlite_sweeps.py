"""A sweep of an SQLite table brings back what was lost, whoever lost it."""

import pytest

ROWS = [(1, "a", "2026-01-01 00:00:00"), (2, "b", "2026-01-02 00:00:00")]


@pytest.mark.parametrize("bench", ["overwrite", "overwrite-delete-stale"], indirect=True)
@pytest.mark.parametrize("kind", ["INTEGER", "TEXT"])
def test_a_row_that_was_imported_below_the_cursor_is_not_lost(bench, sync, kind):
    bench.origin.execute(f"CREATE TABLE t (id {kind} PRIMARY KEY, v TEXT, at TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=ROWS)
    bench.tables = {"t": {"incremental_key": "at", "deletes": "sweep"}}
    sync()
    bench.origin.execute(
        "INSERT INTO t VALUES (3, 'late', '2025-01-01 00:00:00')",
        "INSERT INTO t VALUES (4, 'odd', '2025-02-01 00:00:00')",
    )
    outcome = sync()
    assert "2 rows of 't' that the source has were missing in the destination" in outcome.text
    assert [v for _, v in bench.store.rows()] == ["a", "b", "late", "odd"]
    assert "missing" not in sync().text
