"""What can happen to a PostgreSQL table between two syncs, or within one: each a test, from the source into each mode."""

import hashlib
import os
import shutil
import time

import psycopg
import pytest
from places import in_turn
from postgresql_origin import AT_ONCE, EACH, TABLE, Origin, fill, meanwhile

from services.postgresql import PostgreSQLServer
from strandline.connectors.postgresql.server import Session
from strandline.errors import RetryableError, UsageError
from strandline.message import Checkpoint, Insert

MODES = ("append", "overwrite", "overwrite-delete-stale")


@pytest.fixture(params=MODES)
def shop(request, postgresql):
    return Origin(postgresql, request.param)


@pytest.fixture
def mirror(postgresql):
    return Origin(postgresql, "overwrite-delete-stale")


@pytest.fixture
def own_server():
    server = PostgreSQLServer().create()
    yield server
    server.remove()


# what an incremental read sees ---------------------------------------------------------------------------------------


def test_changes_are_seen_without_any_column_that_shows_them(shop):
    shop.execute(TABLE, fill(1, 5))
    assert shop.report().rows_read == 5
    assert shop.report().rows_read == 0
    shop.execute("UPDATE t SET v = 'w' WHERE id = 2", "INSERT INTO t VALUES (6, NULL)", "DELETE FROM t WHERE id = 5")
    report = shop.report()
    assert report.rows_read == 2
    kept = {
        "append": [(1, "v"), (2, "v"), (2, "w"), (3, "v"), (4, "v"), (5, "v"), (6, None)],
        "overwrite": [(1, "v"), (2, "w"), (3, "v"), (4, "v"), (5, "v"), (6, None)],
        "overwrite-delete-stale": [(1, "v"), (2, "w"), (3, "v"), (4, "v"), (6, None)],
    }
    assert shop.rows("id", "v") == kept[shop.mode.value]
    assert shop.report().rows_read == 0


def test_while_nothing_happens_on_the_server_its_tables_are_not_read(postgresql, monkeypatch):
    shop, asked, read = Origin(postgresql, "append"), [], Session.read
    monkeypatch.setattr(Session, "read", lambda self, sql, **more: asked.append(sql) or read(self, sql, **more))

    def is_read():
        asked.clear()
        shop.sync()
        return any("FROM ONLY" in sql for sql in asked)

    shop.execute(TABLE, fill(1, 3))
    assert is_read()
    assert not all(is_read() for _ in range(20))  # an autovacuum is something, too
    with psycopg.connect(postgresql) as other:
        other.execute("INSERT INTO t VALUES (4, 'v')")
        assert not all(is_read() for _ in range(20))
    assert shop.report().rows_read == 1
    assert shop.ids() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("tables", "spares"), [({}, True), ({"t": {"where": "id > 1"}}, False)], ids=["all rows", "a filter"]
)
def test_while_nothing_happens_on_the_server_no_key_is_compared(mirror, monkeypatch, tables, spares):
    asked, read = [], Session.read
    monkeypatch.setattr(Session, "read", lambda self, sql, **more: asked.append(sql) or read(self, sql, **more))
    mirror.tables = tables

    def compares():
        asked.clear()
        mirror.sync()
        return any(sql.startswith('SELECT t."id" AS "id" FROM') for sql in asked)

    mirror.execute(TABLE, fill(1, 4))
    assert compares()
    assert all(compares() for _ in range(10)) is not spares  # an autovacuum is something, too
    with psycopg.connect(mirror.uri) as other:
        other.execute("DELETE FROM t WHERE id = 3")
        assert all(compares() for _ in range(10)) is not spares
    assert compares()
    assert 3 not in mirror.ids()


@pytest.mark.parametrize("mode", ["overwrite", "overwrite-delete-stale"])
def test_a_row_that_a_pass_over_everything_spared_goes_though_nothing_happens(postgresql, mode):
    shop = Origin(postgresql, mode)
    shop.tables = {"t": {"deletes": "sweep"}}
    shop.execute(TABLE, fill(1, 4))
    shop.sync()
    shop.sync()
    shop.execute("ALTER TABLE t DROP v", "ALTER TABLE t ADD v text", "DELETE FROM t WHERE id = 3")
    shop.sync()  # what the rows depended on is another, so it reads everything and sweeps nothing
    assert shop.ids() == [1, 2, 3, 4]
    for _ in range(2):
        shop.sync()
    assert shop.ids() == [1, 2, 4]


