"""Rows that bear witness: whether an SQLite file still has what was read of it.

Beside the position, a cursor keeps a few of the rows that were delivered: the newest by the incremental key, since these are
the first to be missing in a backup, and some from everywhere. Each with its key, its height and a hash of its values. When the
table is read again, they are looked up. A row may have been deleted, or changed, which gives it a greater height. It cannot
have got a smaller one, unless somebody sets stamps back; nor other values with the same height, where the key is the time of the
last change.
"""

import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sqlite.bound import filtered
from strandline.connectors.sqlite.cursor import Seen, Witness, decoded, encoded
from strandline.connectors.sqlite.high_water import Condition, Height, Key
from strandline.connectors.sqlite.plan import Plan
from strandline.connectors.sqlite.slices import Slicer
from strandline.lazy import pa
from strandline.reading import Reading

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["Found", "by_primary_key", "columns_of", "is_quick", "looked_at", "noted"]

_NEWEST, _SPREAD = 8, 8
"""How many witnesses there are of either kind."""
_HASH_BYTES = 6


@dataclass(frozen=True, slots=True)
class Found:
    """What has become of one witness."""

    witness: Witness
    rows: Sequence[Witness]
    """Those that have its key now; mostly one, or none."""
    is_by_primary_key: bool
    """Otherwise another row may have the same incremental key, after this one was deleted."""

    def is_as_it_was(self) -> bool:
        """Whether a row of this height has these values. Values of other columns are not compared."""
        return any(row.height == self.witness.height and self._same(row) for row in self.rows)

    def is_later(self) -> bool:
        """Whether it was changed since, as its height tells."""
        return any(height > decoded(self.witness.height) for height in self._heights())

    def is_out_of_reach(self, bound: Height) -> bool:
        """Whether it has another height now, below what will be read: whoever changed it, the change would never be read."""
        before, heights = decoded(self.witness.height), self._heights()
        return len(heights) == len(self.rows) > 0 and all(height != before and height < bound for height in heights)

    def is_other(self, bound: Height) -> bool:
        """Whether it has other values now, though its height is the same, and lies below what will be read."""
        if not self.is_by_primary_key or self.is_as_it_was() or decoded(self.witness.height) >= bound:
            return False
        return any(row.height == self.witness.height for row in self.rows)

    def _heights(self) -> list[Any]:
        """A row without one is read at every sync."""
        return [decoded(row.height) for row in self.rows if row.height is not None]

    def _same(self, row: Witness) -> bool:
        return self.witness.content in {"", row.content}


def by_primary_key(plan: Plan) -> bool:
    """Whether rows can be looked up by the primary key, because Arrow has its values as SQLite stores them."""
    types = [plan.table.schema.field(name).type for name in plan.table.primary_key]
    return (
        bool(types)
        and not set(plan.table.primary_key) & set(plan.settings.types)
        and all(pa.types.is_integer(one) or pa.types.is_string(one) or pa.types.is_binary(one) for one in types)
    )


def is_quick(plan: Plan) -> bool:
    """Whether an index finds them, so that they can be looked up at every sync."""
    return by_primary_key(plan) and not plan.entry.is_view and plan.table.primary_key == plan.entry.primary_key


def columns_of(plan: Plan) -> str:
    """For ``Seen.columns``."""
    return _hash([f"{field.name} {field.type}" for field in plan.table.schema])


def noted(
    seen: Seen, plan: Plan, batch: "pa.RecordBatch", keys: Sequence[Any], heights: Sequence[Any], top: Any
) -> Seen:
    """Take some rows of a batch among the witnesses. What is higher than ``top`` will be read again, and is none."""
    usable = [] if top is None else [at for at, height in enumerate(heights) if height is not None and height <= top]
    if not usable:
        return seen
    chosen = {usable[0], usable[len(usable) // 2], *heapq.nlargest(_NEWEST, reversed(usable), key=heights.__getitem__)}
    columns = columns_of(plan)
    known = seen.rows if columns == seen.columns else [one.model_copy(update={"content": ""}) for one in seen.rows]
    rows = {_name(one): one for one in known}
    some = sorted(chosen)
    for one in _witnesses(plan, batch.take(pa.array(some)), [keys[at] for at in some], [heights[at] for at in some]):
        rows[_name(one)] = one
    spread = heapq.nsmallest(_SPREAD, rows, key=lambda name: _hash([name]))
    kept = {_name(one) for one in _newest(list(rows.values()))} | set(spread)
    return Seen(columns=columns, rows=[one for name, one in rows.items() if name in kept])


def looked_at(connection: "Connection", plan: Plan, key: Key, seen: Seen, reading: Reading) -> list[Found]:
    """What has become of the witnesses; within the caller's transaction."""
    if not seen.rows:
        return []
    slicer = Slicer(connection, plan, reading, plan.table.schema.names)
    where, values = filtered(plan)
    condition, more = _any_of(plan, [one.key for one in seen.rows])
    sql = f"SELECT {', '.join(slicer.select)} FROM {plan.relation} WHERE {where} AND ({condition})"
    piece = slicer.read([(sql, [*values, *more])])
    rows: dict[str, list[Witness]] = {}
    if piece.batch is not None:
        for one in _witnesses(plan, piece.batch, piece.keys, key.heights(piece.keys)):
            rows.setdefault(_name(one), []).append(one)
    columns = columns_of(plan)
    compared = seen.rows if columns == seen.columns else [one.model_copy(update={"content": ""}) for one in seen.rows]
    by_primary = by_primary_key(plan)
    return [Found(one, rows.get(_name(one), []), by_primary) for one in compared]


def _any_of(plan: Plan, keys: Sequence[Sequence[Any]]) -> Condition:
    columns = plan.table.primary_key if by_primary_key(plan) else plan.table.incremental_key
    one = " AND ".join(f"t.{quote(name)} = ?" for name in columns)
    return " OR ".join(f"({one})" for _ in keys), [decoded(value) for key in keys for value in key]


def _witnesses(plan: Plan, batch: "pa.RecordBatch", keys: Sequence[Any], heights: Sequence[Any]) -> Iterator[Witness]:
    named = plan.table.primary_key if by_primary_key(plan) else ()
    for row, key, height in zip(batch.to_pylist(), keys, heights, strict=True):
        own = [row[name] for name in named] or [key]
        yield Witness(key=[encoded(value) for value in own], height=encoded(height), content=_content(row))


def _newest(rows: Sequence[Witness]) -> list[Witness]:
    return heapq.nlargest(_NEWEST, rows, key=lambda one: decoded(one.height))


def _name(one: Witness) -> str:
    return repr(one.key)


def _content(row: Mapping[str, Any]) -> str:
    return _hash([repr(value) for value in row.values()])


def _hash(parts: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
