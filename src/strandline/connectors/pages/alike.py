"""JSON documents that look like those before them: Arrow reads them by itself, in a fraction of the time that Python takes.

Python reads the first document of a stream, from which its fields and types are known, and Arrow the next ones. Where Arrow finds
another field or type, or may take something for what it is not, Python reads the document, and more is known. So it does not hang
on who reads a document what is found in it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strandline.connectors.arrow.json_path import JSONPath
from strandline.connectors.arrow.types import widened
from strandline.connectors.pages.documents import document_of, has_long_numbers, loaded, records_of
from strandline.lazy import pa, pa_json, pc

__all__ = ["Alike", "Rows"]

_TRIES = 16
"""So many documents in vain, and half as many as with success, and no other one is tried."""
_BYTES_MAX = 1 << 28
_ODD = re.compile(rb"(?:[:\[,\s]-?[0-9][0-9.]{15}[0-9.eE+-]*|[0-9][eE][+-]?[0-9]{3,}|NaN|Inf|Infinity)\s*[,\]}]")
"""Tells odd numbers from most texts that look so; slow, so that it is asked only where there may be some."""


class _DoubtError(Exception):
    """Python has to look at it."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What documents look like."""

    kind: "pa.DataType"
    options: Any
    has_doubles: bool


class Alike:
    """The documents of one stream, in their order. Safe to share between threads that read ahead."""

    def __init__(self, path: JSONPath) -> None:
        """See above.

        Args:
            path: where the records lie.
        """
        self._path = path
        self._known: _Known | None = None
        self._found = self._missed = 0

    def page(self, data: bytes, *, where: str) -> Sequence[Any]:
        """The records of the next document, by whoever can read it.

        Raises:
            TaskError: it is no JSON, or it has no records where they should be.
        """
        if (rows := self.read(data)) is not None:
            return rows
        document = loaded(data, where=where)
        self.learn(document)
        return records_of(document, self._path, where=where)

    def read(self, data: bytes) -> "Rows | None":
        """The records of a document; ``None``: Python has to read it. It may be no JSON at all."""
        known = self._known
        if known is None or (document := _document(data, known)) is None:
            return None
        lying = document
        for step in self._path:
            if lying.null_count:
                return None
            lying = lying.field(step)
        if lying.null_count or (rows := lying.flatten()).null_count:
            return None
        self._found += 1
        return Rows(data, self._path, document, rows)

    def learn(self, document: Any) -> None:
        """Take notice of what Python has read. A document that others were read ahead of is told in its turn, and not before."""
        self._missed += 1
        if 2 * self._missed > _TRIES + self._found:
            self._known = None
            return
        try:
            kind = pa.array([document]).type
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return
        whole = widened(self._known.kind, kind, text=True) if self._known is not None else kind
        if whole is not None and _is_plain(whole) and _has_records(whole, self._path):
            schema = pa.schema([("", _readable(whole))])
            options = pa_json.ParseOptions(
                explicit_schema=schema, newlines_in_values=True, unexpected_field_behavior="error"
            )
            self._known = _Known(whole, options, _has_doubles(whole))


class Rows(Sequence[Any]):
    """The records of a document that Arrow has read. Python reads them, too, where one is looked at."""

    __slots__ = ("_data", "_document", "_path", "_plain", "array")

    def __init__(self, data: bytes, path: JSONPath, document: "pa.Array", array: "pa.StructArray") -> None:
        self._data, self._path, self._document = data, path, document
        self.array = array
        self._plain: list[Any] | None = None

    @property
    def plain(self) -> list[Any]:
        """The records as Python has them."""
        if self._plain is None:
            self._plain = records_of(document_of(self._data), self._path, where="")
        return self._plain

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, at: Any) -> Any:
        return self.plain[at]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Rows):
            if self._data == other._data:
                return True
            if self.array.type == other.array.type and not self.array.equals(other.array):
                return False
            other = other.plain
        return isinstance(other, list) and self.plain == other

    def __hash__(self) -> int:
        raise TypeError("it is as a list")

    def last(self) -> Any:
        """The last record, with every field that others have; a whole number may be a double."""
        return self.array[-1].as_py()

    def has(self, name: str) -> bool:
        """Whether the document may have such a field at its top."""
        kind = self._document.type
        return bool(pa.types.is_struct(kind)) and kind.get_field_index(name) >= 0

    def beside(self, path: JSONPath) -> str | int | None:
        """The text, whole number or truth at ``path`` in the document; ``None``: nothing of these, or it has to be looked for."""
        lying = self._document
        for step in path:
            kind = lying.type
            if lying.null_count or not pa.types.is_struct(kind) or step is None or kind.get_field_index(step) < 0:
                return None
            lying = lying.field(step)
        is_ = pa.types
        simple = is_.is_string(lying.type) or is_.is_int64(lying.type) or is_.is_boolean(lying.type)
        found: str | int | None = lying[0].as_py() if simple else None
        return found

    def columns(self, known: "Mapping[str, pa.DataType]", *, lists_matter: bool) -> "dict[str, pa.Array] | None":
        """The columns as they would be found in what Python reads; ``None``: that has to be asked.

        Args:
            known: the types of columns that were found before. What fits these stays as it is.
            lists_matter: whether a list that no record names is another thing than one that all have as null.
        """
        columns: dict[str, pa.Array] = {}
        try:
            for name, array in zip(self.array.type.names, self.array.flatten(), strict=True):
                kind = known.get(name, pa.null())
                if lists_matter and array.null_count == len(array) and pa.types.is_list(array.type):
                    if self._names(name):
                        return None
                    continue
                are_times = pa.types.is_string(array.type) and pa.types.is_temporal(kind)
                found = array if are_times else self._exact(name, array, kind)
                if found is not None:
                    columns[name] = found
        except _DoubtError:
            return None
        return columns

    def _names(self, name: str) -> bool:
        """Whether the name of a field may stand in the document."""
        spelled = {json.dumps(name, ensure_ascii=ascii_).encode() for ascii_ in (True, False)}
        return any(one in self._data for one in spelled)

    def _exact(self, name: str, array: "pa.Array", known: "pa.DataType") -> "pa.Array | None":
        """In the type that these values have by themselves; ``None``: there is no such field. Types are of other documents, too."""
        kind, is_ = array.type, pa.types
        if not is_.is_null(known) and _covers(known, kind):
            return array
        if array.null_count == len(array):
            return pa.nulls(len(array)) if not name or self._names(name) else None
        if is_.is_struct(kind):
            fields = {one.name: one.type for one in known} if is_.is_struct(known) else {}
            inner = {
                one: found
                for one, field in zip(kind.names, array.flatten(), strict=True)
                if (found := self._exact(one, field, fields.get(one, pa.null()))) is not None
            }
            return pa.StructArray.from_arrays([*inner.values()], [*inner], mask=array.is_null())
        if is_.is_list(kind):
            value = known.value_type if is_.is_list(known) else pa.null()
            values = self._exact("", array.flatten(), value)
            return _list(array, pa.nulls(0) if values is None else values)
        if is_.is_floating(kind) and pc.all(pc.equal(pc.floor(array), array)).as_py():
            raise _DoubtError  # a 1 may be one, or 1.0
        return array


