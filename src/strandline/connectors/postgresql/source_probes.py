"""What a PostgreSQL database has to show, for the guarantees of tables that are read to hold, and at a good pace."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.probes import MORE_CONNECTIONS, SERVER, way
from strandline.connectors.postgresql.server import Server, Session
from strandline.connectors.postgresql.types_read import TIMES
from strandline.connectors.sql.dialect import quote
from strandline.probe import Probe, Verdict, clock_probe

__all__ = ["probe_source", "probe_tables"]

_LONG_S = 60
"""A transaction that is open for longer holds cursors back for longer."""
_NAMED_MAX = 3
_ROWS_MANY = 100_000
_BYTES_LARGE = 5 * 10**9
_COARSE = ("(0)", "(1)", "(2)")
"""Precisions of times with which many rows share one value."""
_DIRECT = "name the server itself in `connection_string`, for reading"
_READS_POOLED = {
    "session": (
        Verdict.WARNING,
        "a pooler (PgBouncer, say) stands in front of the server: its timeouts may end long reads",
        _DIRECT,
    ),
    "transaction": (
        Verdict.WARNING,
        (
            "a pooler (PgBouncer, say) hands out the server's sessions by the transaction: values are right, but each "
            "table that is read keeps one from the application, and the pooler's timeouts may end long reads"
        ),
        _DIRECT,
    ),
}

_READ_FROM = (
    SERVER
    + """
  current_setting('hot_standby_feedback') AS feedback, current_setting('track_activities') AS activities,
  pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees
"""
)
_PREPARED = (
    "SELECT gid, database::text AS database, extract(epoch FROM clock_timestamp() - prepared)::float8 AS age_s "
    "FROM pg_prepared_xacts ORDER BY prepared"
)
_OPEN = """
SELECT pid::int8 AS pid, coalesce(nullif(application_name, ''), 'no name') AS name, coalesce(usename::text, '') AS role,
  coalesce(state, '') AS state, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s
FROM pg_stat_activity WHERE xact_start < clock_timestamp() - interval '{long} s' AND pid <> pg_backend_pid()
  AND backend_type = 'client backend' ORDER BY xact_start
