from typing import Any, ClassVar

import psycopg
import pytest

from strandline.plugins import load_plugin
from strandline.testing.source import SourceConformance


def execute(uri, statements):
    with psycopg.connect(uri, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def numbers(first, last, values, table="t"):
    """A statement that inserts a row for each number `i`."""
    return f"INSERT INTO {table} SELECT {values} FROM generate_series({first}, {last}) AS n(i)"


class PostgreSQL(SourceConformance):
    statements = ()
    changes = ()
    tables: ClassVar[dict[str, Any]] = {}
    at_once = 1

    @pytest.fixture
    def make_source(self, postgresql):
        execute(postgresql, self.statements)
        cls = load_plugin("source", "postgresql")

        def make():
            source = cls(cls.Spec(connection_string=postgresql, tables=self.tables, parallel=self.at_once))
            source.slice_pages = 1
            return source

        return make

    @pytest.fixture
    def change(self, postgresql):
        return lambda: execute(postgresql, self.changes)


class TestByXid(PostgreSQL):
    statements = (
        "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric DEFAULT 1.50, m money DEFAULT 7) WITH (fillfactor = 10)",
        numbers(1, 20, "i, 'v' || i || repeat('x', 250)"),
        "CREATE TABLE empty (id int PRIMARY KEY)",
        "CREATE TABLE equal (a text, b float8)",
        "INSERT INTO equal VALUES ('x', 1.5), ('x', 1.5), ('x', 1.5), (NULL, NULL), (NULL, NULL)",
        "CREATE VIEW seen AS SELECT id, v FROM t WHERE id > 3",
        "CREATE MATERIALIZED VIEW kept AS SELECT id, v FROM t WHERE id > 3",
    )
    changes = (
        "DELETE FROM t WHERE id < 5",
        "UPDATE t SET v = 'w' WHERE id > 15",
        "INSERT INTO equal VALUES ('x', 1.5)",
    )


class TestByXidByThree(TestByXid):
    at_once = 3


class TestPartitioned(PostgreSQL):
    statements = (
        "CREATE TABLE t (id int, region text, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region)",
        "CREATE TABLE t_de PARTITION OF t FOR VALUES IN ('de')",
        "CREATE TABLE t_fr PARTITION OF t FOR VALUES IN ('fr', 'be') PARTITION BY LIST (region)",
        "CREATE TABLE t_fr_fr PARTITION OF t_fr FOR VALUES IN ('fr')",
        "CREATE TABLE t_fr_be PARTITION OF t_fr FOR VALUES IN ('be')",
        numbers(1, 20, "i, (ARRAY['de', 'fr', 'be'])[1 + i % 3], repeat('x', 1000)"),
    )
    changes = (
        "UPDATE t SET region = 'de' WHERE id = 1",
        "CREATE TABLE t_at PARTITION OF t FOR VALUES IN ('at')",
        numbers(21, 40, "i, 'at', repeat('y', 1000)"),
    )


class TestLogWithoutAKey(PostgreSQL):
    statements = (
        "CREATE TABLE log (at timestamptz, line text)",
        numbers(1, 20, "'2026-01-01', repeat('x', 1000)", "log"),
    )
    changes = (numbers(1, 20, "'2026-01-01', repeat('x', 1000)", "log"),)
    tables: ClassVar[dict[str, Any]] = {"log": {"settle": "xid"}}


class TestClockWithTiesNullsAndTheFuture(PostgreSQL):
    statements = (
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v text)",
        numbers(1, 12, "i, '2026-01-01 10:00:00Z'::timestamptz + (i % 3) * interval '1 day', repeat('x', 2000)"),
        "INSERT INTO t VALUES (100, NULL), (101, NULL), (102, '2999-01-01'), (103, '2999-01-01')",
    )
    changes = (
        numbers(201, 210, "i, '2026-01-03 10:00:00Z'"),
        numbers(301, 310, "i, '2026-01-03 10:30:00Z'::timestamptz + (i % 3) * interval '1 hour'"),
        "UPDATE t SET at = NULL WHERE id = 1",
    )
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "at", "lag": "1d"}}