def _document(data: bytes, known: _Known) -> "pa.Array | None":
    """One document as an array of one value; ``None``: it is none of these, or is not JSON."""
    if len(data) > _BYTES_MAX or not _is_utf8(data) or (known.has_doubles and _has_odd_numbers(data)):
        return None
    text = b'{"":' + data + b"}"
    reading = pa_json.ReadOptions(use_threads=False, block_size=len(text) + 1)
    try:
        # `read_json` waits for a thread of Arrow, which takes longer than the document
        with pa_json.open_json(pa.BufferReader(text), read_options=reading, parse_options=known.options) as batches:
            table = batches.read_all()
    except pa.ArrowException:
        return None
    # several: it ends before it ends
    return table.column(0).combine_chunks() if table.num_rows == 1 else None


def _is_utf8(data: bytes) -> bool:
    """Arrow does not look."""
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def _has_odd_numbers(data: bytes) -> bool:
    """Whether there may be numbers that Arrow rounds, or knows and JSON does not."""
    return (b"NaN" in data or b"Inf" in data or has_long_numbers(data)) and _ODD.search(data) is not None


def _is_plain(kind: "pa.DataType") -> bool:
    """Whether Arrow reads these types of JSON as Python does, or leaves them."""
    is_ = pa.types
    if is_.is_struct(kind):
        return all(_is_plain(one.type) for one in kind)
    if is_.is_list(kind):
        return _is_plain(kind.value_type)
    return bool(
        is_.is_null(kind) or is_.is_boolean(kind) or is_.is_int64(kind) or is_.is_float64(kind) or is_.is_string(kind)
    )


def _readable(kind: "pa.DataType") -> "pa.DataType":
    """With truths in lists of nulls, which Arrow makes too short; what has no truth in it is taken for nulls again."""
    if pa.types.is_struct(kind):
        return pa.struct([(one.name, _readable(one.type)) for one in kind])
    if not pa.types.is_list(kind):
        return kind
    return pa.list_(pa.bool_() if pa.types.is_null(kind.value_type) else _readable(kind.value_type))


def _has_doubles(kind: "pa.DataType") -> bool:
    inner = [kind.field(at).type for at in range(kind.num_fields)] if pa.types.is_nested(kind) else []
    return bool(pa.types.is_float64(kind)) or any(_has_doubles(one) for one in inner)


def _has_records(kind: "pa.DataType", path: JSONPath) -> bool:
    """Whether a list of objects lies there."""
    for step in path:
        if step is None or not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            return False
        kind = kind.field(step).type
    return bool(pa.types.is_list(kind) and pa.types.is_struct(kind.value_type))


def _covers(known: "pa.DataType", kind: "pa.DataType") -> bool:
    """Whether values of ``kind`` go with a column as they are, whichever of its fields they have."""
    is_ = pa.types
    if known == kind:
        return True
    if is_.is_struct(known) and is_.is_struct(kind):
        fields = {one.name: one.type for one in known}
        return all(one.name in fields and _covers(fields[one.name], one.type) for one in kind)
    if is_.is_list(known) and is_.is_list(kind):
        return _covers(known.value_type, kind.value_type)
    return bool(is_.is_null(kind) or (is_.is_float64(known) and is_.is_int64(kind)))


def _list(array: "pa.ListArray", values: "pa.Array") -> "pa.ListArray":
    """The same lists of other values."""
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    return pa.ListArray.from_arrays(offsets, values, mask=array.is_null())
