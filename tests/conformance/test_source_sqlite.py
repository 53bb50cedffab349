import sqlite3
from contextlib import closing
from typing import Any, ClassVar

import pytest

from strandline.plugins import load_plugin
from strandline.testing.source import SourceConformance


def sqlite_source(path, statements, tables=None):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    cls = load_plugin("source", "sqlite")
    return lambda: cls(cls.Spec(path=str(path), tables=tables or {}))


class Many(SourceConformance):
    statements = ()
    tables: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def make_source(self, tmp_path):
        return sqlite_source(tmp_path / "shop.db", self.statements, self.tables)


class TestNoKey(Many):
    statements = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) INSERT INTO t SELECT i, 'v' || i FROM n",
        "CREATE TABLE empty (id INTEGER PRIMARY KEY)",
        "CREATE TABLE equal (a TEXT, b REAL)",
        "INSERT INTO equal VALUES ('x', 1.5), ('x', 1.5), ('x', 1.5), (NULL, NULL), (NULL, NULL)",
        "CREATE VIEW seen AS SELECT id, v FROM t WHERE id > 3",
    )


class TestIntegerKey(Many):
    statements = TestNoKey.statements[:2]
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "id"}}


class TestTextClockWithTiesNullsAndTheFuture(Many):
    statements = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12) INSERT INTO t SELECT i, '2026-01-0' || (i % 3 + 1) || ' 10:00:00' FROM n",
        "INSERT INTO t VALUES (100, NULL), (101, NULL), (102, '2999-01-01 00:00:00'), (103, '2999-01-01 00:00:00'), (104, 5)",
    )
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "at", "lag": "1d"}}


class TestEpochKey(Many):
    statements = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, updated_at INTEGER)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12) INSERT INTO t SELECT i, 1760000000 + i / 4 FROM n",
        "INSERT INTO t VALUES (100, 253402300799), (101, NULL)",
    )
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "updated_at"}}


class TestWithoutRowid(Many):
    statements = (
        'CREATE TABLE "odd ""name"" ; --" (a TEXT, b BLOB, "select" INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID',
        "INSERT INTO \"odd \"\"name\"\" ; --\" VALUES ('a', x'00', 1), ('a', x'ff', 2), ('b', x'', 3), ('b', x'01', 4)",
        "INSERT INTO \"odd \"\"name\"\" ; --\" VALUES ('', x'00', 1), ('é', x'ff', 2), ('c', x'', 3), ('d', x'01', 4)",
    )
    tables: ClassVar[dict[str, Any]] = {'odd "name" ; --': {"incremental_key": "select"}}


class TestSweep(Many):
    statements = TestNoKey.statements[:2]
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "id", "deletes": "sweep"}}


class TestIncrementalView(Many):
    statements = (*TestNoKey.statements[:2], "CREATE VIEW seen AS SELECT id, v FROM t WHERE id > 3")
    tables: ClassVar[dict[str, Any]] = {
        "seen": {"incremental_key": "id", "primary_key": ["id"]},
        "t": {"incremental_key": "id"},
    }
