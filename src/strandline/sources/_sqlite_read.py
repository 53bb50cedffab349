"""One pass over one SQLite table: where it starts, what it reads again, and where its cursor may go.

The cursor is ``{"key", "seen", "tracked", "shown"}`` between passes:

- ``key``: every row whose key is smaller was delivered (within the guarantee's limits); the next pass reads from it.
- ``seen``: the greatest key that was ever delivered; with future-dated rows it is beyond ``key``.
- ``tracked``: from here on every delivered row was marked as one that may be read again.

Within a pass it is ``{"pass": {…}}`` beside these: the bounds that the pass decided first, its section, its position.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from strandline.errors import TaskError
from strandline.lazy import pa, pc
from strandline.message import Checkpoint, Cursor, Insert, Message, Present
from strandline.source import RunContext
from strandline.sources._sqlite_catalog import Catalogued, quoted
from strandline.sources._sqlite_keys import Key, Value, ceilings, kind_of, time_like
from strandline.sources._sqlite_rows import to_arrow
from strandline.sources._tables import TableSettings
from strandline.table import Table

__all__ = ["Plan", "Reading"]

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a table before it is read."""

    table: Table
    entry: Catalogued
    settings: TableSettings
    kinds: Mapping[str, str]
    """Type names by column."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a pass decides before it reads a row."""

    key: Key | None
    old: Value | None
    """The cursor it starts from."""
    seen: Value | None
    """The greatest key that earlier passes delivered."""
    lower: Value | None
    """From here on it reads."""
    next: Value | None
    """The cursor after it."""
    top: Value | None
    """The greatest key there is, future ones included."""
    tracked: Value | None
    """From here on a later pass may read again."""
    schema_version: int


