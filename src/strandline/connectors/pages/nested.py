"""Lists within records as the rows of a child table, and which parents they belong to."""

from collections.abc import Mapping

from strandline.lazy import pa, pc
from strandline.table import Table

__all__ = ["inner_rows", "parents_of"]


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
    inner = values.flatten() if pa.types.is_struct(values.type) else [values]
    return pa.table([*front, position, *inner], schema=child.schema)
