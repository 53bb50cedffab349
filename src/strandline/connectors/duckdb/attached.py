"""What people have attached to a stored table, as DuckDB tells it."""

from typing import TYPE_CHECKING

from strandline.connectors.sql.attached import Attached, Reference

if TYPE_CHECKING:
    from strandline.connectors.duckdb.session import DuckDBSession

__all__ = ["attached_to"]


def attached_to(session: "DuckDBSession", table: str) -> Attached:
    """See ``Attached``. A foreign key of DuckDB's refuses every delete of a row to which one refers; there are no triggers."""
    found = session.found(table)
    if found is None or found.name != table:
        return Attached()
    return Attached(
        tuple(found.columns),
        found.comment,
        found.generated,
        tuple(
            Reference(key.name, other, session.relation(other), key.columns, key.to, "RESTRICT")
            for other, key in session.sight.referring(table)
        ),
    )