class Reading:
    """Reads with one connection, in one thread."""

    def __init__(self, connection: Any, plan: Plan, context: RunContext) -> None:
        self._connection, self._plan, self._context = connection, plan, context
        entry = plan.entry
        self._position = (
            [f"t.{quoted(entry.rowid)}"]
            if entry.rowid
            else [f"t.{quoted(name)}" for name in entry.primary_key if entry.without_rowid]
        )
        self._columns = list(plan.kinds)

    # the pass --------------------------------------------------------------------------------------------------------

    def rows(self, cursor: Cursor | None) -> Generator[Message, None, Cursor | None]:
        """All rows of the pass; returns the cursor after it."""
        running = dict(cursor["pass"]) if cursor is not None and cursor.get("pass") else None
        if cursor is not None and cursor.get("version") != _FORMAT:
            raise TaskError(
                f"table {self._plan.table.name!r}: the cursor is not one of the source `sqlite`",
                hint="read the table again from nothing: --full-refresh",
            )
        if running is not None and self._renumbered(running):
            running = None
        between = {} if cursor is None else {name: cursor.get(name) for name in ("key", "seen", "tracked")}
        bounds = self._bounds(between) if running is None else self._resumed(between, running)
        yield from self._deliver(bounds, running, between)
        if not self._plan.table.incremental_key:
            return None
        return {
            "version": _FORMAT,
            "key": bounds.next,
            "seen": bounds.top,
            "tracked": bounds.tracked,
            "shown": _shown(bounds.next),
        }

    def _deliver(
        self, bounds: _Bounds, running: dict[str, Any] | None, between: Mapping[str, Any]
    ) -> Iterator[Message]:
        sections = self._sections(bounds)
        done = running["section"] if running else 0
        for number, (where, values, ordered) in enumerate(sections):
            if number < done:
                continue
            after = running["after"] if running and number == done else None
            for batch, last in self._slices(where, values, ordered=ordered, after=after):
                yield from self._marked(batch, bounds)
                if last is not None:
                    yield Checkpoint(self._within(bounds, between, number, last))

    def _within(self, bounds: _Bounds, between: Mapping[str, Any], section: int, last: Sequence[Any]) -> Cursor:
        """The cursor in the middle of a pass."""
        state = {
            "kind": bounds.key.kind if bounds.key else None,
            "lower": bounds.lower,
            "next": bounds.next,
            "top": bounds.top,
            "tracked": bounds.tracked,
            "schema_version": bounds.schema_version,
            "section": section,
            "after": [_json(value) for value in last],
        }
        shown = ", ".join(str(value) for value in last)
        return {"version": _FORMAT, **between, "pass": state, "shown": f"within a pass, after {shown}"}

    def _sections(self, bounds: _Bounds) -> list[tuple[str, list[Any], bool]]:
        """The parts of a pass: a condition with its values, and whether it is ordered by key."""
        where, values = self._filter()
        key = bounds.key
        if key is None or bounds.old is None or bounds.lower is None:
            return [(where, values, False)]
        column = f"t.{quoted(key.column)}"
        foreign = f"{column} < ''" if key.is_text else f"{column} >= ''"
        apart = [f"{column} IS NULL", foreign]
        more: list[Any] = []
        if key.kind == "text clock" and isinstance(bounds.lower, str) and len(bounds.lower) > _DAY:
            # a space sorts before a T: the other form of the same day must not hide below the cursor
            apart.append(f"({column} >= ? AND {column} < ? AND substr({column}, 11, 1) <> ?)")
            more = [bounds.lower[:_DAY], bounds.lower, bounds.lower[_DAY]]
        in_class = f"{column} >= ?" if key.is_text else f"{column} >= ? AND {column} < ''"
        return [
            (f"({where}) AND ({' OR '.join(apart)})", [*values, *more], False),
            (f"({where}) AND {in_class}", [*values, bounds.lower], True),
        ]

    def _filter(self) -> tuple[str, list[Any]]:
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

    def _marked(self, batch: "pa.RecordBatch", bounds: _Bounds) -> Iterator[Message]:
        """The batch, with the rows that were or will be read again apart."""
        name, key = self._plan.table.name, bounds.key
        if key is None:
            yield Insert(name, batch, reread=self._plan.table.incremental)
            return
        self._check_zones(batch, key)
        keys = batch.column(key.column).to_pylist()
        low, high = bounds.seen, bounds.tracked
        again = [
            not key.belongs(value) or high is None or value >= high or (low is not None and value <= low)
            for value in keys
        ]
        mask = pa.array(again, pa.bool_())
        for reread, chosen in ((False, pc.invert(mask)), (True, mask)):
            part = batch.filter(chosen)
            if part.num_rows:
                yield Insert(name, part, reread=reread)

    def _check_zones(self, batch: "pa.RecordBatch", key: Key) -> None:
        """Texts with different offsets from UTC sort by their digits, not by time."""
        if key.kind != "text clock":
            return
        zones = pc.unique(
            pc.struct_field(pc.extract_regex(batch.column(key.column), r"\d(?P<zone>[+-]\d\d:?\d\d)$"), "zone")
        )
        found = [zone for zone in zones.to_pylist() if zone]
        if len(found) > 1:
            raise TaskError(
                f"table {self._plan.table.name!r}: times in {key.column!r} have different offsets ({', '.join(found)}), so "
                "their order as texts is not the order of time, and rows could be missed",
                hint="store them in UTC, or read the table with `mode: full`",
            )

    # bounds ----------------------------------------------------------------------------------------------------------

    def _bounds(self, between: Mapping[str, Any]) -> _Bounds:
        table, settings = self._plan.table, self._plan.settings
        version = self._one("PRAGMA schema_version")
        if not table.incremental_key:
            return _Bounds(None, None, None, None, None, None, None, version)
        name = table.incremental_key[0]
        if settings.nulls == "fail":
            self._refuse_nulls(name)
        old, seen, tracked = between.get("key"), between.get("seen"), between.get("tracked")
        key = self._key(name, old)
        if key is None:
            return _Bounds(None, None, None, None, None, None, None, version)
        top = self._extreme(key.column, key.condition)
        if key.kind == "sequence" and old is not None and top is not None and top < old:
            raise TaskError(
                f"table {table.name!r}: the greatest {name!r} is {top!r}, but {old!r} was delivered before; ids seem to "
                "have started again, and rows could be missed",
                hint="read it again from nothing: --full-refresh, or choose a key that only grows",
            )
        if key.kind == "sequence" and top is None:
            # the table was emptied: ids may start again, and reading all of nothing costs nothing
            return _Bounds(key, None, None, None, None, None, None, version)
        following = _greater(old, self._bound(key, top))
        back = key.back(following, settings.lag) if following is not None else None
        lower = key.back(old, settings.lag) if old is not None else None
        return _Bounds(
            key, old, seen, _greater(lower, tracked), following, _greater(seen, top), _greater(back, tracked), version
        )

    def _resumed(self, between: Mapping[str, Any], running: Mapping[str, Any]) -> _Bounds:
        name = self._plan.table.incremental_key
        key = Key(name[0], running["kind"], self._zone(), "") if name and running["kind"] else None
        return _Bounds(
            key,
            between.get("key"),
            between.get("seen"),
            running["lower"],
            running["next"],
            running["top"],
            running["tracked"],
            running["schema_version"],
        )

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
        exact = key.now_as_text(now, found)
        return found if found <= exact else self._extreme(key.column, f"{column} BETWEEN '' AND ?", exact)

    def _extreme(self, name: str, condition: str = "1", *values: Any, direction: str = "DESC") -> Any:
        """The greatest, or smallest, key under a condition."""
        where, start = self._filter()
        column = f"t.{quoted(name)}"
        return self._one(
            f"SELECT {column} FROM {quoted(self._plan.entry.name)} AS t WHERE {column} IS NOT NULL AND ({where}) "
            f"AND ({condition}) ORDER BY {column} {direction} LIMIT 1",
            *start,
            *values,
        )

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

    def _renumbered(self, running: Mapping[str, Any]) -> bool:
        """Whether positions may have changed since: VACUUM gives rows without an id of their own new numbers."""
        stable = self._plan.entry.rowid_alias is not None or self._plan.entry.without_rowid
        return not stable and running["schema_version"] != self._one("PRAGMA schema_version")

    # rows ------------------------------------------------------------------------------------------------------------

    def _slices(
        self, where: str, values: Sequence[Any], *, ordered: bool, after: Sequence[Any] | None
    ) -> "Iterator[tuple[pa.RecordBatch, Sequence[Any] | None]]":
        """Batches with the position of their last row; ``None``: the rows have no positions to go on from."""
        name = self._plan.table.incremental_key
        order = ([f"t.{quoted(name[0])}"] if ordered else []) + self._position
        chosen = ", ".join([f"t.{quoted(column)}" for column in self._columns] + order)
        sql = f"SELECT {chosen} FROM {quoted(self._plan.entry.name)} AS t WHERE {where}"
        if not self._position:
            yield from self._whole(sql, values)
            return
        places, tuple_ = ", ".join("?" for _ in order), ", ".join(order)
        limit = min(self._context.batch_rows, _FIRST_ROWS)
        while True:
            seek = f" AND ({tuple_}) > ({places})" if after is not None else ""
            bound = [*values, *([_sql(value) for value in after] if after is not None else [])]
            rows = self._connection.execute(f"{sql}{seek} ORDER BY {tuple_} LIMIT {limit}", bound).fetchall()
            if not rows:
                return
            batch, after = self._batch(rows), rows[-1][len(self._columns) :]
            yield batch, after
            if len(rows) < limit:
                return
            fitting = self._context.batch_bytes * len(rows) // max(1, batch.nbytes)
            limit = max(1, min(self._context.batch_rows, fitting, 4 * limit))

    def _whole(self, sql: str, values: Sequence[Any]) -> "Iterator[tuple[pa.RecordBatch, None]]":
        """Views have no positions: one statement, no checkpoint before its end."""
        found = self._connection.execute(sql, values)
        while rows := found.fetchmany(self._context.batch_rows):
            yield self._batch(rows), None

    def _batch(self, rows: Sequence[Any]) -> "pa.RecordBatch":
        table = self._plan.table
        columns = list(zip(*rows, strict=True))
        keys = list(zip(*[columns[self._columns.index(name)] for name in table.primary_key], strict=True)) or [
            ()
        ] * len(rows)
        arrays = [
            to_arrow(table.name, name, self._plan.kinds[name], columns[place], keys)
            for place, name in enumerate(self._columns)
        ]
        return pa.record_batch(arrays, schema=table.schema)

    def present(self) -> Iterator[Message]:
        """All primary keys, from one statement that began after the rows were read."""
        table = self._plan.table
        where, values = self._filter()
        chosen = ", ".join(f"t.{quoted(name)}" for name in table.primary_key)
        found = self._connection.execute(
            f"SELECT {chosen} FROM {quoted(self._plan.entry.name)} AS t WHERE {where}", values
        )
        schema = pa.schema([table.schema.field(name) for name in table.primary_key])
        sent = False
        while rows := found.fetchmany(self._context.batch_rows):
            columns = zip(*rows, strict=True)
            arrays = [
                to_arrow(table.name, name, self._plan.kinds[name], values_, rows)
                for name, values_ in zip(table.primary_key, columns, strict=True)
            ]
            sent = True
            yield Present(table.name, pa.record_batch(arrays, schema=schema))
        if not sent:
            yield Present(table.name, pa.RecordBatch.from_pylist([], schema))


_DAY = len("2026-01-01")
_FIRST_ROWS = 4_096
"""A first slice small enough for wide rows; later ones grow to what the context allows."""


def _shown(value: Value | None) -> str:
    return "–" if value is None else str(value)


def _greater(one: Value | None, other: Value | None) -> Value | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)  # type: ignore[type-var]


def _json(value: Any) -> Any:
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def _sql(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
