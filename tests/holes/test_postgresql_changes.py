"""What owners of a PostgreSQL database do to a table between two syncs, or in the middle of one: found by a sceptic."""

import psycopg
import pytest
from places import in_turn
from postgresql_origin import AT_ONCE, ATTACH, BIG, PARTITIONED, TABLE, Origin, fill, meanwhile

from strandline.errors import RetryableError, TaskError

MODES = ("append", "overwrite", "overwrite-delete-stale")


@pytest.fixture(params=MODES)
def shop(request, postgresql):
    return Origin(postgresql, request.param)


@pytest.fixture
def reader(shop):
    """A role that owns nothing; its connection string."""
    admin = shop.uri
    shop.execute("CREATE ROLE reader LOGIN")
    yield admin.replace("postgres@", "reader@")
    shop.execute("DROP OWNED BY reader", "DROP ROLE reader", uri=admin)


@in_turn(
    how={how: how for how in ("VACUUM FULL t", "CLUSTER t USING t_pkey")},
    settings={"xid": {}, "key": {"incremental_key": "id"}},
)
def test_a_table_is_rewritten_between_two_slices(shop, how, settings):
    shop.slice_pages, shop.tables = 1, {"t": settings}
    shop.execute(TABLE, fill(1, 60, BIG), "DELETE FROM t WHERE id % 2 = 0")
    source = meanwhile(shop, 8, lambda: shop.execute(how))
    if shop.mode == "append":
        shop.sync(source=source, rows_max=5, code=1)  # it says so, and never goes on from a page that moved
        shop.sync(refresh=lambda task: True)
    else:
        shop.sync(source=source, rows_max=5)
    shop.sync()
    assert shop.ids() == list(range(1, 61, 2))


@in_turn(at_once=AT_ONCE)
def test_a_full_read_that_was_interrupted_begins_again_after_a_rewrite(shop, at_once):
    """Also where it appends: every full read does so, and promises no row once."""
    shop.slice_pages, shop.at_once, shop.tables = 1, at_once, {"t": {"mode": "full"}}
    shop.execute(TABLE, fill(1, 60, BIG), "DELETE FROM t WHERE id % 2 = 0")

    def fail():
        raise TaskError("killed")

    shop.sync(source=meanwhile(shop, 8, fail), rows_max=5, code=1)
    shop.execute("VACUUM FULL t")
    shop.sync(rows_max=5)
    shop.sync()
    assert sorted(set(shop.ids())) == list(range(1, 61, 2))


@in_turn(at_once=AT_ONCE)
def test_a_full_refresh_that_was_interrupted_begins_again_after_a_rewrite(shop, at_once):
    """Also where it appends, and the cursor of the table itself is as good as ever."""
    shop.execute(TABLE, fill(1, 60, BIG), "DELETE FROM t WHERE id % 2 = 0")
    shop.sync()
    shop.slice_pages, shop.at_once = 1, at_once

    def fail():
        raise TaskError("killed")

    shop.sync(source=meanwhile(shop, 8, fail), rows_max=5, code=1, refresh=lambda task: True)
    assert shop.ids() == list(range(1, 61, 2))
    shop.execute("VACUUM FULL t", fill(101, 101))
    report = shop.sync(rows_max=5)
    assert any("beginning the full refresh again" in text for text in report.tasks[0].warnings)
    assert shop.ids() == [*range(1, 61, 2), 101]
    assert not [table for table in shop.store._store.data.tables if table.startswith("_cq_refresh")]
    assert shop.report().rows_read == 0


def test_a_rewrite_during_an_incremental_read(shop):
    shop.slice_pages = 1
    shop.execute(TABLE, fill(1, 60, BIG))
    shop.sync()
    shop.execute("UPDATE t SET v = v || 'y' WHERE id > 20")
    shop.sync(source=meanwhile(shop, 2, lambda: shop.execute("VACUUM FULL t")))
    shop.sync()
    assert [id_ for id_, v in shop.rows("id", "v") if v.endswith("y")] == list(range(21, 61))


def test_a_partition_is_made_and_filled_during_the_first_load(shop):
    shop.slice_pages = 1
    shop.execute(*PARTITIONED, fill(1, 60, BIG))
    new = ("CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (100) TO (200)", fill(101, 105))
    shop.sync(source=meanwhile(shop, 2, lambda: shop.execute(*new)))
    shop.sync()
    shop.sync()
    assert shop.ids() == [*range(1, 61), *range(101, 106)]


def test_an_old_partition_is_attached_where_the_role_may_read_only_the_whole(shop, reader):
    admin, shop.uri = shop.uri, reader
    more = ("CREATE TABLE t2 (id int NOT NULL, v text)", fill(101, 103, table="t2"), "GRANT SELECT ON t TO reader")
    shop.execute(*PARTITIONED, fill(1, 3), *more, uri=admin)
    shop.sync()
    shop.execute(fill(4, 4), uri=admin)
    shop.sync()
    shop.execute(ATTACH, uri=admin)
    shop.sync()
    shop.execute("GRANT SELECT ON t1, t2 TO reader", uri=admin)
    shop.sync()
    assert shop.ids() == [1, 2, 3, 4, 101, 102, 103]


