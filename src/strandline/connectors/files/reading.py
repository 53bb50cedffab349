"""Reads one file from a position on, in batches, each with the position behind it."""

import hashlib
import logging
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from strandline.connectors.arrow.types import extended, finished
from strandline.connectors.files.content import Coding, Content, UnfinishedError, digest, prefixes, trouble
from strandline.connectors.files.json_documents import RECORD_BYTES_MAX
from strandline.connectors.files.parquet import Columnar
from strandline.connectors.files.paths import shown
from strandline.connectors.files.positions import AGAIN, PARTLY, SETTLED, Position, Step, Work, quiet, young
from strandline.errors import RetryableError, TaskError
from strandline.lazy import pa
from strandline.reading import within_bounds
from strandline.warned import Code

__all__ = [
    "HEAD_BYTES",
    "NO_HEADER",
    "OPEN_QUOTE",
    "LineFormat",
    "Reader",
    "finished_schema",
    "first_bad",
    "header_is_open",
    "reason",
]

log = logging.getLogger(__name__)

HEAD_BYTES = 1 << 20
"""A header must end within so many bytes."""
_BLOCK_BYTES_MIN, _BLOCK_BYTES_MAX = 64 << 10, 8 << 20
NO_HEADER = "no header in the first MiB"
OPEN_QUOTE = "a quote is open from this record to the end of the file"
_OPEN_HINT = "close the quote, or set `csv.quote` to what the file uses (null: nothing)"
_CHANGED = re.compile(r"Column\(/([^/)]+).*\) changed from")


