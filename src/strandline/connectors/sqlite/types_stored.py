"""Arrow types as SQLite stores them, without loss, and so that a person can ask for them in SQL.

The declared type decides SQLite's affinity, which changes values: a REAL column forgets the sign of zero, an INTEGER
column makes a double of a number that is too large. So floats and uint64 are declared without a type, which changes
nothing. Whatever a declared type does not tell is the column's note.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeAlias

from strandline.connectors.arrow.casts import digits
from strandline.connectors.arrow.json_text import bytes_of_hex, decode_json, encode_json, text_of
from strandline.connectors.arrow.kinds import UNREADABLE, extension_of, family_of
from strandline.connectors.arrow.widening import Fit
from strandline.errors import TaskError
from strandline.lazy import pa, pc

__all__ = ["TYPES_REFUSED", "Stored", "fit", "stored_type"]

_UNIONS = "SQLite's JSON has no type codes; send a struct with one column for each member"
TYPES_REFUSED = {
    "sparse_union": _UNIONS,
    "dense_union": _UNIONS,
    **UNREADABLE,
}
"""Families of Arrow types that cannot be stored, with the reason."""

_NAN = "NaN"
_FLOAT = "float"
_INT64_MAX = 2**63 - 1
_UINT64_DIGITS = 20
_YEAR_0_S, _YEAR_10000_S = -62_167_219_200, 253_402_300_800
_DAY_S = 86_400
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

Encode: TypeAlias = "Callable[[pa.Array], Sequence[Any]]"
Decode: TypeAlias = "Callable[[Sequence[Any]], pa.Array]"


@dataclass(frozen=True, slots=True)
class Stored:
    """How an Arrow type is kept."""

    sql: str
    """The declared type; empty where SQLite has to keep its hands off the values."""
    arrow: "pa.DataType"
    """What ``encode`` is given and ``decode`` gives."""
    encode: Encode
    """Values that SQLite takes. Raises ``pyarrow.ArrowInvalid``: one has no place."""
    decode: Decode
    note: str = ""
    """What the declared type alone does not tell, so that a change is noticed."""
    read: ClassVar[str] = ""
    has_equality: ClassVar[bool] = True


def stored_type(field: "pa.Field", *, where: str) -> Stored:
    """How the values of ``field`` are stored.

    Raises:
        TaskError: they cannot be.
    """
    kind = field.type
    extension = extension_of(field)
    if extension == "uuid":
        return _uuid()
    if extension:
        return _plain("TEXT", pa.string())
    return _stored(kind, where)


def fit(stored: tuple[str, str], wanted: tuple[str, str]) -> Fit:
    """Compare two columns, each a declared type and the note that says what it does not."""
    if wanted[1] == "null":
        return Fit.SAME
    if stored[1] == "null":
        return Fit.EMPTY
    if stored == ("INTEGER", "") and wanted == ("", _FLOAT):
        return Fit.BY_VALUE
    if stored[1] != wanted[1]:
        return Fit.NOT
    return Fit.SAME if _affinity(stored[0]) == _affinity(wanted[0]) else Fit.NOT


def _affinity(declared: str) -> str:
    """What makes two declared types one: SQLite's affinity, but for NUMERIC, which names none of our types."""
    declared = declared.upper()
    if "INT" in declared:
        return "INTEGER"
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    return "BLOB" if "BLOB" in declared else declared


def _stored(kind: "pa.DataType", where: str) -> Stored:
    types = pa.types
    simple = _simple().get(kind.id)
    if simple is not None:
        return simple
    if isinstance(kind, pa.BaseExtensionType):
        return _uuid() if kind.extension_name == "arrow.uuid" else _stored(kind.storage_type, where)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _stored(kind.value_type, where)
    if types.is_nested(kind) and not types.is_union(kind):
        return _nested(kind, where)
    if types.is_decimal(kind):
        return _decimal(kind)
    if types.is_timestamp(kind):
        return _timestamp(kind)
    if types.is_time(kind):
        return _time(kind)
    if types.is_duration(kind):
        return _plain("INTEGER", pa.int64(), note=str(kind))
    if types.is_fixed_size_binary(kind):
        return _plain("BLOB", kind)
    family = family_of(kind)
    raise TaskError(f"{where}: {family} cannot be stored in SQLite", hint=TYPES_REFUSED.get(family, ""))


