"""What the SQL destinations ask of one connection, inside a transaction."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

from strandline.connectors.sql.ahead import Ahead
from strandline.connectors.sql.attached import Attached
from strandline.connectors.sql.columns import StoredColumns
from strandline.connectors.sql.dialect import Dialect, Statement
from strandline.connectors.sql.staging import Step
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["FileSession", "OwnSession", "Session"]

T = TypeVar("T")


class OwnSession(ABC):
    """One connection, inside a transaction: what our own tables ask of it."""

    dialect: ClassVar[Dialect]

    def __init__(self, schema: str) -> None:
        self.schema = schema

    def relation(self, table: str) -> str:
        """A stored table, qualified and quoted."""
        return self.dialect.relation(self.schema, table)

    @abstractmethod
    def run(self, statement: Statement) -> int:
        """How many rows it changed; 0 for DDL."""

    @abstractmethod
    def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Its rows."""

    def ask(self, text: str, *values: object) -> Sequence[Sequence[Any]]:
        """The rows of a statement with these values."""
        return self.fetch(Statement(text, values))

    @abstractmethod
    def columns(self, table: str) -> Mapping[str, str]:
        """The types of a stored table's columns by name, in order; empty: there is no such table."""


class Session(OwnSession):
    """One connection, inside a transaction. Its temporary tables go with it."""

    _temporary_name = 'temp."_cq_stage_'
    """With what the name of a temporary table begins."""
    _temporary_end = ""
    """When a temporary table of a query's rows goes, where it can be said."""

    def __init__(self, schema: str) -> None:
        super().__init__(schema)
        self.spilled: dict[int, str] = {}
        """The temporary tables of steps; a step lives as long as its session."""
        self.ahead = Ahead()
        """Of one that only looks: what it knows already."""
        self._columns: dict[int, Any] = {}
        self._names = 0

    def there(self, names: Sequence[str]) -> Sequence[str]:
        """Those that are the names of tables."""
        return [name for name in names if self.columns(name)]

    def is_full(self, table: str) -> bool:
        """Whether a stored table has a row."""
        if table in self.ahead.full:
            return self.ahead.full[table]
        ((rows,),) = self.ask(f"SELECT count(*) FROM (SELECT 1 FROM {self.relation(table)} LIMIT 1) AS r")
        return bool(rows)

    def _once(self, table: Table, make: Callable[[Table], T]) -> T:
        """What is made of a table; it lives as long as the session."""
        if id(table) not in self._columns:
            self._columns[id(table)] = make(table)
        made: T = self._columns[id(table)]
        return made

    @abstractmethod
    def columns_of(self, table: Table) -> StoredColumns[Any]:
        """How the columns of a table are stored."""

    def prepare(self, table: Table, batch: "pa.RecordBatch", version: "pa.Array | None") -> "pa.RecordBatch":
        """See ``StoredColumns``."""
        return self.columns_of(table).prepare(batch, version)

    @abstractmethod
    def spill(self, step: Step) -> None:
        """Move the batches of a step into its temporary table, with their position in the stream."""

    @abstractmethod
    def attempt(self, action: Callable[[], bool]) -> bool:
        """Do ``action``; nothing of it if it returns False, or if a key would be there twice. Whether it was done.

        A destination whose database cannot undo a part of a transaction undoes no more than a statement that failed.
        """

    @abstractmethod
    def about(self, table: str) -> AbstractContextManager[None]:
        """Turns the database's errors into ours, which name the table."""

    @abstractmethod
    def attached(self, table: str) -> Attached:
        """What people have attached to a stored table."""

    @abstractmethod
    def view(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        """The text of a view and its columns; no text: something else has its name; ``None``: nothing has."""

    @abstractmethod
    def stage(self, step: Step, *, sequence: bool = False) -> str:
        """The rows of a step as a relation; with ``SEQUENCE``, their position in the stream, where it is asked for."""

    def scratch(self, query: Statement) -> str:
        """A temporary table of a query's rows, gone with the session at the latest."""
        relation = self._fresh()
        self.run(Statement(f"CREATE TEMP TABLE {relation}{self._temporary_end} AS {query.text}", query.values))
        return relation

    def _fresh(self) -> str:
        """The name of a temporary table that is not there yet."""
        self._names += 1
        return f'{self._temporary_name}{self._names}"'


class FileSession(Session):
    """One connection to a database in a file.

    Args:
        schema: of the stored tables.
        meaning: turns the errors of what it is asked to do into ours.
    """

    def __init__(self, schema: str, meaning: Callable[[str], AbstractContextManager[None]]) -> None:
        super().__init__(schema)
        self._meaning = meaning

    def about(self, table: str) -> AbstractContextManager[None]:
        """See ``Session``."""
        return self._meaning(f"write to {table}")

    @abstractmethod
    def execute(self, text: str) -> Any:
        """A statement, whatever it does to what is known."""

    @abstractmethod
    def fetched(self, query: str) -> Iterator[Any]:
        """Its rows in pieces; see ``SqlDatabase.fetched``."""

    @abstractmethod
    def begin(self) -> None:
        """A transaction that writes."""

    def settle(self) -> None:
        """The last thing in a transaction."""

    def roll_back(self) -> None:
        """Undo the transaction."""
        self.execute("ROLLBACK")

    def commit(self) -> None:
        """End the transaction."""
        self.execute("COMMIT")
