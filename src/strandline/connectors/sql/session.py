"""What the SQL destinations ask of one connection, inside a transaction."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from strandline.connectors.sql.attached import Attached
from strandline.connectors.sql.dialect import Dialect, Statement
from strandline.connectors.sql.staging import Step
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["Column", "Session", "StoredColumns"]

T = TypeVar("T")


class Column(Protocol):
    """How a column is stored."""

    @property
    def sql(self) -> str:
        """The SQL type."""

    @property
    def note(self) -> str:
        """What the SQL type alone does not tell."""


class StoredColumns(Protocol):
    """How the columns of a table are stored."""

    @property
    def stored(self) -> Mapping[str, Column]:
        """By name."""

    def prepare(self, batch: "pa.RecordBatch", version: "pa.Array | None") -> "pa.RecordBatch":
        """A batch, with its versions as last column where they are given, in the types that the database takes."""


class Session(ABC):
    """One connection, inside a transaction. Its temporary tables go with it."""

    dialect: Dialect

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._columns: dict[int, Any] = {}

    def _once(self, table: Table, make: Callable[[Table], T]) -> T:
        """What is made of a table; it lives as long as the session."""
        if id(table) not in self._columns:
            self._columns[id(table)] = make(table)
        made: T = self._columns[id(table)]
        return made

    @abstractmethod
    def columns_of(self, table: Table) -> StoredColumns:
        """How the columns of a table are stored."""

    def prepare(self, table: Table, batch: "pa.RecordBatch", version: "pa.Array | None") -> "pa.RecordBatch":
        """See ``StoredColumns``."""
        return self.columns_of(table).prepare(batch, version)

    def relation(self, table: str) -> str:
        """A stored table, qualified and quoted."""
        return self.dialect.relation(self.schema, table)

    @abstractmethod
    def spill(self, step: Step) -> None:
        """Move the batches of a step into its temporary table, with their position in the stream."""

    @abstractmethod
    def run(self, statement: Statement) -> int:
        """How many rows it changed."""

    @abstractmethod
    def attempt(self, action: Callable[[], bool]) -> bool:
        """Do ``action``; nothing of it if it returns False, or if a key would be there twice. Whether it was done.

        A destination whose database cannot undo a part of a transaction undoes no more than a statement that failed.
        """

    @abstractmethod
    def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Its rows."""

    @abstractmethod
    def about(self, table: str) -> AbstractContextManager[None]:
        """Turns the database's errors into ours, which name the table."""

    @abstractmethod
    def columns(self, table: str) -> Mapping[str, str]:
        """The types of a stored table's columns by name, in order; empty: there is no such table."""

    @abstractmethod
    def attached(self, table: str) -> Attached:
        """What people have attached to a stored table."""

    @abstractmethod
    def stage(self, step: Step, *, sequence: bool = False) -> str:
        """The rows of a step as a relation; with ``SEQUENCE``, their position in the stream, where it is asked for."""

    @abstractmethod
    def scratch(self, query: Statement) -> str:
        """A temporary table of a query's rows, gone with the session at the latest."""