@pytest.mark.parametrize("tables", [{}, {"t": {"incremental_key": "id"}}], ids=["xid", "key"])
def test_a_first_load_looks_for_younger_rows_only_if_something_happened_meanwhile(postgresql, monkeypatch, tables):
    asked, read = [], Session.read
    monkeypatch.setattr(Session, "read", lambda self, sql, **more: asked.append(sql) or read(self, sql, **more))
    Origin(postgresql, "append").execute(TABLE, fill(1, 3))

    def looks():
        asked.clear()
        shop = Origin(postgresql, "append")
        shop.tables = tables
        shop.sync()
        assert shop.ids() == [1, 2, 3]
        return sum(' AS "v"' in sql for sql in asked)

    assert min(looks() for _ in range(10)) == 1  # an autovacuum is something, too


def test_hole_f_a_deleted_row_goes_in_the_same_sync_also_by_key(mirror):
    mirror.tables = {"t": {"incremental_key": "id", "deletes": "sweep"}}
    mirror.execute(TABLE, fill(1, 5))
    mirror.sync()
    mirror.execute("DELETE FROM t WHERE id IN (2, 4)", fill(6, 6))
    report = mirror.report()
    assert mirror.ids() == [1, 3, 5, 6]
    assert report.rows_read < 5


def test_a_row_that_is_changed_back_is_a_version_of_its_own(postgresql):
    shop = Origin(postgresql, "append")
    shop.execute(TABLE, fill(1, 1, "'a'"))
    with psycopg.connect(postgresql) as busy:
        busy.execute("INSERT INTO t VALUES (99, 'open')")  # so that what is younger is read again
        for v in ("b", "a"):
            shop.execute(f"UPDATE t SET v = '{v}' WHERE id = 1")
            shop.sync()
            shop.sync()
        assert shop.rows("v") == [("a",), ("b",)] or shop.rows("v") == [("a",), ("a",), ("b",)]
    shop.execute("UPDATE t SET v = 'b' WHERE id = 1")
    shop.sync()
    assert [row for row in shop.rows("id", "v") if row[1] == "b"] == [(1, "b"), (1, "b")]


def test_savepoints_and_rolled_back_rows(shop):
    shop.execute(TABLE)
    shop.sync()
    with psycopg.connect(shop.uri) as busy:
        busy.execute(fill(1, 1))
        with busy.transaction():
            busy.execute(fill(2, 2))
        shop.execute(fill(10, 10))
        shop.sync()
        with busy.transaction(force_rollback=True):
            busy.execute(fill(3, 3))
        shop.sync()
        busy.commit()
    shop.sync()
    assert shop.ids() == [1, 2, 10]


@in_turn(rewrite={how: how for how in ("VACUUM (FREEZE) t", "VACUUM FULL t", "CLUSTER t USING t_pkey")})
def test_a_table_that_is_vacuumed_is_not_read_again(shop, rewrite):
    shop.execute(TABLE, fill(1, 100), "UPDATE t SET v = 'w' WHERE id < 50")
    shop.sync()
    shop.execute(rewrite, "INSERT INTO t VALUES (1000, 'new')")
    assert shop.report().rows_read == 1
    assert len(shop.rows("id")) == 101


