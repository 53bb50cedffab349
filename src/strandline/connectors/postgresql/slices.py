"""The heaps of a table read from the position of a pass on, and what can be saved on the way.

A slice is a range of pages, and one statement. PostgreSQL reads a heap faster from its start, though, and without pushing
the pages of others out of its cache. So a pass over everything begins a large heap with one scan, which goes on from slice
to slice for half a minute, and reads the rest by ranges. Rows of a scan come in the order of their addresses, which come
along, so that it is known which pages are done. That order is all that makes its checkpoints true: so nothing but a
sequential scan is allowed, it is looked whether the server plans one, and whether the addresses grow. The lock that keeps a
rewrite away is taken before it is looked whether there was one; all is one transaction, with one snapshot.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from strandline.connectors.postgresql.catalog import leaves
from strandline.connectors.postgresql.cursor import Heap, Pass
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.heaps import Now
from strandline.connectors.postgresql.log import FLUSHED, POSITION, Log
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.rows import Rows
from strandline.connectors.postgresql.server import Session
from strandline.connectors.sql.dialect import quote
from strandline.errors import CursorExpiredError, RetryableError
from strandline.lazy import pa, pc
from strandline.message import SourceMessage

__all__ = ["Border", "Budget", "Place", "Slices"]

_IN_ORDER = {
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    "enable_seqscan": "on",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
}
"""Settings: a scan by an index, in several processes, or from where another one is, has another order."""
_LONGEST_S = 300
"""How long a scan may last that comes to no border, or whose destination hangs."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a pass takes at once."""

    pages: int
    """Between two checkpoints."""
    scan_s: float
    """How long one scan may go on from slice to slice: it is left at the first border after that. 0: not at all."""
    statement_s: float
    """How long the server lets a statement last. 0: no limit."""


@dataclass(frozen=True, slots=True)
class Border:
    """Up to here everything was read: what comes next."""

    heap: int
    page: int
    position: int
    """Of the server's log, no earlier than the snapshot of what was read."""
    gone: int | None = None
    """A heap that was dropped or detached, and its rows with it."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is read next, of one heap."""

    heap: Heap
    name: str
    """In SQL; empty where several are read as one."""
    source: str
    range: str
    next_heap: int
    next_page: int
    how: Literal["range", "scan", "gone"] = "range"
    """A scan is of the whole heap, but may take too long."""


