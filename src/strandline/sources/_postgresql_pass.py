"""One pass over one PostgreSQL table.

A row's xmin is the transaction that wrote this version of it, so versions of transactions that had ended when the pass
began never change: they stay where they are, or go. A pass takes that bound first. What is older it reads heap by heap
in ranges of pages, each a statement and a checkpoint, in no order; a reading that goes on at a page has missed nothing.
What is younger has other addresses: a pass over everything reads it last, in one snapshot, so that a row that moved
meanwhile is there; an incremental pass leaves it to the next one, which starts at the bound.

A table with an incremental key is read so once, and from then on by its key, in one statement. Views have no addresses:
they are read in one statement.
"""

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from strandline.errors import CursorExpiredError, RetryableError, TaskError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Cursor, Message, Notice
from strandline.source import RunContext
from strandline.sources._postgresql_catalog import literal
from strandline.sources._postgresql_heaps import Place, heaps, identity, places
from strandline.sources._postgresql_horizon import xid_holder
from strandline.sources._postgresql_key import Key
from strandline.sources._postgresql_plan import Plan
from strandline.sources._postgresql_rows import Rows
from strandline.sources._postgresql_session import Server, Session
from strandline.sources._postgresql_state import Pass, Saved, after

__all__ = ["Reading"]


def _young(xid: str, *, alias: str = "t") -> str:
    """The condition that a version was written by a transaction from ``xid`` on, within 2^31 transactions."""
    return f"age({alias}.xmin) BETWEEN 0 AND age({literal(str(int(xid) % (1 << 32)))}::xid)"


