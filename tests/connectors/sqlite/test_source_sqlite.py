import sqlite3
from contextlib import closing
from typing import Any, ClassVar

import pytest

from strandline.plugins import load_plugin
from strandline.testing.source import SourceConformance


def execute(path, statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def numbers(first, last, values, table="t"):
    """A statement that inserts a row for each number `i`."""
    series = f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
    return f"{series} INSERT INTO {table} SELECT {values} FROM n"


class SQLite(SourceConformance):
    statements = ()
    changes = ()
    tables: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def make_source(self, tmp_path):
        execute(tmp_path / "shop.db", self.statements)
        cls = load_plugin("source", "sqlite")
        return lambda: cls(cls.Spec(path=str(tmp_path / "shop.db"), tables=self.tables))

    @pytest.fixture
    def change(self, tmp_path):
        return lambda: execute(tmp_path / "shop.db", self.changes)


class TestNoKey(SQLite):
    statements = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
        numbers(1, 20, "i, 'v' || i"),
        "CREATE TABLE declared (id INTEGER PRIMARY KEY, d DECIMAL(9, 2), at DATETIME, j JSON)",
        numbers(1, 9, "i, i / 4.0, '2026-01-0' || i || 'T10:00Z', '[' || i || ']'", "declared"),
        "CREATE TABLE empty (id INTEGER PRIMARY KEY)",
        "CREATE TABLE equal (a TEXT, b REAL)",
        "INSERT INTO equal VALUES ('x', 1.5), ('x', 1.5), ('x', 1.5), (NULL, NULL), (NULL, NULL)",
        "CREATE TABLE named (name TEXT PRIMARY KEY)",
        "INSERT INTO named VALUES ('a'), ('b'), ('c'), ('d'), (NULL), (NULL)",
        "CREATE VIEW seen AS SELECT id, v FROM t WHERE id > 3",
    )
    changes = ("DELETE FROM t WHERE id < 5", "INSERT INTO equal VALUES ('x', 1.5)")


class TestIntegerKey(SQLite):
    statements = TestNoKey.statements[:2]
    changes = (numbers(21, 40, "i, 'new'"),)
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "id"}}


class TestTextClockWithTiesNullsAndTheFuture(SQLite):
    statements = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT)",
        numbers(1, 12, "i, '2026-01-0' || (i % 3 + 1) || ' 10:00:00'"),
        "INSERT INTO t VALUES (100, NULL), (101, NULL), (102, '2999-01-01 00:00:00'), (103, '2999-01-01 00:00:00'), (104, 5)",
    )
    changes = (
        numbers(201, 210, "i, '2026-01-03 10:00:00'"),
        numbers(301, 310, "i, '2026-01-03T1' || (i % 3) || ':30:00Z'"),
        "UPDATE t SET at = NULL WHERE id = 1",
    )
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "at", "lag": "1d"}}


class TestIndexedTextClock(TestTextClockWithTiesNullsAndTheFuture):
    statements = (*TestTextClockWithTiesNullsAndTheFuture.statements, "CREATE INDEX by_at ON t (at)")


class TestEpochKey(SQLite):
    statements = (
        "CREATE TABLE t (id TEXT PRIMARY KEY, updated_at INTEGER)",
        "CREATE INDEX by_updated_at ON t (updated_at)",
        numbers(1, 12, "'k' || i, 1760000000 + i / 4"),
        "INSERT INTO t VALUES ('x', 253402300799), ('y', NULL)",
    )
    changes = (numbers(13, 30, "'k' || i, 1760000003 + i / 20"),)
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "updated_at"}}


class TestWithoutRowid(SQLite):
    statements = (
        'CREATE TABLE "odd ""name"" ; --" (a TEXT, b BLOB, "select" INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID',
        "INSERT INTO \"odd \"\"name\"\" ; --\" VALUES ('a', x'00', 1), ('a', x'ff', 2), ('b', x'', 3), ('b', x'01', 4)",
        "INSERT INTO \"odd \"\"name\"\" ; --\" VALUES ('', x'00', 1), ('é', x'ff', 2), ('c', x'', 3), ('d', x'01', 4)",
    )
    changes = (numbers(5, 15, "'new', CAST(i AS BLOB), 4 + i / 6", '"odd ""name"" ; --"'),)
    tables: ClassVar[dict[str, Any]] = {'odd "name" ; --': {"incremental_key": "select"}}


class TestSweep(SQLite):
    statements = TestNoKey.statements[:2]
    changes = ("DELETE FROM t WHERE id IN (2, 19)", numbers(21, 30, "i, 'new'"))
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "id", "deletes": "sweep"}}


class TestIncrementalView(SQLite):
    statements = (*TestNoKey.statements[:2], "CREATE VIEW seen AS SELECT id, v FROM t WHERE id > 3")
    changes = (numbers(21, 30, "i, 'new'"),)
    tables: ClassVar[dict[str, Any]] = {
        "seen": {"incremental_key": "id", "primary_key": ["id"]},
        "t": {"incremental_key": "id"},
    }


class TestSweepOfManyKeys(SQLite):
    """Keys of every class that SQLite has, and of two columns."""

    statements = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
        numbers(1, 20, "i, 'v' || i"),
        "CREATE TABLE texts (k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v)",
        "INSERT INTO texts VALUES ('a', 1), ('B', 2), ('', 3), ('é', 4), ('1', 5)",
        "CREATE TABLE pairs (a TEXT, b BLOB, c INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID",
        "INSERT INTO pairs VALUES ('a', x'00', 1), ('a', x'ff', 2), ('b', x'', 3), ('b', x'01', 4)",
        "CREATE TABLE typed (at TEXT PRIMARY KEY NOT NULL, n)",
        "INSERT INTO typed VALUES ('2026-01-01 00:00:00', 1), ('2026-01-02 00:00:00', 2)",
        "CREATE TABLE numbered (k INT PRIMARY KEY NOT NULL)",
        "INSERT INTO numbered VALUES (1), (20), (3)",
        "CREATE VIEW seen AS SELECT id, v FROM t WHERE id > 3",
    )
    changes = ("DELETE FROM t WHERE id < 5", "DELETE FROM pairs WHERE a = 'a'", "INSERT INTO texts VALUES ('c', 6)")
    tables: ClassVar[dict[str, Any]] = {
        "t": {"deletes": "sweep", "where": "id <> 7"},
        "texts": {"deletes": "sweep"},
        "pairs": {"deletes": "sweep"},
        "typed": {"deletes": "sweep", "types": {"at": "timestamp[us, UTC]"}},
        "numbered": {"deletes": "sweep", "types": {"k": "string"}},
        "seen": {"deletes": "sweep", "primary_key": ["id"]},
    }


class TestQueries(SQLite):
    """Tables that are only in the spec; one of them in the place of a table that it reads."""

    statements = TestNoKey.statements[:2]
    changes = ("DELETE FROM t WHERE id = 7", numbers(21, 30, "i, 'new'"))
    tables: ClassVar[dict[str, Any]] = {
        "t": {"query": "SELECT id, v, id / 2.0 AS half FROM t", "incremental_key": "id", "primary_key": ["id"]},
        "few": {"query": "SELECT a.v, count(*) AS n FROM t AS a JOIN t AS b ON b.id < a.id GROUP BY 1 -- and so on"},
        "swept": {"query": "WITH u AS (SELECT * FROM t) SELECT id FROM u;", "primary_key": ["id"], "deletes": "sweep"},
    }
