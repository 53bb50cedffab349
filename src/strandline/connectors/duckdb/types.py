"""Arrow types as DuckDB stores them, without loss. One table: everything else is cast by Arrow, safely, to and fro.

DuckDB's own reading of an Arrow type may lose something (a duration's nanoseconds, the time in a date64), so a batch is
cast to ``Stored.arrow`` first, which DuckDB takes as it is, and a read is cast back to the type of the table.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from strandline.connectors.arrow.casts import castable_inside
from strandline.connectors.arrow.kinds import ZONED_NS, is_zoned_ns
from strandline.connectors.duckdb.dialect import DuckDBDialect
from strandline.connectors.duckdb.drivers import duckdb
from strandline.connectors.sql import types as sql
from strandline.errors import TaskError
from strandline.lazy import pa

__all__ = ["DuckDBTypes", "Stored"]

_AS_TEXT = "send the whole column as text; for files: `types: {COLUMN: string}`"
_DECIMAL_DIGITS_MAX = 38
_ZONED_NS_SINCE = 2


class Stored(sql.Stored):
    """See ``strandline.connectors.sql.types``."""

    @property
    def has_equality(self) -> bool:
        """To DuckDB a month is 30 days, and a day 24 hours."""
        return "INTERVAL" not in re.sub(r'"[^"]*"', "", self.sql)


class DuckDBTypes(sql.SqlTypes[Stored]):
    """DuckDB's types."""

    dialect = DuckDBDialect()
    no_unions = "DuckDB's unions have no type codes; send a struct with one column for each member"

    @property
    def refused(self) -> Mapping[str, str]:
        """See ``SqlTypes``."""
        return {**super().refused, **_refused_before_2()}

    def of_type(self, kind: "pa.DataType", where: str) -> Stored:
        """See ``SqlTypes``."""
        if is_zoned_ns(kind) and (why := _refused_before_2().get(ZONED_NS)):
            raise TaskError(f"{where}: {kind} cannot be stored in DuckDB {duckdb.__version__}", hint=why)
        return super().of_type(kind, where)

    def simple(self) -> Mapping[int, Stored]:
        """See ``SqlTypes``."""
        return _simple()

    def uuid(self) -> Stored:
        """See ``SqlTypes``."""
        return Stored("UUID", pa.uuid(), read="BLOB")  # exported as text otherwise

    def json(self) -> Stored:
        """See ``SqlTypes``."""
        return Stored("JSON", pa.string())

    def decimal(self, kind: "pa.DataType") -> Stored:
        """See ``SqlTypes``. Texts, where there are more digits than DuckDB has."""
        digits, scale = sql.digits_and_scale(kind)
        if digits > _DECIMAL_DIGITS_MAX or scale > digits:
            return Stored("VARCHAR", pa.string(), note=str(kind))
        return Stored(f"DECIMAL({digits},{scale})", pa.decimal128(digits, scale))

    def time(self, kind: "pa.DataType") -> Stored:
        """See ``SqlTypes``."""
        fine = kind.unit == "ns"
        if pa.types.is_time(kind):
            return Stored("TIME_NS", kind) if fine else Stored("TIME", pa.time64("us"))
        if kind.tz is not None:
            return Stored("TIMESTAMPTZ_NS" if fine else "TIMESTAMPTZ", pa.timestamp("ns" if fine else "us", "UTC"))
        names = {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "us": "TIMESTAMP", "ns": "TIMESTAMP_NS"}
        return Stored(names[kind.unit], kind)

    def nested(self, kind: "pa.DataType", where: str) -> Stored:
        """See ``SqlTypes``."""
        types = pa.types
        if not castable_inside(kind):
            raise TaskError(
                f"{where}: {kind} cannot be stored",
                hint="inside other types, send lists and plain values instead of views, runs and dictionaries",
            )
        if types.is_map(kind):
            parts = [self.of(one, where) for one in (kind.key_field, kind.item_field)]
            return _compound(lambda sql: f"MAP({sql[0]}, {sql[1]})", parts, pa.map_(parts[0].arrow, parts[1].arrow))
        if types.is_struct(kind):
            fields = [kind.field(at) for at in range(kind.num_fields)]
            names = [one.name.lower() for one in fields]
            if not names:
                raise TaskError(f"{where}: DuckDB has no struct without fields", hint=_AS_TEXT)
            if len(set(names)) < len(names):
                raise TaskError(f"{where}: DuckDB does not tell fields apart that differ by case only", hint=_AS_TEXT)
            parts = [self.of(one, f"{where}.{one.name}") for one in fields]
            arrow = pa.struct([pa.field(one.name, part.arrow) for one, part in zip(fields, parts, strict=True)])
            quoted = [self.dialect.quote(one.name) for one in fields]
            return _compound(
                lambda sql: "STRUCT(" + ", ".join(map(" ".join, zip(quoted, sql, strict=True))) + ")", parts, arrow
            )
        part = self.of(kind.value_field, where)
        if types.is_fixed_size_list(kind):
            size = kind.list_size
            return _compound(lambda sql: f"{sql[0]}[{size}]", [part], pa.list_(part.arrow, size))
        return _compound(lambda sql: f"{sql[0]}[]", [part], pa.list_(part.arrow))


@cache
def _refused_before_2() -> Mapping[str, str]:
    """By the version that is installed, which is not imported for that; where there is none, opening says so."""
    try:
        major = version("duckdb").split(".")[0]
    except PackageNotFoundError:
        return {}
    if int(major) >= _ZONED_NS_SINCE:
        return {}
    return {ZONED_NS: "install duckdb 2, which has nanoseconds with a zone; or send microseconds"}


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


def _compound(spell: Callable[[Sequence[str]], str], parts: Sequence[Stored], arrow: "pa.DataType") -> Stored:
    sql, read = spell([part.sql for part in parts]), spell([part.read or part.sql for part in parts])
    note = "; ".join(part.note for part in parts if part.note)
    return Stored(sql, arrow, read if read != sql else "", note)
