"""The destination ``sqlite``: tables of an SQLite file.

Rows, cursor and fence are committed in one transaction, so an interrupted sync leaves neither a gap nor a duplicate. The
file is in WAL mode: it can be read while a sync writes, and a commit survives a loss of power.

Times are texts in UTC as SQLite's own functions write them (`2024-02-29 12:00:00.000000Z`), decimals texts with all their
digits (compare and order them by `CAST(… AS REAL)`), booleans 0 and 1, UUIDs texts, durations whole numbers of their unit.
What is nested is JSON. A NaN is the text `NaN`, and a number of 2^63 or more a text of 20 digits.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from pydantic import BaseModel, ConfigDict, Field, field_validator

from strandline.connectors.sql.merge import Merge, holds
from strandline.connectors.sql.migration import creation
from strandline.connectors.sql.staging import Staging
from strandline.connectors.sql.states import SqlStates, check_fence, save_state
from strandline.connectors.sql.tables import DELIVERED
from strandline.connectors.sqlite.columns import Columns, folded
from strandline.connectors.sqlite.database import Database
from strandline.connectors.sqlite.destination_probes import probe_database
from strandline.connectors.sqlite.destination_types import TYPES_REFUSED
from strandline.connectors.sqlite.migration import SQLiteMigrator
from strandline.connectors.sqlite.session import SQLiteSession
from strandline.connectors.sqlite.stored_names import StoredNames
from strandline.destination import (
    Capabilities,
    Delivery,
    Fence,
    Held,
    MigrateMode,
    Migration,
    Receipt,
    Scope,
    Window,
    WriteMode,
)
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.ownership import Ownership
from strandline.place import file_places
from strandline.probe import Probe
from strandline.settings import Seconds
from strandline.state import StateBackend
from strandline.table import Table

__all__ = ["SQLiteDestination"]

_DEFAULT_SCHEMA = "main"
_RESERVED = ("sqlite_", "cq_", "_cq_")
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
        schema_name: str = Field(
            "main",
            alias="schema",
            min_length=1,
            description="A prefix of the tables' names, since a file has no schemas: with `crm`, `orders` is stored as "
            "`crm_orders`. With `main`, names stay as they are.",
        )
        busy_timeout: Seconds = Field(
            30.0, description="How long to wait for another process that writes to the file; a duration, as 30s."
        )

        @field_validator("path")
        @classmethod
        def _is_a_file(cls, path: str) -> str:
            if path == ":memory:":
                raise ValueError("a database in memory would be lost with the cursor; name a file")
            return path

        @field_validator("schema_name")
        @classmethod
        def _is_no_name_of_ours(cls, schema: str) -> str:
            if f"{folded(schema)}_".startswith(_RESERVED):
                raise ValueError(f"tables with the prefix {schema!r} would have names of SQLite's or Strandline's own")
            return schema

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._names = StoredNames("" if folded(spec.schema_name) == _DEFAULT_SCHEMA else f"{spec.schema_name}_")
        self._database = Database(spec.path, busy_timeout_s=spec.busy_timeout)
        self._states = SqlStates(self._database, f"SQLite {spec.path}")

    @property
    def capabilities(self) -> Capabilities:
        """What SQLite can do."""
        return Capabilities(
            write_modes=frozenset(WriteMode),
            delivery=Delivery.ATOMIC,
            orders_versions=True,
            types_refused=TYPES_REFUSED,
        )

    @property
    def states(self) -> StateBackend:
        """The states beside the rows."""
        return self._states

    def places(self) -> Sequence[str]:
        """The file, with the prefix of its tables where there is one; see ``strandline.place``."""
        prefix = f" {self._names.prefix}" if self._names.prefix else ""
        return [name + prefix for name in file_places(self.spec.path)]

    def migrate(
        self,
        table: Table,
        *,
        mode: MigrateMode,
        fence: Fence,
        apply: bool = True,
        ownership: Ownership | None = None,
        replaces: Scope | None = None,
    ) -> Migration:
        """Make the stored table fit ``table``."""
        table = self._names.table(table)
        columns = Columns(table)
        if not apply:
            if not self._database.exists:
                sql = SQLiteSession.dialect
                change = creation(table, columns.stored, sql.relation("main", table.name), sql)
                return Migration((change,), None, empty=True, owners=())
            with self._database.session() as session, self._database.meaning(f"look at {table.name}"):
                return SQLiteMigrator(session, columns, mode, replaces).plan(ownership)
        with self._database.writing(cascades=table.allow_cascade) as session, session.about(table.name):
            check_fence(session, fence)
            return SQLiteMigrator(session, columns, mode, replaces).apply(ownership)

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``, in one transaction."""
        window = self._names.window(window)
        cascades = any(table.allow_cascade for table in window.tables.values())
        with self._database.session(create=True, cascades=cascades) as session:

            def prepare(table: Table, batch: "pa.RecordBatch", version: "pa.Array | None") -> "pa.RecordBatch":
                return session.stored(table).prepare(batch, version)

            staging = Staging(mode, prepare=prepare, spill=session.spill, bytes_max=self.staged_bytes_max)
            staging.take(window)
            staging.spill()  # nobody has to wait for the lock while Python makes rows
            with self._database.transaction(session):
                check_fence(session, fence, key=window.key, expected=window.expected)
                if mode is not WriteMode.APPEND:
                    session.index_keys(step.table for step in staging.steps)
                merge = Merge(session, window, mode, session.relation(DELIVERED), partial(_migrator, session))
                merge.apply(staging.steps)
                window.emptied(merge.emptied())
                state = save_state(session, window.key, window.state, expected=window.expected)
        return Receipt(state, dict(merge.rows), dict(merge.known), merge.removed, merge.lacking)

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there are rows of a scope."""
        table = self._names.table(table)
        if not self._database.exists:
            return Held(rows=False)
        with self._database.session() as session, self._database.meaning(f"look at {table.name}"):
            return Held(holds(session, table, scope))

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The stored rows, in the Arrow types of ``table``."""
        table = self._names.table(table)
        names = list(columns) if columns is not None else table.schema.names
        if not self._database.exists:
            raise TaskError(f"{table.name}: there is no SQLite file {self.spec.path}")
        with self._database.session() as session, self._database.meaning(f"read {table.name}"):
            stored = session.stored(table)
            # qualified: SQLite takes an unknown bare name in quotes for a text
            query = f"SELECT {session.dialect.quoted(names, 't.')} FROM {session.relation(table.name)} AS t"
            cursor = session.connection.execute(query)
            while rows := cursor.fetchmany(_READ_ROWS):
                yield stored.batch(names, rows)

    def probes(self) -> Iterator[Probe]:
        """Whether rows can be written and kept; see ``strandline.probe``."""
        yield from probe_database(self.spec.path, self._names.prefix)

    def close(self) -> None:
        """Release the file. A second call does nothing."""
        self._database.close()


def _migrator(session: SQLiteSession, table: Table, replaces: Scope) -> SQLiteMigrator:
    return SQLiteMigrator(session, session.stored(table), MigrateMode.SAFE, replaces)
