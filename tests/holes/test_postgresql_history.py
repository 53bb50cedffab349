"""Which transactions and which heaps a PostgreSQL cursor speaks of: partitions that come and go, other servers, crashes."""

import time
from contextlib import closing

import psycopg
import pytest
from postgresql_origin import ATTACH, BIG, PARTITIONED, T2, TABLE, Origin, fill, meanwhile

from services.postgresql import PostgreSQLServer
from strandline.connectors.postgresql import reading as passes
from strandline.engine.task import Retries
from strandline.errors import TaskError
from strandline.message import Checkpoint

MODES = ("append", "overwrite", "overwrite-delete-stale")
WAYS = pytest.mark.parametrize("settings", [{}, {"incremental_key": "id"}], ids=["xid", "key"])
DETACH = "ALTER TABLE t DETACH PARTITION t2"


@pytest.fixture(params=MODES)
def shop(request, postgresql):
    return Origin(postgresql, request.param)


@pytest.fixture
def quiet():
    """A server on which nothing happens by itself."""
    server = PostgreSQLServer("autovacuum = off\n").create()
    yield server
    server.remove()


@pytest.fixture
def pair(quiet):
    """A primary and its standby."""
    quiet.execute(TABLE)
    quiet.execute("CREATE TABLE other (id int)")
    standby = quiet.standby()
    yield quiet, standby
    standby.remove()


def around(monkeypatch, name, number, action, *, after=False):
    """Do something at the n-th call of a function that looks at the server."""
    real, calls = getattr(passes, name), []

    def wrapped(*arguments):
        calls.append(name)
        if after:
            found = real(*arguments)
        if len(calls) == number:
            action()
        return found if after else real(*arguments)

    monkeypatch.setattr(passes, name, wrapped)


def wanted(shop):
    with psycopg.connect(shop.uri) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM t")}


def assert_nothing_is_missing(shop):
    for _ in range(3):
        shop.sync(share_max=1.0)
    assert wanted(shop) <= set(shop.ids())


# heaps ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_partition_is_attached_while_nothing_else_happens(quiet, monkeypatch, mode):
    shop = Origin(quiet.uri(), mode)
    shop.execute(*PARTITIONED, fill(1, 3), "CREATE TABLE t2 (id int NOT NULL, v text)", fill(101, 103, table="t2"))
    shop.sync()
    shop.sync()
    around(monkeypatch, "leaves", 1, lambda: shop.execute(ATTACH))
    around(monkeypatch, "identity", 2, lambda: shop.execute(ATTACH) if not _attached(shop) else None, after=True)
    shop.sync()
    monkeypatch.undo()
    assert_nothing_is_missing(shop)
    assert len(shop.ids()) == 6


def _attached(shop):
    with psycopg.connect(shop.uri) as connection:
        return connection.execute("SELECT count(*) FROM pg_inherits").fetchone()[0] > 1


def test_another_database_of_the_same_server(quiet):
    shop = Origin(quiet.create_database("one"), "overwrite")
    shop.execute(TABLE, fill(1, 3))
    other = quiet.create_database("two")
    shop.execute("CREATE TABLE z (i int)", TABLE, fill(1, 5, "'new'"), uri=other)
    shop.sync()
    shop.sync()
    shop.uri = other
    shop.sync()
    assert shop.rows("id", "v") == [(id_, "new") for id_ in range(1, 6)]


def test_a_copy_of_the_database(quiet):
    shop = Origin(quiet.create_database("one"), "overwrite")
    shop.execute(TABLE, fill(1, 3))
    quiet.execute("CREATE DATABASE two TEMPLATE one")
    quiet.execute("INSERT INTO t VALUES (50, 'only in the copy')", "two")
    shop.execute(fill(4, 4))
    shop.sync()
    shop.uri = quiet.uri("two")
    shop.sync()
    assert 50 in shop.ids()


