"""What a PostgreSQL destination has to be able to do, tried in a transaction that is rolled back."""

import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from strandline import libpq
from strandline.connectors.postgresql.database import Database
from strandline.connectors.postgresql.dialect import PostgreSQLDialect
from strandline.connectors.postgresql.errors import POOLED_HINT, drivers, translated
from strandline.connectors.sql.tables import DELIVERED, HISTORY, STATES
from strandline.lazy import psycopg
from strandline.probe import Probe, Verdict, clock_probe

__all__ = ["probe_server"]

_STATEMENT_S = 10
_ANSWER_S = 20.0
_FREE_FEW = 10
"""Connections: a sync takes up to one for each task and destination."""

_SERVER = """
SELECT current_setting('server_version') AS version, current_database()::text AS database, current_user::text AS role,
  pg_is_in_recovery() AS standby, current_setting('default_transaction_read_only') AS read_only,
  current_setting('fsync') AS fsync, current_setting('full_page_writes') AS pages,
  current_setting('synchronous_commit') AS commits, pg_backend_pid() AS pid,
  EXISTS (SELECT FROM pg_namespace WHERE nspname = %(schema)s) AS has_schema,
  has_database_privilege(current_database(), 'CREATE') AS may_make_schemas,
  has_database_privilege(current_database(), 'TEMP') AS may_stage,
  extract(epoch FROM clock_timestamp())::float8 AS now_s,
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int AS free
"""
_MAY_CREATE = "SELECT has_schema_privilege(%(schema)s, 'CREATE') AND has_schema_privilege(%(schema)s, 'USAGE') AS may"
_FOREIGN = """
SELECT c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = ANY (%(names)s) AND c.relkind IN ('r', 'p')
  AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1 LIMIT 1
"""


def probe_server(database: Database, schema: str) -> Iterator[Probe]:
    """Probes of one database as a destination.

    Raises:
        UsageError: a setting is wrong.
        UnreachableError: the server refuses the connection, or does not answer.
    """
    conninfo, place = database.conninfo, database.place
    with drivers(), database.reached():
        connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
    with connection, translated(place, "probe it"):
        libpq.bound(connection, _ANSWER_S)
        yield from _Server(connection, place, schema).probes(libpq.pooler(conninfo))


