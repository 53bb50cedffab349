"""One pass over one SQLite table: where it starts, what it reads again, and where its cursor may go.

The cursor is ``{"key", "seen", "tracked", "shown"}`` between passes:

- ``key``: every row whose key is smaller was delivered (within the guarantee's limits); the next pass reads from it.
- ``seen``: the greatest key that was ever delivered; with future-dated rows it is beyond ``key``.
- ``tracked``: from here on every delivered row was marked as one that may be read again.

Within a pass it is ``{"pass": {…}}`` beside these: the bounds that the pass decided first, its section, its position.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from strandline.errors import TaskError
from strandline.lazy import pa, pc
from strandline.message import Checkpoint, Cursor, Insert, Message, Present
from strandline.source import RunContext
from strandline.sources._sqlite_bounds import Bounds, Look, Plan
from strandline.sources._sqlite_catalog import quoted
from strandline.sources._sqlite_keys import Value
from strandline.sources._sqlite_rows import to_arrow

__all__ = ["Reading"]

_FORMAT = 1


class Reading:
    """Reads with one connection, in one thread."""

    def __init__(self, connection: Any, plan: Plan, context: RunContext) -> None:
        self._connection, self._plan, self._context = connection, plan, context
        self._look = Look(connection, plan)
        self._zones: set[str] = set()
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
        if running is not None and self._look.renumbered(running):
            running = None
        between = {} if cursor is None else {name: cursor.get(name) for name in ("key", "seen", "tracked")}
        bounds = self._look.bounds(between) if running is None else self._look.resumed(between, running)
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

    def _deliver(self, bounds: Bounds, running: dict[str, Any] | None, between: Mapping[str, Any]) -> Iterator[Message]:
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

    def _within(self, bounds: Bounds, between: Mapping[str, Any], section: int, last: Sequence[Any]) -> Cursor:
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

    def _sections(self, bounds: Bounds) -> list[tuple[str, list[Any], bool]]:
        """The parts of a pass: a condition with its values, and whether it is ordered by key."""
        where, values = self._look.filter()
        key = bounds.key
        if key is None and not self._plan.table.incremental_key:
            return [(where, values, False)]
        column = f"t.{quoted(self._plan.table.incremental_key[0])}"
        if key is None:
            return [(f"({where}) AND ({column} IS NULL OR typeof({column}) = 'blob')", values, False)]
        apart = [f"{column} IS NULL", f"{column} < ''" if key.is_text else f"{column} >= ''"]
        more: list[Any] = []
        if bounds.old is None or bounds.lower is None:
            return [(f"({where}) AND ({' OR '.join(apart)} OR {column} <= ?)", [*values, bounds.top], False)]
        if key.kind == "text clock" and isinstance(bounds.lower, str) and len(bounds.lower) > _DAY:
            # a space sorts before a T: the other form of the same day must not hide below the cursor
            apart.append(f"({column} >= ? AND {column} < ? AND substr({column}, 11, 1) <> ?)")
            more = [bounds.lower[:_DAY], bounds.lower, bounds.lower[_DAY]]
        return [
            (f"({where}) AND ({' OR '.join(apart)})", [*values, *more], False),
            (f"({where}) AND {column} BETWEEN ? AND ?", [*values, bounds.lower, bounds.top], True),
        ]

    def _marked(self, batch: "pa.RecordBatch", bounds: Bounds) -> Iterator[Message]:
        """The batch, with the rows that were or will be read again apart."""
        name, key = self._plan.table.name, bounds.key
        if key is None:
            yield Insert(name, batch, reread=self._plan.table.incremental)
            return
        self._check_zones(batch, bounds)
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

    def _check_zones(self, batch: "pa.RecordBatch", bounds: Bounds) -> None:
        """Texts with different offsets from UTC sort by their digits, not by time."""
        key = bounds.key
        if key is None or key.kind != "text clock":
            return
        texts = batch.column(key.column)
        if texts.type != pa.string():
            return
        if isinstance(bounds.old, str):
            texts = pa.concat_arrays([texts, pa.array([bounds.old])])
        long = texts.filter(pc.greater(pc.utf8_length(texts), _DAY))
        ends = pc.struct_field(pc.extract_regex(long, r":\d\d(?:\.\d+)?(?P<zone>Z|[+-]\d\d:?\d\d)?$"), "zone")
        zones = {_UTC.get(zone, zone) for zone in pc.unique(ends).to_pylist() if zone is not None}
        self._zones |= zones
        if len(self._zones) > 1:
            found = ", ".join(sorted(zone or "UTC" for zone in self._zones))
            raise TaskError(
                f"table {self._plan.table.name!r}: times in {key.column!r} have different offsets ({found}), so their "
                "order as texts is not the order of time, and rows could be missed",
                hint="store them in UTC, or read the table with `mode: full`",
            )

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
        where, values = self._look.filter()
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
_UTC = {"Z": "", "+00:00": "", "-00:00": "", "+0000": "", "-0000": ""}
_FIRST_ROWS = 4_096
"""A first slice small enough for wide rows; later ones grow to what the context allows."""


def _shown(value: Value | None) -> str:
    return "–" if value is None else str(value)


def _json(value: Any) -> Any:
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def _sql(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
