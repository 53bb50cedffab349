"""Hole A on PostgreSQL: rows that become visible after rows that were stamped later. A test for each way it happens."""

import threading

import psycopg
import pytest
from postgresql_origin import Origin

MODES = ("append", "overwrite", "overwrite-delete-stale")
SETTLED = {
    "xid": {},
    "cap": {"incremental_key": "at", "margin": "0"},
    "wait": {"incremental_key": "id"},
}
INSERT = "INSERT INTO t (at, v) VALUES (now(), '{}')"


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture(params=SETTLED)
def shop(request, mode, postgresql):
    origin = Origin(postgresql, mode)
    origin.tables = {"t": SETTLED[request.param]}
    origin.execute(
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, v text)",
        "CREATE INDEX ON t (at)",
        INSERT.format("first"),
    )
    origin.sync()
    return origin


def values(shop):
    return [row[0] for row in shop.rows("v")]


def test_hole_a_a_row_that_commits_after_a_later_one_was_synced(shop):
    with psycopg.connect(shop.uri) as late:
        late.execute(INSERT.format("late"))
        shop.execute(INSERT.format("soon"))
        shop.sync()
        shop.execute(INSERT.format("soon after"))
        shop.sync()
        assert values(shop) == ["first", "soon", "soon after"]
        late.commit()
    shop.sync()
    shop.sync()
    assert values(shop) == ["first", "late", "soon", "soon after"]


def test_hole_a_a_transaction_that_was_open_for_long_before_it_wrote(shop):
    with psycopg.connect(shop.uri) as late:
        late.execute("SELECT pg_sleep(1.1)")  # now() was fixed before, a whole second ago; no transaction id is held
        shop.execute(INSERT.format("soon"))
        shop.sync()
        late.execute(INSERT.format("late"))
        shop.sync()
        late.commit()
    shop.sync()
    shop.sync()
    assert values(shop) == ["first", "late", "soon"]


def test_hole_a_stamps_of_the_moment_of_writing(shop):
    with psycopg.connect(shop.uri) as late:
        late.execute("INSERT INTO t (at, v) VALUES (clock_timestamp(), 'late 1')")
        shop.execute(INSERT.format("soon"))
        shop.sync()
        late.execute("INSERT INTO t (at, v) VALUES (clock_timestamp(), 'late 2')")
        shop.execute(INSERT.format("soon after"))
        shop.sync()
        late.commit()
    shop.sync()
    shop.sync()
    assert values(shop) == ["first", "late 1", "late 2", "soon", "soon after"]


def test_hole_a_a_prepared_transaction(shop):
    with psycopg.connect(shop.uri, autocommit=True) as late:
        late.execute("BEGIN")
        late.execute(INSERT.format("late"))
        late.execute("PREPARE TRANSACTION 'payment'")
    try:
        shop.execute(INSERT.format("soon"))
        report = shop.report()
        shop.execute(INSERT.format("soon after"))
        shop.sync()
        assert values(shop) == ["first", "soon", "soon after"]
        assert any("payment" in warning for warning in report.warnings)
    finally:
        shop.execute("COMMIT PREPARED 'payment'")
    shop.sync()
    shop.sync()
    assert values(shop) == ["first", "late", "soon", "soon after"]


def test_hole_a_a_message_of_several_statements_with_the_time_of_its_arrival(shop):
    with psycopg.connect(shop.uri, autocommit=True) as late:
        message = f"BEGIN; COMMIT; SELECT pg_advisory_lock(1); {INSERT.format('late')}"
        with psycopg.connect(shop.uri, autocommit=True) as gate:
            gate.execute("SELECT pg_advisory_lock(1)")
            thread = threading.Thread(target=lambda: late.execute(message))
            thread.start()
            while not gate.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchall():
                pass
            shop.execute(INSERT.format("soon"))
            shop.sync()
            gate.execute("SELECT pg_advisory_unlock(1)")
            thread.join(20)
    shop.sync()
    shop.sync()
    assert values(shop) == ["first", "late", "soon"]


def test_hole_a_the_newest_commit_has_the_older_stamp(shop):
    if "id" in shop.tables["t"].values():
        shop.tables = {"t": {}}  # an id does not show changes
        shop.sync(refresh=lambda task: True)
    with psycopg.connect(shop.uri) as late:
        late.execute("SELECT now()")
        shop.execute("UPDATE t SET v = 'by the younger', at = now() WHERE v = 'first'")
        shop.sync()
        late.execute("UPDATE t SET v = 'by the older', at = now() WHERE v = 'by the younger'")
        late.commit()
    shop.sync()
    shop.sync()
    kept = ["by the older", "by the younger", "first"] if shop.mode == "append" else ["by the older"]
    assert values(shop) == kept


@pytest.mark.parametrize("late_s", [0.02, 4])
def test_hole_a_stamps_of_an_application_whose_clock_is_slow(postgresql, mode, late_s):
    shop = Origin(postgresql, mode)
    shop.tables = {"t": {"incremental_key": "at"}}  # the margin is 5 s
    shop.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz)", "INSERT INTO t VALUES (1, now())")
    shop.sync()
    for id_ in (2, 3):
        shop.execute(f"INSERT INTO t VALUES ({id_}, clock_timestamp() - interval '{late_s} s')")
        shop.sync()
    assert shop.ids() == [1, 2, 3]


def test_hole_a_a_role_that_may_not_see_when_others_began(postgresql, postgresql_server, mode):
    shop = Origin(postgresql, mode)
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz)",
        "INSERT INTO t VALUES (1, now())",
        "CREATE ROLE blind LOGIN",
        "GRANT SELECT ON t TO blind",
    )
    try:
        shop.uri = postgresql.replace("postgres@", "blind@")
        shop.tables = {"t": {"incremental_key": "at", "margin": "0"}}
        with psycopg.connect(postgresql) as late:
            late.execute("INSERT INTO t VALUES (2, now())")
            shop.execute("INSERT INTO t VALUES (3, now())", uri=postgresql)
            report = shop.report()
            assert any("pg_read_all_stats" in warning for warning in report.warnings)
            assert shop.ids() == [1, 3]
            late.commit()
        shop.sync()
        shop.sync()
        assert shop.ids() == [1, 2, 3]
    finally:
        shop.execute("DROP OWNED BY blind", "DROP ROLE blind", uri=postgresql)


@pytest.mark.parametrize("lag", ["0", "1h"])
def test_hole_a_is_open_where_the_spec_says_so(postgresql, mode, lag):
    """A test of the tests: without any of the three ways, the late row is lost, and the guarantee says that it may be."""
    shop = Origin(postgresql, mode)
    shop.tables = {"t": {"incremental_key": "at", "settle": "off", "lag": lag}}
    shop.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz)")
    with psycopg.connect(postgresql) as late:
        late.execute("INSERT INTO t VALUES (1, now())")
        shop.execute("INSERT INTO t VALUES (2, now() + interval '0.01 s')")
        shop.sync()
        late.commit()
    report = shop.report()
    assert shop.ids() == ([2] if lag == "0" else [1, 2])
    assert ("can lose rows" in report.limits) == (lag == "0")