def test_a_partition_that_is_attached_brings_its_old_rows(shop):
    shop.execute(
        "CREATE TABLE t (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region)",
        "CREATE TABLE t_de PARTITION OF t FOR VALUES IN ('de')",
        "CREATE TABLE t_fr (id int NOT NULL, region text NOT NULL)",
        "INSERT INTO t VALUES (1, 'de')",
        "INSERT INTO t_fr VALUES (2, 'fr')",
    )
    shop.sync()
    shop.execute("INSERT INTO t VALUES (3, 'de')")
    shop.sync()
    shop.execute("ALTER TABLE t ATTACH PARTITION t_fr FOR VALUES IN ('fr')")
    shop.sync()
    assert shop.ids() == [1, 2, 3]
    shop.execute("UPDATE t SET region = 'fr' WHERE id = 1")
    shop.sync()
    kept = [(1, "fr"), (2, "fr"), (3, "de")]
    assert shop.rows("id", "region") == (kept if shop.mode == "overwrite-delete-stale" else sorted([*kept, (1, "de")]))


def test_a_role_that_may_read_the_table_but_not_its_partitions(shop):
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "INSERT INTO t VALUES (1), (2)",
        "CREATE ROLE reader LOGIN",
        "GRANT SELECT ON t TO reader",
    )
    admin = shop.uri
    try:
        shop.uri = admin.replace("postgres@", "reader@")
        shop.sync()
        shop.execute("INSERT INTO t VALUES (3)", uri=admin)
        assert shop.report().rows_read == 1
        assert shop.ids() == [1, 2, 3]
    finally:
        shop.execute("DROP OWNED BY reader", "DROP ROLE reader", uri=admin)


def test_policies_of_a_table_hold_for_what_is_read(shop):
    shop.execute(
        TABLE,
        fill(1, 4),
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY even ON t USING (id % 2 = 0)",
        "CREATE ROLE reader LOGIN",
        "GRANT SELECT ON t TO reader",
    )
    admin = shop.uri
    try:
        shop.uri = admin.replace("postgres@", "reader@")
        shop.sync()
        shop.execute(fill(5, 8), uri=admin)
        shop.sync()
        assert shop.ids() == [2, 4, 6, 8]
    finally:
        shop.execute("DROP OWNED BY reader", "DROP ROLE reader", uri=admin)


# while it is read ----------------------------------------------------------------------------------------------------


@in_turn(at={at: at for at in (0, 1, 2, 5)}, at_once=AT_ONCE)
def test_rows_that_move_during_the_first_load_are_neither_missed_nor_doubled(shop, at, at_once):
    shop.slice_pages, shop.at_once = 1, at_once
    shop.execute(TABLE, fill(1, 60, "repeat('x', 900)"))

    def change():
        shop.execute("UPDATE t SET v = 'moved' WHERE id % 3 = 0", fill(101, 110), "DELETE FROM t WHERE id = 50")

    shop.sync(source=meanwhile(shop, at, change))
    shop.sync()
    assert set(shop.ids()) >= {*range(1, 50), *range(51, 61), *range(101, 111)}
    moved = [id_ for id_, v in shop.rows("id", "v") if v == "moved"]
    assert moved == list(range(3, 61, 3))
    if shop.mode != "append":
        assert len(shop.ids()) == len(set(shop.ids()))
    versions = shop.rows("id", "v")
    assert len(versions) == len(set(versions))


@EACH
def test_a_full_read_has_every_row_that_was_there_all_the_time(mirror, at_once):
    mirror.slice_pages, mirror.at_once = 1, at_once
    mirror.tables = {"t": {"mode": "full"}}
    mirror.execute(TABLE, fill(1, 60, "repeat('x', 900)"))
    mirror.sync()
    source = meanwhile(mirror, 3, lambda: mirror.execute("UPDATE t SET v = 'moved' WHERE id > 20"))
    mirror.sync(source=source)
    assert mirror.ids() == list(range(1, 61))


def test_a_rewrite_during_the_first_load(shop):
    shop.slice_pages = 1
    shop.execute(TABLE, fill(1, 60, "repeat('x', 900)"), "DELETE FROM t WHERE id % 2 = 0")

    def rewrite_and_fail():
        shop.execute("VACUUM FULL t")
        raise RetryableError("the connection was lost")

    source = meanwhile(shop, 4, rewrite_and_fail)
    if shop.mode == "append":
        report = shop.sync(source=source, code=1)
        assert "--full-refresh" in report.tasks[0].error.hint
        shop.sync(refresh=lambda task: True)
    else:
        shop.sync(source=source)
    assert shop.ids() == list(range(1, 61, 2))


