"""Lists within records as the rows of a child table, and which parents they belong to."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from strandline.lazy import pa, pc
from strandline.table import Table

__all__ = ["apart", "are_different", "in_doubles", "inner_rows", "parents_of"]


def parents_of(rows: "pa.Table", child: Table, refers: Mapping[str, str]) -> "pa.RecordBatch":
    """The keys of some parents, each once, as ``Replace`` has them."""
    keys = pa.table({name: rows[of] for name, of in refers.items()}).group_by(list(refers), use_threads=False)
    distinct = keys.aggregate([]).select(list(refers)).combine_chunks()
    schema = pa.schema([pa.field(name, child.schema.field(name).type) for name in refers])
    return pa.record_batch(
        [pa.concat_arrays(distinct[name].chunks or [pa.array([], distinct[name].type)]) for name in refers],
        schema=schema,
    )


def inner_rows(rows: "pa.Table", column: str, child: Table, refers: Mapping[str, str]) -> "pa.Table":
    """The elements of a list, each with the key of its parent and its place in the list, from 0."""
    lists = rows[column].combine_chunks()
    at = pc.list_parent_indices(lists)
    values = pc.list_flatten(lists)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64())
    starts = pc.subtract(pc.cumulative_sum(lengths), lengths)
    position = pc.subtract(pa.array(range(len(values)), pa.int64()), starts.take(at))
    front = [rows[of].combine_chunks().take(at) for of in refers.values()]
    inner = values.flatten() if pa.types.is_struct(values.type) else [] if pa.types.is_null(values.type) else [values]
    return pa.table([*front, position, *inner], names=child.schema.names)


def in_doubles(kind: "pa.DataType", column: str, former: Collection[str]) -> "pa.DataType":
    """The type of a list whose whole numbers are doubles where these columns of its table are stored so."""
    inner = kind.value_type
    if not pa.types.is_struct(inner):
        return pa.list_(pa.float64())
    names = {*former, *(name.removeprefix(f"{column}_") for name in former)}
    fields = [
        one.with_type(pa.float64()) if one.name in names and pa.types.is_integer(one.type) else one for one in inner
    ]
    return pa.list_(pa.struct(fields))


def apart(rows: "pa.Table", key: Sequence[str]) -> "list[pa.Table]":
    """The rows in pieces without two of one primary key: the children of the last one are to replace those of the first."""
    if are_different(rows, key):
        return [rows]
    seen: set[tuple[Any, ...]] = set()
    cuts = [0]
    for at, one in enumerate(zip(*(rows[name].to_pylist() for name in key), strict=True)):
        if one in seen:
            cuts.append(at)
            seen.clear()
        seen.add(one)
    return [rows.slice(start, end - start) for start, end in pairwise([*cuts, rows.num_rows])]


def are_different(rows: "pa.Table", key: Sequence[str]) -> bool:
    """Whether no two rows have one primary key."""
    if not key or not set(key) <= set(rows.column_names):
        return True
    return bool(rows.select(list(key)).group_by(list(key), use_threads=False).aggregate([]).num_rows == rows.num_rows)
