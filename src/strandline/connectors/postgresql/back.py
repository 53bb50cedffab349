"""Keys that went back: a table that was emptied and filled again, with a sequence that begins anew or was set back.

Rows that were written since lie below the cursor then. What gives them away is looked for before each pass by key: a heap in
another file (TRUNCATE; VACUUM FULL, too), and where keys are ids, which are never changed, a row at the height of the cursor that is gone or was written
since, or a sequence that is behind. Then the rows of transactions since the last pass are read, whatever their keys: a scan
of the table, and nothing that was read before. Where rows do not tell who wrote them, only a greatest key below the cursor shows.

A transaction has its id before it ends, and so before others that have an older look. So a pass notes before it reads a row
which transactions have ended: the later ones it has not seen, and of those that end while it reads it marks the rows. A part
of a transaction (a savepoint) has an id of its own, which is in no snapshot: each id is looked up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strandline.connectors.postgresql.catalog import Leaf
from strandline.connectors.postgresql.cursor import Saved
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.heaps import young
from strandline.connectors.postgresql.plan import Plan, typed
from strandline.connectors.postgresql.types_read import TIMES
from strandline.connectors.sql.dialect import quote
from strandline.errors import CursorExpiredError

__all__ = ["Back", "Ended", "ended", "look_back", "sequence_at", "written_since"]

_LOOKED_MAX = 1 << 20
"""Ids of transactions that are looked up in one pass: those since the last one."""
_FLYING_MAX = 10_000

_SEQUENCE = (
    # one after the other: what is no sequence has no last value
    "(SELECT max(CASE WHEN s.relkind <> 'S' THEN NULL WHEN has_sequence_privilege(s.oid, 'SELECT, USAGE') "
    "THEN pg_sequence_last_value(s.oid) END) FROM pg_depend AS d JOIN pg_class AS s ON s.oid = d.objid "
    "JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid WHERE d.classid = 'pg_class'::regclass "
    "AND d.refclassid = 'pg_class'::regclass AND d.refobjid = {oid} AND a.attname = {key})"
)


@dataclass(frozen=True, slots=True)
class Back:
    """What a pass by key found when it began."""

    sequence: int | None
    """The last value of the key's sequence, where it has one that the role may see."""
    suspects: bool
    """Whether rows below the cursor may have been written since."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Which transactions had ended at a moment: those before ``xmax``, but ``flying``."""

    xmax: str
    flying: list[str] | None
    """None: not known."""

    @property
    def unseen(self) -> str:
        """The condition that a version was written by one that had not."""
        if not self.flying:
            return young(self.xmax)
        listed = ",".join(str(int(one) % (1 << 32)) for one in self.flying)
        return f"({young(self.xmax)} OR t.xmin = ANY ('{{{listed}}}'::xid[]))"


def ended(session: Any, saved: Saved) -> Ended:
    """As it is now; a later snapshot shows all of them."""
    known = [] if saved.xmax is None or saved.flying is None else [int(one) for one in saved.flying]
    # what is older is in the list already
    last = 0 if saved.xmax is None or saved.flying is None else int(saved.xmax)
    row = session.row(
        f"SELECT xmax::text AS xmax, CASE WHEN xmax - first <= {_LOOKED_MAX} THEN (SELECT coalesce(string_agg(id::text, ','), '') "
        f"FROM (SELECT unnest(ARRAY{known}::int8[]) UNION ALL SELECT generate_series(first, xmax - 1)) AS of(id) "
        "WHERE CASE WHEN id < xmax THEN pg_xact_status(id::text::xid8) = 'in progress' END) END AS flying FROM "
        f"(SELECT pg_snapshot_xmax(s)::text::int8 AS xmax, greatest(pg_snapshot_xmin(s)::text::int8, {last}) AS first "
        "FROM (SELECT pg_current_snapshot() AS s) AS taken) AS now"
    )
    flying = None if row["flying"] is None else [one for one in row["flying"].split(",") if one]
    return Ended(row["xmax"], None if flying is None or len(flying) > _FLYING_MAX else flying)


def look_back(session: Any, plan: Plan, saved: Saved, leaves: Sequence[Leaf], *, absorbs: bool) -> Back:
    """Whether keys went back since the pass that ``saved`` tells of.

    Raises:
        CursorExpiredError: they did, and which rows are new cannot be told.
    """
    key = plan.key
    assert key is not None
    sql, where = f"t.{quote(key.name)}", plan.table.name
    is_id, height = key.type_oid not in TIMES, saved.height
    at = "NULL" if height is None else typed(height, key)
    if not plan.tells:
        if is_id and height is not None and absorbs:
            found = session.row(
                f"SELECT coalesce((SELECT {sql} FROM {plan.source} WHERE {sql} IS NOT NULL AND {plan.where} ORDER BY {sql} DESC LIMIT 1) "
                f">= {at}, false) AS reached",
                where=where,
            )
            if not found["reached"]:
                raise CursorExpiredError(f"table {where!r}: its keys went back: all are below the cursor ({height})")
        return Back(None, suspects=False)
    old = "true"
    if is_id and height is not None and saved.xmax is not None:
        old = f"(SELECT bool_or(NOT {Ended(saved.xmax, saved.flying).unseen}) FROM {plan.source} WHERE {sql} = {at} AND {plan.where})"
    found = session.row(f"SELECT {_sequence(plan)} AS sequence, coalesce({old}, false) AS old", where=where)
    moved = any(leaf.oid in saved.heaps and leaf.relfilenode not in saved.files for leaf in leaves)
    behind = found["sequence"] is not None and saved.sequence is not None and found["sequence"] < saved.sequence
    return Back(found["sequence"], suspects=saved.since is not None and (moved or behind or not found["old"]))


def written_since(session: Any, plan: Plan, saved: Saved, lowest: str, *, absorbs: bool) -> str:
    """The condition that a row below ``lowest`` was written since the last pass.

    Raises:
        CursorExpiredError: it may have been delivered, and must not be twice.
    """
    assert plan.key is not None
    assert saved.since is not None
    assert saved.xmax is not None
    below = f"t.{quote(plan.key.name)} < {lowest}"
    if absorbs:
        return f"{young(saved.since)} AND {below}"
    if saved.flying is None and saved.since != saved.xmax:
        doubtful = f"{young(saved.since)} AND NOT {young(saved.xmax)} AND {below} AND {plan.where}"
        found = session.row(
            f"SELECT EXISTS (SELECT FROM {plan.source} WHERE {doubtful}) AS doubtful", where=plan.table.name
        )
        if found["doubtful"]:
            raise CursorExpiredError(
                f"table {plan.table.name!r}: its keys may have gone back while too many transactions were open, so which "
                "rows are new cannot be told"
            )
    return f"{Ended(saved.xmax, saved.flying).unseen} AND {below}"


def sequence_at(session: Any, plan: Plan) -> int | None:
    """How far the key's sequence is."""
    found: int | None = session.row(f"SELECT {_sequence(plan)} AS sequence")["sequence"]
    return found


def _sequence(plan: Plan) -> str:
    key = plan.key
    assert key is not None
    is_id = key.type_oid not in TIMES and plan.tells
    return (_SEQUENCE.format(oid=plan.relation.oid, key=literal(key.name)) if is_id else "NULL") + "::int8"
