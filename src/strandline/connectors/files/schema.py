"""The columns of a table, found in its files."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from strandline.connectors.arrow.types import widened
from strandline.connectors.files.content import Coding, Content, UnfinishedError
from strandline.connectors.files.json import JSONLines
from strandline.connectors.files.json_documents import RECORD_BYTES_MAX
from strandline.connectors.files.parquet import parquet_schema
from strandline.connectors.files.paths import File, shown
from strandline.connectors.files.positions import quiet
from strandline.connectors.files.reading import (
    HEAD_BYTES,
    NO_HEADER,
    OPEN_QUOTE,
    LineFormat,
    declaring,
    finished_schema,
    first_bad,
    header_is_open,
    reason,
)
from strandline.errors import RetryableError, StrandlineError, TaskError
from strandline.lazy import pa
from strandline.table import has_order
from strandline.warned import Code

__all__ = ["check_formats", "formerly_text", "table_schema", "version_order"]

log = logging.getLogger(__name__)

_FILES_MAX = 256
"""Half of them from the beginning of the list and half from its end, where the newest names usually are."""
_SAMPLE_BYTES, _SAMPLE_BYTES_MIN = 8 << 20, 64 << 10
"""Of all files together; of one file at least."""


@dataclass(slots=True)
class _Columns:
    """The types of the columns so far, each with the file that widened it last."""

    text: bool
    """The values are text, so that whatever does not agree can stay text in CSV."""
    fallback: bool
    keys: Collection[str]
    types: "dict[str, pa.DataType]" = field(default_factory=dict)
    origin: dict[str, File] = field(default_factory=dict)
    marked: dict[str, dict[str, File]] = field(default_factory=dict)
    """By column, the first file of each decimal mark."""

    def add(self, found: "pa.Schema", file: File) -> None:
        for column in found:
            before = self.types.get(column.name, pa.null())
            type_ = widened(before, column.type, text=self.text)
            if type_ is None and self.text and column.name not in self.keys and self._is_text(before, column.type):
                type_ = pa.string()
            if type_ is None and not self.fallback:
                raise TaskError(
                    f"column {column.name!r} is {before} in {shown(self.origin[column.name].key)}, but {column.type} in "
                    f"{shown(file.key)}",
                    hint=f"declare it, `types: {{{column.name}: string}}`"
                    if self.text
                    else "put the files into tables of their own, or write them with one type",
                )
            type_ = type_ or pa.string()
            if not before.equals(type_):
                self.origin[column.name] = file
            self.types[column.name] = type_

    def _is_text(self, *types: "pa.DataType") -> bool:
        """Whether one of them is text; so are days and moments in JSON, which has no word for them."""
        return any(pa.types.is_string(one) or (not self.fallback and pa.types.is_temporal(one)) for one in types)

    def note(self, marks: Mapping[str, str], file: File) -> None:
        for name, mark in marks.items():
            self.marked.setdefault(name, {}).setdefault(mark, file)

    def check_marks(self) -> None:
        for name, files in self.marked.items():
            if len(files) > 1 and pa.types.is_floating(self.types[name]):
                raise TaskError(
                    f"column {name!r} has a comma before the fraction in {shown(files[','].key)}, and a point in "
                    f"{shown(files['.'].key)}: which it is, is not sure",
                    hint='say it, `csv: {decimal: ","}`, which makes numbers with a point text; or declare text, '
                    f"`types: {{{name}: string}}`",
                )


def table_schema(
    files: Sequence[File],
    lines: Callable[[], LineFormat],
    coding: Coding,
    declared: "Mapping[str, pa.DataType]",
    keys: Collection[str] = (),
    texts: Collection[str] = (),
) -> "pa.Schema | None":
    """The columns of all ``files`` of a table, or ``None`` if nothing is in them yet that would have a type.

    Texts of JSON that are all days or moments are such, but for the columns ``texts``.

    Looks into the first and the last of many files, and there at the beginning. What it has not seen is found when it
    is read: a new column is added then, and a value that does not fit is an error there.

    Raises:
        TaskError: the files do not agree on a type, or none of them can be read.
        RetryableError: nor can they be found; they are to be listed again.
    """
    half = _FILES_MAX // 2
    sampled = files if len(files) <= _FILES_MAX else [*files[:half], *files[-half:]]
    size = max(_SAMPLE_BYTES_MIN, _SAMPLE_BYTES // len(sampled))
    formats = {file.format for file in files}
    columns = _Columns(text="parquet" not in formats, fallback="csv" in formats, keys=keys)
    unread: StrandlineError | None = None
    typed = False
    for file in sampled[0].place.soon(sampled, size):
        try:
            with Content(file, coding) as content:
                found, rows = _columns(content, one := lines(), size, texts)
        except StrandlineError as error:
            log.warning("%s", error.message, extra=Code.FILE_UNFINISHED.extra)
            unread = unread or error
            continue
        try:
            one.belongs([*columns.types])
        except ValueError as error:
            raise TaskError(f"{shown(file.key)}: {error}", hint=one.begin_hint) from error
        columns.add(pa.schema([(one.name, declared.get(one.name, one.type)) for one in found]), file)
        columns.note(one.marks, file)
        typed = typed or rows
    columns.check_marks()
    if not columns.types and isinstance(unread, RetryableError):
        raise unread
    if not columns.types and unread is not None:
        raise TaskError(unread.message, hint=unread.hint) from unread
    typed = typed or not any(pa.types.is_null(type_) for type_ in columns.types.values())
    return finished_schema(pa.schema(list(columns.types.items()))) if columns.types and typed else None


def check_formats(name: str, files: Sequence[File], declared: str | None) -> None:
    """Whether the files of a table are of one format that can be read, and of the declared one.

    Raises:
        TaskError: they are not.
    """
    first = {file.format: shown(file.key) for file in reversed(files)}
    if declared and first.keys() - {declared}:
        format_, where = next((format_, where) for format_, where in first.items() if format_ != declared)
        raise TaskError(
            f"{where} is {format_} by its name, but `format` is {declared}",
            hint="choose files with a pattern in `path`, such as '**/*.csv'",
        )
    if len(first) > 1:
        raise TaskError(
            f"table {name!r} has files of several formats: {', '.join(sorted(first.values()))}",
            hint="give each format a source of its own, with a pattern in `path`",
        )
    if packed := [file for file in files if file.format == "parquet" and file.compression]:
        raise TaskError(f"{shown(packed[0].key)} is compressed Parquet", hint="unpack it: Parquet is compressed inside")
    if name.startswith("@"):
        raise TaskError(f"{name!r} cannot be the name of a table", hint="set `table`, or rename the file")


def formerly_text(
    found: "pa.Schema | None", format_: str | None, declared: Collection[str]
) -> "dict[str, pa.DataType]":
    """For ``Table.former``: the columns of JSON in which older versions saw nothing but text."""
    times = [one.name for one in found or () if pa.types.is_temporal(one.type) and one.name not in declared]
    return dict.fromkeys(times, pa.string()) if format_ == "jsonl" else {}


def version_order(name: str, schema: "pa.Schema", column: str | None) -> str:
    """The column that orders the versions of a table's rows, or nothing.

    Raises:
        TaskError: it has no order, or there is no such column.
    """
    if column and (column not in schema.names or not has_order(schema.field(column))):
        is_ = f"is {schema.field(column).type}" if column in schema.names else "is not there"
        raise TaskError(
            f"table {name!r}: {column!r}, its incremental_key, {is_}",
            hint="name a column of whole numbers, doubles, dates, timestamps or texts, or declare such a type in `types`",
        )
    return column or ""


def _columns(content: Content, lines: LineFormat, size: int, texts: Collection[str]) -> tuple["pa.Schema", bool]:
    """The columns of a file, and whether it has rows."""
    if content.file.format != "parquet":
        return _lines(content, lines, size, texts)
    return (parquet_schema(content), True) if content.look.size else (pa.schema([]), False)


def _lines(content: Content, lines: LineFormat, size: int, texts: Collection[str]) -> tuple["pa.Schema", bool]:
    """The types of the columns in the first ``size`` bytes, or in the first record; and whether there is a row.

    Raises:
        TaskError: the first record cannot be read. Without types nothing is read, so nothing else would say so.
    """
    lines.encoding = content.marked
    data, body, whole = _sample(content, lines, size)
    settled = whole and quiet(content.look, time.time_ns())
    name = shown(content.file.key)
    if body is None:
        if len(data) >= HEAD_BYTES:
            raise TaskError(f"{name}:1: {NO_HEADER}", hint=lines.begin_hint)
        if settled and header_is_open(lines, data):
            raise TaskError(f"{name}:1: {OPEN_QUOTE}", hint=lines.begin_hint)
        return pa.schema([]), False
    data = data[body:]
    cut = lines.cut(data)
    if not (settled and lines.whole(data[cut:])):
        # A record that is still being written would mislead, unless it is all there is.
        data = data[:cut] or data
    try:
        found = lines.infer(data)
        return (lines.with_times(data, found, texts) if isinstance(lines, JSONLines) else found), bool(data)
    except (ValueError, pa.ArrowException) as error:
        good = _good(lines, data)
        found = lines.infer(data[:good])
        if found.names:
            return found, True
        if whole and not settled and not cut:
            text = "%s: its first line is not complete, and is left for the next sync"
            log.warning(text, name, extra=Code.FILE_UNFINISHED.extra)
            return found, False
        why = reason(error)
        raise TaskError(f"{name}:{content.line_at(body + good)}: {why}", hint=declaring(why, lines.hint)) from error


def _sample(content: Content, lines: LineFormat, size: int) -> tuple[bytes, int | None, bool]:
    """The first ``size`` bytes, or more if they are not yet a record; where that begins; whether it is all of the file."""
    data, parts, length, wanted, whole = b"", [], 0, size, True
    try:
        for block in content.blocks(0, size):
            parts.append(block)
            length += len(block)
            if length >= wanted:
                data = b"".join(parts)
                parts, wanted = [data], 2 * length
                body = _begun(content, lines, data, final=False)
                enough = length >= HEAD_BYTES if body is None else lines.cut(data[body:]) or length > RECORD_BYTES_MAX
                if enough:
                    return data, body, False
    except StrandlineError as error:
        # Reading will say so; what comes before it has types.
        growing = isinstance(error, UnfinishedError) and not quiet(content.look, time.time_ns())
        if not parts and not growing:
            raise
        whole = False
    data = b"".join(parts)
    return data, _begun(content, lines, data, final=True), whole


def _begun(content: Content, lines: LineFormat, data: bytes, *, final: bool) -> int | None:
    try:
        return lines.begin(data, final=final)
    except ValueError as error:
        raise TaskError(f"{shown(content.file.key)}:1: {error}", hint=lines.begin_hint) from error


def _good(lines: LineFormat, data: bytes) -> int:
    """Where the first record begins that does not go with those before it; reading it will say so."""
    ends = [0, *lines.ends(data), len(data)]

    def fails(count: int) -> bool:
        try:
            lines.infer(data[: ends[count]])
        except (ValueError, pa.ArrowException):
            return True
        return False

    return ends[first_bad(len(ends) - 1, fails) - 1]
