"""Reads one file from a position on, in batches, each with the position behind it."""

import hashlib
import logging
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from strandline.errors import RetryableError, TaskError
from strandline.lazy import pa, pq
from strandline.sources._file_content import Content, digest, prefixes, trouble
from strandline.sources._file_paths import shown
from strandline.sources._file_positions import AGAIN, PARTLY, SETTLED, Position, Work, young
from strandline.sources._file_types import extended, finished, plain

__all__ = ["HEAD_BYTES", "LineFormat", "Reader", "finished_schema", "first_bad", "parquet_schema"]

log = logging.getLogger(__name__)

HEAD_BYTES = 1 << 20
"""A header must end within so many bytes."""
_BLOCK_BYTES_MIN, _BLOCK_BYTES_MAX = 64 << 10, 8 << 20
_RECORD_BYTES_MAX = 64 << 20
_QUIET_NS = 5_000_000_000
"""A last line without a newline is taken for complete when its file has not changed for so long before the run."""

Step: TypeAlias = "tuple[pa.RecordBatch | None, Position]"


class LineFormat(Protocol):
    """A format of records that end with a line. One object reads one file."""

    hint: str
    """What to do about a record that is none."""

    def begin(self, head: bytes, *, final: bool) -> int | None:
        """Where the first record begins, by the first bytes of the file; ``None``: not to be seen yet."""

    def cut(self, data: bytes) -> int:
        """Where the last complete record ends; 0 if there is none."""

    def whole(self, rest: bytes) -> bool:
        """Whether ``rest``, which no newline ends, may be a record."""

    def ends(self, data: bytes) -> list[int]:
        """Where each record ends."""

    def infer(self, data: bytes) -> "pa.Schema":
        """The columns of the file by what is in ``data``. Raises ``ValueError``."""

    def parse(self, data: bytes, schema: "pa.Schema", *, strict: bool = True) -> "pa.Table":
        """The records of ``data`` in the types of ``schema``. Raises ``ValueError``."""


@dataclass(slots=True)
class Reader:
    """Reads the files of one table. ``schema`` grows when a file has columns that no other had."""

    schema: "pa.Schema"
    lines: Callable[[], LineFormat]
    encoding: str
    wait: bool
    """What to do with a last line that is not complete: leave it for the next sync, or fail."""
    started_ns: int
    rows_max: int
    bytes_max: int

    def read(self, work: Work) -> Generator[Step, None, None]:
        """The rows of a file that were not delivered, and at last where it ends, without rows.

        Raises:
            TaskError: something in the file cannot be read. What comes before it was yielded, at least in part.
            RetryableError: the file vanished, or was replaced since it was looked at.
        """
        if work.problem is not None:
            raise work.problem
        with Content(work.file, self.encoding) as content:
            if work.start and (content.stat.st_ino != work.file.inode or content.stat.st_size < work.file.size):
                raise RetryableError(f"{shown(work.file.key)}: replaced since it was looked at")
            try:
                one = _Columnar(self, content, work) if work.file.format == "parquet" else _Lines(self, content, work)
                yield from one.steps()
            except (OSError, pa.ArrowException) as error:
                raise trouble(work.file, error) from error

    def pieces(self, table: "pa.Table") -> "Iterator[pa.RecordBatch]":
        """The rows in batches that are no larger than they may be."""
        for batch in table.combine_chunks().to_batches(max_chunksize=self.rows_max):
            yield from self._halves(batch)

    def _halves(self, batch: "pa.RecordBatch") -> "Iterator[pa.RecordBatch]":
        if batch.num_rows > 1 and batch.nbytes > self.bytes_max:
            middle = batch.num_rows // 2
            yield from self._halves(batch.slice(0, middle))
            yield from self._halves(batch.slice(middle))
        else:
            yield batch

    def extend(self, found: "pa.Schema") -> bool:
        """Add the columns that only ``found`` has; whether there were any."""
        before, self.schema = self.schema, extended(self.schema, finished_schema(found))
        return not before.equals(self.schema)


def finished_schema(schema: "pa.Schema") -> "pa.Schema":
    """The schema as a table can have it."""
    return pa.schema([(field.name, finished(field.type)) for field in schema])


