"""One pass over one SQLite table.

A pass decides its bounds first, in one transaction, and reads slices after, each in a transaction of its own, so that a
writer never waits for a sync. Rows come in the order of their addresses (the first load, and keys without an index) or
of the key; either way a checkpoint is an exact position, and nothing is read twice. Where rows have no address that
lasts, the first transaction copies them aside, and the pass has no checkpoint. What was written meanwhile is as high as
the cursor after the pass, or higher, and is left to the next one.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from strandline.connectors.sqlite.bound import Bounder, Clock, filtered
from strandline.connectors.sqlite.catalog import transaction
from strandline.connectors.sqlite.copies import copied, copy
from strandline.connectors.sqlite.cursor import Pass, Saved, decoded, encoded
from strandline.connectors.sqlite.high_water import Condition, Key, Range
from strandline.connectors.sqlite.origin import check, later, origin_of
from strandline.connectors.sqlite.plan import Plan
from strandline.connectors.sqlite.slices import Slice, Slicer
from strandline.connectors.sqlite.times import TimeTextKey
from strandline.connectors.sqlite.unique import unlike_keys
from strandline.connectors.sqlite.witness import noted
from strandline.errors import CursorExpiredError, TaskError
from strandline.lazy import pa, pc
from strandline.message import Checkpoint, Complete, Cursor, Insert, Notice, Present, SourceMessage
from strandline.reading import Reading, within_bounds
from strandline.warned import Code

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["TableRead"]


@dataclass(frozen=True, slots=True)
class _Stage:
    """A part of a pass: rows that meet a condition, in one order."""

    condition: Condition
    """Of all its rows."""
    by_key: Range | None = None
    """The range of the key, where rows come in its order."""


class TableRead:
    """Reads with one connection, in one thread."""

    def __init__(self, connection: "Connection", plan: Plan, reading: Reading, clock: Clock) -> None:
        self._connection, self._plan, self._reading = connection, plan, reading
        self._bounder = Bounder(connection, plan, clock)
        self._slicer = Slicer(connection, plan, reading, plan.table.schema.names)

    def messages(self, cursor: Cursor | None) -> Iterator[SourceMessage]:
        """All of ``Source.read``."""
        name = self._plan.table.name
        saved = None if cursor is None else Saved.parsed(cursor, name)
        if saved is not None and (saved.kind == "full") == self._plan.table.incremental:
            raise TaskError(
                f"table {name!r}: the saved cursor is of a table that was read {'in full' if saved.kind == 'full' else 'incrementally'}",
                hint="read the table again from nothing: --full-refresh",
            )
        aside, left_out = False, 0
        if saved is not None and saved.current is not None:
            self._bounder.check_address(saved.current)
            with transaction(self._connection):
                saved = self._compared(saved, saved)
        else:
            with transaction(self._connection):
                saved = self._compared(self._bounder.begun(saved), saved)
                aside = saved.current is not None and saved.current.address == "none"
                if aside:
                    copy(self._connection, self._slicer, self._plan, self._all(saved))
                if self._plan.table.incremental and self._plan.settings.nulls == "exclude":
                    left_out = self._bounder.nulls()
        if left_out:
            (key,) = self._plan.table.incremental_key
            text = f"{left_out} rows whose {key!r} is NULL are left out, as `nulls: exclude` says"
            yield Notice(name, text, Code.NULL_KEYS)
        if aside:
            saved = yield from self._copied(saved)
        else:
            saved = yield from self._slices(saved)
        if saved.height is None and (saved.current is None or saved.current.lower is None):  # all rows were read
            for text in unlike_keys(self._connection, self._plan):
                yield Notice(name, text, Code.KEYS_NOT_UNIQUE)
        if self._plan.settings.deletes == "sweep":
            yield from self._present(saved)
        yield Complete(name)
        ended = self._ended(saved)
        yield Checkpoint(None if ended is None else ended.json_value())

    def _compared(self, begun: Saved, saved: Saved | None) -> Saved:
        """The cursor with what tells of its origin, once it was compared with what the saved one tells.

        Raises:
            CursorExpiredError: the saved one is of another file, or of other rows.
        """
        now = origin_of(self._connection, self._plan)
        if saved is None:
            return begun.model_copy(update={"origin": now})
        key = self._bounder.key(begun) if self._plan.table.incremental else None
        old = begun.model_copy(update={"origin": saved.origin, "witnesses": saved.witnesses})
        witnesses = check(self._connection, self._plan, old, now, key, self._reading)
        return old.model_copy(update={"origin": now, "witnesses": witnesses})

    def _ended(self, saved: Saved) -> Saved | None:
        ended = self._bounder.ended(saved)
        if ended is None:
            return None
        with transaction(self._connection):
            now = origin_of(self._connection, self._plan)
        return ended.model_copy(update={"origin": later(saved.origin, now), "witnesses": saved.witnesses})

    # slices ----------------------------------------------------------------------------------------------------------

    def _slices(self, saved: Saved) -> Generator[SourceMessage, None, Saved]:
        key, stages = self._stages(saved)
        while True:
            current = saved.current
            assert current is not None
            if current.stage >= len(stages):
                return saved
            with transaction(self._connection):
                piece = self._slicer.read(self._queries(stages[current.stage], current, key))
            heights = [] if key is None else key.heights(piece.keys)
            yield from self._inserts(piece, heights, saved, key)
            saved = self._noted(saved, piece, heights, key).model_copy(
                update={"current": _advanced(current, piece, heights)}
            )
            if piece.batch is not None:
                yield Checkpoint(saved.json_value())

    def _stages(self, saved: Saved) -> tuple[Key | None, list[_Stage]]:
        """The key and the parts of the pass, the same whenever the pass is resumed."""
        current, (where, values) = saved.current, filtered(self._plan)
        assert current is not None
        if current.address == "key" and not self._plan.entry.key_is_total:
            # there was none when the pass began, or it had no addresses
            where = " AND ".join([where, *(f"{column} IS NOT NULL" for column in self._bounder.address_sql("key"))])
        if current.address != "none" and current.until is None:
            return None, []  # an empty table
        if not self._plan.table.incremental:
            return None, [_Stage((where, values))]
        key = self._bounder.key(saved)
        start = self._bounder.start(key)
        lower = start if current.lower is None else decoded(current.lower)
        if lower is None:
            return key, [_Stage((where, values))]
        strange, new = key.strange(lower, start), key.new(lower)
        if not current.by_key:
            either, more = _either(key, [*strange, new])
            return key, [_Stage((f"{where} AND {either}", [*values, *more]))]
        stages = [_Stage((f"{where} AND {key.sql} IS NULL", values))]
        stages += [_Stage((where, values), by_key=range_) for range_ in strange]
        if current.top is not None:
            top, until = decoded(current.top), [decoded(value) for value in current.until or ()]
            where, values = f"{where} AND {key.sql} <= ?", [*values, top]
            columns = [key.sql, *self._bounder.address_sql(current.address)][: 1 + len(until)]
            stages.append(_Stage(_and(where, values, columns, "<=", [top, *until]), by_key=new))
        return key, stages

    def _all(self, saved: Saved) -> Condition:
        """Every row of the pass, for a table whose rows have no addresses."""
        _, stages = self._stages(saved)
        (stage,) = stages
        return stage.condition

    def _queries(self, stage: _Stage, current: Pass, key: Key | None) -> list[Condition]:
        """What reads on from the current position: two statements where rows of an equal key may be left."""
        where, values = stage.condition
        address = self._bounder.address_sql(current.address)
        after = None if current.after is None else [decoded(value) for value in current.after]
        if stage.by_key is None or key is None:
            if current.address == "key" and current.lower is not None and after is None:
                # probably few rows: to find and sort them is faster than to follow the index of the primary key
                address = [f"+{column}" for column in address]
            if current.until is not None:
                where, values = _and(where, values, address, "<=", [decoded(value) for value in current.until])
            if after is not None:
                where, values = _and(where, values, address, ">", after)
            return [self._query(where, values, address)]
        if key.column == self._plan.entry.rowid_alias:
            address = []
        order = [key.sql, *address]
        if after is None:
            more, bound = stage.by_key.whole(key.sql)
            return [self._query(f"{where} AND {more}", [*values, *bound], order)]
        # a single lower bound, or SQLite may start at the other
        more, bound = replace(stage.by_key, lower=None).whole(key.sql)
        where, values = f"{where} AND {more}", [*values, *bound]
        greater = self._query(f"{where} AND {key.sql} > ?", [*values, after[0]], order)
        if not address:
            return [greater]
        equal = self._query(*_and(f"{where} AND {key.sql} = ?", [*values, after[0]], address, ">", after[1:]), order)
        return [equal, greater]

    def _query(self, where: str, values: list[Any], order: list[str]) -> Condition:
        chosen, places = ", ".join([*self._slicer.select, *order]), ", ".join(order)
        return f"SELECT {chosen} FROM {self._plan.relation} WHERE {where} ORDER BY {places}", values

    def _inserts(self, piece: Slice, heights: list[Any], saved: Saved, key: Key | None) -> Iterator[SourceMessage]:
        """The rows, apart by whether another pass may have read them or may read them again."""
        current = saved.current
        assert current is not None
        if piece.batch is None:
            return
        if key is None:
            yield from self._bounded(piece.batch, reread=False)
            return
        edge, seen = decoded(current.tracked), decoded(saved.seen)
        if isinstance(key, TimeTextKey) and edge is not None:
            edge -= 1  # SQLite rounds fractions of a second to milliseconds, perhaps up to the next second
        assert len(heights) == piece.batch.num_rows, self._plan.table.name
        if edge is None:
            yield from self._bounded(piece.batch, reread=True)
            return
        if None not in heights and max(heights) < edge and (seen is None or min(heights) > seen):
            yield from self._bounded(piece.batch, reread=False)
            return
        mask = pa.array(
            [height is None or height >= edge or (seen is not None and height <= seen) for height in heights],
            pa.bool_(),
        )
        for reread, chosen in ((False, pc.invert(mask)), (True, mask)):
            part = piece.batch.filter(chosen)
            if part.num_rows:
                yield from self._bounded(part, reread=reread)

    def _bounded(self, batch: "pa.RecordBatch", *, reread: bool) -> Iterator[SourceMessage]:
        for part in within_bounds(batch, self._reading.batch_bytes):
            yield Insert(self._plan.table.name, part, reread=reread)

    # copies ----------------------------------------------------------------------------------------------------------

    def _copied(self, saved: Saved) -> Generator[SourceMessage, None, Saved]:
        """Rows without addresses, as views have none, nor tables whose rowids VACUUM may number anew.

        No position among them could be found again, so there is no checkpoint before the end.
        """
        key, _ = self._stages(saved)
        for piece in copied(self._slicer):
            assert saved.current is not None
            heights = [] if key is None else key.heights(piece.keys)
            yield from self._inserts(piece, heights, saved, key)
            saved = self._noted(saved, piece, heights, key).model_copy(
                update={"current": _advanced(saved.current, piece, heights)}
            )
        return saved

    def _noted(self, saved: Saved, piece: Slice, heights: list[Any], key: Key | None) -> Saved:
        """With some rows of a slice as witnesses."""
        if key is None or piece.batch is None or saved.current is None:
            return saved
        top = decoded(saved.current.next)
        return saved.model_copy(
            update={"witnesses": noted(saved.witnesses, self._plan, piece.batch, piece.keys, heights, top)}
        )

    def _present(self, saved: Saved) -> Iterator[SourceMessage]:
        """All primary keys, as they are together after the rows were read."""
        table = self._plan.table
        slicer = Slicer(self._connection, self._plan, self._reading, table.primary_key)
        with transaction(self._connection):
            where, values = filtered(self._plan)
            key = self._bounder.key(saved) if table.incremental else None
            start = None if key is None else self._bounder.start(key)
            if key is not None and start is not None:
                either, more = _either(key, [*key.strange(start, start), key.new(start)])
                where, values = f"{where} AND {either}", [*values, *more]
            copy(self._connection, slicer, self._plan, (where, values))
        empty = True
        for piece in copied(slicer):
            for part in within_bounds(piece.batch, self._reading.batch_bytes):
                empty = False
                yield Present(table.name, part)
        if empty:
            fields = [table.schema.field(name) for name in table.primary_key]
            yield Present(table.name, pa.RecordBatch.from_pylist([], pa.schema(fields)))


def _either(key: Key, ranges: list[Range]) -> Condition:
    """Rows in one of the ranges, or without a key."""
    conditions = [one.whole(key.sql) for one in ranges]
    either = " OR ".join(f"({condition})" for condition, _ in [(f"{key.sql} IS NULL", []), *conditions])
    return f"({either})", [value for _, values in conditions for value in values]


def _and(where: str, values: list[Any], columns: list[str], sign: str, row: list[Any]) -> Condition:
    """The condition, and that the columns are beyond a row."""
    if len(columns) != len(row):
        raise CursorExpiredError("the saved position does not fit the table, whose primary key seems to have changed")
    if not columns:
        return where, values
    places = ", ".join("?" for _ in row)
    return f"{where} AND ({', '.join(columns)}) {sign} ({places})", [*values, *row]


def _advanced(current: Pass, piece: Slice, heights: list[Any]) -> Pass:
    found = [height for height in heights if height is not None] if None in heights else heights
    seen = max(
        [*([] if current.seen is None else [decoded(current.seen)]), *([max(found)] if found else [])], default=None
    )
    place: dict[str, Any] = {"stage": current.stage + 1, "after": None}
    if not piece.is_last:
        place = {"after": [encoded(value) for value in piece.last]}
    return current.model_copy(update={"seen": encoded(seen), **place})
