"""What a PostgreSQL database has to show, allow and be able to do, for a source and for a destination.

Guarantees of tables that are read are to hold at a good pace. What a destination has to do is tried in a transaction that is
rolled back.
"""

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from strandline.connectors.postgresql import libpq
from strandline.connectors.postgresql.database import Database
from strandline.connectors.postgresql.dialect import PostgreSQLDialect, literal
from strandline.connectors.postgresql.drivers import psycopg
from strandline.connectors.postgresql.errors import POOLED_HINT, drivers, translated
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.server import Server, Session
from strandline.connectors.postgresql.types_read import TIMES
from strandline.connectors.sql.dialect import quote
from strandline.connectors.sql.states import StateTables
from strandline.connectors.sql.tables import DELIVERED, HISTORY, STATES
from strandline.probe import Probe, Verdict, clock_probe

__all__ = ["probe_destination", "probe_source", "probe_tables"]

_SERVER = """
SELECT current_setting('server_version') AS version, current_database()::text AS database, current_user::text AS role,
  pg_is_in_recovery() AS standby, extract(epoch FROM clock_timestamp())::float8 AS now_s,
  (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int)::int8 AS free,
"""
"""What both ask, and the connections that are free beside ours."""
_MORE = "ALTER SYSTEM SET max_connections = 200, and restart the server; or lower"


def _way(
    connection: "psycopg.Connection[Any]", pooled: str, said: Mapping[str, tuple[Verdict, str, str]]
) -> Iterator[Probe]:
    """What lies between here and the server; ``said`` of each kind of pooler."""
    host = connection.info.host
    local = not host or host.startswith(("/", "@", "127.")) or host in {"localhost", "::1"}
    if not local and not connection.pgconn.ssl_in_use:
        found = f"the connection to {host} is not encrypted"
        yield Probe("encryption", Verdict.WARNING, found, "add sslmode=verify-full to connection_string")
    if pooled:
        yield Probe("pooler", *said[pooled])


# sources --------------------------------------------------------------------------------------------------------------

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
    _SERVER
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
            yield from _way(connection, pooled, _READS_POOLED)
        yield clock_probe(found["now_s"] - middle_s, whose="the server's clock")
        # our own session is among those that are taken
        if found["free"] + 1 < connections:
            said = f"{found['free'] + 1} are free, `connections` is {connections}"
            yield Probe("connections", Verdict.WARNING, said, f"{_MORE} `connections`")
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


# destinations ---------------------------------------------------------------------------------------------------------

_STATEMENT_S = 10
_ANSWER_S = 20.0
_FREE_FEW = 10
"""Connections: a sync takes up to one for each task and destination."""

_WRITES_POOLED = {
    "session": (Verdict.OK, "one (PgBouncer, say) stands in front of the server, and keeps sessions", ""),
    "transaction": (
        Verdict.WARNING,
        (
            "a pooler (PgBouncer, say) hands out the server's sessions by the transaction; a window whose rows do not "
            "fit into memory needs one session, and fails"
        ),
        POOLED_HINT,
    ),
}

_WRITTEN_TO = (
    _SERVER
    + """
  current_setting('default_transaction_read_only') AS read_only,
  current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
  current_setting('synchronous_commit') AS commits,
  EXISTS (SELECT FROM pg_namespace WHERE nspname = %(schema)s) AS has_schema,
  has_database_privilege(current_database(), 'CREATE') AS may_make_schemas,
  has_database_privilege(current_database(), 'TEMP') AS may_stage
"""
)
_MAY_CREATE = "SELECT has_schema_privilege(%(schema)s, 'CREATE') AND has_schema_privilege(%(schema)s, 'USAGE') AS may"
_FOREIGN = """
SELECT c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = ANY (%(names)s) AND c.relkind IN ('r', 'p')
  AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1 LIMIT 1
"""
_THERE = """
SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = ANY (%(names)s)
"""
_KEEPS_POOLED = _WRITES_POOLED | {
    "transaction": (Verdict.OK, "one (PgBouncer, say) stands in front of the server, and hands out its sessions", "")
}


def probe_destination(database: Database, schema: str) -> Iterator[Probe]:
    """Probes of one database as a destination.

    Raises:
        UsageError: a setting is wrong.
        UnreachableError: the server refuses the connection, or does not answer.
    """
    yield from _Written(database, schema).probes()


def probe_states(database: Database, schema: str, tables: StateTables) -> Iterator[Probe]:
    """Probes of one database as a state backend; see ``probe_destination``."""
    yield from _States(database, schema, tables).probes()


