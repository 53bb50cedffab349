"""PostgreSQL's types as Arrow's. What ADBC reads right is read as it is; everything else is read as text or JSON.

- integers, floats, booleans, text, bytea, uuid, interval, json and jsonb: as themselves; oid as int64.
- numeric(p, s) of up to 76 digits: a decimal. Without a bound: a decimal with 18 digits behind the point, and an error where
  that cannot hold a value. With a larger bound: text, exact.
- money: a decimal with 2 digits behind the point, whatever its currency; an error where that has more.
- date, time, timestamp and timestamptz: exact to the microsecond, years before Christ included. What Arrow cannot hold
  (infinity, 24:00, years after 294246, NaN in a decimal, an interval of millions of hours) follows the table's
  `out_of_range`: an error, or null. Digits that a decimal has no place for are always an error.
- what `types` says of a column comes before all this: see ``types_asked``.
- arrays and composite types: JSON, since any array may have any number of dimensions. Lower bounds are not kept.
- enums, ranges, addresses, bits, XML, geometry and every other type: PostgreSQL's own text.
- domains: as the type that they restrict.
- text that is not UTF-8, which a server can hold and even send, is an error.
"""

import re
import struct
from functools import cache
from typing import Literal

from strandline.decimals import decimals
from strandline.errors import TaskError
from strandline.lazy import pa, pc

__all__ = [
    "FLOATS",
    "MONEY",
    "NUMBERS",
    "NUMERIC",
    "ORDERED",
    "TEXTS",
    "TIMES",
    "OutOfRange",
    "UnfitError",
    "convert",
    "expression",
    "field",
    "was_text",
]

OutOfRange = Literal["fail", "null"]

_OID, MONEY, _INTERVAL, NUMERIC, _JSONB = 26, 790, 1186, 1700, 3802
TIMES = {1184: "timestamptz", 1114: "timestamp", 1082: "date"}
"""Types, by oid, that the server's clock can bound."""
TEXTS = {19: "name", 25: "text", 1042: "char", 1043: "varchar"}
FLOATS = {700: "float4", 701: "float8"}
NUMBERS = {20: "int8", 21: "int2", 23: "int4", NUMERIC: "numeric"}
ORDERED = NUMBERS | TEXTS | TIMES | {2950: "uuid", 3220: "pg_lsn", 5069: "xid8"}
"""Types whose values can have an order of change: what is greater can be younger."""
_DIGITS_MAX = 76
_DIGITS_128 = 38
_SHOWN = 100
_LOWEST_US = -210_866_803_200_000_000
"""PostgreSQL's first timestamp, in 4714 BC. ADBC moves the epoch without a check, so what is too late wraps below it."""
_LOWEST_DAY = -2_440_588
_DAY_US = 86_400_000_000
_EPOCH_DAYS = 10_957
"""From Arrow's epoch to PostgreSQL's, 2000-01-01."""
_INTERVAL_HOURS = 2_562_046
"""Arrow counts nanoseconds, in 64 bits. ADBC gives up the whole reading at an interval with more hours than that."""
_INTERVAL_LEAST = "-178956970 years -8 mons"
"""PostgreSQL's own lower bound stands for such an interval; it is refused as well."""
_INTERVAL_LEAST_BYTES = struct.pack("=iiq", -(1 << 31), 0, 0)
_SPECIAL = ("NaN", "Infinity", "-Infinity")
"""Of a numeric."""
_FREE = (38, 18)
"""Digits of a numeric without a bound, and how many of them stand behind the point."""
_MONEY = (21, 2)
"""As many as 64 bits have where the currency has none behind the point, and two more."""


class UnfitError(TaskError):
    """A value that its column cannot hold; who knows the row says which it is."""

    def __init__(self, message: str, *, hint: str, index: int) -> None:
        super().__init__(message, hint=hint)
        self.index = index
        """Of the value in its array."""


