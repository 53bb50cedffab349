"""A PostgreSQL source whose cursor passes what may still appear: late rows tell."""

from dataclasses import replace

import psycopg
import pytest
import test_hanging_source
import test_late_rows
import test_own_tables
import test_postgresql_disk
import test_postgresql_ids
import test_postgresql_texts as texts
from checks import Check
from postgresql_origin import Origin

from strandline import selection
from strandline.connectors.postgresql import horizon as postgresql_horizon
from strandline.connectors.postgresql import key as postgresql_key
from strandline.connectors.postgresql import libpq
from strandline.connectors.postgresql import log as postgresql_log
from strandline.connectors.postgresql import reading as postgresql_reading
from strandline.connectors.postgresql import source as postgresql_source
from strandline.connectors.postgresql import types_stored as postgresql_types

LATE = test_late_rows.test_hole_a_a_row_that_commits_after_a_later_one_was_synced
PREPARED = test_late_rows.test_hole_a_a_prepared_transaction
BROKEN = []


def a_transaction_that_was_open_for_seconds(shop):
    """A horizon is cut to whole seconds, so less would not tell."""
    with psycopg.connect(shop.uri) as late:
        late.execute("SELECT 1")
        shop.execute("SELECT pg_sleep(2.1)", "INSERT INTO t (at, v) VALUES (now() - interval '1.05 s', 'soon')")
        shop.sync()
        late.execute(test_late_rows.INSERT.format("late"))
        late.commit()
    shop.sync()
    assert test_late_rows.values(shop) == ["first", "late", "soon"]


def broken(what, settle, test):
    def register(breaks):
        marks = pytest.mark.detects("P6", f"PostgreSQL, by {settle}: {what}", by=test.__name__)
        BROKEN.append(pytest.param(settle, test, breaks, marks=marks, id=breaks.__name__))
        return breaks

    return register


@broken("the cursor is the next transaction, not the oldest that is open", "xid", LATE)
def starts_at_the_next(patch):
    sound = postgresql_reading.identity

    def identity(session):
        now = sound(session)
        return replace(now, xmin=now.xmax)

    patch.setattr(postgresql_reading, "identity", identity)


@broken("open transactions that have written nothing do not count", "cap", a_transaction_that_was_open_for_seconds)
def looks_at_the_clock_only(patch):
    patch.setattr(postgresql_horizon, "_ACTIVE", f"{postgresql_horizon._ACTIVE} AND backend_xid IS NOT NULL")


@broken("prepared transactions do not count", "cap", PREPARED)
def forgets_prepared(patch):
    patch.setattr(postgresql_horizon, "_PREPARED", "SELECT NULL::text AS gid WHERE false")


@broken("what was in flight is not waited for", "wait", LATE)
def waits_for_nothing(patch):
    patch.setattr(postgresql_key, "in_flight", lambda *_: ({}, ""))


def styles_of_another(shop):
    """As an application behind the same pooler may have left them."""
    shop.execute(
        "DROP TABLE IF EXISTS f",
        "CREATE TABLE f (id int PRIMARY KEY, f float8[])",
        "INSERT INTO f VALUES (1, array[1 / 3.0])",
    )
    with psycopg.connect(shop.uri, autocommit=True) as one:
        one.execute(f'ALTER DATABASE "{one.info.dbname}" SET extra_float_digits = -10')
    shop.sync()
    assert shop.rows("f", table="f") == [("[0.3333333333333333]",)]


@pytest.mark.detects("P48", "PostgreSQL: the styles of texts are the session's", by="styles_of_another")
def test_styles_of_a_session_are_noticed(postgresql, monkeypatch):
    assert not findings("xid", styles_of_another, postgresql)
    left = {name: value for name, value in libpq.STYLES.items() if name != "extra_float_digits"}
    monkeypatch.setattr(libpq, "STYLES", left)
    assert findings("xid", styles_of_another, postgresql)


@pytest.mark.detects(
    "P1", "PostgreSQL: rows are stored before its disk has them", by="test_a_row_that_a_crash_takes_back…"
)
def test_rows_that_a_crash_takes_back_are_noticed(monkeypatch):
    monkeypatch.setattr(postgresql_log, "_WAIT_S", 0.5)
    lazy = test_postgresql_disk.Lazy()
    try:
        monkeypatch.setattr(postgresql_log.Log, "wait", lambda self: None)
        with pytest.raises(AssertionError):
            test_postgresql_disk.test_a_row_that_a_crash_takes_back_is_not_in_the_destination(lazy, {}, first=False)
    finally:
        lazy.remove()


class Hasty(postgresql_log.Log):
    """Waits for no disk."""

    def wait(self):
        pass


