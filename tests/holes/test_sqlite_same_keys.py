"""A primary key that does not tell the rows of an SQLite table apart is counted, and said, before anybody misses the rows."""

import pytest


def said(outcome):
    return [line for line in outcome.err.splitlines() if "primary key (" in line]


@pytest.mark.parametrize("bench", ["overwrite", "overwrite-delete-stale"], indirect=True)
@pytest.mark.parametrize(
    ("columns", "rows", "settings", "words"),
    [
        ("a INTEGER, v TEXT", "(1, 'x'), (1, 'y'), (2, 'z')", {"primary_key": ["a"]}, "2 rows have 1 keys"),
        (
            "a INTEGER, v INTEGER",
            "(1, 1), (1, 2), (2, 3)",
            {"primary_key": ["a"], "incremental_key": "v"},
            "2 rows have 1 keys",
        ),
        ("a PRIMARY KEY, v", "(1, 'x'), ('1', 'y'), (2, 'z')", {"types": {"a": "string"}}, "2 rows have 1 keys"),
        ("a TEXT, b TEXT", "('k', 1), ('k', 2), ('K', 3)", {"primary_key": ["a"]}, "2 rows have 1 keys"),
    ],
    ids=["settings", "incremental", "types", "case"],
)
def test_rows_of_one_key_are_counted(bench, sync, columns, rows, settings, words):
    bench.origin.execute(f"CREATE TABLE t ({columns})", f"INSERT INTO t VALUES {rows}")
    bench.tables = {"t": settings}
    (line,) = said(sync())
    assert "is not unique" in line
    assert words in line
    assert len(bench.store.rows("a")) == 2


def test_rows_without_a_key_are_counted(bench, sync):
    bench.origin.execute(
        "CREATE TABLE t (a TEXT PRIMARY KEY, v)", "INSERT INTO t VALUES ('x', 1), (NULL, 2), (NULL, 3)"
    )
    (line,) = said(sync(code=1))
    assert "2 rows have no primary key (a)" in line


@pytest.mark.parametrize(
    "table",
    [
        "t (a INTEGER PRIMARY KEY, v)",
        "t (a TEXT PRIMARY KEY NOT NULL, v)",
        "t (a TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v)",
        "t (a INTEGER, v INTEGER, PRIMARY KEY (a, v)) WITHOUT ROWID",
    ],
)
def test_of_a_key_that_is_one_nothing_is_said(bench, sync, table):
    bench.origin.execute(f"CREATE TABLE {table}", "INSERT INTO t VALUES (1, 1), (2, 1)")
    assert not said(sync())
