"""By what the files of a table are apart: columns, and Iceberg's transforms of them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strandline.connectors.iceberg.drivers import ice_partitioning, ice_transforms
from strandline.connectors.iceberg.schema import fields_of
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa, pc

__all__ = ["Apart", "apart_of", "check", "said_of", "spec_of", "values_of"]

_WRITTEN = re.compile(r"^\s*(year|month|day|hour|bucket|truncate)\s*\(\s*(?:(\d+)\s*,\s*)?(.+?)\s*\)\s*$")
_WITH_NUMBER = ("bucket", "truncate")
_UNITS = ("year", "month", "day", "hour")


@dataclass(frozen=True, slots=True)
class Apart:
    """One of the things by which files are apart."""

    column: str
    transform: str
    """As Iceberg writes it: ``identity``, ``day``, ``bucket[16]``."""

    @property
    def name(self) -> str:
        """Of the partition field."""
        plain = self.transform.partition("[")[0]
        return self.column if plain == "identity" else f"{self.column}_{ {'truncate': 'trunc'}.get(plain, plain) }"


def apart_of(written: str) -> Apart:
    """What a user writes: a column, or ``day(ts)``, ``bucket(16, id)``.

    Raises:
        ValueError: it is none of them.
    """
    found = _WRITTEN.match(written)
    if found is None:
        return Apart(written, "identity")
    name, number, column = found.groups()
    if (name in _WITH_NUMBER) != (number is not None) or number == "0":
        how = f"{name}(16, {column})" if name in _WITH_NUMBER else f"{name}({column})"
        raise ValueError(f"{written!r}: write {how}")
    return Apart(column, f"{name}[{int(number)}]" if number is not None else name)


def said_of(spec: Any, schema: Any) -> tuple[Apart, ...]:
    """What a spec of Iceberg says."""
    return tuple(
        Apart(schema.find_column_name(field.source_id) or "?", str(field.transform))
        for field in spec.fields
        if str(field.transform) != "void"
    )


def spec_of(aparts: Sequence[Apart], numbers: Mapping[str, int], at: int = 0, first: int = 1000) -> Any:
    """A spec of Iceberg, given the numbers of the columns."""
    fields = [
        ice_partitioning.PartitionField(
            numbers[one.column], first + place, ice_transforms.parse_transform(one.transform), one.name
        )
        for place, one in enumerate(aparts)
    ]
    return ice_partitioning.PartitionSpec(*fields, spec_id=at)


def check(aparts: Sequence[Apart], table: str, columns: Sequence[str], written: "Mapping[str, pa.DataType]") -> None:
    """Whether files can be apart so.

    Raises:
        TaskError: a column cannot be partitioned by.
        UsageError: there is no such column.
    """
    for one in aparts:
        if one.column not in columns:
            raise UsageError(f"partition_by: {table} has no column {one.column!r}")
        kind = written.get(one.column)
        if kind is None or not _fits(one, kind):
            raise TaskError(
                f"{table}.{one.column}: {kind or 'a column of nulls'} cannot be partitioned by {one.transform}",
                hint="columns: texts, whole numbers, dates and booleans; years to hours: times, and dates but for hours; bucket: "
                "what is no fraction and not nested; truncate: texts and whole numbers",
            )


def _fits(one: Apart, kind: "pa.DataType") -> bool:
    types = pa.types
    plain = one.transform.partition("[")[0]
    simple = types.is_string(kind) or types.is_integer(kind)
    if plain == "identity":
        return bool(simple or types.is_boolean(kind) or types.is_date(kind))
    if plain == "truncate":
        return bool(simple)
    if plain == "bucket":
        return bool(simple or types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind))
    return bool(types.is_timestamp(kind) or (types.is_date(kind) and plain != "hour"))


def values_of(one: Apart, column: "pa.ChunkedArray | pa.Array") -> "tuple[pa.Array, list[Any]]":
    """The partition of each row, as a place in the list of values; those are as Iceberg keeps them."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    plain = one.transform.partition("[")[0]
    if plain in _UNITS:
        array = pc.floor_temporal(array, unit="hour" if plain == "hour" else "day")
    coded = array.dictionary_encode(null_encoding="encode")
    transform = _transform(one, array.type)
    values = [transform(value) for value in _raw(coded.dictionary)]
    distinct = list(dict.fromkeys(values))
    places = {value: at for at, value in enumerate(distinct)}
    return pa.array([places[value] for value in values], pa.int64()).take(coded.indices), distinct


def _raw(values: "pa.Array") -> list[Any]:
    """As transforms take them: times as numbers of their unit."""
    if pa.types.is_temporal(values.type):
        return list(values.view(pa.int32() if pa.types.is_date32(values.type) else pa.int64()).to_pylist())
    return list(values.to_pylist())


def _transform(one: Apart, kind: "pa.DataType") -> Callable[[Any], Any]:
    if one.transform == "identity":
        return lambda value: value
    (field,) = fields_of({one.column: kind}, None, 0)
    made: Callable[[Any], Any] = ice_transforms.parse_transform(one.transform).transform(field.field_type)
    return made
