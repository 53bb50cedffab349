"""Whether the primary key of an SQLite table tells its rows apart, which SQLite need not see to.

A key of the settings may be no key; a declared one may be NULL, unless it is the rowid; and what differs in SQLite may be equal
once ``types`` has made a text of it. Rows of an equal key replace each other in a destination that overwrites.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sqlite.bound import filtered
from strandline.connectors.sqlite.plan import Plan

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["unlike_keys"]


def unlike_keys(connection: "Connection", plan: Plan) -> Iterator[str]:
    """What is to be said of rows that the primary key does not tell apart. Reads all keys, unless an index answers for them."""
    key, name = plan.table.primary_key, plan.table.name
    if not key:
        return
    where, values = filtered(plan)
    columns = [f"t.{quote(one)}" for one in key]
    lacking = " OR ".join(f"{column} IS NULL" for column in columns)
    called = ", ".join(key)
    if not _is_total(plan):
        ((count,),) = connection.execute(f"SELECT count(*) FROM {plan.relation} WHERE {where} AND ({lacking})", values)
        if count:
            yield f"table {name!r}: {count} rows have no primary key ({called}): no destination takes them"
    if _is_unique(connection, plan):
        return
    types = plan.settings.types
    same = ", ".join(
        f"CAST({column} AS TEXT) COLLATE BINARY" if types.get(one) == "string" else f"{column} COLLATE BINARY"
        for one, column in zip(key, columns, strict=True)
    )
    groups = f"SELECT count(*) AS n FROM {plan.relation} WHERE {where} AND NOT ({lacking}) GROUP BY {same} HAVING n > 1"
    ((keys, rows),) = connection.execute(f"SELECT count(*), sum(n) FROM ({groups})", values)
    if keys:
        yield (
            f"table {name!r}: the primary key ({called}) is not unique: {rows} rows have {keys} keys, and of each key only one row "
            "is kept where rows are overwritten; name more columns in `primary_key`"
        )


def _is_total(plan: Plan) -> bool:
    entry = plan.entry
    return plan.table.primary_key == entry.primary_key and (entry.rowid_alias is not None or entry.key_is_total)


def _is_unique(connection: "Connection", plan: Plan) -> bool:
    """Whether an index sees to it, of values as they are stored."""
    key = set(plan.table.primary_key)
    if key & set(plan.settings.types):
        return False
    if plan.entry.rowid_alias in key:
        return True
    sql = """
        SELECT i.name, x.name FROM pragma_index_list(?) AS i, pragma_index_xinfo(i.name) AS x
        WHERE i."unique" AND NOT i.partial AND x.key
    """
    indexes: dict[str, set[str | None]] = {}
    for index, column in connection.execute(sql, [plan.entry.name]):
        indexes.setdefault(index, set()).add(column)  # None: an expression, which is no column of the key
    return any(columns <= key for columns in indexes.values())