@cache
def _natives() -> dict[int, "pa.DataType"]:
    """What ADBC reads as it is, by oid."""
    return {
        16: pa.bool_(),
        17: pa.binary(),
        19: pa.string(),
        20: pa.int64(),
        21: pa.int16(),
        23: pa.int32(),
        25: pa.string(),
        114: pa.json_(pa.string()),
        700: pa.float32(),
        701: pa.float64(),
        1042: pa.string(),
        1043: pa.string(),
        1082: pa.date32(),
        1083: pa.time64("us"),
        1114: pa.timestamp("us"),
        1184: pa.timestamp("us", tz="UTC"),
        1186: pa.month_day_nano_interval(),
        2950: pa.uuid(),
        3802: pa.json_(pa.string()),
    }


def field(name: str, type_oid: int, typmod: int, *, nullable: bool, is_nested: bool) -> "pa.Field":
    """A column as Strandline offers it. ``typmod`` is PostgreSQL's, which holds precision and scale."""
    # Arrow has one type for both; jsonb has no order of names, and each once, so that a copy may be jsonb, too
    metadata = {"postgresql.type": "jsonb"} if type_oid == _JSONB else None
    return pa.field(name, _arrow(type_oid, typmod, is_nested=is_nested), nullable, metadata)


def _arrow(type_oid: int, typmod: int, *, is_nested: bool) -> "pa.DataType":
    if is_nested:
        return pa.json_(pa.string())
    if type_oid == _OID:
        return pa.int64()
    if type_oid == NUMERIC:
        return _numeric(typmod)
    if type_oid == MONEY:
        return pa.decimal128(*_MONEY)
    return _natives().get(type_oid, pa.string())


def _numeric(typmod: int) -> "pa.DataType":
    if typmod < 0:
        return pa.decimal128(*_FREE)
    precision, scale = ((typmod - 4) >> 16) & 0xFFFF, ((typmod - 4) & 0x7FF ^ 0x400) - 0x400
    # a negative scale rounds to tens, one beyond the precision has zeros behind the point
    precision, scale = max(precision - min(scale, 0), scale), max(scale, 0)
    if precision > _DIGITS_MAX:
        return pa.string()
    return pa.decimal128(precision, scale) if precision <= _DIGITS_128 else pa.decimal256(precision, scale)


def was_text(type_oid: int, typmod: int) -> bool:
    """Whether older versions offered such a column as PostgreSQL's own text."""
    return type_oid == MONEY or (type_oid == NUMERIC and typmod < 0)


def expression(column: str, type_oid: int, *, is_nested: bool) -> str:
    """What to select so that ADBC reads the values right."""
    if is_nested:
        # not to_jsonb(), which makes -0 of a float 0, and drops a name that comes twice in a json
        return f"to_json({column})"
    if type_oid == _OID:
        return f"{column}::int8"
    if type_oid == MONEY:
        return f"{column}::numeric::text"  # with all digits that the currency has, by lc_monetary
    if type_oid == _INTERVAL:
        holds = f"date_part('hour', {column}) BETWEEN -{_INTERVAL_HOURS} AND {_INTERVAL_HOURS}"
        return f"CASE WHEN {holds} OR {column} IS NULL THEN {column} ELSE interval '{_INTERVAL_LEAST}' END"
    # a numeric, too: ADBC needs eight times as long for its digits (0.8 µs) as the server for their text
    return column if type_oid in _natives() else f"{column}::text"


def convert(
    array: "pa.Array", wanted: "pa.Field", where: str, out_of_range: Literal[OutOfRange, "key"] = "fail"
) -> "pa.Array":
    """What ADBC has read, as exactly ``wanted.type``. A ``key`` fails, whatever the spec says of the rest.

    Raises:
        TaskError: a value is no text; or it cannot be held (``UnfitError``), and is not to become null.
    """
    kind = wanted.type
    storage = array.storage if isinstance(array, pa.ExtensionArray) and array.type != kind else array
    if pa.types.is_decimal(kind):
        storage = _kept(storage, pc.is_in(storage, pa.array(_SPECIAL)), where, out_of_range)
    elif pa.types.is_temporal(storage.type):
        storage = _kept(storage, _beyond(storage), where, out_of_range)
    if pa.types.is_string(storage.type):
        try:
            storage.validate(full=True)
        except pa.ArrowInvalid as error:
            raise TaskError(
                f"{where}: a value cannot be read as {kind}: {error}",
                hint="fix the value at the source, or leave the column out by `columns`",
            ) from error
    return storage if storage.type == kind else _cast(storage, kind, where)


