"""Rows of a table whose versions are ordered by a column: see ``Table.version_order``."""

from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.session import Session
from strandline.connectors.sql.staging import Step
from strandline.destination import Window, WriteMode
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.table import SYNC_TIME

__all__ = ["newest"]


def newest(session: Session, window: Window, mode: WriteMode, step: Step) -> str:
    """The rows of a step over which there is none with a greater value, in it or stored: a relation, each key once.

    A stored row that stays, in a pass that tells what is stale, has been delivered by it and gets its sync time.

    Raises:
        TaskError: the rows came without the column.
    """
    sql, table, keys, order = session.dialect, step.table, step.table.primary_key, step.table.version_order
    if order not in step.columns:
        raise TaskError(f"{table.name}: rows came without {order!r}, which orders their versions")
    kind = table.schema.field(order).type
    exact = sql.by_bytes if pa.types.is_string(kind) or pa.types.is_large_string(kind) else ""
    ordered = session.stage(step, sequence=True)
    latest = session.scratch(sql.latest(step.columns, keys, ordered, by=f"{sql.quote(order)}{exact}"))
    tells_stale = window.pass_.full or bool(window.pass_.stale_us)
    scope = sql.in_scope(table.name, session.columns(table.name), window.scope) if tells_stale else Statement("FALSE")
    counts = Statement("TRUE")
    if tells_stale and mode is WriteMode.OVERWRITE_DELETE_STALE:
        stale = sql.is_stale(window.scope)
        counts = Statement(f"NOT ({scope.text} AND {stale.text})", scope.values + stale.values)
    stored, names = session.relation(table.name), [sql.quote(f"_cq_has_{at}") for at in range(len(keys))]
    value = f"{sql.quote('_cq_has_order')}{exact}"
    renamed = ", ".join(f"t.{sql.quote(key)} AS {name}" for key, name in zip(keys, names, strict=True))
    same = " AND ".join(f"h.{name} = s.{sql.quote(key)}" for key, name in zip(keys, names, strict=True))
    surpassed = (
        f"EXISTS (SELECT 1 FROM (SELECT {renamed}, t.{sql.quote(order)} AS {sql.quote('_cq_has_order')} "
        f"FROM {stored} AS t WHERE {counts.text}) AS h WHERE {same} AND (h.{value} > s.{sql.quote(order)}{exact} "
        f"OR (s.{sql.quote(order)} IS NULL AND h.{value} IS NOT NULL)))"
    )
    columns = sql.quoted(step.columns, "s.")
    left = session.scratch(Statement(f"SELECT {columns} FROM {latest} AS s WHERE NOT {surpassed}", counts.values))
    if tells_stale:
        among = [sql.among(keys, "t", keys, relation) for relation in (latest, left)]
        touched = f"{sql.quote(SYNC_TIME)} = {sql.time_us(sql.parameter)}"
        condition = f"{scope.text} AND {among[0]} AND NOT {among[1]}"
        session.run(
            Statement(
                f"UPDATE {stored} AS t SET {touched} WHERE {condition}", (window.pass_.sync_time_us, *scope.values)
            )
        )
    return left