@cache
def _simple() -> "dict[int, Stored]":
    integers = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()]
    as_they_are = {
        "TEXT": [pa.string(), pa.large_string(), pa.string_view()],
        "BLOB": [pa.binary(), pa.large_binary(), pa.binary_view()],
    }
    date = Stored("DATE", pa.date32(), _date_texts, lambda texts: pa.array(texts, pa.string()).cast(pa.date32()))
    real = Stored("", pa.float64(), _floats, _floats_back, _FLOAT)
    return (
        {kind.id: _plain(sql, kind) for sql, kinds in as_they_are.items() for kind in kinds}
        | {kind.id: _plain("INTEGER", pa.int64()) for kind in integers}
        | {kind.id: real for kind in (pa.float16(), pa.float32(), pa.float64())}
        | {kind.id: date for kind in (pa.date32(), pa.date64())}
        | {
            pa.bool_().id: _plain("BOOLEAN", pa.int8()),
            pa.uint64().id: Stored("", pa.uint64(), _unsigned, _unsigned_back, "uint64"),
            pa.null().id: _plain("", pa.null(), note="null"),
            pa.month_day_nano_interval().id: _interval(),
        }
    )


def _plain(sql: str, arrow: "pa.DataType", *, note: str = "") -> Stored:
    return Stored(sql, arrow, lambda array: array.to_pylist(), lambda values: pa.array(values, arrow), note)


def _out_of_range(what: str) -> Exception:
    error: Exception = pa.ArrowInvalid(f"{what} lies outside of the years 0 to 9999, which are all that SQLite knows")
    return error


# numbers -------------------------------------------------------------------------------------------------------------


def _floats(array: "pa.Array") -> Sequence[Any]:
    """NaN is a text, since SQLite makes NULL of it."""
    values: list[Any] = array.to_pylist()
    if not pc.any(pc.is_nan(array)).as_py():
        return values
    return [_NAN if value is not None and value != value else value for value in values]  # noqa: PLR0124 -- NaN alone


def _floats_back(values: Sequence[Any]) -> "pa.Array":
    return pa.array([float(value) if isinstance(value, str) else value for value in values], pa.float64())


def _unsigned(array: "pa.Array") -> Sequence[Any]:
    """An integer; where SQLite has none so large, a text of 20 digits. Texts come after numbers, so the order is kept."""
    values: list[int | None] = array.to_pylist()
    if not pc.any(pc.greater(array, pa.scalar(_INT64_MAX, pa.uint64()))).as_py():
        return values
    return [f"{one:0{_UINT64_DIGITS}}" if one is not None and one > _INT64_MAX else one for one in values]


def _unsigned_back(values: Sequence[Any]) -> "pa.Array":
    return pa.array([int(value) if isinstance(value, str) else value for value in values], pa.uint64())


def _decimal(kind: "pa.DataType") -> Stored:
    """Text with all digits of its scale: SQLite's own numbers would keep 15."""

    def encode(array: "pa.Array") -> Sequence[Any]:
        return digits(array).to_pylist()  # type: ignore[no-any-return]

    def decode(texts: Sequence[Any]) -> "pa.Array":
        array = pa.array(texts, pa.string())
        if kind.scale >= 0:
            return array.cast(kind)
        return array.cast(pa.decimal256(76, 0)).cast(kind)

    return Stored("TEXT", kind, encode, decode, f"decimal scale {kind.scale}")


# times ---------------------------------------------------------------------------------------------------------------


def _date_texts(array: "pa.Array") -> Sequence[Any]:
    days = array.view(pa.int32())
    if not _within(days, _YEAR_0_S // _DAY_S, _YEAR_10000_S // _DAY_S):
        raise _out_of_range("a date")
    return array.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]