def test_another_schema_whose_table_has_the_same_name_at_the_destination(quiet):
    shop = Origin(quiet.uri(), "overwrite")
    shop.execute("CREATE TABLE a_b (id int PRIMARY KEY, v text)", fill(1, 3, table="a_b"), "CREATE SCHEMA a")
    shop.execute("CREATE TABLE a.b (id int PRIMARY KEY, v text)", fill(1, 9, "'a'", table="a.b"))
    shop.sync()
    shop.sync()
    shop.settings = {"schemas": ["a"]}
    shop.sync()
    assert shop.rows("id", "v", table="a_b") == [(id_, "a") for id_ in range(1, 10)]


@WAYS
def test_a_partition_is_renamed_while_it_is_read(shop, settings):
    shop.slice_pages, shop.tables = 1, {"t": settings}
    shop.execute(*PARTITIONED, fill(1, 60, BIG))
    rotate = ("ALTER TABLE t1 RENAME TO t_2024", "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (100) TO (200)")
    shop.sync(source=meanwhile(shop, 3, lambda: shop.execute(*rotate, fill(150, 150))), rows_max=5)
    assert_nothing_is_missing(shop)
    assert len(shop.ids()) == 61


def test_a_partition_is_renamed_during_an_incremental_read(shop):
    shop.execute(*PARTITIONED, T2, fill(1, 3), fill(101, 105))
    shop.sync()
    shop.execute(fill(4, 6), fill(106, 109))
    rotate = ("ALTER TABLE t2 RENAME TO t_old", "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (200) TO (300)")
    shop.sync(source=meanwhile(shop, 0, lambda: shop.execute(*rotate)))
    assert_nothing_is_missing(shop)
    assert len(shop.ids()) == 15


def test_a_partition_is_detached_during_a_pass_and_attached_again_before_the_next(postgresql):
    shop = Origin(postgresql, "overwrite-delete-stale")
    shop.execute(*PARTITIONED, T2, fill(1, 60, BIG), fill(101, 105))
    shop.sync()
    shop.execute(fill(61, 70, BIG))
    shop.sync(source=meanwhile(shop, 1, lambda: shop.execute(DETACH)))
    shop.execute(ATTACH)
    assert_nothing_is_missing(shop)


def test_a_partition_is_detached_and_attached_again_around_the_sweep(postgresql, monkeypatch):
    shop = Origin(postgresql, "overwrite-delete-stale")
    shop.execute(*PARTITIONED, T2, fill(1, 60, BIG), fill(101, 105))
    shop.sync()
    shop.execute(fill(61, 70, BIG))
    around(monkeypatch, "leaves", 2, lambda: shop.execute(ATTACH))  # the look after the sweep
    shop.sync(source=meanwhile(shop, 1, lambda: shop.execute(DETACH)))
    monkeypatch.undo()
    assert_nothing_is_missing(shop)


@WAYS
@pytest.mark.parametrize("mode", ["append", "overwrite-delete-stale"])
def test_a_partition_is_detached_before_the_last_statement_of_a_first_load(postgresql, monkeypatch, mode, settings):
    shop = Origin(postgresql, mode)
    shop.tables = {"t": settings}
    shop.execute(*PARTITIONED, T2, fill(1, 60, BIG), fill(101, 105))
    around(monkeypatch, "identity", 2, lambda: shop.execute(fill(106, 106), DETACH))
    shop.sync(share_max=1.0)
    monkeypatch.undo()
    shop.execute(ATTACH)
    assert_nothing_is_missing(shop)


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_partition_is_detached_before_a_statement_by_key(postgresql, monkeypatch, mode):
    shop = Origin(postgresql, mode)
    shop.tables = {"t": {"incremental_key": "k"}}
    shop.execute(*PARTITIONED, T2, "ALTER TABLE t ADD k int", "INSERT INTO t VALUES (1, 'v', 1), (101, 'v', 2)")
    shop.sync()
    shop.execute("INSERT INTO t VALUES (102, 'v', 3), (2, 'v', 4)")
    around(monkeypatch, "leaves", 1, lambda: shop.execute(DETACH), after=True)
    shop.sync()
    monkeypatch.undo()
    shop.execute(ATTACH, "INSERT INTO t VALUES (3, 'v', 5)")
    assert_nothing_is_missing(shop)


