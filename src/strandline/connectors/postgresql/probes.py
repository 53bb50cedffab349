"""What a PostgreSQL database has to allow and be able to do, to be written to: tried in a transaction that is rolled back.

What is asked of a server that is read, too, is here as well; the rest of that is in ``source_probes``.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from strandline.connectors.postgresql import libpq
from strandline.connectors.postgresql.database import Database
from strandline.connectors.postgresql.dialect import PostgreSQLDialect
from strandline.connectors.postgresql.drivers import psycopg
from strandline.connectors.postgresql.errors import POOLED_HINT, drivers, translated
from strandline.connectors.sql.states import StateTables
from strandline.connectors.sql.tables import DELIVERED, HISTORY, STATES
from strandline.probe import Probe, Verdict, clock_probe

__all__ = ["MORE_CONNECTIONS", "SERVER", "probe_destination", "probe_states", "way"]

SERVER = """
SELECT current_setting('server_version') AS version, current_database()::text AS database, current_user::text AS role,
  pg_is_in_recovery() AS standby, extract(epoch FROM clock_timestamp())::float8 AS now_s,
  (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int)::int8 AS free,
"""
"""What both ask, and the connections that are free beside ours."""
MORE_CONNECTIONS = "ALTER SYSTEM SET max_connections = 200, and restart the server; or lower"


def way(
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
    SERVER
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
        yield from way(self._connection, pooled, self.pooled)
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
            yield Probe("connections", Verdict.WARNING, said, f"{MORE_CONNECTIONS} `concurrency` of the sources")
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
