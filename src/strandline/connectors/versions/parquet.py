"""The rows of a Parquet file from a place on, without those that are hidden."""

from collections.abc import Iterator, Sequence
from typing import Any

from strandline.lazy import pa

__all__ = ["batches_from", "chosen"]


def batches_from(
    opened: Any, columns: Sequence[str], after: int, rows_max: int, bytes_max: int
) -> "Iterator[tuple[int, pa.RecordBatch]]":
    """The rows after some, each batch with the number of its first one.

    Args:
        opened: a ``ParquetFile``.
        columns: those that are wanted, all of which it has; may be none.
        after: how many rows come before.
        rows_max: of a batch.
        bytes_max: about, of a batch.
    """
    start, groups = 0, list(range(opened.metadata.num_row_groups))
    while groups and start + opened.metadata.row_group(groups[0]).num_rows <= after:
        start += opened.metadata.row_group(groups.pop(0)).num_rows
    for group in groups:
        told = opened.metadata.row_group(group)
        rows = max(1, min(rows_max, bytes_max * told.num_rows // max(1, told.total_byte_size)))
        if not columns:
            left = told.num_rows
            batches: Any = (_bare(min(rows, left - at)) for at in range(0, left, rows))
        else:
            batches = opened.iter_batches(batch_size=rows, row_groups=[group], columns=list(columns))
        for batch in batches:
            skipped = min(batch.num_rows, max(0, after - start))
            if skipped < batch.num_rows:
                yield start + skipped, batch.slice(skipped)
            start += batch.num_rows


def chosen(mask: "pa.Array", start: int, count: int) -> "pa.Array":
    """What a mask says of some rows; of those behind its end, that they are there."""
    part = mask.slice(start, count)
    if len(part) == count:
        return part
    return pa.concat_arrays([part, pa.array([True] * (count - len(part)), pa.bool_())])


def _bare(count: int) -> "pa.RecordBatch":
    """Rows of a file in which nothing is that is wanted."""
    return pa.RecordBatch.from_struct_array(pa.array([{}] * count, pa.struct([])))
