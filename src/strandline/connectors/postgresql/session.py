"""One connection to PostgreSQL, inside a transaction: statements, stages, and what is asked of the catalog."""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, cast

from strandline.connectors.arrow.casts import MEND_VALUE
from strandline.connectors.postgresql.attached import attached_to
from strandline.connectors.postgresql.columns import Columns
from strandline.connectors.postgresql.dialect import PostgreSQLDialect, numbered
from strandline.connectors.postgresql.drivers import psycopg
from strandline.connectors.postgresql.errors import POOLED_HINT, translated
from strandline.connectors.sql.attached import Attached
from strandline.connectors.sql.dialect import SEQUENCE, VERSION, Statement
from strandline.connectors.sql.session import Session
from strandline.connectors.sql.staging import Op, Step
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["PostgreSQLSession"]

_ROWS_TO_ANALYZE = 1000
"""Below that, any plan will do."""


class PostgreSQLSession(Session):
    """Used by one thread."""

    dialect = Columns.dialect
    _temporary_end = " ON COMMIT DROP"

    def __init__(self, take: "Callable[[], psycopg.Connection[Any]]", schema: str, place: str) -> None:
        super().__init__(schema)
        self.place = place
        self.transaction = ""
        """The lock that is this transaction's own."""
        self._take, self._taken = take, False
        # behind a pooler, what another process has staged may lie beside it: no two may ever have one name
        self._temporary_name = f'pg_temp."_cq_stage_{secrets.token_hex(8)}_'
        self._together, self._catalog = frozenset[str](), dict[tuple[str, ...], Mapping[str, Sequence[Sequence[Any]]]]()
        """Of one that only looks at many tables: which, and what the catalog says of them, by what was asked."""
        self._backend: int | None = None
        """Whose temporary tables hold what was spilled."""

    @cached_property
    def connection(self) -> "psycopg.Connection[Any]":
        """Taken when it is first needed, so that none grows old while a window is read."""
        connection = self._take()
        self._taken = True
        return connection

    @property
    def connected(self) -> bool:
        """Whether there is a connection to give back."""
        return self._taken

    def columns_of(self, table: Table) -> Columns:
        """How a table is stored."""
        return self._once(table, Columns)

    def run(self, statement: Statement) -> int:
        """How many rows it changed; 0 for DDL."""
        return max(self._execute(statement).rowcount, 0)

    def attempt(self, action: "Callable[[], bool]") -> bool:
        """See ``Session``."""
        self.run(Statement("SAVEPOINT cq_attempt"))
        done = False
        with suppress(
            psycopg.errors.UniqueViolation,
            psycopg.errors.ExclusionViolation,
            psycopg.errors.FeatureNotSupported,  # a partitioned table has no such index
        ):
            done = action()
        if not done:
            self.run(Statement("ROLLBACK TO SAVEPOINT cq_attempt"))
        self.run(Statement("RELEASE SAVEPOINT cq_attempt"))
        return done

    def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Its rows."""
        rows: list[tuple[Any, ...]] = self._execute(statement).fetchall()
        return rows

    def _execute(self, statement: Statement) -> "psycopg.RawCursor[Any]":
        cursor = psycopg.RawCursor(self.connection)
        return cursor.execute(numbered(statement).encode(), statement.values or None)

    @contextmanager
    def about(self, table: str) -> Iterator[None]:
        """Turns PostgreSQL's errors into ours, which name the table."""
        with translated(self.place, f"write to {table}", table=table):
            yield

    def columns(self, table: str) -> Mapping[str, str]:
        """The types of a stored table's columns, in order."""
        rows = self.catalogued(
            "a.attname, format_type(a.atttypid, a.atttypmod)",
            table,
            joins="JOIN pg_attribute AS a ON a.attrelid = c.oid",
            more="AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        )
        return {str(name): str(kind) for name, kind in rows}

    def catalogued(
        self, columns: str, table: str, *values: object, joins: str = "", more: str = ""
    ) -> Sequence[Sequence[Any]]:
        """What the catalog says of a stored table, ``c``; where there is more to ask, ``{0}`` stands for a value that is bound."""
        one = self.dialect.parameter
        if not values and table in self._together:
            return self._catalogued_together(columns, joins, more).get(table, ())
        text = (
            f"SELECT {columns} FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace {joins} "
            f"WHERE n.nspname = {one} AND c.relname = {one} {more.replace('{0}', one)}"
        )
        return self.ask(text, self.schema, table, *values)

    def there(self, names: Sequence[str]) -> Sequence[str]:
        """See ``Session``. From now on the catalog is asked for all of these at once."""
        self._together = frozenset(names)
        return [name for name in names if self.columns(name)]

    def _catalogued_together(self, columns: str, joins: str, more: str) -> Mapping[str, Sequence[Sequence[Any]]]:
        """As ``catalogued``, by table."""
        asked = columns, joins, more
        if asked not in self._catalog:
            one, found = self.dialect.parameter, dict[str, list[Sequence[Any]]]()
            rows = self.ask(
                f"SELECT CAST(c.relname AS text), {columns} FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
                f"{joins} WHERE n.nspname = {one} AND c.relname = ANY (CAST({one} AS name[])) {more}",
                self.schema,
                list(self._together),
            )
            for table, *row in rows:
                found.setdefault(table, []).append(row)
            self._catalog[asked] = found
        return self._catalog[asked]

    def attached(self, table: str) -> Attached:
        """What people have attached to a stored table."""
        return attached_to(self, table)

    def view(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        """See ``Session``."""
        names = "ARRAY(SELECT CAST(attname AS text) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 ORDER BY attnum)"
        text = "CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) ELSE '' END"
        return next(((text, tuple(columns)) for text, columns in self.catalogued(f"{text}, {names}", name)), None)

    def lock(self, name: str, *, shared: bool = False) -> None:
        """Wait for other transactions that hold ``name``, and hold it until this one ends."""
        self.fetch(self.dialect.lock(name, shared=shared))

    # stages ----------------------------------------------------------------------------------------------------------

    def stage(self, step: Step, *, sequence: bool = False) -> str:
        """The rows of a step in a temporary table, and what the planner has to know of them."""
        if step.spilled:
            self.spill(step)
            return self.spilled[id(step)]
        columns, batches = self.columns_of(step.table), step.placed() if sequence else step.batches
        staged = {name: stored.staged for name, stored in columns.stored.items() if stored.staged}
        relation = self._temporary(columns, batches[0].schema, staged)
        self._copy(columns, relation, batches)
        if any(name in staged for name in step.columns):
            relation = self.scratch(Statement(f"SELECT {_casts(columns, batches[0].schema)} FROM {relation}"))
        if step.rows >= _ROWS_TO_ANALYZE:
            wanted = step.columns if step.op is Op.REPLACE else step.table.primary_key
            keys = [name for name in (*wanted, VERSION) if name in batches[0].schema.names]
            self.run(Statement(f"ANALYZE {relation} ({self.dialect.quoted(keys)})"))
        return relation

    def load(self, step: Step, into: str) -> int:
        """The rows of a step into a table, past the stage where that is possible: binary COPY converts nothing."""
        columns, actual = self.columns_of(step.table), self.columns(step.table.name)
        nulls = step.absent(step.columns)
        as_it_is = all(columns.stored[name].sql == actual.get(name) for name in step.columns)
        if step.spilled or not as_it_is or any(columns.stored[name].staged for name in step.columns):
            return self.run(self.dialect.insert(into, step.columns, self.stage(step), nulls=nulls))
        return self._copy(columns, into, [_with_nulls(batch, nulls) for batch in step.batches])

    def spill(self, step: Step) -> None:
        """Move the batches of a step into its temporary table, with their position in the stream."""
        if not step.batches:
            return
        self.check_backend()
        columns, batches = self.columns_of(step.table), step.placed()
        if id(step) not in self.spilled:
            self.spilled[id(step)] = self._temporary(columns, batches[0].schema, {}, drop=False)
        staged = any(columns.stored[name].staged for name in step.columns)
        if staged:
            part = Step(step.op, step.name, step.table, step.columns, batches=step.batches, starts=step.starts)
            part.rows = sum(batch.num_rows for batch in step.batches)
            names = self.dialect.quoted(batches[0].schema.names)
            relation = self.stage(part, sequence=True)
            self.run(Statement(f"INSERT INTO {self.spilled[id(step)]} ({names}) SELECT {names} FROM {relation}"))
        else:
            self._copy(columns, self.spilled[id(step)], batches)
        step.moved()

    def check_backend(self) -> None:
        """Of a session that has spilled: that this transaction has come to the same process of the server.

        Raises:
            UsageError: it has not: a pooler hands them out by the transaction, and the spilled rows are elsewhere.
        """
        ((backend,),) = self.ask("SELECT pg_backend_pid()")
        if self._backend is None:
            self._backend = backend
        elif backend != self._backend:
            raise UsageError(
                f"{self.place}: a pooler (PgBouncer, say) has given another session of the server to each transaction; "
                "staged rows need one for a window, and nothing of this one was written",
                hint=POOLED_HINT,
            )

    def _temporary(self, columns: Columns, schema: "pa.Schema", staged: Mapping[str, str], *, drop: bool = True) -> str:
        relation = self._fresh()
        kinds = {VERSION: "bytea", SEQUENCE: "bigint"} | {name: one.sql for name, one in columns.stored.items()}
        kinds |= staged
        nulls = {name for name, one in columns.stored.items() if one.note == "null"} & set(schema.names)
        if nulls:  # the stored column may have been of another type, and nulls fit into any
            actual = self.columns(columns.table.name)
            kinds |= {name: actual[name] for name in nulls if name in actual}
        definition = ", ".join(f"{self.dialect.quote(name)} {kinds[name]}" for name in schema.names)
        ends = "DROP" if drop else "PRESERVE ROWS"
        self.run(Statement(f"CREATE TEMP TABLE {relation} ({definition}) ON COMMIT {ends}"))
        return relation

    def _copy(self, columns: Columns, into: str, batches: "Sequence[pa.RecordBatch]") -> int:
        schema = batches[0].schema
        encoder = columns.encoder(schema)
        names = self.dialect.quoted(schema.names)
        cursor = self.connection.cursor()
        with cursor.copy(f"COPY {into} ({names}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
            copy.write(encoder.write_header())
            for batch in batches:
                copy.write(_encoded(columns, encoder, batch))
            copy.write(encoder.finish())
        return max(cursor.rowcount, 0)


def _casts(columns: Columns, schema: "pa.Schema") -> str:
    """What is staged in another type, in its own."""
    parts = []
    for name in schema.names:
        quoted, stored = PostgreSQLDialect().quote(name), columns.stored.get(name)
        parts.append(f"CAST({quoted} AS {stored.sql}) AS {quoted}" if stored and stored.staged else quoted)
    return ", ".join(parts)


def _with_nulls(batch: "pa.RecordBatch", names: Sequence[str]) -> "pa.RecordBatch":
    """On the wire a null has no type."""
    for name in names:
        batch = batch.append_column(name, pa.nulls(batch.num_rows, pa.string()))
    return batch


def _encoded(columns: Columns, encoder: Any, batch: "pa.RecordBatch") -> bytes:
    try:
        return cast("bytes", encoder.write_batch(batch))
    except ValueError as error:
        name = _unencodable(columns, batch)
        reason = re.sub(r'.*reason: "(.*)".*', r"\1", str(error), flags=re.DOTALL)
        raise TaskError(
            f"{columns.table.name}.{name}: a value cannot be stored ({reason})",
            hint=MEND_VALUE,
        ) from error


def _unencodable(columns: Columns, batch: "pa.RecordBatch") -> str:
    """The column that the encoder cannot write: it does not say so."""
    for name in batch.schema.names:
        one = batch.select([name])
        encoder = columns.encoder(one.schema)
        encoder.write_header()
        try:
            encoder.write_batch(one)
        except ValueError:
            return str(name)
    return "?"
