"""The incremental key of an SQLite table: the *height* of a row, by which passes know what is new.

SQLite orders NULL < numbers < texts < blobs, whatever a column was declared as. The key has one class, numbers or
texts; a value of another class is treated like a NULL: read at every sync, and never a cursor.

A height is what the cursor is made of. Of a number, and of a text that sorts, it is the value itself; of times in texts
see ``_sqlite_times``.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from strandline.errors import TaskError, UsageError

__all__ = ["Condition", "Height", "Key", "NumberKey", "Query", "Range", "SequenceTextKey", "time_like"]

Height: TypeAlias = int | float | str
Condition: TypeAlias = tuple[str, list[Any]]
"""SQL, with the values to bind."""
Query: TypeAlias = Callable[[str, list[Any], str], Any]
"""``(condition, values, direction)``: the first key, ASC or DESC, of the rows that meet the condition, or ``None``."""

_TIME_NAME = re.compile(
    r"((^|_)(at|on|ts|[acm]?time|date|datetime|timestamp|epoch|unix)|[a-z](At|On|Time|Date|Ts|Timestamp)"
    r"|(modified|updated|created|changed|inserted|deleted|seen|login|expires|expiry|stamp)_?(at|on)?)(_?(s|sec|secs|seconds|ms|millis|us|micros|ns|nanos|utc|Ms|Utc))?$"
)
_ID = re.compile(r"[0-9A-Za-z_-]*")


def time_like(name: str, declared: str) -> bool:
    """Whether a column holds times, by its declared type or its name. A wrong yes costs re-reads, never rows."""
    return "DATE" in declared or "TIME" in declared or _TIME_NAME.search(name) is not None


@dataclass(frozen=True, slots=True)
class Range:
    """Rows in one range of the key's values, to be read in its order: the lower bound stands apart, to be moved up."""

    condition: str
    """SQL, with ``{k}`` for the key."""
    values: tuple[Any, ...] = ()
    lower: Any = None
    """The smallest value of the range; none where the range begins with the smallest of all, NULL excepted."""

    def whole(self, sql: str) -> Condition:
        """The condition of all its rows. ``sql`` is the key."""
        condition = self.condition.format(k=sql)
        return (
            (condition, [*self.values])
            if self.lower is None
            else (f"{sql} >= ? AND {condition}", [self.lower, *self.values])
        )


@dataclass(frozen=True, slots=True)
class Key(ABC):
    """What all kinds of keys share. Conditions speak of the column as ``sql``."""

    kind: ClassVar[str]
    own: ClassVar[str]
    """SQL, of the class that the key has."""
    others: ClassVar[tuple["Range", ...]]
    """The other classes."""

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

    def new(self, lower: Height) -> "Range":
        """Rows of the key's class at or above ``lower``."""
        return Range(f"{{k}} < {'x' if self.kind == 'text' else ''}''", (), lower)

    def strange(self, lower: Height) -> list["Range"]:  # noqa: ARG002 -- only times hide values below it
        """Rows whose key has no height and is not NULL: apart from ``new`` and from each other."""
        return list(self.others)

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
    others: ClassVar[tuple[Range, ...]] = (Range("1", (), ""),)

    is_time: bool = False

    @property
    def is_sequence(self) -> bool:
        """See ``Key``."""
        return not self.is_time

    def heights(self, values: Sequence[Any]) -> list[Height | None]:
        """The height of each; none for values that are no numbers."""
        if set(map(type, values)) <= {int, float}:
            return list(values)
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
    others: ClassVar[tuple[Range, ...]] = (Range("{k} < ''"), Range("1", (), b""))

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
