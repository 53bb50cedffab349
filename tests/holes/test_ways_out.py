"""What the program's own hints name as the way out, followed."""

import pytest


@pytest.fixture
def table(bench):
    bench.origin.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, v TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (1, '2026-01-01 00:00:00', 'a')")
    bench.tables = {"t": {"incremental_key": "at"}}
    return bench


def test_after_a_reset_a_full_refresh_replaces_the_rows(table, sync):
    sync()
    assert table.run("state", "reset", "shop", "t") == 0
    sync("--full-refresh", "t")
    assert table.store.rows() == [(1, "a")]
    table.origin.execute("INSERT INTO t VALUES (2, '2026-01-02 00:00:00', 'b')")
    sync()
    assert table.store.rows() == [(1, "a"), (2, "b")]


def test_after_a_reset_a_full_refresh_replaces_the_rows_of_a_table_that_is_read_in_full(table, sync):
    table.tables = {}
    sync()
    assert table.run("state", "reset", "shop", "t") == 0
    sync("--full-refresh", "t")
    assert table.store.rows() == [(1, "a")]
