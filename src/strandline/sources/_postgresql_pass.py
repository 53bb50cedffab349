"""One pass over one PostgreSQL table.

A row's xmin is the transaction that wrote this version of it, so versions of transactions that had ended when the pass
began never change: they stay where they are, or go. A pass takes that bound first. A pass over everything reads what is
older heap by heap, with a checkpoint every so many pages; a reading that goes on at a page has missed nothing, unless the
table was rewritten, which is looked for before each checkpoint (``_postgresql_slices``). What is younger has other
addresses, and is read last, in one snapshot, so that a row that moved meanwhile is there. An incremental pass reads each
heap in one statement, and the next one starts at the bound. What no transaction can have written is not looked for.

A heap counts as read only if it was part of the table from the first statement to the last; the next pass reads any other
one whole.

A table with an incremental key is read so once, and from then on by its key. Views have no addresses: they are read in one
statement.
"""

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from strandline.errors import CursorExpiredError, RetryableError, TaskError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Cursor, Message, Notice
from strandline.source import RunContext
from strandline.sources._postgresql_catalog import Leaf, leaves
from strandline.sources._postgresql_heaps import (
    Now,
    check_name,
    heaps,
    identity,
    unknown,
    young,
    young_until,
)
from strandline.sources._postgresql_horizon import xid_holder
from strandline.sources._postgresql_key import Key, Settled
from strandline.sources._postgresql_log import push, wait_for_disk
from strandline.sources._postgresql_plan import Plan
from strandline.sources._postgresql_rows import Rows
from strandline.sources._postgresql_session import Server, Session
from strandline.sources._postgresql_slices import Border, Budget, Place, Slices
from strandline.sources._postgresql_state import Pass, Saved, after

__all__ = ["Reading"]


def _is_idle(now: Now, xid: str | None) -> bool:
    """Whether no transaction from ``xid`` on has ended on the whole server, so that none of their rows can be seen."""
    return str(now.xmax) == xid


