"""The destination ``sqlite``: tables of an SQLite file.

Rows, cursor and fence are committed in one transaction, so an interrupted sync leaves neither a gap nor a duplicate. The
file is in WAL mode: it can be read while a sync writes, and a commit survives a loss of power.

Times are texts in UTC as SQLite's own functions write them (`2024-02-29 12:00:00.000000Z`), decimals texts with all their
digits (compare and order them by `CAST(… AS REAL)`), booleans 0 and 1, UUIDs texts, durations whole numbers of their unit.
What is nested is JSON. A NaN is the text `NaN`, and a number of 2^63 or more a text of 20 digits.
"""

from collections.abc import Collection, Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

from strandline.connectors.sql.destination import SqlDestination
from strandline.connectors.sql.merge import Merge
from strandline.connectors.sql.staging import Staging, Step
from strandline.connectors.sqlite.columns import Columns
from strandline.connectors.sqlite.database import Database
from strandline.connectors.sqlite.description import WRITTEN
from strandline.connectors.sqlite.dialect import folded
from strandline.connectors.sqlite.migration import SQLiteMigrator
from strandline.connectors.sqlite.probes import probe_destination
from strandline.connectors.sqlite.session import SQLiteSession
from strandline.connectors.sqlite.stored_names import StoredNames
from strandline.destination import Reach, Window, WriteMode
from strandline.place import file_places
from strandline.probe import Probe
from strandline.settings import Seconds
from strandline.table import Table

__all__ = ["SQLiteDestination"]

_DEFAULT_SCHEMA = "main"
_RESERVED = ("sqlite_", "cq_", "_cq_")
_STAGED_BYTES_MAX = 8 << 20
"""How much of a window stays in memory as Arrow. All of it goes into temporary tables in the end, and is larger as
Python's objects."""


class SQLiteDestination(SqlDestination[SQLiteSession]):
    """See ``strandline.destination.Destination``. Every call has a connection of its own."""

    description = WRITTEN
    staged_bytes_max = _STAGED_BYTES_MAX
    reach = Reach.FILE
    columns_type, migrator_type = Columns, SQLiteMigrator

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
        super().__init__(self._database, "main", f"SQLite {spec.path}")

    def places(self) -> Sequence[str]:
        """The file, with the prefix of its tables where there is one; see ``strandline.place``."""
        prefix = f" {self._names.prefix}" if self._names.prefix else ""
        return [name + prefix for name in file_places(self.spec.path)]

    def _stored(self, table: Table) -> Table:
        return self._names.table(table)

    def _stored_name(self, name: str) -> str:
        return self._names.prefix + name

    def _renamed(self, window: Window) -> Window:
        return self._names.window(window)

    def _take(self, staging: Staging, window: Window) -> None:
        staging.take(window)
        staging.spill()  # nobody has to wait for the lock while Python makes rows

    def _merge(self, session: SQLiteSession, window: Window, mode: WriteMode, steps: Collection[Step]) -> Merge:
        if mode is not WriteMode.APPEND:
            session.index_keys(step.table for step in steps)
        return super()._merge(session, window, mode, steps)

    def probes(self) -> Iterator[Probe]:
        """Whether rows can be written and kept; see ``strandline.probe``."""
        yield from probe_destination(self.spec.path, self._names.prefix)
