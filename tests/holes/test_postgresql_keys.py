"""Keys that do not tell rows apart, or what is younger: rows would be merged or passed over, and nobody would know."""

from contextlib import closing

import pytest
from places import in_turn
from postgresql_origin import Origin

from strandline.connectors.sql.key_times import IDS_MIN
from strandline.errors import UsageError

YEAR_2026, YEAR_3000 = 1_767_225_600, 32_503_680_000
BY_K = {"incremental_key": "k"}


@pytest.fixture(params=("append", "overwrite", "overwrite-delete-stale"))
def shop(request, postgresql):
    return Origin(postgresql, request.param)


@pytest.fixture
def mirror(postgresql):
    return Origin(postgresql, "overwrite-delete-stale")


def warnings(shop, **more):
    return shop.report(**more).warnings


def refused(shop):
    with closing(shop.source()) as source:
        errors = [table.unreadable for table in source.tables() if table.unreadable is not None]
    assert [type(error) for error in errors] == [UsageError]
    return errors[0]


# primary keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    ["CREATE TABLE t (a int, v text)", "CREATE TABLE b (a int, v text); CREATE VIEW t AS SELECT * FROM b"],
    ids=["table", "view"],
)
def test_rows_that_share_a_primary_key_are_counted(mirror, make):
    mirror.tables = {"t": {"primary_key": ["a"]}}
    name = "b" if "VIEW" in make else "t"
    mirror.execute(
        *make.split(";"), f"INSERT INTO {name} VALUES (1, 'x'), (1, 'y'), (1, 'z'), (2, 'z'), (3, 'x'), (3, 'y')"
    )
    said = " ".join(warnings(mirror))
    assert "(a) is not unique" in said
    assert "5 rows share 2 keys" in said


def test_equal_texts_decide_as_they_do_at_the_destination(postgresql):
    first, second = Origin(postgresql, "overwrite"), Origin(postgresql, "overwrite")
    first.tables, second.tables = {"t": {"primary_key": ["a"]}}, {"t": {"primary_key": ["a", "b"]}}
    first.execute("CREATE TABLE t (a numeric, b json)", "INSERT INTO t VALUES (1.0, '1'), (1.00, '2')")
    assert "2 rows share 1 key" in warnings(first)[0]
    assert not warnings(second)


def test_nothing_is_said_of_a_key_that_an_index_makes_unique_or_of_rows_that_are_appended(mirror, postgresql):
    mirror.tables = {"t": {"primary_key": ["b", "a"]}}
    mirror.execute("CREATE TABLE t (a int NOT NULL UNIQUE, b int NOT NULL)", "INSERT INTO t VALUES (1, 1), (2, 1)")
    assert not warnings(mirror)
    appends = Origin(postgresql, "append")
    appends.tables = {"t": {"primary_key": ["b"]}}
    assert not warnings(appends)
    assert appends.rows("a", "b") == [(1, 1), (2, 1)]


def test_an_index_that_covers_some_rows_makes_no_key(mirror):
    mirror.tables = {"t": {"primary_key": ["a"]}}
    mirror.execute(
        "CREATE TABLE t (a int NOT NULL, v int)",
        "CREATE UNIQUE INDEX ON t (a) WHERE v > 0",
        "INSERT INTO t VALUES (1, 0), (1, 0)",
    )
    assert "2 rows share 1 key" in warnings(mirror)[0]


def test_floats_are_no_primary_key(mirror):
    mirror.tables = {"t": {"primary_key": ["k"]}}
    mirror.execute("CREATE TABLE t (k float8 PRIMARY KEY, v text)", "INSERT INTO t VALUES (0.1, 'a'), (0.2, 'b')")
    assert "tell no rows apart" in refused(mirror).message
    mirror.tables = {}
    report = mirror.report()
    assert "floats" in report.limits
    assert len(mirror.rows("v")) == 2


# types of incremental keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "time", "timetz", "interval", "boolean", "mood", "jsonb", "json", "xml", "bytea", "inet", "cidr", "macaddr", "int4range",
        "int[]", "pair", "bit(3)", "money", "point", "float4", "float8", "tsvector", "oid",
    ],
)  # fmt: skip
def test_a_type_without_an_order_of_change_is_refused(mirror, kind):
    mirror.tables = {"t": BY_K}
    mirror.execute(
        "CREATE TYPE mood AS ENUM ('glad', 'sad')", "CREATE TYPE pair AS (a int, b int)", f"CREATE TABLE t (k {kind})"
    )
    error = refused(mirror)
    assert "'k'" in error.message
    assert "leave `incremental_key` out" in error.hint


