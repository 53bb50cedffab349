"""A sweep of keys shows both sides: what the source has and the destination lacks was lost on the way, whoever lost it."""

from collections import Counter
from contextlib import closing
from datetime import UTC, datetime

import duckdb
import pytest
from places import between
from postgresql_origin import TABLE, Origin, fill

from strandline.message import Insert, Present
from strandline.reading import Reading
from strandline.testing.exact import exact_rows

KINDS = {
    "int2": "-32768, 0, 7",
    "int8": "9223372036854775807, -1",
    "oid": "4294967295, 1",
    "text": "'a', 'A', '', 'it''s \\\\ \"x\"', E'\\\\n'",
    "char(3)": "'a', 'b  '",
    "varchar": "'é', '🙂'",
    "numeric": "1.50, 100000000000000000000.1, -0.001",
    "numeric(12, 3)": "1.5, 100",
    "uuid": "'f47ac10b-58cc-4372-a567-0e02b2c3d479'",
    "bytea": "'\\x00ff', ''",
    "boolean": "true, false",
    "date": "'2026-01-01', '0001-01-01', '0044-03-15 BC', '0001-12-31 BC', '12026-01-01'",
    "time": "'00:00', '23:59:59.999999'",
    "timestamp": "'2026-01-01 00:00:00.000001', '0044-03-15 12:00 BC', '20260-01-01'",
    "timestamptz": "'2026-01-01 00:00:00.000001+02', '0044-03-15 12:00 BC'",
    "interval": "'1 mon 2 days 00:00:00.000003', '-3 days'",
    "mood": "'glad', 'it''s sad'",
    "positive": "1, 2",
    "int[]": "'{1,2}', '{}'",
    "pair": "'(1,x)'",
    "jsonb": "'{\"a\": 1}', '2'",
    "inet": "'10.0.0.1', '10.0.0.0/8'",
    "int4range": "'[1,5)'",
    "bit varying": "B'101'",
}


@pytest.fixture
def mirror(postgresql):
    return Origin(postgresql, "overwrite-delete-stale")


def looked_up(origin):
    """The rows that were read, and those that its keys have found."""
    reading = Reading(None, datetime.now(UTC), mirror=True)
    with closing(origin.source()) as source:
        (task,) = source.tasks([one for one in source.tables() if one.name == "t"])
        messages = list(source.read(task, reading))
        keys = [one.keys for one in messages if isinstance(one, Present)]
        found = [one for some in keys for one in source.read_keys(task, "t", some, reading)]
    return [
        Counter(row for one in some if isinstance(one, Insert) for row in exact_rows(one.batch))
        for some in (messages, found)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_found_by_a_key_of_any_type(mirror, kind):
    mirror.execute(
        "CREATE TYPE mood AS ENUM ('glad', 'it''s sad')",
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
        "CREATE TYPE pair AS (a int, b text)",
        f"CREATE TABLE t (k {kind} PRIMARY KEY, v text)",
        *(f"INSERT INTO t VALUES ({one}, 'v')" for one in KINDS[kind].split(", ") if kind != "jsonb"),
        *([f"INSERT INTO t VALUES ({one}, 'v')" for one in ("'{\"a\": 1}'", "'2'")] if kind == "jsonb" else []),
    )
    read, found = looked_up(mirror)
    assert read
    assert found == read


def test_a_row_is_found_by_several_columns_and_masked_ones(mirror):
    mirror.tables = {"t": {"mask": {"b": "hash"}, "where": "a < 9"}}
    mirror.execute(
        "CREATE TABLE t (a int, b text, v text, PRIMARY KEY (b, a))",
        "INSERT INTO t VALUES (1, 'x', 'v'), (1, 'y', 'v'), (2, 'x', 'v'), (9, 'x', 'v')",
    )
    read, found = looked_up(mirror)
    assert read.total() == 3
    assert found == read


def test_rows_that_were_loaded_again_with_old_stamps_arrive(mirror):
    mirror.tables = {"t": {"incremental_key": "at", "deletes": "sweep"}}
    mirror.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz)",
        "INSERT INTO t SELECT i, timestamptz '2026-01-01' + i * interval '1 day' FROM generate_series(1, 10) AS n(i)",
    )
    mirror.sync()
    mirror.execute("INSERT INTO t VALUES (11, '2025-06-01'), (12, '2025-06-02')")
    report = mirror.report()
    assert any("were missing" in one for one in report.warnings)
    assert mirror.ids() == list(range(1, 13))


@between("postgresql", "duckdb", "overwrite-delete-stale")
def test_a_row_that_was_deleted_at_the_destination_by_hand_comes_back(bench, sync):
    bench.origin.execute(TABLE, fill(1, 6))
    sync()
    with closing(duckdb.connect(str(bench.store.path))) as connection:
        connection.execute("DELETE FROM t WHERE id = 5")
    bench.origin.execute(fill(7, 7))
    assert "1 rows of 't'" in sync().text
    assert [row[0] for row in bench.store.rows()] == list(range(1, 8))
