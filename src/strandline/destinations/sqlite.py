"""The destination ``sqlite``: tables of an SQLite file.

Rows, cursor and fence are committed in one transaction, so an interrupted sync leaves neither a gap nor a duplicate. The
file is in WAL mode: it can be read while a sync writes, and a commit survives a loss of power.

Times are texts in UTC as SQLite's own functions write them (`2024-02-29 12:00:00.000000Z`), decimals texts with all their
digits (compare and order them by `CAST(… AS REAL)`), booleans 0 and 1, UUIDs texts, durations whole numbers of their unit.
What is nested is JSON. A NaN is the text `NaN`, and a number of 2^63 or more a text of 20 digits.
"""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

from strandline.destination import (
    Capabilities,
    Fence,
    KeyRange,
    MigrateMode,
    Migration,
    Receipt,
    Scope,
    Transactional,
    Window,
    WriteMode,
)
from strandline.destinations._merge import Merge, guard
from strandline.destinations._sql import Statement
from strandline.destinations._sql_migration import creation
from strandline.destinations._sql_states import DELIVERED, SqlStates, check_fence, save_state
from strandline.destinations._sqlite_columns import Columns
from strandline.destinations._sqlite_database import Database
from strandline.destinations._sqlite_migration import SQLiteMigrator
from strandline.destinations._sqlite_probes import probe_database
from strandline.destinations._sqlite_session import SQLiteSession
from strandline.destinations._sqlite_types import TYPES_REFUSED
from strandline.destinations._staging import Staging
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.probe import Probe
from strandline.spec_models import Seconds
from strandline.state import StateBackend
from strandline.table import Table

__all__ = ["SQLiteDestination"]

_READ_ROWS = 10_000
_STAGED_BYTES_MAX = 8 << 20
"""How much of a window stays in memory as Arrow. All of it goes into temporary tables in the end, and is larger as
Python's objects."""


class SQLiteDestination:
    """See ``strandline.destination.Destination``. Every call has a connection of its own."""

    staged_bytes_max = _STAGED_BYTES_MAX

    class Spec(BaseModel):
        """Where the tables are."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(min_length=1, description="The database file, created if missing; its directory must exist.")
        busy_timeout: Seconds = Field(
            30.0, description="How long to wait for another process that writes to the file; a duration, as 30s."
        )

        @field_validator("path")
        @classmethod
        def _is_a_file(cls, path: str) -> str:
            if path == ":memory:":
                raise ValueError("a database in memory would be lost with the cursor; name a file")
            return path

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._database = Database(spec.path, busy_timeout_s=spec.busy_timeout)
        self._states = SqlStates(self._database, f"SQLite {spec.path}")

    @property
    def capabilities(self) -> Capabilities:
        """What SQLite can do."""
        return Capabilities(
            write_modes=frozenset(WriteMode), transactional=Transactional.WINDOW, types_refused=TYPES_REFUSED
        )

    @property
    def states(self) -> StateBackend:
        """The states beside the rows."""
        return self._states

    def migrate(self, table: Table, *, mode: MigrateMode, fence: Fence, apply: bool = True) -> Migration:
        """Make the stored table fit ``table``."""
        columns = Columns(table)
        if not apply:
            if not self._database.exists:
                sql = SQLiteSession.dialect
                change = creation(table, columns.stored, sql.relation("main", table.name), sql)
                return Migration((change,), None, empty=True)
            with self._database.session() as session, self._database.meaning(f"look at {table.name}"):
                return SQLiteMigrator(session, columns, mode).plan()
        with self._database.writing() as session, session.about(table.name):
            check_fence(session, fence)
            return SQLiteMigrator(session, columns, mode).apply()

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``, in one transaction."""
        with self._database.session(create=True) as session:

            def prepare(table: Table, batch: "pa.RecordBatch", version: "pa.Array | None") -> "pa.RecordBatch":
                return session.stored(table).prepare(batch, version)

            staging = Staging(mode, prepare=prepare, spill=session.spill, bytes_max=self.staged_bytes_max)
            staging.take(window)
            staging.spill()  # nobody has to wait for the lock while Python makes rows
            with self._database.transaction(session):
                check_fence(session, fence, key=window.key, expected=window.expected)
                if mode is not WriteMode.APPEND:
                    session.index_keys(step.table for step in staging.steps)
                merge = Merge(session, window, mode, session.relation(DELIVERED))
                merge.apply(staging.steps)
                state = save_state(session, window.key, window.state, expected=window.expected)
        return Receipt(state, dict(merge.rows), dict(merge.known), merge.removed)

    def delete_stale(self, table: Table, *, scope: Scope, fence: Fence) -> int:
        """Delete the scope's rows that are older than its pass."""
        with self._database.writing() as session, session.about(table.name):
            check_fence(session, fence)
            sql = session.dialect
            mine = sql.in_scope(table.name, session.columns(table.name), scope)
            stale = sql.is_stale(scope)
            rows = f"FROM {session.relation(table.name)} AS t WHERE {mine.text}"
            ((total,),) = session.fetch(Statement(f"SELECT count(*) {rows}", mine.values))
            removed = session.run(Statement(f"DELETE {rows} AND {stale.text}", mine.values + stale.values))
            guard(removed, total, scope, table.name)
            return removed

    def read(
        self, table: Table, *, columns: Sequence[str] | None = None, key_range: KeyRange | None = None
    ) -> "Iterator[pa.RecordBatch]":
        """The stored rows, in the Arrow types of ``table``."""
        names = list(columns) if columns is not None else table.schema.names
        if not self._database.exists:
            raise TaskError(f"{table.name}: there is no SQLite file {self.spec.path}")
        with self._database.session() as session, self._database.meaning(f"read {table.name}"):
            stored = session.stored(table)
            # qualified: SQLite takes an unknown bare name in quotes for a text
            query = f"SELECT {session.dialect.quoted(names, 't.')} FROM {session.relation(table.name)} AS t"
            if key_range is not None:
                query += (
                    f" WHERE {session.dialect.in_range(table.primary_key, key_range, session.bounds(table, key_range))}"
                )
            cursor = session.connection.execute(query)
            while rows := cursor.fetchmany(_READ_ROWS):
                yield stored.batch(names, rows)

    def probes(self) -> Iterator[Probe]:
        """Whether rows can be written and kept; see ``strandline.probe``."""
        yield from probe_database(self.spec.path)

    def close(self) -> None:
        """Release the file. A second call does nothing."""
        self._database.close()
