"""The incremental key of an SQLite table: the *height* of a row, by which passes know what is new.

SQLite orders NULL < numbers < texts < blobs, whatever a column was declared as. The key has one class, numbers or
texts; a value of another class is treated like a NULL: read at every sync, and never a cursor.

A height is what the cursor is made of. Of a number or an ordered text it is the value. Of a time in a text it is the last
second, since 1970 in UTC, that the text may mean: so times with a `T` or a space, with or without fractions, zones and
seconds have one order, though their order as texts is another. A row that is written after a moment has no smaller
height, however it is written.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from strandline.errors import TaskError, UsageError

__all__ = [
    "Condition",
    "Height",
    "Key",
    "NumberKey",
    "SequenceTextKey",
    "TimeTextKey",
    "looks_like_time",
    "smallest_offset_s",
    "time_like",
]

Height: TypeAlias = int | float | str
Condition: TypeAlias = tuple[str, list[Any]]
"""SQL, with the values to bind."""
Query: TypeAlias = Callable[[str, list[Any], str], Any]
"""``(condition, values, direction)``: the first key, ASC or DESC, of the rows that meet the condition, or ``None``."""

_TIME_NAME = re.compile(
    r"((^|_)(at|on|ts|[acm]?time|date|datetime|timestamp|epoch|unix)|[a-z](At|On|Time|Date|Ts|Timestamp)"
    r"|(modified|updated|created|changed|inserted|deleted|seen|login|expires|expiry|stamp)_?(at|on)?)(_?(s|sec|secs|seconds|ms|millis|us|micros|ns|nanos|utc|Ms|Utc))?$"
)
_TIME_TEXT = re.compile(
    r"(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"(?:[ T]([01]\d|2[0-4]):([0-5]\d)(?::([0-5]\d|60)(?:\.\d+)?)?(Z|[+-]\d\d:[0-5]\d)?)?",
    re.ASCII,
)
_ID = re.compile(r"[0-9A-Za-z_-]*")
_DAY_S = 86_400
_OFFSET_MAX_S = 14 * 3_600
_EPOCH = date(1970, 1, 1).toordinal()


def time_like(name: str, declared: str) -> bool:
    """Whether a column holds times, by its declared type or its name. A wrong yes costs re-reads, never rows."""
    return "DATE" in declared or "TIME" in declared or _TIME_NAME.search(name) is not None


def looks_like_time(text: object) -> bool:
    """Whether ``text`` is a time as SQLite writes and reads it, its date first."""
    return isinstance(text, str) and _TIME_TEXT.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Key(ABC):
    """What all kinds of keys share. Conditions speak of the column as ``sql``."""

    kind: ClassVar[str]
    own: ClassVar[str]
    """SQL, of the class that the key has."""
    others: ClassVar[tuple[str, ...]]
    """SQL, of the other classes; ranges of an index."""

    table: str
    column: str
    sql: str
    """The column, to be compared by its bytes."""

    @property
    def is_sequence(self) -> bool:
        """Whether values are handed out in order, rather than read from a clock."""
        return False

    @property
    def own_sql(self) -> str:
        """``own``, of the column."""
        return self.own.format(k=self.sql)

    def new(self, lower: Height) -> Condition:
        """Rows of the key's class at or above ``lower``, beginning with a range of an index."""
        return f"{self.own_sql} AND {self.sql} >= ?", [lower]

    def strange(self, lower: Height) -> list[Condition]:  # noqa: ARG002 -- only times hide values below it
        """Rows whose key is NULL or has no height: apart from ``new`` and from each other, each a range of an index."""
        return [(f"{self.sql} IS NULL", []), *((other.format(k=self.sql), []) for other in self.others)]

    @abstractmethod
    def heights(self, values: Sequence[Any]) -> list[Height | None]:
        """The height of each row by its key; none for values of another class.

        Raises:
            TaskError: the order of these values is not the order of change, so rows could be missed.
        """

    @abstractmethod
    def greatest(self, first: Query, now_s: int) -> Height | None:
        """The greatest height that is not in the future, or a smaller one of some row."""

    @abstractmethod
    def back(self, height: Height, lag_s: int, now_s: int) -> Height:
        """From where to read again after a pass that came up to ``height``."""

    @abstractmethod
    def parsed_start(self, start: object) -> Height:
        """The setting `start`.

        Raises:
            UsageError: it is no value of this key.
        """

    def shown(self, height: Height) -> str:
        """For people."""
        return str(height)

    def refuse(self, message: str, *, hint: str) -> TaskError:
        """An error of this table."""
        return TaskError(f"table {self.table!r}, incremental key {self.column!r}: {message}", hint=hint)