class Slices:
    """Of one pass, read with one session."""

    def __init__(self, session: Session, plan: Plan, rows: Rows, now: Now, budget: Budget, log: Log) -> None:
        self._session, self._plan, self._rows, self._budget = session, plan, rows, budget
        self._table, self._log = plan.table.name, log
        # a standby ends a statement that lasts, for what its primary cleans up; few rows may make no border for long
        few = bool(plan.settings.where) or plan.settings.start is not None
        self._scans = budget.scan_s > 0 and not now.standby and not few
        self._names = {
            leaf.oid: f"{quote(leaf.schema)}.{quote(leaf.name)}" for leaf in leaves(session, plan.relation.oid)
        }

    def at(self, current: Pass) -> Place | None:
        """What is at the position of the pass. None: nothing is left.

        Only a pass over everything is cut into pages: an incremental one has few rows, and is right in one statement even
        if the table is rewritten.
        """
        if current.heap == len(current.heaps):
            return None
        heap, start, end = current.heaps[current.heap], current.page, current.page + self._budget.pages
        if heap.file == 0:
            return Place(heap, "", self._plan.source, "TRUE", current.heap + 1, 0)
        if heap.oid not in self._names:
            return Place(heap, "", "", "", current.heap + 1, 0, "gone")
        name = self._names[heap.oid]
        source, is_end = f"ONLY {name} AS t", not current.whole or end >= heap.pages
        if start == 0 and not is_end and self._scans:
            return Place(heap, name, source, f"t.tableoid = {heap.oid}", current.heap + 1, 0, "scan")
        # the last slice has no end: what was appended since is too young for it
        upper = "" if is_end else f" AND t.ctid < '({end},0)'::tid"
        range_ = f"t.ctid >= '({start},0)'::tid{upper}" if start or upper else "TRUE"
        return Place(heap, name, source, range_, current.heap + int(is_end), 0 if is_end else end)

    def read(
        self, place: Place, condition: str, mark: str, *, whole: bool
    ) -> Iterator["tuple[SourceMessage, pa.RecordBatch] | Border"]:
        """The rows of a place that meet the condition, and borders where everything before has come; one at its end.

        Raises:
            RetryableError: its name is another heap's by now, and may have been while it was read.
            CursorExpiredError: its rows may lie elsewhere, and the pass reads page by page; or they came in no order.
        """
        if place.how == "gone":
            yield Border(place.next_heap, 0, self._position(place, whole=whole), gone=place.heap.oid)
            return
        if place.how == "scan":
            longest = f"'{min(_LONGEST_S, self._budget.statement_s or _LONGEST_S):.0f}s'"
            settings = {"statement_timeout": longest, "idle_in_transaction_session_timeout": longest, **_IN_ORDER}
            lock = f"ONLY {place.name} IN ACCESS SHARE"
            with self._session.transaction(
                isolation="REPEATABLE READ", lock=lock, where=self._table, settings=settings
            ):
                position = self._position(place, whole=whole)
                query = self._rows.query(place.source, f"{place.range} AND ({condition})", mark, more=["t.ctid"])
                # nothing can be asked while it goes on
                self._scans = self._log.comes_soon(position) and self._session.plan(query)["Node Type"] == "Seq Scan"
                is_whole = self._scans and (yield from self._scanned(place, query, mark, position))
            if not is_whole:
                return
        else:
            yield from self._rows.messages(place.source, f"{place.range} AND ({condition})", mark)
        yield Border(place.next_heap, place.next_page, self._position(place, whole=whole))

    def _scanned(
        self, place: Place, query: str, mark: str, position: int
    ) -> Generator["tuple[SourceMessage, pa.RecordBatch] | Border", None, bool]:
        """Whether the scan came to the end of the heap."""
        until, page, last = time.monotonic() + self._budget.scan_s, 0, b""
        with closing(self._rows.raw(query)) as batches:
            for raw in batches:
                if not raw.num_rows:
                    continue
                addresses = pc.cast(raw.column(raw.num_columns - 1), pa.binary())
                last = self._in_order(addresses, last)
                done = 0
                while _page(last) >= page + self._budget.pages:
                    rest = addresses.slice(done)
                    before = pc.sum(pc.less(rest, _first(page + self._budget.pages))).as_py()
                    yield from self._rows.told(raw.slice(done, before), mark)
                    done, page = done + before, _page(rest[before].as_py())
                    yield Border(place.next_heap - 1, page, position)
                    if time.monotonic() > until:
                        return False
                yield from self._rows.told(raw.slice(done), mark)
        return True

    def _in_order(self, addresses: "pa.Array", last: bytes) -> bytes:
        """The last one."""
        first = addresses[0].as_py()
        if first <= last or pc.any(pc.greater_equal(addresses[:-1], addresses[1:])).as_py():
            raise CursorExpiredError(
                f"table {self._plan.table.name!r}: PostgreSQL has not read its pages in their order"
            )
        return bytes(addresses[-1].as_py())

    def _position(self, place: Place, *, whole: bool) -> int:
        """The position of the log now, if the place still is what it should be."""
        heap, name = place.heap, f"to_regclass({literal(place.name)})" if place.name else "NULL"
        row = self._session.row(
            f"SELECT coalesce(pg_relation_filenode({heap.oid}), 0)::int8 AS file, "
            f"coalesce({name}::oid, 0)::int8 AS named, {POSITION} AS position, {FLUSHED} AS flushed"
        )
        table = self._plan.table.name
        if place.name and row["named"] != heap.oid:
            raise RetryableError(f"table {table!r}: a partition was renamed or dropped while it was read")
        if place.name and whole and row["file"] != heap.file:
            raise CursorExpiredError(
                f"table {table!r}: it was rewritten (VACUUM FULL, CLUSTER, ALTER TABLE) while it was read"
            )
        self._log.saw(row["position"], row["flushed"])
        return int(row["position"])


def _page(address: bytes) -> int:
    """Of a ctid as it is sent: four bytes of its page, two of its place there."""
    return int.from_bytes(address[:4], "big")


def _first(page: int) -> "pa.Scalar":
    """The first address of a page, and no row's."""
    return pa.scalar(page.to_bytes(4, "big") + b"\0\0", pa.binary())