"""


def probe_source(server: Server, plans: Iterable[Plan], *, connections: int, has_primary: bool) -> Iterator[Probe]:
    """Probes of the server, as far as the chosen ways of reading need it.

    Args:
        server: what is read.
        plans: how its tables are read.
        connections: how many may be opened.
        has_primary: the spec names a primary beside a standby.
    """
    kinds = {one.settle for one in plans}
    with server.session() as session:
        began_s = time.time()
        found = session.row(_READ_FROM)
        middle_s = (began_s + time.time()) / 2
        kind = "standby" if found["standby"] else "server"
        yield Probe("connection", Verdict.OK, f"PostgreSQL {found['version']}, {kind}, role {found['role']}")
        with server.probing() as (connection, pooled):
            yield from way(connection, pooled, _READS_POOLED)
        yield clock_probe(found["now_s"] - middle_s, whose="the server's clock")
        # our own session is among those that are taken
        if found["free"] + 1 < connections:
            said = f"{found['free'] + 1} are free, `connections` is {connections}"
            yield Probe("connections", Verdict.WARNING, said, f"{MORE_CONNECTIONS} `connections`")
        else:
            yield Probe("connections", Verdict.OK, f"{found['free'] + 1} are free, a sync takes up to {connections}")
        yield from _sight(found, kinds)
        if found["standby"]:
            yield from _standby(found, kinds, has_primary=has_primary)
        elif kinds - {None, "off"}:
            yield from _holders(session, found, kinds)


def _sight(found: dict[str, Any], kinds: set[Any]) -> Iterator[Probe]:
    """Whether transactions of others can be seen, by which `settle: cap` bounds the cursor."""
    if "cap" not in kinds:
        return
    hidden = "so a cursor by time stays where it is while another session's transaction is open; rows still come"
    if not found["sees"]:
        found_ = f"role {found['role']} may not see when others began, {hidden}"
        yield Probe("sight", Verdict.WARNING, found_, f"GRANT pg_read_all_stats TO {quote(found['role'])}")
    if found["activities"] == "off":
        fix = "ALTER SYSTEM SET track_activities = on; SELECT pg_reload_conf()"
        yield Probe("sight", Verdict.WARNING, f"track_activities = off, {hidden}", fix)
    if found["sees"] and found["activities"] == "on":
        yield Probe("sight", Verdict.OK, "the transactions of others can be seen")


def _standby(found: dict[str, Any], kinds: set[Any], *, has_primary: bool) -> Iterator[Probe]:
    if "wait" in kinds or ("cap" in kinds and not has_primary):
        fix = "name the primary in `primary_connection_string`; or leave `incremental_key` out to read by xid"
        if "wait" in kinds:
            fix = "read the primary; or leave `incremental_key` out to read by xid"
        said = "a standby does not show the transactions of its primary, by which a cursor by key is bounded"
        yield Probe("standby", Verdict.PROBLEM, said, fix)
    if found["feedback"] == "off":
        said = "hot_standby_feedback = off: the standby may cancel long reads, of a first load above all"
        fix = "ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf()"
        yield Probe("standby", Verdict.WARNING, said, fix)


def _holders(session: Session, found: dict[str, Any], kinds: set[Any]) -> Iterator[Probe]:
    """What holds cursors back. An xid is held by any database of the server, a time only by this one."""
    clear = True
    for row in session.rows(_PREPARED)[:_NAMED_MAX]:
        if row["database"] == found["database"] or "xid" in kinds:
            clear = False
            said = f"the prepared transaction {row['gid']!r} of database {row['database']} holds cursors back, for {_age(row['age_s'])}"
            gid = literal(row["gid"]).strip()
            fix = f"in database {row['database']}: COMMIT PREPARED {gid}, or ROLLBACK PREPARED {gid}"
            yield Probe("horizon", Verdict.WARNING, said, fix)
    for row in session.rows(_OPEN.format(long=_LONG_S))[:_NAMED_MAX]:
        clear = False
        said = (
            f"pid {row['pid']} ({row['name']}, role {row['role']}, {row['state']}) has had a transaction open for "
            f"{_age(row['age_s'])}, which may hold cursors back"
        )
        fix = f"let it end; or SELECT pg_terminate_backend({row['pid']}); idle_in_transaction_session_timeout ends idle ones"
        yield Probe("horizon", Verdict.WARNING, said, fix)
    if clear:
        seen = f"or open for more than {_LONG_S} s" if found["sees"] else "and what is open is not shown to this role"
        yield Probe("horizon", Verdict.OK, f"no transaction is prepared, {seen}")


def probe_tables(plans: Iterable[Plan]) -> Iterator[Probe]:
    """Probes of tables, from what the catalogue says of them."""
    for one in plans:
        name, relation = one.table.name, one.relation
        if one.settle == "xid" and relation.bytes_estimated >= _BYTES_LARGE:
            said = f"{name}: every sync scans about {relation.bytes_estimated / 1e9:.1f} GB"
            fix = "an `incremental_key` with an index reads less, if every change sets that column"
            yield Probe("scan", Verdict.WARNING, said, fix, name)
        if one.key is None:
            continue
        key = one.key
        where = f"{quote(relation.schema)}.{quote(relation.name)}"
        if one.has_heap and key.name not in relation.indexed and relation.rows_estimated >= _ROWS_MANY:
            said = f"{name}.{key.name} leads no index, so every sync scans about {relation.rows_estimated:,} rows"
            concurrently = "CONCURRENTLY " if relation.kind == "r" else ""
            yield Probe(
                "index", Verdict.WARNING, said, f"CREATE INDEX {concurrently}ON {where} ({quote(key.name)})", name
            )
        if one.has_heap and key.nullable and one.settings.nulls == "include":
            said = f"{name}.{key.name} may be NULL, and rows where it is are read again at every sync"
            fix = f"ALTER TABLE {where} ALTER COLUMN {quote(key.name)} SET NOT NULL; or choose `nulls: fail`"
            yield Probe("nulls", Verdict.WARNING, said, fix, name)
        if TIMES.get(key.type_oid) == "date" or any(precision in key.type_name for precision in _COARSE):
            said = f"{name}.{key.name} is {key.type_name}: rows that share the last value are read again at every sync"
            yield Probe("precision", Verdict.WARNING, said, "timestamptz has microseconds", name)


def _age(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 48:  # noqa: PLR2004 -- two days
        return f"{hours / 24:.0f} days"
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min"
