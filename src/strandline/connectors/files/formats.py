"""The formats of data files: Parquet, CSV and JSON lines. A column in a file, and back, without loss.

Parquet has no interval that is exact, so an interval is a struct of months, days and nanoseconds, and what has intervals
inside is JSON. In CSV what is not a number is quoted text, so that an empty text (``""``) is not a null (nothing). JSON lines have a member
for each column. Both write times, bytes and nested values as ``json_text`` does.
"""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, TypeAlias

from strandline.connectors.arrow.casts import cast_back, cast_to
from strandline.connectors.arrow.json_text import decode_json, encode_json, interval_parts, read_text, text_of
from strandline.errors import TaskError
from strandline.lazy import pa, pa_csv, pc, pq

__all__ = ["FORMATS", "Columns", "Compression", "Content", "DataFile", "FileFormat", "Form"]

Columns: TypeAlias = "tuple[int, Mapping[str, pa.Array]]"
"""How many rows, and columns by name."""
Content: TypeAlias = "Path | pa.Buffer"
"""Of a data file: where it lies, or all of it."""

_READ_ROWS = 65_536
_TEXT_ROWS = 8_192
"""How many rows become text at once, which is several times as large as they are."""
_TEXT_BLOCK_BYTES = 1 << 20
_DICTIONARY_BYTES_MAX = 64 << 10
"""Of the different values of a column in a row group of Parquet; one that has more is written without a dictionary. With
Parquet's default, 1 MiB, columns of which every value is another one spend half of all the time on theirs."""
_CSV_BLOCK_BYTES = 32 << 20
"""A row of CSV must not be longer than that to be read back."""


_INTERVAL = {"months": "int32", "days": "int32", "nanoseconds": "int64"}


class FileFormat(StrEnum):
    """What a data file is."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


class Compression(StrEnum):
    """How a data file is compressed."""

    ZSTD = "zstd"
    SNAPPY = "snappy"
    GZIP = "gzip"
    NONE = "none"


class Form(ABC):
    """One format."""

    name: FileFormat
    compressions: Sequence[Compression]
    """The first is the default."""
    refused: Mapping[str, str]
    """See ``Capabilities.types_refused``."""

    @abstractmethod
    def suffix(self, compression: Compression) -> str:
        """Of a file's name."""

    @abstractmethod
    def check(self, kind: "pa.DataType", *, where: str) -> None:
        """Whether a column of this type can be stored.

        Raises:
            TaskError: it cannot.
        """

    @abstractmethod
    def file_type(self, kind: "pa.DataType") -> "pa.DataType":
        """The type in which values of a column are given to ``writer``."""

    @abstractmethod
    def to_file(self, array: "pa.Array", *, where: str) -> "pa.Array":
        """A column in that type.

        Raises:
            TaskError: a value has no place in it.
        """

    @abstractmethod
    def writer(self, file: IO[bytes], schema: "pa.Schema", compression: Compression, opened: ExitStack) -> Any:
        """Something with ``write_table``; ``opened`` closes it."""

    @abstractmethod
    def read(self, content: Content, schema: "pa.Schema", *, where: str) -> Iterator[Columns]:
        """The columns of ``schema`` that a file has, in its types; and how many rows they have. ``where`` ends as its name."""

    def is_one(self, name: str) -> bool:
        """Whether a file of this name is one of this format."""
        return any(name.endswith(self.suffix(compression)) for compression in self.compressions)


class _Parquet(Form):
    name = FileFormat.PARQUET
    compressions = (Compression.ZSTD, Compression.SNAPPY, Compression.GZIP, Compression.NONE)
    refused: Mapping[str, str] = dict.fromkeys(["dense_union", "sparse_union"], "Parquet has no unions")

    def suffix(self, compression: Compression) -> str:
        del compression
        return ".parquet"

    def check(self, kind: "pa.DataType", *, where: str) -> None:
        try:
            nothing = self.to_file(pa.nulls(1, kind), where=where)
            pq.write_table(pa.table({"value": nothing}), io.BytesIO())
        except (pa.ArrowException, OSError) as error:
            raise TaskError(f"{where}: {kind} cannot be stored in Parquet ({error})") from error
        _of_parquet(nothing, kind, where)

    def file_type(self, kind: "pa.DataType") -> "pa.DataType":
        return _parquet_type(kind)

    def to_file(self, array: "pa.Array", *, where: str) -> "pa.Array":
        kind = array.type
        if pa.types.is_interval(kind):
            return interval_parts(array)
        if _has_interval(kind):
            return encode_json(array, where=where).cast(pa.string())
        return cast_to(array, _parquet_type(kind), where=where)

    def writer(self, file: IO[bytes], schema: "pa.Schema", compression: Compression, opened: ExitStack) -> Any:
        options = {"compression": compression.value, "dictionary_pagesize_limit": _DICTIONARY_BYTES_MAX}
        return opened.enter_context(pq.ParquetWriter(file, schema, version="2.6", write_page_checksum=True, **options))

    def read(self, content: Content, schema: "pa.Schema", *, where: str) -> Iterator[Columns]:
        with pq.ParquetFile(content if isinstance(content, Path) else pa.BufferReader(content)) as file:
            there = set(file.schema_arrow.names)
            columns = [name for name in schema.names if name in there]
            for batch in file.iter_batches(batch_size=_READ_ROWS, columns=columns):
                kinds = {name: schema.field(name).type for name in columns}
                arrays = {
                    name: _of_parquet(batch.column(name), kind, f"{where}: {name}") for name, kind in kinds.items()
                }
                yield batch.num_rows, arrays