class _Lines:
    """A file of lines."""

    def __init__(self, reader: Reader, content: Content, work: Work) -> None:
        self._reader = reader
        self._content = content
        self._format = reader.lines()
        self._hasher = work.hasher or hashlib.sha256()
        self._now = work.start or Position.first(content.stat, digest(self._hasher))
        self._now = self._now.seen(content.stat, PARTLY)

    def steps(self) -> Iterator[Step]:
        begun = self._begin()
        rest = b""
        if begun:
            for data, complete in self._chunks():
                if complete:
                    yield from self._chunk(data)
                else:
                    rest = data
        unfinished = not begun
        if rest:
            table = self._last(rest)
            unfinished = table is None
            if table is not None:
                yield from self._loose(rest, table)
        mark = AGAIN if unfinished or young(self._content.stat, self._reader.started_ns) else SETTLED
        yield None, self._now._replace(mark=mark)

    def _begin(self) -> bool:
        """Learn the columns and go to the first record; whether the file has come that far."""
        blocks = self._content.blocks(0, HEAD_BYTES)
        head = next(blocks, b"")
        try:
            body = self._format.begin(head, final=False)
            if body is None:
                final = not next(blocks, b"")
                body = self._format.begin(head, final=final)
                if body is None and not final:
                    raise self._problem(0, "no header in the first MiB", "set `csv.header` to the names of the columns")
        except ValueError as error:
            raise self._problem(0, str(error), "mend the header, or name the columns in `csv.header`") from error
        if body is not None and self._now.end < body:
            self._hasher.update(head[self._now.end : body])
            self._go_to(body)
        return body is not None

    def _go_to(self, end: int) -> None:
        self._now = self._now._replace(covered=end, end=end, skip=0, digest=digest(self._hasher))

    def _chunks(self) -> Iterator[tuple[bytes, bool]]:
        """Complete records, many at a time; at last what is not complete."""
        size = min(_BLOCK_BYTES_MAX, max(_BLOCK_BYTES_MIN, self._reader.bytes_max // 2))
        rest = b""
        for block in self._content.blocks(self._now.end, size):
            rest += block
            end = self._format.cut(rest)
            if end:
                data, rest = rest[:end], rest[end:]
                yield data, True
            elif len(rest) > _RECORD_BYTES_MAX:
                hint = "close the quote, or set `csv.quote` to what the file uses (null: nothing)"
                raise self._problem(0, f"a record of more than {_RECORD_BYTES_MAX >> 20} MiB, or an open quote", hint)
        if rest:
            yield rest, False

    def _chunk(self, data: bytes) -> Iterator[Step]:
        table = self._parsed(data)
        self._hasher.update(data)
        covered, reached = self._now.end + len(data), digest(self._hasher)
        skipped = min(self._now.skip, table.num_rows)
        left = self._now.skip - skipped
        at = skipped
        for batch in self._reader.pieces(table.slice(skipped)):
            at += batch.num_rows
            rows = self._now.rows + batch.num_rows
            self._now = self._now._replace(digest=reached, covered=covered, skip=at, rows=rows)
            if at == table.num_rows:
                self._now = self._now._replace(end=covered, skip=0)
            yield batch, self._now
        if at == skipped:
            self._now = self._now._replace(digest=reached, covered=covered, end=covered, skip=left)

    def _loose(self, rest: bytes, table: "pa.Table") -> Iterator[Step]:
        """Deliver a last record that no newline ends. It may yet grow, so the position stays before it."""
        self._hasher.update(rest)
        covered, new = self._now.end + len(rest), table.slice(self._now.skip)
        rows = self._now.rows + new.num_rows
        self._now = self._now._replace(
            digest=digest(self._hasher), covered=covered, skip=max(self._now.skip, table.num_rows), rows=rows
        )
        for batch in self._reader.pieces(new):
            yield batch, self._now

    def _last(self, rest: bytes) -> "pa.Table | None":
        """What no newline ends, if it is a record; ``None``: it is left for the next sync."""
        if self._content.stat.st_mtime_ns <= self._reader.started_ns - _QUIET_NS and self._format.whole(rest):
            try:
                return self._parsed(rest)
            except TaskError:
                pass
        what = "its last line is not complete"
        if not self._reader.wait:
            raise self._problem(0, what, "complete the line, or set `on_unfinished: wait`")
        log.warning("%s: %s, and is left for the next sync", shown(self._content.file.key), what)
        return None

    def _parsed(self, data: bytes) -> "pa.Table":
        try:
            return self._format.parse(data, self._reader.schema)
        except (ValueError, pa.ArrowException) as error:
            if not self._new_columns(data):
                raise self._located(data) from error
        try:
            return self._format.parse(data, self._reader.schema)
        except (ValueError, pa.ArrowException) as error:
            raise self._located(data) from error

    def _new_columns(self, data: bytes) -> bool:
        try:
            return self._reader.extend(self._format.infer(data))
        except (ValueError, pa.ArrowException):
            return False

    def _fits(self, data: bytes, schema: "pa.Schema", *, strict: bool = True) -> str:
        """Empty if the records of ``data`` can be read; else why not."""
        try:
            self._format.parse(data, schema, strict=strict)
        except (ValueError, pa.ArrowException) as error:
            return (
                re.sub(r" in row \d+$|^((CSV|JSON) parse error: |In CSV column #\d+: |Row #\d+: )*", "", str(error))[
                    :300
                ]
                or "?"
            )
        return ""

    def _located(self, data: bytes) -> TaskError:
        """The error of the first record in ``data`` that cannot be read: where it stands, and why."""
        schema = self._reader.schema
        # A new column is the fault only if there is no other.
        strict = not self._fits(data, schema, strict=False)
        ends = [0, *self._format.ends(data)]
        if ends[-1] < len(data):
            ends.append(len(data))
        bad = first_bad(len(ends) - 1, lambda count: bool(self._fits(data[: ends[count]], schema, strict=strict)))
        start, record = ends[bad - 1], data[ends[bad - 1] : ends[bad]]
        why = self._fits(record, pa.schema([]), strict=False)
        if why:
            return self._problem(start, why, self._format.hint)
        for field in schema:
            if why := self._fits(record, pa.schema([field]), strict=False):
                hint = f"mend the value, or declare a type that holds all of them: `types: {{{field.name}: string}}`"
                return self._problem(start, f"column {field.name!r} ({field.type}): {why}", hint)
        why = self._fits(record, schema, strict=strict)
        return self._problem(start, f"a new column has no type: {why}", "declare it with `types`")

    def _problem(self, offset: int, what: str, hint: str) -> TaskError:
        line = self._content.line_at(self._now.end + offset)
        return TaskError(f"{shown(self._content.file.key)}:{line}: {what}", hint=hint)


def first_bad(count: int, fails: Callable[[int], bool]) -> int:
    """The number of the first record, from 1 to ``count``, with which a reading of all up to it fails.

    That a reading of all of them fails is taken for granted.
    """
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if fails(middle) else (middle, bad)
    return bad


def parquet_schema(file: "pq.ParquetFile") -> "pa.Schema":
    """The columns of a Parquet file."""
    return pa.schema([(field.name, plain(field.type)) for field in file.schema_arrow])


class _Columnar:
    """A Parquet file. What of it was delivered is a number of rows."""

    def __init__(self, reader: Reader, content: Content, work: Work) -> None:
        self._reader = reader
        self._content = content
        self._start = work.start

    def steps(self) -> Iterator[Step]:
        content, reader = self._content, self._reader
        size = content.stat.st_size
        done = self._start.skip if self._start else 0
        reached = self._start.digest if self._start else _digest_of(content)
        now = Position.first(content.stat, reached, covered=size, rows=done)
        if size:
            file = pq.ParquetFile(content.for_arrow(), buffer_size=1 << 20)
            reader.extend(parquet_schema(file))
            for batch in self._batches(file, done):
                for piece in reader.pieces(self._cast(batch)):
                    now = now._replace(skip=now.skip + piece.num_rows, rows=now.rows + piece.num_rows)
                    yield piece, now
        mark = AGAIN if young(content.stat, reader.started_ns) else SETTLED
        yield None, now._replace(end=size, skip=0, mark=mark)

    def _batches(self, file: "pq.ParquetFile", skip: int) -> "Iterator[pa.RecordBatch]":
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if skip >= rows:
                skip -= rows
                continue
            for batch in file.iter_batches(batch_size=self._reader.rows_max, row_groups=[group]):
                passed = min(skip, batch.num_rows)
                skip -= passed
                yield batch.slice(passed)

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


def _digest_of(content: Content) -> str:
    for whole in prefixes(content.blocks(), [content.stat.st_size]):
        return digest(whole.hasher)
    raise RetryableError(f"{shown(content.file.key)}: became shorter while it was read")