def test_a_partition_is_attached_before_a_statement_by_key(postgresql, monkeypatch):
    shop = Origin(postgresql, "append")
    shop.tables = {"t": {"incremental_key": "k"}}
    shop.execute(*PARTITIONED, "CREATE TABLE t2 (id int NOT NULL, v text)", fill(101, 103, table="t2"), fill(1, 3))
    shop.execute("ALTER TABLE t ADD k int DEFAULT 5", "ALTER TABLE t2 ADD k int DEFAULT 5")
    shop.sync()
    shop.execute("INSERT INTO t VALUES (10, 'v', 50)", "UPDATE t2 SET k = 20")
    around(monkeypatch, "leaves", 1, lambda: shop.execute(ATTACH), after=True)
    shop.sync()
    monkeypatch.undo()
    shop.sync()
    shop.sync()
    assert shop.ids() == [1, 2, 3, 10, 101, 102, 103]


def test_a_partition_whose_detachment_was_interrupted(postgresql):
    shop = Origin(postgresql, "overwrite-delete-stale")
    shop.execute(*PARTITIONED, T2, fill(1, 60, BIG), fill(101, 105))
    shop.sync()
    with psycopg.connect(postgresql) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM t")
        with shop.connect() as owner:
            owner.execute("SET statement_timeout = '300ms'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                owner.execute(f"{DETACH} CONCURRENTLY")
    shop.sync()
    assert 101 not in shop.ids()  # so PostgreSQL itself answers
    shop.execute(f"{DETACH} FINALIZE", ATTACH)
    assert_nothing_is_missing(shop)


def test_a_key_that_is_a_number_written_in_another_way(shop):
    shop.execute("CREATE TABLE t (id numeric PRIMARY KEY, v text)", "INSERT INTO t VALUES (1.0, 'a'), (120, 'b')")
    shop.sync()
    shop.execute("UPDATE t SET id = 1.00, v = 'c' WHERE id = 1")
    shop.sync()
    both = [("1", "a")] if shop.mode == "append" else []
    assert shop.rows("id", "v") == [*both, ("1", "c"), ("120", "b")]


# servers -------------------------------------------------------------------------------------------------------------


def _replayed(primary, standby):
    ((lsn,),) = primary.execute("SELECT pg_current_wal_flush_lsn()")
    deadline = time.monotonic() + 60
    while not standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'")[0][0]:
        assert time.monotonic() < deadline, "the standby does not follow"


def _pause(standby):
    standby.execute("SELECT pg_wal_replay_pause()")
    deadline = time.monotonic() + 60
    while standby.execute("SELECT pg_get_wal_replay_pause_state()")[0][0] != "paused":
        assert time.monotonic() < deadline, "the standby does not pause"


def _commit_out_of_sight(primary, standby, late, later):
    """The standby has replayed the end of a later transaction, and not of this one."""
    late.execute(fill(101, 105))
    later.execute("INSERT INTO other VALUES (1)")
    primary.execute("INSERT INTO other VALUES (2)")
    _replayed(primary, standby)
    _pause(standby)
    late.commit()


def test_a_first_load_goes_on_at_a_standby_that_is_partly_behind(pair, monkeypatch):
    primary, standby = pair
    primary.execute(fill(1, 20, BIG))
    shop = Origin(primary.uri(), "overwrite")
    shop.slice_pages = 1
    with primary.connect(autocommit=False) as late, primary.connect(autocommit=False) as later:
        _commit_out_of_sight(primary, standby, late, later)
        source = shop.source()
        read = source.read

        def killed(task, reading):
            checkpoints = 0
            for message in read(task, reading):
                if checkpoints == 2:
                    raise TaskError("killed")
                yield message
                checkpoints += isinstance(message, Checkpoint)

        source.read = killed
        shop.sync(source=source, code=1, rows_max=1)
        shop.uri = standby.uri()

        def resume():
            standby.execute("SELECT pg_wal_replay_resume()")
            _replayed(primary, standby)

        around(monkeypatch, "identity", 2, resume)
        shop.sync(rows_max=1)
        monkeypatch.undo()
        later.commit()
    primary.execute(fill(200, 200))
    _replayed(primary, standby)
    assert_nothing_is_missing(shop)


@pytest.mark.parametrize("mode", ["append", "overwrite-delete-stale"])
def test_a_standby_that_lacks_what_the_primary_has_shown(pair, mode):
    primary, standby = pair
    primary.execute(fill(1, 20))
    shop = Origin(primary.uri(), mode)
    shop.sync()
    with primary.connect(autocommit=False) as late, primary.connect(autocommit=False) as later:
        _commit_out_of_sight(primary, standby, late, later)
        shop.sync()
        shop.uri = standby.uri()
        report = shop.report(code=1, retries=Retries(attempts_max=1))
        assert "behind" in str(report.error)
        standby.execute("SELECT pg_wal_replay_resume()")
        later.commit()
    _replayed(primary, standby)
    shop.sync()
    shop.uri = primary.uri()
    shop.sync()
    assert shop.ids() == [*range(1, 21), *range(101, 106)]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_crash_that_takes_back_transactions_whose_ids_are_used_again(mode):
    server = PostgreSQLServer("autovacuum = off\nwal_writer_delay = 1s\n").create()
    try:
        server.execute(TABLE)
        server.execute(fill(1, 3))
        server.execute("CHECKPOINT")
        shop = Origin(server.uri(), mode)
        with server.connect(autocommit=False) as given_up:
            given_up.execute(fill(10, 12))
            given_up.rollback()  # nobody waits until this is on the disk
            shop.sync()
            server.crash()
        server.start()
        server.execute("INSERT INTO t VALUES (100, 'new')")
        shop.sync()
        server.execute("INSERT INTO t VALUES (101, 'newer')")
        shop.sync()
        assert shop.ids() == [1, 2, 3, 100, 101]
    finally:
        server.remove()


def test_a_child_of_two_parents_is_read_once(postgresql):
    shop = Origin(postgresql, "append")
    shop.tables = {"t": {"settle": "xid"}}
    shop.execute("CREATE TABLE t (id int, v text)", "CREATE TABLE b () INHERITS (t)", "CREATE TABLE c () INHERITS (t)")
    shop.execute("CREATE TABLE d () INHERITS (b, c)", fill(1, 3), fill(11, 13, table="d"))
    shop.sync()
    assert shop.ids() == [1, 2, 3, 11, 12, 13]


# another table of the name -------------------------------------------------------------------------------------------


OTHER = ("CREATE SCHEMA z", "CREATE TABLE z.t (id int PRIMARY KEY, v text)", fill(1, 3, table="z.t"))
SWAP = ("CREATE SCHEMA y", "ALTER TABLE t SET SCHEMA y", "ALTER TABLE z.t SET SCHEMA public")
BACK = ("ALTER TABLE t SET SCHEMA z", "ALTER TABLE y.t SET SCHEMA public")


def before_the_first(monkeypatch, owner, name, action, *, after=False):
    """Do something before, or after, the first call of a method."""
    real, done = getattr(owner, name), []

    def wrapped(self, *arguments):
        if not after and not done:
            done.append(name)
            action()
        found = real(self, *arguments)
        if after and not done:
            done.append(name)
            action()
        return found

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize("where", ["sweep", "key", "last statement"])
def test_another_table_has_the_name_while_a_statement_reads_it(postgresql, monkeypatch, where):
    shop = Origin(postgresql, "overwrite-delete-stale" if where == "sweep" else "overwrite")
    shop.execute(TABLE, fill(1, 3), *OTHER)
    shop.tables = {"t": {"incremental_key": "id"}} if where == "key" else {}
    if where != "last statement":
        shop.sync()
    if where == "key":
        before_the_first(monkeypatch, passes.Key, "settled", lambda: shop.execute(*SWAP), after=True)
    elif where == "sweep":
        before_the_first(monkeypatch, passes.Rows, "present", lambda: shop.execute(*SWAP))
    else:
        around(monkeypatch, "identity", 3, lambda: shop.execute(fill(10, 10), *SWAP))
    if where != "last statement":
        shop.execute(fill(10, 11))
    report = shop.report(code=1, share_max=1.0)
    assert "another table" in str(report.error)
    monkeypatch.undo()
    shop.execute(*BACK, fill(20, 20))
    assert_nothing_is_missing(shop)


def test_a_table_read_in_full_is_replaced_by_another_of_its_name(postgresql):
    shop = Origin(postgresql, "overwrite-delete-stale")
    shop.execute("CREATE TABLE t (id int, v text)", fill(1, 60, BIG), "CREATE SCHEMA z")
    shop.execute("CREATE TABLE z.t (id int, v text)", fill(101, 160, BIG, table="z.t"))
    shop.slice_pages = 1
    shop.sync()
    swap = ("DROP TABLE t", "ALTER TABLE z.t SET SCHEMA public")
    shop.sync(source=meanwhile(shop, 3, lambda: shop.execute(*swap)), rows_max=5, share_max=1.0, code=1)
    assert set(shop.ids()) >= set(range(1, 61))
    shop.sync(share_max=1.0)  # what notices it sweeps nothing
    shop.sync(share_max=1.0)
    assert shop.ids() == list(range(101, 161))


# what a crash takes back ---------------------------------------------------------------------------------------------


@pytest.fixture
def lazy():
    """A server that writes its log late, and on which nothing happens by itself."""
    server = PostgreSQLServer("autovacuum = off\nwal_writer_delay = 2s\n").create()
    server.execute("CREATE SCHEMA z")
    server.execute("CREATE TABLE z.o (i int)")
    server.execute("CREATE TABLE t (id serial PRIMARY KEY, v text)")
    yield server
    server.remove()


def _asynchronously(connection, statement):
    connection.execute("SET synchronous_commit = off")
    connection.execute("INSERT INTO z.o VALUES (0)")
    connection.execute(statement)


def test_ids_of_a_sequence_that_a_crash_took_back_while_something_was_in_flight(lazy):
    lazy.execute("INSERT INTO t (v) SELECT 'x' FROM generate_series(1, 5)")
    lazy.execute("CHECKPOINT")
    shop = Origin(lazy.uri(), "overwrite")
    shop.tables = {"t": {"incremental_key": "id"}}
    shop.sync()
    shop.sync()
    with closing(lazy.connect(autocommit=False)) as busy, closing(lazy.connect()) as writer:
        busy.execute("SELECT 1")
        _asynchronously(writer, "INSERT INTO t (v) SELECT 'async' FROM generate_series(1, 5)")
        shop.sync()
        lazy.crash()
    lazy.start()
    shop.sync()
    lazy.execute("INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 3)")
    assert_nothing_is_missing(shop)
    assert {row for row in shop.rows("id", "v") if row[1] == "new"} == set(
        lazy.execute("SELECT id, v FROM t WHERE v = 'new'")
    )


def test_a_row_that_has_the_key_and_the_transaction_of_one_that_a_crash_took_back(lazy):
    lazy.execute("INSERT INTO t (v) VALUES ('first')")
    lazy.execute("CHECKPOINT")
    shop = Origin(lazy.uri(), "append")
    with closing(lazy.connect(autocommit=False)) as busy, closing(lazy.connect()) as writer:
        busy.execute("SELECT pg_current_xact_id()")
        shop.sync()
        shop.sync()
        _asynchronously(writer, "INSERT INTO t (v) VALUES ('taken back')")
        ((transaction,),) = writer.execute("SELECT xmin::text::int FROM t WHERE v LIKE 'taken%'").fetchall()
        shop.sync()
        lazy.crash()
    lazy.start()
    # as many as it takes, and none where the log was written before the crash
    while lazy.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int")[0][0] < transaction:
        lazy.execute("INSERT INTO z.o VALUES (1)")
    lazy.execute("INSERT INTO t (v) VALUES ('new')")
    shop.sync()
    shop.sync()
    assert "new" in {v for _, v in shop.rows("id", "v")}
