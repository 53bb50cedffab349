"""Which stored types hold every value of another. Pure; types as DuckDB spells them."""

import re
from enum import Enum

__all__ = ["Fit", "fit"]


class Fit(Enum):
    """How a stored column stands to the wanted one."""

    SAME = "it holds every wanted value as it is"
    WIDEN = "it can become the wanted type without loss"
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
    ("TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS"),
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
    return Fit.WIDEN if _holds(wanted[0], stored[0]) else Fit.NOT


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
