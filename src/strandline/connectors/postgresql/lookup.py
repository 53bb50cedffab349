"""Rows looked up by their primary keys, as a sweep has sent them: the keys become a list of values in SQL."""

from collections.abc import Iterator
from typing import Any

from strandline.connectors.postgresql.catalog import Column
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.plan import Plan
from strandline.connectors.postgresql.rows import Rows
from strandline.connectors.sql.dialect import quote
from strandline.lazy import pa, pc
from strandline.message import Insert

__all__ = ["rows_of"]

_KEYS_MAX = 2_000
"""Of one statement."""
_COMPARED = {
    16: "bool", 17: "bytea", 19: "name", 20: "int8", 21: "int2", 23: "int4", 25: "text", 26: "oid", 1042: "bpchar", 1043: "varchar",
    1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz", 1186: "interval", 1700: "numeric", 2950: "uuid",
}  # fmt: skip
"""Types, by oid, whose values are compared as they are, so that an index serves; all others as the texts that are sent."""


def rows_of(rows: Rows, plan: Plan, keys: "pa.RecordBatch") -> Iterator[Insert]:
    """The rows that have these keys now."""
    columns = [next(one for one in plan.columns if one.name == name) for name in plan.table.primary_key]
    sides = ", ".join(_side(plan, column) for column in columns)
    for start in range(0, keys.num_rows, _KEYS_MAX):
        part = keys.slice(start, _KEYS_MAX)
        texts = [_texts(part.column(column.name)) for column in columns]
        listed = [
            f"({', '.join(_value(plan, column, text) for column, text in zip(columns, key, strict=True))})"
            for key in zip(*texts, strict=True)
            if None not in key
        ]
        if not listed:
            continue
        condition = f"({sides}) IN (SELECT * FROM (VALUES {', '.join(listed)}) AS k)"
        for message, _ in rows.messages(plan.source, condition, "FALSE"):
            assert isinstance(message, Insert)
            yield message


def _is_compared(plan: Plan, column: Column) -> bool:
    return column.type_oid in _COMPARED and column.name not in plan.settings.mask


def _side(plan: Plan, column: Column) -> str:
    if _is_compared(plan, column):
        return f"t.{quote(column.name)}"
    return f"({column.expression})::text"


def _value(plan: Plan, column: Column, text: str) -> str:
    kind = _COMPARED[column.type_oid] if _is_compared(plan, column) else "text"
    return f"{literal(text)}::{kind}"


def _texts(values: "pa.Array") -> list[Any]:
    """As PostgreSQL reads them."""
    kind = values.type
    if pa.types.is_timestamp(kind):
        zone = "+00" if kind.tz else ""
        plain = pc.cast(values.cast(pa.timestamp("us")), pa.string()).to_pylist()
        return [None if one is None else f"{_dated(one, zone)}" for one in plain]
    if pa.types.is_date(kind):
        return [None if one is None else _dated(one, "") for one in pc.cast(values, pa.string()).to_pylist()]
    if pa.types.is_time(kind):
        return list(pc.cast(values, pa.string()).to_pylist())
    return [None if one is None else _text(one) for one in values.to_pylist()]


def _text(value: object) -> str:
    match value:
        case bytes():
            return f"\\x{value.hex()}"
        case pa.MonthDayNano(months=months, days=days, nanoseconds=nanoseconds):
            return f"{months} mons {days} days {nanoseconds // 1_000} microseconds"
        case _:
            return str(value)


def _dated(text: str, zone: str) -> str:
    """Years before Christ have numbers from 1 on, and a word behind them."""
    year, _, rest = text.lstrip("-").partition("-")
    number = -int(year) if text.startswith("-") else int(year)
    return f"{text}{zone}" if number > 0 else f"{1 - number:04}-{rest}{zone} BC"
