"""What the role may not read of a table, and the statement that grants it.

A table may be readable in part: then the columns that may be read have to be chosen in its settings, and rows tell neither
their transaction nor their address, which are columns too.
"""

from collections.abc import Iterable
from typing import Any

from strandline.connectors.postgresql.catalog import Relation
from strandline.connectors.postgresql.plan import PostgreSQLTable
from strandline.connectors.sql.dialect import quote
from strandline.connectors.sql.source_tables import known
from strandline.errors import TaskError

__all__ = ["check_schemas", "schemas_of", "unreadable"]

_NAMED_MAX = 5


def schemas_of(session: Any) -> list[str]:
    """What schemas there are."""
    found = session.rows(
        "SELECT nspname::text AS name FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)' ORDER BY nspname"
    )
    return [row["name"] for row in found]


def check_schemas(session: Any, schemas: Iterable[str]) -> None:
    """Whether all ``schemas`` are there.

    Raises:
        UsageError: one is not.
    """
    there = schemas_of(session)
    for schema in schemas:
        known("schema", schema, there, where="the PostgreSQL database")


def unreadable(relation: Relation, name: str, settings: PostgreSQLTable) -> TaskError | None:
    """Why the role cannot read a table as its settings say; ``None``: it can."""
    if relation.whole:
        return None
    key = None if settings.mode == "full" else settings.incremental_key
    keys = {*(settings.primary_key or relation.primary_key), key}
    masked = {column for column, how in settings.mask.items() if how == "null"}
    wanted = [
        one
        for one in relation.columns
        if one.name not in masked and (not settings.columns or one.name in {*settings.columns, *keys})
    ]
    refused = [quote(one.name) for one in wanted if not one.readable]
    if relation.reachable and not refused:
        return None
    where = f"{quote(relation.schema)}.{quote(relation.name)}"
    role = quote(relation.role)
    if len(refused) == len(wanted) or not relation.reachable:
        usage = "" if relation.reachable else f"GRANT USAGE ON SCHEMA {quote(relation.schema)} TO {role}; "
        select = f"GRANT SELECT ON {where} TO {role}" if refused else ""
        return TaskError(
            f"the role {relation.role} may not read table {name!r}", hint=f"{usage}{select}".removesuffix("; ")
        )
    named = ", ".join(refused[:_NAMED_MAX]) + (", …" if len(refused) > _NAMED_MAX else "")
    return TaskError(
        f"the role {relation.role} may not read {len(refused)} of the {len(wanted)} columns of table {name!r}: {named}",
        hint=f"GRANT SELECT ({', '.join(refused)}) ON {where} TO {role}; or name the others in the table's `columns`",
    )
