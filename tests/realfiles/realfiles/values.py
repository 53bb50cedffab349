"""Whether a value that was read is the one that stands in the file: numbers by value, times by moment, text as it is."""

import json
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import NamedTuple

import pyarrow as pa

_EPOCH = date(1970, 1, 1)
_EXACT = Context(prec=1_000)
_SECOND_NS, _DAY_NS = 10**9, 86_400 * 10**9
_TIME = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d{1,9})0*)?)?")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ]([\d:.]+) *(Z|UTC|[+-]\d\d(?::?\d\d)?)?)?")
_WORDS = {True: ("true", "t", "1", "yes", "y"), False: ("false", "f", "0", "no", "n")}


class Moment(NamedTuple):
    """In nanoseconds since 1970; without a zone as if it were UTC."""

    ns: int

    def __str__(self):
        seconds, rest = divmod(self.ns, _SECOND_NS)
        return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}.{rest:09}"


class Rows(NamedTuple):
    """What a reader makes of a file."""

    names: list
    values: list
    """Tuples, one for each row."""


def rows_of(table):
    """The rows of an Arrow table."""
    columns = [_column(table.column(at)) for at in range(table.num_columns)]
    return Rows(list(table.column_names), list(zip(*columns, strict=True)) if columns else [()] * table.num_rows)


def _column(column):
    if pa.types.is_timestamp(column.type):
        factor = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[column.type.unit]
        return [None if value is None else Moment(value * factor) for value in column.cast(pa.int64()).to_pylist()]
    return column.to_pylist()


def _moment(text):
    """In nanoseconds, or ``None`` where the text is no moment or day."""
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        return None
    day, clock, zone = found.groups()
    of_day = _of_day(clock) if clock else 0
    if of_day is None:
        return None
    shift = 0
    if zone and zone not in {"Z", "UTC"}:
        minutes = int(zone[1:3]) * 60 + int(zone[-2:] if len(zone) > 3 else 0)
        shift = minutes * 60 * _SECOND_NS * (-1 if zone[0] == "-" else 1)
    return (date.fromisoformat(day) - _EPOCH).days * _DAY_NS + of_day - shift


def _of_day(text):
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    hours, minutes, seconds, rest = found.groups()
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds or 0)) * _SECOND_NS + int((rest or "").ljust(9, "0"))


def _number(value):
    if isinstance(value, float):
        return Decimal(repr(value))
    return Decimal(value)


def _same_number(value, text):
    text = text.strip()
    if isinstance(value, float) and value != value:  # noqa: PLR0124 nan is the only one
        return text.lower() in {"nan", "-nan", "+nan"}
    for one in (text, text.replace(",", ".") if text.count(",") == 1 else text):
        try:
            if Decimal(one) == _number(value):
                return True
        except InvalidOperation:
            continue
    return False


def same_as_text(value, text):
    """Whether ``value`` is what the text of a CSV cell says."""
    match value:
        case None:
            return text == ""
        case bool():
            return text.strip().lower() in _WORDS[value]
        case str():
            return value == text
        case bytes():
            return value == text.encode()
        case int() | float() | Decimal():
            return _same_number(value, text)
        case Moment():
            return _moment(text) == value.ns
        case date():
            return _moment(text) == (value - _EPOCH).days * _DAY_NS
        case time():
            return _of_day(text) == _of_day(value.isoformat())
    return False


def same_as_json(value, raw):
    """Whether ``value`` is ``raw``, which Python's reader made of JSON with numbers as decimals."""
    if value is None or raw is None:
        return value is None and raw in (None, {})
    if isinstance(value, str) and not isinstance(raw, str):
        return _parsed(value) == raw and type(_parsed(value)) is type(raw)
    if isinstance(raw, bool) or isinstance(value, bool):
        return value is raw
    if isinstance(raw, dict):
        return _same_object(value, raw)
    if isinstance(raw, list):
        same_size = isinstance(value, list) and len(value) == len(raw)
        return same_size and all(map(same_as_json, value, raw))
    if isinstance(raw, str):
        return same_as_text(value, raw)
    return isinstance(value, int | float | Decimal) and _number(value) == raw


def _same_object(value, raw):
    if isinstance(value, list):
        value = dict(value)
    if not isinstance(value, dict) or raw.keys() - value.keys():
        return False
    return all(same_as_json(one, raw.get(name)) for name, one in value.items())


def _parsed(text):
    try:
        return json.loads(text, parse_int=Decimal, parse_float=Decimal)
    except ValueError:
        return None


def same(value, other):
    """Whether two readers of typed values say the same."""
    if isinstance(value, list | tuple) and isinstance(other, list | tuple) and not isinstance(value, Moment):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(same(value[name], other[name]) for name in value)
    if value == other or (value != value and other != other):  # noqa: PLR0124 nan is the only one
        return True
    numbers = isinstance(value, int | float | Decimal) and isinstance(other, int | float | Decimal)
    return numbers and _number(value) == _number(other)


def in_order(rows):
    """Rows in an order that depends on nothing but what their cells say, so that text and what was read of it go together."""
    return sorted(rows, key=lambda row: ([_said(one) for one in row], [str(one) for one in row]))


def _said(value):
    """A cell, or the text of one: equal for all ways to write the same number, moment or word."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case str():
            return _said_by(value)
        case Moment():
            return f"@{value.ns}"
        case date():
            return f"@{(value - _EPOCH).days * _DAY_NS}"
        case dict():
            inside = {name: _said(one) for name, one in value.items()}
            return f"{{{', '.join(f'{name}: {inside[name]}' for name in sorted(inside) if inside[name])}}}"
        case list() | tuple():
            return f"[{', '.join(map(_said, value))}]"
        case int() | float() | Decimal():
            number = _number(value)
            return str(number.normalize(_EXACT) + 0) if number.is_finite() else str(number).lower()
    return str(value)


def _said_by(text):
    stripped = text.strip()
    if stripped.lower() in {"true", "false"}:
        return stripped.lower()
    if stripped.startswith(("{", "[")) and (parsed := _parsed(stripped)) is not None:
        return _said(parsed)
    if (moment := _moment(text)) is not None:
        return f"@{moment}"
    try:
        return _said(Decimal(stripped))
    except InvalidOperation:
        return text
