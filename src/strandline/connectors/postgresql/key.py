"""Reading by an incremental key: from where, up to where, and which rows may come again.

All comparisons are made by the server, in its own order, on literals of the column's type.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from strandline.connectors.postgresql.catalog import Column
from strandline.connectors.postgresql.cursor import Flight, Saved
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.horizon import in_flight
from strandline.connectors.postgresql.order import check_values, past
from strandline.connectors.postgresql.plan import Plan, typed
from strandline.connectors.postgresql.server import Server, Session
from strandline.connectors.postgresql.types_read import TIMES
from strandline.connectors.sql.dialect import quote
from strandline.connectors.sql.source_tables import smallest_offset_s
from strandline.lazy import pa, pc
from strandline.settings import duration_s

__all__ = ["Key", "Settled"]

_FLIGHT_S = 1.0
"""How long to wait for short transactions to end, so that the cursor need not wait for the next sync."""
_FLIGHT_POLL_S = 0.02
_WITH_INFINITY = {700, 701, 1700}
"""float4, float8, numeric."""
_CALENDAR = (date(1, 1, 2), date(9999, 12, 31))


@dataclass(frozen=True, slots=True)
class Settled:
    """How far later passes need not look back."""

    height: str | None
    flight: Flight | None = None
    holder: str = ""


class Key:
    """The incremental key of one table."""

    def __init__(self, plan: Plan, server: Server, payload: Mapping[str, Any]) -> None:
        if plan.key is None:
            raise AssertionError("only a table with an incremental key is read by it")
        self._plan, self._server, self._payload = plan, server, payload
        self.column: Column = plan.key
        self.sql = f"t.{quote(self.column.name)}"

    # bounds ----------------------------------------------------------------------------------------------------------

    def settled(self, session: Session, saved: Saved | None) -> Settled:
        """Decided before the first row is read."""
        if self._plan.settle == "wait":
            return self._waited(session, saved)
        old, holder = (saved.height if saved else None), str(self._payload.get("holder", ""))
        below = self._below()
        return Settled(old if below is None else self._top(session, below, old), holder=holder)

    def _below(self) -> str | None:
        """The condition that a key is below the server's clock.

        In whole seconds, below any precision of a column; but where nothing is promised, only the future is kept out.
        """
        moment = self._payload["horizon" if self._plan.settle == "cap" else "now"]
        if moment is None:
            return None
        if self.column.type_oid not in TIMES:
            return "TRUE"
        if self._plan.settle == "off":
            return f"{self.sql} <= {literal(moment)}::timestamptz"
        margin_s = duration_s(self._plan.settings.margin)
        clock = f"date_trunc('second', {literal(moment)}::timestamptz - interval '{margin_s} s')"
        if TIMES[self.column.type_oid] == "timestamptz":
            return f"{self.sql} < {clock}"
        # the smallest offset: a clock that is put back repeats an hour, and must not be ahead of what is still to come
        offset_s = smallest_offset_s(self._plan.settings.timezone or "UTC", int(self._payload["now_s"]))
        return f"{self.sql} < ({clock} AT TIME ZONE 'UTC' + interval '{offset_s} s')::{TIMES[self.column.type_oid]}"

    def _greatest(self, session: Session, condition: str, old: str | None) -> str | None:
        above = f" AND {self.sql} >= {typed(old, self.column)}" if old is not None else ""
        if self.column.type_oid in _WITH_INFINITY:
            above += f" AND {self.sql} < 'Infinity'"  # and NaN is greater still
        # not max(), which not every ordered type has; an index serves both
        rows = session.rows(
            f"SELECT {self.sql}::text AS top FROM {self._plan.source} WHERE {self.sql} IS NOT NULL AND {condition}{above} "
            f"AND {self._plan.where} ORDER BY {self.sql} DESC LIMIT 1",
            where=self._plan.table.name,
        )
        return str(rows[0]["top"]) if rows else old

    def _top(self, session: Session, condition: str, old: str | None) -> str | None:
        """The greatest key that is not in the future, where keys are times; by their type or by their values."""
        top = self._greatest(session, condition, old)
        if top is None or self.column.type_oid in TIMES:
            return top
        until = past(session, self._plan, top)
        return top if until is None else self._greatest(session, f"{self.sql} <= {until}", old)

    def check(self, session: Session, saved: Saved | None) -> None:
        """Whether the values have an order of change, as far as a pass over what is new can see.

        Raises:
            TaskError: they have none.
        """
        if saved is None or saved.current is None:
            check_values(session, self._plan, None if saved is None else self.lowest(saved))

    def _waited(self, session: Session, saved: Saved | None) -> Settled:
        old, flight = (saved.height, saved.flight) if saved else (None, None)
        if flight is not None:
            if holder := self.held(session, flight):
                return Settled(old, flight, holder)
            old = flight.height
        is_time = self.column.type_oid in TIMES
        top = self._top(session, f"{self.sql} <= now()" if is_time else "TRUE", old)
        if top is None:
            return Settled(None)
        started, open_, _ = self._look(session)
        flight = Flight(height=top, started=started, transactions=list(open_))
        deadline = time.monotonic() + _FLIGHT_S
        while (holder := self.held(session, flight)) and time.monotonic() < deadline:
            time.sleep(_FLIGHT_POLL_S)
        return Settled(old, flight, holder) if holder else Settled(top)

    def held(self, session: Session, flight: Flight) -> str:
        """What is left of what was in flight, for people; empty when nothing is, and the high-water mark can be trusted."""
        started, open_, prepared = self._look(session)
        if prepared:
            # it may be one of them: a virtual transaction ends when it is prepared
            return f"the prepared transaction {prepared!r}"
        left = sorted({open_[one] for one in flight.transactions if one in open_})
        if not left or flight.started != started:
            return ""
        return left[0] if len(left) == 1 else f"{left[0]} and {len(left) - 1} more"

    def _look(self, session: Session) -> tuple[str, dict[str, str], str]:
        started = session.row("SELECT pg_postmaster_start_time()::text AS at")["at"]
        return (str(started), *in_flight(session, self._server))

    # conditions ------------------------------------------------------------------------------------------------------

    def lowest(self, saved: Saved) -> str | None:
        """From where a pass reads, as SQL: the high-water mark less the lag, but not below what was marked. None: everything."""
        if saved.height is None:
            return None
        back = self._back(saved.height)
        return back if saved.tracked is None else f"greatest({back}, {typed(saved.tracked, self.column)})"

    def tracked(self, session: Session, height: str | None, lowest: str | None) -> str | None:
        """From where on rows are marked after a pass that read from ``lowest``, so that a longer `lag` is safe later."""
        if height is None or self.column.type_oid not in TIMES:
            return None
        bounds = ", ".join([self._back(height), *([lowest] if lowest else [])])
        return str(session.row(f"SELECT greatest({bounds})::{self.column.type_name}::text AS bound")["bound"])

    def from_(self, lowest: str) -> str:
        """The condition that a row is not below a bound."""
        return f"{self.sql} >= {lowest}"

    def start(self) -> str:
        """The condition that a row is not below the `start` of the spec."""
        start = self._plan.settings.start
        return "TRUE" if start is None else f"{self.sql} >= {typed(start, self.column)}"

    def without(self) -> list[str]:
        """The condition that a row has no key, where such rows are read."""
        return [f"{self.sql} IS NULL"] if self.column.nullable and self._plan.settings.nulls == "include" else []

    def all(self) -> str:
        """The condition that a row is read at all."""
        either = [self.start(), *self.without()]
        return f"({' OR '.join(either)})" if self.without() else f"({self.start()} AND {self.sql} IS NOT NULL)"

    def known(self, saved: Saved | None, height: str | None) -> str:
        """The condition that a row may have been delivered before, or may be read again later."""
        again = "TRUE" if height is None else f"{self.sql} >= {self._back(height)} OR {self.sql} IS NULL"
        if saved is None:
            return again
        before = "TRUE" if saved.seen is None else f"{self.sql} <= {typed(saved.seen, self.column)}"
        return f"{again} OR {before}"

    def _back(self, height: str) -> str:
        lag_s = duration_s(self._plan.settings.lag)
        value = typed(height, self.column)
        return f"({value} - interval '{lag_s} s')" if lag_s else value

    def greatest(self, batch: "pa.RecordBatch", seen: str | None) -> str | None:
        """The greatest key delivered so far; None where only the server knows the order.

        What no calendar holds (infinity) is left out: it is always above the cursor, and so read again anyway.
        """
        values = batch.column(self.column.name)
        if self.column.name in self._plan.settings.types:
            return None
        if pa.types.is_temporal(values.type):
            lowest, highest = (_moment(day, values.type) for day in _CALENDAR)
            values = values.filter(pc.and_(pc.greater(values, lowest), pc.less(values, highest)))
        elif not (pa.types.is_integer(values.type) or pa.types.is_decimal(values.type)):
            return None
        found = pc.max(values)
        if not found.is_valid:
            return seen
        if seen is not None and pc.greater_equal(pc.cast(pa.scalar(seen), found.type), found).as_py():
            return seen
        return str(pc.cast(found, pa.string()).as_py())


def _moment(day: date, kind: "pa.DataType") -> "pa.Scalar":
    if pa.types.is_timestamp(kind):
        return pa.scalar(day, pa.date32()).cast(pa.timestamp(kind.unit)).cast(kind)
    return pa.scalar(day, kind)
