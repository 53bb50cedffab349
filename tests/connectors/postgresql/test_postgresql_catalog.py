"""What a PostgreSQL catalogue says of its tables, where taking it at its word would lose rows."""

import time
from datetime import UTC, datetime

import psycopg
import pytest

from strandline.connectors.postgresql.catalog import leaves, relations
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.server import Server
from strandline.connectors.sql.dialect import quote
from strandline.errors import TaskError
from strandline.message import Insert
from strandline.plugins import load_plugin
from strandline.reading import Reading


def prepared(uri, *statements):
    with psycopg.connect(uri, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def source(uri, **settings):
    cls = load_plugin("source", "postgresql")
    return cls(cls.Spec(connection_string=uri, tables={"t": settings} if settings else {}))


def offered(uri, name="t", **settings):
    return next(one for one in source(uri, **settings).tables() if one.name == name)


def rows(uri, **settings):
    read = source(uri, **settings)
    (task,) = read.tasks([next(one for one in read.tables() if one.name == "t")])
    reading = Reading(None, datetime.now(UTC))
    return [row for one in read.read(task, reading) if isinstance(one, Insert) for row in one.batch.to_pylist()]


@pytest.fixture
def session(postgresql):
    with Server(postgresql, connections_max=1).session() as one:
        yield one


INHERITED = (
    "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL)",
    "CREATE TABLE child () INHERITS (t)",
    "ALTER TABLE child ALTER at DROP NOT NULL",
    "INSERT INTO t VALUES (1, now() - interval '1 day')",
    "INSERT INTO child VALUES (1, NULL)",
)


def test_a_primary_key_that_does_not_bind_inheriting_tables_is_none(postgresql):
    prepared(postgresql, *INHERITED)
    assert offered(postgresql).primary_key == ()
    assert [row["id"] for row in rows(postgresql)] == [1, 1]


def test_a_row_without_a_key_is_read_from_an_inheriting_table(postgresql):
    prepared(postgresql, *INHERITED)
    assert offered(postgresql).schema.field("at").nullable
    assert sorted(row["at"] is None for row in rows(postgresql, incremental_key="at")) == [False, True]


def test_a_partitioned_table_keeps_its_key_and_its_partitions_are_not_offered(postgresql):
    prepared(
        postgresql,
        "CREATE TABLE t (id int, part int, PRIMARY KEY (part, id)) PARTITION BY LIST (part)",
        "CREATE TABLE one PARTITION OF t FOR VALUES IN (1)",
        "CREATE TABLE two PARTITION OF t FOR VALUES IN (2) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF two FOR VALUES FROM (0) TO (9)",
        "INSERT INTO t VALUES (1, 1), (1, 2)",
    )
    assert [one.name for one in source(postgresql).tables()] == ["t"]
    found = offered(postgresql)
    assert (found.primary_key, found.schema.field("id").nullable) == (("part", "id"), False)
    assert sorted(row["part"] for row in rows(postgresql)) == [1, 2]


def test_not_null_of_a_foreign_table_is_only_a_claim(postgresql):
    prepared(
        postgresql,
        "CREATE EXTENSION file_fdw",
        "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
        "CREATE FOREIGN TABLE t (at timestamptz NOT NULL, b int) SERVER files "
        "OPTIONS (program 'printf \"\\N,1\\n2020-01-01,2\\n\"', format 'csv', null '\\N')",
    )
    assert offered(postgresql).schema.field("at").nullable
    assert sorted(row["b"] for row in rows(postgresql, incremental_key="at")) == [1, 2]


def test_not_null_of_a_domain_does_not_hold_for_an_outer_join(postgresql):
    prepared(
        postgresql,
        "CREATE DOMAIN moment AS timestamptz NOT NULL",
        "CREATE TABLE stamps (id int, at moment)",
        "CREATE VIEW t AS SELECT n AS id, at FROM generate_series(1, 2) AS n LEFT JOIN stamps ON id = n",
    )
    assert offered(postgresql).schema.field("at").nullable
    assert sorted(row["id"] for row in rows(postgresql, incremental_key="at")) == [1, 2]


def test_policies_of_a_partition_do_not_hide_what_its_table_shows(postgresql):
    prepared(
        postgresql,
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY LIST (id)",
        "CREATE TABLE leaf PARTITION OF t FOR VALUES IN (1)",
        "INSERT INTO t VALUES (1)",
        "ALTER TABLE leaf ENABLE ROW LEVEL SECURITY",
        "CREATE ROLE reader LOGIN",
        "GRANT SELECT ON t, leaf TO reader",
    )
    try:
        assert rows(postgresql.replace("postgres@", "reader@")) == [{"id": 1}]
    finally:
        prepared(postgresql, "DROP OWNED BY reader", "DROP ROLE reader")


def test_sizes_are_counted_once_and_unknown_is_not_zero(postgresql, session):
    prepared(
        postgresql,
        "CREATE TABLE parts (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (500)",
        "CREATE TABLE high PARTITION OF parts FOR VALUES FROM (500) TO (1001)",
        "INSERT INTO parts SELECT generate_series(1, 1000)",
        "ANALYZE parts",
        "CREATE TABLE fresh (id int)",
    )
    found = {one.name: one for one in relations(session, ["public"])}
    assert found["parts"].rows_estimated == 1000
    assert found["fresh"].rows_estimated == -1
    stored = leaves(session, found["parts"].oid)
    assert [one.name for one in stored] == ["low", "high"]
    assert found["parts"].bytes_estimated == sum(one.pages for one in stored) * 8192


def test_about_how_many_rows_there_are_is_told_where_all_are_read(postgresql):
    prepared(postgresql, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 1000)")
    assert offered(postgresql).rows_about is None
    prepared(postgresql, "ANALYZE t")
    assert offered(postgresql).rows_about == 1000
    assert offered(postgresql, where="id < 7").rows_about is None


def test_only_an_index_that_orders_all_rows_by_a_column_counts(postgresql, session):
    prepared(
        postgresql,
        "CREATE TABLE t (a int, b int, c int, d int, e int)",
        "CREATE INDEX ON t (a, b)",
        "CREATE INDEX ON t USING hash (c)",
        "CREATE INDEX ON t (d) WHERE d > 0",
        "CREATE INDEX ON t ((e + 1))",
    )
    (found,) = relations(session, ["public"])
    assert found.indexed == {"a"}


@pytest.mark.parametrize(
    "name", ['a"b', "x; DROP TABLE t; --", "back\\slash", "Grüße 😀", "{braces} %s", "line\nbreak"]
)
def test_any_name_is_quoted(postgresql, session, name):
    prepared(postgresql, f"CREATE TABLE t ({quote(name)} int)", "INSERT INTO t VALUES (1)")
    (found,) = relations(session, ["public"])
    assert found.columns[0].name == name
    assert rows(postgresql) == [{name: 1}]


@pytest.mark.parametrize("conforming", ["on", "off"])
@pytest.mark.parametrize("value", ["", "it's", "\\", "\\'; DROP TABLE t; --", "a\\nb", "😀\n", "{0} %s $1"])
def test_any_string_is_a_literal(session, value, conforming):
    session.run(f"SELECT set_config('standard_conforming_strings', '{conforming}', false)")
    assert session.row(f"SELECT {literal(value)}::text AS v")["v"] == value


def connections(uri):
    """How many there are once no more of them end."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(uri, autocommit=True) as connection:
        counts = [None, *(connection.execute(query).fetchone()[0] for _ in range(2))]
        while counts[-1] != counts[-2] or counts[-1] != counts[-3]:
            time.sleep(0.2)  # a server process ends a moment after its connection
            counts.append(connection.execute(query).fetchone()[0])
    return counts[-1]


def pid(session):
    return session.row("SELECT pg_backend_pid() AS pid")["pid"]


class TestConnections:
    def test_the_next_session_uses_a_connection_again(self, postgresql):
        server = Server(postgresql, connections_max=1)
        with server.session() as one:
            first = pid(one)
        with server.session() as one:
            assert pid(one) == first
        server.close()

    def test_no_connection_is_used_again_after_an_error(self, postgresql):
        server = Server(postgresql, connections_max=2)
        with server.session() as one, server.session() as other:
            before = {pid(one), pid(other)}
        with pytest.raises(TaskError), server.session() as one:
            one.run("SELECT 1 / 0")
        with server.session() as one:
            assert pid(one) not in before
            assert connections(postgresql) == 1
        server.close()

    def test_no_connection_is_left_when_a_source_is_closed(self, postgresql):
        prepared(postgresql, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
        read = source(postgresql)
        (task,) = read.tasks(read.tables())
        assert list(read.read(task, Reading(None, datetime.now(UTC))))
        assert connections(postgresql) == 1
        read.close()
        assert connections(postgresql) == 0
