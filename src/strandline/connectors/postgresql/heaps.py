"""Where rows lie: the heaps of a table; and which server, at which transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from strandline.connectors.postgresql.catalog import Leaf
from strandline.connectors.postgresql.cursor import Heap, Identity
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.log import FLUSHED, POSITION
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.server import Session
from strandline.connectors.sql.dialect import quote
from strandline.errors import CursorExpiredError, TaskError

__all__ = [
    "Now",
    "check_clear",
    "check_name",
    "clear_until",
    "heaps",
    "identity",
    "unknown",
    "young",
    "young_until",
]

_RANGES_SINCE = 140000
"""Before, a range of ctids was found by reading the whole table."""
_HASHES_SINCE = 140000
"""Before, a list was looked through for each row."""
_LISTED_MAX = 10_000
_PAGES_MIN = 1_024
"""PostgreSQL reads larger heaps in several processes, if it may: a list it may, and ``age`` it may not."""
_CLEAR_MAX = (1 << 31) - (1 << 24)
_CLEAR_MIN = 1 << 30
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
    """No transaction from it on has ended."""
    standby: bool
    position: int
    """Of the log; see ``log``."""
    flushed: int
    """Up to which position the log is on the disk."""
    version: int
    """Of the program, as in 150018."""

    def is_idle_since(self, xid: str | None) -> bool:
        """Whether no transaction from ``xid`` on has ended on the whole server, so that none of their rows can be seen."""
        return str(self.xmax) == xid


def identity(session: Session) -> Now:
    """Taken in one snapshot."""
    row = session.row(
        f"SELECT (SELECT system_identifier FROM pg_control_system())::text AS system, {_TIMELINE} AS timeline, "
        "(SELECT oid FROM pg_database WHERE datname = current_database())::text AS database, "
        "pg_snapshot_xmin(s)::text AS xmin, pg_snapshot_xmax(s)::text AS xmax, pg_is_in_recovery() AS standby, "
        f"current_setting('server_version_num')::int8 AS version, {POSITION} AS position, {FLUSHED} AS flushed FROM (SELECT pg_current_snapshot() AS s) AS now"
    )
    named = Identity(system=row["system"], timeline=row["timeline"], database=row["database"])
    return Now(
        named, int(row["xmin"]), int(row["xmax"]), row["standby"], row["position"], row["flushed"], row["version"]
    )


def heaps(plan: Plan, found: Sequence[Leaf], version: int) -> list[Heap]:
    """What is read one after the other; one for all where the leaves cannot be read apart."""
    if not plan.by_heaps or not all(leaf.readable for leaf in found) or version < _RANGES_SINCE:
        return [Heap(oid=plan.relation.oid, file=0, pages=0)]
    return [Heap(oid=leaf.oid, file=leaf.relfilenode, pages=leaf.pages) for leaf in found]


def check_name(session: Session, plan: Plan) -> None:
    """Statements name the table; what they have read, or would read now, may be another one's.

    Raises:
        TaskError: its name is another table's by now.
    """
    relation = plan.relation
    if not plan.has_heap:
        return
    name = literal(f"{quote(relation.schema)}.{quote(relation.name)}")
    oid = session.row(f"SELECT coalesce(to_regclass({name})::oid, 0)::int8 AS oid")["oid"]
    if oid != relation.oid:
        raise TaskError(f"table {plan.table.name!r}: another table has taken its name meanwhile", hint="sync again")


def young(xid: str) -> str:
    """The condition that a version was written by a transaction from ``xid`` on, within 2^31 transactions."""
    # two steps for most rows, and the age of the bound once
    return f"(age(t.xmin) <= (SELECT age({literal(str(int(xid) % (1 << 32)))}::xid)) AND age(t.xmin) >= 0)"


def young_until(xid: str, now: Now, heap: Heap) -> str:
    """The same, but what began to end after ``now`` may be left out: the next pass, which starts before it, has it."""
    first = int(xid)
    if now.xmax - first > _LISTED_MAX or heap.pages < _PAGES_MIN or now.version < _HASHES_SINCE:
        return young(xid)
    listed = ",".join(str(one % (1 << 32)) for one in range(first, now.xmax))
    return f"t.xmin = ANY ('{{{listed}}}'::xid[])"


def unknown(oids: Sequence[int]) -> str:
    """The condition that a row lies in none of these heaps."""
    return f"t.tableoid <> ALL (ARRAY[{', '.join(map(str, oids))}]::oid[])"


def clear_until(session: Session, plan: Plan, now: Now, saved: str | None) -> str | None:
    """Up to where ids of transactions tell what is new, where rows are older than 2^31 transactions.

    A row that was frozen keeps its id, of 32 bits, for ever. After 2^32 transactions the id is handed out again, and the row
    looks like a new one; until then it looks like one of the future.
    """
    if now.xmax < 1 << 31 or (saved is not None and now.xmax + _CLEAR_MIN < int(saved)):
        return saved
    ahead = session.row(
        f"SELECT min(-age(t.xmin))::int8 AS ids FROM {plan.source} WHERE age(t.xmin) < 0", where=plan.table.name
    )["ids"]
    return str(now.xmax + min(_CLEAR_MAX, ahead if ahead is not None else _CLEAR_MAX))


def check_clear(plan: Plan, now: Now, clear: str | None) -> None:
    """Whether every row that looks new is new.

    Raises:
        CursorExpiredError: it cannot be told.
    """
    if clear is not None and now.xmax > int(clear):
        raise CursorExpiredError(
            f"table {plan.table.name!r}: the server hands out transaction ids again that rows of long ago have, so which rows are "
            "new cannot be told",
            hint="name an `incremental_key`; or read the table again from nothing: --full-refresh",
        )
