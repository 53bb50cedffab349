"""A database of which a state backend uses two tables, and nothing else."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from strandline.connectors.sql.session import Session
from strandline.connectors.sql.states import StateTables
from strandline.connectors.sql.tables import create_state_tables, has_state_tables
from strandline.own_tables import CURSORS, OWN_TABLES

if TYPE_CHECKING:
    from strandline.connectors.sql.database import SqlDatabase

    Base = SqlDatabase[Any]
else:
    Base = object

__all__ = ["OnlyStates", "TableName", "state_tables"]


def _is_no_destination_s(table: str) -> str:
    if {table, f"{table}_history"} & OWN_TABLES.keys():
        raise ValueError(f"{table!r} is what a destination keeps beside its rows; choose another name")
    return table


TableName = Annotated[
    str,
    Field(
        min_length=1,
        description=f"The table of the states (default: {CURSORS}); their history is in another one, `NAME_history`.",
    ),
    AfterValidator(_is_no_destination_s),
]


def state_tables(table: str) -> StateTables:
    """The states in ``table``, and their history beside it."""
    return StateTables(table, f"{table}_history")


class OnlyStates(Base):
    """Before a system's ``SqlDatabase``, among the bases of a class: its own tables are these two."""

    tables: StateTables

    def _is_ours(self, session: Session) -> bool:
        return has_state_tables(session, self.tables.states, self.tables.history, self.place)

    def _create(self, session: Any) -> None:
        create_state_tables(session, self.tables.states, self.tables.history)

    def _upgrade(self, session: Session) -> None:
        """There is no older version of them."""
