"""The heaps of a table read from the position of a pass on, and what can be saved on the way.

A slice is a range of pages, and one statement with a snapshot of its own: what a pass over everything reads by slices was
written before it began, and has not moved since, so no two slices need see the same moment. That is why several sessions may
read slices at once (``lane``), and why a pass that goes on elsewhere has missed nothing.
"""

import os
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal

from strandline.connectors.postgresql.catalog import leaves
from strandline.connectors.postgresql.cursor import Heap, Pass, Saved, after, under_way
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.heaps import Now, identity
from strandline.connectors.postgresql.lane import Lane, NoLaneError
from strandline.connectors.postgresql.log import FLUSHED, POSITION
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.rows import Rows
from strandline.connectors.postgresql.server import Server, Session
from strandline.connectors.sql.dialect import quote
from strandline.errors import CursorExpiredError, RetryableError, StrandlineError
from strandline.lazy import pa
from strandline.message import SourceMessage

__all__ = ["Border", "Budget", "Order", "Place", "Slices"]

_SLICES_EACH = 2
"""How many slices there must be for each session that reads them, or its connection is not worth its while."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a pass takes at once."""

    pages: int
    """Between two checkpoints."""
    at_once: int = 1
    """How many slices are read at once, each by a session of its own. 1: by that of the pass."""

    @classmethod
    def of(cls, pages: int, parallel: int | Literal["auto"], connections: int) -> "Budget":
        """As the spec says; `auto` leaves as many processors to what becomes of the rows as it takes."""
        mine = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        return cls(pages, max(1, min(connections, mine // 2)) if parallel == "auto" else parallel)


@dataclass(frozen=True, slots=True)
class Border:
    """Up to here everything was read: what comes next."""

    heap: int
    page: int
    position: int
    """Of the server's log, no earlier than the snapshot of what was read."""
    flushed: int
    """Up to which position the disk had it."""
    gone: int | None = None
    """A heap that was dropped or detached, and its rows with it."""

    def reached(self, saved: Saved, seen: str | None) -> Saved:
        """The cursor here, of the pass that ``saved`` has."""
        gone = [] if self.gone is None else [self.gone]
        skipped = [*under_way(saved).skipped, *gone]
        saved = after(saved, heap=self.heap, page=self.page, seen=seen, skipped=skipped)
        return saved.model_copy(update={"position": self.position})


@dataclass(frozen=True, slots=True)
class Place:
    """What is read next, of one heap."""

    heap: Heap
    name: str
    """In SQL; empty where several are read as one."""
    source: str
    """Empty: the heap is gone."""
    range: str
    next_heap: int
    next_page: int


@dataclass(frozen=True, slots=True)
class Order:
    """A place, and which of its rows are wanted."""

    place: Place
    condition: str
    mark: str
    """Which rows may have been delivered before, or will be again."""
    whole: bool
    """The pass reads page by page, so that a heap must not be rewritten."""


class Slices:
    """Of one pass."""

    def __init__(self, server: Server, session: Session, plan: Plan, rows: Rows, budget: Budget) -> None:
        self._server, self._session, self._plan, self._rows, self._budget = server, session, plan, rows, budget
        self._names = {
            leaf.oid: f"{quote(leaf.schema)}.{quote(leaf.name)}" for leaf in leaves(session, plan.relation.oid)
        }

    def places(self, current: Pass) -> Iterator[Place]:
        """What is left of the pass, from its position on.

        Only a pass over everything is cut into pages: an incremental one has few rows, and is right in one statement even
        if the table is rewritten.
        """
        while current.heap < len(current.heaps):
            yield (place := self._at(current))
            current = current.model_copy(update={"heap": place.next_heap, "page": place.next_page})

    def _at(self, current: Pass) -> Place:
        heap, start, end = current.heaps[current.heap], current.page, current.page + self._budget.pages
        if heap.file == 0:
            return Place(heap, "", self._plan.source, "TRUE", current.heap + 1, 0)
        if heap.oid not in self._names:
            return Place(heap, "", "", "", current.heap + 1, 0)
        name = self._names[heap.oid]
        is_end = not current.whole or end >= heap.pages
        # the last slice has no end: what was appended since is too young for it
        upper = "" if is_end else f" AND t.ctid < '({end},0)'::tid"
        range_ = f"t.ctid >= '({start},0)'::tid{upper}" if start or upper else "TRUE"
        return Place(heap, name, f"ONLY {name} AS t", range_, current.heap + int(is_end), 0 if is_end else end)

    def read(
        self, orders: Iterable[Order], current: Pass, now: Now
    ) -> Generator["tuple[SourceMessage, pa.RecordBatch] | Border"]:
        """The rows of the orders, with a border at the end of each, in their order.

        Args:
            orders: what is left of the pass.
            current: the pass.
            now: the server when this reading of it began.

        Raises:
            RetryableError: the name of a heap is another's by now, and may have been while it was read.
            CursorExpiredError: its rows may lie elsewhere, and the pass reads page by page.
        """
        at_once, ahead = self._at_once(current), deque[tuple[Order, Lane | None]]()
        try:
            for order in orders:
                ahead.append((order, self._lane(order, current, now) if at_once > 1 else None))
                while len(ahead) >= at_once:
                    at_once = yield from self._taken(*ahead.popleft(), at_once)
            while ahead:
                at_once = yield from self._taken(*ahead.popleft(), at_once)
        finally:
            for _, lane in ahead:
                if lane is not None:
                    lane.leave()

    def _at_once(self, current: Pass) -> int:
        slices = sum(-(-heap.pages // self._budget.pages) for heap in current.heaps[current.heap :])
        return max(1, min(self._budget.at_once, slices // _SLICES_EACH)) if current.whole else 1

    def _lane(self, order: Order, current: Pass, now: Now) -> Lane | None:
        """``None``: there is no connection to spare just now."""
        spare = self._server.spare()
        if spare is None:
            return None
        return Lane(partial(self._elsewhere, spare, order, current, now), self._rows.reading.check_open)

    def _elsewhere(
        self, spare: AbstractContextManager[Session], order: Order, current: Pass, now: Now
    ) -> Generator["tuple[SourceMessage, pa.RecordBatch] | Border"]:
        with ExitStack() as stack:
            try:
                session = stack.enter_context(spare)
                there = identity(session)
            except StrandlineError as error:
                raise NoLaneError from error
            # several hosts may answer to one connection string, and a standby may not have got so far
            if there.identity.is_another(now.identity) or there.xmin < int(current.before):
                raise NoLaneError
            yield from _slice(session, self._rows.by(session), order)

    def _taken(
        self, order: Order, lane: Lane | None, at_once: int
    ) -> Generator["tuple[SourceMessage, pa.RecordBatch] | Border", None, int]:
        """How many are read at once from then on: where the server has no further connection, one."""
        if lane is not None:
            try:
                yield from lane.items()
            except NoLaneError:
                at_once = 1
            else:
                return at_once
        yield from _slice(self._session, self._rows, order)
        return at_once


def _slice(session: Session, rows: Rows, order: Order) -> Iterator["tuple[SourceMessage, pa.RecordBatch] | Border"]:
    place, gone = order.place, None
    if place.source:
        yield from rows.messages(place.source, f"{place.range} AND ({order.condition})", order.mark)
    else:
        gone = place.heap.oid
    position, flushed = _position(session, rows.name, order)
    yield Border(place.next_heap, place.next_page, position, flushed, gone)


def _position(session: Session, table: str, order: Order) -> tuple[int, int]:
    """The position of the log now, and of the disk, if the place still is what it should be."""
    place, heap = order.place, order.place.heap
    name = f"to_regclass({literal(place.name)})" if place.name else "NULL"
    row = session.row(
        f"SELECT coalesce(pg_relation_filenode({heap.oid}), 0)::int8 AS file, "
        f"coalesce({name}::oid, 0)::int8 AS named, {POSITION} AS position, {FLUSHED} AS flushed"
    )
    if place.name and row["named"] != heap.oid:
        raise RetryableError(f"table {table!r}: a partition was renamed or dropped while it was read")
    if place.name and order.whole and row["file"] != heap.file:
        raise CursorExpiredError(
            f"table {table!r}: it was rewritten (VACUUM FULL, CLUSTER, ALTER TABLE) while it was read"
        )
    return int(row["position"]), int(row["flushed"])
