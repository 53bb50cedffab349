"""Rows to which somebody's foreign key refers are not deleted, unless that is allowed."""

from collections.abc import Sequence

from strandline.connectors.sql.attached import Reference
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.session import Session
from strandline.errors import TaskError
from strandline.table import Table

__all__ = ["check_unreferenced", "referenced"]


def referenced(session: Session, table: Table, reference: Reference, condition: Statement) -> int:
    """To how many stored rows ``t`` of which a condition holds a foreign key refers."""
    sql = session.dialect
    refers = sql.has(reference.relation, "f", reference.columns, [f"t.{sql.quote(to)}" for to in reference.to])
    query = f"SELECT count(*) FROM {session.relation(table.name)} AS t WHERE {condition.text} AND {refers}"
    ((count,),) = session.fetch(Statement(query, condition.values))
    return int(count)


def check_unreferenced(
    session: Session, table: Table, references: Sequence[Reference], condition: Statement, *, why: str, hint: str
) -> None:
    """Whether nothing refers to the stored rows ``t`` of which a condition holds.

    Raises:
        TaskError: something does.
    """
    for reference in references:
        count = referenced(session, table, reference, condition)
        if count:
            rows = "1 row" if count == 1 else f"{count} rows"
            raise TaskError(f"{table.name}: {reference} refers to {rows} that {why}; nothing was written", hint=hint)