class Reading:
    """Reads with one session, in one thread."""

    def __init__(
        self,
        server: Server,
        session: Session,
        plan: Plan,
        context: RunContext,
        payload: Mapping[str, Any],
        budget: Budget,
    ) -> None:
        self._session, self._plan, self._budget = session, plan, budget
        self._name = plan.table.name
        self._key = Key(plan, server, payload) if plan.kind == "key" else None
        self._rows = Rows(session, plan, context, self._key)
        self._leaves: list[Leaf] = []
        """The heaps of the table when this reading began."""
        self._unsafe: int | None = None
        """Up to which position of the log the server's disk must have it before a cursor is saved."""
        self._sweeps = (
            bool(plan.table.primary_key)
            and (plan.settings.deletes or ("sweep" if plan.kind == "xid" and context.mirror else "ignore")) == "sweep"
        )

    def messages(self, cursor: Cursor | None) -> Iterator[Message]:
        """All of ``Source.read``."""
        saved = None if cursor is None else Saved.parsed(cursor, self._name)
        if saved is not None:
            saved = self._checked(saved)
        yield from self._without_key()
        self._leaves = self._found()
        check_name(self._session, self._plan)
        begun = saved.current if saved is not None and saved.kind == "full" else None
        if begun is not None and set(begun.leaves) != {leaf.oid for leaf in self._leaves}:
            raise CursorExpiredError(f"table {self._name!r}: parts of it are others than when the pass began")
        if saved is not None and saved.current is None and self._key is not None:
            yield from self._by_key(saved)
        elif not self._plan.has_heap:
            yield from self._whole_view(saved)
        else:
            if saved is None or saved.current is None:
                saved = yield from self._begun(saved)
                if saved.current is not None and saved.current.whole:
                    yield self._checkpoint(saved)
            yield from self._by_heap(saved)

    def _checked(self, saved: Saved) -> Saved:
        """The cursor, if its numbers are those of this server and this table."""
        if saved.kind != self._plan.kind:
            raise TaskError(
                f"table {self._name!r}: the saved cursor is of a table that was read by another way ({saved.kind})",
                hint="read the table again from nothing: --full-refresh",
            )
        now = identity(self._session)
        if now.identity.is_another(saved.identity):
            raise CursorExpiredError(
                f"table {self._name!r}: the server is another one than at the last sync, or was restored or failed over "
                f"(system {saved.identity.system}, timeline {saved.identity.timeline}, database "
                f"{saved.identity.database}; now {now.identity.system}, {now.identity.timeline}, {now.identity.database})"
            )
        lowest = saved.current.before if saved.current else saved.xmin
        if now.standby and (now.position < saved.position or now.xmax < int(lowest or 0)):
            raise RetryableError(f"table {self._name!r}: the standby is behind what was read before")
        if not now.standby and now.xmin < int(lowest or 0):
            raise CursorExpiredError(
                f"table {self._name!r}: the server has had fewer transactions than at the last sync: it was restored"
            )
        if lowest is not None:
            self._check_distance(now, int(lowest))
        return saved.model_copy(update={"identity": now.identity})

    def _check_distance(self, now: Now, xid: int) -> None:
        """Ids of transactions are compared modulo 2^32."""
        if now.xmax - xid >= 1 << 31:
            raise CursorExpiredError(f"table {self._name!r}: its cursor is more than 2^31 transactions old")

    def _without_key(self) -> Iterator[Message]:
        """Rows whose key is null, where they are not to be read."""
        policy = self._plan.settings.nulls
        if self._key is None or policy == "include" or not self._key.column.nullable:
            return
        sql = f"SELECT count(*) AS n FROM {self._plan.source} WHERE {self._key.sql} IS NULL AND {self._plan.where}"
        count = self._session.row(sql, where=self._name)["n"]
        what = f"{self._name}: {count} row{'s' if count > 1 else ''} without a {self._key.column.name!r}"
        if count and policy == "fail":
            raise TaskError(f"{what} (NULL)", hint="mend the rows, or choose `nulls: include` or `exclude`")
        if count:
            yield Notice(self._name, f"{what} left out, as `nulls: exclude` says")

    # by heap ---------------------------------------------------------------------------------------------------------

    def _begun(self, saved: Saved | None) -> Generator[Message, None, Saved]:
        """The bounds of a new pass."""
        now, found = identity(self._session), self._leaves
        known = set(saved.heaps) if saved else set()
        settled = self._key.settled(self._session, None) if self._key else None
        if settled is not None:
            yield from self._held(settled.holder)
        elif self._plan.kind == "xid" and now.xmin < now.xmax:
            yield from self._held(xid_holder(self._session, now.xmin))
        is_idle = (
            self._plan.kind == "xid"
            and saved is not None
            and _is_idle(now, saved.xmin)
            # of a heap that was never read, every row is new
            and known >= {leaf.oid for leaf in found}
        )
        # a standby may take longer to see that a transaction has ended
        before = str(max(now.xmin, int(saved.xmin or 0)) if saved else now.xmin)
        if saved is None or before != saved.xmin:
            # a height was seen later than the bound
            self._take(identity(self._session) if self._key else now)
        current = Pass(
            before=before,
            heaps=[
                heap.model_copy(
                    update={"since": saved.xmin if saved and (heap.file == 0 or heap.oid in known) else None}
                )
                for heap in (() if is_idle else heaps(self._plan, found, now.version))
            ],
            leaves=[leaf.oid for leaf in found],
            whole=saved is None,
            height=settled.height if settled else None,
            flight=settled.flight if settled else None,
        )
        begun = saved or Saved(kind=self._plan.kind, identity=now.identity)
        return begun.model_copy(update={"position": now.position, "current": current})

    def _by_heap(self, saved: Saved) -> Iterator[Message]:
        current, now = _pass(saved), identity(self._session)
        seen, slices = current.seen, Slices(self._session, self._plan, self._rows, now, self._budget)
        while place := slices.at(_pass(saved)):
            for one in slices.read(place, *self._older(saved, place, now), whole=current.whole):
                if isinstance(one, Border):
                    saved = _reached(saved, one, seen)
                    if one.heap < len(current.heaps) or current.whole:
                        yield self._checkpoint(saved)
                else:
                    message, batch = one
                    seen = self._greatest(batch, seen)
                    yield message
        xmin = current.before
        if current.whole:
            if self._plan.kind == "key":
                saved = self._promoted(saved)
            now = identity(self._session)
            self._check_distance(now, int(current.before))
            xmin = str(now.xmin)
            if xmin != current.before:
                self._take(now)
            if not _is_idle(now, current.before):
                mark = self._mark(saved, xmin, also=unknown(current.leaves))
                for message, batch in self._rows.messages(self._plan.source, young(current.before), mark):
                    seen = self._greatest(batch, seen)
                    yield message
        yield from self._ends(self._ended(saved, xmin, seen))

    def _older(self, saved: Saved, place: Place, now: Now) -> tuple[str, str]:
        """The condition of a slice, and which of its rows may have been delivered before or will be again."""
        current, together = _pass(saved), place.heap.file == 0
        if current.whole:
            # a heap that is attached just now will be read as a new one
            also = unknown(current.leaves) if together else "FALSE"
            return f"NOT ({young(current.before)})", self._mark(saved, None, also=also)
        if place.heap.since is None:
            return "TRUE", "TRUE"
        new = unknown(saved.heaps) if together else "FALSE"
        before = "TRUE" if saved.xmax is None else f"NOT ({young(saved.xmax)})"
        return (
            f"{young_until(place.heap.since, now, place.heap)} OR {new}",
            f"{before} OR {young(current.before)} OR {new}",
        )

    def _mark(self, saved: Saved, xmin: str | None, *, also: str) -> str:
        """Which rows of a pass over everything may be read again."""
        if self._plan.kind == "full":
            return "FALSE"
        again = self._key.known(None, _pass(saved).height) if self._key else "FALSE" if xmin is None else young(xmin)
        return again if also == "FALSE" else f"{again} OR {also}"

    def _promoted(self, saved: Saved) -> Saved:
        """What was in flight when the pass began may have ended: the last statement of the pass will see its rows."""
        current = _pass(saved)
        assert self._key is not None
        if current.flight is None or self._key.held(self._session, current.flight):
            return saved
        return after(saved, height=current.flight.height, flight=None)

    def _ended(self, saved: Saved, xmin: str, seen: str | None) -> Saved | None:
        current = _pass(saved)
        read = {"heaps": [oid for oid in current.leaves if oid not in current.skipped], "current": None}
        if self._plan.kind == "full":
            return None
        if self._key is not None:
            return self._settled(saved, Settled(current.height, current.flight), seen, None, **read)
        return saved.model_copy(update={"xmin": xmin, "shown": f"xid {xmin}", **read})

    def _settled(self, saved: Saved, settled: Settled, seen: str | None, lowest: str | None, **more: Any) -> Saved:
        """After a pass of a table with a key."""
        assert self._key is not None
        update = {
            "height": settled.height,
            "flight": settled.flight,
            "seen": seen,
            "tracked": self._key.tracked(self._session, settled.height, lowest),
            "shown": settled.height or "–",
        }
        return saved.model_copy(update=update | more)

    # by key, and views -----------------------------------------------------------------------------------------------

    def _by_key(self, saved: Saved, *, is_first: bool = False) -> Iterator[Message]:
        key = self._key
        assert key is not None
        settled = key.settled(self._session, saved)
        yield from self._held(settled.holder)
        seen, lowest = saved.seen, key.lowest(saved)
        known = key.known(None if is_first else saved, settled.height)
        found = [leaf.oid for leaf in self._leaves]
        if found:
            known = f"{known} OR {unknown(found)}"  # one that is attached just now is read whole by the next pass
        if self._plan.settle == "wait" and (settled.height, settled.flight) != (saved.height, saved.flight):
            self._take(identity(self._session))  # a sequence, too, hands out again what a crash took back
        # rows without a key come first: one that gets a key meanwhile comes twice, one that loses it comes next time
        conditions = ["TRUE"] if lowest is None else [*key.without(), key.from_(lowest)]
        statements = [(condition, known) for condition in conditions]
        if set(found) - set(saved.heaps):
            # a partition that was attached, or another table of this name: whatever its keys are, no row was read
            new = unknown(saved.heaps)
            statements = [(new, "TRUE"), *((f"{condition} AND NOT ({new})", known) for condition, _ in statements)]
        for condition, mark in statements:
            for message, batch in self._rows.messages(self._plan.source, condition, mark):
                seen = self._greatest(batch, seen)
                yield message
        yield from self._ends(self._settled(saved, settled, seen, lowest, heaps=found))

    def _whole_view(self, saved: Saved | None) -> Iterator[Message]:
        if self._key is not None:
            begun = saved or Saved(kind="key", identity=identity(self._session).identity)
            yield from self._by_key(begun, is_first=saved is None)
            return
        for message, _ in self._rows.messages(self._plan.source, "TRUE", "FALSE"):
            yield message
        yield from self._ends(None)

    def _held(self, holder: str) -> Iterator[Message]:
        if holder:
            yield Notice(
                self._name,
                f"{self._name}: the cursor waits for {holder}; what is newer is delivered, and read again until that ends",
            )

    def _greatest(self, batch: "pa.RecordBatch", seen: str | None) -> str | None:
        return None if self._key is None else self._key.greatest(batch, seen)

    def _ends(self, ended: Saved | None) -> Iterator[Message]:
        if self._sweeps:
            yield from self._rows.present()
        check_name(self._session, self._plan)
        yield Complete(self._name)
        if ended is None:
            yield Checkpoint(None)
            return
        throughout = {(leaf.oid, leaf.attached) for leaf in self._found()}
        read = {leaf.oid for leaf in self._leaves if (leaf.oid, leaf.attached) in throughout}
        now = identity(self._session)
        update: dict[str, Any] = {"heaps": [oid for oid in ended.heaps if oid in read], "position": now.position}
        if ended.kind == "xid":
            update["xmax"] = str(now.xmax)
        yield self._checkpoint(ended.model_copy(update=update))

    # what is common ---------------------------------------------------------------------------------------------------

    def _found(self) -> list[Leaf]:
        return leaves(self._session, self._plan.relation.oid) if self._plan.has_heap else []

    def _take(self, now: Now) -> None:
        """Bounds that ``now`` has shown go into the next cursor."""
        if not now.standby:
            push(self._session, now.position)
            self._unsafe = now.position

    def _checkpoint(self, saved: Saved) -> Checkpoint:
        if self._unsafe is not None:
            wait_for_disk(self._session, self._unsafe)
            self._unsafe = None
        return Checkpoint(saved.json_value())


def _pass(saved: Saved) -> Pass:
    if saved.current is None:
        raise AssertionError("no pass is under way")
    return saved.current


def _reached(saved: Saved, border: Border, seen: str | None) -> Saved:
    gone = [] if border.gone is None else [border.gone]
    saved = after(saved, heap=border.heap, page=border.page, seen=seen, skipped=[*_pass(saved).skipped, *gone])
    return saved.model_copy(update={"position": border.position})