@in_turn(at_once=AT_ONCE)
def test_a_first_load_goes_on_at_the_page_where_it_was(shop, at_once):
    shop.slice_pages, shop.at_once = 1, at_once
    shop.execute(TABLE, fill(1, 200, "repeat('x', 900)"))
    source = shop.source()
    read, messages = source.read, []

    def failing(task, reading):
        for message in read(task, reading):
            yield message
            messages.append(message)
            if len(messages) == 30:
                raise RetryableError("the connection was lost")

    source.read = failing
    report = shop.sync(source=source, rows_max=10).tasks[0]
    assert report.rows_read == 200
    assert sum(message.batch.num_rows for message in messages if isinstance(message, Insert)) <= 220
    assert sum(isinstance(message, Checkpoint) for message in messages) > 20
    assert shop.ids() == list(range(1, 201))


def test_a_table_that_is_locked_makes_the_sync_wait_and_try_again_not_skip(mirror):
    mirror.settings = {"lock_timeout": "1s"}
    mirror.execute(TABLE, fill(1, 3))
    with psycopg.connect(mirror.uri) as ddl:
        ddl.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        report = mirror.sync(code=1)
        assert "lock" in report.tasks[0].error.message
        ddl.rollback()
    mirror.sync()
    assert mirror.ids() == [1, 2, 3]


# another server ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"incremental_key": "id", "settle": "off"}], ids=["xid", "key"])
def test_a_standby_that_was_promoted_is_read_anew(own_server, settings):
    primary = own_server
    primary.execute(TABLE)
    primary.execute(fill(1, 5))
    standby = primary.standby()
    try:
        for mode in MODES[1:]:
            origin = Origin(primary.uri(), mode)
            origin.tables = {"t": settings}
            origin.sync()
            origin.sync()
            origin.uri = standby.uri()
            if mode == MODES[1]:
                standby.execute("SELECT pg_promote()")
                standby.execute("INSERT INTO t VALUES (6, 'after')")
                standby.execute("DELETE FROM t WHERE id = 1")
            report = origin.report()
            assert any("failed over" in warning for warning in report.warnings)
            assert origin.ids() == [1, 2, 3, 4, 5, 6], "the sync that notices it deletes nothing"
            assert not origin.report().warnings
            expected = [1, 2, 3, 4, 5, 6] if mode == "overwrite" else [2, 3, 4, 5, 6]
            assert origin.ids() == expected
        origin = Origin(primary.uri(), "append")
        origin.tables = {"t": settings}
        origin.sync()
        origin.uri = standby.uri()
        assert "--full-refresh" in origin.sync(code=1).tasks[0].error.hint
        origin.sync(refresh=lambda task: True)
        assert origin.ids() == [2, 3, 4, 5, 6]
    finally:
        standby.remove()


def test_a_server_put_back_by_a_copy_of_its_disk_is_read_anew(own_server):
    origin = Origin(own_server.uri(), "overwrite-delete-stale")
    own_server.execute(TABLE)
    own_server.execute(fill(1, 5))
    own_server.stop()
    kept = own_server._root / "kept"
    shutil.copytree(own_server._data, kept)
    _own(kept, own_server._data)
    own_server.start()
    for number in range(6, 16):
        own_server.execute(f"INSERT INTO t VALUES ({number}, 'lost')")
    origin.sync()
    origin.sync()
    own_server.stop()
    shutil.rmtree(own_server._data)
    kept.rename(own_server._data)
    own_server.start()
    own_server.execute("INSERT INTO t VALUES (100, 'after')")
    report = origin.report(share_max=None)
    assert any("restored" in warning for warning in report.warnings)
    assert origin.ids() == [*range(1, 16), 100], "the sync that notices it deletes nothing"
    origin.report(share_max=None)
    assert origin.ids() == [1, 2, 3, 4, 5, 100]


def _own(folder, like):
    for one in (folder, *folder.rglob("*")):
        os.chown(one, like.stat().st_uid, like.stat().st_gid)
    folder.chmod(0o700)


