"""Arrow types as DuckDB stores them, without loss. One table: everything else is cast by Arrow, safely, to and fro.

DuckDB's own reading of an Arrow type may lose something (a duration's nanoseconds, the time in a date64), so a batch is
cast to ``Stored.arrow`` first, which DuckDB takes as it is, and a read is cast back to the type of the table.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from strandline.connectors.arrow.kinds import UNREADABLE, extension_of, family_of
from strandline.errors import TaskError
from strandline.lazy import pa

__all__ = ["TYPES_REFUSED", "Stored", "stored_type"]

_AS_TEXT = "send the whole column as text; for files: `types: {COLUMN: string}`"
TYPES_REFUSED = {
    "sparse_union": "DuckDB's unions have no type codes; send a struct with one column for each member",
    "dense_union": "DuckDB's unions have no type codes; send a struct with one column for each member",
    **UNREADABLE,
}
"""Families of Arrow types that cannot be stored, with the reason."""

_DECIMAL_DIGITS_MAX = 38


@dataclass(frozen=True, slots=True)
class Stored:
    """How an Arrow type is kept."""

    sql: str
    arrow: "pa.DataType"
    """What DuckDB is given."""
    read: str = ""
    """The SQL type to read it as, where that differs."""
    note: str = ""
    """What the SQL type alone does not tell; kept in the table's comment, so that a change is noticed."""

    @property
    def has_equality(self) -> bool:
        """Whether equal values are the same value, as in a key: to DuckDB a month is 30 days, and a day 24 hours."""
        return "INTERVAL" not in re.sub(r'"[^"]*"', "", self.sql)


def stored_type(field: "pa.Field", *, where: str, quote: Callable[[str], str]) -> Stored:
    """How the values of ``field`` are stored.

    Raises:
        TaskError: they cannot be.
    """
    kind = field.type
    extension = extension_of(field)
    if extension == "uuid":
        return _uuid()
    if extension:
        return Stored("JSON" if extension == "json" else "VARCHAR", pa.string())
    return _stored(kind, where, quote)


def _stored(kind: "pa.DataType", where: str, quote: Callable[[str], str]) -> Stored:
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return _uuid()
        if kind.extension_name == "arrow.json":
            return Stored("JSON", pa.string())
        return _stored(kind.storage_type, where, quote)
    simple = _simple().get(kind.id)
    if simple is not None:
        return simple
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _stored(kind.value_type, where, quote)
    if types.is_decimal(kind):
        return _decimal(kind)
    if types.is_temporal(kind):
        return _temporal(kind)
    if types.is_nested(kind):
        return _nested(kind, where, quote)
    raise TaskError(
        f"{where}: {family_of(kind)} cannot be stored in DuckDB", hint=TYPES_REFUSED.get(family_of(kind), "")
    )


def _temporal(kind: "pa.DataType") -> Stored:
    if pa.types.is_duration(kind):
        return Stored("BIGINT", pa.int64(), note=str(kind))
    fine = kind.unit == "ns"
    if pa.types.is_time(kind):
        return Stored("TIME_NS", kind) if fine else Stored("TIME", pa.time64("us"))
    if kind.tz is not None:
        return Stored("TIMESTAMPTZ_NS" if fine else "TIMESTAMPTZ", pa.timestamp("ns" if fine else "us", "UTC"))
    names = {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "us": "TIMESTAMP", "ns": "TIMESTAMP_NS"}
    return Stored(names[kind.unit], kind)


def _uuid() -> Stored:
    return Stored("UUID", pa.uuid(), read="BLOB")  # exported as text otherwise


@cache
def _simple() -> "dict[int, Stored]":
    kinds = {
        "TINYINT": [pa.int8()],
        "SMALLINT": [pa.int16()],
        "INTEGER": [pa.int32()],
        "BIGINT": [pa.int64()],
        "UTINYINT": [pa.uint8()],
        "USMALLINT": [pa.uint16()],
        "UINTEGER": [pa.uint32()],
        "UBIGINT": [pa.uint64()],
        "FLOAT": [pa.float32(), pa.float16()],
        "DOUBLE": [pa.float64()],
        "BOOLEAN": [pa.bool_()],
        "DATE": [pa.date32(), pa.date64()],
        "VARCHAR": [pa.string(), pa.large_string(), pa.string_view()],
        "BLOB": [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(1)],
        "INTERVAL": [pa.month_day_nano_interval()],
    }
    first = {kind.id: Stored(sql, same[0]) for sql, same in kinds.items() for kind in same}
    # DuckDB takes these as they are, so nothing has to be copied
    as_is = {pa.large_string(), pa.string_view(), pa.large_binary(), pa.binary_view()}
    first |= {kind.id: Stored(first[kind.id].sql, kind) for kind in as_is}
    return first | {pa.null().id: Stored("BOOLEAN", pa.null(), note="null")}


def _decimal(kind: "pa.DataType") -> Stored:
    digits, scale = kind.precision, kind.scale
    if scale < 0:
        digits, scale = digits - scale, 0
    if digits > _DECIMAL_DIGITS_MAX or scale > digits:
        return Stored("VARCHAR", pa.string(), note=str(kind))
    return Stored(f"DECIMAL({digits},{scale})", pa.decimal128(digits, scale))


def _nested(kind: "pa.DataType", where: str, quote: Callable[[str], str]) -> Stored:
    types = pa.types
    if types.is_map(kind):
        parts = [stored_type(one, where=where, quote=quote) for one in (kind.key_field, kind.item_field)]
        return _compound(lambda sql: f"MAP({sql[0]}, {sql[1]})", parts, pa.map_(parts[0].arrow, parts[1].arrow))
    if types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        names = [one.name.lower() for one in fields]
        if not names:
            raise TaskError(f"{where}: DuckDB has no struct without fields", hint=_AS_TEXT)
        if len(set(names)) < len(names):
            raise TaskError(f"{where}: DuckDB does not tell fields apart that differ by case only", hint=_AS_TEXT)
        parts = [stored_type(one, where=f"{where}.{one.name}", quote=quote) for one in fields]
        arrow = pa.struct([pa.field(one.name, part.arrow) for one, part in zip(fields, parts, strict=True)])
        quoted = [quote(one.name) for one in fields]
        return _compound(
            lambda sql: "STRUCT(" + ", ".join(map(" ".join, zip(quoted, sql, strict=True))) + ")", parts, arrow
        )
    if types.is_union(kind):
        raise TaskError(f"{where}: {family_of(kind)} cannot be stored in DuckDB", hint=TYPES_REFUSED[family_of(kind)])
    part = stored_type(kind.value_field, where=where, quote=quote)
    if types.is_fixed_size_list(kind):
        size = kind.list_size
        return _compound(lambda sql: f"{sql[0]}[{size}]", [part], pa.list_(part.arrow, size))
    return _compound(lambda sql: f"{sql[0]}[]", [part], pa.list_(part.arrow))


def _compound(spell: Callable[[Sequence[str]], str], parts: Sequence[Stored], arrow: "pa.DataType") -> Stored:
    sql, read = spell([part.sql for part in parts]), spell([part.read or part.sql for part in parts])
    note = "; ".join(part.note for part in parts if part.note)
    return Stored(sql, arrow, read if read != sql else "", note)
