"""PostgreSQL: a pass over everything reads slices of pages, several at once, and tells them in their order."""

import threading

import psycopg
import pytest
from postgresql_origin import BIG, EACH, PARTITIONED, T2, TABLE, Origin, fill, meanwhile

from strandline.connectors.postgresql import slices as postgresql_slices
from strandline.connectors.postgresql.lane import Lane, NoLaneError
from strandline.connectors.postgresql.server import Server, Session
from strandline.errors import RetryableError
from strandline.lazy import pa
from strandline.message import Checkpoint, Insert

WAIT_S = 60


@pytest.fixture(params=["overwrite", "append"])
def shop(postgresql, request):
    shop = Origin(postgresql, request.param)
    shop.slice_pages, shop.at_once = 1, 3
    return shop


@pytest.fixture
def asked(monkeypatch):
    """The statements that read rows, and by which thread."""
    asked, read = [], Session.read

    def reading(self, sql, **more):
        if ' AS "v"' in sql and sql.startswith("SELECT"):
            asked.append((threading.current_thread().name, sql))
        return read(self, sql, **more)

    monkeypatch.setattr(Session, "read", reading)
    return asked


def threads(asked):
    return {name.partition("-")[0] for name, _ in asked}


def test_slices_are_read_at_once(shop, monkeypatch):
    together, run = threading.Barrier(3), postgresql_slices._slice
    shop.execute(TABLE, fill(1, 96, BIG))  # twelve pages

    def reading(session, rows, order):
        if order.place.range.count("ctid") == 2 and order.place.next_page <= 3:
            together.wait(WAIT_S)
        yield from run(session, rows, order)

    monkeypatch.setattr(postgresql_slices, "_slice", reading)
    shop.sync()
    assert shop.ids() == list(range(1, 97))


@EACH
def test_what_was_read_before_a_checkpoint_is_below_it_and_the_rest_is_not(postgresql, at_once):
    shop = Origin(postgresql)
    shop.slice_pages, shop.at_once = 1, at_once
    shop.execute(TABLE, fill(1, 200, BIG))
    with psycopg.connect(postgresql) as connection:
        pages = dict(connection.execute("SELECT id, (ctid::text::point)[0]::int FROM t").fetchall())
    messages, source = [], shop.source()
    read = source.read
    source.read = lambda *args: (messages.append(one) or one for one in read(*args))
    shop.sync(source=source)
    came, borders = [], []
    for message in messages:
        if isinstance(message, Insert):
            came += message.batch.column("id").to_pylist()
        elif isinstance(message, Checkpoint) and (message.cursor or {}).get("current"):
            borders.append((message.cursor["current"]["heap"], message.cursor["current"]["page"], len(came)))
    inside = [(page, count) for heap, page, count in borders if heap == 0 and page]
    assert len(inside) >= 20
    for page, count in inside:
        assert {pages[id_] < page for id_ in came[:count]} == {True}
        assert {pages[id_] < page for id_ in came[count:]} == {False}


@EACH
def test_every_partition_is_read(shop, at_once):
    shop.at_once = at_once
    shop.execute(*PARTITIONED, T2, fill(1, 60, BIG), fill(101, 160, BIG))
    change = ("UPDATE t SET v = 'w' WHERE id IN (1, 60, 160)", fill(61, 61), fill(161, 161))
    shop.sync(source=meanwhile(shop, 3, lambda: shop.execute(*change)), rows_max=5)
    shop.sync()
    assert sorted(set(shop.ids())) == [*range(1, 62), *range(101, 162)]
    assert {id_ for id_, v in shop.rows("id", "v") if v == "w"} == {1, 60, 160}


def test_pages_without_rows_are_passed(shop):
    shop.execute(TABLE, fill(1, 200, BIG), "DELETE FROM t WHERE id BETWEEN 20 AND 180")
    shop.sync()
    assert shop.ids() == [*range(1, 20), *range(181, 201)]


def test_a_table_whose_rows_are_all_deleted(shop):
    shop.execute(TABLE, fill(1, 200, BIG), "DELETE FROM t")
    shop.sync()
    assert shop.ids() == []


def test_a_partition_that_is_dropped_while_another_one_is_read(shop):
    shop.execute(*PARTITIONED, T2, fill(1, 60, BIG), fill(101, 160, BIG))
    shop.sync(source=meanwhile(shop, 0, lambda: shop.execute("DROP TABLE t2")), rows_max=5)
    assert set(shop.ids()) >= set(range(1, 61))


def test_a_table_that_is_rewritten_while_a_slice_waits_is_read_again(shop):
    shop.execute(TABLE, fill(1, 200, BIG), "DELETE FROM t WHERE id % 2 = 0")
    source = meanwhile(shop, 4, lambda: shop.execute("VACUUM FULL t"))
    report = shop.sync(source=source, code=1 if shop.mode == "append" else 0, rows_max=5)
    if shop.mode == "append":
        assert "--full-refresh" in report.tasks[0].error.hint
        shop.sync(refresh=lambda task: True)
    assert shop.ids() == list(range(1, 201, 2))