class _Server:
    def __init__(self, connection: "psycopg.Connection[Any]", place: str, schema: str) -> None:
        self._connection, self._place, self._schema = connection, place, schema
        self._sql = PostgreSQLDialect()

    def probes(self, pooled: str) -> Iterator[Probe]:
        began_s = time.time()
        server = self._row(_SERVER)
        middle_s = (began_s + time.time()) / 2
        role, database = self._sql.quote(server["role"]), self._sql.quote(server["database"])
        yield Probe("connection", Verdict.OK, f"{self._place}, version {server['version']}, role {server['role']}")
        yield from self._way(pooled)
        yield clock_probe(server["now_s"] - middle_s, whose="the server's clock")
        yield from _durable(server)
        if server["standby"]:
            mend = "name the primary in connection_string; target_session_attrs=read-write finds it among several hosts"
            yield Probe("writes", Verdict.PROBLEM, "the server is a standby, which takes none", mend)
            return
        if server["read_only"] == "on":
            mend = f"ALTER ROLE {role} SET default_transaction_read_only = off"
            yield Probe("writes", Verdict.PROBLEM, "transactions of this role are read-only", mend)
            return
        missing = list(self._rights(server, role, database))
        yield from missing or [self._written(server)]
        yield from self._room(server)

    def _row(self, sql: str, **values: object) -> dict[str, Any]:
        cursor = self._connection.cursor(row_factory=psycopg.rows.dict_row)
        found = cursor.execute(sql.encode(), {"schema": self._schema, **values}).fetchone()
        return found if found is not None else {}

    def _way(self, pooled: str) -> Iterator[Probe]:
        """What lies between here and the server."""
        info = self._connection.info
        host = info.host
        local = not host or host.startswith(("/", "@", "127.")) or host in {"localhost", "::1"}
        if not local and not self._connection.pgconn.ssl_in_use:
            found = f"the connection to {host} is not encrypted"
            yield Probe("encryption", Verdict.WARNING, found, "add sslmode=verify-full to connection_string")
        if pooled == "session":
            yield Probe("pooler", Verdict.OK, "one (PgBouncer, say) stands in front of the server, and keeps sessions")
        elif pooled:
            found = (
                "a pooler (PgBouncer, say) hands out the server's sessions by the transaction; a window whose rows do not "
                "fit into memory needs one session, and fails"
            )
            yield Probe("pooler", Verdict.WARNING, found, POOLED_HINT)

    def _rights(self, server: dict[str, Any], role: str, database: str) -> Iterator[Probe]:
        schema = self._sql.quote(self._schema)
        if not server["may_stage"]:
            found = f"role {server['role']} may make no temporary tables, in which rows are staged"
            yield Probe("rights", Verdict.PROBLEM, found, f"GRANT TEMPORARY ON DATABASE {database} TO {role}")
        if not server["has_schema"]:
            if not server["may_make_schemas"]:
                found = f"there is no schema {self._schema!r}, and role {server['role']} may not make it"
                yield Probe("rights", Verdict.PROBLEM, found, f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
            return
        if not self._row(_MAY_CREATE)["may"]:
            found = f"role {server['role']} may make no tables in schema {self._schema!r}"
            yield Probe("rights", Verdict.PROBLEM, found, f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}")
        foreign = self._row(_FOREIGN, names=[STATES, HISTORY, DELIVERED])
        if foreign:
            found = f"table {foreign['name']}, which keeps the states, belongs to role {foreign['owner']}"
            mend = f"ALTER TABLE {self._sql.relation(self._schema, foreign['name'])} OWNER TO {role}, and so for all of the schema"
            yield Probe("rights", Verdict.PROBLEM, found, mend)

    def _written(self, server: dict[str, Any]) -> Probe:
        table = self._sql.relation(self._schema, f"_cq_probe_{secrets.token_hex(4)}")
        statements = [
            libpq.begin(dict.fromkeys(("statement_timeout", "lock_timeout"), f"'{_STATEMENT_S}s'"), read_only=False),
            *([] if server["has_schema"] else [f"CREATE SCHEMA {self._sql.quote(self._schema)}"]),
            f"CREATE TABLE {table} (id bigint)",
            "CREATE TEMP TABLE _cq_probe ON COMMIT DROP AS SELECT 1::bigint AS id",
            f"INSERT INTO {table} SELECT id FROM pg_temp._cq_probe",
            f"ALTER TABLE {table} ADD PRIMARY KEY (id)",
            f"DELETE FROM {table}",
        ]
        with translated(self._place, "make, write and empty a table in one transaction"):
            try:
                for statement in statements:
                    self._connection.execute(statement.encode())
            finally:
                with suppress(psycopg.Error):
                    self._connection.execute(b"ROLLBACK")
        return Probe("rights", Verdict.OK, "tables can be made, changed, written and emptied, in one transaction")

    @staticmethod
    def _room(server: dict[str, Any]) -> Iterator[Probe]:
        free = server["free"]
        if free < _FREE_FEW:
            mend = (
                "ALTER SYSTEM SET max_connections = 200, and restart the server; or lower `concurrency` of the sources"
            )
            yield Probe("connections", Verdict.WARNING, f"{max(free, 0)} are free; a task takes one", mend)
        else:
            yield Probe("connections", Verdict.OK, f"{free} are free")


def _durable(server: dict[str, Any]) -> Iterator[Probe]:
    """Whether a commit that was acknowledged is there after a loss of power."""
    bad = False
    for name, value, verdict in (
        ("fsync", server["fsync"], Verdict.PROBLEM),
        ("full_page_writes", server["pages"], Verdict.WARNING),
    ):
        if value == "off":
            bad = True
            found = f"{name} = off: a crash of the server's machine may lose or damage what was committed"
            yield Probe("durability", verdict, found, f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()")
    if not bad:
        said = "; synchronous_commit = off is overruled in every transaction" if server["commits"] == "off" else ""
        yield Probe("durability", Verdict.OK, f"what is committed survives a crash{said}")
