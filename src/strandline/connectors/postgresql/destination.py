"""The destination ``postgresql``: tables of a PostgreSQL database, written by binary COPY.

Rows, cursor and fence are committed in one transaction of one connection, so an interrupted sync leaves neither a gap
nor a duplicate. Batches are encoded by pgpq, without Python in between; they are read by ADBC.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.postgresql.columns import Columns
from strandline.connectors.postgresql.database import Database, Limits
from strandline.connectors.postgresql.description import WRITTEN, place
from strandline.connectors.postgresql.errors import drivers
from strandline.connectors.postgresql.merge import Learned, PostgreSQLMerge
from strandline.connectors.postgresql.migration import PostgreSQLMigrator
from strandline.connectors.postgresql.place import schema_place
from strandline.connectors.postgresql.probes import probe_destination
from strandline.connectors.postgresql.session import PostgreSQLSession
from strandline.connectors.sql.destination import SqlDestination
from strandline.connectors.sql.merge import Merge
from strandline.connectors.sql.staging import Step
from strandline.connectors.sql.states import SqlStates
from strandline.describe import Place
from strandline.destination import Fence, Receipt, Window, WriteMode
from strandline.probe import Probe
from strandline.settings import Seconds
from strandline.state import StateKey

__all__ = ["PostgreSQLDestination"]


class PostgreSQLDestination(SqlDestination[PostgreSQLSession]):
    """See ``strandline.destination.Destination``. Every call has a connection of its own."""

    description = WRITTEN
    columns_type, migrator_type = Columns, PostgreSQLMigrator

    class Spec(BaseModel):
        """Where the tables are."""

        model_config = ConfigDict(extra="forbid")

        connection_string: str = Field(
            min_length=1,
            description="A URL (`postgresql://user:password@host:5432/database?sslmode=verify-full`) or settings of libpq.",
        )
        schema_name: str = Field(
            "public", alias="schema", min_length=1, description="The schema of the tables, created if missing."
        )
        statement_timeout: Seconds = Field(
            3600, description="How long one statement may take; a merge is one. A duration, as 1h."
        )
        lock_timeout: Seconds = Field(
            60, description="How long to wait for a lock that another connection holds. A duration, as 1m."
        )

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        limits = Limits(statement_timeout_s=spec.statement_timeout, lock_timeout_s=spec.lock_timeout)
        self._database = Database(spec.connection_string, spec.schema_name, limits)
        self._learned: dict[tuple[StateKey, str], Learned] = {}
        where = f"PostgreSQL schema {spec.schema_name}"
        super().__init__(self._database, spec.schema_name, where)
        self._states = _States(self._database, where)

    @classmethod
    def understand(cls, written: str) -> Place | None:
        """A URL or settings of libpq; see ``strandline.describe.Understands``."""
        return place(written)

    def places(self) -> Sequence[str]:
        """The schema of this database of this server; see ``strandline.place``."""
        with drivers(), self._database.looking() as session:
            ((system, database),) = session.ask(
                "SELECT (SELECT system_identifier FROM pg_control_system())::text, "
                "(SELECT oid FROM pg_database WHERE datname = current_database())::text"
            )
        return [schema_place(system, database, self.spec.schema_name)]

    def _spill(self, session: PostgreSQLSession) -> Callable[[Step], None]:
        def spill(step: Step) -> None:
            # what is staged goes with its connection, so that a commit that was lost has left nothing
            with self._database.transaction(session, repeatable=True), session.about(step.table.name):
                session.spill(step)

        return spill

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``, in one transaction."""
        try:
            return super().write(window, mode=mode, fence=fence)
        except BaseException:
            # what a window has taught that was not committed, or may not have been, is not so
            for place in [place for place in self._learned if place[0] == window.key]:
                del self._learned[place]
            raise

    def _merge(self, session: PostgreSQLSession, window: Window, mode: WriteMode, steps: Collection[Step]) -> Merge:  # noqa: ARG002 -- none is prepared
        if session.spilled:
            session.check_backend()
        return PostgreSQLMerge(session, window, mode, self._learned)

    def probes(self) -> Iterator[Probe]:
        """Whether rows can be written and kept; see ``strandline.probe``."""
        yield from probe_destination(self._database, self.spec.schema_name)


class _States(SqlStates):
    """Closing them closes idle connections, for who has no more than the states. Whatever is needed is opened again."""

    _sessions: Database

    def close(self) -> None:
        """See ``StateBackend``."""
        self._sessions.close()
