"""The destination ``duckdb``: tables of a DuckDB file, written from Arrow.

Rows, cursor and fence are committed in one transaction, so an interrupted sync leaves neither a gap nor a duplicate.
There is no primary-key index: a merge by stage, delete and insert is faster without one.
"""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.duckdb.columns import Columns
from strandline.connectors.duckdb.database import Database
from strandline.connectors.duckdb.migration import DuckDBMigrator
from strandline.connectors.duckdb.probes import probe_destination
from strandline.connectors.duckdb.session import DuckDBSession
from strandline.connectors.sql.destination import SqlDestination
from strandline.connectors.sql.dialect import Statement
from strandline.describe import Description
from strandline.destination import Fence, Reach
from strandline.place import file_places
from strandline.probe import Probe

__all__ = ["DuckDBDestination"]

_VACUUM_ROWS = 122_880
"""How many rows a run deletes until its checkpoints fill the places that they left: a row group of DuckDB's."""
_VACUUM_RUNS = 16
"""Of so many runs one fills places however little it deletes, so that many small runs do not add up to a large file."""
_VACUUM_TASKS_MAX = 4
"""How many places are filled at a checkpoint. DuckDB's default, 100, writes most of a large table again after each merge,
for seconds and in all of its memory; so it is done little by little, and not at all in a run that deletes hardly anything."""


class DuckDBDestination(SqlDestination[DuckDBSession]):
    """See ``strandline.destination.Destination``. One connection; every call has a cursor of its own."""

    description = Description(
        schemes=("duckdb",),
        suffixes=(".duckdb",),
        magic=((8, b"DUCK"),),
        examples=("warehouse.duckdb",),
        proposed="warehouse.duckdb",
        drivers=("duckdb",),
        installs="strandline[duckdb]",
    )
    reach = Reach.PROCESS
    columns_type, migrator_type = Columns, DuckDBMigrator

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
        super().__init__(self._database, spec.schema_name, f"DuckDB {spec.path}")
        self._deleted = 0

    def places(self) -> Sequence[str]:
        """The schema of the file; see ``strandline.place``."""
        names = file_places(self.spec.path) if self.spec.path != ":memory:" else []
        return [f"{name} {self.spec.schema_name}" for name in names]

    def _merged(self, session: DuckDBSession, fence: Fence) -> None:
        """Whether the checkpoints after the transaction fill the places of deleted rows."""
        self._deleted += session.deleted
        if self._deleted >= _VACUUM_ROWS or fence.epoch % _VACUUM_RUNS == 0:
            session.run(Statement(f"SET GLOBAL max_vacuum_tasks = {_VACUUM_TASKS_MAX}"))

    def probes(self) -> Iterator[Probe]:
        """Whether rows can be written and kept; see ``strandline.probe``."""
        yield from probe_destination(self.spec.path, self.spec.schema_name, {"memory_limit": self.spec.memory_limit})
