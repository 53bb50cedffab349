"""A primary key that a spec names may be on several rows; at a destination they would be one."""

from collections.abc import Iterator
from typing import Any

from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.sql.source_tables import not_unique
from strandline.message import Notice, SourceMessage
from strandline.warned import Code

__all__ = ["repeated_keys"]

_IS_UNIQUE = (
    "SELECT NOT EXISTS (SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhparent "
    # an index of a table does not bind those that inherit from it
    "WHERE c.oid = {oid} AND c.relkind = 'r') AND EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = {oid} "
    "AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL "
    "AND (SELECT array_agg(a.attname::text) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place) "
    "JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.place <= i.indnkeyatts) "
    "<@ ARRAY[{columns}]::text[]) AS found"
)


def repeated_keys(session: Any, plan: Plan) -> Iterator[SourceMessage]:
    """How many keys are on several rows, before a pass over everything; nothing is counted where an index forbids it."""
    chosen = plan.settings.primary_key
    if not chosen or (plan.relation.primary_key and set(plan.relation.primary_key) <= set(chosen)):
        return
    columns = ", ".join(literal(name) for name in chosen)
    if session.row(_IS_UNIQUE.format(oid=plan.relation.oid, columns=columns))["found"]:
        return
    # by the texts, which tell apart what a destination does, and of every type
    keys = ", ".join(f'({one.expression})::text COLLATE "C"' for one in plan.columns if one.name in chosen)
    found = session.row(
        "SELECT count(*) AS keys, coalesce(sum(n), 0)::int8 AS rows FROM (SELECT count(*) AS n "
        f"FROM {plan.source} WHERE {plan.where} GROUP BY {keys} HAVING count(*) > 1) AS repeated",
        where=plan.table.name,
    )
    if found["keys"]:
        text = not_unique(plan.table.name, tuple(chosen), found["keys"], found["rows"])
        yield Notice(plan.table.name, text, Code.KEYS_NOT_UNIQUE)
