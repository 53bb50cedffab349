"""PostgreSQL: a large table is begun with one scan, which goes on from slice to slice and need not come to the end."""

import psycopg
import pytest
from postgresql_origin import BIG, PARTITIONED, SCANS, T2, TABLE, Origin, fill, meanwhile

from strandline.connectors.postgresql import slices as postgresql_slices
from strandline.connectors.postgresql.rows import Rows
from strandline.connectors.postgresql.server import Session
from strandline.connectors.postgresql.slices import Slices
from strandline.errors import RetryableError
from strandline.message import Checkpoint, Insert


@pytest.fixture(params=["overwrite", "append"])
def shop(postgresql, request):
    shop = Origin(postgresql, request.param)
    shop.slice_pages, shop.scan_s = 1, 30
    return shop


@pytest.fixture
def asked(monkeypatch):
    """The statements that read rows."""
    asked, read = [], Session.read

    def reading(self, sql, **more):
        if ' AS "v"' in sql and sql.startswith("SELECT"):
            asked.append(sql)
        return read(self, sql, **more)

    monkeypatch.setattr(Session, "read", reading)
    return asked


def is_scan(sql):
    return ", t.ctid FROM ONLY " in sql


def test_a_scan_gives_checkpoints_on_the_way_and_the_rest_is_read_by_ranges(shop, asked):
    shop.execute(TABLE, fill(1, 60, BIG))
    shop.sync()
    assert is_scan(asked[0])
    assert not any("t.ctid >=" in sql for sql in asked)
    assert shop.ids() == list(range(1, 61))
    asked.clear()
    short = Origin(shop.uri, shop.mode)
    short.slice_pages, short.scan_s = 1, 1e-9
    short.sync()
    first, *others = [is_scan(sql) for sql in asked]
    assert first
    assert len(others) > 2
    assert not any(others)
    assert short.ids() == list(range(1, 61))


def test_what_was_read_before_a_checkpoint_is_below_it_and_the_rest_is_not(postgresql):
    shop = Origin(postgresql)
    shop.slice_pages, shop.scan_s = 2, 30
    shop.execute(TABLE, fill(1, 60, BIG))
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
    assert len(inside) >= 2
    for page, count in inside:
        assert {pages[id_] < page for id_ in came[:count]} == {True}
        assert {pages[id_] < page for id_ in came[count:]} == {False}


@SCANS
def test_every_partition_is_read(shop, scan_s):
    shop.scan_s = scan_s
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


def test_a_table_whose_rows_are_all_deleted(shop, asked):
    shop.execute(TABLE, fill(1, 200, BIG), "DELETE FROM t")
    shop.sync()
    assert is_scan(asked[0])
    assert shop.ids() == []


def test_a_table_cannot_be_rewritten_under_a_scan(shop):
    shop.execute(TABLE, fill(1, 60, BIG), "DELETE FROM t WHERE id % 2 = 0")

    def rewrite():
        with pytest.raises(psycopg.errors.LockNotAvailable):
            shop.execute("SET lock_timeout = '100ms'", "VACUUM FULL t")

    shop.sync(source=meanwhile(shop, 3, rewrite), rows_max=5)
    shop.execute("SET lock_timeout = '10s'", "VACUUM FULL t")
    assert shop.ids() == list(range(1, 61, 2))


def test_a_table_cannot_be_rewritten_between_the_look_at_its_file_and_its_scan(shop, monkeypatch):
    shop.execute(TABLE, fill(1, 60, BIG), "DELETE FROM t WHERE id % 2 = 0")
    plan, refused = Session.plan, []

    def rewrite(self, sql):
        with pytest.raises(psycopg.errors.LockNotAvailable) as caught:
            shop.execute("SET lock_timeout = '100ms'", "VACUUM FULL t")
        refused.append(caught)
        return plan(self, sql)

    monkeypatch.setattr(Session, "plan", rewrite)
    shop.sync()
    assert refused
    assert shop.ids() == list(range(1, 61, 2))


def test_a_table_that_is_rewritten_before_its_scan_is_read_again(shop, monkeypatch):
    shop.execute(TABLE, fill(1, 60, BIG), "DELETE FROM t WHERE id % 2 = 0")
    transaction, done = Session.transaction, []

    def rewritten(self, **more):
        if not done and "lock" in more:
            done.append(shop.execute("VACUUM FULL t"))
        return transaction(self, **more)

    monkeypatch.setattr(Session, "transaction", rewritten)
    assert "rewritten" in shop.report().warnings[0]
    assert shop.ids() == list(range(1, 61, 2))


