"""The columns of a stream: one schema, which grows as records show more of it, and every value in it or in none.

- A field that is new is a column that is new; an object with a new field is a struct with one more.
- Whole numbers become decimals or doubles where their values allow it, days become moments, nulls become anything, and anything
  becomes text where the column is text.
- Texts that are all ISO times are times where the column is new.
- What goes with none of this is a conflict; ``Shape.conflicts`` says what becomes of it. In a key it always fails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from strandline.connectors.arrow.json_text import encode_json, text_of
from strandline.connectors.arrow.types import iso_type, moments, widened
from strandline.connectors.arrow.widening import EXACT_MAX
from strandline.connectors.pages.records import Records, joined
from strandline.connectors.pages.shape import Shape, is_json
from strandline.decimals import decimals
from strandline.errors import TaskError
from strandline.lazy import pa, pc
from strandline.settings import parse_type

__all__ = ["Columns", "grown", "read_kind", "written_kind"]

_INT64_DIGITS, _DIGITS_MAX = 19, 38


@dataclass(slots=True)
class Columns:
    """What is known of the columns of one stream. ``take`` adds to it."""

    where: str
    """The stream, for errors."""
    shape: Shape
    keys: frozenset[str] = frozenset()
    """Columns that keep the type in which they were first seen."""
    types: "dict[str, pa.DataType]" = field(default_factory=dict)
    """By name, in their order. Null: nothing but nulls was seen."""
    closed: bool = False
    """Other columns than those in ``types`` are an error."""
    wide: set[str] = field(default_factory=set)
    """Columns of whole numbers with values that no double holds."""
    apart: "tuple[str, ...] | None" = None
    """Lists that are child tables; ``None``: that was not decided yet."""

    @property
    def schema(self) -> "pa.Schema":
        """As it is now."""
        return pa.schema(list(self.types.items()))

    def know(self, types: "Mapping[str, pa.DataType]") -> None:
        """Types that were seen before; they count for more than those that a first page has shown."""
        for name, kind in types.items():
            if name not in self.shape.types and (not pa.types.is_null(kind) or name not in self.types):
                self.types[name] = kind if name in self.keys else grown(kind, self.types.get(name, kind)) or kind

    def keep_apart(self, lists: Sequence[str]) -> None:
        """These lists are child tables, also where nothing is in them now.

        Raises:
            TaskError: one is no list any more, or is to be a column now.
        """
        for name in lists:
            kind = self.types.get(name, pa.null())
            what = f"{self.where}: its list {name!r} is a table"
            if self.shape.lists != "tables":
                raise TaskError(
                    f"{what}, and `lists` says {self.shape.lists!r}", hint="--full-refresh makes it a column"
                )
            if not (pa.types.is_list(kind) or pa.types.is_null(kind)):
                raise TaskError(f"{what}, and it is {kind} now", hint="--full-refresh makes it a column")
            if pa.types.is_null(kind):
                self.types[name] = pa.list_(pa.null())
        self.apart = tuple(dict.fromkeys([*(self.apart or ()), *lists]))

    def take(self, pages: "Sequence[Records]") -> "pa.Table":
        """The records of some pages, one after the other, in the schema, which may have grown.

        Raises:
            TaskError: a value goes with no column.
        """
        pages = joined(pages)
        found: dict[str, list[tuple[int, pa.Array]]] = {name: [] for name in self.types}
        for number, page in enumerate(pages):
            for name, arrays in page.columns.items():
                if self.closed and name not in self.types:
                    raise TaskError(
                        f"{self.where}: a record has {name!r}, which is not declared",
                        hint="declare it, or leave it out",
                    )
                found.setdefault(name, []).extend((number, array) for array in arrays)
        if not found and any(page.rows for page in pages):
            raise TaskError(f"{self.where}: the records have no fields", hint="leave empty records out")
        columns: dict[str, pa.ChunkedArray] = {}
        while found:
            name = next(iter(found))
            columns[name], others = self._column(name, found.pop(name), pages)
            for other, arrays in others.items():
                found.setdefault(other, []).extend(arrays)
        return pa.table([columns[name] for name in self.types], schema=self.schema)

    def _column(
        self, name: str, found: "Sequence[tuple[int, pa.Array]]", pages: "Sequence[Records]"
    ) -> "tuple[pa.ChunkedArray, dict[str, list[tuple[int, pa.Array]]]]":
        """The column in its type, and what stands in other columns instead."""
        kind = self._kind(name, [array for _, array in found])
        values: list[list[pa.Array]] = [[] for _ in pages]
        others: dict[str, list[tuple[int, pa.Array]]] = {}
        for number, array in found:
            value, rest = _parted(array, kind)
            if value is not None:
                values[number].append(value)
            if rest is not None:
                other = self._other(name, rest, kind)
                moved = rest if self.shape.conflicts == "new" else _as_json(rest, f"{self.where}.{name}")
                others.setdefault(other, []).append((number, moved))
        self.types[name] = kind
        if pa.types.is_int64(kind) and any(_is_wide(array) for arrays in values for array in arrays):
            self.wide.add(name)
        chunks = [_joined(arrays, kind, page.rows) for arrays, page in zip(values, pages, strict=True)]
        return pa.chunked_array(chunks, kind), others

    def _kind(self, name: str, arrays: "Sequence[pa.Array]") -> "pa.DataType":
        """The type of the column, which may be wider than it was."""
        if name in self.shape.types:
            return self.shape.types[name]
        known = self.types.get(name, pa.null())
        arrays = [
            array for array in arrays if not pa.types.is_null(_sure(array.type)) and array.null_count < len(array)
        ]
        if not pa.types.is_null(known):
            if name in self.keys or is_json(known) or pa.types.is_string(known):
                return known
            return reduce(lambda kind, array: self._grown(name, kind, array) or kind, arrays, known)
        kinds = list(dict.fromkeys(_sure(array.type) for array in arrays))
        kind = reduce(lambda one, other: grown(one, other) or one, kinds, known)
        if all(pa.types.is_string(one) for one in kinds) and name not in self.shape.texts and kinds:
            return iso_type(pa.chunked_array(arrays).combine_chunks()) or kind
        return kind

    def _grown(self, name: str, known: "pa.DataType", array: "pa.Array") -> "pa.DataType | None":
        """The type of the column once it holds these values, too."""
        found = _sure(array.type)
        if pa.types.is_temporal(known) and pa.types.is_string(found):
            found = iso_type(array) or found
        if pa.types.is_floating(found) and name in self.wide:
            return None
        return grown(known, found)

    def _other(self, name: str, array: "pa.Array", kind: "pa.DataType") -> str:
        """The name of the column in which values stand that do not go with ``kind``.

        Raises:
            TaskError: there is none.
        """
        other = f"{name}_{'json' if self.shape.conflicts == 'json' else _label(array.type)}"
        if self.shape.conflicts == "fail" or name in self.keys or name in self.shape.types or self.closed:
            sample = next((one for one in array if one.is_valid), None)
            shown = str(sample)[:60]
            hint = (
                "it is declared so"
                if name in self.shape.types
                else f"declare its type, string or json, say, or say what becomes of conflicts: {other} may have it"
            )
            raise TaskError(f"{self.where}: column {name!r} is {kind}, and a record has {shown!r} there", hint=hint)
        return other


def grown(known: "pa.DataType", found: "pa.DataType") -> "pa.DataType | None":
    """The type that holds the values of both, if their values allow it; ``None``: there is none."""
    is_ = pa.types
    if is_json(known) or is_json(found):
        return known if known == found or is_.is_null(found) else found if is_.is_null(known) else None
    for whole, decimal in ((known, found), (found, known)):
        if is_.is_integer(whole) and is_.is_decimal(decimal):
            digits = max(decimal.precision - decimal.scale, _INT64_DIGITS) + decimal.scale
            return pa.decimal128(digits, decimal.scale) if digits <= _DIGITS_MAX else None
    if is_.is_struct(known) and is_.is_struct(found):
        fields = {one.name: one.type for one in known}
        for one in found:
            kind = grown(fields.get(one.name, pa.null()), one.type)
            if kind is None:
                return None
            fields[one.name] = kind
        return pa.struct(list(fields.items()))
    if is_.is_list(known) and is_.is_list(found):
        inner = grown(known.value_type, found.value_type)
        return None if inner is None else pa.list_(inner)
    return widened(known, found, text=True)


def _sure(kind: "pa.DataType") -> "pa.DataType":
    """Without what has no type yet: fields that are null in all records, and lists without elements."""
    if pa.types.is_struct(kind):
        fields = [(one.name, sure) for one in kind if not pa.types.is_null(sure := _sure(one.type))]
        return pa.struct(fields) if fields else pa.null()
    if pa.types.is_list(kind):
        inner = _sure(kind.value_type)
        return pa.null() if pa.types.is_null(inner) else pa.list_(inner)
    return kind


def _fitted(array: "pa.Array", kind: "pa.DataType") -> "pa.Array | None":
    """The values in the type of their column; ``None``: one of them does not fit."""
    found = _sure(array.type)
    if array.type == kind:
        return array
    if pa.types.is_null(kind):
        return pa.nulls(len(array)) if pa.types.is_null(found) else None
    try:
        if is_json(kind):
            return _as_json(array, "")
        if pa.types.is_string(kind):
            return _as_text(array)
        if pa.types.is_string(array.type) and pa.types.is_temporal(kind):
            return moments(array, kind)
        if pa.types.is_decimal(kind) and not pa.types.is_nested(array.type) and not pa.types.is_boolean(array.type):
            return decimals(text_of(array, where=""), kind)
        if pa.types.is_null(found) and pa.types.is_nested(array.type) and not _alike(array.type, kind):
            return None if array.null_count < len(array) else pa.nulls(len(array), kind)
        return pc.cast(array, kind) if grown(kind, found) == kind or _narrower(found, kind) else None
    except (pa.ArrowException, TaskError):
        return None


def _alike(found: "pa.DataType", kind: "pa.DataType") -> bool:
    """Whether both are lists, or both objects."""
    is_ = pa.types
    return bool((is_.is_list(found) and is_.is_list(kind)) or (is_.is_struct(found) and is_.is_struct(kind)))


def _parted(array: "pa.Array", kind: "pa.DataType") -> "tuple[pa.Array | None, pa.Array | None]":
    """The values that fit the type of their column, in that type, and those that do not; ``None`` for none."""
    whole = _fitted(array, kind)
    if whole is not None:
        return whole, None
    fit = [not one.is_valid or _fitted(array.slice(at, 1), kind) is not None for at, one in enumerate(array)]
    mask = pa.array(fit)
    if not pc.any(pc.and_(mask, array.is_valid())).as_py():
        return None, array
    return _fitted(_where(mask, array), kind), _where(pc.invert(mask), array)


def _where(mask: "pa.Array", array: "pa.Array") -> "pa.Array":
    """The values at some places, and nulls at the others."""
    return array.take(pa.array([at if here else None for at, here in enumerate(mask.to_pylist())], pa.int64()))


def _is_wide(array: "pa.Array") -> bool:
    ends = pc.min_max(array)
    return any(one.is_valid and abs(one.as_py()) > EXACT_MAX for one in ends.values())


def _narrower(found: "pa.DataType", kind: "pa.DataType") -> bool:
    """Whether values may fit a type that their own is wider than: Arrow checks each."""
    is_ = pa.types
    exact = is_.is_integer(kind) or is_.is_decimal(kind)
    return bool(exact and (is_.is_integer(found) or is_.is_decimal(found) or is_.is_floating(found))) or bool(
        is_.is_timestamp(found) and is_.is_timestamp(kind) and found.tz == kind.tz
    )


def _as_text(array: "pa.Array") -> "pa.Array":
    if is_json(array.type):
        return array.storage
    return (encode_json if pa.types.is_nested(array.type) else text_of)(array, where="")


def _as_json(array: "pa.Array", where: str) -> "pa.Array":
    if is_json(array.type):
        return array
    return pa.ExtensionArray.from_storage(pa.json_(), encode_json(array, where=where).cast(pa.string()))


def _joined(arrays: "Sequence[pa.Array]", kind: "pa.DataType", rows: int) -> "pa.Array":
    """Of several arrays, of which at most one has a value in each row, those values."""
    if not arrays:
        return pa.nulls(rows, kind)
    if len(arrays) == 1:
        return arrays[0]
    values = [one.storage if isinstance(one, pa.ExtensionArray) else one for one in arrays]
    joined = reduce(lambda one, other: pc.if_else(one.is_valid(), one, other), values)
    return pa.ExtensionArray.from_storage(kind, joined) if isinstance(kind, pa.BaseExtensionType) else joined


def _label(kind: "pa.DataType") -> str:
    is_ = pa.types
    named = {
        "text": is_.is_string(kind),
        "json": is_json(kind) or is_.is_nested(kind),
        "int": is_.is_integer(kind),
        "number": is_.is_floating(kind) or is_.is_decimal(kind),
        "bool": is_.is_boolean(kind),
        "time": is_.is_temporal(kind),
    }
    return next((label for label, fits in named.items() if fits), "other")


def written_kind(kind: "pa.DataType") -> Any:
    """A type as a cursor keeps it: JSON, since names of fields may be anything."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.extension_name
    if pa.types.is_struct(kind):
        return {"struct": [[one.name, written_kind(one.type)] for one in kind]}
    return {"list": written_kind(kind.value_type)} if pa.types.is_list(kind) else str(kind)


def read_kind(written: Any) -> "pa.DataType":
    """What ``written_kind`` was given. Raises ``ValueError`` and ``TypeError``."""
    match written:
        case {"struct": fields}:
            return pa.struct([(name, read_kind(kind)) for name, kind in fields])
        case {"list": inner}:
            return pa.list_(read_kind(inner))
        case "arrow.json" | "arrow.uuid":
            return pa.json_() if written == "arrow.json" else pa.uuid()
        case _:
            return parse_type(str(written))