def test_reading_from_a_standby(own_server):
    own_server.execute(TABLE.replace("v text", "v text, at timestamptz DEFAULT now()"))
    standby = own_server.standby()
    try:
        by_xid = Origin(standby.uri(), "append")
        capped = Origin(standby.uri(), "append", primary_connection_string=own_server.uri())
        capped.tables = {"t": {"incremental_key": "at", "margin": "0"}}
        with psycopg.connect(own_server.uri()) as late:
            late.execute("INSERT INTO t VALUES (1, 'late')")
            own_server.execute("INSERT INTO t VALUES (2, 'soon')")
            _replayed(own_server, standby)
            for origin in (by_xid, capped):
                origin.sync()
                assert origin.ids() == [2]
            late.commit()
        own_server.execute("INSERT INTO t VALUES (3, 'last')")
        _replayed(own_server, standby)
        for origin in (by_xid, capped):
            origin.sync()
            origin.sync()
            assert origin.ids() == [1, 2, 3]
        alone = Origin(standby.uri(), "append")
        for key in ("at", "id"):
            alone.tables = {"t": {"incremental_key": key}}
            with pytest.raises(UsageError, match="standby"):
                list(alone.source().tasks(alone.source().tables()))
    finally:
        standby.remove()


def _replayed(primary, standby):
    (lsn,) = primary.execute("SELECT pg_current_wal_insert_lsn()")[0]
    deadline = time.monotonic() + 30
    while not standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'")[0][0]:
        assert time.monotonic() < deadline, "the standby does not follow"


def test_a_server_that_is_stopped_and_started_between_two_syncs(own_server):
    origin = Origin(own_server.uri(), "append")
    own_server.execute(TABLE)
    own_server.execute(fill(1, 3))
    origin.sync()
    own_server.crash()
    assert origin.sync(code=5)
    own_server.start()
    own_server.execute(fill(4, 5))
    origin.sync()
    assert origin.ids() == [1, 2, 3, 4, 5]


@in_turn(at_once=AT_ONCE)
def test_a_connection_that_is_killed_while_it_reads_is_made_again(shop, at_once):
    shop.slice_pages, shop.at_once = 1, at_once
    shop.execute(TABLE, fill(1, 200, "repeat('x', 900)"))
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'strandline %'"
    shop.sync(source=meanwhile(shop, 9, lambda: shop.execute(kill)))
    assert shop.ids() == list(range(1, 201))


# settings ------------------------------------------------------------------------------------------------------------


def test_a_table_without_a_primary_key_is_mirrored_by_reading_it_in_full(mirror):
    mirror.execute("CREATE TABLE t (id int, v text)", fill(1, 3), fill(1, 3))
    mirror.sync()
    mirror.execute(
        "DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE id = 1 LIMIT 1)", "UPDATE t SET v = 'w' WHERE id = 2"
    )
    report = mirror.report(share_max=None)
    assert report.guarantee == "full read"
    assert mirror.ids() == [1, 2, 2, 3, 3]