def test_an_old_partition_is_attached_to_a_table_that_is_read_by_key(shop):
    shop.tables = {"t": {"incremental_key": "at", "margin": "0"}}
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE t2 (id int NOT NULL, at timestamptz)",
        "INSERT INTO t2 VALUES (101, '2020-01-01')",
        "INSERT INTO t VALUES (1, '2026-01-01'), (2, '2026-01-02')",
    )
    shop.sync()
    shop.execute(ATTACH)
    shop.sync()
    shop.sync()
    assert shop.ids() == [1, 2, 101]


def test_a_partition_that_was_detached_when_its_turn_came_and_is_attached_again(shop):
    shop.slice_pages = 1
    more = ("CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (100) TO (200)", fill(1, 60, BIG), fill(101, 105))
    shop.execute(*PARTITIONED, *more)

    def detach():
        shop.execute("ALTER TABLE t DETACH PARTITION t2")
        raise RetryableError("the connection was lost")

    shop.sync(source=meanwhile(shop, 3, detach), rows_max=5)
    shop.execute(ATTACH)
    shop.sync()
    shop.sync()
    assert shop.ids() == [*range(1, 61), *range(101, 106)]


@pytest.mark.parametrize("settings", [{}, {"incremental_key": "id"}], ids=["xid", "key"])
def test_another_table_takes_the_name(shop, settings):
    shop.tables = {"t": settings}
    shop.execute(TABLE, fill(1, 10), "CREATE TABLE u (LIKE t INCLUDING ALL)", fill(1, 10, "'new'", table="u"))
    shop.sync()
    shop.execute("ALTER TABLE t RENAME TO old", "ALTER TABLE u RENAME TO t")
    shop.sync()
    assert [id_ for id_, v in shop.rows("id", "v") if v == "new"] == list(range(1, 11))


def test_a_log_whose_partitions_have_their_columns_in_another_order(postgresql):
    shop = Origin(postgresql, "append")
    shop.tables = {"t": {"settle": "xid"}}
    shop.execute(
        "CREATE TABLE t (id int, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 (v text, id int)",
        "ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (100)",
    )
    with psycopg.connect(postgresql) as busy:
        busy.execute("CREATE TABLE other (id int)")  # so that what is younger is read again
        shop.execute(fill(1, 3))
        for _ in range(3):
            shop.sync()
        assert shop.ids() == [1, 2, 3]


def test_a_look_back_window_that_is_set_later_doubles_nothing(shop):
    shop.tables = {"t": {"incremental_key": "at"}}
    rows = "INSERT INTO t SELECT i, now() - i * interval '1 minute' FROM generate_series({}, {}) AS n(i)"
    shop.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz)", rows.format(1, 20))
    shop.sync()
    for lag in ("1h", "2h", "10m", "1d"):
        shop.tables = {"t": {"incremental_key": "at", "lag": lag}}
        shop.sync()
        shop.sync()
    assert shop.ids() == list(range(1, 21))


def test_a_key_that_is_no_number_does_not_end_all_reading(shop):
    shop.tables = {"t": {"incremental_key": "k"}}
    shop.execute("CREATE TABLE t (id int PRIMARY KEY, k numeric)", "INSERT INTO t VALUES (1, 1), (2, 'NaN')")
    shop.sync()
    shop.execute("INSERT INTO t VALUES (3, 3)")
    shop.sync()
    shop.sync()
    assert shop.ids() == [1, 2, 3]


def test_a_promise_does_not_begin_where_there_was_none(shop):
    shop.tables = {"t": {"incremental_key": "at", "settle": "off"}}
    shop.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz)", "INSERT INTO t VALUES (1, now())")
    shop.sync()
    shop.tables = {"t": {"incremental_key": "at"}}
    report = shop.sync(code=3)
    assert "--full-refresh" in report.tasks[0].error.hint
    shop.sync(refresh=lambda task: True)
    assert shop.ids() == [1]


def test_a_sweep_removes_nothing_that_another_filter_let_through(postgresql):
    shop = Origin(postgresql, "overwrite-delete-stale")
    shop.tables = {"t": {"mode": "full", "deletes": "sweep"}}
    shop.execute(TABLE, fill(1, 10))
    shop.sync()
    shop.tables = {"t": {"mode": "full", "deletes": "sweep", "where": "id <= 6"}}
    report = shop.report()
    assert any("--full-refresh" in warning for warning in report.warnings)
    assert shop.ids() == list(range(1, 11))
    shop.sync(refresh=lambda task: True)
    assert shop.ids() == list(range(1, 7))
    shop.execute("DELETE FROM t WHERE id = 3")
    shop.sync()
    assert shop.ids() == [1, 2, 4, 5, 6]