class Reading:
    """Reads with one session, in one thread."""

    def __init__(
        self,
        server: Server,
        session: Session,
        plan: Plan,
        context: RunContext,
        payload: Mapping[str, Any],
        *,
        pages: int,
    ) -> None:
        self._session, self._plan, self._pages = session, plan, pages
        self._name = plan.table.name
        self._key = Key(plan, server, payload) if plan.kind == "key" else None
        self._rows = Rows(session, plan, context, self._key)
        self._sweeps = (
            bool(plan.table.primary_key)
            and (plan.settings.deletes or ("sweep" if plan.kind == "xid" and context.mirror else "ignore")) == "sweep"
        )

    def messages(self, cursor: Cursor | None) -> Iterator[Message]:
        """All of ``Source.read``."""
        saved = None if cursor is None else Saved.parsed(cursor, self._name)
        if saved is not None:
            self._check(saved)
        yield from self._without_key()
        if saved is not None and saved.current is None and self._key is not None:
            yield from self._by_key(saved)
        elif not self._plan.has_heap:
            yield from self._whole_view(saved)
        else:
            if saved is None or saved.current is None:
                saved = yield from self._begun(saved)
                if saved.current is not None and saved.current.whole:
                    yield Checkpoint(saved.json_value())
            yield from self._by_heap(saved)

    def _check(self, saved: Saved) -> None:
        """Whether the numbers of the cursor are still those of this server and this table."""
        if saved.kind != self._plan.kind:
            raise TaskError(
                f"table {self._name!r}: the saved cursor is of a table that was read by another way ({saved.kind})",
                hint="read the table again from nothing: --full-refresh",
            )
        now = identity(self._session)
        if now.identity != saved.identity:
            raise CursorExpiredError(
                f"table {self._name!r}: the server is another one than at the last sync, or was restored or failed over "
                f"(system {saved.identity.system}, timeline {saved.identity.timeline}; "
                f"now {now.identity.system}, {now.identity.timeline})"
            )
        lowest = saved.current.before if saved.current else saved.xmin
        if lowest is None:
            return
        if now.xmax < int(lowest):
            if now.standby:
                raise RetryableError(f"table {self._name!r}: the standby is behind what was read before")
            raise CursorExpiredError(
                f"table {self._name!r}: the server has had fewer transactions than at the last sync: it was restored"
            )
        if now.xmax - int(lowest) >= 1 << 31:
            raise CursorExpiredError(f"table {self._name!r}: the last sync is more than 2^31 transactions ago")
        if saved.current and saved.current.whole:
            files = {heap.oid: heap.file for heap in heaps(self._session, self._plan)}
            for heap in saved.current.heaps[saved.current.heap :]:
                if files.get(heap.oid, heap.file) != heap.file:
                    raise CursorExpiredError(
                        f"table {self._name!r}: it was rewritten (VACUUM FULL, CLUSTER, ALTER TABLE) while it was first read"
                    )

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
        now = identity(self._session)
        found = heaps(self._session, self._plan)
        known = set(saved.heaps) if saved else set()
        settled = self._key.settled(self._session, None) if self._key else None
        if settled is not None:
            yield from self._held(settled.holder)
        elif self._plan.kind == "xid" and now.xmin < now.xmax:
            yield from self._held(xid_holder(self._session, now.xmin))
        current = Pass(
            before=str(now.xmin),
            heaps=[
                heap.model_copy(update={"since": saved.xmin if saved and heap.oid in known else None}) for heap in found
            ],
            whole=saved is None,
            height=settled.height if settled else None,
            flight=settled.flight if settled else None,
        )
        begun = saved or Saved(kind=self._plan.kind, identity=now.identity)
        return begun.model_copy(update={"current": current})

    def _by_heap(self, saved: Saved) -> Iterator[Message]:
        current = saved.current
        assert current is not None
        seen = current.seen
        for place in places(self._session, self._plan, current, self._pages):
            condition, mark = self._older(saved, place)
            for message, batch in self._rows.messages(place.source, f"{place.range} AND {condition}", mark):
                seen = self._greatest(batch, seen)
                yield message
            saved = after(saved, heap=place.next_heap, page=place.next_page, seen=seen)
            if not place.is_last or current.whole:
                yield Checkpoint(saved.json_value())
        xmin = current.before
        if current.whole:
            if self._plan.kind == "key":
                saved = self._promoted(saved)
            xmin = str(identity(self._session).xmin)
            for message, batch in self._rows.messages(
                self._plan.source, _young(current.before), self._mark_of_tail(saved, xmin)
            ):
                seen = self._greatest(batch, seen)
                yield message
        yield from self._ends(self._ended(saved, xmin, seen))

    def _older(self, saved: Saved, place: Place) -> tuple[str, str]:
        """The condition of a slice, and which of its rows may have been delivered before or will be again."""
        current = saved.current
        assert current is not None
        if current.whole:
            mark = self._key.known(None, current.height) if self._key else "FALSE"
            return f"NOT ({_young(current.before)})", mark
        if place.heap.since is None:
            return "TRUE", _young(current.before)
        before = "TRUE" if saved.xmax is None else f"NOT ({_young(saved.xmax)})"
        return _young(place.heap.since), f"{before} OR {_young(current.before)}"

    def _mark_of_tail(self, saved: Saved, xmin: str) -> str:
        if self._key:
            assert saved.current is not None
            return self._key.known(None, saved.current.height)
        return _young(xmin) if self._plan.kind == "xid" else "FALSE"

    def _promoted(self, saved: Saved) -> Saved:
        """What was in flight when the pass began may have ended: the last statement of the pass will see its rows."""
        current = saved.current
        assert current is not None
        assert self._key is not None
        if current.flight is None or self._key.held(self._session, current.flight):
            return saved
        return after(saved, height=current.flight.height, flight=None)

    def _ended(self, saved: Saved, xmin: str, seen: str | None) -> Saved | None:
        current = saved.current
        assert current is not None
        if self._plan.kind == "full":
            return None
        if self._plan.kind == "key":
            return saved.model_copy(
                update={
                    "height": current.height,
                    "flight": current.flight,
                    "seen": seen,
                    "shown": current.height or "–",
                    "current": None,
                }
            )
        return saved.model_copy(
            update={
                "xmin": xmin,
                "xmax": str(identity(self._session).xmax),
                "heaps": [heap.oid for heap in current.heaps],
                "shown": f"xid {xmin}",
                "current": None,
            }
        )

    # by key, and views -----------------------------------------------------------------------------------------------

    def _by_key(self, saved: Saved) -> Iterator[Message]:
        key = self._key
        assert key is not None
        settled = key.settled(self._session, saved)
        yield from self._held(settled.holder)
        height, seen = saved.height, saved.seen
        from_ = key.start() if height is None else key.from_(height)
        # rows without a key come first: one that gets a key meanwhile comes twice, one that loses it comes next time
        for condition in [*key.without(), from_]:
            for message, batch in self._rows.messages(self._plan.source, condition, key.known(saved, settled.height)):
                seen = self._greatest(batch, seen)
                yield message
        ended = saved.model_copy(
            update={
                "height": settled.height,
                "flight": settled.flight,
                "seen": seen,
                "shown": settled.height or "–",
            }
        )
        yield from self._ends(ended)

    def _whole_view(self, saved: Saved | None) -> Iterator[Message]:
        now = identity(self._session)
        key, seen, ended = self._key, None, None
        mark, condition = "FALSE", "TRUE"
        if key is not None:
            settled = key.settled(self._session, saved)
            yield from self._held(settled.holder)
            mark, condition = key.known(None, settled.height), key.all()
            ended = Saved(kind="key", identity=now.identity, height=settled.height, flight=settled.flight)
        for message, batch in self._rows.messages(self._plan.source, condition, mark):
            seen = self._greatest(batch, seen)
            yield message
        if ended is not None:
            ended = ended.model_copy(update={"seen": seen, "shown": ended.height or "–"})
        yield from self._ends(ended)

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
        yield Complete(self._name)
        yield Checkpoint(None if ended is None else ended.json_value())
