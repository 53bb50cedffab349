"""Columns that stand in the names of directories, ``year=2024/month=01``, as Hive, Spark and others write them.

A value is text, or what all values of the column are: whole numbers, or days. Numbers of more than two digits that begin with
0 are text, for ``zip=01234`` is no number; ``month=01`` is, but not as a key, of which ``1`` would be the same.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import unquote

from strandline.connectors.arrow.types import fixed
from strandline.connectors.files.paths import File, shown
from strandline.errors import TaskError
from strandline.lazy import pa

__all__ = ["hive_columns", "hive_schema"]

_NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_CALENDAR = re.compile(r"0|-?[1-9][0-9]{0,17}|0[0-9]")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _values_of(hive: Sequence[str]) -> dict[str, str | None]:
    pairs = (part.split("=", 1) for part in hive)
    return {_unquoted(name): None if value == _NULL else _unquoted(value) for name, value in pairs}


def _unquoted(text: str) -> str:
    """Of a part of a key, with ``%2F`` as ``/``; as it is where the bytes are no UTF-8, so that two names stay two."""
    try:
        return unquote(text.replace("%25", "%"), errors="strict")
    except UnicodeDecodeError:
        return text


def hive_schema(
    files: Sequence[File], declared: "Mapping[str, pa.DataType]", keys: Collection[str] = ()
) -> "pa.Schema":
    """The columns that stand in the names of directories of a table's files."""
    found: dict[str, list[str]] = {}
    for hive in dict.fromkeys(file.hive for file in files):
        for name, value in _values_of(hive).items():
            found.setdefault(name, []).extend([value] if value is not None else [])
    return pa.schema(
        [(name, declared.get(name) or _type(values, is_key=name in keys)) for name, values in found.items()]
    )


def _type(values: Sequence[str], *, is_key: bool) -> "pa.DataType":
    for pattern, type_ in ((_INTEGER if is_key else _CALENDAR, pa.int64()), (_DAY, pa.date32())):
        if values and all(map(pattern.fullmatch, values)):
            try:
                pa.array(values).cast(type_)
            except pa.ArrowInvalid:
                continue
            return type_
    return pa.string()


def hive_columns(file: File, batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
    """The batch with the columns of ``schema`` that stand in the file's name; null where they do not.

    What is in the file comes before what is in its name.

    Raises:
        TaskError: a value has not the declared type.
    """
    values = _values_of(file.hive)
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        if at >= 0 and batch.column(at).null_count < batch.num_rows:
            continue
        text = pa.array([values.get(field.name)], pa.string())
        try:
            (value,) = fixed(text, field.type) if pa.types.is_decimal(field.type) else text.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TaskError(
                f"{shown(file.key)}: {field.name}={text[0]} is no {field.type}",
                hint=f"declare a type that holds all of them: `types: {{{field.name}: string}}`",
            ) from error
        column = pa.repeat(value, batch.num_rows)
        batch = batch.append_column(field, column) if at < 0 else batch.set_column(at, field, column)
    return batch
