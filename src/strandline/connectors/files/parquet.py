"""Parquet files: opened so that damage is noticed, and read so that no value becomes another.

Pages are compared with their checksums where a file has them, and the rows of each group with the footer. INT96, the times
of old writers, count nanoseconds of any day; Arrow's nanoseconds end in 2262, and those beyond would become another year.
So they are read as microseconds, and what that cuts off is looked at.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from strandline.connectors.arrow.types import plain
from strandline.connectors.files.content import Content, digest, trouble
from strandline.connectors.files.paths import shown
from strandline.connectors.files.positions import AGAIN, SETTLED, Position, Step, Work, young
from strandline.errors import RetryableError, TaskError
from strandline.lazy import pa, pc, pq

__all__ = ["Columnar", "parquet_schema"]

_BUFFER_BYTES, _BUFFER_BYTES_MAX = 1 << 20, 8 << 20
"""Of each column."""
_NS_MAX_US = (2**63 - 1) // 1_000 - 1
"""Of microseconds that are nanoseconds too."""


class _Reader(Protocol):
    """What is needed of ``reading.Reader``."""

    schema: "pa.Schema"
    started_ns: int
    rows_max: int

    def extend(self, found: "pa.Schema") -> bool: ...

    def pieces(self, table: "pa.Table") -> "Iterator[pa.RecordBatch]": ...


def _opened(content: Content, unit: str) -> "pq.ParquetFile":
    metadata = pq.read_metadata(content.for_arrow())
    room = content.file.place.buffer_bytes // max(metadata.num_columns, 1)
    return pq.ParquetFile(
        content.for_arrow(),
        metadata=metadata,
        buffer_size=max(_BUFFER_BYTES, min(room, _BUFFER_BYTES_MAX)),
        page_checksum_verification=True,
        coerce_int96_timestamp_unit=unit,
    )


def _has_int96(file: "pq.ParquetFile") -> bool:
    return any(file.schema.column(at).physical_type == "INT96" for at in range(len(file.schema)))


def parquet_schema(content: Content) -> "pa.Schema":
    """The columns of a Parquet file.

    Raises:
        TaskError: it is damaged, or two columns have one name.
    """
    try:
        return _schema(content, _opened(content, "us"))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise trouble(content.file, error) from error


def _schema(content: Content, file: "pq.ParquetFile") -> "pa.Schema":
    names = file.schema_arrow.names
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise TaskError(
            f"{shown(content.file.key)}: it has column {twice[0]!r} twice", hint="write the file with names that differ"
        )
    return pa.schema([(field.name, plain(field.type)) for field in file.schema_arrow])


class Columnar:
    """A Parquet file. What of it was delivered is a number of rows."""

    def __init__(self, reader: _Reader, content: Content, work: Work) -> None:
        self._reader = reader
        self._content = content
        self._start = work.start

    def steps(self) -> Iterator[Step]:
        """See ``reading.Reader``."""
        content, reader = self._content, self._reader
        size = content.look.size
        done = self._start.skip if self._start else 0
        reached = self._start.digest if self._start else _digest_of(content)
        now = Position.first(content.look, reached, covered=size, rows=done)
        if size:
            file = _opened(content, "us")
            reader.extend(_schema(content, file))
            fine = _opened(content, "ns") if _has_int96(file) else None
            for batch in self._batches(file, fine, done):
                for piece in reader.pieces(self._cast(batch)):
                    now = now._replace(skip=now.skip + piece.num_rows, rows=now.rows + piece.num_rows)
                    yield piece, now
        mark = AGAIN if young(content.look, reader.started_ns) else SETTLED
        yield None, now._replace(end=size, skip=0, mark=mark)

    def _batches(self, file: "pq.ParquetFile", fine: "pq.ParquetFile | None", skip: int) -> "Iterator[pa.RecordBatch]":
        """The rows after the first ``skip``. ``fine`` is the same file, opened in nanoseconds, where it has INT96."""
        if file.metadata.num_rows != sum(self._group_rows(file)):
            raise self._damaged(
                f"its groups have {sum(self._group_rows(file))} rows, and all of it {file.metadata.num_rows}"
            )
        for group, rows in enumerate(self._group_rows(file)):
            if skip >= rows:
                skip -= rows
                continue
            read = 0
            self._content.expect(*_span(file.metadata.row_group(group)))
            options = {"batch_size": self._reader.rows_max, "row_groups": [group]}
            others = fine.iter_batches(**options) if fine else None
            for batch in file.iter_batches(**options):
                read += batch.num_rows
                passed = min(skip, batch.num_rows)
                skip -= passed
                exact = self._with_nanoseconds(batch, next(others)) if others else batch
                yield exact.slice(passed)
            if read != rows:
                raise self._damaged(f"{read} rows were read where the footer says {rows}")

    @staticmethod
    def _group_rows(file: "pq.ParquetFile") -> list[int]:
        return [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]

    def _damaged(self, what: str) -> TaskError:
        return TaskError(
            f"{shown(self._content.file.key)}: damaged: {what}",
            hint="put a complete file in its place, or move it away",
        )

    def _with_nanoseconds(self, coarse: "pa.RecordBatch", fine: "pa.RecordBatch") -> "pa.RecordBatch":
        """The times of ``fine`` where they are right and their column has them; of ``coarse`` where it loses nothing."""
        columns = []
        for name, one, other in zip(coarse.schema.names, coarse.columns, fine.columns, strict=True):
            wanted = self._reader.schema.field(name).type
            if one.type == other.type:
                columns.append(one)
                continue
            _check_times(self._content, name, one, other, nanoseconds=_unit_of(wanted) == "ns")
            columns.append(other if _unit_of(wanted) == "ns" else one)
        return pa.record_batch(columns, names=coarse.schema.names)

    def _cast(self, batch: "pa.RecordBatch") -> "pa.Table":
        columns, fields = [], []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            field = self._reader.schema.field(name)
            try:
                columns.append(column.cast(field.type))
            except (ValueError, pa.ArrowException) as error:
                raise TaskError(
                    f"{shown(self._content.file.key)}: column {name!r} is {column.type} there, and {field.type} in other"
                    f" files of its table: {error}",
                    hint="put the file into a table of its own",
                ) from error
            fields.append(field)
        return pa.table(columns, schema=pa.schema(fields))


def _span(group: "pq.RowGroupMetaData") -> tuple[int, int]:
    """Where the columns of a row group begin and end."""
    columns = [group.column(at) for at in range(group.num_columns)]
    starts = [one.dictionary_page_offset or one.data_page_offset for one in columns]
    ends = [start + one.total_compressed_size for start, one in zip(starts, columns, strict=True)]
    return min(starts, default=0), max(ends, default=0)


def _unit_of(type_: "pa.DataType") -> str:
    """Of the first times in a type, however deep; empty: there are none."""
    if pa.types.is_timestamp(type_):
        return str(type_.unit)
    inside = [type_.field(at).type for at in range(type_.num_fields)]
    return next(filter(None, map(_unit_of, inside)), "")


def _times(array: "pa.Array") -> "Iterator[pa.Array]":
    """All times in an array, however deep, as whole numbers."""
    if pa.types.is_timestamp(array.type):
        yield array.cast(pa.int64())
    elif pa.types.is_struct(array.type):
        for child in array.flatten():
            yield from _times(child)
    elif pa.types.is_map(array.type):
        yield from _times(array.keys)
        yield from _times(array.items)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield from _times(array.flatten())


def _check_times(content: Content, name: str, coarse: "pa.Array", fine: "pa.Array", *, nanoseconds: bool) -> None:
    for us, ns in zip(_times(coarse), _times(fine), strict=True):
        where = f"{shown(content.file.key)}: column {name!r}"
        if nanoseconds and (pc.max(pc.abs(us)).as_py() or 0) > _NS_MAX_US:
            raise TaskError(
                f"{where}: a time is beyond 1677 to 2262, which is all that nanoseconds hold",
                hint=f'declare it: `types: {{{name}: "timestamp[us]"}}`',
            )
        # both wrap in the same way, so the difference is right for every year
        if not nanoseconds and pc.any(pc.not_equal(pc.subtract(ns, pc.multiply(us, 1_000)), 0)).as_py():
            raise TaskError(
                f"{where}: a time has nanoseconds, which microseconds do not hold",
                hint=f'declare it: `types: {{{name}: "timestamp[ns]"}}`',
            )


def _digest_of(content: Content) -> str:
    for whole in content.prefixes([content.look.size]):
        return digest(whole.hasher)
    raise RetryableError(f"{shown(content.file.key)}: became shorter while it was read")
