"""Which stored types hold every value of another. Pure; types as DuckDB spells them, or as Arrow knows them."""

import re
from enum import Enum

from strandline.lazy import pa

__all__ = ["EXACT_MAX", "Fit", "fit", "grown_from", "grows", "is_plain"]

EXACT_MAX = 2**53
"""Up to so much every whole number is a double."""


class Fit(Enum):
    """How a stored column stands to the wanted one."""

    SAME = "it holds every wanted value as it is"
    WIDEN = "it can become the wanted type without loss"
    BY_VALUE = "it can, unless it holds a whole number that no double is"
    EMPTY = "it holds nothing but nulls, so it can become anything"
    NOT = "values would be lost, or would mean something else"


_INTEGERS = {
    "TINYINT": (7, True),
    "SMALLINT": (15, True),
    "INTEGER": (31, True),
    "BIGINT": (63, True),
    "UTINYINT": (8, False),
    "USMALLINT": (16, False),
    "UINTEGER": (32, False),
    "UBIGINT": (64, False),
}
"""Bits of the largest value, and whether there are negative ones."""
_FLOATS = {"FLOAT": 24, "DOUBLE": 53}
"""Bits of the largest integer up to which all are exact."""
_TIMES = (
    ("DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS"),
    ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS"),
    ("TIME", "TIME_NS"),
)
"""From coarse to fine. A finer type has a smaller range: DuckDB refuses to convert what does not fit."""
_NULLS = "null"
"""The note of a column of Arrow's type null."""


def fit(stored: tuple[str, str], wanted: tuple[str, str]) -> Fit:
    """Compare two columns, each a SQL type and the note that says what the type does not."""
    if stored == wanted or wanted[1] == _NULLS:
        return Fit.SAME
    if stored[1] == _NULLS:
        return Fit.EMPTY
    if stored[1] or wanted[1]:
        return Fit.NOT
    if _holds(stored[0], wanted[0]):
        return Fit.SAME
    if _holds(wanted[0], stored[0]):
        return Fit.WIDEN
    return Fit.BY_VALUE if stored[0] in _INTEGERS and wanted[0] == "DOUBLE" else Fit.NOT


def grows(stored: "pa.DataType", wanted: "pa.DataType") -> bool:
    """Whether ``wanted`` is ``stored`` with more fields of structs, at any depth; those that are new are null."""
    if pa.types.is_struct(stored) and pa.types.is_struct(wanted):
        fields = {field.name: field.type for field in wanted}
        return all(field.name in fields and grows(field.type, fields[field.name]) for field in stored)
    if pa.types.is_list(stored) and pa.types.is_list(wanted):
        return grows(stored.value_type, wanted.value_type)
    return bool(stored.equals(wanted))


def is_plain(kind: "pa.DataType") -> bool:
    """Whether every value of a type has a text that says all of it."""
    is_ = pa.types
    moment = is_.is_timestamp(kind) and kind.tz is None
    return bool(
        is_.is_boolean(kind)
        or is_.is_integer(kind)
        or is_.is_floating(kind)
        or is_.is_decimal(kind)
        or is_.is_date(kind)
        or is_.is_time(kind)
        or moment
    )


def grown_from(stored: str, wanted: "pa.DataType") -> bool:
    """``grows``, where of the stored type only the text is known that Arrow writes of it."""
    return _rest(stored, wanted) == ""


def _rest(text: str, wanted: "pa.DataType") -> str | None:
    """What stands in ``text`` behind a type that can grow to ``wanted``; ``None``: there is none."""
    if pa.types.is_list(wanted):
        field = wanted.value_field
        opened = f"list<{field.name}: "
        rest = _rest(text.removeprefix(opened), field.type) if text.startswith(opened) else None
        return rest[1:] if rest is not None and rest.startswith(">") else None
    if not pa.types.is_struct(wanted):
        return text.removeprefix(str(wanted)) if text.startswith(str(wanted)) else None
    if not text.startswith("struct<"):
        return None
    text = text.removeprefix("struct<")
    for field in wanted:
        begun = text.removeprefix(", ")
        if begun.startswith(f"{field.name}: "):
            after = _rest(begun.removeprefix(f"{field.name}: "), field.type)
            text = text if after is None else after
    return text[1:] if text.startswith(">") else None


def _holds(wide: str, narrow: str) -> bool:
    """Whether ``wide`` has a place for every value of ``narrow`` that is just as good."""
    if wide == narrow:
        return True
    for order in _TIMES:
        if wide in order and narrow in order:
            return order.index(wide) > order.index(narrow)
    wide_digits, narrow_digits = _digits(wide), _digits(narrow)
    if wide_digits and narrow_digits:
        return wide_digits[0] >= narrow_digits[0] and wide_digits[1] >= narrow_digits[1]
    if narrow in _INTEGERS:
        bits, negative = _INTEGERS[narrow]
        if wide in _INTEGERS:
            wide_bits, wide_negative = _INTEGERS[wide]
            return wide_bits >= bits and (wide_negative or not negative)
        if wide in _FLOATS:
            return _FLOATS[wide] >= bits
        return wide_digits is not None and 10 ** wide_digits[0] >= 2**bits
    return narrow == "FLOAT" and wide == "DOUBLE"


def _digits(kind: str) -> tuple[int, int] | None:
    """Digits before and after the point of a decimal."""
    found = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
    return (int(found[1]) - int(found[2]), int(found[2])) if found else None
