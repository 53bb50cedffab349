"""Times that SQLite keeps as texts, and their one order, in whatever form they are written.

The height of a time is the last second, since 1970 in UTC, that its text may mean. So times with a `T` or a space, with
or without fractions, zones and seconds, and dates alone, can be compared, though their order as texts is another. What
is written after a moment has no smaller height, however it is written.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from strandline.errors import UsageError
from strandline.lazy import pa, pc
from strandline.sources._sqlite_heights import Height, Key, Query, Range, SequenceTextKey

__all__ = ["TimeTextKey", "looks_like_time"]

_TIME_TEXT = re.compile(
    r"(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"(?:[ T]([01]\d|2[0-4]):([0-5]\d)(?::([0-5]\d|60)(?:\.\d+)?)?(Z|[+-]\d\d:[0-5]\d)?)?",
    re.ASCII,
)
_REGULAR = r"^\d{4}-\d\d-\d\d[ T]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?$"
_REGULAR_UTC = _REGULAR.replace("$", "Z?$")
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
        if not pc.all(pc.match_substring_regex(texts, form)).as_py():
            return None
        plain = pc.replace_substring(pc.utf8_slice_codeunits(texts, 0, 19), "T", " ")
        try:
            moments = pc.cast(plain, pa.timestamp("s"))
        except pa.ArrowInvalid:
            return None
        heights: list[Height | None] = pc.subtract(pc.cast(moments, pa.int64()), self.shift_s).to_pylist()
        return heights

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

    def new(self, lower: Height) -> Range:
        """See ``Key``. The range is by the text, with room for any zone; within it the height decides."""
        assert isinstance(lower, int)
        values = (lower, _text(lower), _text(lower + self.shift_s))
        return Range(f"{{k}} < x'' AND {self._at_or_above()}", values, self._day(lower))

    def strange(self, lower: Height) -> list[Range]:
        """See ``Key``. Also texts that are no times and sort before all recent ones, as ``0000-00-00``, ``12/31/2026``."""
        assert isinstance(lower, int)
        # no bound may look like a number, or the column's affinity makes it one
        bound = min("1900-", self._day(lower))
        return [*self.others, Range(f"{{k}} < ? AND {_SECONDS} IS NULL", (bound,), "")]

    def _day(self, lower: int) -> str:
        return _text(lower - _OFFSET_MAX_S)[: len("2026-01-01")]

    def _at_or_above(self) -> str:
        """SQL that compares the height with three parameters: the number, and the texts in UTC and in the zone."""
        # strftime costs five times as much as all else, so it is left for texts without seconds or with an offset
        plain = "replace(substr({k}, 1, 19), 'T', ' ')"
        return (
            "CASE WHEN substr({k}, 17, 1) <> ':' OR substr({k}, -6, 1) IN ('+', '-') "
            f"THEN coalesce({_SECONDS} + {_WIDTH} - {self._shift()}, 9e18) >= ? "
            f"WHEN substr({{k}}, -1) = 'Z' THEN {plain} >= ? ELSE {plain} >= ? END"
        )

    def _shift(self) -> str:
        return f"CASE WHEN {_ZONED} THEN 0 ELSE {self.shift_s} END"

    def greatest(self, first: Query, now_s: int) -> Height | None:
        """A height that is not in the future: of the greatest text that is not."""
        past = _text(now_s - _OFFSET_MAX_S)[: len("2026-01-01")]
        condition = f"{self.own} AND ({{k}} < ? OR {_SECONDS} - {self._shift()} <= ?)".format(k=self.sql)
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
