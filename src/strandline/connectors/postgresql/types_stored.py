"""Arrow types as PostgreSQL stores them, without loss.

A batch is cast to ``Stored.arrow``, which pgpq writes as the binary COPY format of ``Stored.staged``. Where a type has
the same bytes on the wire as another (a uuid is 16 bytes), it is written as that one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from strandline.connectors.arrow.widening import Fit, fit
from strandline.connectors.postgresql.dialect import PostgreSQLDialect
from strandline.connectors.sql import types as sql
from strandline.lazy import pa

__all__ = ["PostgreSQLTypes", "Stored", "fits"]

_BINARY_DIGITS_MAX = 38
"""Digits of a decimal that pgpq writes; more go as text, and the server makes numbers of them."""
_NAIVE, _ZONED = "timestamp without time zone", "timestamp with time zone"


@dataclass(frozen=True, slots=True)
class Stored(sql.Stored):
    """See ``strandline.connectors.sql.types``."""

    staged: str = ""
    """The SQL type to copy into, where the server has to cast to ``sql``."""
    is_nested: bool = False
    """Whether the values are made to JSON here, since the database has no type for them."""

    @property
    def has_equality(self) -> bool:
        """See there."""
        return self.sql not in {"json", "interval"}


class PostgreSQLTypes(sql.SqlTypes[Stored]):
    """PostgreSQL's types."""

    dialect = PostgreSQLDialect()
    no_unions = "PostgreSQL has no unions; send a struct with one column for each member"

    def of(self, field: "pa.Field", where: str) -> Stored:
        """See ``SqlTypes``."""
        if (field.metadata or {}).get(b"postgresql.type") == b"jsonb":
            return Stored("jsonb", pa.string(), read="text")
        return super().of(field, where)

    def simple(self) -> Mapping[int, Stored]:
        """See ``SqlTypes``."""
        return _simple()

    def uuid(self) -> Stored:
        """See ``SqlTypes``."""
        return Stored("uuid", pa.binary(16))

    def json(self) -> Stored:
        """Not jsonb, which drops what has one name, and forgets an order; and has no U+0000 and no large numbers."""
        return Stored("json", pa.string(), read="text")

    def decimal(self, kind: "pa.DataType") -> Stored:
        """See ``SqlTypes``."""
        digits, scale = sql.digits_and_scale(kind)
        name = f"numeric({max(digits, scale)},{scale})"
        if digits > _BINARY_DIGITS_MAX or scale > digits:
            return Stored(name, pa.string(), read="text", staged="text")
        return Stored(name, pa.decimal128(digits, scale), read="text")

    def time(self, kind: "pa.DataType") -> Stored:
        """See ``SqlTypes``."""
        if kind.unit == "ns":  # PostgreSQL's times end with microseconds
            return self.duration(kind)
        if pa.types.is_time(kind):
            return Stored("time without time zone", pa.time64("us"))
        if kind.tz is None:
            return Stored(_NAIVE, pa.timestamp("us"))
        return Stored(_ZONED, pa.timestamp("us", "UTC"))

    def nested(self, kind: "pa.DataType", where: str) -> Stored:
        """A list of plain values is an array; what PostgreSQL's arrays cannot hold is JSON.

        Arrays are rectangular and lists are not, so there are none of lists; composite types would have to be created.
        """
        types = pa.types
        as_json = replace(self.json(), is_nested=True)
        inside = [kind.field(at) for at in range(kind.num_fields)]
        parts = [self.of(one, f"{where}.{one.name}") for one in inside]
        if types.is_map(kind) or types.is_struct(kind):
            return as_json
        (part,), inner = parts, inside[0].type
        wrapped = (
            types.is_dictionary(inner) or types.is_run_end_encoded(inner) or isinstance(inner, pa.BaseExtensionType)
        )
        if wrapped or part.note or part.staged or part.sql in {"json", "interval"} or part.sql.endswith("[]"):
            return as_json
        read = "text[]" if part.read else ""
        if part.sql == _ZONED:  # pgpq writes the elements as times without one, so the server casts them, as UTC
            return Stored(f"{_ZONED}[]", pa.list_(pa.timestamp("us")), staged=f"{_NAIVE}[]", read=read)
        return Stored(f"{part.sql}[]", pa.list_(part.arrow), read=read)


@cache
def _simple() -> "dict[int, Stored]":
    kinds = {
        "smallint": [pa.int16(), pa.int8(), pa.uint8()],
        "integer": [pa.int32(), pa.uint16()],
        "bigint": [pa.int64(), pa.uint32()],
        "real": [pa.float32(), pa.float16()],
        "double precision": [pa.float64()],
        "boolean": [pa.bool_()],
        "date": [pa.date32(), pa.date64()],
        "text": [pa.string(), pa.large_string(), pa.string_view()],
        "bytea": [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(1)],
    }
    simple = {kind.id: Stored(sql, same[0]) for sql, same in kinds.items() for kind in same}
    # pgpq takes these as they are, so nothing has to be copied
    as_is = {pa.uint8(), pa.uint16(), pa.uint32(), pa.int8(), pa.large_string(), pa.string_view(), pa.large_binary()}
    simple |= {kind.id: replace(simple[kind.id], arrow=kind) for kind in as_is}
    simple[pa.uint64().id] = Stored("numeric(20,0)", pa.uint64(), read="text")
    simple[pa.month_day_nano_interval().id] = Stored("interval", pa.binary(16))
    return simple | {pa.null().id: Stored("boolean", pa.bool_(), note="null")}


_SPELLED = {
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "date": "DATE",
    "timestamp without time zone": "TIMESTAMP",
}


def fits(before: tuple[str, str], after: tuple[str, str]) -> Fit:
    """How a stored type with its note stands to the wanted one; types as the catalog spells them."""
    if after[0] == "text" and before[0].startswith("character") and not after[1]:
        return Fit.SAME if before[0] == "character varying" else Fit.WIDEN
    if {before[0], after[0]} == {"json", "jsonb"} and before[1] == after[1]:
        return Fit.SAME  # one is made of the other as it is stored; what somebody has built on it stays
    if before[0] == "numeric" and not after[1] and re.match(r"numeric|smallint|integer|bigint", after[0]):
        return Fit.SAME
    return fit((_spelled(before[0]), before[1]), (_spelled(after[0]), after[1]))


def _spelled(kind: str) -> str:
    """As ``_widening`` knows it."""
    return _SPELLED.get(kind) or re.sub(r"^numeric(\(.*\))$", r"DECIMAL\1", kind)