def test_a_log_without_a_key_is_appended_to_when_asked(postgresql):
    shop = Origin(postgresql, "append")
    shop.tables = {"t": {"settle": "xid"}}
    shop.execute("CREATE TABLE t (id int, v text)", fill(1, 3), fill(1, 3))
    shop.sync()
    shop.execute(fill(3, 4), fill(3, 4))
    assert shop.report().rows_read == 4
    shop.sync()
    assert shop.ids() == [1, 1, 2, 2, 3, 3, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"incremental_key": "nope"}, "no column 'nope'"),
        ({"settle": "cap"}, "needs an `incremental_key`"),
        ({"settle": "xid", "incremental_key": "id"}, "needs no `incremental_key`"),
        ({"settle": "cap", "incremental_key": "id"}, "is a time"),
        ({"lag": "5m", "incremental_key": "id"}, "is a time"),
        ({"lag": "5m"}, "`incremental_key`"),
        ({"incremental_key": "local"}, "timezone"),
        ({"incremental_key": "local", "timezone": "Mars/Base"}, "Mars/Base"),
        ({"incremental_key": "doc"}, "no order"),
        ({"where": "id >"}, "where"),
        ({"where": "id > 1) OR (true"}, "where"),
        ({"columns": ["id", "vv"]}, "'vv'"),
        ({"mask": {"vv": "hash"}}, "'vv'"),
        ({"mask": {"id": "null"}}, "primary key"),
        ({"incremental_key": "id", "mask": {"id": "hash"}}, "masked"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_refused_in_words(postgresql, settings, said):
    origin = Origin(postgresql)
    origin.execute("CREATE TABLE t (id int PRIMARY KEY, v text, local timestamp, doc jsonb)")
    origin.tables = {"t": settings}
    with pytest.raises(UsageError, match=said) as caught:
        list(origin.source().tasks(origin.source().tables()))
    assert caught.value.hint


def test_columns_a_filter_and_a_start(shop):
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v text, secret text)",
        "INSERT INTO t VALUES (1, '2020-01-01', 'old', 's'), (2, '2026-01-01', 'kept', 's'), (3, NULL, 'null', 's')",
        "INSERT INTO t VALUES (4, '2026-01-01', 'left out', 's')",
    )
    shop.tables = {
        "t": {"incremental_key": "at", "start": "2025-01-01", "where": "v <> 'left out' -- note", "columns": ["v"]}
    }
    shop.sync()
    shop.execute("INSERT INTO t VALUES (5, '2026-01-02', 'new', 's'), (6, '2019-01-01', 'older', 's')")
    shop.sync()
    assert shop.rows("id", "v") == [(2, "kept"), (3, "null"), (5, "new")]
    assert "secret" not in {name for name, *_ in shop.source().tables()[0].schema.to_string().split(":")}


def test_masked_values_do_not_leave_the_server(shop):
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, mail text, born date, v text)",
        "INSERT INTO t VALUES (1, 'ann@example.com', '1990-01-01', 'a'), (2, NULL, NULL, 'b')",
    )
    shop.tables = {"t": {"mask": {"mail": "hash", "born": "null"}}}
    shop.sync()
    hashed = hashlib.sha256(b"ann@example.com").hexdigest()
    assert shop.rows("id", "mail", "born", "v") == [(1, hashed, None, "a"), (2, None, None, "b")]


@pytest.mark.parametrize("nulls", ["exclude", "fail"])
def test_rows_without_a_key_by_policy(mirror, nulls):
    mirror.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz)", "INSERT INTO t VALUES (1, now()), (2, NULL)")
    mirror.tables = {"t": {"incremental_key": "at", "nulls": nulls}}
    if nulls == "fail":
        assert "NULL" in mirror.sync(code=1).tasks[0].error.message
    else:
        report = mirror.report()
        assert mirror.ids() == [1]
        assert any("1 row" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {},
            (
                "a scan of the table, about 2 MB; "
                "no row is read and no key compared where no transaction has ended on the server since the last sync"
            ),
        ),
        ({"incremental_key": "at"}, "an index on 'at'"),
        ({"incremental_key": "id"}, "an index on 'id'"),
        ({"incremental_key": "n"}, "a scan of the table, about 2 MB: 'n' has no index"),
    ],
    ids=str,
)
def test_a_plan_says_how_changes_are_found(mirror, settings, said):
    mirror.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, n int)",
        "CREATE INDEX ON t (at)",
        "INSERT INTO t SELECT i, now(), i FROM generate_series(1, 40000) AS n(i)",
        "ANALYZE t",
    )
    mirror.tables = {"t": settings}
    assert [table.access for table in mirror.source().tables()] == [said]


def test_a_table_of_another_schema_has_both_names(mirror):
    mirror.execute("CREATE SCHEMA sales", "CREATE TABLE sales.t (id int PRIMARY KEY)", "INSERT INTO sales.t VALUES (1)")
    mirror.settings = {"schemas": ["public", "sales"]}
    mirror.tables = {"sales.t": {"incremental_key": "id"}}
    mirror.sync()
    assert mirror.ids("sales_t") == [1]