@dataclass(frozen=True, slots=True)
class NumberKey(Key):
    """Integers and reals: ids, or times since 1970 in some unit."""

    kind: ClassVar[str] = "number"
    own: ClassVar[str] = "({k} IS NOT NULL AND {k} < '')"
    others: ClassVar[tuple[str, ...]] = ("{k} >= ''",)

    is_time: bool = False

    @property
    def is_sequence(self) -> bool:
        """See ``Key``."""
        return not self.is_time

    def heights(self, values: Sequence[Any]) -> list[Height | None]:
        """The height of each; none for values that are no numbers."""
        return [value if isinstance(value, int | float) else None for value in values]

    def greatest(self, first: Query, now_s: int) -> Height | None:
        """The greatest height that is not in the future."""
        if not self.is_time:
            found: Height | None = first(self.own_sql, [], "DESC")
            return found
        for _, now in _clocks(now_s):
            found = first(f"{self.sql} BETWEEN ? AND ?", [now // 10, now], "DESC")
            if found is not None:
                return found
        return None

    def back(self, height: Height, lag_s: int, now_s: int) -> Height:
        """How far down to read again: a lag before ``height``, and always whole seconds."""
        assert not isinstance(height, str)
        if not self.is_time:
            return height
        per_s = self._per_s(height, now_s)
        return int(height // per_s) * per_s - lag_s * per_s

    def _per_s(self, height: float, now_s: int) -> int:
        return next((per_s for per_s, now in _clocks(now_s) if height <= now), 10**9)

    def same_unit(self, one: Height, other: Height, now_s: int) -> bool:
        """Whether both are times in the same unit."""
        assert not isinstance(one, str)
        assert not isinstance(other, str)
        return self._per_s(one, now_s) == self._per_s(other, now_s)

    def parsed_start(self, start: object) -> Height:
        """The setting `start`."""
        if isinstance(start, int | float):
            return start
        raise UsageError(
            f"table {self.table!r}: `start: {start}` is no number, but {self.column!r} holds numbers",
            hint="write the number as it is stored, for example seconds since 1970",
        )


def _clocks(now_s: int) -> list[tuple[int, int]]:
    """(units in a second, the time in them), the coarsest first.

    A time since 1975 lies between a tenth of the clock in its own unit and the clock, and in no other such range. So the
    unit need not be declared, and a row dated into the year 9999 does not make seconds look like milliseconds.
    """
    return [(per_s, now_s * per_s) for per_s in (1, 10**3, 10**6, 10**9)]


@dataclass(frozen=True, slots=True)
class SequenceTextKey(Key):
    """Texts that sort in the order in which they are handed out: ULIDs, UUIDs of version 7."""

    kind: ClassVar[str] = "text"
    own: ClassVar[str] = "({k} >= '' AND {k} < x'')"
    others: ClassVar[tuple[str, ...]] = ("{k} < ''", "{k} >= x''")

    length: int | None = None
    """Of all texts, as of the greatest."""

    @property
    def is_sequence(self) -> bool:
        """See ``Key``."""
        return True

    def heights(self, values: Sequence[Any]) -> list[Height | None]:
        """The height of each; none for values that are no texts.

        Raises:
            TaskError: they have different lengths, so they cannot be in the order in which they were handed out.
        """
        texts = [value if isinstance(value, str) else None for value in values]
        if any(text is not None and (len(text) != self.length or not _ID.fullmatch(text)) for text in texts):
            raise self.refuse(
                "the texts differ in length, or are no ids, so their order is not the order of change",
                hint="choose a key of numbers, of times as YYYY-MM-DD HH:MM:SS, or of ids that sort, like ULIDs",
            )
        return list(texts)

    def greatest(self, first: Query, now_s: int) -> Height | None:  # noqa: ARG002 -- ids know no clock
        """The greatest there is."""
        found: Height | None = first(self.own_sql, [], "DESC")
        return found

    def back(self, height: Height, lag_s: int, now_s: int) -> Height:  # noqa: ARG002 -- likewise
        """The height itself."""
        return height

    def parsed_start(self, start: object) -> Height:
        """The setting `start`."""
        return str(start)


_ZONE = "CASE WHEN substr({k}, -1) = 'Z' OR substr({k}, -6, 1) IN ('+', '-') AND substr({k}, -3, 1) = ':'"
_SECONDS = (
    "CASE WHEN {k} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' THEN CAST(strftime('%s', {k}) AS INTEGER) END"
)


@dataclass(frozen=True, slots=True)
class TimeTextKey(Key):
    """Times as texts, each in the form ``YYYY-MM-DD[ HH:MM[:SS[.FFF]]][Z|±HH:MM]``."""

    kind: ClassVar[str] = "time"
    own: ClassVar[str] = "({k} >= '' AND {k} < x'')"
    others: ClassVar[tuple[str, ...]] = ("{k} < ''", "{k} >= x''")

    shift_s: int = 0
    """The smallest offset from UTC of the zone of texts that carry none: then an hour that comes twice has its order."""

    def heights(self, values: Sequence[Any]) -> list[Height | None]:
        """The height of each; none for values that are no texts, and for texts that sort apart from all dates.

        Raises:
            TaskError: a text is no date, but could sort between dates and be missed.
        """
        return [self._height(value) if isinstance(value, str) else None for value in values]

    def _height(self, text: str) -> Height | None:
        match = _TIME_TEXT.fullmatch(text)
        if match is None:
            if "1900-" <= text < "3":  # all others sort before or after every date, and so are read at every sync
                raise self.refuse(
                    f"{text!r} is not of the form YYYY-MM-DD HH:MM:SS, so its place in the order of time is unknown",
                    hint="mend these rows, leave them out by `where`, or choose another key or `mode: full`",
                )
            return None
        year, month, day, hour, minute, second, zone = match.groups()
        # like SQLite's: the 31st of February is the 3rd of March
        days = date(max(int(year), 1), int(month), 1).toordinal() + int(day) - 1 - _EPOCH
        height = days * _DAY_S
        if hour is None:
            height += _DAY_S - 1
        else:
            height += int(hour) * 3_600 + int(minute) * 60 + (59 if second is None else int(second))
        return height - (self.shift_s if zone is None else _offset_s(zone))

    def new(self, lower: Height) -> Condition:
        """See ``Key``. The range is by the text, with room for any zone; within it the height decides."""
        assert isinstance(lower, int)
        condition = f"{self.sql} >= ? AND {self.sql} < x'' AND {self._at_or_above()}"
        return condition, [self._day(lower), lower, _text(lower), _text(lower + self.shift_s)]

    def strange(self, lower: Height) -> list[Condition]:
        """See ``Key``. Texts that are no times and sort before all recent ones: ``''``, ``0000-00-00``, ``12/31/2026``."""
        assert isinstance(lower, int)
        # no bound may look like a number, or the column's affinity makes it one
        bound = min("1900-", self._day(lower))
        low = f"{self.sql} >= '' AND {self.sql} < ? AND {_SECONDS.format(k=self.sql)} IS NULL"
        return [*Key.strange(self, lower), (low, [bound])]

    def _day(self, lower: int) -> str:
        return _text(lower - _OFFSET_MAX_S)[: len("2026-01-01")]

    def _at_or_above(self) -> str:
        """SQL that compares the height with three parameters: the number, and the texts in UTC and in the zone."""
        k, plain = self.sql, f"replace(substr({self.sql}, 1, 19), 'T', ' ')"
        # strftime costs five times as much as all else, so it is left for texts without seconds or with an offset
        return (
            f"CASE WHEN substr({k}, 17, 1) <> ':' OR substr({k}, -6, 1) IN ('+', '-') "
            f"THEN coalesce({self._height_sql()}, 9e18) >= ? "
            f"WHEN substr({k}, -1) = 'Z' THEN {plain} >= ? ELSE {plain} >= ? END"
        )

    def _height_sql(self) -> str:
        k, zone = self.sql, _ZONE.format(k=self.sql)
        width = f"CASE WHEN length({k}) = 10 THEN {_DAY_S - 1} WHEN substr({k}, 17, 1) <> ':' THEN 59 ELSE 0 END"
        return f"({_SECONDS.format(k=k)} + {width} - {zone} THEN 0 ELSE {self.shift_s} END)"

    def greatest(self, first: Query, now_s: int) -> Height | None:
        """A height that is not in the future: of the greatest text that is not."""
        past = _text(now_s - _OFFSET_MAX_S)[: len("2026-01-01")]
        own, seconds = self.own_sql, _SECONDS.format(k=self.sql)
        shift = f"{_ZONE.format(k=self.sql)} THEN 0 ELSE {self.shift_s} END"
        condition = f"{own} AND {seconds} IS NOT NULL AND ({self.sql} < ? OR {seconds} - {shift} <= ?)"
        found = first(condition, [past, now_s], "DESC")
        height = None if found is None else self._height(found)
        return None if height is None else min(height, now_s)

    def back(self, height: Height, lag_s: int, now_s: int) -> Height:  # noqa: ARG002 -- texts tell their unit
        """A lag before ``height``."""
        assert isinstance(height, int)
        return height - lag_s

    def parsed_start(self, start: object) -> Height:
        """The setting `start`: the first second that it may mean."""
        text = start.isoformat() if isinstance(start, date) else str(start)
        height = self._height(text) if looks_like_time(text) else None
        if height is None:
            raise UsageError(
                f"table {self.table!r}: `start: {start}` is no time",
                hint="write it as 2024-01-31 or 2024-01-31 12:00:00",
            )
        assert isinstance(height, int)
        width = _DAY_S - 1 if len(text) == len("2026-01-01") else 0
        return height - width

    def shown(self, height: Height) -> str:
        """For people, in UTC."""
        return _text(height) if isinstance(height, int) else str(height)


def _text(seconds: int) -> str:
    moment = datetime(1, 1, 1, tzinfo=UTC)
    lowest = -(719_162 * _DAY_S)
    return (moment + timedelta(seconds=max(seconds, lowest) - lowest)).strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")


def _offset_s(zone: str) -> int:
    if zone == "Z":
        return 0
    seconds = int(zone[1:3]) * 3_600 + int(zone[4:6]) * 60
    return -seconds if zone[0] == "-" else seconds


def smallest_offset_s(name: str, now_s: int) -> int:
    """The smallest offset from UTC, in seconds, that the zone has in the years around ``now_s``.

    Raises:
        UsageError: there is no such zone.
    """
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"there is no time zone {name!r}", hint="write it like Europe/Berlin or UTC") from error
    now = datetime.fromtimestamp(now_s, UTC)
    offsets = [(now + timedelta(days=days)).astimezone(zone).utcoffset() for days in range(-400, 400, 7)]
    return int(min(offset for offset in offsets if offset is not None).total_seconds())
