"""The source ``sqlite``: tables and views of one SQLite file.

The file is opened read-only, with a connection for each read. How a pass over a table goes is told in ``reading``,
what its cursor is made of in ``high_water``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.sql.source_tables import queries, sweepable, task_id
from strandline.connectors.sqlite.bound import Clock
from strandline.connectors.sqlite.catalog import Catalogued, catalogue, connect, does_not_work, make_views, queried
from strandline.connectors.sqlite.copies import looked_up
from strandline.connectors.sqlite.description import READ
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.connectors.sqlite.errors import of_the_statement, translated
from strandline.connectors.sqlite.plan import Plan, SQLiteTable, plan
from strandline.connectors.sqlite.proposals import propose
from strandline.connectors.sqlite.reading import TableRead
from strandline.connectors.sqlite.rewind import rewound, rows_between
from strandline.connectors.sqlite.source_probes import probe_source
from strandline.describe import how_by
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Cursor, Insert, SourceMessage
from strandline.place import file_places
from strandline.probe import Probe
from strandline.proposal import Proposals
from strandline.reading import Reading
from strandline.settings import Duration, duration_s, lasting
from strandline.source import Task
from strandline.table import Table
from strandline.table_settings import PerTable

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["SQLiteSource", "SQLiteTable"]


def _no_columns() -> "pa.Schema":
    return pa.schema([("unreadable", pa.null())])


def _clock(connection: "Connection") -> int:
    """An SQLite file has the clock of whoever opens it."""
    return int(connection.execute("SELECT strftime('%s', 'now')").fetchone()[0])


class SQLiteSource:
    """See ``strandline.source.Source``. Safe to share between threads: every call has a connection of its own."""

    description = READ

    class Spec(BaseModel):
        """Where the tables are, and how they are read."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(min_length=1, description="The database file.")
        tables: PerTable[SQLiteTable] = Field(
            default_factory=partial(PerTable, SQLiteTable), description="How tables are read, by name or glob."
        )
        busy_timeout: Duration = lasting("30s", "How long to wait for a writer that holds the file.")

    def __init__(self, spec: Spec, *, clock: Clock = _clock) -> None:
        self._spec, self._clock = spec, clock
        self._plans: dict[str, Plan] = {}

    def places(self) -> Sequence[str]:
        """The file; see ``strandline.place``."""
        return file_places(self._spec.path)

    def reaches(self, places: Sequence[str]) -> bool:
        """Every table of the file is read, whatever its name begins with; see ``strandline.place``."""
        return any(name == own or name.startswith(f"{own} ") for name in places for own in self.places())

    def tables(self) -> Sequence[Table]:
        """Every table and view, by name; each that cannot be read with the reason."""
        self._plans, unreadable = self._look()
        readable = [one.table for one in self._plans.values()]
        broken = [Table(name, _no_columns(), unreadable=error) for name, error in unreadable.items()]
        return sorted([*readable, *broken], key=lambda table: table.name)

    def how(self, table: Table, *, mirror: bool) -> str:
        """By its key; see ``strandline.describe.TellsHow``."""
        del mirror  # what is deleted is looked for only where the spec says so
        written = self._spec.tables.written(table.name, table.spec_name)
        deletes = "sweep" if written.get("deletes") == "sweep" else ""
        return how_by(", ".join(table.incremental_key), {"lag": written.get("lag"), "deletes": deletes})

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """Each table is a task."""
        return [Task(task_id(table.name), (table,)) for table in tables]

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """A pass over the table of ``task``; see ``reading``."""
        name = task.tables[0].name
        planned = self._planned(name).formerly(reading.former.get(name, ()))
        with closing(self._connect(planned)) as connection, translated(self._spec.path, name):
            yield from TableRead(connection, planned, reading, self._clock).messages(reading.cursor)

    def read_keys(
        self,
        task: Task,  # noqa: ARG002 -- each table is a task
        table: str,
        keys: "pa.RecordBatch",
        reading: Reading,
    ) -> Iterator[Insert]:
        """The rows of these primary keys; see ``strandline.source.ReadsKeys``."""
        planned = self._planned(table).formerly(reading.former.get(table, ()))
        with closing(self._connect(planned)) as connection, translated(self._spec.path, table):
            yield from looked_up(connection, planned, keys, reading)

    def rewound(self, task: Task, cursor: Cursor, to: str | timedelta) -> Cursor:
        """A value of the key, or a time before it; see ``strandline.source.Rewinds``."""
        planned = self._planned(task.tables[0].name)
        with closing(self._connect(planned)) as connection, translated(self._spec.path, planned.table.name):
            return rewound(connection, planned, self._clock, cursor, to)

    def rows_between(self, task: Task, earlier: Cursor, later: Cursor) -> int:
        """Counted; see ``strandline.source.Rewinds``."""
        planned = self._planned(task.tables[0].name)
        with closing(self._connect(planned)) as connection, translated(self._spec.path, planned.table.name):
            return rows_between(connection, planned, self._clock, earlier, later)

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """Nothing to do: SQLite does not know its readers."""

    def probes(self) -> Iterator[Probe]:
        """What makes reading slow, or a promise weak; see ``strandline.probe``."""
        plans, _ = self._look()
        with closing(self._connect(*plans.values())) as connection, translated(self._spec.path):
            yield from probe_source(connection, self._spec.path, plans.values())

    def proposals(self) -> Proposals:
        """By which column each table is read best; see ``strandline.proposal``."""
        plans, _ = self._look()
        with closing(self._connect(*plans.values())) as connection, translated(self._spec.path):
            return Proposals(tuple(propose(connection, plans.values())))

    def close(self) -> None:
        """Nothing to do: every call closes its connection."""

    def _look(self) -> tuple[dict[str, Plan], dict[str, TaskError | UsageError]]:
        """How each table is read; and why others cannot be read."""
        with closing(self._connect()) as connection, translated(self._spec.path):
            found, broken = self._catalogue(connection)
            self._spec.tables.check(
                dict.fromkeys([*found, *broken], ""),
                where=f"SQLite file {self._spec.path!r}",
                columns={name: [column.name for column in entry.columns] for name, entry in found.items()},
            )
            plans = {}
            for name, entry in found.items():
                try:
                    plans[name] = self._plan(connection, entry)
                except sqlite3.OperationalError as error:
                    if not of_the_statement(error):
                        raise
                    broken[name] = does_not_work(name, "view" if entry.is_view else "table", error)
                except TaskError as error:
                    broken[name] = error
        return plans, broken

    def _catalogue(self, connection: "Connection") -> tuple[dict[str, Catalogued], dict[str, TaskError | UsageError]]:
        """Every table that can be read, those that a query makes included; and why others cannot be read."""
        found, cannot = catalogue(connection)
        broken: dict[str, TaskError | UsageError] = dict(cannot)
        for name, query in queries(self._spec.tables).items():
            for known in (found, broken):
                known.pop(name, None)
            try:
                found[name] = queried(connection, name, query)
            except UsageError as error:
                broken[name] = self._spec.tables.under_globs(error, name)
        return found, broken

    def _plan(self, connection: "Connection", entry: Catalogued) -> Plan:
        """How a table is read, or why its settings do not fit.

        Raises:
            TaskError: without settings, nobody can read it.
        """
        try:
            settings = self._spec.tables.of(entry.name)
            return plan(connection, entry, sweepable(self._spec.tables, settings, entry.primary_key, entry.name))
        except UsageError as error:
            unfit = self._spec.tables.under_globs(error, entry.name)
        try:
            plain = plan(connection, entry, SQLiteTable())
        except UsageError as error:
            raise TaskError(error.message, hint=error.hint) from error
        return replace(plain, table=replace(plain.table, unreadable=unfit))

    def _planned(self, name: str) -> Plan:
        if name not in self._plans:
            self.tables()
        if name not in self._plans:
            raise TaskError(
                f"SQLite file {self._spec.path!r} has no table {name!r} any more", hint="sync again to read what it has"
            )
        if (error := self._plans[name].table.unreadable) is not None:
            raise error
        return self._plans[name]

    def _connect(self, *plans: Plan) -> "Connection":
        connection = connect(self._spec.path, busy_timeout_s=duration_s(self._spec.busy_timeout))
        make_views(connection, [one.entry for one in plans])
        return connection
