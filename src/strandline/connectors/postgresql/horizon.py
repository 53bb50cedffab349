"""What may still appear below a point: the horizon of the server's clock, and what is in flight.

A session that has not written yet holds no transaction id, but its ``now()`` is fixed; so what counts is every virtual
transaction of the database, seen in ``pg_locks``, which hides nothing from anyone. A transaction that was prepared has
left both views, and its stamps are older than the moment at which it was prepared: nothing bounds it but its end.
Activity is cached inside a transaction, so each look is a statement of its own.
"""

import time
from dataclasses import dataclass

from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.log import POSITION
from strandline.connectors.postgresql.server import Server, Session
from strandline.errors import RetryableError, UsageError

__all__ = ["Horizon", "in_flight", "look", "refuse_standby", "wait_for_replay", "xid_holder"]

_LOOKS = 5
_LOOK_AGAIN_S = 0.05
_REPLAY_POLL_S = 0.02
_LONG_S = 10
"""A transaction that holds a cursor back for longer is named."""
_VIRTUAL = "SELECT pid, virtualxid FROM pg_locks WHERE locktype = 'virtualxid' AND granted AND mode = 'ExclusiveLock'"
_ACTIVE = (
    "SELECT pid, application_name, usename::text AS role, "
    "least(xact_start, CASE WHEN state <> 'idle' THEN query_start END) AS since FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name IS DISTINCT FROM {name} AND backend_type IS DISTINCT FROM 'autovacuum worker'"
)
_WHO = "format('pid %s (%s, role %s)', pid, coalesce(nullif(application_name, ''), 'no name'), role)"
_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"


@dataclass(frozen=True, slots=True)
class Horizon:
    """No transaction that is not yet visible has a ``now()`` before ``at``."""

    at: str | None
    """As ISO text, UTC. None: it is not known."""
    holder: str = ""
    """What holds it back, for people; empty when nothing does."""


def _active(server: Server) -> str:
    return _ACTIVE.format(name=literal(server.name))


def look(session: Session, server: Server) -> Horizon:
    """The horizon now, on a primary. Our own sessions stamp nothing, and do not count."""
    active = _active(server)
    sql = (
        f"WITH v AS MATERIALIZED ({_VIRTUAL}), a AS MATERIALIZED ({active}), "
        "oldest AS (SELECT * FROM a WHERE since IS NOT NULL ORDER BY since LIMIT 1) "
        "SELECT least(now(), (SELECT since FROM oldest))::text AS at, "
        "extract(epoch FROM now() - (SELECT since FROM oldest))::float8 AS age_s, "
        f"(SELECT {_WHO} FROM oldest) AS holder, "
        "(SELECT min(pid) FROM v JOIN a USING (pid) WHERE since IS NULL) AS unknown, "
        f"(SELECT min(gid) FROM ({_PREPARED}) AS p) AS prepared"
    )
    row = session.row(sql)
    for _ in range(_LOOKS):
        if row["unknown"] is None or row["prepared"] is not None:
            break
        # often a session between two states
        time.sleep(_LOOK_AGAIN_S)
        row = session.row(sql)
    if row["prepared"] is not None:
        return Horizon(None, f"the prepared transaction {row['prepared']!r}")
    if row["unknown"] is not None:
        return Horizon(
            None,
            f"pid {row['unknown']}, whose start this role may not see (grant it pg_read_all_stats; track_activities = on)",
        )
    age_s = row["age_s"] or 0.0
    return Horizon(row["at"], f"{row['holder']}, for {age_s:.0f} s" if age_s >= _LONG_S else "")


def in_flight(session: Session, server: Server) -> tuple[dict[str, str], str]:
    """The virtual transactions of the database and whose each is, and the prepared transaction that there is, or nothing."""
    rows = session.rows(
        f"WITH v AS MATERIALIZED ({_VIRTUAL}), a AS MATERIALIZED ({_active(server)}) "
        f"SELECT virtualxid, {_WHO} AS who FROM v JOIN a USING (pid) ORDER BY virtualxid"
    )
    prepared = session.rows(f"{_PREPARED} ORDER BY gid LIMIT 1")
    return {row["virtualxid"]: row["who"] for row in rows}, prepared[0]["gid"] if prepared else ""


def xid_holder(session: Session, xmin: int) -> str:
    """What keeps a transaction id from moving on, for people; empty where that is young, or not to be seen."""
    rows = session.rows(
        f"SELECT 'the prepared transaction ' || quote_literal(gid) AS holder FROM pg_prepared_xacts "
        f"WHERE transaction = {literal(str(xmin % (1 << 32)))}::xid "
        "UNION ALL SELECT format('pid %s (%s, role %s), for %s s', pid, coalesce(nullif(application_name, ''), 'no name'), "
        "usename, extract(epoch FROM clock_timestamp() - xact_start)::int) FROM pg_stat_activity "
        f"WHERE backend_xid = {literal(str(xmin % (1 << 32)))}::xid "
        f"AND clock_timestamp() - xact_start >= interval '{_LONG_S} s'"
    )
    return str(rows[0]["holder"]) if rows else ""


def wait_for_replay(primary: Session, standby: Session, timeout_s: float) -> None:
    """Until the standby shows everything that the primary had committed when this was called.

    Raises:
        RetryableError: it did not come so far in time.
    """
    position = primary.row(f"SELECT {POSITION} AS position")["position"]
    deadline = time.monotonic() + timeout_s
    reached = f"SELECT {POSITION} >= {position} AS reached"
    while not standby.row(reached)["reached"]:
        if time.monotonic() > deadline:
            raise RetryableError(
                f"the standby is more than {timeout_s:.0f} s behind its primary",
                hint="sync again when it has caught up",
            )
        time.sleep(_REPLAY_POLL_S)


def refuse_standby(session: Session, what: str) -> None:
    """``what`` cannot be known on a standby.

    Raises:
        UsageError: the server is one.
    """
    if session.row("SELECT pg_is_in_recovery() AS standby")["standby"]:
        raise UsageError(
            f"{what} needs to see the transactions of the primary, and this server is a standby",
            hint="name the primary in `primary_connection_string`, or leave `incremental_key` out to read by xid",
        )
