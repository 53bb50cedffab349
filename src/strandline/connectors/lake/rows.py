"""Rows of one table on their way into data files and out of them: encoded, split by partition, written; read and decoded."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

from strandline.connectors.arrow.casts import cast_to
from strandline.connectors.lake.lake_table import DataFile, LakeTable
from strandline.connectors.lake.types import Types, decoded, encoded
from strandline.destination import Scope
from strandline.errors import TaskError
from strandline.lazy import pa, pc, pq
from strandline.table import CLIENT_ID, SOURCE_NAME, Table

__all__ = ["DataWriter", "Form", "RawFile", "Writer", "in_scope", "keys_of"]

_BUFFER_BYTES = 32 << 20
"""How much waits in memory until it becomes a row group."""


@dataclass(frozen=True)
class Form(ABC):
    """How the rows of a stored table are laid out."""

    table: Table
    partition_by: tuple[str, ...] = ()
    """As the format says what its files are apart by."""
    types: ClassVar[Types]
    rewrites: ClassVar[bool] = True
    """Whether rows may leave files that are there; else they are only added to."""
    bytes_max: ClassVar[int] = 128 << 20
    """Of rows, in memory; then the next file is begun."""
    more: ClassVar[str] = ""
    """What else helps against too many partitions."""

    @property
    def apart(self) -> tuple[str, ...]:
        """By what its files are apart, for people."""
        return self.partition_by

    @property
    def partitions_max(self) -> int:
        """How many files may be open at once."""
        return 1000

    @property
    def laid_out(self) -> str:
        """How its files are, in words."""
        return f"partitioned by {self.apart}"

    def writer(self, sink: Any, schema: "pa.Schema") -> "DataWriter":
        """What writes a data file."""
        return _ParquetWriter(sink, schema)

    @property
    def outside(self) -> tuple[str, ...]:
        """Columns that are not in the files, but said of each."""
        return ()

    @abstractmethod
    def check_partition(self, written: "Mapping[str, pa.DataType]") -> None:
        """Whether its files can be apart so.

        Raises:
            TaskError: a column cannot be partitioned by.
            UsageError: there is no such column.
        """

    @abstractmethod
    def split(self, rows: "pa.Table") -> "Iterator[tuple[tuple[Any, ...], Mapping[str, Any], pa.Table]]":
        """Encoded rows by partition: what tells it from others, what ``DataFile.partition`` has of it, and its rows."""

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
                raise TaskError(
                    f"{where}: {self.types.name} takes it for {other!r}", hint="leave one of them out by `columns`"
                )
            if not one.name or not _is_unicode(one.name):
                raise TaskError(f"{where}: {self.types.name} has no such name of a column")
            kind = self.types.written_as(one.type, where)
            if kind is not None:
                found[one.name] = kind
            if one.name in table.primary_key and (kind is None or pa.types.is_nested(kind)):
                raise TaskError(f"{where}: {one.type} cannot be part of a primary key")
        self.check_partition(found)
        return found

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
        self, stored: LakeTable, file: DataFile, columns: Sequence[str] | None = None
    ) -> "Iterator[pa.RecordBatch]":
        """The rows of a file as they were encoded; of these columns those that are written."""
        wanted = [name for name in (self.written if columns is None else columns) if name in self.written]
        for batch in stored.batches(file, [name for name in wanted if name not in self.outside]):
            if wanted:
                yield self.of_raw(batch, file, wanted)

    def of_raw(self, batch: "pa.RecordBatch", file: DataFile, columns: Sequence[str]) -> "pa.RecordBatch":
        """Rows as they lie in a file with these columns, as they were encoded."""
        arrays = []
        for name in columns:
            kind = self.written[name]
            if name in self.outside:
                arrays.append(pa.repeat(pa.scalar(file.partition.get(name), kind), batch.num_rows))
            elif name in batch.schema.names:
                arrays.append(batch.column(name).cast(kind))
            else:
                arrays.append(pa.nulls(batch.num_rows, kind))
        return pa.record_batch(arrays, names=list(columns))

    def read(
        self, stored: LakeTable, file: DataFile, columns: Sequence[str], schema: "pa.Schema"
    ) -> "Iterator[pa.RecordBatch]":
        """The rows of a file in Arrow's types, those of ``schema``."""
        one_at_least = [*columns, *list(self.written)[:1]]
        for batch in self.stored(stored, file, list(dict.fromkeys(one_at_least))):
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