def _timestamp(kind: "pa.DataType") -> Stored:
    """The form in which SQLite's own functions give and take times, with as many digits as the unit has; in UTC."""
    unit, zoned = kind.unit, kind.tz is not None
    arrow = pa.timestamp(unit, "UTC") if zoned else kind

    def encode(array: "pa.Array") -> Sequence[Any]:
        ticks = array.view(pa.int64())
        first, last = _YEAR_0_S * _PER_SECOND[unit], _YEAR_10000_S * _PER_SECOND[unit]
        # Arrow does not read the first second that nanoseconds can hold
        if not _within(ticks, max(first, -(2**63) + _PER_SECOND[unit]), min(last, 2**63)):
            raise _out_of_range("a time")
        texts = ticks.view(pa.timestamp(unit)).cast(pa.string())
        if zoned:
            texts = pc.binary_join_element_wise(texts, "Z", "")
        return texts.to_pylist()  # type: ignore[no-any-return]

    def decode(texts: Sequence[Any]) -> "pa.Array":
        return pa.array(texts, pa.string()).cast(arrow)

    return Stored("TIMESTAMP", arrow, encode, decode, f"timestamp[{unit}{', UTC' if zoned else ''}]")


def _within(ticks: "pa.Array", first: int, end: int) -> bool:
    bounds = pc.min_max(ticks).as_py()
    return bounds["min"] is None or (first <= bounds["min"] and bounds["max"] < end)


def _time(kind: "pa.DataType") -> Stored:
    """Arrow reads no times from texts, but timestamps."""

    def decode(texts: Sequence[Any]) -> "pa.Array":
        moments = pc.binary_join_element_wise("1970-01-01", pa.array(texts, pa.string()), " ")
        ticks = moments.cast(pa.timestamp(kind.unit)).view(pa.int64())
        return (ticks.cast(pa.int32()) if pa.types.is_time32(kind) else ticks).view(kind)

    return Stored("TIME", kind, lambda array: array.cast(pa.string()).to_pylist(), decode, str(kind))


def _interval() -> Stored:
    parts = pa.struct([("months", pa.int32()), ("days", pa.int32()), ("nanoseconds", pa.int64())])
    json = _json(parts)

    def encode(array: "pa.Array") -> Sequence[Any]:
        rows = [None if one is None else dict(zip(parts.names, one, strict=True)) for one in array.to_pylist()]
        return json.encode(pa.array(rows, parts))

    def decode(texts: Sequence[Any]) -> "pa.Array":
        rows = [None if row is None else tuple(row.values()) for row in json.decode(texts).to_pylist()]
        return pa.array(rows, pa.month_day_nano_interval())

    return Stored("JSON", pa.month_day_nano_interval(), encode, decode, "interval")


# texts ---------------------------------------------------------------------------------------------------------------


def _uuid() -> Stored:
    def encode(array: "pa.Array") -> Sequence[Any]:
        return text_of(array, where="uuid").to_pylist()  # type: ignore[no-any-return]

    def decode(texts: Sequence[Any]) -> "pa.Array":
        plain = bytes_of_hex(pc.replace_substring(pa.array(texts, pa.string()), "-", ""))
        return pa.ExtensionArray.from_storage(pa.uuid(), plain.cast(pa.binary(16)))

    return Stored("TEXT", pa.uuid(), encode, decode, "uuid")


def _nested(kind: "pa.DataType", where: str) -> Stored:
    """JSON. What cannot be read back is refused before the first row."""
    for at in range(kind.num_fields):
        inner = kind.field(at)
        stored_type(inner, where=f"{where}.{inner.name}")
    stored = _json(kind)
    stored.decode(stored.encode(pa.nulls(1, kind)))
    return stored


def _json(kind: "pa.DataType") -> Stored:
    def encode(array: "pa.Array") -> Sequence[Any]:
        return encode_json(array, where=str(kind)).to_pylist()  # type: ignore[no-any-return]

    def decode(texts: Sequence[Any]) -> "pa.Array":
        return decode_json(pa.array(texts, pa.string()), kind, where=str(kind))

    return Stored("JSON", kind, encode, decode, str(kind))
