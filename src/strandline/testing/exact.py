"""Whether rows are the same: in the Arrow types of the table, to the last bit."""

import math
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

from strandline.lazy import pa, pc
from strandline.table import Table

__all__ = ["Row", "assert_same_rows", "exact_rows"]

_SHOWN_MAX = 5

Row: TypeAlias = tuple[Any, ...]


def assert_same_rows(
    expected: "Iterable[pa.RecordBatch]", actual: "Iterable[pa.RecordBatch]", table: Table, *columns: str
) -> None:
    """Fail unless both hold the same rows, each as often, whatever the order.

    ``-0.0`` is not ``0.0``; NaN is NaN. What is expected may lack columns, which are then null.

    Args:
        expected: in the types of the table.
        actual: what a destination read.
        table: whose types the columns must have.
        columns: which ones to compare; all of the table's if none are named.
    """
    names = list(columns) or table.schema.names
    wanted, found = Counter[Row](), Counter[Row]()
    for batch in actual:
        for name in names:
            kind, given = table.schema.field(name).type, batch.schema.field(name).type
            if given != kind:
                raise AssertionError(f"{table.name}.{name}: read as {given}, but the table says {kind}")
        batch.validate(full=True)
        found.update(exact_rows(batch.select(names)))
    for batch in expected:
        whole = {
            name: batch.column(name) if name in batch.schema.names else _nulls(table, name, batch.num_rows)
            for name in names
        }
        wanted.update(zip(*(_exact(values) for values in whole.values()), strict=True))
    missing, strange = wanted - found, found - wanted
    if missing or strange:
        raise AssertionError(
            f"{table.name}: {missing.total()} of {wanted.total()} rows are missing, {strange.total()} of "
            f"{found.total()} are not expected\n  columns:  {names}\n{_shown('missing', missing)}{_shown('strange', strange)}"
        )


def _shown(what: str, rows: Counter[Row]) -> str:
    return "".join(f"  {what}:  {row!r} x {count}\n" for row, count in rows.most_common(_SHOWN_MAX))


def _nulls(table: Table, name: str, count: int) -> "pa.Array":
    return pa.nulls(count, table.schema.field(name).type)


def exact_rows(batch: "pa.RecordBatch") -> list[Row]:
    """Rows as hashable Python values, which are equal exactly when the rows are."""
    return list(zip(*(_exact(values) for values in batch.columns), strict=True))


def _exact(values: "pa.Array") -> list[Any]:
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _exact(values.storage)
    if pa.types.is_dictionary(kind):
        return _exact(values.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _exact(pc.run_end_decode(values))
    if pa.types.is_nested(kind):
        return _nested(values)
    if pa.types.is_floating(kind):
        return [_float(value) for value in values.to_pylist()]
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        # Python's dates and times have no nanoseconds, and end with the year 9999
        plain: list[Any] = values.view(pa.int32() if kind.bit_width == pa.int32().bit_width else pa.int64()).to_pylist()
        return plain
    return [str(value) if pa.types.is_decimal(kind) and value is not None else value for value in values.to_pylist()]


def _float(value: float | None) -> Any:
    if value is None:
        return None
    return "nan" if math.isnan(value) else struct.pack(">d", value)


def _nested(values: "pa.Array") -> list[Any]:
    kind, valid = values.type, values.is_valid().to_pylist()
    if pa.types.is_union(kind):
        return [(scalar.type_code, scalar.as_py()) for scalar in values]
    if pa.types.is_struct(kind):
        children = [_exact(values.field(at)) for at in range(kind.num_fields)]
        rows = list(zip(*children, strict=True)) if children else [()] * len(values)
        return [row if there else None for row, there in zip(rows, valid, strict=True)]
    return [tuple(_exact(scalar.values)) if there else None for scalar, there in zip(values, valid, strict=True)]
