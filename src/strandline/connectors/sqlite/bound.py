"""What a pass over an SQLite table decides before it reads a row: its key, its bounds, and how rows are told apart."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sql.key_times import IDS_MIN, Form, form_of, unit_of
from strandline.connectors.sql.source_tables import smallest_offset_s
from strandline.connectors.sqlite.catalog import last_id
from strandline.connectors.sqlite.cursor import Pass, Saved, decoded, encoded
from strandline.connectors.sqlite.high_water import (
    Condition,
    Height,
    Key,
    NumberKey,
    SequenceTextKey,
)
from strandline.connectors.sqlite.plan import Plan
from strandline.connectors.sqlite.times import TimeTextKey, looks_like_time
from strandline.errors import CursorExpiredError, TaskError
from strandline.lazy import pa
from strandline.settings import duration_s

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["Bounder", "Clock", "filtered"]

Clock = Callable[["Connection"], int]
"""The time at the source, in whole seconds since 1970."""
_FULL = "full"
_DAY_S = 86_400


def filtered(plan: Plan, *, nulls: str | None = None) -> Condition:
    """What the settings restrict the rows to, apart from `start`.

    Args:
        plan: of the table.
        nulls: instead of the setting.
    """
    parts = ["1"] if plan.settings.where is None else [f"({plan.settings.where}\n)"]
    if plan.table.incremental and (nulls or plan.settings.nulls) == "exclude":
        parts.append(f"t.{quote(plan.table.incremental_key[0])} IS NOT NULL")
    return " AND ".join(parts), []


class Bounder:
    """Looks at one table inside one transaction."""

    def __init__(self, connection: "Connection", plan: Plan, clock: Clock) -> None:
        self._connection, self._plan, self._clock = connection, plan, clock

    def begun(self, saved: Saved | None) -> Saved:
        """The cursor at the beginning of a pass, with its bounds.

        Raises:
            TaskError: the table cannot be read incrementally by this key, or not any more.
        """
        address = self._address()
        current = Pass(address=address, by_key=False, until=self._until(address))
        if not self._plan.table.incremental:
            return Saved(kind=_FULL, current=current)
        if self._plan.settings.nulls == "fail":
            self._refuse_nulls()
        now_s = self._clock(self._connection)
        key = self.key(saved)
        old = None if saved is None else decoded(saved.height)
        height = self._height(key, old, now_s)
        promised = None if saved is None else decoded(saved.tracked)
        lag_s = duration_s(self._plan.settings.lag)
        lower = None if old is None else _greatest(key.back(old, lag_s, now_s), promised, self.start(key))
        self._refuse_hidden(key, self.start(key) if lower is None else lower)
        edge = None if height is None else _greatest(key.back(height, lag_s, now_s), promised)
        by_key = old is not None and key.column in self._plan.entry.indexed and address != "none"
        bounds = {
            "by_key": by_key,
            "top": encoded(self._first(key, key.own_sql, [], "DESC")) if by_key else None,
            "lower": encoded(lower),
            "next": encoded(height),
            "tracked": encoded(edge),
            "seen": None if saved is None else saved.seen,
        }
        return Saved(
            kind=key.kind,
            form=_form_name(key),
            height=encoded(old),
            seen=None if saved is None else saved.seen,
            tracked=None if saved is None else saved.tracked,
            shown="–" if old is None else key.shown(old),
            current=current.model_copy(update=bounds),
        )

    def ended(self, saved: Saved) -> Saved | None:
        """The cursor after the pass."""
        current = saved.current
        assert current is not None
        if saved.kind == _FULL:
            return None
        height = decoded(current.next)
        return Saved(
            kind=saved.kind,
            form=saved.form,
            height=current.next,
            seen=current.seen,
            tracked=current.tracked,
            shown="–" if height is None else self.key(saved).shown(height),
        )

    def start(self, key: Key) -> Height | None:
        """The height of the setting `start`."""
        start = self._plan.settings.start
        return None if start is None else key.parsed_start(start)

    # the key ---------------------------------------------------------------------------------------------------------

    def key(self, saved: Saved | None) -> Key:
        """The key of the table: as it was when the cursor was made, or else as its values are."""
        (name,) = self._plan.table.incremental_key
        plain = f"t.{quote(name)}"
        type_ = self._plan.table.schema.field(name).type
        table, settings = self._plan.table.name, self._plan.settings
        if pa.types.is_integer(type_) or pa.types.is_decimal(type_):
            kind: str = NumberKey.kind
            key: Key = self._number_key(saved, name, plain)
        else:
            sql = f"{plain} COLLATE BINARY"
            greatest = None if self._plan.is_time else self._one_of(SequenceTextKey.own.format(k=sql), sql, "DESC")
            kind = self._text_kind(saved, greatest)
            if kind == TimeTextKey.kind:
                now = self._clock(self._connection)
                shift_s = smallest_offset_s(settings.timezone, now) if settings.timezone else 0
                key = TimeTextKey(table, name, sql, shift_s=shift_s)
            else:
                form = self._form(greatest, SequenceTextKey.own.format(k=sql), sql)
                key = SequenceTextKey(table, name, sql, form, length=None if greatest is None else len(greatest))
        if saved is not None and saved.kind != kind and (saved.height is not None or saved.seen is not None):
            raise key.refuse(
                f"the saved cursor is of another kind ({saved.kind}, now {kind})",
                hint="read the table again from nothing: --full-refresh",
            )
        return key

    def _number_key(self, saved: Saved | None, name: str, sql: str) -> NumberKey:
        """Of ids, or of times: as the pass found when it began, or else as the values are now."""
        form, named = None, saved.form if saved is not None else ""
        if saved is None or saved.current is None:
            own = NumberKey.own.format(k=sql)
            form = self._form(self._one_of(own, sql, "DESC"), own, sql)
            named = form.name if form is not None else named
        is_time = named == "epoch" or (self._plan.is_time and (named != "packed" or bool(self._plan.settings.lag)))
        per_s = _unit(saved)
        return NumberKey(self._plan.table.name, name, sql, None if is_time else form, is_time=is_time, per_s=per_s)

    def _form(self, greatest: Any, own: str, sql: str) -> Form | None:
        """The form of the values, if they are times."""
        form, now_s = form_of(greatest), self._clock(self._connection)
        if form is None:
            return None
        if not form.is_certain(now_s) and not self._one(
            f"SELECT EXISTS (SELECT 1 FROM {self._plan.relation} WHERE {own} AND {sql} BETWEEN ? AND ?)",
            *form.past(now_s),
        ):
            return None
        if form.floor is not None:
            ids = f"SELECT DISTINCT {sql} FROM {self._plan.relation} WHERE {sql} > 0 AND {sql} < ? LIMIT {IDS_MIN}"
            if self._one(f"SELECT count(*) FROM ({ids})", form.floor) >= IDS_MIN:
                return None
        return form

    def _text_kind(self, saved: Saved | None, greatest: str | None) -> Literal["time", "text"]:
        if self._plan.is_time:
            return "time"
        if (
            saved is not None
            and saved.kind in {"time", "text"}
            and (saved.height is not None or saved.current is not None)
        ):
            return "time" if saved.kind == "time" else "text"
        return "time" if looks_like_time(greatest) else "text"

    def _height(self, key: Key, old: Height | None, now_s: int) -> Height | None:
        """The high-water mark from which later passes read; never past the clock, never back."""
        found = key.greatest(lambda condition, values, order: self._first(key, condition, values, order), now_s)
        if old is not None:
            self._refuse_future(key, old, now_s)
        if old is not None and found is not None:
            self._refuse_restart(key, old)
            assert isinstance(found, str) == isinstance(old, str), key.table
            numbers = (one for one in (old, found) if not isinstance(one, str))
            if isinstance(key, NumberKey) and key.is_time and len({unit_of(one) for one in numbers}) > 1:
                raise key.refuse(
                    f"the saved cursor is {old}, but there are times in another unit ({found})",
                    hint="leave the rows with odd times out by `where`, or read the table again: --full-refresh",
                )
        if found is None and old is None and self._plan.settings.lag and isinstance(key, NumberKey):
            greatest = self._first(key, key.own_sql, [], "DESC")
            if greatest is not None and greatest <= now_s:
                raise key.refuse(f"`lag` is a time, but {greatest} is none since 1980", hint="remove `lag`")
        height: Height | None = _greatest(old, found)
        return height

    def _refuse_future(self, key: Key, old: Height, now_s: int) -> None:
        """A cursor of a version that took times for ids may have followed one into the future."""
        tomorrow_s = now_s + _DAY_S
        if isinstance(old, int | float) and isinstance(key, NumberKey) and key.is_time:
            ahead = old > tomorrow_s * unit_of(old)
        else:
            ahead = key.form is not None and old > key.form.ceiling(tomorrow_s)  # type: ignore[operator]
        if ahead:
            raise CursorExpiredError(
                f"table {self._plan.table.name!r}: the saved cursor has followed a row into the future ({key.shown(old)}), past "
                "rows that came since"
            )

    def _refuse_restart(self, key: Key, old: Height) -> None:
        if not key.is_sequence:
            return
        greatest = self._one_of(key.own_sql, key.sql, "DESC")
        if greatest is None or greatest >= old:
            return
        if key.column == self._plan.entry.rowid_alias:
            handed_out = last_id(self._connection, self._plan.entry.name)
            if handed_out is not None and isinstance(old, int | float) and handed_out >= old:
                return
        raise CursorExpiredError(
            f"table {key.table!r}, incremental key {key.column!r}: its greatest value is {greatest!r}, but rows up to {old!r} "
            "were delivered before: the sequence went back or started again, and new rows could be missed",
            hint="read the table again from nothing (--full-refresh), or choose a key that only grows",
        )

    def _refuse_hidden(self, key: Key, lower: Height | None) -> None:
        hidden = None if lower is None else key.hidden(lower)
        if hidden is None:
            return
        where, bound = filtered(self._plan)
        condition, values = hidden
        sql = f"SELECT {key.sql} FROM {self._plan.relation} WHERE {where} AND {condition} LIMIT 1"
        found = self._one(sql, *bound, *values)
        if found is not None:
            key.heights([found])  # which refuses it

    def nulls(self) -> int:
        """How many rows have no key; of those that are selected otherwise."""
        (name,) = self._plan.table.incremental_key
        where, values = filtered(self._plan, nulls="include")
        sql = f"SELECT count(*) FROM {self._plan.relation} WHERE {where} AND t.{quote(name)} IS NULL"
        return int(self._one(sql, *values))

    def _refuse_nulls(self) -> None:
        count = self.nulls()
        if count:
            raise TaskError(
                f"table {self._plan.table.name!r}: {count} rows have no {self._plan.table.incremental_key[0]!r}, and the spec "
                "says `nulls: fail`",
                hint="fix the rows, or say `nulls: include`",
            )

    # rows ------------------------------------------------------------------------------------------------------------

    def _address(self) -> Literal["rowid", "key", "none"]:
        """A rowid that is no primary key is none: VACUUM may give it to another row, and so may whoever alters the table."""
        entry = self._plan.entry
        if entry.rowid_alias is not None:
            return "rowid"
        if entry.without_rowid or (entry.primary_key and self._key_has_no_null()):
            return "key"
        return "none"

    def check_address(self, current: Pass) -> None:
        """Refuse to go on in a pass whose positions are of another primary key.

        Raises:
            CursorExpiredError: they are.
        """
        entry = self._plan.entry
        there = "rowid" if entry.rowid_alias is not None else "key" if entry.primary_key else "none"
        if current.address != there:
            raise CursorExpiredError(
                f"table {self._plan.table.name!r}: its primary key was changed while it was read, so the rows that are left "
                "cannot be found"
            )

    def _key_has_no_null(self) -> bool:
        entry = self._plan.entry
        if entry.key_is_total or len(entry.primary_key) > 1:
            return entry.key_is_total
        column = f"t.{quote(entry.primary_key[0])}"
        return self._one(f"SELECT 1 FROM {self._plan.relation} WHERE {column} IS NULL LIMIT 1") is None

    def _until(self, address: str) -> list[Any] | None:
        columns = self.address_sql(address)
        if not columns:
            return None
        order = ", ".join(f"{column} DESC" for column in columns)
        sql = f"SELECT {', '.join(columns)} FROM {self._plan.relation} ORDER BY {order} LIMIT 1"
        row = self._connection.execute(sql).fetchone()
        return None if row is None else [encoded(value) for value in row]

    def address_sql(self, address: str) -> list[str]:
        """The columns that tell rows apart, in an order that SQLite can follow."""
        entry = self._plan.entry
        if address == "none":
            return []
        if address == "key":
            pairs = zip(entry.primary_key, entry.collations, strict=True)
            return [f"t.{quote(name)} COLLATE {quote(collation)}" for name, collation in pairs]
        assert entry.rowid_alias is not None
        return [f"t.{quote(entry.rowid_alias)}"]

    def _first(self, key: Key, condition: str, values: list[Any], order: str) -> Any:
        where, bound = filtered(self._plan)
        return self._one_of(f"{where} AND {condition}", key.sql, order, *bound, *values)

    def _one_of(self, condition: str, column: str, order: str, *values: Any) -> Any:
        return self._one(
            f"SELECT {column} FROM {self._plan.relation} WHERE {condition} ORDER BY {column} {order} LIMIT 1", *values
        )

    def _one(self, sql: str, *values: Any) -> Any:
        row = self._connection.execute(sql, values).fetchone()
        return row[0] if row else None


def _form_name(key: Key) -> str:
    return "epoch" if isinstance(key, NumberKey) and key.is_time else key.form.name if key.form is not None else ""


def _unit(saved: Saved | None) -> int | None:
    """The unit of the numbers so far."""
    heights = [] if saved is None else [saved.height, *([saved.current.next] if saved.current else [])]
    known = next((decoded(height) for height in heights if height is not None), None)
    return unit_of(known) if isinstance(known, int | float) else None


def _greatest(*heights: Height | None) -> Any:
    found = [height for height in heights if height is not None]
    return max(found) if found else None
