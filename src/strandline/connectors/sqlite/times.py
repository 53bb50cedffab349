"""Times that SQLite keeps as texts, and their one order, in whatever form they are written.

The height of a time is the last second, since 1970 in UTC, that its text may mean. So times with a `T` or a space, with
or without fractions, zones and seconds, and dates alone, can be compared, though their order as texts is another. What
is written after a moment has no smaller height, however it is written.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from strandline.connectors.sqlite.high_water import Condition, Height, Key, Query, Range, SequenceTextKey
from strandline.errors import UsageError
from strandline.lazy import pa, pc

__all__ = ["TimeTextKey", "looks_like_time"]

_TIME_TEXT = re.compile(
    r"(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"(?:[ T]([01]\d|2[0-4]):([0-5]\d)(?::([0-5]\d|60)(?:\.\d+)?)?(Z|[+-]\d\d:[0-5]\d)?)?",
    re.ASCII,
)
_REGULAR = r"^\d{4}-\d\d-\d\d[ T]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?$"
_REGULAR_UTC = _REGULAR.replace("$", "Z?$")
_OLDEST, _NEWEST = "1980-", "3"
"""Texts below and from there on sort apart from all recent times, and so are read at every sync, whatever they are."""
_DAY_S = 86_400
_OFFSET_MAX_S = 14 * 3_600
_EPOCH = date(1970, 1, 1).toordinal()


def looks_like_time(text: object) -> bool:
    """Whether ``text`` is a time as SQLite writes and reads it, its date first."""
    return isinstance(text, str) and _TIME_TEXT.fullmatch(text) is not None


_ZONED = "(substr({k}, -1) = 'Z' OR substr({k}, -6, 1) IN ('+', '-') AND substr({k}, -3, 1) = ':')"
_WIDTH = f"CASE WHEN length({{k}}) = 10 THEN {_DAY_S - 1} WHEN substr({{k}}, 17, 1) <> ':' THEN 59 ELSE 0 END"
_SECONDS = "CASE WHEN substr({k}, 5, 1) = '-' THEN CAST(strftime('%s', {k}) AS INTEGER) END"
"""The first second that a text may mean, or NULL. SQLite would also take 'now', '12:30' and Julian days for times."""
_DATE_GLOB = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_PLAIN = f"({{k}} GLOB '{_DATE_GLOB}[ T][0-9][0-9]:[0-9][0-9]:[0-9][0-9]*' AND substr({{k}}, 20) NOT GLOB '*[^0-9.Z]*')"
"""Whether it has seconds and no offset, so that the text itself can be compared."""


@dataclass(frozen=True, slots=True)
class TimeTextKey(Key):
    """Times as texts, each in the form ``YYYY-MM-DD[ HH:MM[:SS[.FFF]]][Z|±HH:MM]``."""

    kind: ClassVar[str] = "time"
    own: ClassVar[str] = "({k} >= '' AND {k} < x'')"
    others: ClassVar[tuple[Range, ...]] = SequenceTextKey.others

    shift_s: int = 0
    """The smallest offset from UTC of the zone of texts that carry none: then an hour that comes twice has its order."""

    def heights(self, values: Sequence[Any]) -> list[Height | None]:
        """The height of each; none for values that are no texts, and for texts that sort apart from all dates.

        Raises:
            TaskError: a text is no date, but could sort between dates and be missed.
        """
        fast = self._regular(values)
        if fast is not None:
            return fast
        return [self._height(value) if isinstance(value, str) else None for value in values]

    def _regular(self, values: Sequence[Any]) -> list[Height | None] | None:
        """The heights by column, where all texts have seconds and lie in one zone; else none."""
        if set(map(type, values)) - {str, type(None)}:
            return None
        texts = pa.array(values, pa.string())
        form = _REGULAR if self.shift_s else _REGULAR_UTC
        if not pc.all(pc.and_(pc.match_substring_regex(texts, form), pc.greater_equal(texts, _OLDEST))).as_py():
            return None
        plain = pc.replace_substring(pc.utf8_slice_codeunits(texts, 0, 19), "T", " ")
        try:
            moments = pc.cast(plain, pa.timestamp("s"))
        except pa.ArrowInvalid:
            return None
        heights: list[Height | None] = pc.subtract(pc.cast(moments, pa.int64()), self.shift_s).to_pylist()
        return heights

    def _height(self, text: str) -> Height | None:
        if text < _OLDEST:
            return None
        span = self._span(text)
        if span is None and text < _NEWEST:
            raise self.refuse(
                f"{text!r} is not of the form YYYY-MM-DD HH:MM:SS, so its place in the order of time is unknown",
                hint="fix these rows, leave them out by `where`, or choose another key or `mode: full`",
            )
        return None if span is None else span[1]

    def _span(self, text: str) -> tuple[int, int] | None:
        """The first and the last second that it may mean."""
        match = _TIME_TEXT.fullmatch(text)
        if match is None:
            return None
        year, month, day, hour, minute, second, zone = match.groups()
        # like SQLite's: the 31st of February is the 3rd of March
        days = date(max(int(year), 1), int(month), 1).toordinal() + int(day) - 1 - _EPOCH
        first = days * _DAY_S + int(hour or 0) * 3_600 + int(minute or 0) * 60 + int(second or 0)
        first -= self.shift_s if zone is None else _offset_s(zone)
        return first, first + (_DAY_S - 1 if hour is None else 59 if second is None else 0)

    def new(self, lower: Height) -> Range:
        """See ``Key``. The range is by the text, with room for any zone; within it the height decides."""
        assert isinstance(lower, int)
        values = (lower, _text(lower), _text(lower + self.shift_s))
        return Range(f"{{k}} < x'' AND {self._at_or_above()}", values, self._day(lower))

    def strange(self, lower: Height, start: Height | None) -> list[Range]:
        """See ``Key``. Also what sorts before all recent times: ``0001-01-01``, ``12/31/2026``."""
        assert isinstance(lower, int)
        # no bound may look like a number, or the column's affinity makes it one
        bound = min(_OLDEST, self._day(lower))
        kept = "" if start is None else f" AND {_SECONDS} IS NULL"
        return [*self.others, Range(f"{{k}} < ?{kept}", (bound,), "")]

    def hidden(self, lower: Height) -> Condition | None:
        """See ``Key``. Texts that do not begin like a date: ``20/06/2026`` sorts below ``2026-06-01``."""
        assert isinstance(lower, int)
        gaps = _gaps(self._day(lower))
        # so many ranges, because an index finds that nothing is in them without going through all its rows
        ranges = " OR ".join(f"{self.sql} >= ? AND {self.sql} < ?" for _ in gaps)
        values = [bound for gap in gaps for bound in gap]
        return (f"{self.sql} NOT GLOB '{_DATE_GLOB}*' AND ({ranges})", values) if gaps else None

    def _day(self, lower: int) -> str:
        return _text(lower - _OFFSET_MAX_S)[: len("2026-01-01")]

    def _at_or_above(self) -> str:
        """SQL that compares the height with three parameters: the number, and the texts in UTC and in the zone."""
        # strftime costs five times as much as all else, so it is left for the other texts
        plain = "replace(substr({k}, 1, 19), 'T', ' ')"
        return (
            f"CASE WHEN NOT {_PLAIN} "
            f"THEN coalesce({_SECONDS} + {_WIDTH} - {self._shift()}, 9e18) >= ? "
            f"WHEN substr({{k}}, -1) = 'Z' THEN {plain} >= ? ELSE {plain} >= ? END"
        )

    def _shift(self) -> str:
        return f"CASE WHEN {_ZONED} THEN 0 ELSE {self.shift_s} END"

    def greatest(self, first: Query, now_s: int) -> Height | None:
        """A height that is not in the future: the first second of the greatest text that is not."""
        past = _text(now_s - _OFFSET_MAX_S)[: len("2026-01-01")]
        condition = f"{self.own} AND ({{k}} < ? OR {_SECONDS} - {self._shift()} <= ?)".format(k=self.sql)
        found = first(condition, [past, now_s], "DESC")
        if found is None or self._height(found) is None:
            return None
        span = self._span(found)
        return None if span is None else min(span[0], now_s)

    def back(self, height: Height, lag_s: int, now_s: int) -> Height:  # noqa: ARG002 -- texts tell their unit
        """A lag before ``height``."""
        assert isinstance(height, int)
        return height - lag_s

    def parsed_start(self, start: object) -> Height:
        """The setting `start`: the first second that it may mean."""
        text = start.isoformat() if isinstance(start, date) else str(start)
        span = self._span(text)
        if span is None:
            raise UsageError(
                f"table {self.table!r}: `start: {start}` is no time",
                hint="write it as 2024-01-31 or 2024-01-31 12:00:00",
            )
        return span[0]

    def shown(self, height: Height) -> str:
        """For people, in UTC."""
        return _text(height) if isinstance(height, int) else str(height)


def _gaps(day: str) -> list[tuple[str, str]]:
    """Between which texts below ``day`` none lies that begins like a date since 1980; padded with spaces it would.

    Texts that begin with a year and a month are where they belong: without its zeros, a date sorts higher.
    """
    year, month = int(day[:4]), int(day[5:7])
    if day < _OLDEST:
        return []
    years = [f"{one:04}-" for one in range(int(_OLDEST[:-1]), year + 1)]
    months = [f"{years[-1]}{one:02}-" for one in range(1, month + 1)]
    last = "\U0010ffff"
    between = [(low + last, high) for starts in (years, months) for low, high in itertools.pairwise(starts)]
    return [*between, (years[-1], months[0]), (months[-1], f"{months[-1]}01")]


def _text(seconds: int) -> str:
    moment = datetime(1, 1, 1, tzinfo=UTC)
    lowest = -(719_162 * _DAY_S)
    return (moment + timedelta(seconds=max(seconds, lowest) - lowest)).strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")


def _offset_s(zone: str) -> int:
    if zone == "Z":
        return 0
    seconds = int(zone[1:3]) * 3_600 + int(zone[4:6]) * 60
    return -seconds if zone[0] == "-" else seconds
