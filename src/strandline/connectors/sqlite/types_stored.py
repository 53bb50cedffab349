"""Arrow types as SQLite stores them, without loss, and so that a person can ask for them in SQL.

The declared type decides SQLite's affinity, which changes values: a REAL column forgets the sign of zero, an INTEGER
column makes a double of a number that is too large. So floats and uint64 are declared without a type, which changes
nothing. Whatever a declared type does not tell is the column's note.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

from strandline.connectors.arrow.casts import digits
from strandline.connectors.arrow.json_text import bytes_of_hex, decode_json, encode_json, text_of
from strandline.connectors.arrow.widening import Fit
from strandline.connectors.sql import types as sql
from strandline.connectors.sqlite.dialect import SQLiteDialect
from strandline.lazy import pa, pc

__all__ = ["SQLiteTypes", "Stored", "fit"]

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
class Stored(sql.Stored):
    """See ``strandline.connectors.sql.types``. The SQL type is the declared one, empty where SQLite has to leave the values alone."""

    encode: Encode = field(kw_only=True)
    """Values that SQLite takes. Raises ``pyarrow.ArrowInvalid``: one has no place."""
    decode: Decode = field(kw_only=True)
    """The inverse of ``encode``, in the type ``arrow``."""


class SQLiteTypes(sql.SqlTypes[Stored]):
    """SQLite's types."""

    dialect = SQLiteDialect()
    no_unions = "SQLite's JSON has no type codes; send a struct with one column for each member"

    def simple(self) -> Mapping[int, Stored]:
        """See ``SqlTypes``."""
        return _simple()

    def json(self) -> Stored:
        """See ``SqlTypes``. A text, as it is."""
        return _plain("TEXT", pa.string())

    def decimal(self, kind: "pa.DataType") -> Stored:
        """Text with all digits of its scale: SQLite's own numbers would keep 15."""

        def encode(array: "pa.Array") -> Sequence[Any]:
            return digits(array).to_pylist()  # type: ignore[no-any-return]

        def decode(texts: Sequence[Any]) -> "pa.Array":
            array = pa.array(texts, pa.string())
            return array.cast(kind) if kind.scale >= 0 else array.cast(pa.decimal256(76, 0)).cast(kind)

        return Stored("TEXT", kind, note=f"decimal scale {kind.scale}", encode=encode, decode=decode)

    def uuid(self) -> Stored:
        """See ``SqlTypes``. A text, as people write it."""

        def encode(array: "pa.Array") -> Sequence[Any]:
            return text_of(array, where="uuid").to_pylist()  # type: ignore[no-any-return]

        def decode(texts: Sequence[Any]) -> "pa.Array":
            plain = bytes_of_hex(pc.replace_substring(pa.array(texts, pa.string()), "-", ""))
            return pa.ExtensionArray.from_storage(pa.uuid(), plain.cast(pa.binary(16)))

        return Stored("TEXT", pa.uuid(), note="uuid", encode=encode, decode=decode)

    def time(self, kind: "pa.DataType") -> Stored:
        """See ``SqlTypes``."""
        return _time(kind) if pa.types.is_time(kind) else _timestamp(kind)

    def nested(self, kind: "pa.DataType", where: str) -> Stored:
        """JSON. What cannot be read back is refused before the first row."""
        for at in range(kind.num_fields):
            inner = kind.field(at)
            self.of(inner, f"{where}.{inner.name}")
        stored = _json(kind)
        stored.decode(stored.encode(pa.nulls(1, kind)))
        return stored


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


@cache
def _simple() -> "dict[int, Stored]":
    integers = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()]
    as_they_are = {
        "TEXT": [pa.string(), pa.large_string(), pa.string_view()],
        "BLOB": [pa.binary(), pa.large_binary(), pa.binary_view()],
    }
    date = Stored(
        "DATE", pa.date32(), encode=_date_texts, decode=lambda texts: pa.array(texts, pa.string()).cast(pa.date32())
    )
    real = Stored("", pa.float64(), note=_FLOAT, encode=_floats, decode=_floats_back)
    return (
        {kind.id: _plain(sql, kind) for sql, kinds in as_they_are.items() for kind in kinds}
        | {kind.id: _plain("INTEGER", pa.int64()) for kind in integers}
        | {kind.id: real for kind in (pa.float16(), pa.float32(), pa.float64())}
        | {kind.id: date for kind in (pa.date32(), pa.date64())}
        | {
            pa.bool_().id: _plain("BOOLEAN", pa.int8()),
            pa.uint64().id: Stored("", pa.uint64(), note="uint64", encode=_unsigned, decode=_unsigned_back),
            pa.null().id: _plain("", pa.null(), note="null"),
            pa.binary(1).id: _plain("BLOB", pa.binary()),
            pa.month_day_nano_interval().id: _interval(),
        }
    )


def _plain(sql: str, arrow: "pa.DataType", *, note: str = "") -> Stored:
    return Stored(
        sql, arrow, note=note, encode=lambda array: array.to_pylist(), decode=lambda values: pa.array(values, arrow)
    )


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

    return Stored("TIMESTAMP", arrow, note=f"timestamp[{unit}{', UTC' if zoned else ''}]", encode=encode, decode=decode)


def _within(ticks: "pa.Array", first: int, end: int) -> bool:
    bounds = pc.min_max(ticks).as_py()
    return bounds["min"] is None or (first <= bounds["min"] and bounds["max"] < end)


def _time(kind: "pa.DataType") -> Stored:
    """Arrow reads no times from texts, but timestamps."""

    def decode(texts: Sequence[Any]) -> "pa.Array":
        moments = pc.binary_join_element_wise("1970-01-01", pa.array(texts, pa.string()), " ")
        ticks = moments.cast(pa.timestamp(kind.unit)).view(pa.int64())
        return (ticks.cast(pa.int32()) if pa.types.is_time32(kind) else ticks).view(kind)

    return Stored("TIME", kind, note=str(kind), encode=lambda array: array.cast(pa.string()).to_pylist(), decode=decode)


def _interval() -> Stored:
    parts = pa.struct([("months", pa.int32()), ("days", pa.int32()), ("nanoseconds", pa.int64())])
    json = _json(parts)

    def encode(array: "pa.Array") -> Sequence[Any]:
        rows = [None if one is None else dict(zip(parts.names, one, strict=True)) for one in array.to_pylist()]
        return json.encode(pa.array(rows, parts))

    def decode(texts: Sequence[Any]) -> "pa.Array":
        rows = [None if row is None else tuple(row.values()) for row in json.decode(texts).to_pylist()]
        return pa.array(rows, pa.month_day_nano_interval())

    return Stored("JSON", pa.month_day_nano_interval(), note="interval", encode=encode, decode=decode)


def _json(kind: "pa.DataType") -> Stored:
    def encode(array: "pa.Array") -> Sequence[Any]:
        return encode_json(array, where=str(kind)).to_pylist()  # type: ignore[no-any-return]

    def decode(texts: Sequence[Any]) -> "pa.Array":
        return decode_json(pa.array(texts, pa.string()), kind, where=str(kind))

    return Stored("JSON", kind, note=str(kind), encode=encode, decode=decode)
