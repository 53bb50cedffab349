"""What a pass over an SQLite table decides before it reads a row.

Statements here stand alone, so a writer may come between them; nothing greater than ``top`` is read in the pass, and so
whatever comes later is left to the next one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from strandline.errors import TaskError
from strandline.sources._sqlite_catalog import Catalogued, quoted
from strandline.sources._sqlite_keys import Key, Value, ceilings, kind_of, time_like
from strandline.sources._tables import TableSettings
from strandline.table import Table

__all__ = ["Bounds", "Look", "Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a table before it is read."""

    table: Table
    entry: Catalogued
    settings: TableSettings
    kinds: Mapping[str, str]
    """Type names by column."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a pass goes. All ``None`` for a table without a key."""

    schema_version: int
    key: Key | None = None
    old: Value | None = None
    """The cursor it starts from."""
    seen: Value | None = None
    """The greatest key that earlier passes delivered."""
    lower: Value | None = None
    """From here on it reads."""
    next: Value | None = None
    """The cursor after it."""
    top: Value | None = None
    """The greatest key there was, future ones included. Greater ones are not read in this pass."""
    tracked: Value | None = None
    """From here on a later pass may read again."""


class Look:
    """Looks at one table with one connection."""

    def __init__(self, connection: Any, plan: Plan) -> None:
        self._connection, self._plan = connection, plan

    def bounds(self, between: Mapping[str, Any]) -> Bounds:
        """Of a new pass, from the cursor between passes.

        Raises:
            TaskError: the key cannot be read incrementally.
        """
        table, settings = self._plan.table, self._plan.settings
        version = self._one("PRAGMA schema_version")
        if not table.incremental_key:
            return Bounds(version)
        name = table.incremental_key[0]
        if settings.nulls == "fail":
            self._refuse_nulls(name)
        old, seen, tracked = between.get("key"), between.get("seen"), between.get("tracked")
        key = self._key(name, old)
        if key is None:
            return Bounds(version)
        top = self._extreme(key.column, key.condition)
        if key.kind == "sequence" and old is not None and top is not None and top < old:
            raise TaskError(
                f"table {table.name!r}: the greatest {name!r} is {top!r}, but {old!r} was delivered before; ids seem to "
                "have started again, and rows could be missed",
                hint="read it again from nothing: --full-refresh, or choose a key that only grows",
            )
        if key.kind == "sequence" and top is None:
            # the table was emptied: ids may start again, and reading all of nothing costs nothing
            return Bounds(version, key)
        following = _greater(old, self._bound(key, top))
        back = key.back(following, settings.lag) if following is not None else None
        lower = key.back(old, settings.lag) if old is not None else None
        return Bounds(
            version, key, old, seen, _greater(lower, tracked), following, _greater(seen, top), _greater(back, tracked)
        )

    def resumed(self, between: Mapping[str, Any], running: Mapping[str, Any]) -> Bounds:
        """Of an interrupted pass, as it decided them."""
        name = self._plan.table.incremental_key
        key = Key(name[0], running["kind"], self._zone(), "") if name and running["kind"] else None
        names = ("schema_version", "lower", "next", "top", "tracked")
        return Bounds(key=key, old=between.get("key"), seen=between.get("seen"), **{n: running[n] for n in names})

    def _key(self, name: str, old: Value | None) -> Key | None:
        """The class of the stored cursor, or of what there is; none where no row has a key."""
        column = f"t.{quoted(name)}"
        like = old if old is not None else self._extreme(name, f"typeof({column}) <> 'blob'")
        if like is None:
            if self._extreme(name) is not None:
                raise TaskError(
                    f"table {self._plan.table.name!r}: the incremental key {name!r} holds binary values only",
                    hint="choose a key of numbers or texts",
                )
            return None
        condition = f"typeof({column}) {'=' if isinstance(like, str) else 'IN'} "
        condition += "'text'" if isinstance(like, str) else "('integer', 'real')"
        samples = [like, self._extreme(name, condition, direction="ASC")]
        declared = next(column.declared for column in self._plan.entry.columns if column.name == name)
        kind = kind_of([one for one in samples if one is not None], is_time=time_like(name, declared))
        return Key(name, kind, self._zone(), condition)

    def _zone(self) -> tzinfo:
        zone = self._plan.settings.timezone
        return ZoneInfo(zone) if zone else UTC

    def _bound(self, key: Key, top: Value | None) -> Value | None:
        """The greatest key that is not in the future."""
        if top is None or not key.is_clock:
            return top
        now, column = datetime.now(UTC), f"t.{quoted(key.column)}"
        if not key.is_text:
            for ceiling in ceilings(now):
                found = self._extreme(
                    key.column, f"{key.condition} AND {column} BETWEEN ? AND ?", ceiling // 10, ceiling
                )
                if found is not None:
                    return found
            return None
        # a T sorts after a space: compare the first 19 characters in one form, then the whole in its own
        moment = key.now_as_text(now, "2000-01-01 00:00:00")
        form = f"replace(substr({column}, 1, 19), 'T', ' ')"
        highest = moment.replace(" ", "T") + "~"
        found = self._extreme(key.column, f"{column} BETWEEN '' AND ? AND {form} <= ?", highest, moment)
        if found is None:
            return None
        exact = key.now_as_text(now, str(found))
        return found if str(found) <= exact else self._extreme(key.column, f"{column} BETWEEN '' AND ?", exact)

    def _extreme(self, name: str, condition: str = "1", *values: Any, direction: str = "DESC") -> Value | None:
        """The greatest, or smallest, key under a condition."""
        where, start = self.filter()
        column = f"t.{quoted(name)}"
        found: Value | None = self._one(
            f"SELECT {column} FROM {quoted(self._plan.entry.name)} AS t WHERE {column} IS NOT NULL AND ({where}) "
            f"AND ({condition}) ORDER BY {column} {direction} LIMIT 1",
            *start,
            *values,
        )
        return found

    def _refuse_nulls(self, name: str) -> None:
        table = quoted(self._plan.entry.name)
        count = self._one(f"SELECT count(*) FROM {table} AS t WHERE t.{quoted(name)} IS NULL")
        if count:
            raise TaskError(
                f"table {self._plan.table.name!r}: {count} rows have no {name!r}, and the spec says `nulls: fail`",
                hint="mend the rows, or say `nulls: include`",
            )

    def _one(self, sql: str, *values: Any) -> Any:
        row = self._connection.execute(sql, values).fetchone()
        return row[0] if row else None

    def renumbered(self, running: Mapping[str, Any]) -> bool:
        """Whether positions may have changed since: VACUUM gives rows without an id of their own new numbers."""
        stable = self._plan.entry.rowid_alias is not None or self._plan.entry.without_rowid
        return not stable and running["schema_version"] != self._one("PRAGMA schema_version")

    def filter(self) -> tuple[str, list[Any]]:
        """What the spec restricts the rows to: a condition and its values."""
        settings, parts, values = self._plan.settings, ["1"], []
        if settings.where:
            parts.append(f"({settings.where})")
        key = self._plan.table.incremental_key
        if key:
            column = f"t.{quoted(key[0])}"
            if settings.nulls == "exclude":
                parts.append(f"{column} IS NOT NULL")
            if settings.start is not None:
                start = settings.start
                parts.append(f"({column} >= ? OR {column} IS NULL)")
                values.append(start if isinstance(start, int | float | str) else str(start))
        return " AND ".join(parts), values


def _greater(one: Value | None, other: Value | None) -> Value | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