class DataWriter(Protocol):
    """Writes one data file. Its ``sink`` stays open."""

    @property
    def described(self) -> Any:
        """What ``LakeTable.added`` is told of it."""

    def write_table(self, rows: "pa.Table") -> None:
        """More rows."""

    def close(self) -> None:
        """The end of the file."""


class _ParquetWriter:
    def __init__(self, sink: Any, schema: "pa.Schema") -> None:
        self._found: list[Any] = []
        self._writer = pq.ParquetWriter(sink, schema, compression="snappy", metadata_collector=self._found)
        self.write_table, self.close = self._writer.write_table, self._writer.close

    @property
    def described(self) -> Any:
        return self._found[0]


class Writer:
    """Writes rows into new files, which nobody sees until a commit names them. Used by one thread."""

    def __init__(self, stored: LakeTable, form: Form) -> None:
        self._stored, self._form = stored, form
        self._open: dict[tuple[Any, ...], RawFile] = {}
        self._files: list[RawFile] = []
        self._adds: list[Mapping[str, Any]] = []

    def write(self, rows: "pa.Table") -> None:
        """Rows as they are encoded, with all columns that are written."""
        for values, partition, part in self._form.split(rows) if rows.num_rows else ():
            file = self._open.get(values)
            if file is None:
                if len(self._open) >= self._form.partitions_max:
                    raise TaskError(
                        f"table {self._form.table.name!r}: the rows of one window have more than {self._form.partitions_max} "
                        f"different values of {', '.join(self._form.apart)}, each a file of its own",
                        hint=f"partition by a column with fewer values, or make windows smaller (batch_size){self._form.more}",
                    )
                file = RawFile(self._stored, self._form, partition)
                self._open[values] = file
                self._files.append(file)
            file.write(part)
            if file.bytes >= self._form.bytes_max:
                self._adds += self._open.pop(values).finish()

    def finish(self) -> list[Mapping[str, Any]]:
        """What ``Intent.adds`` has of them, once all files are durable but for their names."""
        for file in self._open.values():
            self._adds += file.finish()
        self._open = {}
        return self._adds

    def discard(self) -> None:
        """Leave nothing."""
        for file in self._files:
            file.discard()


class RawFile:
    """One new data file, of rows that are encoded, and of one partition."""

    def __init__(self, stored: LakeTable, form: Form, partition: Mapping[str, Any]) -> None:
        self.bytes = 0
        self._stored, self._form, self._partition = stored, form, partition
        self._path = stored.new_name()
        self._sink: Any = None
        self._writer: DataWriter | None = None
        self._schema: Any = None
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0

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
        """What ``Intent.adds`` has of it, once the file is durable but for its name; nothing where it has no rows."""
        if self._waiting:
            self._flush()
        if self._writer is None:
            return []
        self._writer.close()
        size = self._sink.tell()
        self._sink.keep()
        return [self._stored.added(self._path, size, self._partition, self._writer.described)]

    def discard(self) -> None:
        """Leave nothing."""
        if self._sink is not None:
            self._sink.discard()

    def _flush(self) -> None:
        rows = pa.concat_tables(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        if self._writer is None:
            self._schema = self._stored.schema_of(rows.schema, self._form)
            self._sink = self._stored.sink(self._path)
            self._writer = self._form.writer(self._sink, self._schema)
        self._writer.write_table(pa.table(rows.columns, schema=self._schema))


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
