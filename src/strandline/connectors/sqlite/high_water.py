"""The incremental key of an SQLite table: the *height* of a row, by which passes know what is new.

SQLite orders NULL < numbers < texts < blobs, whatever a column was declared as. The key has one class, numbers or
texts; a value of another class is treated like a NULL: read at every sync, and never a cursor. So is a time before 1980,
which is no time of change but how some programs write that there is none.

A height is what the cursor is made of: the greatest is the high-water mark. Of a number, and of a text that sorts, it is the value itself; of times in texts
see ``times``. What lies below the cursor is not read again, so a value may lie there only if it is older; one
that may not be is looked for before every pass (``hidden``), and fails the table.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from strandline.connectors.sql.key_times import OLDEST_S, UNITS, Form, unit_of
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
_RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


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
    form: Form | None = None
    """Of its values, if they are times; see ``key_times``."""

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

    def strange(self, lower: Height, start: Height | None) -> list["Range"]:  # noqa: ARG002 -- only times have others
        """Rows whose key has no height and is not NULL: apart from ``new`` and from each other.

        Args:
            lower: as of ``new``.
            start: the setting. What is smaller is left out, though it may have no height.
        """
        return list(self.others)

    def hidden(self, lower: Height) -> Condition | None:  # noqa: ARG002 -- of numbers there are none
        """Rows below ``lower`` that are not ``strange``, and yet need not be older. They are not of the right form."""
        return None

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
    per_s: int | None = None
    """The unit of the times so far; none while there is no height."""

    @property
    def is_sequence(self) -> bool:
        """See ``Key``."""
        return not self.is_time and self.form is None

    @property
    def _floor(self) -> int | None:
        return OLDEST_S * self.per_s if self.is_time and self.per_s else None

    def heights(self, values: Sequence[Any]) -> list[Height | None]:
        """The height of each; none for values that are no numbers, or no times."""
        floor = self._floor
        if set(map(type, values)) <= {int, float} and (floor is None or not values or min(values) >= floor):
            return list(values)
        return [
            value if isinstance(value, int | float) and (floor is None or value >= floor) else None for value in values
        ]

    def strange(self, lower: Height, start: Height | None) -> list[Range]:
        """See ``Key``. Also numbers that are no times of this unit: 0, dates as 20261231, seconds among milliseconds."""
        assert not isinstance(lower, str)
        floor = self._floor
        return [*self.others] if floor is None else [*self.others, Range("{k} < ?", (min(floor, lower),), start)]

    def greatest(self, first: Query, now_s: int) -> Height | None:
        """The greatest height that is not in the future."""
        if not self.is_time:
            return _up_to(self, first, now_s)
        for per_s in UNITS:
            found: Height | None = first(f"{self.sql} BETWEEN ? AND ?", [OLDEST_S * per_s, now_s * per_s], "DESC")
            if found is not None:
                return found
        return None

    def back(self, height: Height, lag_s: int, now_s: int) -> Height:  # noqa: ARG002 -- the unit tells itself
        """How far down to read again: a lag before ``height``, and always whole seconds."""
        assert not isinstance(height, str)
        if not self.is_time:
            return height
        per_s = unit_of(height)
        return int(height // per_s) * per_s - lag_s * per_s

    def parsed_start(self, start: object) -> Height:
        """The setting `start`."""
        if isinstance(start, int | float):
            return start
        raise UsageError(
            f"table {self.table!r}: `start: {start}` is no number, but {self.column!r} holds numbers",
            hint="write the number as it is stored, for example seconds since 1970",
        )


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
        return self.form is None

    def heights(self, values: Sequence[Any]) -> list[Height | None]:
        """The height of each; none for values that are no texts.

        Raises:
            TaskError: they cannot be in the order in which they were handed out.
        """
        texts = [value if isinstance(value, str) else None for value in values]
        odd = next((text for text in texts if text is not None and not self._is_id(text)), None)
        if odd is not None:
            raise self.refuse(
                f"the texts are random, no ids, or differ in length, as {odd!r}, so their order is not the order of change",
                hint="choose a key of numbers, of times as YYYY-MM-DD HH:MM:SS, or of ids that sort, like ULIDs; or leave "
                "these rows out by `where`",
            )
        return list(texts)

    def _is_id(self, text: str) -> bool:
        return len(text) == self.length and _ID.fullmatch(text) is not None and not _RANDOM.fullmatch(text)

    def hidden(self, lower: Height) -> Condition | None:
        """See ``Key``. 1000 sorts below 999."""
        return f"{self.own_sql} AND {self.sql} < ? AND length({self.sql}) <> ?", [lower, self.length]

    def greatest(self, first: Query, now_s: int) -> Height | None:
        """The greatest there is; of times, that is not in the future."""
        return _up_to(self, first, now_s)

    def back(self, height: Height, lag_s: int, now_s: int) -> Height:  # noqa: ARG002 -- likewise
        """The height itself."""
        return height

    def parsed_start(self, start: object) -> Height:
        """The setting `start`."""
        return str(start)


def _up_to(key: Key, first: Query, now_s: int) -> Height | None:
    """The greatest value; of times, up to the present."""
    if key.form is None:
        found: Height | None = first(key.own_sql, [], "DESC")
    else:
        found = first(f"{key.own_sql} AND {key.sql} <= ?", [key.form.ceiling(now_s)], "DESC")
    return found
