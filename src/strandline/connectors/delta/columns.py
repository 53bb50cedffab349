"""The rows of a Delta file as the table has them now: its columns may have been renamed, widened, added or dropped since.

A column that was renamed has another name in the files, which the schema tells. What is not in a file is null, and the columns by which
a table is partitioned are said of its files, and not in them.
"""

from collections.abc import Mapping
from typing import Any

from strandline.connectors.versions.types import plain_schema, plain_type
from strandline.errors import TaskError
from strandline.lazy import pa, pc

__all__ = ["conformed", "name_in_files"]

_PHYSICAL = b"delta.columnMapping.physicalName"


def name_in_files(field: "pa.Field") -> str:
    """What a column is called in the files."""
    found = (field.metadata or {}).get(_PHYSICAL)
    return found.decode() if found is not None else str(field.name)


def conformed(
    batch: "pa.RecordBatch", schema: "pa.Schema", partition: Mapping[str, Any], where: str
) -> "pa.RecordBatch":
    """The rows of a file with the columns of ``schema``.

    Args:
        batch: as it is in the file.
        schema: with the names in files as metadata.
        partition: by the column's name or its name in files; a value, or how Delta writes it.
        where: the file, for people.

    Raises:
        TaskError: a value does not fit its column.
    """
    columns = []
    for field in schema:
        inside, kind = name_in_files(field), plain_type(field.type)
        try:
            if inside in batch.schema.names:
                columns.append(_column(batch[inside], field))
            elif (name := inside if inside in partition else field.name) in partition:
                value = _partition_value(partition[name], kind)
                columns.append(pa.nulls(batch.num_rows, kind) if value is None else pa.repeat(value, batch.num_rows))
            else:
                columns.append(pa.nulls(batch.num_rows, kind))
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise TaskError(
                f"{where}: column {field.name!r} cannot be read as {kind}: {str(error)[:200]}",
                hint="the type of the column has changed: --full-refresh reads what the table holds now",
            ) from error
    return pa.record_batch(columns, schema=plain_schema(schema))


def _column(array: "pa.Array", field: "pa.Field") -> "pa.Array":
    """The array in the type of the field, whose parts are found by their names in files."""
    types, kind = pa.types, plain_type(field.type)
    if array.type == kind and not _renamed(field.type):
        return array
    if types.is_struct(kind) and types.is_struct(array.type):
        there = {one.name: at for at, one in enumerate(array.type)}
        children = [
            _column(array.field(there[name_in_files(one)]), one)
            if name_in_files(one) in there
            else pa.nulls(len(array), plain_type(one.type))
            for one in field.type
        ]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    if types.is_map(kind) and types.is_map(array.type):
        pairs = pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])
        offsets, inside = _unnested(array.cast(pa.list_(pairs)))
        key, item = _column(inside.field(0), field.type.key_field), _column(inside.field(1), field.type.item_field)
        return pa.MapArray.from_arrays(offsets, key, item)
    if types.is_list(kind) and (types.is_list(array.type) or types.is_large_list(array.type)):
        offsets, inside = _unnested(array)
        return pa.ListArray.from_arrays(offsets, _column(inside, field.type.value_field), type=kind)
    return array.cast(kind)


def _unnested(array: "pa.Array") -> "tuple[pa.Array, pa.Array]":
    """The offsets of lists, null where a list is null, and what is in all of them."""
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(array), 0)).cast(pa.int32())
    starts = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    no_list = pa.concat_arrays([array.is_null(), pa.array([False])])
    return pc.if_else(no_list, pa.scalar(None, pa.int32()), starts), array.flatten()


def _renamed(kind: "pa.DataType") -> bool:
    """Whether a part of a type has another name in files."""
    parts = [kind.field(at) for at in range(kind.num_fields)] if pa.types.is_nested(kind) else []
    return any(name_in_files(one) != one.name or _renamed(one.type) for one in parts)


def _partition_value(value: Any, kind: "pa.DataType") -> "pa.Scalar | None":
    """A value as Delta writes it, or as the driver has read it."""
    types = pa.types
    if value is None or value == "":
        return None
    if not isinstance(value, str) or types.is_string(kind):
        return pa.scalar(value, kind)
    if types.is_timestamp(kind):
        naive = pa.scalar(value.removesuffix("Z")).cast(pa.timestamp(kind.unit))
        return naive.cast(kind)
    if types.is_binary(kind):
        return pa.scalar(value.encode(), kind)
    return pa.scalar(value).cast(kind)
