"""One pass over one PostgreSQL table.

A row's xmin is the transaction that wrote this version of it, so versions of transactions that had ended when the pass
began never change: they stay where they are, or go. A pass takes that bound first. A pass over everything reads what is
older heap by heap, with a checkpoint every so many pages; a reading that goes on at a page has missed nothing, unless the
table was rewritten, which is looked for before each checkpoint (``slices``). What is younger has other
addresses, and is read last, in one snapshot, so that a row that moved meanwhile is there. An incremental pass reads each
heap in one statement, and the next one starts at the bound. What no transaction can have written is not looked for.

A heap counts as read only if it was part of the table from the first statement to the last; the next pass reads any other
one whole.

A table with an incremental key is read so once, and from then on by its key. A view is read in one statement.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

from strandline.connectors.postgresql.back import Ended, ended, look_back, sequence_at, written_since
from strandline.connectors.postgresql.catalog import Leaf, leaves
from strandline.connectors.postgresql.cursor import Pass, Saved, after, under_way
from strandline.connectors.postgresql.depends import depended
from strandline.connectors.postgresql.heaps import (
    Now,
    check_clear,
    check_name,
    clear_until,
    heaps,
    identity,
    unknown,
    young,
    young_until,
)
from strandline.connectors.postgresql.horizon import xid_holder
from strandline.connectors.postgresql.key import Key, Settled
from strandline.connectors.postgresql.log import Log
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.rows import Rows
from strandline.connectors.postgresql.server import Server, Session
from strandline.connectors.postgresql.slices import Border, Budget, Order, Place, Slices
from strandline.connectors.postgresql.unchanged import Known, is_as_counted
from strandline.connectors.postgresql.unique import repeated_keys
from strandline.errors import CursorExpiredError, RetryableError, TaskError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Cursor, Notice, SourceMessage
from strandline.reading import Reading
from strandline.warned import Code

__all__ = ["TableRead"]


class TableRead:
    """Reads with one session, in one thread."""

    def __init__(
        self,
        server: Server,
        session: Session,
        plan: Plan,
        reading: Reading,
        payload: Mapping[str, Any],
        budget: Budget,
    ) -> None:
        self._server, self._session, self._plan = server, session, plan
        self._budget, self._name = budget, plan.table.name
        self._key = Key(plan, server, payload) if plan.kind == "key" else None
        self._rows = Rows(session, plan, reading, self._key)
        self._absorbs = reading.absorbs
        self._leaves: list[Leaf] = []
        """The heaps of the table when this reading began."""
        self._ended_before: Ended | None = None
        """By key: which transactions had ended before its rows were read."""
        self._depends, self._log, self._swept = dict[str, str](), Log(session), False
        self._sweeps = bool(plan.table.primary_key) and plan.sweeps(mirror=reading.mirror)
        self._spares = self._sweeps and plan.is_whole and not reading.lacks
        """Whether a sweep is left out where every key is as the last pass has compared it: what chooses rows looks at nothing else."""

    def messages(self, cursor: Cursor | None) -> Iterator[SourceMessage]:
        """All of ``Source.read``."""
        saved = None if cursor is None else Saved.parsed(cursor, self._name)
        if saved is not None:
            saved = self._checked(saved)
            self._rows.versioned &= not saved.plain
            if self._plan.has_heap and not (self._plan.tells or saved.plain or self._absorbs):
                raise CursorExpiredError(
                    f"table {self._name!r}: the role may not read any more which transaction wrote a row, as it did before"
                )
        # before any row: what is changed while they are read, the next reading finds
        self._depends = depended(self._session, self._plan, saved.depends if saved is not None else None)
        if cursor is None and self._absorbs:
            yield from repeated_keys(self._session, self._plan)
        if self._key is not None:
            self._key.check(self._session, saved)
        yield from self._without_key()
        self._note(saved, first=True)
        self._leaves = self._found()
        check_name(self._session, self._plan)
        begun = saved.current if saved is not None and saved.kind == "full" else None
        if begun is not None and set(begun.leaves) != {leaf.oid for leaf in self._leaves}:
            raise CursorExpiredError(f"table {self._name!r}: parts of it are others than when the pass began")
        if saved is not None and saved.current is None and self._key is not None:
            yield from self._by_key(saved)
        elif not self._plan.tells:
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

    def _without_key(self) -> Iterator[SourceMessage]:
        """Rows whose key is null, where they are not to be read."""
        policy = self._plan.settings.nulls
        if self._key is None or policy == "include" or not self._key.column.nullable:
            return
        sql = f"SELECT count(*) AS n FROM {self._plan.source} WHERE {self._key.sql} IS NULL AND {self._plan.where}"
        count = self._session.row(sql, where=self._name)["n"]
        what = f"{self._name}: {count} row{'s' if count > 1 else ''} without a {self._key.column.name!r}"
        if count and policy == "fail":
            raise TaskError(f"{what} (NULL)", hint="fix the rows, or choose `nulls: include` or `exclude`")
        if count:
            yield Notice(self._name, f"{what} left out, as `nulls: exclude` says", Code.NULL_KEYS)

    # by heap ---------------------------------------------------------------------------------------------------------

    def _begun(self, saved: Saved | None) -> Generator[SourceMessage, None, Saved]:
        """The bounds of a new pass."""
        now, found = identity(self._session), self._leaves
        if saved is not None and not self._absorbs:
            check_clear(self._plan, now, saved.clear)
        known = set(saved.heaps) if saved else set()
        settled = self._key.settled(self._session, None) if self._key else None
        if settled is not None:
            yield from self._held(settled.holder)
        elif self._plan.kind == "xid" and now.xmin < now.xmax:
            yield from self._held(xid_holder(self._session, now.xmin))
        is_idle = (
            self._plan.kind == "xid"
            and saved is not None
            and now.is_idle_since(saved.xmin)
            # of a heap that was never read, every row is new
            and known >= {leaf.oid for leaf in found}
            and all(leaf.logged for leaf in found)
        )
        self._swept = is_idle and saved is not None and saved.swept and self._spares
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

    def _by_heap(self, saved: Saved) -> Iterator[SourceMessage]:
        current, now = under_way(saved), identity(self._session)
        seen, rows, slices = current.seen, 0, Slices(self._server, self._session, self._plan, self._rows, self._budget)
        places, begun = slices.places(current), saved
        orders = (Order(one, *self._older(begun, one, now), whole=current.whole) for one in places)
        with closing(slices.read(orders, current, now)) as items:
            for one in items:
                if isinstance(one, Border):
                    self._log.saw(one.position, one.flushed)
                    saved = one.reached(saved, seen)
                    if one.heap < len(current.heaps) or current.whole:
                        yield self._checkpoint(saved)
                else:
                    message, batch = one
                    seen, rows = self._greatest(batch, seen), rows + batch.num_rows
                    yield message
        xmin = current.before
        if not current.whole and self._spares and not (self._swept or rows):
            self._swept = is_as_counted(self._session, Known(self._plan, saved, self._sweeps))
        if current.whole:
            if self._plan.kind == "key":
                saved = self._promoted(saved)
            now = identity(self._session)
            self._check_distance(now, int(current.before))
            xmin = str(now.xmin)
            if xmin != current.before:
                self._take(now)
            self._note(saved)
            also = f"{unknown(current.leaves)}{self._or_unseen()}"
            if not now.is_idle_since(current.before):
                mark = self._mark(saved, xmin, also=also)
                for message, batch in self._rows.messages(self._plan.source, young(current.before), mark):
                    seen = self._greatest(batch, seen)
                    yield message
        yield from self._ends(self._ended(saved, xmin, seen))

    def _older(self, saved: Saved, place: Place, now: Now) -> tuple[str, str]:
        """The condition of a slice, and which of its rows may have been delivered before or will be again."""
        current, together = under_way(saved), place.heap.file == 0
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
        again = (
            self._key.known(None, under_way(saved).height) if self._key else "FALSE" if xmin is None else young(xmin)
        )
        return again if also == "FALSE" else f"{again} OR {also}"

    def _note(self, saved: Saved | None, *, first: bool = False) -> None:
        """By key: which transactions have ended; ``first`` of all, so that the next pass finds the rows of later ones."""
        if saved is not None and self._key is not None and self._plan.tells and not (first and saved.current):
            self._ended_before = ended(self._session, saved)

    def _or_unseen(self) -> str:
        """What ends after that, and is read all the same, is marked; the next pass may read it again."""
        return "" if self._ended_before is None or self._absorbs else f" OR {self._ended_before.unseen}"

    def _promoted(self, saved: Saved) -> Saved:
        """What was in flight when the pass began may have ended: the last statement of the pass will see its rows."""
        current = under_way(saved)
        assert self._key is not None
        if current.flight is None or self._key.held(self._session, current.flight):
            return saved
        return after(saved, height=current.flight.height, flight=None)

    def _ended(self, saved: Saved, xmin: str, seen: str | None) -> Saved | None:
        current = under_way(saved)
        read: dict[str, Any] = {"heaps": [oid for oid in current.leaves if oid not in current.skipped], "current": None}
        if self._plan.kind == "full":
            return None
        if self._key is not None:
            return self._settled(
                saved, Settled(current.height, current.flight), seen, None, since=current.before, **read
            )
        read["swept"] = self._sweeps and not current.whole
        read["rows"] = saved.rows if self._swept else None
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

    def _by_key(self, saved: Saved, *, is_first: bool = False) -> Iterator[SourceMessage]:
        key = self._key
        assert key is not None
        now = identity(self._session)
        back = look_back(self._session, self._plan, saved, self._leaves, absorbs=self._absorbs)
        settled = key.settled(self._session, saved)
        yield from self._held(settled.holder)
        seen, lowest = saved.seen, key.lowest(saved)
        known = f"{key.known(None if is_first else saved, settled.height)}{self._or_unseen()}"
        found = [leaf.oid for leaf in self._leaves]
        if found and self._plan.tells:
            known = f"{known} OR {unknown(found)}"  # one that is attached just now is read whole by the next pass
        if self._plan.settle == "wait" and (settled.height, settled.flight) != (saved.height, saved.flight):
            self._take(identity(self._session))  # a sequence, too, hands out again what a crash took back
        # rows without a key come first: one that gets a key meanwhile comes twice, one that loses it comes next time
        conditions = ["TRUE"] if lowest is None else [*key.without(), key.from_(lowest)]
        statements = [(condition, known) for condition in conditions]
        if set(found) - set(saved.heaps) and not is_first:
            if not self._plan.tells:
                raise CursorExpiredError(
                    f"table {self._name!r}: a partition was attached, or it is another table, and the role may not read "
                    "which rows are new"
                )
            # a partition that was attached, or another table of this name: whatever its keys are, no row was read
            new = unknown(saved.heaps)
            statements = [(new, "TRUE"), *((f"{condition} AND NOT ({new})", known) for condition, _ in statements)]
        if back.suspects and lowest is not None:
            self._check_distance(now, int(saved.since or 0))
            new = written_since(self._session, self._plan, saved, lowest, absorbs=self._absorbs)
            statements.append((f"{new} AND NOT ({unknown(saved.heaps)})", "TRUE"))
        for condition, mark in statements:
            for message, batch in self._rows.messages(self._plan.source, condition, mark):
                seen = self._greatest(batch, seen)
                yield message
        more = {"heaps": found, "since": str(now.xmin), "sequence": back.sequence}
        yield from self._ends(self._settled(saved, settled, seen, lowest, **more))

    def _whole_view(self, saved: Saved | None) -> Iterator[SourceMessage]:
        if self._key is not None:
            begun = saved or Saved(kind="key", identity=identity(self._session).identity, plain=self._plan.has_heap)
            yield from self._by_key(begun.model_copy(update={"current": None}), is_first=saved is None)
            return
        for message, _ in self._rows.messages(self._plan.source, "TRUE", "FALSE"):
            yield message
        yield from self._ends(None)

    def _held(self, holder: str) -> Iterator[SourceMessage]:
        if holder:
            text = f"{self._name}: the cursor waits for {holder}; what is newer is delivered, and read again until that ends"
            yield Notice(self._name, text, Code.CURSOR_HELD)

    def _greatest(self, batch: "pa.RecordBatch", seen: str | None) -> str | None:
        return None if self._key is None else self._key.greatest(batch, seen)

    def _ends(self, ended: Saved | None) -> Iterator[SourceMessage]:
        if self._sweeps and not self._swept:
            yield from self._rows.present()
        check_name(self._session, self._plan)
        yield Complete(self._name)
        if ended is None:
            self._take(identity(self._session))
            yield self._checkpoint(None)
            return
        throughout = {(leaf.oid, leaf.attached) for leaf in self._found()}
        read = {leaf.oid for leaf in self._leaves if (leaf.oid, leaf.attached) in throughout}
        now = identity(self._session)
        update: dict[str, Any] = {"heaps": [oid for oid in ended.heaps if oid in read], "position": now.position}
        noted = self._ended_before or Ended(str(now.xmax), None)
        update |= {"xmax": noted.xmax, "flying": noted.flying}
        if ended.swept and not self._swept:
            update["rows"] = self._rows.compared
        if ended.kind == "xid" and not self._absorbs:
            update["clear"] = clear_until(self._session, self._plan, now, ended.clear)
        if ended.kind == "key":
            update["files"] = [leaf.relfilenode for leaf in self._leaves]
            if ended.sequence is None:
                update["sequence"] = sequence_at(self._session, self._plan)
        self._take(now)
        yield self._checkpoint(ended.model_copy(update=update))

    # what is common ---------------------------------------------------------------------------------------------------

    def _found(self) -> list[Leaf]:
        return leaves(self._session, self._plan.relation.oid) if self._plan.has_heap else []

    def _take(self, now: Now) -> None:
        """What a snapshot before ``now`` has shown, rows or bounds, is stored with the next checkpoint."""
        self._log.saw(now.position, now.flushed)

    def _checkpoint(self, saved: Saved | None) -> Checkpoint:
        self._log.wait()
        if saved is None:
            return Checkpoint(None)
        return Checkpoint(saved.model_copy(update={"depends": self._depends}).json_value())