def _parquet_type(kind: "pa.DataType") -> "pa.DataType":  # noqa: C901 -- a line for each family of types
    """The type that comes back from Parquet as it went in."""
    types = pa.types
    if types.is_interval(kind):
        return pa.struct([(name, getattr(pa, kind)()) for name, kind in _INTERVAL.items()])
    if _has_interval(kind):
        return pa.string()
    if isinstance(kind, pa.BaseExtensionType):
        return kind
    if types.is_date64(kind):
        return pa.date32()
    if types.is_time32(kind):
        return pa.time32("ms")
    if types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    if types.is_decimal(kind) and kind.scale < 0:
        digits = kind.precision - kind.scale
        return pa.decimal128(digits, 0) if digits <= pa.decimal128(38).precision else pa.decimal256(digits, 0)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _parquet_type(kind.value_type)
    if types.is_struct(kind):
        return pa.struct(
            [kind.field(at).with_type(_parquet_type(kind.field(at).type)) for at in range(kind.num_fields)]
        )
    if types.is_map(kind):
        return pa.map_(_parquet_type(kind.key_type), kind.item_field.with_type(_parquet_type(kind.item_type)))
    if types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_parquet_type(kind.value_type)), kind.list_size)
    if types.is_nested(kind) and not types.is_union(kind):
        large = types.is_large_list(kind) or types.is_large_list_view(kind)
        inner = kind.value_field.with_type(_parquet_type(kind.value_type))
        return pa.large_list(inner) if large else pa.list_(inner)
    return kind


def _of_parquet(array: "pa.Array", kind: "pa.DataType", where: str) -> "pa.Array":
    """What ``to_file`` was given; also of a file in which the column was narrower."""
    if pa.types.is_interval(kind):
        rows = [None if row is None else tuple(row.values()) for row in array.to_pylist()]
        return pa.array(rows, kind)
    if _has_interval(kind):
        return decode_json(array, kind, where=where)
    return cast_back(array, kind, where=where)


def _has_interval(kind: "pa.DataType") -> bool:
    """Whether there is one inside; then the column is JSON."""
    if isinstance(kind, pa.BaseExtensionType):
        return _has_interval(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _has_interval(kind.value_type)
    return bool(pa.types.is_interval(kind)) or any(_has_interval(kind.field(at).type) for at in range(kind.num_fields))


class _Text(Form):
    """A format of texts, all of it compressed or not."""

    compressions = (Compression.NONE, Compression.GZIP, Compression.ZSTD)
    refused: Mapping[str, str] = dict.fromkeys(
        ["dense_union", "sparse_union"], "a text would not say which type it was"
    )

    def suffix(self, compression: Compression) -> str:
        return f".{self.name}{ {Compression.GZIP: '.gz', Compression.ZSTD: '.zst'}.get(compression, '') }"

    def check(self, kind: "pa.DataType", *, where: str) -> None:
        decode_json(encode_json(pa.nulls(1, kind), where=where), kind, where=where)

    def file_type(self, kind: "pa.DataType") -> "pa.DataType":
        return kind

    def to_file(self, array: "pa.Array", *, where: str) -> "pa.Array":
        del where
        return array

    @staticmethod
    def _stream(file: IO[bytes], compression: Compression, opened: ExitStack) -> Any:
        if compression is Compression.NONE:
            return file
        return opened.enter_context(pa.CompressedOutputStream(file, compression.value))

    @staticmethod
    def _input(content: Content, where: str) -> Any:
        compression = {"gz": "gzip", "zst": "zstd"}.get(where.rpartition(".")[2])
        return pa.input_stream(str(content) if isinstance(content, Path) else content, compression=compression)


class _CSV(_Text):
    name = FileFormat.CSV

    def writer(self, file: IO[bytes], schema: "pa.Schema", compression: Compression, opened: ExitStack) -> Any:
        return _CSVWriter(self._stream(file, compression, opened), schema)

    def read(self, content: Content, schema: "pa.Schema", *, where: str) -> Iterator[Columns]:
        parse = pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
        block = pa_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES)
        with (
            self._input(content, where) as stream,
            pa_csv.open_csv(stream, parse_options=parse, read_options=block) as sniffed,
        ):
            names = sniffed.schema.names
        convert = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        with (
            self._input(content, where) as stream,
            pa_csv.open_csv(stream, parse_options=parse, convert_options=convert, read_options=block) as reader,
        ):
            columns = [name for name in schema.names if name in names]
            for batch in reader:
                kinds = {name: schema.field(name).type for name in columns}
                yield (
                    batch.num_rows,
                    {name: _of_cell(batch.column(name), kind, f"{where}: {name}") for name, kind in kinds.items()},
                )


