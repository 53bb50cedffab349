"""A source in memory: a small database that a test changes between syncs and while one reads.

It stands for databases in the tests of the engine, so it can do what makes them difficult: transactions that commit late
with older stamps, rows dated in the future, null keys, deletes, columns that change, and failures at any message.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.memory.store import MemoryStore, MemoryTransaction, Row
from strandline.errors import StateError, UsageError
from strandline.lazy import pa
from strandline.message import (
    Checkpoint,
    Complete,
    Cursor,
    Delete,
    Failure,
    Insert,
    Present,
    Schema,
    SourceMessage,
    Truncate,
)
from strandline.reading import Reading
from strandline.source import Task
from strandline.table import Table

__all__ = ["MemorySource", "MemoryStore", "MemoryTransaction"]

Place: TypeAlias = Mapping[str, Any] | None
"""Where to resume in one table; ``None``: from its begin."""


class MemorySource:
    """Reads the tables of a ``MemoryStore``.

    A table that is not incremental is read in full. One with an incremental key is read by it, up to a horizon below
    which no row can appear any more; what lies above, and null keys, is read again by the next sync. An incremental table
    without a key is read by the number of each row's last change, and misses and repeats nothing.
    """

    class Spec(BaseModel):
        """Settings of the ``memory`` source."""

        model_config = ConfigDict(extra="forbid")

        store: str = Field("default", description="name of the store in this process")
        batch_rows: int | None = Field(None, ge=1, description="most rows in a batch; default: the engine's bound")
        deletes: Literal["ignore", "sweep", "feed"] = Field(
            "ignore", description="sweep: send all keys that exist; feed: send each delete (without an incremental key)"
        )
        one_task: bool = Field(False, description="read all tables in one task, as a log of changes is")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    @property
    def store(self) -> MemoryStore:
        """The store that is read."""
        return MemoryStore.named(self.spec.store)

    def places(self) -> Sequence[str]:
        """The store, which no destination writes; see ``strandline.place``."""
        return [f"memory source {self.spec.store}"]

    def tables(self) -> Sequence[Table]:
        """The tables of the store, in the order of their creation."""
        tables = [stored.table for stored in self.store.stored.values()]
        for table in tables:
            if self.spec.deletes == "feed" and not (table.incremental and not table.incremental_key):
                raise UsageError(
                    f"table {table.name!r} has no feed of deletes",
                    hint="an incremental table without an incremental key has one; or choose `deletes: sweep`",
                )
        return tables

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """One for each table, or one for all. The horizon is decided here, before anything is read."""
        payload = {"horizon": _encoded(self.store.horizon)}
        if self.spec.one_task:
            return [Task("all", tuple(tables), payload=payload)] if tables else []
        return [Task(table.name, (table,), payload=payload) for table in tables]

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """The tables of ``task`` one after another, each from where ``cursor`` says."""
        for number, message in enumerate(self._messages(task, reading)):
            self.store.on_message(task.id, number)
            yield message

    def read_keys(
        self,
        task: Task,  # noqa: ARG002 -- names of tables are names of the store
        table: str,
        keys: "pa.RecordBatch",
        reading: Reading,
    ) -> Iterator[Insert]:
        """The rows of these primary keys; see ``strandline.source.ReadsKeys``."""
        with self.store.lock:
            stored = self.store.stored[table]
            found = [stored.rows.get(stored.key(key)) for key in keys.to_pylist()]
        rows = [row for row in found if row is not None]
        plan = _in_full(rows, None)
        for events in _chunks(rows, min(reading.batch_rows, self.spec.batch_rows or reading.batch_rows)):
            for message in _delivery(stored.table, events, plan, reading):
                if isinstance(message, Insert):
                    yield message

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """Remember it for the test."""
        self.store.acknowledged[task.id] = cursors

    def close(self) -> None:
        """Nothing is held."""

    def _messages(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        places, done = _opened(reading.cursor)
        for table in task.tables:
            if table.name in done:
                continue
            if table.name in self.store.failures:
                yield Failure(table.name, self.store.failures[table.name])
                continue
            for message in self._table(table, places.get(table.name), task.payload["horizon"], reading):
                if isinstance(message, Complete):
                    done.append(table.name)
                if isinstance(message, Checkpoint):
                    places[table.name] = message.cursor
                    yield Checkpoint(_cursor(places, done if len(done) < len(task.tables) else []))
                else:
                    yield message

    def _table(self, wanted: Table, place: Any, horizon: Any, reading: Reading) -> Iterator[SourceMessage]:
        """One table; the cursors of its checkpoints are its places."""
        with self.store.lock:
            stored = self.store.stored[wanted.name]
            table, rows, deletes = stored.table, list(stored.rows.values()), dict(stored.deletes)
        if table != wanted:
            yield Schema(table)
        if not table.incremental:
            plan = _in_full(rows, place)
        elif table.incremental_key:
            plan = _by_key(table, rows, place, horizon)
        else:
            plan = _by_change(rows, deletes if self.spec.deletes == "feed" else {}, place)
        rows_max = min(reading.batch_rows, self.spec.batch_rows or reading.batch_rows)
        for events in _chunks(plan.events, rows_max):
            yield from _delivery(table, events, plan, reading)
        if self.spec.deletes == "sweep":
            for start in range(0, len(rows), rows_max):
                yield Present(table.name, _keys(table, [row.values for row in rows[start : start + rows_max]]))
        yield Complete(table.name)
        yield Checkpoint(plan.end)


def _opened(cursor: Cursor | None) -> tuple[dict[str, Any], list[str]]:
    """The places of a task's tables, and those that this pass has completed."""
    match cursor:
        case None:
            return {}, []
        case {"tables": Mapping() as places}:
            return dict(places), list(cursor.get("done", ()))
    raise StateError(
        f"the cursor {cursor!r} is not one of the memory source",
        hint="restore an older state, or read the table again: strandline sync --full-refresh TABLE",
    )


