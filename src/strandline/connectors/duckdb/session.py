"""One cursor of a DuckDB database: statements, and stages."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from strandline.connectors.duckdb.attached import attached_to
from strandline.connectors.duckdb.catalog import Catalogs, Relation, Sight
from strandline.connectors.duckdb.columns import Columns
from strandline.connectors.sql.attached import Attached
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.session import FileSession
from strandline.connectors.sql.staging import Step
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["DuckDBSession"]

_READ_ROWS = 65_536
_ROW_GROUP_ROWS = 122_880
"""DuckDB's own, by default."""


class DuckDBSession(FileSession):
    """See ``FileSession``. One cursor; its temporary tables go with it."""

    dialect = Columns.dialect

    def __init__(
        self, cursor: Any, schema: str, catalogs: Catalogs, meaning: Callable[[str], AbstractContextManager[None]]
    ) -> None:
        super().__init__(schema, meaning)
        self.cursor = cursor
        self.sight = Sight(cursor, self.fetch, schema, catalogs)
        """What it sees of the catalog."""
        self._spelled: dict[str, str] = {}
        self.deleted = 0
        """How many rows it has deleted."""

    def columns_of(self, table: Table) -> Columns:
        """How the columns of a table are stored."""
        return self._once(table, Columns)

    def run(self, statement: Statement) -> int:
        """How many rows it changed; 0 for DDL."""
        self.sight.about_to_run(statement.text)
        row = self.cursor.execute(statement.text, list(statement.values)).fetchone()
        count = int(row[0]) if row and isinstance(row[0], int) else 0
        if statement.text.startswith("DELETE"):
            self.deleted += count
        return count

    def attempt(self, action: Callable[[], bool]) -> bool:
        """Do ``action``: DuckDB has no savepoints."""
        return action()

    def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Its rows."""
        rows: list[tuple[Any, ...]] = self.cursor.execute(statement.text, list(statement.values)).fetchall()
        return rows

    def execute(self, text: str) -> Any:
        """See ``FileSession``."""
        return self.cursor.execute(text)

    def fetched(self, query: str) -> "Iterator[pa.RecordBatch]":
        """See ``FileSession``."""
        yield from self.cursor.sql(query).to_arrow_reader(_READ_ROWS)

    def begin(self) -> None:
        """See ``FileSession``."""
        self.execute("BEGIN TRANSACTION")
        self.sight.begin()

    def settle(self) -> None:
        """See ``FileSession``."""
        self.sight.settle()

    def roll_back(self) -> None:
        """See ``FileSession``."""
        try:
            super().roll_back()
        finally:
            self.sight.end(committed=False)

    def commit(self) -> None:
        """See ``FileSession``."""
        super().commit()
        self.sight.end(committed=True)

    def columns(self, table: str) -> Mapping[str, str]:
        """The types of a stored table's columns, in order."""
        found = self.found(table)
        return found.columns if found is not None and found.name == table else {}

    def arrow_type(self, kind: str) -> "pa.DataType":
        """What a type of the catalog is as Arrow."""
        return self.cursor.sql(f"SELECT NULL::{kind} AS v").to_arrow_table().schema.field("v").type

    def spelled(self, kind: str) -> str:
        """A type as the catalog spells it."""
        if kind not in self._spelled:
            ((self._spelled[kind],),) = self.ask(f"SELECT typeof(NULL::{kind})")
        return self._spelled[kind]

    def found(self, table: str) -> Relation | None:
        """What has this name, in any case, as of now."""
        return self.sight.of(table)

    def attached(self, table: str) -> Attached:
        """What people have attached to a stored table."""
        return attached_to(self, table)

    def view(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        """See ``Session``."""
        found = self.found(name)
        if found is None or not found.is_view:
            return None if found is None else ("", ())
        where = "database_name = current_database() AND schema_name = ? AND view_name = ?"
        ((text,),) = self.ask(f"SELECT sql FROM duckdb_views() WHERE {where}", self.schema, found.name)
        return str(text), tuple(found.columns)

    def stage(self, step: Step, *, sequence: bool = False) -> str:
        """The rows of a step: as they lie in memory, or in its temporary table."""
        if step.spilled:
            self.spill(step)
            return self.spilled[id(step)]
        return self.register(pa.Table.from_batches(step.placed()) if sequence else _in_row_groups(step))

    def register(self, table: "pa.Table") -> str:
        """An Arrow table as a relation of this session; DuckDB does not copy it."""
        relation = self._fresh()
        self.cursor.register(_bare(relation), table)
        return relation

    def spill(self, step: Step) -> None:
        """Move the batches of a step into its temporary table, with their position in the stream."""
        if step.batches:
            with self._meaning(f"stage rows of {step.table.name}"):
                self._spill(step)

    def _spill(self, step: Step) -> None:
        rows = self.register(pa.Table.from_batches(step.placed()))
        target = self.spilled.get(id(step))
        if target is None:
            self.spilled[id(step)] = self.scratch(Statement(f"SELECT * FROM {rows}"))
        else:
            self.run(Statement(f"INSERT INTO {target} SELECT * FROM {rows}"))
        self.cursor.unregister(_bare(rows))
        step.moved()


def _bare(relation: str) -> str:
    """The name by which DuckDB registers what stands in its temporary schema."""
    return relation.removeprefix('temp."').removesuffix('"')


def _in_row_groups(step: Step) -> "pa.Table":
    """The batches of a step, cut as DuckDB stores them: of others it makes row groups in one thread."""
    rows = pa.Table.from_batches(step.batches)
    if step.rows < 2 * _ROW_GROUP_ROWS:
        return rows
    return pa.Table.from_batches(rows.combine_chunks().to_batches(max_chunksize=_ROW_GROUP_ROWS))
