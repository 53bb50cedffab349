"""The source ``sqlite``: tables and views of one SQLite file.

The file is opened read-only, with a connection for each read. How a pass over a table goes is told in ``_sqlite_pass``,
what its cursor is made of in ``_sqlite_heights``.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from strandline.errors import TaskError
from strandline.lazy import sqlite3
from strandline.message import Cursor, Message
from strandline.probe import Probe
from strandline.proposal import Proposals
from strandline.source import RunContext, Task
from strandline.sources._sqlite_bound import Clock
from strandline.sources._sqlite_catalog import catalogue, connect, of_the_statement, translated
from strandline.sources._sqlite_pass import Reading
from strandline.sources._sqlite_plan import Plan, SQLiteTable, plan
from strandline.sources._sqlite_probes import probe_file
from strandline.sources._sqlite_proposals import propose
from strandline.sources._tables import Duration, duration_s, known
from strandline.table import Table

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["SQLiteSource", "SQLiteTable"]

log = logging.getLogger(__name__)


def _clock(connection: "Connection") -> int:
    """An SQLite file has the clock of whoever opens it."""
    return int(connection.execute("SELECT strftime('%s', 'now')").fetchone()[0])


class SQLiteSource:
    """See ``strandline.source.Source``. Safe to share between threads: every call has a connection of its own."""

    class Spec(BaseModel):
        """Where the tables are, and how they are read."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(min_length=1, description="The database file.")
        tables: dict[str, SQLiteTable] = Field(default_factory=dict, description="How tables are read, by name.")
        busy_timeout: Duration = Field(
            default=timedelta(seconds=30), description="How long to wait for a writer that holds the file."
        )

    def __init__(self, spec: Spec, *, clock: Clock = _clock) -> None:
        self._spec, self._clock = spec, clock
        self._plans: dict[str, Plan] = {}

    def tables(self) -> Sequence[Table]:
        """Every table and view that can be read, by name. A view that does not work has no columns to offer."""
        plans, broken = self._look()
        for name, reason in broken.items():
            log.warning("SQLite file %r: view %r does not work, and is left out: %s", self._spec.path, name, reason)
        self._plans = plans
        return [one.table for one in plans.values()]

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """Each table is a task."""
        return [Task(_task_id(table.name), (table,)) for table in tables]

    def read(self, task: Task, cursor: Cursor | None, context: RunContext) -> Iterator[Message]:
        """A pass over the table of ``task``; see ``_sqlite_pass``."""
        name = task.tables[0].name
        planned = self._planned(name)
        with closing(self._connect()) as connection, translated(self._spec.path, name):
            yield from Reading(connection, planned, context, self._clock).messages(cursor)

    def missing(self, task: str) -> None:
        """A table that was dropped is let go; a view that does not work any more is a fault.

        Raises:
            TaskError: it is such a view.
        """
        for name, reason in self._look()[1].items():
            if _task_id(name) == task:
                raise TaskError(
                    f"SQLite file {self._spec.path!r}: view {name!r} does not work any more: {reason}",
                    hint="mend the view, or drop it",
                )

    def acknowledge(self, task: Task, cursor: Cursor) -> None:
        """Nothing to do: SQLite does not know its readers."""

    def probes(self) -> Iterator[Probe]:
        """What makes reading slow, or a promise weak; see ``strandline.probe``."""
        plans, _ = self._look()
        with closing(self._connect()) as connection, translated(self._spec.path):
            yield from probe_file(connection, self._spec.path, plans.values())

    def proposals(self) -> Proposals:
        """By which column each table is read best; see ``strandline.proposal``."""
        plans, _ = self._look()
        with closing(self._connect()) as connection, translated(self._spec.path):
            return Proposals(tuple(propose(connection, plans.values())))

    def close(self) -> None:
        """Nothing to do: every call closes its connection."""

    def _look(self) -> tuple[dict[str, Plan], dict[str, str]]:
        """How each table is read; and the views that do not work, each with the reason."""
        with closing(self._connect()) as connection, translated(self._spec.path):
            found, broken = catalogue(connection)
            for name in self._spec.tables:
                known("table", name, [*found, *broken], where=f"SQLite file {self._spec.path!r}")
            plans = {}
            for name, entry in found.items():
                try:
                    plans[name] = plan(connection, entry, self._spec.tables.get(name) or SQLiteTable())
                except sqlite3.OperationalError as error:
                    if not (entry.is_view and of_the_statement(error)):
                        raise
                    broken[name] = str(error)
        return plans, broken

    def _planned(self, name: str) -> Plan:
        if name not in self._plans:
            self.tables()
        if name not in self._plans:
            raise TaskError(
                f"SQLite file {self._spec.path!r} has no table {name!r} any more", hint="sync again to read what it has"
            )
        return self._plans[name]

    def _connect(self) -> "Connection":
        return connect(self._spec.path, busy_timeout_s=duration_s(self._spec.busy_timeout))


def _task_id(name: str) -> str:
    """The name of the table, but that ``@`` must not come first. Distinct names have distinct ids."""
    return f"%{name}" if name.startswith(("@", "%")) else name
