"""The state backend ``sqlite``: all states of a project in one SQLite file, which several processes of a machine may share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.sql.state_database import OnlyStates, TableName, state_tables
from strandline.connectors.sql.states import SqlStates, StateTables
from strandline.connectors.sqlite.database import Database
from strandline.connectors.sqlite.probes import probe_states
from strandline.describe import Description
from strandline.own_tables import CURSORS
from strandline.paths import make_directory
from strandline.probe import Probe
from strandline.settings import Seconds

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["SQLiteState"]


class _File(OnlyStates, Database):
    def __init__(self, path: str, tables: StateTables, *, busy_timeout_s: float) -> None:
        super().__init__(path, busy_timeout_s=busy_timeout_s)
        self.tables = tables

    def _connect(self, *, create: bool) -> "Connection":
        path = Path(self.path).absolute()
        if create and not path.exists():
            make_directory(path.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # cursors may tell what tables hold
        return super()._connect(create=create)


class SQLiteState(SqlStates):
    """See ``strandline.state.StateBackend``. SQLite's own lock makes the comparison and the write one step."""

    description = Description(of_host=True)

    class Spec(BaseModel):
        """Settings of the backend ``sqlite``."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(
            ".cq/state.db", min_length=1, description="The file; made if it is missing, as is its directory."
        )
        table: TableName = CURSORS
        busy_timeout: Seconds = Field(
            30.0, description="How long to wait for another process that writes to the file; a duration, as 30s."
        )

    def __init__(self, spec: Spec) -> None:
        self._file = _File(spec.path, state_tables(spec.table), busy_timeout_s=spec.busy_timeout)
        super().__init__(self._file, self._file.place, self._file.tables, fenced=False)

    def probes(self) -> Iterator[Probe]:
        """Whether states can be written and kept; see ``strandline.probe``."""
        yield from probe_states(self._file.path)

    def close(self) -> None:
        """Release the file. A second call does nothing."""
        self._file.close()
