"""A view that does not work any more is a failed task, and never a table that is left out without a word."""

import pytest


@pytest.mark.parametrize("settings", [{}, {"seen": {"primary_key": ["id"]}}], ids=["", "settings"])
def test_a_view_that_broke_after_it_was_synced(bench, sync, settings):
    bench.origin.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES (1, 'a')",
        "CREATE TABLE base (id INTEGER, v TEXT)",
        "INSERT INTO base VALUES (1, 'a')",
        "CREATE VIEW seen AS SELECT id, v FROM base",
    )
    bench.tables = settings
    sync()
    bench.origin.execute("DROP TABLE base", "INSERT INTO t VALUES (2, 'b')")
    outcome = sync(code=1)
    assert "view 'seen' does not work" in outcome.out
    assert "no such table: main.base" in outcome.out
    assert (2, "b") in bench.store.rows()
    assert bench.store.rows(table="seen") == [(1, "a")]


def test_a_view_that_never_worked_is_named(bench, sync):
    bench.origin.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE VIEW seen AS SELECT id, v FROM base")
    outcome = sync()
    assert "view 'seen' does not work" in outcome.err
    assert "no such table: main.base" in outcome.err
