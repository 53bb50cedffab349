"""A PostgreSQL source whose cursor passes what may still appear: late rows tell."""

from dataclasses import replace

import psycopg
import pytest
import test_late_rows
from checks import Check
from postgresql_origin import Origin

from strandline.sources import _postgresql_horizon, _postgresql_key, _postgresql_pass

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
    sound = _postgresql_pass.identity

    def identity(session):
        now = sound(session)
        return replace(now, xmin=now.xmax)

    patch.setattr(_postgresql_pass, "identity", identity)


@broken("open transactions that have written nothing do not count", "cap", a_transaction_that_was_open_for_seconds)
def looks_at_the_clock_only(patch):
    patch.setattr(_postgresql_horizon, "_ACTIVE", f"{_postgresql_horizon._ACTIVE} AND backend_xid IS NOT NULL")


@broken("prepared transactions do not count", "cap", PREPARED)
def forgets_prepared(patch):
    patch.setattr(_postgresql_horizon, "_PREPARED", "SELECT NULL::text AS gid WHERE false")


@broken("what was in flight is not waited for", "wait", LATE)
def waits_for_nothing(patch):
    patch.setattr(_postgresql_key, "in_flight", lambda *_: ({}, ""))


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
