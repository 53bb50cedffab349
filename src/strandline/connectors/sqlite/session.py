"""One SQLite connection that writes: statements, and stages in temporary tables."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from strandline.connectors.sql.attached import Attached
from strandline.connectors.sql.dialect import KEY_PREFIX, SEQUENCE, Statement
from strandline.connectors.sql.session import FileSession
from strandline.connectors.sql.staging import Step
from strandline.connectors.sqlite.attached import attached_to
from strandline.connectors.sqlite.columns import Columns
from strandline.connectors.sqlite.dialect import folded
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.connectors.sqlite.errors import is_duplicate
from strandline.table import Table

if TYPE_CHECKING:
    from sqlite3 import Connection, Cursor

__all__ = ["SQLiteSession"]

_ROWS = 10_000
"""How many rows are Python objects at once."""


class SQLiteSession(FileSession):
    """See ``FileSession``; its connection is in autocommit."""

    dialect = Columns.dialect

    def __init__(self, connection: "Connection", meaning: Callable[[str], AbstractContextManager[None]]) -> None:
        super().__init__("main", meaning)
        self.connection = connection

    def columns_of(self, table: Table) -> Columns:
        """How the columns of a table are stored."""
        return self._once(table, Columns)

    def run(self, statement: Statement) -> int:
        """How many rows it changed; 0 for DDL."""
        return max(0, self.connection.execute(statement.text, statement.values).rowcount)

    def attempt(self, action: Callable[[], bool]) -> bool:
        """Do ``action``, one statement; SQLite undoes one that fails."""
        try:
            return action()
        except sqlite3.IntegrityError as error:
            if not is_duplicate(error):
                raise
            return False

    def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Its rows."""
        return self.connection.execute(statement.text, statement.values).fetchall()

    def execute(self, text: str) -> "Cursor":
        """See ``FileSession``."""
        return self.connection.execute(text)

    def fetched(self, query: str) -> Iterator[Any]:
        """See ``FileSession``."""
        cursor = self.execute(query)
        while rows := cursor.fetchmany(_ROWS):
            yield rows

    def begin(self) -> None:
        """See ``FileSession``. Readers and the writer do not wait for each other; where that cannot be (a network drive), they do."""
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("BEGIN IMMEDIATE")

    def columns(self, table: str) -> Mapping[str, str]:
        """The declared types of a stored table's columns, in order."""
        rows = self.ask("SELECT name, type FROM pragma_table_xinfo(?, 'main') WHERE hidden <> 1 ORDER BY cid", table)
        return {str(name): str(kind) for name, kind in rows}

    def attached(self, table: str) -> Attached:
        """What people have attached to a stored table."""
        return attached_to(self, table)

    def view(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        """See ``Session``."""
        for kind, text in self.ask("SELECT type, sql FROM main.sqlite_master WHERE lower(name) = lower(?)", name):
            return (str(text), tuple(self.columns(name))) if kind == "view" else ("", ())
        return None

    def stage(self, step: Step, *, sequence: bool = False) -> str:  # noqa: ARG002 -- it is always there
        """The temporary table of a step."""
        self.spill(step)
        return self.spilled[id(step)]

    def spill(self, step: Step) -> None:
        """Move the batches of a step into its temporary table, with their position in the stream."""
        if not step.batches:
            return
        with self._meaning(f"stage rows of {step.table.name}"):
            if self.connection.in_transaction:
                self._spill(step)
                return
            self.execute("BEGIN")
            self._spill(step)
            self.commit()

    def _spill(self, step: Step) -> None:
        columns = self.columns_of(step.table)
        names = step.batches[0].schema.names
        if id(step) not in self.spilled:
            kinds = [columns.stored[name].sql if name in columns.stored else "BLOB" for name in names]
            self.spilled[id(step)] = self._table([*names, SEQUENCE], [*kinds, "INTEGER"])
        marks = ", ".join("?" * (len(names) + 1))
        insert = f"INSERT INTO {self.spilled[id(step)]} VALUES ({marks})"
        for start, batch in zip(step.starts, step.batches, strict=True):
            for at in range(0, batch.num_rows, _ROWS):
                self.connection.executemany(insert, columns.rows(batch.slice(at, _ROWS), start + at))
        step.moved()

    def index_keys(self, tables: Iterable[Table]) -> None:
        """Make sure that rows can be found by their primary key. In append mode nothing looks for them."""
        for table in tables:
            with self.about(table.name):
                key = set(map(folded, table.primary_key))
                if key and key not in self.indexed(table.name, "NOT l.partial AND i.seqno < ?", len(key)).values():
                    index = self.relation(f"{KEY_PREFIX}{secrets.token_hex(8)}")
                    columns = self.dialect.quoted(table.primary_key)
                    self.run(Statement(f"CREATE INDEX {index} ON {self.dialect.quote(table.name)} ({columns})"))

    def indexed(self, table: str, where: str, *values: object) -> Mapping[str, set[str]]:
        """The folded columns of each index; ``where`` chooses of the indexes ``l``, and of their columns ``i``."""
        indexes: dict[str, set[str]] = {}
        pragmas = "pragma_index_list(?, 'main') AS l, pragma_index_info(l.name, 'main') AS i"
        for index, column in self.ask(f"SELECT l.name, i.name FROM {pragmas} WHERE {where} ORDER BY 1", table, *values):
            indexes.setdefault(index, set()).add(folded(column or ""))
        return indexes

    def _table(self, names: Sequence[str], kinds: Sequence[str]) -> str:
        relation = self._fresh()
        columns = ", ".join(f"{self.dialect.quote(name)} {kind}" for name, kind in zip(names, kinds, strict=True))
        self.run(Statement(f"CREATE TABLE {relation} ({columns})"))
        return relation
