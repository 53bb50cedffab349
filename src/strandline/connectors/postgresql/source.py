"""The source ``postgresql``: tables, partitioned tables and views of one PostgreSQL database.

How a pass over a table goes is told in ``reading``; what bounds a cursor in ``horizon`` (the clock,
what is in flight) and ``heaps`` (transactions).
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.postgresql.catalog import QUERY, Relation, relations
from strandline.connectors.postgresql.cursor import Saved
from strandline.connectors.postgresql.description import READ, place
from strandline.connectors.postgresql.heaps import identity
from strandline.connectors.postgresql.horizon import look, refuse_standby, wait_for_replay
from strandline.connectors.postgresql.key import Key
from strandline.connectors.postgresql.log import Log
from strandline.connectors.postgresql.lookup import rows_of
from strandline.connectors.postgresql.place import schema_place
from strandline.connectors.postgresql.plan import Plan, PostgreSQLTable, own_key, plan
from strandline.connectors.postgresql.proposals import propose, with_tables
from strandline.connectors.postgresql.query import columns_of, unread
from strandline.connectors.postgresql.reading import TableRead
from strandline.connectors.postgresql.rewind import rewound, rows_between
from strandline.connectors.postgresql.rights import check_schemas, unreadable
from strandline.connectors.postgresql.rows import Rows
from strandline.connectors.postgresql.server import Server
from strandline.connectors.postgresql.slices import Budget
from strandline.connectors.postgresql.source_probes import probe_source, probe_tables
from strandline.connectors.postgresql.unchanged import Known, unchanged
from strandline.connectors.sql.source_tables import queries, sweepable, task_id
from strandline.describe import Place, how_by
from strandline.errors import StrandlineError, TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Cursor, Insert, SourceMessage
from strandline.probe import Probe
from strandline.proposal import Proposals
from strandline.reading import Reading
from strandline.settings import Duration, duration_s, lasting
from strandline.source import Task
from strandline.table import Table
from strandline.table_settings import PerTable

__all__ = ["PostgreSQLSource"]

_SLICE_PAGES = 3_072
"""Pages of 8 KiB between two checkpoints of a first load: 24 MiB, which become about half a window."""
_DEFAULT_SCHEMA = "public"


class PostgreSQLSource:
    """See ``strandline.source.Source``. Safe to share between threads: every read has a connection of its own."""

    description = READ
    slice_pages = _SLICE_PAGES

    class Spec(BaseModel):
        """Where the tables are, and how they are read."""

        model_config = ConfigDict(extra="forbid")

        connection_string: str = Field(
            min_length=1,
            description="As libpq takes it: `postgresql://user:password@host:5432/database?sslmode=verify-full`.",
        )
        schemas: list[str] = Field(
            default_factory=lambda: [_DEFAULT_SCHEMA], min_length=1, description="Schemas whose tables are offered."
        )
        tables: PerTable[PostgreSQLTable] = Field(
            default_factory=partial(PerTable, PostgreSQLTable),
            description="How tables are read, by name or glob: `schema.name`; in the schema public also `name`.",
        )
        primary_connection_string: str | None = Field(
            default=None,
            min_length=1,
            description="The primary, if `connection_string` names a standby: `settle: cap` and `wait` must see its transactions.",
        )
        connections: int = Field(default=4, ge=1, description="How many connections may be open at once.")
        parallel: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
            default="auto",
            description="How many connections read one large table at once in a pass over everything, as far as `connections` "
            "has some to spare. `auto`: as many as half of the processors.",
        )
        statement_timeout: Duration = lasting(
            "1h",
            "How long one statement, and with it a snapshot, may last; a first load has many. 0: no limit.",
        )
        lock_timeout: Duration = lasting("30s", "How long to wait for a lock, of a schema change say.")
        replay_timeout: Duration = lasting("60s", "How long a standby may take to catch up with its primary.")

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        server = partial(Server, statement_s=duration_s(spec.statement_timeout), lock_s=duration_s(spec.lock_timeout))
        self._server = server(spec.connection_string, connections_max=spec.connections)
        primary = spec.primary_connection_string
        self._primary = server(primary, connections_max=1) if primary else None
        self._plans: dict[str, Plan] = {}

    @classmethod
    def understand(cls, written: str) -> Place | None:
        """A URL or settings of libpq; see ``strandline.describe.Understands``."""
        return place(written)

    def tables(self) -> Sequence[Table]:
        """Every table and view of the schemas, by name; what the role may not read, with the right that it lacks."""
        with self._server.session() as session:
            check_schemas(session, self._spec.schemas)
            found: dict[str, Relation] = {}
            for relation in relations(session, self._spec.schemas):
                name = _offered_name(relation)
                if name in found:
                    raise UsageError(
                        f"two tables have the name {name!r} at the destination, one of schema {relation.schema!r}, "
                        f"one of {found[name].schema!r}",
                        hint="leave one of them out of `schemas`",
                    )
                found[name] = relation
            broken = self._add_queries(session, found)
            names = {name: _qualified(relation) for name, relation in found.items()}
            columns = {name: [one.name for one in found[name].columns] for name in found.keys() - broken.keys()}
            self._spec.tables.check(names, where="the PostgreSQL database", columns=columns)
            plans = {name: broken.get(name) or self._plan(session, relation, name) for name, relation in found.items()}
        self._plans = plans
        return [one.table for one in plans.values()]

    def how(self, table: Table, *, mirror: bool) -> str:
        """By its key or by transactions; see ``strandline.describe.TellsHow``."""
        planned = self._planned(table.name)
        key = ", ".join(table.incremental_key) or ("xid" if planned.kind == "xid" else "")
        lag = self._spec.tables.written(table.name, table.spec_name).get("lag")
        return how_by(key, {"lag": lag, "deletes": "sweep" if planned.sweeps(mirror=mirror) else ""})

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """Each table is a task. The horizon is taken once, before any of them opens a snapshot."""
        plans = [self._planned(table.name) for table in tables]
        payload: Mapping[str, Any] = {}
        if any(one.settle in {"cap", "off"} for one in plans):
            payload = self._horizon(capped=any(one.settle == "cap" for one in plans))
        if any(one.settle == "wait" for one in plans):
            with self._server.session() as session:
                refuse_standby(session, "`settle: wait`")
        return [Task(task_id(table.name), (table,), payload=payload) for table in tables]

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """A pass over the table of ``task``; see ``reading``."""
        planned = self._planned(task.tables[0].name)
        planned = planned.formerly(reading.former.get(planned.table.name, ()))
        with self._server.session() as session:
            budget = Budget.of(self.slice_pages, self._spec.parallel, self._spec.connections)
            table = TableRead(self._server, session, planned, reading, task.payload, budget)
            yield from table.messages(reading.cursor)

    def read_keys(self, task: Task, table: str, keys: "pa.RecordBatch", reading: Reading) -> Iterator[Insert]:
        """The rows that have these primary keys now. It ends when a crash of the server cannot take them back any more."""
        planned = self._planned(table).formerly(reading.former.get(table, ()))
        with self._server.session() as session:
            key = self._key(planned, task.payload)
            yield from rows_of(Rows(session, planned, reading, key), planned, keys)
            log, now = Log(session), identity(session)
            log.saw(now.position, now.flushed)
            log.wait()

    def rewound(self, task: Task, cursor: Cursor, to: str | timedelta) -> Cursor:
        """A value of the key, or a time before it; see ``strandline.source.Rewinds``."""
        planned = self._planned(task.tables[0].name)
        with self._server.session() as session:
            return rewound(session, planned, self._key(planned), cursor, to)

    def rows_between(self, task: Task, earlier: Cursor, later: Cursor) -> int | None:
        """Counted, or as the server estimates; see ``strandline.source.Rewinds``."""
        planned = self._planned(task.tables[0].name)
        with self._server.session() as session:
            return rows_between(session, planned, self._key(planned), earlier, later)

    def idle(self, asked: Sequence[tuple[Task, Reading]]) -> Mapping[str, str]:
        """Tables that are read by xid and were not written since; see ``strandline.source.KnowsIdle``."""
        known = {task.id: one for task, reading in asked if (one := self._known(task, reading)) is not None}
        found: Mapping[str, str] = {}
        with suppress(StrandlineError):  # their tasks say what is wrong
            found = self._unchanged(list(known.values()))
        return {task: found[one.plan.table.name] for task, one in known.items() if one.plan.table.name in found}

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """Nothing to do: PostgreSQL does not know its readers."""

    def places(self) -> Sequence[str]:
        """Every schema that is read; see ``strandline.place``."""
        with self._server.session() as session:
            found = identity(session).identity
        return [schema_place(found.system, found.database, schema) for schema in self._spec.schemas]

    def probes(self) -> Iterator[Probe]:
        """What holds cursors back, makes reading slow, or a promise weak; see ``strandline.probe``."""
        self.tables()
        plans = [one for one in self._plans.values() if one.unreadable is None]
        yield from probe_source(
            self._server, plans, connections=self._spec.connections, has_primary=self._primary is not None
        )
        yield from probe_tables(plans)

    def proposals(self) -> Proposals:
        """How each table is read best; see ``strandline.proposal``. All schemas that have tables are looked at."""
        with self._server.session() as session:
            there, written = with_tables(session)
        if there and there != self._spec.schemas:
            everything = PostgreSQLSource(self._spec.model_copy(update={"schemas": there}))
            with closing(everything):
                return replace(everything.proposals(), settings={"schemas": there})
        self.tables()
        plans = [one for one in self._plans.values() if one.unreadable is None]
        notes = [f"schema {name} is written by Strandline, and not read" for name in written]
        notes += [one.unreadable.message for one in self._plans.values() if one.unreadable is not None]
        with self._server.session() as session:
            found = tuple(propose(session, [(_spec_name(one.relation), one) for one in plans]))
        return Proposals(found, notes=tuple(notes))

    def close(self) -> None:
        """Release the connections. A second call does nothing."""
        for server in (self._server, self._primary):
            if server is not None:
                server.close()

    def _known(self, task: Task, reading: Reading) -> Known | None:
        """A table with what is known of it, where that may prove it to be unchanged."""
        planned = self._plans.get(task.tables[0].name)
        if planned is None or reading.cursor is None or not reading.absorbs or reading.lacks:
            return None
        with suppress(TaskError):  # a cursor of something else
            saved = Saved.parsed(reading.cursor, planned.table.name)
            sweeps = bool(planned.table.primary_key) and planned.sweeps(mirror=reading.mirror)
            return Known(planned, saved, sweeps)
        return None

    def _unchanged(self, known: Sequence[Known]) -> Mapping[str, str]:
        with self._server.session() as session:
            return unchanged(session, known)

    def _horizon(self, *, capped: bool) -> Mapping[str, Any]:
        with self._server.session() as session:
            now = session.row("SELECT now()::text AS now")["now"]
            if not capped:
                return {"now": now, "now_s": int(time.time()), "horizon": None, "holder": ""}
            if self._primary is None:
                refuse_standby(session, "`settle: cap`")
                horizon = look(session, self._server)
            else:
                with self._primary.session() as primary:
                    horizon = look(primary, self._primary)
                    wait_for_replay(primary, session, duration_s(self._spec.replay_timeout))
        return {"now": now, "now_s": int(time.time()), "horizon": horizon.at, "holder": horizon.holder}

    def _key(self, planned: Plan, payload: Mapping[str, Any] = MappingProxyType({})) -> Key | None:
        return Key(planned, self._server, payload) if planned.kind == "key" else None

    def _plan(self, session: Any, relation: Relation, name: str) -> Plan:
        settings, names = self._spec.tables, (name, _qualified(relation))
        try:
            chosen = sweepable(settings, settings.of(*names), own_key(relation), *names)
            if (error := unreadable(relation, name, chosen)) is not None:
                one = plan(replace(relation, whole=True), name, chosen)
                return replace(one, table=replace(one.table, unreadable=error))
            one = plan(relation, name, chosen)
            if one.settings.where:
                _check_where(session, one)
        except UsageError as error:
            plain = plan(relation, name, PostgreSQLTable())
            return replace(plain, table=replace(plain.table, unreadable=settings.under_globs(error, *names)))
        return one

    def _add_queries(self, session: Any, found: dict[str, Relation]) -> dict[str, Plan]:
        """Put tables that a query makes among those of the database, in place of one of that name; those that do not work, again."""
        wanted, broken = queries(self._spec.tables), dict[str, Plan]()
        if not wanted:
            return broken
        with self._server.describing() as describer:
            for key, query in wanted.items():
                there = next((one for name, one in found.items() if key in (name, _qualified(one))), None)
                schema, _, own = key.rpartition(".")
                schema, own = (there.schema, there.name) if there is not None else (schema or _DEFAULT_SCHEMA, own)
                relation = Relation(0, schema, own, QUERY, (), "", (), frozenset(), False, -1, -1, query=query)
                name = _offered_name(relation)
                try:
                    columns = describer.columns(query, f"table {name!r}")
                    relation = replace(relation, **columns_of(session, columns))
                    session.run(f"SELECT 1 AS one FROM ({query}\n) AS t LIMIT 0")  # the role may read all of it
                except (UsageError, TaskError) as error:
                    why = self._spec.tables.under_globs(error, name, key) if isinstance(error, UsageError) else error
                    broken[name] = unread(relation, name, why)
                found[name] = relation
        return broken

    def _planned(self, name: str) -> Plan:
        if name not in self._plans:
            self.tables()
        if name not in self._plans:
            raise TaskError(f"PostgreSQL has no table {name!r} any more", hint="sync again to read what it has")
        if (error := self._plans[name].unreadable) is not None:
            raise error
        return self._plans[name]


def _check_where(session: Any, one: Plan) -> None:
    try:
        # as an argument, so that it is one expression and closes no bracket of ours
        session.run(f"SELECT coalesce({one.settings.where}\n, false) FROM {one.source} LIMIT 0")
    except TaskError as error:
        raise UsageError(
            f"table {one.table.name!r}: `where` is no condition that PostgreSQL understands: {error.message}",
            hint=f"it says: {one.settings.where}",
        ) from error


def _offered_name(relation: Relation) -> str:
    """The name of the table at the destination."""
    return relation.name if relation.schema == _DEFAULT_SCHEMA else f"{relation.schema}_{relation.name}"


def _qualified(relation: Relation) -> str:
    """How a spec may call the table, too."""
    return f"{relation.schema}.{relation.name}"


def _spec_name(relation: Relation) -> str:
    """How a spec that is written for a person calls it."""
    return relation.name if relation.schema == _DEFAULT_SCHEMA else f"{relation.schema}.{relation.name}"
