"""The incremental key of a stream: how its value is saved, how far a cursor may go, and which rows are read again.

A cursor never passes the *bound*, a moment before the first request: what is stamped from there on, and what has no value, comes
again in the next pass. Which form a key's times have is told by its values (``key_times``); ids have no bound.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from strandline.connectors.arrow.json_text import read_text, text_of
from strandline.connectors.sql.key_times import OLDEST_S, form_of
from strandline.errors import TaskError
from strandline.lazy import pa, pc

__all__ = ["Key", "as_python", "check_key", "text_of_value", "value_of"]

_WHOLE = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}
_DAY_LENGTH, _TIME_LENGTH = 10, 19
_DAY_S = 86_400


def check_key(name: str, kind: "pa.DataType", *, where: str) -> None:
    """Whether values of this type come in one order that every row keeps.

    Raises:
        TaskError: they do not.
    """
    is_ = pa.types
    if (
        is_.is_integer(kind)
        or is_.is_date32(kind)
        or is_.is_timestamp(kind)
        or is_.is_string(kind)
        or is_.is_decimal(kind)
    ):
        return
    if not is_.is_null(kind):
        raise TaskError(
            f"{where}: {name!r}, its incremental key, is {kind}",
            hint="name a column of whole numbers, decimals, dates, times or texts; or declare such a type",
        )


def text_of_value(value: "pa.Scalar") -> str:
    """A value as a cursor keeps it."""
    text: str = text_of(pa.array([value]), where="cursor")[0].as_py()
    return text


def as_python(value: "pa.Scalar | None") -> Any:
    """A value as the author of a stream has it; without nanoseconds, which Python has not."""
    if value is None:
        return None
    fine = pa.types.is_timestamp(value.type) and value.type.unit == "ns"
    return (
        pc.floor_temporal(value, unit="microsecond").cast(pa.timestamp("us", value.type.tz)) if fine else value
    ).as_py()


def value_of(text: str, kind: "pa.DataType", *, where: str) -> "pa.Scalar":
    """What ``text_of_value`` was given.

    Raises:
        TaskError: the text is none of this type.
    """
    try:
        return read_text(pa.array([text]), kind, where=where)[0]
    except TaskError as error:
        raise TaskError(error.message, hint="--full-refresh reads everything again") from error


@dataclass(slots=True)
class Key:
    """The key in one pass. ``since`` and ``bound`` are of the pass; ``most`` follows the rows."""

    name: str
    kind: "pa.DataType"
    since: "pa.Scalar | None"
    """Where the last pass ended."""
    before: datetime
    """UTC: no row that is stamped earlier appears any more, as far as its source can say so."""
    most: "pa.Scalar | None" = None
    """The greatest value that was seen."""
    seen: "pa.Scalar | None" = None
    """The greatest that was seen by the passes before, which is beyond ``since`` where that was held back."""
    is_known: bool = True
    """Whether ``seen`` is: the cursors of older versions do not say."""
    _least: "pa.Scalar | None" = None
    _has_times: bool = False
    """Whether a number was seen that is a time of the past, if numbers of its size are times."""

    def bound(self, *, in_doubt: bool = False) -> "pa.Scalar | None":
        """What the cursor does not pass; ``None``: the key is no time, as far as its values show.

        ``in_doubt``: what may turn out to be a time is one.
        """
        kind, is_ = self.kind, pa.types
        if is_.is_timestamp(kind):
            at = self.before if kind.tz is not None else self.before.replace(tzinfo=None)
            whole = at.replace(
                microsecond=at.microsecond // _WHOLE[kind.unit] * _WHOLE[kind.unit] if kind.unit != "s" else 0
            )
            return pa.scalar(whole, kind)
        if is_.is_date(kind):
            return pa.scalar(self.before.date(), kind)
        if self.most is None:
            return None
        greatest, now_s = self.most.as_py(), int(self.before.timestamp())
        # `pending` comes after all times, and would keep every later one from being read
        for one in (greatest, None if self._least is None else self._least.as_py()):
            if isinstance(one, str) and (written := _ceiling(one, self.before)) is not None:
                return pa.scalar(written, kind)
        form = form_of(greatest)
        is_time = form is not None and (form.is_certain(now_s) or self._has_times or in_doubt)
        return pa.scalar(form.ceiling(now_s), kind) if form is not None and is_time else None

    def see(self, values: "pa.Array") -> None:
        """Rows with these values were read."""
        least, greatest = pc.min_max(values).values()
        if not greatest.is_valid:
            return
        if self.most is None or pc.greater(greatest, self.most).as_py():
            self.most = greatest
        if self._least is None or pc.less(least, self._least).as_py():
            self._least = least
        self._has_times = self._has_times or self._are_times(values)

    def _are_times(self, values: "pa.Array") -> bool:
        """Whether one of them, or the cursor, is a time up to now, where the size of the greatest does not tell."""
        now_s = int(self.before.timestamp())
        form = None if self.most is None else form_of(self.most.as_py())
        if form is None or form.is_certain(now_s):
            return False
        # `before` may lie behind the clock by the lag
        low, high = (pa.scalar(form.ceiling(at_s), self.kind) for at_s in (OLDEST_S, now_s + _DAY_S))
        known = values if self.since is None else pa.concat_arrays([values, pa.array([self.since], self.kind)])
        return bool(pc.any(pc.and_(pc.greater_equal(known, low), pc.less_equal(known, high))).as_py())

    def end(self) -> "pa.Scalar | None":
        """The cursor once all was read: the greatest value, but not beyond the bound, and never back."""
        if self.most is None:
            return self.since
        bound = self.bound()
        reached = self.most if bound is None or pc.less(self.most, bound).as_py() else bound
        return reached if self.since is None or pc.greater(reached, self.since).as_py() else self.since

    def reached(self) -> "pa.Scalar | None":
        """The greatest value that any pass has seen."""
        if self.seen is None or self.most is None:
            return self.most if self.seen is None else self.seen
        return self.most if pc.greater(self.most, self.seen).as_py() else self.seen

    def again(self, values: "pa.Array") -> "pa.Array":
        """Which rows may have been read before or may be read again, as far as their own values show."""
        if not self.is_known:
            return pa.repeat(True, len(values))
        marked, bound = values.is_null(), self.bound(in_doubt=True)
        for limit, compare in ((self.since, pc.less_equal), (self.seen, pc.less_equal), (bound, pc.greater_equal)):
            if limit is not None:
                marked = pc.or_(marked, pc.fill_null(compare(values, limit), True))
        return marked


def _ceiling(text: str, at: datetime) -> str | None:
    """The moment as ISO texts of the key have it; ``None``: they are none."""
    try:
        datetime.fromisoformat(text[:_TIME_LENGTH])
    except ValueError:
        return None
    if len(text) < _DAY_LENGTH or text[4] != "-":
        return None
    written = at.isoformat(sep=text[_DAY_LENGTH] if len(text) > _DAY_LENGTH else "T", timespec="seconds")
    return written[: min(len(text), _TIME_LENGTH)]
