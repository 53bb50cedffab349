"""Pages of records as Arrow arrays: lists of dicts, JSON as it was received, and whatever speaks Arrow's PyCapsule interface.

Arrow infers a whole page at once. Only where it finds values of several kinds in one column is that column taken apart, kind by
kind, and only what is kept as JSON is written value by value.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, TypeAlias

from strandline.connectors.arrow.json_path import JSONPath
from strandline.connectors.arrow.json_text import encode_json
from strandline.connectors.arrow.types import plain
from strandline.connectors.pages.alike import Alike, Rows
from strandline.connectors.pages.documents import parsed
from strandline.connectors.pages.shape import Shape, is_json
from strandline.errors import TaskError
from strandline.lazy import pa

__all__ = ["Page", "Records", "joined", "read_page"]

Page: TypeAlias = Any
"""A sequence of mappings, one mapping, JSON (bytes or text), or an object with ``__arrow_c_stream__`` or ``__arrow_c_array__``."""


@dataclass(slots=True)
class Records:
    """What was read of a page. A column is one array or, where its values are of several kinds, one for each kind."""

    rows: int
    columns: "dict[str, list[pa.Array]]" = field(default_factory=dict)


def read_page(
    page: Page,
    shape: Shape,
    *,
    where: str,
    path: JSONPath = (),
    alike: Alike | None = None,
    known: "Mapping[str, pa.DataType] | None" = None,
) -> Records:
    """The records of a page.

    Args:
        page: see ``Page``.
        shape: what becomes of objects and lists.
        where: the stream, for errors.
        path: where the records lie, if ``page`` is JSON.
        alike: has read the pages before, if ``page`` is JSON.
        known: the types of columns that were found before.

    Raises:
        TaskError: it is no page, or a record in it is none.
    """
    if hasattr(page, "__arrow_c_stream__"):
        return _of_arrow(pa.table(page), shape, where)
    if hasattr(page, "__arrow_c_array__"):
        return _of_arrow(pa.Table.from_batches([pa.record_batch(page)]), shape, where)
    if isinstance(page, bytes) and alike is not None and not shape.keeps_json:
        page = alike.page(page, where=where)
    if isinstance(page, bytes | bytearray | memoryview | str):
        page = parsed(page, path, where=where)
    if isinstance(page, Rows):
        found = None if shape.keeps_json else page.columns(known or {}, lists_matter=shape.lists == "tables")
        if found is not None:
            return _shaped(Records(len(page), {name: [one] for name, one in found.items()}), None, shape, where)
        page = page.plain
    rows = [page] if isinstance(page, Mapping) else page
    if not isinstance(rows, Sequence):
        raise TaskError(
            f"{where}: a page is {type(page).__name__}",
            hint="yield lists of dicts, or tables of Arrow, pandas or polars",
        )
    return _shaped(_of_rows(rows, where), rows, shape, where)


def joined(pages: Sequence[Records]) -> list[Records]:
    """The same records in fewer pages: neighbours that have the same columns in the same types become one."""

    def types(page: Records) -> "list[tuple[str, list[pa.DataType]]]":
        return [(name, [one.type for one in arrays]) for name, arrays in page.columns.items()]

    whole: list[Records] = []
    for _, group in groupby(pages, types):
        some = list(group)
        columns = {
            name: [pa.concat_arrays(same) for same in zip(*(page.columns[name] for page in some), strict=True)]
            for name in some[0].columns
        }
        whole.append(Records(sum(page.rows for page in some), columns))
    return whole


def _of_arrow(table: "pa.Table", shape: Shape, where: str) -> Records:
    if len(set(table.column_names)) < table.num_columns:
        raise TaskError(f"{where}: a page has two columns of one name")
    columns = {
        name: [_usual(one.combine_chunks())] for name, one in zip(table.column_names, table.columns, strict=True)
    }
    return _shaped(Records(table.num_rows, columns), None, shape, where)


def _of_rows(rows: Sequence[Any], where: str) -> Records:
    if not rows:
        return Records(0)
    try:
        array = pa.array(rows)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return _by_column(rows, where)
    if not pa.types.is_struct(array.type) or array.null_count:
        raise _no_record(rows, where)
    columns: dict[str, list[pa.Array]] = {}
    for name, column in zip(array.type.names, array.flatten(), strict=True):
        # Arrow takes the kind of the first one, and cuts: moments to days, zones off
        if not _has_times(column.type):
            columns[name] = [_usual(column)]
            continue
        values = [row.get(name) for row in rows]
        if not pa.types.is_nested(column.type):
            columns[name] = _by_kind(values, f"{where}.{name}")
        else:
            columns[name] = [_json(values) if _are_mixed(values) else _usual(column)]
    return Records(len(rows), columns)


def _has_times(kind: "pa.DataType") -> bool:
    if pa.types.is_nested(kind):
        return any(_has_times(kind.field(at).type) for at in range(kind.num_fields))
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _are_mixed(values: Iterable[Any]) -> bool:
    """Whether one field within objects or lists has days and moments, or moments with a zone and without."""
    inner: dict[str, list[Any]] = defaultdict(list)
    kinds: set[str] = set()
    for value in values:
        if isinstance(value, Mapping):
            for name, one in value.items():
                inner[f".{name}"].append(one)
        elif isinstance(value, list | tuple):
            inner["[]"].extend(value)
        elif isinstance(value, date):
            kinds.add(_kind(value))
    return len(kinds) > 1 or any(_are_mixed(one) for one in inner.values())


def _by_column(rows: Sequence[Any], where: str) -> Records:
    for row in rows:
        if not isinstance(row, Mapping):
            raise _no_record(rows, where)
    names = dict.fromkeys(name for row in rows for name in row)
    if odd := [name for name in names if not isinstance(name, str)]:
        raise TaskError(f"{where}: {odd[0]!r} is the name of a field, and no text")
    return Records(len(rows), {name: _by_kind([row.get(name) for row in rows], f"{where}.{name}") for name in names})


def _no_record(rows: Iterable[Any], where: str) -> TaskError:
    odd = next((row for row in rows if not isinstance(row, Mapping)), None)
    return TaskError(
        f"{where}: a record is {type(odd).__name__}, and no object",
        hint="yield lists of dicts; of JSON, `records` says where they lie",
    )


def _by_kind(values: Sequence[Any], where: str) -> "list[pa.Array]":
    """An array for each kind of values, null where a value is of another."""
    kinds = [_kind(value) for value in values]
    found = [kind for kind in dict.fromkeys(kinds) if kind != "null"]
    if not found:
        return [pa.nulls(len(values))]
    return [
        _of_kind([v if k == kind else None for v, k in zip(values, kinds, strict=True)], kind, where) for kind in found
    ]


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "decimal"
    if isinstance(value, datetime):
        return "moment" if value.tzinfo is None else "zoned"
    for kind, classes in (
        ("decimal", Decimal),
        ("day", date),
        ("object", Mapping),
        ("text", str),
        ("list", list | tuple),
    ):
        if isinstance(value, classes):
            return kind
    return type(value).__name__


def _of_kind(values: Sequence[Any], kind: str, where: str) -> "pa.Array":
    try:
        if kind == "decimal":
            return pa.array([None if value is None else Decimal(value) for value in values])
        return _usual(pa.array(values))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if kind in {"object", "list"}:
            return _json(values)  # what is inside is of several kinds
        raise TaskError(
            f"{where}: a value of {kind} cannot be stored: {error}",
            hint="make it a text, a number or a time, or leave it out",
        ) from error


def _usual(array: "pa.Array") -> "pa.Array":
    """In the type by which most sources call it: no encodings, times in UTC."""
    kind, is_ = plain(array.type), pa.types
    if is_.is_large_string(kind) or is_.is_string_view(kind):
        kind = pa.string()
    elif is_.is_large_binary(kind) or is_.is_binary_view(kind):
        kind = pa.binary()
    elif is_.is_timestamp(kind) and kind.tz not in {None, "UTC"}:
        kind = pa.timestamp(kind.unit, "UTC")
    return array if array.type == kind else array.cast(kind)


# objects and lists ---------------------------------------------------------------------------------------------------
def _shaped(records: Records, rows: Sequence[Any] | None, shape: Shape, where: str) -> Records:
    found: dict[str, list[pa.Array]] = defaultdict(list)
    for name, arrays in records.columns.items():
        for array in arrays:
            kind, is_object = array.type, pa.types.is_struct(array.type) or pa.types.is_map(array.type)
            is_list = pa.types.is_nested(kind) and not is_object
            declared = shape.types.get(name)
            if declared is not None and is_json(declared):
                as_json = True
            else:
                as_json = (is_object and shape.objects == "json") or (is_list and shape.lists == "json")
            if as_json and not is_json(kind):
                found[name].append(_as_json(array, name, rows, where))
            elif pa.types.is_struct(kind) and shape.objects == "flat" and declared is None:
                for path, inner in _flat(name, array):
                    found[path].append(inner)
            else:
                found[name].append(array)
    return Records(records.rows, dict(found))


def _as_json(array: "pa.Array", name: str, rows: Sequence[Any] | None, where: str) -> "pa.Array":
    """As it was written: a struct would have the fields of its neighbours, too."""
    if rows is None:
        return pa.ExtensionArray.from_storage(pa.json_(), encode_json(array, where=f"{where}.{name}"))
    valid = array.is_valid().to_pylist()
    return _json([row.get(name) if here else None for row, here in zip(rows, valid, strict=True)])


def _json(values: Iterable[Any]) -> "pa.Array":
    texts = [None if v is None else json.dumps(v, ensure_ascii=False, default=_spelled) for v in values]
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


def _spelled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return value.isoformat() if isinstance(value, date) else str(value)


def _flat(name: str, array: "pa.Array") -> "Iterator[tuple[str, pa.Array]]":
    for inner, column in zip(array.type.names, array.flatten(), strict=True):
        if pa.types.is_struct(column.type):
            yield from _flat(f"{name}_{inner}", column)
        else:
            yield f"{name}_{inner}", column