@pytest.mark.parametrize(
    "values",
    [("8", "9"), ("a", "b"), ("2026-01-01 00:00", "2026-01-02 00:00"), ("01JGZ3NDEKTSV4RRFFQ69G5FAV", "9")],
    ids=["ids", "words", "times with separators", "not all of one form"],
)
def test_texts_without_an_order_of_change_fail(shop, values):
    shop.tables = {"t": BY_K}
    shop.execute("CREATE TABLE t (k text PRIMARY KEY)", *(f"INSERT INTO t VALUES ('{one}')" for one in values))
    (task,) = shop.sync(code=1).tasks
    assert "order of change" in task.error.message
    assert "by xid" in task.error.hint


def test_a_text_of_another_form_that_comes_later_fails(shop):
    shop.tables = {"t": BY_K}
    shop.execute("CREATE TABLE t (k text PRIMARY KEY)", "INSERT INTO t VALUES ('01JGZ3NDEKTSV4RRFFQ69G5FAV')")
    shop.sync()
    shop.execute("INSERT INTO t VALUES ('01JGZ3NDEKTSV4RRFFQ69G5FAW'), ('9')")
    shop.sync(code=1)


def test_random_uuids_fail_and_those_that_begin_with_a_time_are_read(shop):
    shop.tables = {"t": BY_K}
    ordered = "INSERT INTO t SELECT ('0194b7c0-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, i FROM generate_series({}, {}) AS n(i)"
    shop.execute("CREATE TABLE t (k uuid PRIMARY KEY, id int)", ordered.format(1, 5))
    shop.sync()
    shop.execute(ordered.format(6, 9))
    shop.sync()
    shop.sync()
    assert shop.ids() == list(range(1, 10))
    shop.execute("INSERT INTO t VALUES ('f47ac10b-58cc-4372-a567-0e02b2c3d479', 10)")
    shop.sync(code=1)


# times by their values -----------------------------------------------------------------------------------------------

TIMES = {
    "seconds": ("bigint", "{}"),
    "milliseconds": ("bigint", "{}000"),
    "microseconds": ("bigint", "{}000000"),
    "nanoseconds": ("numeric", "{}000000000"),
    "fractions": ("numeric(20, 3)", "{}.123"),
    "texts": ("text", "'{}000'"),
}


@in_turn(time=TIMES)
def test_one_row_dated_into_the_future_hides_no_later_row(shop, time):
    kind, value = time
    if kind == "text":
        early, future = 1_767_225_600, 9_999_999_999
    else:
        early, future = YEAR_2026, 9_000_000_000 if "nano" in value or value.endswith("000000000") else YEAR_3000
    insert = "INSERT INTO t VALUES ({}, " + value + ")"
    shop.tables = {"t": BY_K}
    shop.execute(f"CREATE TABLE t (id int PRIMARY KEY, k {kind})", insert.format(1, early), insert.format(2, future))
    shop.sync()
    for id_ in (3, 4, 5):
        shop.execute(insert.format(id_, early + id_))
        shop.sync()
    shop.sync()
    assert shop.ids() == [1, 2, 3, 4, 5]
    assert str(early + 5) in shop.report().cursor_to["height"]


def test_days_that_are_packed_into_numbers_hide_no_later_row(shop):
    shop.tables = {"t": BY_K}
    shop.execute("CREATE TABLE t (id int PRIMARY KEY, k int)", "INSERT INTO t VALUES (1, 20260101), (2, 29991231)")
    shop.sync()
    shop.execute("INSERT INTO t VALUES (3, 20260102)")
    shop.sync()
    assert shop.ids() == [1, 2, 3]


def test_ids_that_are_large_are_not_read_again(shop):
    """A sequence that has come all the way is no time, whatever its column is called."""
    shop.tables = {"t": {"incremental_key": "created_at"}}
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, created_at bigint)",
        f"INSERT INTO t SELECT i, i FROM generate_series(1, {IDS_MIN}) AS n(i)",
        f"INSERT INTO t VALUES (1000, {YEAR_3000}), (1001, {YEAR_3000 + 1})",
    )
    shop.sync()
    assert shop.report().rows_read <= 1
    assert shop.report().cursor_to["height"] == str(YEAR_3000 + 1)


def test_where_nothing_is_promised_the_future_is_kept_out_too(shop):
    shop.tables = {"t": {"incremental_key": "k", "settle": "off"}}
    shop.execute("CREATE TABLE t (id int PRIMARY KEY, k bigint)", f"INSERT INTO t VALUES (1, {YEAR_3000})")
    shop.sync()
    shop.execute(f"INSERT INTO t VALUES (2, {YEAR_2026})")
    shop.sync()
    assert shop.ids() == [1, 2]