class TestClockByThree(TestClockWithTiesNullsAndTheFuture):
    at_once = 3


class TestIndexedLocalClock(PostgreSQL):
    statements = (
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp(0), day date, v text)",
        "CREATE INDEX ON t (at)",
        numbers(1, 12, "i, '2026-01-01 10:00:00'::timestamp + (i % 3) * interval '1 day', '2026-01-01'"),
    )
    changes = (numbers(21, 40, "i, '2026-01-03 10:00:00', '2026-01-02'"),)
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "at", "timezone": "Europe/Berlin"}}


class TestDays(TestIndexedLocalClock):
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "day", "timezone": "UTC", "start": "2025-12-31"}}


class TestSequence(PostgreSQL):
    statements = (
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)",
        "INSERT INTO t (v) SELECT repeat('x', 2000) FROM generate_series(1, 20)",
    )
    changes = ("INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 20)", "DELETE FROM t WHERE id = 3")
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "id", "deletes": "sweep"}}


class TestViewByKey(PostgreSQL):
    statements = (*TestSequence.statements, "CREATE VIEW seen AS SELECT id, v FROM t WHERE id > 3")
    changes = TestSequence.changes
    tables: ClassVar[dict[str, Any]] = {
        "seen": {"incremental_key": "id", "primary_key": ["id"]},
        "t": {"incremental_key": "id", "settle": "off"},
    }


ULID = "'01J' || upper(lpad(to_hex(i), 23, '0'))"


class TestTextKey(PostgreSQL):
    statements = (
        'CREATE TABLE "Odd ""name"" ; --" ("select" text COLLATE "C", b bytea, PRIMARY KEY ("select", b))',
        numbers(1, 4, f"{ULID}, '\\x00ff'", '"Odd ""name"" ; --"'),
        numbers(4, 4, f"{ULID}, ''", '"Odd ""name"" ; --"'),
    )
    changes = (numbers(5, 15, f"{ULID}, ''", '"Odd ""name"" ; --"'),)
    tables: ClassVar[dict[str, Any]] = {'Odd "name" ; --': {"incremental_key": "select"}}


class TestEpochWithTheFuture(PostgreSQL):
    statements = (
        "CREATE TABLE t (id int PRIMARY KEY, at bigint, v text)",
        numbers(1, 12, "i, 1767225600000 + i % 3, repeat('x', 2000)"),
        "INSERT INTO t VALUES (100, NULL), (102, 32503680000000), (103, 32503680000000)",
    )
    changes = (numbers(201, 210, "i, 1767225700000"), "UPDATE t SET at = NULL WHERE id = 1")
    tables: ClassVar[dict[str, Any]] = {"t": {"incremental_key": "at"}}


class TestInFull(PostgreSQL):
    statements = TestByXid.statements[:2]
    changes = TestByXid.changes[:2]
    tables: ClassVar[dict[str, Any]] = {"t": {"mode": "full", "deletes": "sweep"}}


class TestQueries(PostgreSQL):
    """Tables that are only in the spec; one of them in the place of a table that it reads."""

    statements = ("CREATE TABLE t (id int PRIMARY KEY, v text)", numbers(1, 5, "i, 'v' || i"))
    changes = ("DELETE FROM t WHERE id = 3", numbers(21, 24, "i, 'new'"))
    tables: ClassVar[dict[str, Any]] = {
        "t": {"query": "SELECT id, v, id / 2.0 AS half FROM t", "incremental_key": "id", "primary_key": ["id"]},
        "sales.swept": {
            "query": "WITH u AS (SELECT * FROM t) SELECT id FROM u;",
            "primary_key": ["id"],
            "deletes": "sweep",
        },
    }
