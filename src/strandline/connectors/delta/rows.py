"""Rows of one table on their way into data files and out of them: encoded, split by partition, written; read and decoded."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from strandline.connectors.arrow.casts import cast_to
from strandline.connectors.delta.delta_table import DataFile, DeltaTable, schema_fields
from strandline.connectors.delta.types import decoded, encoded, written_as
from strandline.destination import Scope
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa, pc, pq
from strandline.table import CLIENT_ID, SOURCE_NAME, Table

__all__ = ["Form", "RawFile", "Writer", "in_scope", "keys_of"]

_BUFFER_BYTES = 32 << 20
"""How much waits in memory until it becomes a row group."""
_FILE_BYTES = 128 << 20
"""When the next file is begun."""
_STATS_CHARS_MAX = 32
_PARTITIONS_MAX = 1000


@dataclass(frozen=True)
class Form:
    """How the rows of a stored table are laid out."""

    table: Table
    partition_by: tuple[str, ...] = ()

    @cached_property
    def written(self) -> "dict[str, pa.DataType]":
        """The columns that are written, with their types in the files; partition columns are among them.

        Raises:
            TaskError: a column cannot be stored, or be part of the key, or partition by it.
            UsageError: there is no column to partition by.
        """
        table, found = self.table, {}
        folded: dict[str, str] = {}
        for one in table.schema:
            where = f"{table.name}.{one.name}"
            other = folded.setdefault(one.name.casefold(), one.name)
            if other != one.name:
                raise TaskError(f"{where}: Delta takes it for {other!r}", hint="leave one of them out by `columns`")
            if not one.name or not _is_unicode(one.name):
                raise TaskError(f"{where}: Delta has no such name of a column")
            kind = written_as(one.type, where)
            if kind is not None:
                found[one.name] = kind
            if one.name in table.primary_key and (kind is None or pa.types.is_nested(kind)):
                raise TaskError(f"{where}: {one.type} cannot be part of a primary key")
        for name in self.partition_by:
            if name not in table.schema.names:
                raise UsageError(f"partition_by: {table.name} has no column {name!r}")
            if name not in found or not _can_partition(found[name]):
                raise TaskError(
                    f"{table.name}.{name}: {table.schema.field(name).type} cannot be partitioned by",
                    hint="texts, whole numbers, dates and booleans can",
                )
        return found

    @cached_property
    def in_files(self) -> "pa.Schema":
        """The columns of a file."""
        return pa.schema([one for one in self.written.items() if one[0] not in self.partition_by])

    @property
    def columns(self) -> list[Mapping[str, Any]]:
        """Delta's schema."""
        return schema_fields(pa.schema(list(self.written.items())))

    def encoded(self, batch: "pa.RecordBatch") -> "pa.Table":
        """A batch of the source as it is written; with the columns that it has."""
        arrays = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            where = f"{self.table.name}.{name}"
            if name not in self.table.schema.names:
                raise TaskError(f"{self.table.name} has no column {name!r}")
            if name in self.written:
                kind = self.table.schema.field(name).type
                arrays[name] = encoded(cast_to(column, kind, where=where), self.written[name], where=where)
        return pa.table(arrays)

    def whole(self, rows: "pa.Table") -> "pa.Table":
        """With all columns that are written, in order; what is not there is null."""
        there = rows.schema.names
        columns = [
            rows.column(name).cast(kind) if name in there else pa.nulls(rows.num_rows, kind)
            for name, kind in self.written.items()
        ]
        return pa.table(columns, names=list(self.written))

    def stored(
        self, delta: DeltaTable, file: DataFile, columns: Sequence[str] | None = None
    ) -> "Iterator[pa.RecordBatch]":
        """The rows of a file as they were encoded; of these columns those that are written."""
        wanted = [name for name in (self.written if columns is None else columns) if name in self.written]
        for batch in delta.batches(file, [name for name in wanted if name not in self.partition_by]):
            if wanted:
                yield self.of_raw(batch, file, wanted)

    def of_raw(self, batch: "pa.RecordBatch", file: DataFile, columns: Sequence[str]) -> "pa.RecordBatch":
        """Rows as they lie in a file with these columns, as they were encoded."""
        arrays = []
        for name in columns:
            kind = self.written[name]
            if name in self.partition_by:
                arrays.append(pa.repeat(pa.scalar(file.partition.get(name), kind), batch.num_rows))
            elif name in batch.schema.names:
                arrays.append(batch.column(name).cast(kind))
            else:
                arrays.append(pa.nulls(batch.num_rows, kind))
        return pa.record_batch(arrays, names=list(columns))

    def read(
        self, delta: DeltaTable, file: DataFile, columns: Sequence[str], schema: "pa.Schema"
    ) -> "Iterator[pa.RecordBatch]":
        """The rows of a file in Arrow's types, those of ``schema``."""
        one_at_least = [*columns, *list(self.written)[:1]]
        for batch in self.stored(delta, file, list(dict.fromkeys(one_at_least))):
            arrays = []
            for name in columns:
                field = schema.field(name)
                if name not in batch.schema.names:
                    arrays.append(pa.nulls(batch.num_rows, field.type))
                    continue
                where = f"{self.table.name}.{name}"
                found = decoded(batch.column(name), self.table.schema.field(name).type, where=where)
                arrays.append(
                    found if found.type == field.type else decoded(batch.column(name), field.type, where=where)
                )
            yield pa.record_batch(arrays, schema=pa.schema([schema.field(name) for name in columns]))