class _Written:
    _connection: "psycopg.Connection[Any]"
    _sql = PostgreSQLDialect()

    def __init__(self, database: Database, schema: str) -> None:
        self._database, self._place, self._schema = database, database.place, schema
        self._own: tuple[str, ...] = (STATES, HISTORY, DELIVERED)
        self.pooled = _WRITES_POOLED

    def probes(self) -> Iterator[Probe]:
        with drivers(), self._database.reached():
            self._connection = libpq.probing(self._database.conninfo, _ANSWER_S)
        with self._connection, translated(self._place, "probe it"):
            yield from self._looked(libpq.pooler(self._database.conninfo))

    def _looked(self, pooled: str) -> Iterator[Probe]:
        began_s = time.time()
        server = self._row(_WRITTEN_TO)
        middle_s = (began_s + time.time()) / 2
        role, database = self._sql.quote(server["role"]), self._sql.quote(server["database"])
        yield Probe("connection", Verdict.OK, f"{self._place}, version {server['version']}, role {server['role']}")
        yield from _way(self._connection, pooled, self.pooled)
        yield clock_probe(server["now_s"] - middle_s, whose="the server's clock")
        yield from _durable(server)
        if server["standby"]:
            fix = "name the primary in connection_string; target_session_attrs=read-write finds it among several hosts"
            yield Probe("writes", Verdict.PROBLEM, "the server is a standby, which takes none", fix)
            return
        if server["read_only"] == "on":
            fix = f"ALTER ROLE {role} SET default_transaction_read_only = off"
            yield Probe("writes", Verdict.PROBLEM, "transactions of this role are read-only", fix)
            return
        missing = [Probe("rights", Verdict.PROBLEM, *one) for one in self._missing(server, role, database)]
        yield from missing or [self._written(server)]
        yield from self._room(server)

    def _row(self, sql: str, **values: object) -> dict[str, Any]:
        cursor = self._connection.cursor(row_factory=psycopg.rows.dict_row)
        return cursor.execute(sql.encode(), {"schema": self._schema, **values}).fetchone() or {}

    def _missing(self, server: dict[str, Any], role: str, database: str) -> Iterator[tuple[str, str]]:
        """Rights that the role lacks, each with what grants it."""
        schema = self._sql.quote(self._schema)
        if not server["may_stage"]:
            found = f"role {server['role']} may make no temporary tables, in which rows are staged"
            yield found, f"GRANT TEMPORARY ON DATABASE {database} TO {role}"
        if not server["has_schema"]:
            if not server["may_make_schemas"]:
                found = f"there is no schema {self._schema!r}, and role {server['role']} may not make it"
                yield found, f"CREATE SCHEMA {schema} AUTHORIZATION {role}"
            return
        if not self._row(_MAY_CREATE)["may"]:
            found = f"role {server['role']} may make no tables in schema {self._schema!r}"
            yield found, f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"
        foreign = self._row(_FOREIGN, names=list(self._own))
        if foreign:
            found = f"table {foreign['name']}, which keeps the states, belongs to role {foreign['owner']}"
            owned = self._sql.relation(self._schema, foreign["name"])
            yield found, f"ALTER TABLE {owned} OWNER TO {role}, and so for all of the schema"

    def _written(self, server: dict[str, Any]) -> Probe:
        table = self._sql.relation(self._schema, f"_cq_probe_{secrets.token_hex(4)}")
        timeouts = dict.fromkeys(("statement_timeout", "lock_timeout"), f"'{_STATEMENT_S}s'")
        with translated(self._place, "make, write and empty a table in one transaction"):
            try:
                for statement in (libpq.begin(timeouts, read_only=False), *self._statements(server, table)):
                    self._connection.execute(statement.encode())
            finally:
                with suppress(psycopg.Error):
                    self._connection.execute(b"ROLLBACK")
        return Probe("rights", Verdict.OK, "tables can be made, changed, written and emptied, in one transaction")

    def _statements(self, server: dict[str, Any], table: str) -> Iterator[str]:
        if not server["has_schema"]:
            yield f"CREATE SCHEMA {self._sql.quote(self._schema)}"
        yield f"CREATE TABLE {table} (id bigint)"
        if server["may_stage"]:
            yield "CREATE TEMP TABLE _cq_probe ON COMMIT DROP AS SELECT 1::bigint AS id"
            yield f"INSERT INTO {table} SELECT id FROM pg_temp._cq_probe"
        yield f"ALTER TABLE {table} ADD PRIMARY KEY (id)"
        yield f"DELETE FROM {table}"

    @staticmethod
    def _room(server: dict[str, Any]) -> Iterator[Probe]:
        free = server["free"]
        if free < _FREE_FEW:
            said = f"{max(free, 0)} are free; a task takes one"
            yield Probe("connections", Verdict.WARNING, said, f"{_MORE} `concurrency` of the sources")
        else:
            yield Probe("connections", Verdict.OK, f"{free} are free")


class _States(_Written):
    """What keeps states: short transactions that stage nothing, so that any pooler will do."""

    def __init__(self, database: Database, schema: str, tables: StateTables) -> None:
        super().__init__(database, schema)
        self._own, self.pooled = (tables.states, tables.history), _KEEPS_POOLED

    def _missing(self, server: dict[str, Any], role: str, database: str) -> Iterator[tuple[str, str]]:
        if self._row(_THERE, names=list(self._own))["count"] < len(self._own):
            yield from super()._missing({**server, "may_stage": True}, role, database)

    def _statements(self, server: dict[str, Any], table: str) -> Iterator[str]:
        kept = [self._sql.relation(self._schema, name) for name in self._own]
        if self._row(_THERE, names=list(self._own))["count"] < len(kept):
            yield from super()._statements({**server, "may_stage": False}, table)
        else:
            for one in kept:
                yield f"INSERT INTO {one} SELECT * FROM {one} WHERE false"
                yield f"UPDATE {one} SET state = state WHERE false"
                yield f"DELETE FROM {one} WHERE false"


def _durable(server: dict[str, Any]) -> Iterator[Probe]:
    """Whether a commit that was acknowledged is there after a loss of power."""
    risky = {"fsync": Verdict.PROBLEM, "full_page_writes": Verdict.WARNING}
    off = [name for name in risky if server[name] == "off"]
    for name in off:
        found = f"{name} = off: a crash of the server's machine may lose or damage what was committed"
        yield Probe("durability", risky[name], found, f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()")
    if not off:
        said = "; synchronous_commit = off is overruled in every transaction" if server["commits"] == "off" else ""
        yield Probe("durability", Verdict.OK, f"what is committed survives a crash{said}")
