"""A cursor of an SQLite table that is put back by a person; and what lies between two."""

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from strandline.connectors.sql.key_times import unit_of
from strandline.connectors.sqlite.bound import Bounder, Clock, filtered
from strandline.connectors.sqlite.cursor import Saved, decoded, encoded
from strandline.connectors.sqlite.high_water import Height, Key, NumberKey
from strandline.connectors.sqlite.plan import Plan
from strandline.connectors.sqlite.times import TimeTextKey
from strandline.errors import UsageError
from strandline.message import Cursor

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["rewound", "rows_between"]


def rewound(connection: "Connection", plan: Plan, clock: Clock, cursor: Cursor, to: str | timedelta) -> Cursor:
    """See ``strandline.source.Rewinds``."""
    name = plan.table.name
    saved = Saved.parsed(cursor, name)
    if not plan.table.incremental or saved.height is None:
        raise UsageError(f"table {name!r}: its cursor has come to no value yet", hint="strandline sync --full-refresh")
    key, old = Bounder(connection, plan, clock).key(saved), decoded(saved.height)
    height = _back(key, old, to, clock(connection)) if isinstance(to, timedelta) else _parsed(key, to)
    if height > old:
        raise UsageError(f"table {name!r}: {to} lies behind the cursor, {key.shown(old)}")
    # below what was marked as well, which a pass that looks back by its lag does not
    changed = {"height": encoded(height), "tracked": None, "current": None, "shown": key.shown(height)}
    return saved.model_copy(update=changed).json_value()


def _back(key: Key, old: Height, by: timedelta, now_s: int) -> Height:
    if not isinstance(key, TimeTextKey) and not (isinstance(key, NumberKey) and key.is_time):
        raise UsageError(
            f"table {key.table!r}: {key.column!r} is no time, so nobody knows where it was {by} before",
            hint="--to-cursor with a value of it",
        )
    return key.back(old, int(by.total_seconds()), now_s)


def _parsed(key: Key, text: str) -> Height:
    value: object = text
    if isinstance(key, NumberKey):
        for kind in (float, int):
            with suppress(ValueError):
                value = kind(text)
    height = key.parsed_start(value)
    if isinstance(key, NumberKey) and key.is_time and isinstance(height, int | float) and unit_of(height) != key.per_s:
        raise UsageError(f"table {key.table!r}: {text} is no time as {key.column!r} has them")
    return height


def rows_between(connection: "Connection", plan: Plan, clock: Clock, earlier: Cursor, later: Cursor) -> int:
    """See ``strandline.source.Rewinds``. They are counted."""
    first, last = (_above(connection, plan, clock, Saved.parsed(one, plan.table.name)) for one in (earlier, later))
    return max(first - last, 0)


def _above(connection: "Connection", plan: Plan, clock: Clock, saved: Saved) -> int:
    """How many rows of the key's class a pass from there reads."""
    where, bound = filtered(plan)
    if saved.height is not None:
        key = Bounder(connection, plan, clock).key(saved)
        condition, values = key.new(decoded(saved.height)).whole(key.sql)
        where, bound = f"{where} AND {condition}", [*bound, *values]
    return int(connection.execute(f"SELECT count(*) FROM {plan.relation} WHERE {where}", bound).fetchone()[0])
