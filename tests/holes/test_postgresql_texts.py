"""What stops rightly says why and what helps; and what PostgreSQL writes as a text stays that text."""

import contextlib

import duckdb
import psycopg
import pytest
from postgresql_origin import Origin

from services.postgresql import PostgreSQLServer
from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.run import sync
from strandline.plugins import load_plugin


class Copied(Origin):
    """Into PostgreSQL."""

    def __init__(self, uri, copy):
        super().__init__(uri, WriteMode.OVERWRITE)
        self.copy = copy

    def sync_into(self):
        cls = load_plugin("destination", "postgresql")
        with (
            contextlib.closing(self.source()) as source,
            contextlib.closing(cls(cls.Spec(connection_string=self.copy))) as into,
        ):
            return sync(Job("shop", source, [Into("d", into, self.mode)], backend=self.backend))

    def stored(self, sql):
        with psycopg.connect(self.copy) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def copied(postgresql, postgresql_server):
    name = f"{psycopg.conninfo.conninfo_to_dict(postgresql)['dbname']}_copy"
    yield Copied(postgresql, postgresql_server.create_database(name))
    postgresql_server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


JSON = ['{"b":1,"a":1,"a":2}', '{"a":"\\u0000"}', '{"n":1e400000}', "[ 1 ]"]


def test_a_json_keeps_its_order_its_names_and_its_numbers_and_a_jsonb_is_one(copied):
    copied.execute("CREATE TABLE t (id int PRIMARY KEY, j json, b jsonb)")
    with psycopg.connect(copied.uri) as connection:
        for number, text in enumerate(JSON):
            connection.execute("INSERT INTO t VALUES (%s, %s, %s)", (number, text, '{"b":1,"a":2}'))
    assert copied.sync_into().exit_code == 0
    assert [text for (text,) in copied.stored("SELECT j::text FROM t ORDER BY id")] == JSON
    assert copied.stored("SELECT DISTINCT pg_typeof(j)::text, pg_typeof(b)::text, b->>'a' FROM t") == [
        ("json", "jsonb", "2")
    ]


def test_a_jsonb_column_of_an_earlier_version_goes_on(copied):
    copied.execute("CREATE TABLE t (id int PRIMARY KEY, j json)", "INSERT INTO t VALUES (1, '{\"a\": 1}')")
    copied.sync_into()
    with psycopg.connect(copied.copy, autocommit=True) as connection:
        connection.execute("ALTER TABLE t ALTER j TYPE jsonb")
        connection.execute("CREATE INDEX ON t USING gin (j)")
    copied.execute("UPDATE t SET j = '{\"a\": 2}'", "INSERT INTO t VALUES (2, '3')")
    assert copied.sync_into().exit_code == 0
    assert copied.stored("SELECT id, j::text, pg_typeof(j)::text FROM t ORDER BY id") == [
        (1, '{"a": 2}', "jsonb"),
        (2, "3", "jsonb"),
    ]


def test_names_that_a_role_wants_quoted_are_no_others(copied):
    copied.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(4,1), a int[])",
        "INSERT INTO t VALUES (1, 'a', 1.5, '{1}')",
    )
    assert copied.sync_into().exit_code == 0
    for uri in (copied.uri, copied.copy):
        with psycopg.connect(uri, autocommit=True) as one:
            one.execute(f'ALTER DATABASE "{one.info.dbname}" SET quote_all_identifiers = on')
    copied.execute("INSERT INTO t VALUES (2, 'b', 2.5, '{2}')")
    report = copied.sync_into()
    assert report.exit_code == 0, report.tasks[0].error
    assert copied.stored("SELECT id, v, n::text, a::text FROM t ORDER BY id") == [
        (1, "a", "1.5", "[1]"),
        (2, "b", "2.5", "[2]"),
    ]


def said(shop, **more):
    report = shop.report(code=1, **more)
    return str(report.error), report.error.hint


def test_a_key_that_no_column_can_hold_is_not_made_null(postgresql):
    shop = Origin(postgresql)
    shop.tables = {"t": {"out_of_range": "null"}}
    shop.execute("CREATE TABLE t (d date PRIMARY KEY, e date)", "INSERT INTO t VALUES ('2020-01-01', 'infinity')")
    shop.sync()
    shop.execute("INSERT INTO t VALUES ('infinity', NULL)")
    error, hint = said(shop)
    assert "t.d: 1 value" in error
    assert "infinity" in error
    assert "a primary key cannot be NULL" in hint


def test_bytes_of_an_unchecked_database_are_said_to_be_what_they_are():
    server = PostgreSQLServer().create()
    try:
        server.execute("CREATE DATABASE latin ENCODING 'SQL_ASCII' TEMPLATE template0")
        shop = Origin(server.uri("latin"))
        with server.connect("latin") as connection:
            connection.execute(b"CREATE TABLE t (id int PRIMARY KEY, v text)")
            connection.execute(b"INSERT INTO t VALUES (1, 'caf\xe9')")
        error, hint = said(shop)
        assert "invalid byte sequence" in error
        assert "cannot be read as UTF-8" in hint
        assert "convert_from" in hint
        assert "`columns`" in hint
        server.execute("UPDATE t SET v = convert_from(v::bytea, 'LATIN1')", "latin")
    finally:
        server.remove()


def test_digits_of_a_large_decimal_are_written_out(postgresql, tmp_path):
    """As a text, where DuckDB has no such number."""
    cls = load_plugin("destination", "duckdb")
    shop = Origin(postgresql)
    shop.execute("CREATE TABLE t (id int PRIMARY KEY, n numeric(50,10))", "INSERT INTO t VALUES (1, 0), (2, 0.0000001)")
    into = cls(cls.Spec(path=str(tmp_path / "copy.duckdb")))
    with contextlib.closing(shop.source()) as source, contextlib.closing(into):
        assert sync(Job("shop", source, [Into("d", into, shop.mode)], backend=shop.backend)).exit_code == 0
    with duckdb.connect(str(tmp_path / "copy.duckdb")) as copy:
        assert copy.sql("SELECT n FROM t ORDER BY id").fetchall() == [("0.0000000000",), ("0.0000001000",)]
