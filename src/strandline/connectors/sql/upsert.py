"""Rows over those that are stored: a stored row is updated where it is, so that what people attached to it stays.

A row that is deleted and inserted again is the same to who reads it, but not to a foreign key that refers to it, to a
column that somebody has added, or to a trigger.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from strandline.connectors.sql.attached import Attached
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.references import check_unreferenced
from strandline.connectors.sql.session import Session
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["Rows", "upsert"]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is to be stored."""

    table: Table
    """The stored one."""
    columns: Sequence[str]
    """Those that the rows have."""
    relation: str
    """The rows; no two have the same key."""
    count: int
    """How many there are."""
    whole: bool
    """Whether a column that they do not have is null in them. Otherwise a stored value stays."""
    attached: Attached
    """To the stored table."""

    @property
    def absent(self) -> list[str]:
        """Columns of ours that they do not have."""
        missing = [name for name in self.table.schema.names if name not in self.columns]
        return [*missing, *self.attached.gone(self.table)]


def upsert(session: Session, rows: Rows, *, unique: bool = False) -> tuple[int, int]:
    """Update the stored rows of these keys, and insert the others.

    Args:
        session: inside a transaction.
        rows: what is to be stored.
        unique: whether an index keeps a key from being stored twice, so that nothing has to be counted before. A relation
            that has a key twice is then refused by the index, or the two numbers differ.

    Returns:
        How many rows the database says it has stored, and how many it had to.
    """
    sql, into, keys = session.dialect, session.relation(rows.table.name), rows.table.primary_key
    if rows.whole and not sql.updates and not rows.attached.references:
        return _replace(session, rows), rows.count
    matched, new = (rows.count, rows.count) if unique else _compare(session, rows)
    expected = rows.count if unique else matched + new
    stored = 0
    if matched:
        columns = [name for name in rows.columns if name not in keys or _has_lookalikes(rows.table, name)] or keys
        nulls = rows.absent if rows.whole else ()
        update = sql.update_matching(into, columns, keys, rows.relation, nulls=nulls)
        reached = _try(session, update)
        if reached is None and rows.whole:
            return _replace(session, rows), rows.count
        stored = session.run(update) if reached is None else reached
    if stored < expected:
        left = sql.missing(into, keys, rows.relation) if matched else f"{rows.relation} AS s"
        stored += session.run(sql.insert_from(into, rows.columns, left, nulls=rows.absent))
    return stored, expected


def _compare(session: Session, rows: Rows) -> tuple[int, int]:
    """How many stored rows have one of these keys, and how many of these rows are new.

    Where a key is stored more than once, from before, whole rows take the place of all that have it: those are deleted.
    """
    sql, into, keys = session.dialect, session.relation(rows.table.name), rows.table.primary_key
    among = sql.among(keys, "t", keys, rows.relation)
    stored = f"t.{sql.quote(keys[0])}"
    compared = Statement(
        f"SELECT count({stored}), count(*) - count({stored}) "
        f"FROM {rows.relation} AS s LEFT JOIN {into} AS t ON {sql.same(keys, 't', 's')}"
    )
    ((matched, new),) = session.fetch(compared)
    if rows.whole and matched > rows.count - new:
        names = sql.quoted(keys, "t.")
        twice = session.scratch(
            Statement(f"SELECT {names} FROM {into} AS t WHERE {among} GROUP BY {names} HAVING count(*) > 1")
        )
        session.run(sql.delete_matching(into, keys, twice))
        ((matched, new),) = session.fetch(compared)
    return matched, new


def _try(session: Session, statement: Statement) -> int | None:
    """How many rows it has reached; ``None``: a unique index does not let the rows change one after the other."""
    reached = 0

    def run() -> bool:
        nonlocal reached
        reached = session.run(statement)
        return True

    return reached if session.attempt(run) else None


def _replace(session: Session, rows: Rows) -> int:
    """Delete and insert: for databases that are faster so, and for rows that exchange what has to be unique.

    What others have in columns of their own goes into the new row of the same key.

    Raises:
        TaskError: somebody's foreign key refers to a row, and would take it for a deleted one.
    """
    sql, into, keys = session.dialect, session.relation(rows.table.name), rows.table.primary_key
    check_unreferenced(
        session,
        rows.table,
        rows.attached.references,
        Statement(sql.among(keys, "t", keys, rows.relation)),
        why="exchange values that a unique index keeps apart, so that they would have to be deleted for a moment",
        hint="make that index a constraint that is DEFERRABLE INITIALLY DEFERRED, or drop it",
    )
    theirs = rows.attached.theirs(rows.table)
    if not theirs:
        session.run(sql.delete_matching(into, keys, rows.relation))
        return session.run(sql.insert(into, rows.columns, rows.relation, nulls=rows.absent))
    carried = session.scratch(sql.one_of_each(into, keys, theirs, rows.relation))
    session.run(sql.delete_matching(into, keys, rows.relation))
    stored = session.run(
        sql.insert_carrying(into, rows.columns, keys, rows.relation, carried, theirs, nulls=rows.absent)
    )
    new = sql.unmatched(keys, rows.relation, carried)
    return stored + session.run(sql.insert_from(into, rows.columns, new, nulls=rows.absent))


def _has_lookalikes(table: Table, key: str) -> bool:
    """Whether two values may be equal and yet not the same: 0.0 and -0.0, or two spellings of a JSON number."""
    field = table.schema.field(key)
    extension = (field.metadata or {}).get(b"ARROW:extension:name", b"") == b"json"
    types, kind = pa.types, field.type
    return extension or types.is_floating(kind) or types.is_nested(kind) or isinstance(kind, pa.JsonType)
