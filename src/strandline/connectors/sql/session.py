"""What the SQL destinations ask of one connection, inside a transaction."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from strandline.connectors.sql.attached import Attached
from strandline.connectors.sql.dialect import Dialect, Statement
from strandline.connectors.sql.staging import Step

__all__ = ["Session"]


class Session(Protocol):
    """One connection, inside a transaction."""

    dialect: Dialect

    def run(self, statement: Statement) -> int:
        """How many rows it changed."""

    def attempt(self, action: Callable[[], bool]) -> bool:
        """Do ``action``; nothing of it if it returns False, or if a key would be there twice. Whether it was done.

        A destination whose database cannot undo a part of a transaction undoes no more than a statement that failed.
        """

    def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Its rows."""

    def about(self, table: str) -> AbstractContextManager[None]:
        """Turns the database's errors into ours, which name the table."""

    def relation(self, table: str) -> str:
        """A stored table, qualified and quoted."""

    def columns(self, table: str) -> Mapping[str, str]:
        """The types of a stored table's columns by name, in order; empty: there is no such table."""

    def attached(self, table: str) -> Attached:
        """What people have attached to a stored table."""

    def stage(self, step: Step, *, sequence: bool = False) -> str:
        """The rows of a step as a relation; with ``SEQUENCE``, their position in the stream, where it is asked for."""

    def scratch(self, query: Statement) -> str:
        """A temporary table of a query's rows, gone with the session at the latest."""
