"""What an incremental key of SQLite is: a clock or a sequence, how far it may be trusted, and how far back to look.

SQLite orders NULL < numbers < texts < blobs, whatever a column was declared as. The *class* of a key is number or text;
a value of another class is treated like a null: read at every sync, and never a cursor.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, Literal, TypeAlias

from strandline.errors import TaskError

__all__ = ["Key", "Kind", "Value", "ceilings", "kind_of", "time_like"]

Value: TypeAlias = int | float | str
Kind: TypeAlias = Literal["sequence", "epoch", "text sequence", "text clock"]

_TIME_NAME = re.compile(
    r"(^|_)(at|on|ts|time|date|datetime|timestamp|epoch|modified|updated|created|changed)$", re.IGNORECASE
)
_TEXT_TIME = re.compile(
    r"\d{4}-\d\d-\d\d(?P<time>(?P<separator>[ T])\d\d:\d\d(:\d\d(?P<fraction>\.\d{1,9})?)?)?(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_like(name: str, declared: str) -> bool:
    """Whether a column holds times, by its declared type or its name. A wrong yes costs re-reads, never rows."""
    return "DATE" in declared or "TIME" in declared or _TIME_NAME.search(name) is not None


def ceilings(now: datetime) -> list[int]:
    """``now`` as a number since 1970, floored, in seconds, milliseconds, microseconds and nanoseconds.

    A key in one of these units, of a time since 1975, lies between a tenth of its ceiling and the ceiling; nothing else
    does. So the unit need not be declared, and one date of the year 9999 does not make seconds look like milliseconds.
    """
    microseconds = (now - _EPOCH) // timedelta(microseconds=1)
    return [microseconds // 1_000_000, microseconds // 1_000, microseconds, microseconds * 1_000]


def _units_per_s(value: float) -> int:
    """Of a key that lies under one of the ceilings."""
    return next((units for units, limit in ((1, 1e11), (10**3, 1e14), (10**6, 1e17)) if value < limit), 10**9)


def kind_of(values: Sequence[Value], *, is_time: bool) -> Kind:
    """The kind of a key by some of its values, all of one class."""
    texts = [value for value in values if isinstance(value, str)]
    if texts:
        return "text clock" if is_time or any(_TEXT_TIME.fullmatch(text) for text in texts) else "text sequence"
    return "epoch" if is_time else "sequence"


@dataclass(frozen=True, slots=True)
class Key:
    """The key of one table in one pass."""

    column: str
    kind: Kind
    zone: tzinfo = UTC
    """Of texts that carry none."""
    condition: str = ""
    """SQL that holds for the values of the key's class."""

    @property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return self.kind.startswith("text")

    @property
    def is_clock(self) -> bool:
        """Whether a value says when a row changed."""
        return self.kind in {"epoch", "text clock"}

    def belongs(self, value: Any) -> bool:
        """Whether ``value`` is of the key's class."""
        return isinstance(value, str) if self.is_text else isinstance(value, int | float)

    def now_as_text(self, now: datetime, like: str) -> str:
        """The time in the form of ``like``, floored to its precision."""
        return self._text(now, like)

    def back(self, value: Value, lag: timedelta) -> Value:
        """``value`` less ``lag``.

        Raises:
            TaskError: the key is no clock, or the value cannot be read as a time.
        """
        if not lag:
            return value
        if isinstance(value, str):
            return self._text(self._parse(value) - lag, value)
        if self.kind != "epoch":
            raise TaskError(
                f"`lag` is a time, but the key {self.column!r} is a sequence", hint="remove `lag` for this table"
            )
        ticks = (lag // timedelta(microseconds=1)) * _units_per_s(value) // 1_000_000
        return value - ticks

    def _parse(self, text: str) -> datetime:
        match = _TEXT_TIME.fullmatch(text)
        if match is None:
            raise TaskError(f"the key {self.column!r} holds {text!r}, which is no time, so `lag` cannot be applied")
        fraction = match["fraction"] or ""
        plain = text.replace(fraction, fraction[:7], 1) if fraction else text
        moment = datetime.fromisoformat(plain)
        return moment if moment.tzinfo else moment.replace(tzinfo=self.zone)

    def _text(self, moment: datetime, like: str) -> str:
        """``moment`` in the form of ``like``, floored."""
        match = _TEXT_TIME.fullmatch(like)
        zone_text = (match["zone"] or "") if match else ""
        zone = _zone(zone_text) or self.zone
        local = moment.astimezone(zone)
        if match is None or not match["time"]:
            return local.strftime("%Y-%m-%d") + zone_text
        text = local.strftime(f"%Y-%m-%d{match['separator']}%H:%M")
        if like[len(text) : len(text) + 1] == ":":
            text += local.strftime(":%S")
        if match["fraction"]:
            digits = len(match["fraction"]) - 1
            text += "." + f"{local.microsecond:06d}".ljust(9, "0")[:digits]
        return text + zone_text


def _zone(text: str) -> tzinfo | None:
    if not text:
        return None
    if text == "Z":
        return UTC
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))
