"""Settings of a source that are changed between two syncs: no row is stored twice, or left half, or deleted for it."""

import pytest

NULLS = [(1, None, "a", "x"), (2, None, "b", "y"), (3, "2026-01-01 00:00:00", "c", "z")]


def keyed(bench, **settings):
    bench.origin.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, v TEXT, w TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?, ?)", rows=NULLS)
    bench.tables = {"t": settings}


def test_columns_of_an_incremental_table_are_not_changed_for_some_of_its_rows(bench, sync):
    keyed(bench, incremental_key="at", columns=["id", "v"])
    sync()
    bench.tables["t"]["columns"] = ["v", "id"]
    sync()
    for columns in (["id", "v", "w"], ["id"], None):
        bench.tables["t"]["columns"] = columns
        assert "--full-refresh" in sync(code=3).text
        assert bench.store.rows() == [(1, "a"), (2, "b"), (3, "c")]
    bench.tables["t"]["columns"] = ["id", "v", "w"]
    sync("--full-refresh", "t")
    sync()
    assert bench.store.rows("id, v, w") == [(1, "a", "x"), (2, "b", "y"), (3, "c", "z")]


@pytest.mark.parametrize("bench", ["overwrite", "overwrite-delete-stale"], indirect=True)
def test_columns_of_a_table_that_is_read_in_full_may_change_at_any_time(bench, sync):
    keyed(bench, columns=["id", "v"])
    sync()
    bench.tables["t"]["columns"] = ["id", "v", "w"]
    bench.origin.execute("DELETE FROM t WHERE id = 3")
    sync()
    kept = [] if bench.mode == "overwrite-delete-stale" else [(3, "c", None)]
    assert bench.store.rows("id, v, w") == [(1, "a", "x"), (2, "b", "y"), *kept]
