"""Messages that are kept on the disk until every column is known that they need.

Rows that were sent cannot get a column any more before a checkpoint follows them, and an unsorted stream has none. So a pass that was
begun again for a new column is read to its end first.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace

from strandline.lazy import pa, pc
from strandline.message import Insert, Schema, SourceMessage
from strandline.table import Table

__all__ = ["columns_first"]

_MEMORY_BYTES = 8 << 20


def columns_first(messages: Iterable[SourceMessage]) -> Iterator[SourceMessage]:
    """The messages with the last ``Schema`` of each table before all others, and every batch with all of its columns."""
    tables: dict[str, Table] = {}
    kept: list[SourceMessage] = []
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as file:
        for message in messages:
            if isinstance(message, Schema):
                tables[message.table.name] = message.table
                continue
            if isinstance(message, Insert):
                with pa.ipc.new_stream(file, message.batch.schema) as stream:
                    stream.write_batch(message.batch)
                message = replace(message, batch=message.batch.slice(0, 0))  # noqa: PLW2901 -- its rows are in the file
            kept.append(message)
        yield from (Schema(table) for table in tables.values())
        file.seek(0)
        for message in kept:
            if isinstance(message, Insert):
                [batch] = pa.ipc.open_stream(file)
                yield replace(message, batch=_whole(batch, tables.get(message.table)))
            else:
                yield message


def _whole(batch: "pa.RecordBatch", table: Table | None) -> "pa.RecordBatch":
    if table is None or batch.schema.equals(table.schema):
        return batch
    have = set(batch.schema.names)
    columns = []
    for one in table.schema:
        kind = table.former.get(one.name, one.type) if one.name in have else one.type
        # in its former type it stays, as every batch before had it
        kind = kind if one.name in have and batch.schema.field(one.name).type == kind else one.type
        columns.append(pc.cast(batch[one.name], kind) if one.name in have else pa.nulls(batch.num_rows, kind))
    return pa.record_batch(columns, names=table.schema.names)
