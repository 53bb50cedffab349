"""Tables in which nothing has happened, known without a reading of each: by the server's transactions, or by one look at many.

Of a table that was read by xid and whose keys were then all compared, two things prove that its rows are the same:

- No transaction that was not over when its last pass began has ended since, anywhere on the server.
- None of its rows was written by such a transaction, and it has as many as the comparison had. So each of them was there
  then, and none of those is gone. It does not matter who wrote, in which order, or what has not been committed yet.

Whatever else a pass would look at is looked at here, too: whether it is the same server and history, and what the rows depend on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from strandline.connectors.postgresql.catalog import Tree, trees
from strandline.connectors.postgresql.cursor import Saved
from strandline.connectors.postgresql.depends import facts, facts_of_many
from strandline.connectors.postgresql.heaps import Now, identity, unknown, young
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.server import Session

__all__ = ["COUNTED", "IDLE", "UNWRITTEN", "Known", "is_as_counted", "unchanged"]

IDLE = "no transaction has ended on the server since the last sync"
COUNTED = "no row was written since the last sync, and there are as many as it has compared"
UNWRITTEN = "no row was written since the last sync"

_DISTANCE_MAX = 1 << 30
"""Transactions after which a table is read, so that its cursor moves on: ids are compared modulo 2^32."""
_PAGES_MAX = 1_024
"""Of a larger table a scan is not little. It is read by itself."""
_PAGES_AT_ONCE, _TABLES_AT_ONCE = 8 * _PAGES_MAX, 200
"""Each table is locked as long as the statement lasts, and a server has room for some thousand locks."""


@dataclass(frozen=True, slots=True)
class Known:
    """A table, and what its cursor says of it."""

    plan: Plan
    saved: Saved
    sweeps: bool
    """Whether rows that are gone are to be found."""

    @property
    def is_asked(self) -> bool:
        """Whether a look could tell."""
        saved, plan = self.saved, self.plan
        can_tell = plan.kind == "xid" and plan.tells and plan.is_whole
        return can_tell and saved.kind == "xid" and saved.xmin is not None and (saved.swept or not self.sweeps)


def unchanged(session: Session, asked: Sequence[Known]) -> dict[str, str]:
    """The tables that are as their cursors say, by name, each with the evidence. Others may be so, too.

    Raises:
        StrandlineError: as any statement.
    """
    asked = [one for one in asked if one.is_asked and one.saved.current is None]
    found = trees(session, [one.plan.relation.oid for one in asked]) if asked else {}
    asked = [one for one in asked if one.plan.relation.oid in found]
    simple = facts_of_many(session, [one.plan for one in asked])
    # after the look into the catalogue: if the server is idle now, it was so then
    now, evidence, left = identity(session), dict[str, str](), list[tuple[Known, Tree]]()
    for one in asked:
        oid, tree = one.plan.relation.oid, found[one.plan.relation.oid]
        if not _is_same_history(now, one.saved) or not _depends_on_the_same(session, one, simple.get(oid)):
            continue
        if now.is_idle_since(one.saved.xmin) and tree.logged and tree.leaves <= set(one.saved.heaps):
            evidence[one.plan.table.name] = IDLE
        elif tree.pages <= _PAGES_MAX and (one.saved.rows is not None or not one.sweeps):
            left.append((one, tree))
    for some in _at_once(left):
        for one, rows, new in _looked_at(session, some):
            if new == 0 and (not one.sweeps or rows == one.saved.rows):
                evidence[one.plan.table.name] = COUNTED if one.sweeps else UNWRITTEN
    return evidence


def is_as_counted(session: Session, one: Known) -> bool:
    """Whether a table has the keys that the last pass has compared, by a look at it alone."""
    if not one.is_asked or one.saved.rows is None:
        return False
    row = session.row(_counts(one), where=one.plan.table.name)
    return (row["rows"], row["new"]) == (one.saved.rows, 0)


def _counts(one: Known) -> str:
    """A query for the rows of a table now, and for those of them that a pass from its cursor may not have seen."""
    new = f"{young(str(one.saved.xmin))} OR {unknown(one.saved.heaps)}"
    return f"SELECT count(*) AS rows, count(*) FILTER (WHERE {new}) AS new FROM {one.plan.source}"


def _is_same_history(now: Now, saved: Saved) -> bool:
    """Whether the numbers of a cursor mean here what they meant; what else there is to say, a pass says."""
    lowest = int(saved.xmin or 0)
    is_behind = now.position < saved.position or now.xmax < lowest if now.standby else now.xmin < lowest
    return not (now.identity.is_another(saved.identity) or is_behind or now.xmax - lowest >= _DISTANCE_MAX)


def _depends_on_the_same(session: Session, one: Known, simple: Mapping[str, str] | None) -> bool:
    """Also columns that the cursor does not know of yet are for a pass to note."""
    known = facts(session, one.plan) if simple is None else simple
    return one.saved.depends is not None and known.items() <= one.saved.depends.items()


def _at_once(left: Iterable[tuple[Known, Tree]]) -> Iterator[list[Known]]:
    """What one statement looks at."""
    some, pages = list[Known](), 0
    for one, tree in left:
        if len(some) >= _TABLES_AT_ONCE or (some and pages + tree.pages > _PAGES_AT_ONCE):
            yield some
            some, pages = [], 0
        some.append(one)
        pages += tree.pages
    if some:
        yield some


def _looked_at(session: Session, some: Sequence[Known]) -> Iterator[tuple[Known, int, int]]:
    """Each with its rows, and how many of them may be new. Its name may be another table's by now, whose rows are all new."""
    each = (f"SELECT {at} AS at, * FROM ({_counts(one)}) AS t{at}" for at, one in enumerate(some))
    for row in session.rows(" UNION ALL ".join(each), where=f"{len(some)} tables"):
        yield some[row["at"]], row["rows"], row["new"]
