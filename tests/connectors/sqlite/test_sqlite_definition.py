"""Which columns are the ones that they were."""

import sqlite3
from contextlib import closing

import pytest

from strandline.connectors.sqlite.catalog import catalogue
from strandline.connectors.sqlite.definition import column_texts, definition, difference

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c TEXT)"


def after(*statements, first=(TABLE,), name="t"):
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in first:
            connection.execute(statement)
        old = definition(connection, catalogue(connection)[0][name])
        for statement in statements:
            connection.execute(statement)
        return difference(old, definition(connection, catalogue(connection)[0][name]))


@pytest.mark.parametrize(
    "statements",
    [
        (),
        ("ALTER TABLE t ADD d",),
        ("ALTER TABLE t ADD d", "ALTER TABLE t ADD e"),
        ("ALTER TABLE t DROP a",),
        ("ALTER TABLE t DROP c",),
        ("ALTER TABLE t DROP a", "ALTER TABLE t ADD d"),
        ("ALTER TABLE t RENAME a TO d",),
        ("ALTER TABLE t RENAME a TO d", "ALTER TABLE t DROP b", "ALTER TABLE t ADD e"),
        ("CREATE INDEX i ON t (a)",),
        (
            "CREATE TABLE n (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c TEXT)",
            "DROP TABLE t",
            "ALTER TABLE n RENAME TO t",
        ),
    ],
)
def test_columns_that_are_what_they_were(statements):
    assert after(*statements) == ""


@pytest.mark.parametrize(
    "statements",
    [
        ("ALTER TABLE t DROP a", "ALTER TABLE t ADD a TEXT"),
        ("ALTER TABLE t RENAME a TO d", "ALTER TABLE t ADD a TEXT"),
        ("ALTER TABLE t RENAME c TO d", "ALTER TABLE t ADD c TEXT"),
        ("ALTER TABLE t RENAME a TO d", "ALTER TABLE t RENAME b TO a", "ALTER TABLE t RENAME d TO b"),
        ("ALTER TABLE t RENAME a TO d", "ALTER TABLE t RENAME b TO a"),
        ("ALTER TABLE t DROP c", "ALTER TABLE t ADD c INTEGER"),
        (
            "CREATE TABLE n (id INTEGER PRIMARY KEY, b TEXT, a TEXT, c TEXT)",
            "DROP TABLE t",
            "ALTER TABLE n RENAME TO t",
        ),
        ("DROP TABLE t", "CREATE VIEW t AS SELECT 1 AS id, 2 AS a"),
    ],
)
def test_a_column_that_is_another_one_of_the_same_name(statements):
    assert after(*statements)


def test_what_makes_a_generated_column():
    made = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, g INT AS (a * {}) /* , ( */)"
    again = ("DROP TABLE t", made.format(3))
    assert "declared otherwise" in after(*again, first=[made.format(2)])
    assert after("DROP TABLE t", made.format("2 "), first=[made.format(2)]) == ""
    assert after("ALTER TABLE t ADD h", first=[made.format(2)]) == ""


VIEWS = (
    TABLE,
    "CREATE TABLE u (x)",
    "CREATE VIEW inner_ AS SELECT id, a FROM t",
    "CREATE VIEW v AS SELECT * FROM inner_",
)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (("DROP VIEW v", "CREATE VIEW v AS SELECT * FROM inner_ WHERE id > 3"), "view 'v'"),
        (("DROP VIEW inner_", "CREATE VIEW inner_ AS SELECT id, b AS a FROM t"), "view 'inner_'"),
        (("DROP VIEW inner_", "CREATE TABLE inner_ (id, a)"), "view 'inner_'"),
        (("ALTER TABLE t DROP b", "ALTER TABLE t ADD b TEXT"), "of 't'"),
        (("ALTER TABLE u ADD y", "CREATE INDEX i ON t (a)"), ""),
        (("ALTER TABLE t ADD z",), ""),
    ],
)
def test_what_lies_below_a_view(statements, words):
    found = after(*statements, first=VIEWS, name="v")
    assert words in found
    assert bool(words) == bool(found)


def test_what_a_statement_says_of_columns():
    texts = column_texts(
        """CREATE TABLE "odd, (name" (a INT, "b ""c" TEXT DEFAULT '),(', [d e] AS (a + (1)) STORED, -- x, y
        `f` NUMERIC(3, 2), PRIMARY KEY (a, "b ""c")) WITHOUT ROWID"""
    )
    assert texts == {
        "a": "INT",
        'b "c': "TEXT DEFAULT '),('",
        "d e": "AS ( a + ( 1 ) ) STORED",
        "f": "NUMERIC ( 3 , 2 )",
        "primary": 'KEY ( a , "b ""c" )',
    }
