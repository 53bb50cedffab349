"""Where rows lie: the heaps of a table, cut into ranges of pages; and which server, at which transaction."""

from collections.abc import Iterator
from dataclasses import dataclass

from strandline.sources._postgresql_catalog import leaves, quote
from strandline.sources._postgresql_plan import Plan
from strandline.sources._postgresql_session import Session
from strandline.sources._postgresql_state import Heap, Identity, Pass

__all__ = ["Now", "Place", "heaps", "identity", "places"]

_RANGES_SINCE = 140000
"""Before, a range of ctids was found by reading the whole table."""
_TIMELINE = (
    "CASE WHEN pg_is_in_recovery() THEN greatest((SELECT timeline_id FROM pg_control_checkpoint()), "
    "(SELECT min_recovery_end_timeline FROM pg_control_recovery())) "
    "ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END"
)
"""The last checkpoint may be of the time before a promotion, so a primary is asked where it writes."""


@dataclass(frozen=True, slots=True)
class Now:
    """The server at a moment."""

    identity: Identity
    xmin: int
    """Every transaction below it has ended."""
    xmax: int
    """No transaction from it on has begun to write."""
    standby: bool


def identity(session: Session) -> Now:
    """Taken in one snapshot."""
    row = session.row(
        f"SELECT (SELECT system_identifier FROM pg_control_system())::text AS system, {_TIMELINE} AS timeline, "
        "pg_snapshot_xmin(s)::text AS xmin, pg_snapshot_xmax(s)::text AS xmax, pg_is_in_recovery() AS standby "
        "FROM (SELECT pg_current_snapshot() AS s) AS now"
    )
    named = Identity(system=row["system"], timeline=row["timeline"])
    return Now(named, int(row["xmin"]), int(row["xmax"]), row["standby"])


def heaps(session: Session, plan: Plan) -> list[Heap]:
    """What stores the rows now; one for all where they cannot be read apart."""
    found = leaves(session, plan.relation.oid)
    if not plan.by_heaps or not all(leaf.readable for leaf in found) or not _has_ranges(session):
        return [Heap(oid=plan.relation.oid, file=0, pages=0)]
    return [Heap(oid=leaf.oid, file=leaf.relfilenode, pages=leaf.pages) for leaf in found]


def _has_ranges(session: Session) -> bool:
    return int(session.row("SELECT current_setting('server_version_num') AS v")["v"]) >= _RANGES_SINCE


@dataclass(frozen=True, slots=True)
class Place:
    """A slice: some pages of one heap."""

    heap: Heap
    source: str
    range: str
    next_heap: int
    next_page: int
    is_last: bool


def places(session: Session, plan: Plan, current: Pass, pages: int) -> Iterator[Place]:
    """The slices from the position of a pass on. A heap that is gone by now is left out, as its rows are."""
    names = {
        leaf.oid: f"ONLY {quote(leaf.schema)}.{quote(leaf.name)} AS t" for leaf in leaves(session, plan.relation.oid)
    }
    for at in range(current.heap, len(current.heaps)):
        heap, is_last_heap = current.heaps[at], at == len(current.heaps) - 1
        whole = heap.file == 0
        if not whole and heap.oid not in names:
            # a place without rows, so that the pass moves on
            yield Place(heap, plan.source, "FALSE", at + 1, 0, is_last_heap)
            continue
        start = current.page if at == current.heap else 0
        while True:
            end = start + pages
            is_end = whole or end >= heap.pages
            # the last slice has no end: what was appended since is too young for it, or is read at once
            upper = "" if is_end else f" AND t.ctid < '({end},0)'::tid"
            yield Place(
                heap,
                plan.source if whole else names[heap.oid],
                "TRUE" if whole else f"t.ctid >= '({start},0)'::tid{upper}",
                at + 1 if is_end else at,
                0 if is_end else end,
                is_end and is_last_heap,
            )
            if is_end:
                break
            start = end