@pytest.mark.detects(
    "P1", "PostgreSQL: rows that were looked up are stored before its disk has them", by="…a_sweep_has_looked_up…"
)
def test_rows_that_were_looked_up_and_a_crash_takes_back_are_noticed(monkeypatch):
    monkeypatch.setattr(postgresql_log, "_WAIT_S", 0.5)
    lazy = test_postgresql_disk.Lazy()
    try:
        monkeypatch.setattr(postgresql_source, "Log", Hasty)
        with pytest.raises(AssertionError):
            test_postgresql_disk.test_a_row_that_a_sweep_has_looked_up_and_a_crash_takes_back_is_not_in_the_destination(
                lazy
            )
    finally:
        lazy.remove()


@pytest.mark.parametrize(("nested", "forgets"), [(False, "transactions"), (True, "savepoints")])
@pytest.mark.detects(
    "P45", "PostgreSQL: what was open during a pass counts as read", by="test_rows_of_a_job_that_was_open…"
)
def test_a_job_that_counts_as_read_is_noticed(nested, forgets, postgresql, monkeypatch):
    sound = postgresql_reading.ended

    def ended(session, saved):
        found = sound(session, saved)
        shown = session.rows("SELECT pg_snapshot_xip(pg_current_snapshot())::text AS id")
        return replace(found, flying=[one["id"] for one in shown] if forgets == "savepoints" else [])

    monkeypatch.setattr(postgresql_reading, "ended", ended)
    shop = Origin(postgresql, "append")
    shop.tables = {"t": {"incremental_key": "id"}}
    shop.execute(test_postgresql_ids.TABLE, test_postgresql_ids.INSERT.format("old", 10))
    shop.sync()
    with pytest.raises(AssertionError):
        test_postgresql_ids.test_rows_of_a_job_that_was_open_during_the_last_sync_arrive(shop, "truncated", nested)


@pytest.fixture
def copied(postgresql, postgresql_server):
    name = f"{psycopg.conninfo.conninfo_to_dict(postgresql)['dbname']}_copy"
    yield texts.Copied(postgresql, postgresql_server.create_database(name))
    postgresql_server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


KEEPS = texts.test_a_json_keeps_its_order_its_names_and_its_numbers_and_a_jsonb_is_one
QUOTED = texts.test_names_that_a_role_wants_quoted_are_no_others


@pytest.mark.detects("P31", "PostgreSQL: json is stored as jsonb", by=KEEPS.__name__)
def test_a_json_that_becomes_jsonb_is_noticed(copied, monkeypatch):
    types = postgresql_types.PostgreSQLTypes
    sound, jsonb = types.of, replace(types().json(), sql="jsonb")
    monkeypatch.setattr(types, "of", lambda self, one, where: jsonb if one.name == "j" else sound(self, one, where))
    assert Check(KEEPS.__name__, lambda: KEEPS(copied)).findings()


@pytest.mark.detects("P38", "PostgreSQL: names that a role wants quoted are taken for others", by=QUOTED.__name__)
def test_names_that_come_quoted_are_noticed(copied, monkeypatch):
    left = {name: value for name, value in libpq.STYLES.items() if name != "quote_all_identifiers"}
    monkeypatch.setattr(libpq, "STYLES", left)
    assert Check(QUOTED.__name__, lambda: QUOTED(copied)).findings()


@pytest.mark.detects("P43", "states of a destination are tables of a source", by="test_states_are_not_meant_by_a_glob")
def test_states_that_a_glob_means_are_noticed(monkeypatch):
    monkeypatch.setattr(selection, "is_own", lambda table: False)
    with pytest.raises(AssertionError):
        test_own_tables.test_states_are_not_meant_by_a_glob("*")


@pytest.mark.detects("P27", "PostgreSQL: a connection has no deadline", by="test_a_connection_has_a_deadline…")
def test_a_connection_without_a_deadline_is_noticed(monkeypatch):
    left = {name: value for name, value in libpq.PARAMETERS.items() if name != "connect_timeout"}
    monkeypatch.setattr(libpq, "PARAMETERS", left)
    with pytest.raises(AssertionError):
        test_hanging_source.test_a_connection_has_a_deadline_unless_its_string_has_another()


def findings(settle, test, uri):
    origin = Origin(uri, "overwrite")
    origin.tables = {"t": test_late_rows.SETTLED[settle]}
    origin.execute(
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, v text)",
        "CREATE INDEX ON t (at)",
        test_late_rows.INSERT.format("first"),
    )
    origin.sync()
    return Check(test.__name__, lambda: test(origin)).findings()


@pytest.mark.parametrize(("settle", "test", "breaks"), BROKEN)
def test_a_cursor_that_passes_what_may_appear_is_noticed(settle, test, breaks, postgresql, monkeypatch):
    assert not findings(settle, test, postgresql)
    breaks(monkeypatch)
    assert findings(settle, test, postgresql)