@pytest.mark.parametrize("connections", [1, 2])
def test_no_more_connections_are_open_than_there_may_be(shop, asked, connections):
    shop.settings = {"connections": connections}
    shop.execute(TABLE, fill(1, 200, BIG))
    open_ = []

    def look():
        with psycopg.connect(shop.uri) as connection:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'strandline %'"
            open_.append(connection.execute(sql).fetchone()[0] <= connections)

    shop.sync(source=meanwhile(shop, 6, look))
    assert open_ == [True]
    assert ("read a slice" in threads(asked)) is (connections > 1)
    assert shop.ids() == list(range(1, 201))


def test_who_waits_for_a_connection_gets_the_next_one(postgresql):
    server = Server(postgresql, connections_max=1)
    waits, done = threading.Event(), []

    def wait():
        waits.set()
        with server.session():
            done.append("waited")

    with server.session():
        thread = threading.Thread(target=wait)
        thread.start()
        waits.wait(WAIT_S)
        while not server._waiting:
            pass
    # what would take it meanwhile is told that there is none to spare
    while not done:
        if (spare := server.spare()) is not None:
            with spare:
                done.append("spared")
    thread.join(WAIT_S)
    server.close()
    assert done[0] == "waited"


def test_a_server_that_has_no_more_connections_is_read_by_the_one_there_is(shop, asked, monkeypatch):
    shop.execute(TABLE, fill(1, 200, BIG))
    opened = Session.__init__

    def refusing(self, *args):
        if threading.current_thread().name == "read a slice":
            raise RetryableError("too many connections for the role")
        opened(self, *args)

    monkeypatch.setattr(Session, "__init__", refusing)
    shop.sync()
    assert "read a slice" not in threads(asked)
    assert shop.ids() == list(range(1, 201))


@pytest.mark.parametrize("behind", [{"xmin": 3}, {"system": "another"}], ids=["standby", "server"])
def test_another_host_that_has_not_got_so_far_is_not_read(shop, asked, monkeypatch, behind):
    shop.execute(TABLE, fill(1, 200, BIG))
    row = Session.row

    def elsewhere(self, sql, **more):
        found = row(self, sql, **more)
        if threading.current_thread().name == "read a slice" and "xmin" in found:
            found = {**found, **behind}
        return found

    monkeypatch.setattr(Session, "row", elsewhere)
    shop.sync()
    assert "read a slice" not in threads(asked)
    assert shop.ids() == list(range(1, 201))


def test_a_small_table_needs_no_second_connection(shop, asked):
    shop.execute(TABLE, fill(1, 20, BIG))
    shop.sync()
    assert "read a slice" not in threads(asked)


def test_no_statement_is_left_open_where_nobody_wants_more(shop):
    shop.execute(TABLE, fill(1, 2000, BIG))

    def fail():
        raise RetryableError("the connection was lost")

    shop.sync(source=meanwhile(shop, 6, fail))
    assert not [one for one in threading.enumerate() if one.name == "read a slice"]
    with psycopg.connect(shop.uri) as connection:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'strandline %'"
        assert connection.execute(sql).fetchone() == (0,)
    assert shop.ids() == list(range(1, 2001))


# a lane -------------------------------------------------------------------------------------------------------------


def batches(count, each, taken):
    for number in range(count):
        taken.append(number)
        yield number, pa.record_batch({"a": pa.array([b"x" * each])})


def test_a_lane_is_a_bounded_way_ahead(monkeypatch):
    monkeypatch.setattr("strandline.connectors.postgresql.lane._AHEAD_BYTES", 1000)
    taken = []
    lane = Lane(lambda: batches(100, 300, taken), lambda: None)
    items = lane.items()
    assert next(items)[0] == 0
    assert len(taken) <= 7
    assert [number for number, _ in items] == list(range(1, 100))
    assert not lane._thread.is_alive()


def test_a_lane_that_nobody_wants_ends(monkeypatch):
    monkeypatch.setattr("strandline.connectors.postgresql.lane._AHEAD_BYTES", 1000)
    taken = []
    lane = Lane(lambda: batches(10**9, 300, taken), lambda: None)
    next(lane.items())
    lane.leave()
    assert not lane._thread.is_alive()


@pytest.mark.parametrize("error", [RetryableError("lost"), NoLaneError()], ids=["retryable", "no lane"])
def test_what_a_lane_meets_is_raised_after_what_it_has_read(error):
    def failing():
        yield from batches(2, 1, [])
        raise error

    came = []
    with pytest.raises(type(error)):
        came.extend(number for number, _ in Lane(failing, lambda: None).items())
    assert came == [0, 1]