def _cursor(places: Mapping[str, Place], done: Sequence[str]) -> Cursor | None:
    """The places of a task's tables; ``done`` names those that this pass has completed, until all are."""
    known = {name: place for name, place in places.items() if place is not None}
    return {"tables": known} | ({"done": list(done)} if done else {}) if known or done else None


@dataclass(frozen=True, slots=True)
class _Gone:
    """A delete, as a feed tells it."""

    values: Mapping[str, Any] | None
    """The deleted key; ``None``: all rows."""
    change: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a read of one table delivers."""

    events: Sequence[Row | _Gone]
    place: Callable[[Any], Place]
    """Where to resume after an event."""
    end: Place
    """Where the next pass begins."""
    reread: Callable[[Row], bool] = lambda _row: False


def _in_full(rows: Iterable[Row], place: Place) -> _Plan:
    after = place["after"] if place else 0
    left = sorted((row for row in rows if row.number > after), key=lambda row: row.number)
    return _Plan(left, lambda row: {"after": row.number}, None)


def _by_change(rows: Iterable[Row], deletes: Mapping[int, Mapping[str, Any] | None], place: Place) -> _Plan:
    after = place["change"] if place else 0
    everything: list[Row | _Gone] = [*rows, *(_Gone(values, change) for change, values in deletes.items())]
    left = sorted((event for event in everything if event.change > after), key=lambda event: event.change)
    return _Plan(left, lambda event: {"change": event.change}, {"change": left[-1].change if left else after})


def _by_key(table: Table, rows: Iterable[Row], place: Place, horizon: Any) -> _Plan:
    """Null keys first, then by key and number. The horizon is that of the begin of the pass, also when it is resumed."""
    [column] = table.incremental_key
    kind = table.schema.field(column).type
    place = place or {}
    horizon = _decoded(place.get("horizon", horizon), kind)
    start, seen = _decoded(place.get("key"), kind), _decoded(place.get("seen"), kind)

    def order(value: Any, number: int) -> tuple[Any, ...]:
        return (value is not None, 0 if value is None else value, number)

    chosen = [row for row in rows if row.values.get(column) is None or start is None or row.values[column] >= start]
    left = sorted(chosen, key=lambda row: order(row.values.get(column), row.number))
    keys = [seen]
    if "after" in place:
        value, number = _decoded(place["after"][0], kind), place["after"][1]
        left = [row for row in left if order(row.values.get(column), row.number) > order(value, number)]
        keys.append(value)
    highest = _highest(*keys, *(row.values.get(column) for row in left))
    bounds = [value for value in (highest, horizon) if value is not None]
    following = _highest(start, min(bounds) if highest is not None else None)

    def reread(row: Row) -> bool:
        """Whether an earlier pass may have delivered the row, or a later one may read it again."""
        value = row.values.get(column)
        return value is None or (seen is not None and value <= seen) or value >= following

    def after(row: Row) -> Place:
        begin = {"key": _encoded(start), "seen": _encoded(seen), "horizon": _encoded(horizon)}
        return begin | {"after": [_encoded(row.values.get(column)), row.number]}

    return _Plan(left, after, {"key": _encoded(following), "seen": _encoded(highest)}, reread)


def _highest(*values: Any) -> Any:
    return max((value for value in values if value is not None), default=None)


def _encoded(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _decoded(value: Any, kind: "pa.DataType") -> Any:
    if value is None or not pa.types.is_temporal(kind):
        return value
    return datetime.fromisoformat(value) if pa.types.is_timestamp(kind) else date.fromisoformat(value)


def _chunks(events: Sequence[Row | _Gone], rows_max: int) -> Iterator[list[Row | _Gone]]:
    """Neighbours of one kind, ``rows_max`` at most: rows, deleted keys, or the deletion of all rows."""
    for _kind, group in itertools.groupby(events, key=lambda event: (type(event), event.values is None)):
        alike = list(group)
        for start in range(0, len(alike), rows_max):
            yield alike[start : start + rows_max]


def _delivery(table: Table, events: list[Row | _Gone], plan: _Plan, reading: Reading) -> Iterator[SourceMessage]:
    """The message for a chunk of events, and a checkpoint; in halves while its batch has too many bytes."""
    if isinstance(events[0], Row):
        rows = [event for event in events if isinstance(event, Row)]
        batch = pa.RecordBatch.from_pylist([dict(row.values) for row in rows], schema=table.schema)
        if batch.nbytes > reading.batch_bytes and len(rows) > 1:
            yield from _delivery(table, events[: len(events) // 2], plan, reading)
            yield from _delivery(table, events[len(events) // 2 :], plan, reading)
            return
        yield Insert(table.name, batch, reread=any(map(plan.reread, rows)))
    elif events[0].values is None:
        yield Truncate(table.name)
    else:
        yield Delete(table.name, _keys(table, [event.values or {} for event in events]))
    yield Checkpoint(plan.place(events[-1]))


def _keys(table: Table, rows: Iterable[Mapping[str, Any]]) -> "pa.RecordBatch":
    schema = pa.schema([table.schema.field(column) for column in table.primary_key])
    return pa.RecordBatch.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
