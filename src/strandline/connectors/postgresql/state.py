"""The state backend ``postgresql``: all states of a project in two tables of a PostgreSQL database.

Each save is one transaction, so that a pooler may hand out sessions by the transaction. What is acknowledged is durable: a
``synchronous_commit = off`` of the role is overruled.
"""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.postgresql.database import Database, Limits
from strandline.connectors.postgresql.probes import probe_states
from strandline.connectors.postgresql.session import PostgreSQLSession
from strandline.connectors.sql.state_database import OnlyStates, TableName, state_tables
from strandline.connectors.sql.states import SqlStates, StateTables
from strandline.describe import Description
from strandline.own_tables import CURSORS
from strandline.probe import Probe
from strandline.settings import Seconds

__all__ = ["PostgreSQLState"]

_KEPT = Description(drivers=("psycopg",))


class _Server(OnlyStates, Database):
    def __init__(self, connection_string: str, schema: str, tables: StateTables, limits: Limits) -> None:
        super().__init__(connection_string, schema, limits)
        self.tables = tables

    def _create(self, session: PostgreSQLSession) -> None:
        self._create_schema(session)
        super()._create(session)


class PostgreSQLState(SqlStates):
    """See ``strandline.state.StateBackend``."""

    description = _KEPT

    class Spec(BaseModel):
        """Settings of the backend ``postgresql``."""

        model_config = ConfigDict(extra="forbid")

        connection_string: str = Field(
            min_length=1,
            description="A URL (`postgresql://user:password@host:5432/database?sslmode=verify-full`) or settings of libpq.",
        )
        schema_name: str = Field(
            "public", alias="schema", min_length=1, description="The schema of the tables, created if missing."
        )
        table: TableName = CURSORS
        statement_timeout: Seconds = Field(60, description="How long one statement may take. A duration, as 1m.")
        lock_timeout: Seconds = Field(
            30, description="How long to wait for a lock that another connection holds. A duration, as 30s."
        )

    def __init__(self, spec: Spec) -> None:
        limits = Limits(statement_timeout_s=spec.statement_timeout, lock_timeout_s=spec.lock_timeout)
        tables = state_tables(spec.table)
        self._server = _Server(spec.connection_string, spec.schema_name, tables, limits)
        self._schema = spec.schema_name
        where = f"PostgreSQL table {spec.schema_name}.{spec.table}"
        super().__init__(self._server, where, tables, fenced=False)

    def probes(self) -> Iterator[Probe]:
        """Whether states can be written and kept; see ``strandline.probe``."""
        yield from probe_states(self._server, self._schema, self._tables)

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        self._server.close()