@pytest.mark.parametrize("nulls", ["NOT NULL", ""], ids=["not null", "nullable"])
def test_a_key_with_an_index_does_not_change_the_order_of_pages(shop, asked, monkeypatch, nulls):
    """Today's rows lie on the first pages, where older ones were deleted, and the index finds them last."""
    shop.slice_pages, at = 16, "now() - interval '1 day' - (20000 - i) * interval '1 min'"
    shop.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, at timestamptz {nulls}, v text)",
        "CREATE INDEX ON t (at)",
        f"INSERT INTO t SELECT i, {at}, repeat('x', 1000) FROM generate_series(1, 20000) AS n(i)",
        "DELETE FROM t WHERE id BETWEEN 2000 AND 3999",
        "VACUUM t",
        "INSERT INTO t SELECT i, now() - interval '1 hour', repeat('y', 1000) FROM generate_series(20001, 20100) AS n(i)",
        "VACUUM ANALYZE t",
    )
    around = Slices.__init__

    def scanning(self, *args):
        around(self, *args)
        self._scans = True  # as if a `start` did not keep it from that

    monkeypatch.setattr(Slices, "__init__", scanning)
    with psycopg.connect(shop.uri) as connection:
        (start,) = connection.execute("SELECT (now() - interval '4 days')::text").fetchone()
        wanted = [row[0] for row in connection.execute("SELECT id FROM t WHERE at >= %s ORDER BY id", [start])]
        places = (
            "SELECT max(ctid) FILTER (WHERE id > 20000) < min(ctid) FILTER (WHERE id < 20001) FROM t WHERE at >= %s"
        )
        assert connection.execute(places, [start]).fetchone() == (True,)
    shop.tables = {"t": {"incremental_key": "at", "start": start, "nulls": "exclude"}}
    shop.sync(rows_max=500)
    assert shop.ids() == wanted
    assert is_scan(asked[0])


@pytest.mark.parametrize("at", [1, 20, 40])
def test_rows_out_of_order_are_noticed_and_read_by_ranges(postgresql, monkeypatch, asked, at):
    shop = Origin(postgresql)
    shop.slice_pages, shop.scan_s = 1, 30
    shop.execute(TABLE, fill(1, 60, BIG))
    raw = Rows.raw

    def disordered(self, query):
        for batch in raw(self, query):
            order = list(range(batch.num_rows))
            if is_scan(query):
                for part in (order[at:], order[:at]):  # the first rows come last
                    yield batch.take(part)
            else:
                yield batch

    monkeypatch.setattr(Rows, "raw", disordered)
    shop.sync(rows_max=5)
    assert is_scan(asked[0])
    assert shop.ids() == list(range(1, 61))


def test_a_server_that_plans_no_scan_is_read_by_ranges(shop, asked, monkeypatch):
    shop.execute(TABLE, fill(1, 60, BIG))
    monkeypatch.setattr(Session, "plan", lambda self, sql: {"Node Type": "Custom Scan"})
    shop.sync()
    assert not any(map(is_scan, asked))
    assert len(asked) > 3
    assert shop.ids() == list(range(1, 61))


def test_what_a_scan_could_not_read_is_read_by_ranges(shop, asked, monkeypatch):
    shop.execute(TABLE, fill(1, 60, BIG))
    raw = Rows.raw

    def failing(self, query):
        yield from raw(self, query)
        if is_scan(query):
            raise RetryableError("canceling statement due to statement timeout")

    monkeypatch.setattr(Rows, "raw", failing)
    shop.sync()
    first, *others = [is_scan(sql) for sql in asked]
    assert first
    assert others
    assert not any(others)
    assert shop.ids() == list(range(1, 61))


@pytest.mark.parametrize(
    "settings", [{"where": "id > 0"}, {"incremental_key": "id", "start": 0}], ids=["where", "start"]
)
def test_a_filtered_table_is_read_by_ranges(shop, asked, settings):
    shop.tables = {"t": settings}
    shop.execute(TABLE, fill(1, 60, BIG))
    shop.sync()
    assert not any(map(is_scan, asked))
    assert shop.ids() == list(range(1, 61))


def test_a_scan_that_comes_to_nothing_does_not_last(postgresql, asked, monkeypatch):
    monkeypatch.setattr(postgresql_slices, "_LONGEST_S", 1)
    query = Rows.query
    slow = "(SELECT true FROM pg_sleep(0.1 + 0 * t.id)) AND "
    monkeypatch.setattr(
        Rows,
        "query",
        lambda self, source, condition, *rest, **more: query(self, source, slow + condition, *rest, **more),
    )
    shop = Origin(postgresql)
    shop.slice_pages, shop.scan_s = 1, 0.05
    shop.execute(TABLE, fill(1, 60, BIG))
    shop.sync()
    assert is_scan(asked[0])
    assert "t.ctid >= '(0,0)'" in asked[1]  # the server ended it before a row had come
    assert not any(map(is_scan, asked[1:]))
    assert shop.ids() == list(range(1, 61))


def test_a_scan_lasts_no_longer_than_half_of_what_a_statement_may(shop, asked):
    shop.execute(TABLE, fill(1, 60, BIG))
    shop.settings = {"statement_timeout": "2s"}
    source = shop.source()
    read = source.read

    def slow(*args):
        for at, message in enumerate(read(*args)):
            yield message
            if at == 1:
                shop.execute("SELECT pg_sleep(1.1)")

    source.read = slow
    shop.sync(source=source)
    assert is_scan(asked[0])
    assert len(asked) > 2
    assert shop.ids() == list(range(1, 61))


def test_no_transaction_stays_open_when_a_scan_is_left(shop):
    shop.execute(TABLE, fill(1, 60, BIG))
    shop.scan_s = 1e-9
    open_ = []

    def look():
        with psycopg.connect(shop.uri) as connection:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'strandline %' AND state LIKE 'idle in%'"
            open_.append(connection.execute(sql).fetchone()[0])

    shop.sync(source=meanwhile(shop, 6, look))
    assert open_ == [0]
