"""The grammar of a spec's values: durations, sizes and types of columns, the same for every connector."""

import math
import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from strandline.lazy import pa

__all__ = ["Duration", "Seconds", "Size", "duration_s", "lasting", "parse_duration", "parse_size", "parse_type"]

_PART = r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h|d)"
_DURATION = re.compile(f"(?:{_PART})+")
_UNITS_S = {"ns": "1e-9", "us": "1e-6", "µs": "1e-6", "ms": "1e-3", "s": "1", "m": "60", "h": "3600", "d": "86400"}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?(?:([kKMGT])(i?))?B?")
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), *(?:tz=)?([\w+:/-]+)\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)?\(([0-9]{1,3}), *([0-9]{1,3})\)")
_NESTED = re.compile(r"(list|large_list|struct|map)<(.+)>", re.DOTALL)
_DEPTH_MAX = 32


def parse_duration(value: object) -> timedelta:
    """A duration as it stands in a spec: ``30s``, ``1h30m``, ``500ms``, ``2d``, or ``0`` for none.

    Raises:
        ValueError: it is none of these. A number without a unit is not, for nobody could tell which was meant.
    """
    if isinstance(value, timedelta):
        return value
    text = str(value).strip()
    if text == "0":
        return timedelta(0)
    if _DURATION.fullmatch(text):
        try:
            seconds = sum(Decimal(amount) * Decimal(_UNITS_S[unit]) for amount, unit in re.findall(_PART, text))
            return timedelta(microseconds=math.ceil(seconds * 1_000_000))
        except OverflowError:
            pass
    raise ValueError(f"{text[:100]!r} is not a duration such as 30s, 5m, 1h30m or 7d")


def duration_s(duration: timedelta) -> int:
    """Its length in whole seconds, rounded up: a look-back that was shorter than asked for would lose rows."""
    return -(-duration // timedelta(seconds=1))


def _seconds(value: object) -> object:
    return parse_duration(value).total_seconds() if isinstance(value, str) else value


_WRITTEN = {"type": "string", "pattern": rf"^\s*(0|({_PART})+)\s*$|\$\{{[^}}]*\}}", "examples": ["30s", "1h30m", "7d"]}

Duration: TypeAlias = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(lambda duration: f"{duration_s(duration)}s", return_type=str),
    WithJsonSchema(_WRITTEN),
]
"""A length of time, in a spec written as ``30s``, ``1h30m`` or ``7d``; ``0`` is none."""
Seconds: TypeAlias = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _WRITTEN]}),
]
"""A length of time, in a spec written as ``20s``, and never none. In Python: seconds."""


def lasting(text: str, description: str) -> Any:
    """A field with this ``Duration`` as its default, which a schema shows as it is written, and not as ISO 8601 has it."""
    return Field(default=parse_duration(text), description=description, json_schema_extra={"default": text})


def parse_size(value: object) -> int:
    """Bytes as they stand in a spec: a number, ``16MiB``, ``64 kB``.

    Raises:
        ValueError: it is none of these, or no whole number of bytes.
    """
    if found := _SIZE.fullmatch(str(value).strip()):
        number, prefix, binary = found.groups()
        size = Decimal(number) * (1024 if binary else 1000) ** _POWERS.get(prefix, 0)
        if size == int(size):
            return int(size)
    raise ValueError(f"{str(value)[:100]!r} is not a size such as 16MiB, 64 kB or 1048576")


Size: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(ge=1),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "examples": ["16MiB", "64 kB"]}]}),
]
"""Bytes, in a spec written as ``16MiB`` or as a number; at least one."""


def parse_type(text: str) -> "pa.DataType":
    """The type of a column, written as Arrow writes it, or shorter: ``decimal(10, 2)``, ``list<int64>``, ``timestamp``.

    ``timestamp`` alone is ``timestamp[us, UTC]``.

    Raises:
        ValueError: it is no type.
    """
    try:
        if text.count("<") <= _DEPTH_MAX:
            return _type(text.strip())
    except ValueError:
        pass
    raise ValueError(f"{text[:100]!r} is not a type")


def _type(text: str) -> "pa.DataType":
    if zoned := _ZONED.fullmatch(text):
        return pa.timestamp(zoned[1], tz=zoned[2])
    if decimal := _DECIMAL.fullmatch(text):
        return getattr(pa, f"decimal{decimal[1] or 128}")(int(decimal[2]), int(decimal[3]))
    if nested := _NESTED.fullmatch(text):
        kind, parts = nested[1], list(_parts(nested[2]))
        if kind == "struct":
            return pa.struct([(name, _type(of)) for name, of in map(_named, parts)])
        if kind == "map":
            key, value = parts
            return pa.map_(_type(key), _type(value))
        (item,) = parts
        return (pa.list_ if kind == "list" else pa.large_list)(_type(item.removeprefix("item:").strip()))
    return pa.timestamp("us", tz="UTC") if text == "timestamp" else pa.type_for_alias(text)


def _named(field: str) -> tuple[str, str]:
    name, colon, of = field.partition(":")
    if not colon or not name.strip():
        raise ValueError(field)
    return name.strip(), of.strip()


def _parts(text: str) -> Iterator[str]:
    """What stands between the commas that are inside no bracket."""
    depth, start = 0, 0
    for at, character in enumerate(text):
        depth += (character in "<([") - (character in ">)]")
        if depth < 0:
            raise ValueError(text)
        if character == "," and not depth:
            yield text[start:at].strip()
            start = at + 1
    yield text[start:].strip()