def _cast(values: "pa.Array", kind: "pa.DataType", where: str) -> "pa.Array":
    try:
        return _as(values, kind)
    except pa.ArrowInvalid as error:
        index = next(at for at in range(len(values)) if not _is_held(values.slice(at, 1), kind))
        value = str(values[index].as_py())
        column = where.rpartition(".")[2]
        raise UnfitError(
            f"{where}: the value {value[:_SHOWN]} does not fit {kind}, its type here",
            hint=f"say in `types` what the column holds, {_remedy(column, value, kind)}; where rows of it are stored already, "
            "--full-refresh reads them again",
            index=index,
        ) from error


def _as(values: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    if pa.types.is_decimal(kind) and pa.types.is_string(values.type):
        return decimals(values, kind)
    return pc.cast(values, kind)


def _is_held(values: "pa.Array", kind: "pa.DataType") -> bool:
    try:
        _as(values, kind)
    except pa.ArrowInvalid:
        return False
    return True


def _remedy(column: str, value: str, kind: "pa.DataType") -> str:
    """Types that hold a value, as they are written in a spec."""
    digits = re.fullmatch(r"-?0*(\d*)\.?(\d*)", value) if pa.types.is_decimal(kind) else None
    scale = max(len(digits[2]), min(kind.scale, _DIGITS_128 - len(digits[1]))) if digits is not None else 0
    if digits is not None and len(digits[1]) + scale <= _DIGITS_128:
        return f'`{column}: "decimal({_DIGITS_128}, {scale})"`, or `{column}: string`, which holds everything'
    return f"`{column}: string`, which holds everything"


def _beyond(values: "pa.Array") -> "pa.Array":
    kind = values.type
    if pa.types.is_timestamp(kind):
        return pc.less(values.view(pa.int64()), _LOWEST_US)
    if pa.types.is_date(kind):
        return pc.less(values.view(pa.int32()), _LOWEST_DAY)
    if pa.types.is_time(kind):
        return pc.greater_equal(values.view(pa.int64()), _DAY_US)
    raw = pa.Array.from_buffers(pa.binary(16), len(values), values.buffers(), values.null_count, values.offset)
    return pc.equal(raw, pa.scalar(_INTERVAL_LEAST_BYTES, pa.binary(16)))


def _shown(values: "pa.Array") -> str:
    """The first of ``values``, which are all beyond, as PostgreSQL has it."""
    kind = values.type
    if pa.types.is_string(kind):
        return str(values[0].as_py())
    if pa.types.is_time(kind):
        return "24:00:00"
    if pa.types.is_interval(kind):
        return f"an interval of more than {_INTERVAL_HOURS} hours"
    is_day = pa.types.is_date(kind)
    raw = values.view(pa.int32() if is_day else pa.int64())[0].as_py()
    # PostgreSQL's infinities are the last and the first number; ADBC has moved both, the last one past the end
    first = _EPOCH_DAYS - (1 << 31) if is_day else _EPOCH_DAYS * _DAY_US - (1 << 63)
    return {-1: "infinity", 0: "-infinity"}.get(raw - first, "a time after the year 294246")


def _kept(values: "pa.Array", beyond: "pa.Array", where: str, out_of_range: Literal[OutOfRange, "key"]) -> "pa.Array":
    """Without the values that are beyond what the type can hold."""
    count = pc.sum(beyond).as_py()
    if not count:
        return values
    if out_of_range != "null":
        column = where.rpartition(".")[2]
        number = f"; or `types: {{{column}: string}}` keeps them, and so does double" * pa.types.is_string(values.type)
        fix = f"`out_of_range: null` reads them as NULL{number}; or leave the column out by `columns`"
        if out_of_range == "key":
            fix = "a primary key cannot be NULL, so `out_of_range` does not help: fix the row at the source, or name another `primary_key`"
        raise UnfitError(
            f"{where}: {count} value{'s' if count > 1 else ''} cannot be held by the column's type ("
            f"{_shown(values.filter(beyond))})",
            hint=fix,
            index=pc.index(beyond, value=True).as_py(),
        )
    return pc.if_else(beyond, pa.scalar(None, values.type), values)
