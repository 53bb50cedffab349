"""A cursor of a PostgreSQL table that is put back by a person; and what lies between two."""

from datetime import timedelta
from typing import Any

from strandline.connectors.postgresql.cursor import Saved
from strandline.connectors.postgresql.key import Key
from strandline.connectors.postgresql.plan import Plan, typed
from strandline.connectors.postgresql.server import Session
from strandline.connectors.postgresql.types_read import TIMES
from strandline.errors import TaskError, UsageError
from strandline.message import Cursor

__all__ = ["rewound", "rows_between"]

_COST_MAX = 50_000
"""Of a plan. Rows that cost no more are counted; of others the server's estimate is taken."""


def rewound(session: Session, plan: Plan, key: Key | None, cursor: Cursor, to: str | timedelta) -> Cursor:
    """See ``strandline.source.Rewinds``."""
    name = plan.table.name
    saved = Saved.parsed(cursor, name)
    if key is None or saved.kind != "key":
        raise UsageError(
            f"table {name!r}: what is new is found by transactions, of which nobody knows what they mean as a time or a value",
            hint="--to-time goes back to a cursor of its history; or give the table an incremental_key",
        )
    if saved.height is None:
        raise UsageError(f"table {name!r}: its cursor has come to no value yet", hint="strandline sync --full-refresh")
    old = typed(saved.height, key.column)
    if isinstance(to, timedelta):
        if key.column.type_oid not in TIMES:
            raise UsageError(
                f"table {name!r}: {key.column.name!r} is no time, so nobody knows where it was {to} before",
                hint="--to-cursor with a value of it",
            )
        wanted = f"({old} - interval '{to.total_seconds():.6f} s')::{key.column.type_name}"
    else:
        wanted = typed(to, key.column)
    try:
        found = session.row(f"SELECT {wanted}::text AS place, {wanted} > {old} AS behind")
    except TaskError as error:
        raise UsageError(f"table {name!r}: {to!r} is no value of {key.column.name!r}: {error.message}") from error
    if found["behind"]:
        raise UsageError(f"table {name!r}: {found['place']} lies behind the cursor, {saved.height}")
    # below what was marked as well, which a pass that looks back by its lag does not
    changed: dict[str, Any] = {"height": found["place"], "tracked": None, "flight": None, "current": None}
    return saved.model_copy(update=changed | {"shown": found["place"]}).json_value()


def rows_between(session: Session, plan: Plan, key: Key | None, earlier: Cursor, later: Cursor) -> int | None:
    """See ``strandline.source.Rewinds``. By transactions nobody knows: they have no index."""
    first, last = (Saved.parsed(one, plan.table.name) for one in (earlier, later))
    if key is None or first.kind != "key" or last.kind != "key":
        return None
    if last.height is None:
        return 0
    below = f"{key.sql} < {typed(last.height, key.column)}"
    above = "TRUE" if first.height is None else f"{key.sql} >= {typed(first.height, key.column)}"
    rows = f"FROM {plan.source} WHERE {above} AND {below} AND {key.all()} AND {plan.where}"
    planned = session.plan(f"SELECT 1 {rows}")
    if planned["Total Cost"] > _COST_MAX:
        return int(planned["Plan Rows"])
    return int(session.row(f"SELECT count(*) AS rows {rows}", where=plan.table.name)["rows"])