def _text_batches(table: "pa.Table") -> "Iterator[pa.RecordBatch]":
    """Of one size: many small ones take twice the time, which is more than the copy. Parquet does not mind them."""
    yield from table.combine_chunks().to_batches(max_chunksize=_TEXT_ROWS)


class _CSVWriter:
    def __init__(self, stream: Any, schema: "pa.Schema") -> None:
        self._stream, self._schema, self._begun = stream, schema, False

    def write_table(self, table: "pa.Table") -> None:
        for batch in _text_batches(table):
            cells = [_cells(batch.column(name), where=name) for name in batch.schema.names]
            options = pa_csv.WriteOptions(include_header=not self._begun, quoting_style="needed")
            pa_csv.write_csv(pa.record_batch(cells, names=batch.schema.names), self._stream, options)
            self._begun = True


def _cells(array: "pa.Array", *, where: str) -> "pa.Array":
    """A column as Arrow's writer takes it: numbers as they are, anything else as text."""
    kind, types = array.type, pa.types
    if types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal128(kind):
        return array
    if types.is_float32(kind) or types.is_float64(kind):
        return array
    if types.is_null(kind):
        return array.cast(pa.string())
    if _is_nested(kind):
        return encode_json(array, where=where)
    return text_of(array, where=where)


def _of_cell(texts: "pa.Array", kind: "pa.DataType", where: str) -> "pa.Array":
    if _is_nested(kind):
        return decode_json(texts, kind, where=where)
    return read_text(texts, kind, where=where)


def _is_nested(kind: "pa.DataType") -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _is_nested(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return True  # text of their values: JSON is made of them, and read back, whatever they are
    return bool(pa.types.is_nested(kind))


class _JSONLines(_Text):
    name = FileFormat.JSONL

    def writer(self, file: IO[bytes], schema: "pa.Schema", compression: Compression, opened: ExitStack) -> Any:
        del schema
        return _JSONWriter(self._stream(file, compression, opened))

    def read(self, content: Content, schema: "pa.Schema", *, where: str) -> Iterator[Columns]:
        kind = pa.struct(list(schema))
        with (
            self._input(content, where) as stream,
            closing(io.TextIOWrapper(io.BufferedReader(stream), "utf-8", newline="\n")) as text,
        ):
            while lines := text.readlines(_TEXT_BLOCK_BYTES):
                rows = decode_json(pa.array(lines, pa.large_string()), kind, where=where)
                yield len(rows), {name: rows.field(at) for at, name in enumerate(schema.names)}


class _JSONWriter:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write_table(self, table: "pa.Table") -> None:
        for batch in _text_batches(table):
            rows = encode_json(batch.to_struct_array(), where="a row").cast(pa.large_string())
            nothing, end = (pa.scalar(text, pa.large_string()) for text in ("", "\n"))
            lines = pc.binary_join_element_wise(rows, nothing, end)
            whole = pa.Array.from_buffers(pa.int64(), len(lines) + 1, [None, lines.buffers()[1]])
            self._stream.write(lines.buffers()[2].slice(0, whole[-1].as_py()))


FORMATS: Mapping[FileFormat, Form] = {form.name: form for form in (_Parquet(), _CSV(), _JSONLines())}


class DataFile:
    """A file that is being written; durable once ``close`` returns. Used by one thread.

    Args:
        path: of a file that is not there.
        writer: makes what has ``write_table``, and may have it closed at the end.
    """

    def __init__(self, path: Path, writer: Callable[[IO[bytes], ExitStack], Any]) -> None:
        self._opened = ExitStack()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        self._file = os.fdopen(self._fd, "wb", closefd=False)  # a compressor closes what it writes to
        try:
            self._writer = writer(self._file, self._opened)
        except BaseException:
            self.abort()
            raise

    def write(self, table: "pa.Table") -> None:
        """More rows; of Parquet, one row group or more."""
        self._writer.write_table(table)

    def close(self) -> None:
        """The end of the file.

        Raises:
            OSError: it may not be durable. Never to be tried again: a second fsync may succeed although data is lost.
        """
        self._opened.close()
        self._file.close()
        os.fsync(self._fd)
        fd, self._fd = self._fd, -1
        os.close(fd)

    def abort(self) -> None:
        """Give it up; a second call does nothing."""
        for close in (self._opened.close, self._file.close):
            with suppress(Exception):  # it failed before, and is thrown away
                close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
