"""The source ``sqlite``: tables and views of one SQLite file.

A pass first looks how far it may trust the key: ``bound`` is the greatest value that is not later than this machine's
clock. The cursor after the pass never exceeds it, whatever was read. The first load then reads slices by the row's
position, later passes read by (key, position); both checkpoint after every slice, at exact positions, so that nothing is
read twice within a pass. Each slice is a short read transaction: a reader must not hold up the writers of the source.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Cursor, Message
from strandline.source import RunContext, Task
from strandline.sources._sqlite_bounds import Plan
from strandline.sources._sqlite_catalog import Catalogued, catalogue, connect, quoted, translated
from strandline.sources._sqlite_read import Reading
from strandline.sources._sqlite_rows import TYPES, arrow_type, type_of
from strandline.sources._tables import Duration, TableSettings, duration_s, known, selection
from strandline.table import FULL_READ, Guarantee, Table

__all__ = ["SQLiteSource"]

_SETTLED = (
    "rows whose key was set before their transaction held the write lock need `lag`; ids that are handed out again after "
    "the newest rows were deleted (no AUTOINCREMENT), and updates that leave the key as it is, are not seen; "
    "times without a zone are taken as UTC unless `timezone` says otherwise"
)


class SQLiteTable(TableSettings):
    """How one table is read."""

    types: dict[str, str] = Field(
        default_factory=dict,
        description=f"Types of columns that are not what was declared: {', '.join(sorted(TYPES))}.",
    )


class SQLiteSource:
    """See ``strandline.source.Source``. Every read has a connection of its own, so threads do not meet."""

    class Spec(BaseModel):
        """Where the tables are, and how they are read."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(min_length=1, description="The database file.")
        tables: dict[str, SQLiteTable] = Field(default_factory=dict, description="How tables are read, by name.")
        busy_timeout: Duration = Field(default=timedelta(seconds=30), description="How long to wait for a writer.")

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._plans: dict[str, Plan] = {}

    def tables(self) -> Sequence[Table]:
        """Every table and view, by name."""
        with closing(self._connect()) as connection, translated(self._spec.path):
            found = {entry.name: entry for entry in catalogue(connection)}
            for name in self._spec.tables:
                known("table", name, found, where=f"SQLite file {self._spec.path!r}")
            self._plans = {name: self._plan(connection, entry) for name, entry in found.items()}
        return [plan.table for plan in self._plans.values()]

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """Each table is a task."""
        return [Task(table.name, (table,)) for table in tables]

    def read(self, task: Task, cursor: Cursor | None, context: RunContext) -> Iterator[Message]:
        """One table; see ``strandline.sources._sqlite_read``."""
        plan = self._plans.get(task.id) or self._planned(task.id)
        with closing(self._connect()) as connection, translated(self._spec.path, task.id):
            reading = Reading(connection, plan, context)
            final = yield from reading.rows(cursor)
            if plan.settings.deletes == "sweep":
                yield from reading.present()
            yield Complete(task.id)
            yield Checkpoint(final)

    def _planned(self, name: str) -> Plan:
        self.tables()
        if name not in self._plans:
            raise TaskError(f"SQLite file {self._spec.path!r} has no table {name!r} any more")
        return self._plans[name]

    def acknowledge(self, task: Task, cursor: Cursor) -> None:
        """Nothing to do: SQLite does not know its readers."""

    def close(self) -> None:
        """Nothing to do: every read closes its connection."""

    def _connect(self) -> Any:
        return connect(self._spec.path, busy_timeout_s=duration_s(self._spec.busy_timeout))

    def _plan(self, connection: Any, entry: Catalogued) -> Plan:
        settings = self._spec.tables.get(entry.name) or SQLiteTable()
        where = f"table {entry.name!r}"
        names = [column.name for column in entry.columns]
        key = None if settings.mode == "full" else settings.incremental_key
        primary_key = tuple(settings.primary_key or entry.primary_key)
        for name in [*(settings.columns or ()), *settings.types, *primary_key, *([key] if key else [])]:
            known("column", name, names, where=where)
        chosen = [name for name in names if not settings.columns or name in {*settings.columns, *primary_key, key}]
        kinds = {}
        for column in entry.columns:
            if column.name in chosen:
                kinds[column.name] = self._kind(connection, entry, column.name, column.declared, settings)
        schema = pa.schema([pa.field(name, type_of(kind)) for name, kind in kinds.items()])
        if settings.deletes == "sweep" and not primary_key:
            raise UsageError(f"{where}: `deletes: sweep` needs a primary key", hint="name its `primary_key`")
        table = Table(
            entry.name,
            schema,
            primary_key,
            (key,) if key else (),
            incremental=key is not None,
            guarantee=_guarantee(settings) if key else FULL_READ,
            selection=selection(settings),
        )
        return Plan(table, entry, settings, kinds)

    def _kind(self, connection: Any, entry: Catalogued, column: str, declared: str, settings: SQLiteTable) -> str:
        wanted = settings.types.get(column)
        if wanted is not None:
            known("type", wanted, TYPES, where=f"table {entry.name!r}, column {column!r}")
            return wanted
        if arrow_type(declared, ["integer"]) == arrow_type(declared, ["blob"]):
            return arrow_type(declared, [])
        name = quoted(entry.name)
        stored = connection.execute(f"SELECT DISTINCT typeof(t.{quoted(column)}) FROM {name} AS t").fetchall()
        return arrow_type(declared, [kind for (kind,) in stored])


def _guarantee(settings: TableSettings) -> Guarantee:
    limits = _SETTLED
    if settings.lag:
        limits += f"; rows that appear up to {duration_s(settings.lag)} s late are read"
    if settings.nulls == "exclude":
        limits += "; rows whose key is NULL are left out, as the spec says"
    return Guarantee("settled (single writer)", limits)
