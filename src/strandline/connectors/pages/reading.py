"""One pass of a stream: pages become batches, and the cursor moves as far as it is honest.

An unsorted stream has one checkpoint, at its end: what was not read yet may have any key. A sorted one has a checkpoint behind
every group of rows with the same key that is complete, and is resumed behind it.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from strandline.connectors.pages.alike import Alike
from strandline.connectors.pages.children import Fetching, Found
from strandline.connectors.pages.columns import Columns
from strandline.connectors.pages.key import Key, as_python, check_key, text_of_value, value_of
from strandline.connectors.pages.nested import apart, are_different, in_doubles, inner_rows, parents_of
from strandline.connectors.pages.records import Page, Records, read_page
from strandline.connectors.pages.remembering import know, written
from strandline.connectors.pages.stream import Child, Fetch, Mark, Stream, naming
from strandline.errors import RetryableError, StrandlineError, TaskError
from strandline.lazy import pa, pc
from strandline.message import Checkpoint, Complete, Cursor, Insert, Notice, Replace, Schema, SourceMessage
from strandline.reading import Reading, within_bounds
from strandline.source import Task
from strandline.table import Table
from strandline.warned import Code

__all__ = ["LISTS", "STRANGE", "GrewError", "Pass"]

LISTS = "lists"
"""In the payload of a task: the lists that are stored in tables of their own, with the number of rows there."""
STRANGE = (AttributeError, TypeError, ValueError)
"""What reading a cursor of another source raises."""
_FLUSH_S = 2.0
"""How long rows are held back at most that a checkpoint could follow."""
_FIELDS = {"shown", "since", "seen", "after", "before", "mark", "columns", "children", "apart"}
_PARENTS_AT_ONCE = 256


class GrewError(RetryableError):
    """A new column was found behind rows that no checkpoint follows; the pass begins again, with the column."""


@dataclass(slots=True)
class Pass:
    """One read of one stream with its children. Used once."""

    stream: Stream
    columns: Columns
    task: Task
    reading: Reading
    fetch: Fetch
    children: Sequence[Child] = ()
    learns: bool = False
    """Tell of new columns wherever they are found: the messages are kept back until all are known."""
    _key: Key | None = None
    _held: "pa.Table | None" = None
    """Rows of the greatest key so far, whose number is not known yet."""
    _after: "pa.Scalar | None" = None
    """A sorted stream: rows up to this key were delivered."""
    _open: bool = False
    """Whether rows were sent that no checkpoint covers."""
    _tables: dict[str, Table] = field(default_factory=dict)
    """As they were told last."""
    _last: "pa.Scalar | None" = None
    """The last key of a sorted stream."""
    _older: int = 0
    _fetching: Fetching = field(init=False)
    _unseen: set[str] = field(default_factory=set)
    """Lists with rows in a table of their own, of which no record has said anything yet: unknown is not empty."""
    _waiting: "dict[str, list[pa.RecordBatch]]" = field(default_factory=dict)
    """By such a list, the parents that have none in it, if a record shows that the list is still there."""

    def messages(self) -> Iterator[SourceMessage]:
        """See ``strandline.source.Source.read``."""
        cursor = self._begin()
        mark: Cursor | None = cursor.get("mark")
        began = as_python(self._after if self._after is not None else self._key.since) if self._key else mark
        self._tables = {table.name: table for table in self.task.tables}
        self._fetching = Fetching(self.reading, self._tables)
        for stream, columns in [(self.stream, self.columns), *((one.stream, one.columns) for one in self._all())]:
            yield from self._told(stream, columns)
        buffer, rows, size, last_s = list[Records](), 0, 0, time.monotonic()
        path, alike, failed = self.stream.path, Alike(self.stream.path), list[StrandlineError]()
        for page in _as_far(self.fetch(began), failed) if self.stream.sorted else self.fetch(began):
            self.reading.alive()
            if isinstance(page, Mark):
                mark = _checked(page.cursor, self.stream.name)
                if rows >= self.reading.batch_rows or time.monotonic() - last_s >= _FLUSH_S:
                    yield from self._flush(buffer, mark)
                    buffer, rows, size, last_s = [], 0, 0, time.monotonic()
                continue
            known = self.columns.types
            records = read_page(page, self.columns.shape, where=self.stream.name, path=path, alike=alike, known=known)
            if not records.rows:
                continue
            buffer.append(records)
            rows, size = rows + records.rows, size + _size(records)
            full = rows >= self.reading.batch_rows or size >= self.reading.batch_bytes
            if full or (self.stream.sorted and time.monotonic() - last_s >= _FLUSH_S):
                yield from self._flush(buffer, None)
                buffer, rows, size, last_s = [], 0, 0, time.monotonic()
        yield from self._flush(buffer, None)
        for error in failed:
            raise error
        yield from self._end(mark)

    def _all(self) -> list[Child]:
        """The children, and all below them."""
        return [one for child in self.children for one in child.all()]

    def _begin(self) -> Mapping[str, Any]:
        """Take the cursor apart, and a bound where a pass begins."""
        cursor = dict(self.reading.cursor or {})
        if not cursor.keys() <= _FIELDS or (cursor and not self.stream.is_incremental):
            raise self._strange()
        try:
            know(cursor, self.columns, self._all())
            before = datetime.fromisoformat(cursor["before"]) if "before" in cursor else None
        except STRANGE as error:
            raise self._strange() from error
        lists: Mapping[str, int] = self.task.payload.get(LISTS, {})
        self.columns.keep_apart([*lists])
        if self.reading.absorbs and not self.stream.is_incremental:
            self._unseen = {name for name, rows in lists.items() if rows}
        columns_of = {self.stream.name: self.columns, **{one.stream.name: one.columns for one in self._all()}}
        for table in self.task.tables:
            former = self.reading.former.get(table.name, ()) if table.name in columns_of else ()
            if former:
                columns_of[table.name].types |= {name: table.former[name] for name in former}
        for name in self.columns.apart or ():
            if former := self.reading.former.get(f"{self.stream.name}_{name}", ()):
                self.columns.types[name] = in_doubles(self.columns.types[name], name, former)
        if self.stream.incremental_key:
            kind = self.columns.types.get(self.stream.incremental_key, pa.null())
            since, seen, self._after = (self._value(cursor.get(name), kind) for name in ("since", "seen", "after"))
            before = before or self.stream.now().astimezone(UTC) - self.stream.lag
            self._key = Key(self.stream.incremental_key, kind, since, before, self._after, seen)
            self._key.is_known = not cursor or "seen" in cursor
        return cursor

    def _value(self, text: Any, kind: "pa.DataType") -> "pa.Scalar | None":
        return None if text is None else value_of(str(text), kind, where=f"{self.stream.name}: the cursor")

    def _strange(self) -> TaskError:
        return TaskError(
            f"{self.stream.name}: the cursor {self.reading.cursor!r} is none of this source's",
            hint="--full-refresh reads everything again",
        )

    def _cursor(self, mark: Cursor | None, *, after: "pa.Scalar | None" = None, ends: bool = False) -> Cursor | None:
        """Where the stream goes on."""
        if not self.stream.is_incremental:
            return None
        known: dict[str, Any] = {"columns": written(self.columns)}
        if self.children:
            known["children"] = {child.stream.name: written(child.columns) for child in self._all()}
        if self.columns.apart:
            known["apart"] = list(self.columns.apart)
        if self._key is None:
            shown = "–" if mark is None else json.dumps(mark, ensure_ascii=False)
            return {"shown": shown, "mark": mark, **known}
        since = self._key.end() if ends else self._key.since
        text = None if since is None else text_of_value(since)
        cursor: dict[str, Any] = {"shown": text or "–", "since": text, **known}
        if ends or self._key.is_known:  # in mid-pass as it began, so that a read which is resumed marks the same rows
            seen = self._key.reached() if ends else self._key.seen
            cursor["seen"] = None if seen is None else text_of_value(seen)
        if after is not None:
            cursor |= {
                "shown": text_of_value(after),
                "after": text_of_value(after),
                "before": self._key.before.isoformat(),
            }
        return cursor

    # what was read ---------------------------------------------------------------------------------------------------
    def _flush(self, buffer: Sequence[Records], mark: Cursor | None) -> Iterator[SourceMessage]:
        if buffer:
            table = self.columns.take(buffer)
            yield from self._told(self.stream, self.columns)
            yield from self._shown(name for page in buffer for name in page.columns)
            if self._key is None:
                yield from self._send(table, reread=False)
            else:
                yield from self._by_key(table, self._key)
        if mark is not None:
            yield from self._checkpoint(self._cursor(mark))

    def _shown(self, names: Iterable[str]) -> Iterator[SourceMessage]:
        """Parents that came without a list of which it is known now that it is there: they have nothing in it."""
        for name in self._unseen.intersection(names):
            self._unseen.discard(name)
            for keys in self._waiting.pop(name, ()):
                self._open = True
                yield Replace(f"{self.stream.name}_{name}", keys)

    def _by_key(self, rows: "pa.Table", key: Key) -> Iterator[SourceMessage]:
        if key.name not in rows.column_names:
            raise TaskError(
                f"{self.stream.name}: no record has {key.name!r}, the incremental key", hint="name another column"
            )
        key.kind = rows.schema.field(key.name).type
        check_key(key.name, key.kind, where=self.stream.name)
        values = rows[key.name].combine_chunks()
        if self.stream.sorted:
            self._check_sorted(values)
        key.see(values)
        if key.since is not None:
            older = pc.fill_null(pc.less(values, key.since), False)
            self._older += pc.sum(older).as_py() or 0
            rows = rows.filter(pc.invert(older)) if self.stream.drops_older else rows
        if self._after is not None:
            rows = rows.filter(pc.greater(rows[key.name], self._after))
        if self._held is not None:
            rows = pa.concat_tables([_grown(self._held, rows.schema), rows])
            self._held = None
        if rows.num_rows:
            yield from self._sorted(rows, key) if self.stream.sorted else self._unsorted(rows, key)
        if self._held is not None and self._held.nbytes > self.reading.batch_bytes:
            held, self._held = self._held, None
            yield from self._send(held, reread=True)

    def _sorted(self, rows: "pa.Table", key: Key) -> Iterator[SourceMessage]:
        """All but the last group of equal keys, and a checkpoint behind them."""
        values = rows[key.name].combine_chunks()
        whole = pc.sum(pc.less(values, values[-1])).as_py() or 0
        again = key.again(values).slice(0, whole)
        turns = pc.indices_nonzero(pc.xor(again.slice(1), again.slice(0, max(0, whole - 1)))).to_pylist()
        for start, end in pairwise([0, *(at + 1 for at in turns), whole]):
            yield from self._send(rows.slice(start, end - start), reread=bool(end) and again[start].as_py())
        self._held = rows.slice(whole)
        if whole:
            self._after = values[whole - 1]
            yield from self._checkpoint(self._cursor(None, after=self._after))

    def _unsorted(self, rows: "pa.Table", key: Key) -> Iterator[SourceMessage]:
        """All but those of the greatest key: whether they come again is known at the end. None may pass another of its row."""
        values = rows[key.name].combine_chunks()
        again = key.again(values)
        top = pc.max(values.filter(pc.invert(again)))
        last = pc.fill_null(pc.and_(pc.invert(again), pc.equal(values, top)), False)
        if not are_different(rows, self.stream.primary_key):
            yield from self._send(rows, reread=True)
            return
        yield from self._send(rows.filter(pc.invert(pc.or_(again, last))), reread=False)
        yield from self._send(rows.filter(again), reread=True)
        self._held = rows.filter(last)

    def _check_sorted(self, values: "pa.Array") -> None:
        named = f"{self.stream.name}: it is declared sorted by {self.stream.incremental_key!r}, and"
        hint = "declare it unsorted; nothing was saved beyond what was in order"
        if values.null_count:
            raise TaskError(f"{named} a record has no value there", hint=hint)
        before = [self._last] if self._last is not None else []
        whole = pa.concat_arrays([pa.array(before, values.type), values]) if before else values
        down = pc.less(whole.slice(1), whole.slice(0, len(whole) - 1))
        if pc.any(down).as_py():
            at = pc.index(down, True).as_py()
            raise TaskError(f"{named} {whole[at + 1]} comes after {whole[at]}", hint=hint)
        self._last = values[-1]

    def _end(self, mark: Cursor | None) -> Iterator[SourceMessage]:
        for name in self._waiting:
            raise TaskError(
                f"{self.stream.name}: no record has {name!r} any more, and {self.stream.name}_{name} has its elements; whether they are "
                "gone, or are not shown, cannot be told",
                hint="--full-refresh takes the records as they are now, and leaves that table as it is",
            )
        if self._held is not None:
            yield from self._send(self._held, reread=True)
        if self._older and not self.stream.drops_older and not self.reading.absorbs:
            yield Notice(
                self.stream.name,
                f"{self.stream.name}: {self._older} rows are older than the cursor that was given, and are stored again",
                Code.OLDER_ROWS,
            )
        yield from (Complete(name) for name in self._tables)
        yield Checkpoint(self._cursor(mark, ends=True))

    # what is sent ----------------------------------------------------------------------------------------------------
    def _told(self, stream: Stream, columns: Columns) -> Iterator[SourceMessage]:
        """A ``Schema`` for each table that is another one now."""
        for table in stream.tables(columns) if columns.types else ():
            known = self._tables.get(table.name)
            if known is None:
                continue
            fields = [
                known.schema.field(one.name) if one.name in self.reading.former.get(table.name, ()) else one
                for one in table.schema
            ]
            if known.schema.equals(schema := pa.schema(fields)):
                continue
            if self._open and not self.learns:
                raise GrewError(f"{table.name}: new columns were found; reading again with them")
            self._tables[table.name] = replace(table, schema=schema, former={**table.former, **known.former})
            yield Schema(self._tables[table.name])

    def _checkpoint(self, cursor: Cursor | None) -> Iterator[SourceMessage]:
        self._open = False
        yield Checkpoint(cursor)

    def _send(self, rows: "pa.Table", *, reread: bool) -> Iterator[SourceMessage]:
        """Rows, and those of their children behind them."""
        wanted = self._fetching.wanted(self.children)
        step = _PARENTS_AT_ONCE if wanted else max(1, rows.num_rows)
        pieces = apart(rows, self.stream.primary_key) if wanted or self.columns.apart else [rows]
        for some in (piece.slice(start, step) for piece in pieces for start in range(0, piece.num_rows, step)):
            lines = [(row,) for row in some.to_pylist()] if wanted else []
            fetched = [self._fetching.of(child, some.schema, lines, self.stream.primary_key) for child in wanted]
            for one in fetched:
                yield from self._told(one.child.stream, one.child.columns)
            yield from self._insert(self.stream.name, some, reread=reread)
            for name in self.columns.apart or ():
                child_name = f"{self.stream.name}_{name}"
                if child_name in self._tables:
                    refers = {self.stream.of_parent(key): key for key in self.stream.primary_key}
                    if name in self._unseen:
                        keys = parents_of(some, self._tables[child_name], refers)
                        self._waiting.setdefault(name, []).append(keys)
                        continue
                    inner = inner_rows(some, name, self._tables[child_name], refers)
                    yield self._replace(child_name, some, refers)
                    yield from self._insert(child_name, inner, reread=reread)
            for one in fetched:
                named = naming(one.child.refers, self.stream.primary_key)
                for below in one.child.all():
                    if below.stream.name in self._tables:
                        yield self._replace(below.stream.name, some, named)
                yield from self._insert(one.child.stream.name, one.rows, reread=reread)
                yield from self._below(one, named, reread=reread)

    def _below(self, above: Found, named: Mapping[str, str], *, reread: bool) -> Iterator[SourceMessage]:
        """What belongs to children; which rows at the top it is replaced with was said before. A row that came twice is asked for once."""
        key = above.child.stream.primary_key
        lines = list({tuple(line[0][name] for name in (*named, *key)): line for line in above.lines}.values())
        for child in self._fetching.wanted(above.child.children):
            for start in range(0, len(lines), _PARENTS_AT_ONCE):
                some = lines[start : start + _PARENTS_AT_ONCE]
                found = self._fetching.of(child, above.rows.schema, some, key)
                yield from self._told(child.stream, child.columns)
                yield from self._insert(child.stream.name, found.rows, reread=reread)
                yield from self._below(found, named, reread=reread)

    def _replace(self, name: str, parents: "pa.Table", refers: Mapping[str, str]) -> Replace:
        self._open = True
        return Replace(name, parents_of(parents, self._tables[name], refers))

    def _insert(self, name: str, rows: "pa.Table", *, reread: bool) -> Iterator[SourceMessage]:
        if name not in self._tables:
            return
        rows = rows.select([one for one in rows.column_names if one in self._tables[name].schema.names])
        for batch in rows.combine_chunks().to_batches(max_chunksize=self.reading.batch_rows):
            for piece in within_bounds(batch, self.reading.batch_bytes):
                self._open = True
                yield Insert(name, piece, reread)


def _as_far(pages: Iterable[Page | Mark], failed: list[StrandlineError]) -> Iterator[Page | Mark]:
    """The pages that came, and what they end with for who has delivered them."""
    try:
        yield from pages
    except StrandlineError as error:
        failed.append(error)


def _checked(cursor: Cursor, where: str) -> Cursor:
    if not isinstance(cursor, Mapping):
        raise TaskError(f"{where}: a checkpoint is {type(cursor).__name__}, and no mapping")
    return dict(cursor)


def _size(records: Records) -> int:
    return sum(array.nbytes for arrays in records.columns.values() for array in arrays)


def _grown(rows: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """The rows with columns that are new since, and types that are wider."""
    have = set(rows.column_names)
    columns = [
        pc.cast(rows[one.name], one.type) if one.name in have else pa.chunked_array([pa.nulls(rows.num_rows, one.type)])
        for one in schema
    ]
    return pa.table(columns, schema=schema)