class Writer:
    """Writes rows into new files, which nobody sees until a commit names them. Used by one thread."""

    def __init__(self, delta: DeltaTable, form: Form) -> None:
        self._delta, self._form = delta, form
        self._open: dict[tuple[Any, ...], RawFile] = {}
        self._files: list[RawFile] = []
        self._adds: list[Mapping[str, Any]] = []

    def write(self, rows: "pa.Table") -> None:
        """Rows as they are encoded, with all columns that are written."""
        for values, part in self._split(rows):
            file = self._open.get(values)
            if file is None:
                if len(self._open) >= _PARTITIONS_MAX:
                    raise TaskError(
                        f"table {self._form.table.name!r}: the rows of one window have more than {_PARTITIONS_MAX} different "
                        f"values of {', '.join(self._form.partition_by)}, each a file of its own",
                        hint="partition by a column with fewer values, or make windows smaller (batch_size)",
                    )
                file = RawFile(self._delta, dict(zip(self._form.partition_by, values, strict=True)))
                self._open[values] = file
                self._files.append(file)
            file.write(part)
            if file.bytes >= _FILE_BYTES:
                self._adds += self._open.pop(values).finish()

    def finish(self) -> list[Mapping[str, Any]]:
        """Delta's actions ``add``, once all files are durable but for their names."""
        for file in self._open.values():
            self._adds += file.finish()
        self._open = {}
        return self._adds

    def discard(self) -> None:
        """Leave nothing."""
        for file in self._files:
            file.discard()

    def _split(self, rows: "pa.Table") -> "Iterator[tuple[tuple[Any, ...], pa.Table]]":
        names = list(self._form.partition_by)
        if not rows.num_rows:
            return
        if not names:
            yield (), rows
            return
        apart = rows.select(names).group_by(names).aggregate([])
        for group in apart.to_pylist():
            mask = None
            for name in names:
                value = pa.scalar(group[name], rows.schema.field(name).type)
                same = pc.is_null(rows[name]) if group[name] is None else pc.equal(rows[name], value)
                same = pc.fill_null(same, fill_value=False)
                mask = same if mask is None else pc.and_(mask, same)
            yield tuple(group[name] for name in names), rows.filter(mask).drop_columns(names)


