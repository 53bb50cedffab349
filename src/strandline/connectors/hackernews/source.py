"""The source ``hackernews``: the items of Hacker News, as CloudQuery's plugin of that name reads them.

Items are numbered without gaps. A pass reads from the last one that was read to the greatest id that was in use when it began, in
order, so a checkpoint may follow any item. An id that is in use may have no item yet, or never: it is asked for again by the next
syncs, as long as it is among the last 100,000.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from itertools import chain, islice
from typing import Any

from strandline.connectors.hackernews.client import Client
from strandline.connectors.hackernews.settings import HackerNewsSettings, began
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Cursor, Insert, SourceMessage
from strandline.reading import Reading, within_bounds
from strandline.source import Task
from strandline.table import Guarantee, Table

__all__ = ["HackerNewsSource"]

TABLE = "hackernews_items"
_ASKED_AGAIN = 100_000
"""How far back ids without an item are asked for again: about as many items as appear in a week."""
_CHUNK = 20
"""So many items are asked for over one connection, one after the other."""
_GUARANTEE = Guarantee(
    "settled (ids)",
    f"an item that appears later than {_ASKED_AGAIN:,} others with greater ids is missed; what changes in an item (its score, its kids, "
    "its text) after it was read is not read again",
)


def _schema() -> "pa.Schema":
    return pa.schema(
        [
            ("id", pa.int64()),
            ("deleted", pa.bool_()),
            ("type", pa.string()),
            ("by", pa.string()),
            ("time", pa.timestamp("us", "UTC")),
            ("text", pa.string()),
            ("dead", pa.bool_()),
            ("parent", pa.int64()),
            ("poll", pa.int64()),
            ("kids", pa.list_(pa.int64())),
            ("url", pa.string()),
            ("score", pa.int64()),
            ("title", pa.string()),
            ("parts", pa.list_(pa.int64())),
            ("descendants", pa.int64()),
        ]
    )


@dataclass(slots=True)
class _Place:
    """Where a pass is."""

    next: int
    until: int
    holes: list[int]
    """Ids that had no item when this pass asked for them, in their order."""
    again: list[int]
    """Holes of earlier passes that this one has not asked for yet."""

    def cursor(self) -> Cursor:
        """In the middle of a pass, or at its end."""
        oldest = self.until - _ASKED_AGAIN
        place = {"shown": str(self.next - 1), "next": self.next, "holes": [one for one in self.holes if one > oldest]}
        if self.next > self.until and not self.again:
            return place
        return place | {"until": self.until, "again": self.again}


class HackerNewsSource:
    """See ``strandline.source.Source``. The cursor: ``{"next": the next id, "holes": [ids], "until": where this pass ends, "again": [ids]}``."""

    Spec = HackerNewsSettings

    def __init__(self, spec: HackerNewsSettings) -> None:
        self._spec = spec
        self._client = Client(spec.url, spec.timeout)

    def tables(self) -> Sequence[Table]:
        """One table."""
        return [
            Table(
                TABLE,
                _schema(),
                ("id",),
                ("id",),
                incremental=True,
                description="https://github.com/HackerNews/API#items",
                guarantee=_GUARANTEE,
                access="by asking for each id that is new",
            )
        ]

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """One task."""
        return [Task(TABLE, tuple(tables))] if tables else []

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """The holes once more, then the items that are new; a checkpoint after each few hundred."""
        place = self._begin(task, reading)
        new = range(place.next, place.until + 1)
        for ids, items in chain(self._fetched(list(place.again), reading), self._fetched(new, reading)):
            place.holes = sorted([*place.holes, *(one for one, item in zip(ids, items, strict=True) if item is None)])
            place.again = place.again[len(ids) :]
            place.next = max(place.next, ids[-1] + 1)
            yield from _inserts(items, reading)
            if place.next <= place.until or place.again:
                yield Checkpoint(place.cursor())
        yield Complete(TABLE)
        yield Checkpoint(place.cursor())

    def continued(self, task: Task, value: str) -> Cursor:
        """The cursor that goes on from CloudQuery's: the id of the last item that was read, which comes once more."""
        if not value.isascii() or not value.isdecimal():
            raise UsageError(f"{task.id}: {value[:40]!r} is no id of an item")
        return {"shown": value, "next": int(value), "holes": []}

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """The API need not be told."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _begin(self, task: Task, reading: Reading) -> _Place:
        cursor = dict(reading.cursor or {})
        cursor.pop("shown", None)
        if not cursor:
            newest = self._client.newest()
            at_s = began(self._spec.start_time, reading.started_at).astimezone(UTC).timestamp()
            return _Place(self._first(at_s, newest, reading), newest, [], [])
        holes: Any = cursor.get("holes")
        again: Any = cursor.get("again", [])
        lists = isinstance(holes, list) and isinstance(again, list)
        numbers = [cursor.get("next"), cursor.get("until", 0), *(holes + again if lists else [None])]
        if not cursor.keys() <= {"next", "until", "holes", "again"} or not all(type(one) is int for one in numbers):
            raise TaskError(
                f"{task.id}: the cursor is none of this source's", hint="--full-refresh reads everything again"
            )
        if "until" in cursor:  # a pass that goes on knows how far it goes
            return _Place(cursor["next"], cursor["until"], holes, again)
        return _Place(cursor["next"], max(self._client.newest(), cursor["next"] - 1), [], holes)

    def _fetched(
        self, ids: Sequence[int], reading: Reading
    ) -> Iterator[tuple[Sequence[int], list[dict[str, Any] | None]]]:
        """The items of some ids, in their order, many at once."""
        size = max(1, min(_CHUNK, reading.batch_rows))
        at_once = max(1, self._spec.item_concurrency)
        chunks = (ids[start : start + size] for start in range(0, len(ids), size))
        calls = reading.each(lambda some: (some, self._client.items(some)), chunks, at_once)
        with closing(calls):  # type: ignore[type-var]
            while several := list(islice(calls, max(1, min(at_once, reading.batch_rows // size)))):
                yield [one for some, _ in several for one in some], [item for _, items in several for item in items]

    def _first(self, at_s: float, newest: int, reading: Reading) -> int:
        """The id of the first item from a time on: ids and times grow together."""
        low, high = 1, newest + 1
        while low < high:
            reading.alive()
            middle = (low + high) // 2
            found = self._next_there(middle, high)
            if found is None or found["time"] >= at_s:
                high = middle
            else:
                low = found["id"] + 1
        return low

    def _next_there(self, start: int, end: int) -> dict[str, Any] | None:
        """The first item from ``start`` on that is there and has a time."""
        for first in range(start, end, _CHUNK):
            for item in self._client.items(range(first, min(first + _CHUNK, end))):
                if item is not None and "time" in item:
                    return item
        return None


def _inserts(items: Iterable[dict[str, Any] | None], reading: Reading) -> Iterator[Insert]:
    rows, schema = [item for item in items if item is not None], _schema()
    if not rows:
        return
    seconds = schema.set(schema.get_field_index("time"), pa.field("time", pa.int64()))
    try:
        columns = pa.array(rows, pa.struct(list(seconds))).flatten()
        at = seconds.get_field_index("time")
        columns[at] = columns[at].cast(pa.timestamp("s", "UTC")).cast(pa.timestamp("us", "UTC"))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise TaskError(f"{TABLE}: an item is not as the API documents it: {error}") from error
    batch = pa.record_batch(columns, schema=schema)
    for start in range(0, batch.num_rows, reading.batch_rows):
        for piece in within_bounds(batch.slice(start, reading.batch_rows), reading.batch_bytes):
            yield Insert(TABLE, piece)
