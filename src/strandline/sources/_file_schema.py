"""The columns of a table, found in its files."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from strandline.errors import StrandlineError, UsageError
from strandline.lazy import pa, pq
from strandline.sources._file_content import Content, trouble
from strandline.sources._file_paths import File, shown
from strandline.sources._file_reading import LineFormat, finished_schema, first_bad, parquet_schema
from strandline.sources._file_types import widened

__all__ = ["table_schema"]

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
    types: "dict[str, pa.DataType]" = field(default_factory=dict)
    origin: dict[str, File] = field(default_factory=dict)

    def add(self, found: "pa.Schema", file: File) -> None:
        for column in found:
            before = self.types.get(column.name, pa.null())
            type_ = widened(before, column.type, text=self.text)
            if type_ is None and not self.fallback:
                raise UsageError(
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


def table_schema(files: Sequence[File], lines: Callable[[], LineFormat], encoding: str) -> "pa.Schema | None":
    """The columns of all ``files`` of a table, or ``None`` if nothing is in them yet that would have a type.

    Looks into the first and the last of many files, and there at the beginning. What it has not seen is found when it
    is read: a new column is added then, and a value that does not fit is an error there.

    Raises:
        UsageError: the files do not agree on a type, or none of them can be read.
    """
    half = _FILES_MAX // 2
    sampled = files if len(files) <= _FILES_MAX else [*files[:half], *files[-half:]]
    size = max(_SAMPLE_BYTES_MIN, _SAMPLE_BYTES // len(sampled))
    formats = {file.format for file in files}
    columns = _Columns(text="parquet" not in formats, fallback="csv" in formats)
    unread: StrandlineError | None = None
    typed = False
    for file in sampled:
        try:
            with Content(file, encoding) as content:
                found, rows = _parquet(content) if file.format == "parquet" else _lines(content, lines(), size)
        except UsageError:
            raise
        except StrandlineError as error:
            log.warning("%s", error.message)
            unread = unread or error
            continue
        columns.add(found, file)
        typed = typed or rows
    if not columns.types and unread is not None:
        raise UsageError(unread.message, hint=unread.hint) from unread
    typed = typed or not any(pa.types.is_null(type_) for type_ in columns.types.values())
    return finished_schema(pa.schema(list(columns.types.items()))) if columns.types and typed else None


def _parquet(content: Content) -> tuple["pa.Schema", bool]:
    try:
        if not content.stat.st_size:
            return pa.schema([]), False
        return parquet_schema(pq.ParquetFile(content.for_arrow())), True
    except (OSError, ValueError, pa.ArrowException) as error:
        raise trouble(content.file, error) from error


def _lines(content: Content, lines: LineFormat, size: int) -> tuple["pa.Schema", bool]:
    """The types of the columns in the first ``size`` bytes, and whether there is a row."""
    data, final = b"", True
    try:
        for block in content.blocks(0, size):
            data += block
            if len(data) >= size:
                final = False
                break
    except StrandlineError:
        # Reading will say so; what comes before it has types.
        if not data:
            raise
    name = shown(content.file.key)
    try:
        body = lines.begin(data, final=final)
    except ValueError as error:
        raise UsageError(f"{name}: {error}", hint="mend the header, or name the columns in `csv.header`") from error
    if body is None:
        return pa.schema([]), False
    data = data[body:]
    # A record that is still being written would mislead, unless it is all there is.
    data = data[: lines.cut(data)] or data
    try:
        return lines.infer(data), bool(data)
    except (ValueError, pa.ArrowException):
        return lines.infer(data[: _good(lines, data)]), True


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