class RawFile:
    """One new data file, of rows that are encoded, and of one partition."""

    def __init__(self, delta: DeltaTable, partition: Mapping[str, Any]) -> None:
        self.bytes = 0
        self._delta, self._partition = delta, partition
        self._path = delta.new_name()
        self._sink: Any = None
        self._writer: Any = None
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._described: list[Any] = []

    def write(self, rows: "pa.Table") -> None:
        """More rows, of the columns that the file has."""
        if not rows.num_rows:
            return
        self._waiting.append(rows)
        self._waiting_bytes += rows.nbytes
        self.bytes += rows.nbytes
        if self._waiting_bytes >= _BUFFER_BYTES:
            self._flush()

    def finish(self) -> list[Mapping[str, Any]]:
        """Delta's action ``add``, once the file is durable but for its name; none where it has no rows."""
        if self._waiting:
            self._flush()
        if self._writer is None:
            return []
        self._writer.close()
        size = self._sink.tell()
        self._sink.keep()
        added = {
            "path": self._path,
            "partitionValues": {name: _partition_text(name, value) for name, value in self._partition.items()},
            "size": size,
            "dataChange": True,
            "stats": _json_stats(self._described[0]),
        }
        return [added]

    def discard(self) -> None:
        """Leave nothing."""
        if self._sink is not None:
            self._sink.discard()

    def _flush(self) -> None:
        rows = pa.concat_tables(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        if self._writer is None:
            self._sink = self._delta.sink(self._path)
            self._writer = pq.ParquetWriter(
                self._sink, rows.schema, compression="snappy", metadata_collector=self._described
            )
        self._writer.write_table(rows)


def keys_of(rows: "pa.Table | pa.RecordBatch", names: Sequence[str]) -> "pa.Array":
    """One value a row that is equal where all of these columns are; of encoded rows. Null where one of them is."""
    columns = [rows.column(name) for name in names]
    columns = [one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one for one in columns]
    if len(columns) == 1 and not pa.types.is_floating(columns[0].type):
        return columns[0]
    parts: list[Any] = []
    for column in columns:
        part = _key_part(column)
        parts += [pc.binary_length(part).cast(pa.string()).cast(pa.binary()), part]
    return pc.binary_join_element_wise(*parts, b":")


def _key_part(column: "pa.Array") -> "pa.Array":
    types, kind = pa.types, column.type
    if types.is_binary(kind) or types.is_string(kind):
        return column.cast(pa.binary())
    if types.is_floating(kind):  # of two zeros one is as good
        column = pc.add(column, pa.scalar(0.0, kind))
    elif types.is_temporal(kind):
        column = column.view(pa.int32() if kind.bit_width == pa.int32().bit_width else pa.int64())
    return column.cast(pa.string()).cast(pa.binary())


def in_scope(rows: "pa.RecordBatch", scope: Scope) -> "pa.Array":
    """Whether each encoded row is of a scope."""
    names = rows.schema.names
    if SOURCE_NAME not in names:
        return pa.repeat(pa.scalar(False), rows.num_rows)
    mine = pc.fill_null(pc.equal(rows.column(SOURCE_NAME), scope.source_name), fill_value=False)
    if CLIENT_ID in names:
        client = rows.column(CLIENT_ID)
        same = pc.is_null(client) if scope.partition is None else pc.equal(client, scope.partition)
        return pc.and_(mine, pc.fill_null(same, fill_value=False))
    return mine if scope.partition is None else pa.repeat(pa.scalar(False), rows.num_rows)


def _is_unicode(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _can_partition(kind: "pa.DataType") -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_date(kind))


def _partition_text(name: str, value: Any) -> str | None:
    if value == "":
        raise TaskError(
            f"partition_by {name}: Delta takes an empty text for a null", hint="partition by another column"
        )
    if value is None:
        return None
    return (
        str(value).lower() if isinstance(value, bool) else value.isoformat() if isinstance(value, date) else str(value)
    )


def _json_stats(described: Any) -> str:
    """Delta's statistics of a file; of such columns whose bounds are exact in JSON."""
    whole = described.schema.to_arrow_schema()
    simple = {one.name for one in whole if not pa.types.is_nested(one.type)}
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    unknown: set[str] = set()
    for group in (described.row_group(at) for at in range(described.num_row_groups)):
        for column in (group.column(at) for at in range(group.num_columns)):
            name, found = column.path_in_schema, column.statistics if column.is_stats_set else None
            if found is not None and not found.has_min_max and found.null_count == group.num_rows:
                continue
            bounds = _bounds(found)
            if bounds is None or name not in simple:
                unknown.add(name)
                continue
            low[name] = min(low.get(name, bounds[0]), bounds[0])
            high[name] = max(high.get(name, bounds[1]), bounds[1])
    stats = {
        "numRecords": described.num_rows,
        "minValues": {name: value for name, value in low.items() if name not in unknown},
        "maxValues": {name: value for name, value in high.items() if name not in unknown},
    }
    return json.dumps(stats)


def _bounds(found: Any) -> tuple[Any, Any] | None:
    """The least and the greatest value, as JSON has them."""
    with suppress(ValueError, OverflowError, UnicodeDecodeError):
        if found is not None and found.has_min_max:
            low, high = _in_json(found.min), _in_json(found.max)
            return None if low is None or high is None else (low, high)
    return None


def _in_json(value: Any) -> Any:
    """A bound as JSON has it exactly; ``None``: it has not."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, date) and type(value) is date:
        return value.isoformat()
    return value if isinstance(value, str) and len(value) <= _STATS_CHARS_MAX else None
