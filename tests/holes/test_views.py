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


BROKEN = {
    "no table": ("SELECT id, v FROM base", "no such table: main.base"),
    "no function": ("SELECT nosuch(id) AS v FROM t", "no such function: nosuch"),
    "no values": ("SELECT json_extract(v, '$.a') AS v FROM t", "malformed JSON"),
}


@pytest.mark.parametrize(("statement", "reason"), BROKEN.values(), ids=[*BROKEN])
def test_a_view_that_never_worked_is_named_and_holds_back_no_table(bench, sync, statement, reason):
    bench.origin.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES (1, 'a')",
        f"CREATE VIEW seen AS {statement}",
    )
    outcome = sync()
    assert "view 'seen' does not work" in outcome.err
    assert reason in outcome.err
    assert bench.store.rows() == [(1, "a")]
