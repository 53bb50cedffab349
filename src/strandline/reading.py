"""One read of a task: which pass it is, from where and within which bounds; and what makes the source of an API short."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Generic, TypeVar

from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.message import Cursor

__all__ = ["Reading", "within_bounds"]

T = TypeVar("T")
V = TypeVar("V")

_FIRST_ROWS = 64
"""How many rows make the first batch, before it is known how large they are."""
_GROWTH = 4
_UNITS_US = {"s": 1_000_000, "ms": 1_000}
_SLICE_S = 0.1
_LEAVE_S = 5.0
"""How long calls that are going on are waited for when nobody wants their results any more."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What ``Source.read`` is asked for. One for each call, closed by the engine when that is over."""

    cursor: Cursor | None
    """Where to go on; ``None``: from nothing."""
    started_at: datetime
    """When the run started: UTC, by the clock of the machine that started it."""
    resumed: bool = False
    """The pass goes on where an earlier read of it was interrupted; a cursor of ``None``: before its first checkpoint.

    False: a pass begins, and ``cursor`` is where the last complete one ended. That is the time to take a new upper bound, and
    to step back by a look-back window; a resumed read does neither, or it would not get on.
    """
    mirror: bool = False
    """The destination is to hold what the source holds, and no more (`overwrite-delete-stale`): a source that can tell
    which rows are gone does so, unless its own settings say otherwise."""
    absorbs: bool = True
    """A row that is delivered again replaces itself (the overwrite modes). False: it may be stored twice (append)."""
    lacks: bool = False
    """Rows that the last sweep has found missing at the destination may be missing still: a source that could spare a sweep does not."""
    former: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By table, the columns that are to be sent in the type of ``Table.former``: the destination stores them so."""
    batch_rows: int = 65_536
    """How many rows a batch should have at most."""
    batch_bytes: int = 16 << 20
    """How many bytes a batch should have at most; a single larger row is allowed."""
    on_alive: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)
    """Hears every sign of life; the engine's."""
    on_held: Callable[[float], None] = field(default=lambda _: None, repr=False, compare=False)
    """Hears how long each statement was open, in seconds; the engine's."""
    _closed: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def batches(self, rows: Iterable[Mapping[str, Any]], schema: "pa.Schema") -> "Iterator[pa.RecordBatch]":
        """Rows as batches of this ``schema``, within the bounds of the reading, in their order.

        A value that is absent is null. Rows are taken a batch ahead, so a source that knows a position after each page calls
        this once a page, and sends a checkpoint after it.

        Args:
            rows: by the names of columns.
            schema: of the batches.

        Raises:
            TaskError: a row has a column that the schema does not have, or a value that does not fit its type.
        """
        left, step = iter(rows), min(_FIRST_ROWS, self.batch_rows)
        while some := list(islice(left, step)):
            batch = _batch(some, schema)
            yield from within_bounds(batch, self.batch_bytes)
            fit = self.batch_bytes * len(some) // max(1, batch.nbytes)
            step = max(1, min(self.batch_rows, fit, step * _GROWTH))

    def each(self, fn: Callable[[V], T], values: Iterable[V], at_once: int = 4) -> Iterator[T]:
        """``fn`` of every value, in the order of the values, by several threads: for a page of details, say.

        ``values`` is asked in the caller's thread, never further ahead than ``at_once``; so many calls at most are going on
        or have results that nobody has taken. What a call raises is raised in its turn. Once the iterator or the reading is
        closed, no other call begins.

        Args:
            fn: is called in other threads.
            values: one call for each.
            at_once: how many threads.

        Raises:
            TaskError: the reading is closed.
        """
        left, calls = iter(values), deque[_Call[T]]()
        try:
            while True:
                for value in islice(left, at_once - len(calls)):
                    self.check_open()
                    calls.append(_Call(fn, value))
                if not calls:
                    return
                while not calls[0].done.wait(_SLICE_S):
                    self.check_open()
                yield calls.popleft().result()
        finally:
            until_s = time.monotonic() + _LEAVE_S
            for call in calls:
                call.done.wait(max(0.0, until_s - time.monotonic()))

    def alive(self) -> None:
        """Say that the source is at work though it sends nothing, while a rate limit lasts, say. From any thread.

        A source that sends nothing for ``stall_timeout`` is taken to hang, unless it says so now and then.

        Raises:
            TaskError: the reading is closed, so there is nothing to wait for any more.
        """
        self.check_open()
        self.on_alive()

    @contextmanager
    def statement(self) -> Iterator[None]:
        """What holds the source's server up goes on inside: one statement with its snapshot, or one transaction.

        The longest one is in the report of a run. A slow destination makes it longer, since rows wait to be taken.
        """
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.on_held(time.monotonic() - began_s)

    def close(self) -> None:
        """Nobody wants more. A second call does nothing."""
        self._closed.set()

    def check_open(self) -> None:
        """Whether anybody wants more, for who waits for threads of his own.

        Raises:
            TaskError: nobody does.
        """
        if self._closed.is_set():
            raise TaskError("the reading is closed")


class _Call(Generic[T]):
    """One call in a thread that holds up nobody's exit."""

    def __init__(self, fn: Callable[[V], T], value: V) -> None:
        self.done = threading.Event()
        self._results: list[T] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(fn, value), name="read one", daemon=True).start()

    def _run(self, fn: Callable[[V], T], value: V) -> None:
        try:
            self._results.append(fn(value))
        except BaseException as error:  # noqa: BLE001 -- raised again where the result is asked for
            self._error = error
        self.done.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results[0]


def _batch(rows: Sequence[Mapping[str, Any]], schema: "pa.Schema") -> "pa.RecordBatch":
    names, columns = set(schema.names), []
    for row in rows:
        if not row.keys() <= names:
            unknown = ", ".join(map(repr, sorted(row.keys() - names)))
            raise TaskError(
                f"a row has {unknown}, which its table does not have",
                hint="this is a fault of the source plugin: it should leave that out, or send a Schema first",
            )
    for one in schema:
        values = [row.get(one.name) for row in rows]
        try:
            _check_whole(values, one.type)
            columns.append(pa.array(values, one.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise TaskError(f"column {one.name!r}: a value does not fit {one.type}: {error}") from error
    return pa.record_batch(columns, schema=schema)


def _check_whole(values: Sequence[Any], kind: "pa.DataType") -> None:
    """Refuse what Arrow would cut to fit: fractions of a whole number, times of a date, parts of a second."""
    for value in values:
        if isinstance(value, float) and pa.types.is_integer(kind):
            cut = not value.is_integer()
        elif isinstance(value, datetime):
            unit_us = _UNITS_US.get(kind.unit, 1) if pa.types.is_timestamp(kind) else 1
            cut = pa.types.is_date(kind) or bool(value.microsecond % unit_us)
        else:
            cut = False
        if cut:
            raise ValueError(f"{value!r} would be cut")


def within_bounds(batch: "pa.RecordBatch", bytes_max: int) -> "Iterator[pa.RecordBatch]":
    """The batch in pieces of at most so many bytes, or of one row."""
    if batch.num_rows <= 1 or batch.nbytes <= bytes_max:
        yield batch
        return
    half = batch.num_rows // 2
    yield from within_bounds(batch.slice(0, half), bytes_max)
    yield from within_bounds(batch.slice(half), bytes_max)