class LineFormat(Protocol):
    """A format of records that end with a line. One object reads one file."""

    hint: str
    """What to do about a record that is none."""
    begin_hint: str
    """What to do about a file that cannot be begun."""

    encoding: str
    """What the file's byte order mark says, where it decides; else nothing."""
    header_at: int
    """Where the first line begins that may be a header, once ``begin`` was called."""

    @property
    def marks(self) -> Mapping[str, str]:
        """By column, what stands before the fractions, where it may be one thing or another."""

    def begin(self, head: bytes, *, final: bool) -> int | None:
        """Where the first record begins, by the first bytes of the file; ``None``: not to be seen yet."""

    def belongs(self, known: Sequence[str]) -> None:
        """Whether the file, which was begun, goes with others of its table, whose columns are ``known``.

        Raises:
            ValueError: it does not.
        """

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
    coding: Coding
    wait: bool
    """What to do with a last line that is not complete, while the file is young: leave it for the next sync, or fail."""
    started_ns: int
    rows_max: int
    bytes_max: int
    moved: Callable[[Content], bool]
    """Whether it is a file that was read already, under another name."""

    def read(self, work: Work) -> Generator[Step, None, None]:
        """The rows of a file that were not delivered, and at last where it ends, without rows.

        Raises:
            TaskError: something in the file cannot be read. What comes before it was yielded, at least in part.
            RetryableError: the file vanished, or was replaced since it was looked at.
        """
        if work.problem is not None:
            raise work.problem
        with Content(work.file, self.coding) as content:
            self._check_is_same(content, work)
            try:
                one = Columnar(self, content, work) if work.file.format == "parquet" else _Lines(self, content, work)
                yield from one.steps()
            except (OSError, pa.ArrowException) as error:
                raise trouble(work.file, error) from error

    def _check_is_same(self, content: Content, work: Work) -> None:
        """A name can belong to another file by now, when a log is rotated. Looks closer only if the file has changed."""
        file, look, start = work.file, content.look, work.start
        if look == file.look:
            return
        if start is None:
            replaced = self.moved(content)
        elif look.inode != file.look.inode or look.size < file.look.size:
            replaced = True
        else:
            covered = next(prefixes(content.blocks(), [start.covered]), None)
            replaced = covered is None or digest(covered.hasher) != start.digest
        if replaced:
            raise RetryableError(
                f"{shown(file.key)}: replaced since it was looked at", hint="the files are listed again"
            )

    def pieces(self, table: "pa.Table") -> "Iterator[pa.RecordBatch]":
        """The rows in batches that are no larger than they may be."""
        for batch in table.combine_chunks().to_batches(max_chunksize=self.rows_max):
            yield from within_bounds(batch, self.bytes_max)

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
        self._now = work.start or Position.first(content.look, digest(self._hasher))
        self._now = self._now.seen(content.look, PARTLY)

    def steps(self) -> Iterator[Step]:
        unfinished, rest = True, b""
        try:
            if self._begin():
                unfinished = False
                for data, complete in self._chunks():
                    if complete:
                        yield from self._chunk(data)
                    else:
                        rest = data
        except UnfinishedError as error:
            if self._quiet() or not self._reader.wait:
                raise
            log.warning("%s, and is left for the next sync", error.message, extra=Code.FILE_UNFINISHED.extra)
            unfinished = True
        if rest:
            table = self._last(rest)
            unfinished = table is None
            if table is not None:
                yield from self._loose(rest, table)
        mark = AGAIN if unfinished or young(self._content.look, self._reader.started_ns) else SETTLED
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
                    raise self._problem(0, NO_HEADER, self._format.begin_hint)
                if body is None and header_is_open(self._format, head) and self._quiet():
                    raise self._problem(0, OPEN_QUOTE, self._format.begin_hint)
            if body is not None:
                self._format.belongs(self._reader.schema.names)
        except ValueError as error:
            raise self._problem(0, str(error), self._format.begin_hint) from error
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
            elif len(rest) > RECORD_BYTES_MAX:
                raise self._problem(
                    0, f"a record of more than {RECORD_BYTES_MAX >> 20} MiB, or an open quote", _OPEN_HINT
                )
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
        if self._quiet():
            if not self._format.whole(rest):
                raise self._problem(0, OPEN_QUOTE, _OPEN_HINT)
            return self._parsed(rest)
        what = "its last line is not complete"
        if not self._reader.wait:
            raise self._problem(0, what, "complete the line, or set `on_unfinished: wait`")
        text = "%s: %s, and is left for the next sync"
        log.warning(text, shown(self._content.file.key), what, extra=Code.FILE_UNFINISHED.extra)
        return None

    def _quiet(self) -> bool:
        return quiet(self._content.look, self._reader.started_ns)

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
            return reason(error)
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
                hint = f"fix the value, or declare a type that holds all of them: `types: {{{field.name}: string}}`"
                return self._problem(start, f"column {field.name!r} ({field.type}): {why}", hint)
        return self._untyped(data, ends) or self._problem(
            start, f"a new column has no type: {self._fits(record, schema, strict=strict)}", "declare it with `types`"
        )

    def _untyped(self, data: bytes, ends: Sequence[int]) -> TaskError | None:
        """The error of the first record with which the values of a new column are of several kinds."""
        if not self._mixed(data):
            return None
        bad = first_bad(len(ends) - 1, lambda count: bool(self._mixed(data[: ends[count]])))
        why = self._mixed(data[: ends[bad]])
        return self._problem(
            ends[bad - 1], f"a new column has no type: {why}", declaring(why, "declare it with `types`")
        )

    def _mixed(self, data: bytes) -> str:
        """Why the columns of ``data`` have no types; empty if they have."""
        try:
            self._format.infer(data)
        except (ValueError, pa.ArrowException) as error:
            return reason(error)
        return ""

    def _problem(self, offset: int, what: str, hint: str) -> TaskError:
        line = self._content.line_at(self._now.end + offset)
        return TaskError(f"{shown(self._content.file.key)}:{line}: {what}", hint=hint)


def reason(error: Exception) -> str:
    """Why a record cannot be read; never empty."""
    if "Invalid UTF8" in str(error):
        return "its text is not UTF-8"
    text = re.sub(r" in row \d+$|^((CSV|JSON) parse error: |In CSV column #\d+: |Row #\d+: )*", "", str(error))
    return text[:300] or "?"


def declaring(why: str, otherwise: str) -> str:
    """What to do about values of several kinds, of which ``why`` names the column."""
    column = _CHANGED.search(why)
    if column is None:
        return otherwise
    return f"fix the value, or declare a type that holds all of them: `types: {{{column[1]}: string}}`"


def header_is_open(lines: LineFormat, head: bytes) -> bool:
    """Whether all of a file, in which no header ends, is behind an open quote."""
    return not lines.whole(head[lines.header_at :].strip(b"\r\n"))


def first_bad(count: int, fails: Callable[[int], bool]) -> int:
    """The number of the first record, from 1 to ``count``, with which a reading of all up to it fails.

    That a reading of all of them fails is taken for granted.
    """
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if fails(middle) else (middle, bad)
    return bad
