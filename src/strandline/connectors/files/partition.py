"""Hive's directories, ``column=value``: how values become names, and names values again.

The column stands in the name only, as everybody expects who reads such directories. So only types are allowed whose values
a name can hold exactly, and values that Hive cannot tell apart (an empty text, and its word for null) are refused.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from urllib.parse import unquote

from strandline.connectors.files.formats import Content, Form
from strandline.errors import RetryableError, TaskError, UsageError
from strandline.lazy import pa, pc
from strandline.table import Table

__all__ = ["HIDDEN", "check_partitions", "is_text", "rows_of", "split"]

_NULL = "__HIVE_DEFAULT_PARTITION__"
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\"#%'*/:=?\\{\[\]^]")
_PART_BYTES_MAX = 200
HIDDEN = ("_", ".")
"""Readers ignore files and directories whose names begin so."""


def is_text(kind: "pa.DataType") -> bool:
    """Whether values differ in ways that some file systems do not keep apart."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def check_partitions(table: Table, columns: Sequence[str]) -> None:
    """Whether the rows of a table can be partitioned so.

    Raises:
        TaskError: a column is missing, or its values are not what a name can hold.
        UsageError: readers would not see the directories.
    """
    for name in columns:
        if name not in table.schema.names:
            raise TaskError(
                f"table {table.name!r} has no column {name!r}, by which `partition_by` divides it",
                hint="write this table to another destination, without it",
            )
        kind = table.schema.field(name).type
        if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_date32(kind)):
            raise TaskError(
                f"{table.name}.{name}: rows cannot be partitioned by {kind}",
                hint="texts, whole numbers, dates and booleans can be names of directories",
            )
        if name.startswith(HIDDEN):
            raise UsageError(
                f"{table.name}.{name}: readers such as Spark and pyarrow ignore directories whose names begin with {name[0]!r}",
                hint="name another column in `partition_by`",
            )
    if len(columns) == len(table.schema.names):
        raise TaskError(f"table {table.name!r}: `partition_by` leaves no column for the files")


def split(table: Table, columns: Sequence[str], rows: "pa.Table") -> "Iterator[tuple[str, pa.Table]]":
    """The rows of each directory, without these columns.

    Raises:
        TaskError: a value has no name.
    """
    if not columns:
        yield "", rows
        return
    codes, names = pa.repeat(pa.scalar(0, pa.int64()), rows.num_rows), [""]
    for column in columns:
        encoded = rows[column].combine_chunks().dictionary_encode()
        texts = _texts(table, column, encoded.dictionary)
        parts = [f"{_part(table, column, text)}" for text in [*texts, None]]
        mine = pc.fill_null(encoded.indices.cast(pa.int64()), len(texts))
        combined = pc.add(pc.multiply(codes, len(parts)), mine).dictionary_encode()
        codes = combined.indices.cast(pa.int64())
        names = [
            f"{names[code // len(parts)]}/{parts[code % len(parts)]}".lstrip("/")
            for code in combined.dictionary.to_pylist()
        ]
    rest = rows.drop_columns(list(columns))
    order = pc.sort_indices(codes)
    runs = pc.run_end_encode(codes.take(order), run_end_type=pa.int64())
    rest, begin = rest.take(order), 0
    for code, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield names[code], rest.slice(begin, end - begin)
        begin = end


def _texts(table: Table, column: str, values: "pa.Array") -> list[str | None]:
    """Values as they stand in names; each comes back from there as it was."""
    texts = values.cast(pa.string())
    if not _comes_back(texts, values):
        bad = next(at for at in range(len(values)) if not _comes_back(texts.slice(at, 1), values.slice(at, 1)))
        raise TaskError(
            f"{table.name}.{column}: {texts[bad]} could not be read back from the name of a directory as {values.type}",
            hint="nothing of this window was written; partition by another column, or fix the row at the source",
        )
    return [None if text is None else str(text) for text in texts.to_pylist()]


def _comes_back(texts: "pa.Array", values: "pa.Array") -> bool:
    try:
        return bool(texts.cast(values.type).equals(values))
    except pa.ArrowInvalid:  # a date of the year 10000
        return False


def _part(table: Table, column: str, text: str | None) -> str:
    where = f"{table.name}.{column}"
    if text in {"", _NULL}:
        raise TaskError(
            f"{where}: {text!r} cannot be told from a null in the name of a directory",
            hint="nothing of this window was written; partition by another column",
        )
    part = f"{_escaped(column)}={_NULL if text is None else _escaped(text)}"
    if len(part.encode("utf-8", "surrogatepass")) > _PART_BYTES_MAX:
        raise TaskError(
            f"{where}: a value is too long for the name of a directory ({part[:40]}…)",
            hint="nothing of this window was written; partition by another column",
        )
    return part


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", text)


def rows_of(
    form: Form, content: Content, schema: "pa.Schema", columns: Sequence[str], *, below: PurePath, where: str
) -> "Iterator[pa.RecordBatch]":
    """The rows of a data file, with what its directories say.

    Args:
        form: of the file.
        content: it, or where it lies.
        schema: of the rows.
        columns: by which the table is partitioned.
        below: its path, relative to the table's directory.
        where: for people; ends as its name.

    Raises:
        RetryableError: it is gone.
        TaskError: it cannot be read.
    """
    in_file, parts = pa.schema([field for field in schema if field.name not in columns]), _parts_of(below)
    try:
        for count, found in form.read(content, in_file, where=where):
            arrays = []
            for field in schema:
                if field.name in columns:
                    arrays.append(_value_in(parts, field.name, field.type, count, where=where))
                else:
                    arrays.append(found[field.name] if field.name in found else pa.nulls(count, field.type))
            yield pa.record_batch(arrays, schema=schema)
    except FileNotFoundError as error:
        raise RetryableError(f"{where}: it vanished while the table was read") from error
    except (OSError, pa.ArrowException, ValueError) as error:
        raise TaskError(
            f"{where}: cannot be read ({error})", hint="move it away, or restore it from a backup"
        ) from error


def _parts_of(below: PurePath) -> dict[str, str | None]:
    """What the directories above a file say, by column; relative to the table's directory."""
    found: dict[str, str | None] = {}
    for part in below.parent.parts:
        column, equal, text = part.partition("=")
        if equal:
            found[unquote(column)] = None if text == _NULL else unquote(text)
    return found


def _value_in(parts: dict[str, str | None], column: str, kind: "pa.DataType", count: int, *, where: str) -> "pa.Array":
    """The value of a column in all rows of a file.

    Raises:
        TaskError: the directory does not say it.
    """
    if column not in parts:
        raise TaskError(f"{where}: no directory above it names {column!r}", hint="move it where it belongs")
    try:
        return pa.repeat(pa.scalar(parts[column], pa.string()).cast(kind), count)
    except pa.ArrowInvalid as error:
        raise TaskError(f"{where}: {column}={parts[column]} is no {kind}") from error
