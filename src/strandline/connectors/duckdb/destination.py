"""The destination ``duckdb``: tables of a DuckDB file, written from Arrow.

Rows, cursor and fence are committed in one transaction, so an interrupted sync leaves neither a gap nor a duplicate.
There is no primary-key index: a merge by stage, delete and insert is faster without one.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.arrow.casts import cast_back
from strandline.connectors.duckdb.columns import Columns
from strandline.connectors.duckdb.migration import DuckDBMigrator
from strandline.connectors.duckdb.probes import probe_database
from strandline.connectors.duckdb.session import Database, DuckDBSession
from strandline.connectors.duckdb.types import TYPES_REFUSED
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.merge import Merge, holds
from strandline.connectors.sql.migration import creation
from strandline.connectors.sql.staging import STAGED_BYTES_MAX, Staging
from strandline.connectors.sql.states import SqlStates, check_fence, save_state
from strandline.connectors.sql.tables import DELIVERED
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
from strandline.state import StateBackend
from strandline.table import Table

__all__ = ["DuckDBDestination"]

_READ_ROWS = 65_536
_VACUUM_ROWS = 122_880
"""How many rows a run deletes until its checkpoints fill the places that they left: a row group of DuckDB's."""
_VACUUM_RUNS = 16
"""Of so many runs one fills places however little it deletes, so that many small runs do not add up to a large file."""
_VACUUM_TASKS_MAX = 4
"""How many places are filled at a checkpoint. DuckDB's default, 100, writes most of a large table again after each merge,
for seconds and in all of its memory; so it is done little by little, and not at all in a run that deletes hardly anything."""


class DuckDBDestination:
    """See ``strandline.destination.Destination``. One connection; every call has a cursor of its own."""

    staged_bytes_max = STAGED_BYTES_MAX

    class Spec(BaseModel):
        """Where the tables are."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(min_length=1, description="The database file, created if missing; `:memory:` keeps nothing.")
        schema_name: str = Field("main", alias="schema", min_length=1, description="The schema of the tables.")
        memory_limit: str = Field(
            "1GB",
            min_length=1,
            description="How much memory DuckDB may use for buffers; more makes large merges faster.",
        )

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        settings = {"memory_limit": spec.memory_limit, "max_vacuum_tasks": "0"}
        self._database = Database(spec.path, spec.schema_name, settings)
        self._states = SqlStates(self._database, f"DuckDB {spec.path}")
        self._deleted = 0

    @property
    def capabilities(self) -> Capabilities:
        """What DuckDB can do."""
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
        """The schema of the file; see ``strandline.place``."""
        names = file_places(self.spec.path) if self.spec.path != ":memory:" else []
        return [f"{name} {self.spec.schema_name}" for name in names]

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
        columns = Columns(table)
        if not apply:
            if not self._database.exists:
                sql = DuckDBSession.dialect
                into = sql.relation(self.spec.schema_name, table.name)
                return Migration((creation(table, columns.stored, into, sql),), None, empty=True, owners=())
            with self._database.session() as session, self._database.meaning(f"look at {table.name}"):
                return DuckDBMigrator(session, columns, mode, replaces).plan(ownership)
        with self._database.writing() as session:
            check_fence(session, fence)
            return DuckDBMigrator(session, columns, mode, replaces).apply(ownership)

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``, in one transaction."""
        columns: dict[int, Columns] = {}

        def prepare(table: Table, batch: "pa.RecordBatch", version: "pa.Array | None") -> "pa.RecordBatch":
            if id(table) not in columns:
                columns[id(table)] = Columns(table)
            return columns[id(table)].prepare(batch, version)

        with self._database.session() as session:
            staging = Staging(mode, prepare=prepare, spill=session.spill, bytes_max=self.staged_bytes_max)
            staging.take(window)
            with self._database.transaction(session):
                check_fence(session, fence, key=window.key, expected=window.expected)
                merge = Merge(session, window, mode, session.relation(DELIVERED), partial(_migrator, session))
                merge.apply(staging.steps)
                window.emptied(merge.emptied())
                state = save_state(session, window.key, window.state, expected=window.expected)
                self._vacuum(session, fence)
        return Receipt(state, dict(merge.rows), dict(merge.known), merge.removed, merge.lacking)

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there are rows of a scope."""
        if not self._database.exists:
            return Held(rows=False)
        with self._database.session() as session, self._database.meaning(f"look at {table.name}"):
            return Held(holds(session, table, scope))

    def _vacuum(self, session: DuckDBSession, fence: Fence) -> None:
        """In a transaction: whether the checkpoints after it fill the places of deleted rows."""
        self._deleted += session.deleted
        if self._deleted >= _VACUUM_ROWS or fence.epoch % _VACUUM_RUNS == 0:
            session.run(Statement(f"SET GLOBAL max_vacuum_tasks = {_VACUUM_TASKS_MAX}"))

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The stored rows, in the Arrow types of ``table``."""
        names = list(columns) if columns is not None else table.schema.names
        wanted = pa.schema([table.schema.field(name) for name in names])
        if not self._database.exists:
            raise TaskError(f"{table.name}: there is no DuckDB file {self.spec.path}")
        stored = Columns(table)
        with self._database.session() as session, self._database.meaning(f"read {table.name}"):
            query = f"SELECT {stored.reading(names)} FROM {session.relation(table.name)} AS t"
            for batch in session.cursor.sql(query).to_arrow_reader(_READ_ROWS):
                arrays = [
                    cast_back(array, field.type, where=f"{table.name}.{field.name}")
                    for array, field in zip(batch.columns, wanted, strict=True)
                ]
                yield pa.record_batch(arrays, schema=wanted)

    def probes(self) -> Iterator[Probe]:
        """Whether rows can be written and kept; see ``strandline.probe``."""
        yield from probe_database(self.spec.path, self.spec.schema_name, {"memory_limit": self.spec.memory_limit})

    def close(self) -> None:
        """Release the file. A second call does nothing."""
        self._database.close()


def _migrator(session: DuckDBSession, table: Table, replaces: Scope) -> DuckDBMigrator:
    return DuckDBMigrator(session, Columns(table), MigrateMode.SAFE, replaces)
