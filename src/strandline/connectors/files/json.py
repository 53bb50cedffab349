"""Records of JSON lines: one object a line.

Arrow's reader is fast, but trusts its input: a line ``null`` or a nesting of some ten thousand levels ends the process,
text that is not UTF-8 passes, and an integer in a column of doubles is rounded. So what it is given is checked before,
and what it returns is checked after.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

from strandline.connectors.arrow.types import comes_back, fixed, iso_type, moments, texts_where
from strandline.connectors.files.content import BOM
from strandline.lazy import pa, pa_json, pc

__all__ = ["JSONLines"]

_DEPTH_MAX = 64
_UNMATCHED_MAX = 1_000
"""Brackets left over, in text mostly. Arrow survives some ten thousand levels."""
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}\n")))
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_OBJECT = re.compile(rb"^[ \t\r]*+\{", re.MULTILINE)
_OTHER = re.compile(rb"^[ \t\r]*+(?![{\s]|\Z)", re.MULTILINE)
_LONG = re.compile(rb"[0-9][0-9.]{15}|[eE][+-]?[0-9]{3}")
"""A number of so many digits, or so large, may not come back from a double."""
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class JSONLines:
    """One file of JSON lines. See ``LineFormat``."""

    marks: ClassVar[Mapping[str, str]] = {}
    hint = (
        "fix the line: each is one JSON object, in UTF-8; `records` says where in a document the records lie, and objects over "
        "several lines may follow others that have a line each and no blanks around them"
    )

    def __init__(self, declared: "Mapping[str, pa.DataType]", keys: Collection[str] = ()) -> None:
        self._declared = declared
        self._keys = frozenset(keys)
        self.encoding, self.header_at = "", 0

    begin_hint = hint

    def begin(self, head: bytes, *, final: bool) -> int | None:  # noqa: ARG002 as every format's
        """Where the first line begins."""
        return len(BOM) if head.startswith(BOM) else 0

    def belongs(self, known: Sequence[str]) -> None:
        """Whether the file goes with others: each object names its own columns."""

    def cut(self, data: bytes) -> int:
        """Where the last complete line ends; 0 if there is none."""
        return data.rfind(b"\n") + 1

    def whole(self, rest: bytes) -> bool:
        """Whether ``rest``, which no newline ends, may be an object: parsing it says so."""
        return bool(rest)

    def ends(self, data: bytes) -> list[int]:
        """Where each line ends."""
        return [line.end() for line in re.finditer(rb"\n", data)]

    def infer(self, data: bytes) -> "pa.Schema":
        """The types of the columns by what is in ``data``; null where nothing is. Text is text, whatever it looks like.

        Raises:
            ValueError: a line is no object, or the values of a column are of several kinds.
        """
        try:
            found = self._read(data, None)
        except ValueError:
            if not self._declared:
                raise
            found = self._read(with_texts(data, self._declared), None)
        types = {
            field.name: self._declared.get(field.name, texts_where(field.type, pa.types.is_timestamp))
            for field in found.schema
        }
        texts = {name for name, type_ in types.items() if pa.types.is_floating(type_)} - self._declared.keys()
        # as keys 1.1 and 1.10 are two
        texts &= _inexact(data).keys() | self._keys
        return pa.schema(list((types | dict.fromkeys(texts, pa.string())).items()))

    def with_times(self, data: bytes, found: "pa.Schema", texts: Collection[str]) -> "pa.Schema":
        """The schema that ``infer`` has found, with days and moments where all texts of a column are such.

        Not in the columns ``texts``, nor in keys. Nor is it asked of a column that is met in the middle of a file: it goes on as
        text, for nobody has looked how the destination has it.
        """
        apart = self._declared.keys() | self._keys | {*texts}
        names = [one.name for one in found if pa.types.is_string(one.type) and one.name not in apart]
        if not names:
            return found
        try:
            rows = self._read(data, pa.schema([(name, pa.string()) for name in names]), strict=False)
        except ValueError:
            return found  # a number that is read as text
        times = {name: iso_type(rows.column(name).combine_chunks()) for name in names}
        return pa.schema([one.with_type(times.get(one.name) or one.type) for one in found])

    def parse(self, data: bytes, schema: "pa.Schema", *, strict: bool = True) -> "pa.Table":
        """The lines of ``data`` in the types of ``schema``; a missing key is null.

        Raises:
            ValueError: a value does not fit; or, if ``strict``, a line has a key that ``schema`` has not.
        """
        times = {field.name for field in schema if pa.types.is_timestamp(field.type)} - self._declared.keys()
        physical = pa.schema(
            [field.with_type(pa.string() if field.name in times else _physical(field.type)) for field in schema]
        )
        # Arrow reads decimals of many digits as other numbers
        if wide := [one.name for one in schema if pa.types.is_decimal(one.type) and _wide(one.type).search(data)]:
            data = with_texts(data, wide)
            physical = pa.schema([one.with_type(pa.string()) if one.name in wide else one for one in physical])
        try:
            table = self._read(data, physical, strict=strict)
        except ValueError:
            names = [field.name for field in schema if self._may_be_text(field)]
            if not names:
                raise
            texts = [field.with_type(pa.string()) if field.name in names else field for field in physical]
            table = self._read(with_texts(data, names), pa.schema(texts), strict=strict)
        # The order of the columns in which the keys stand in the first line is not ours.
        table = table.select(schema.names)
        columns = [
            _cast(column, field.type, is_time=field.name in times)
            for column, field in zip(table.columns, schema, strict=True)
        ]
        if any(_has_doubles(field.type) for field in schema if field.name not in self._declared):
            self._check_exact(data, schema)
        return pa.table(columns, schema=schema)

    def _may_be_text(self, field: "pa.Field") -> bool:
        """Whether a value of another kind may become text in this column; not as a key, of which 1 and "1" are two."""
        return field.name in self._declared or bool(pa.types.is_string(field.type))

    def _check_exact(self, data: bytes, schema: "pa.Schema") -> None:
        for name, text in _inexact(data).items():
            at = schema.get_field_index(name)
            if at >= 0 and name not in self._declared and _has_doubles(schema.field(at).type):
                raise ValueError(f"{text} would not stay the same as double")

    def _read(self, data: bytes, schema: "pa.Schema | None", *, strict: bool = True) -> "pa.Table":
        data = data if data.endswith(b"\n") else data + b"\n"
        objects = _objects(data)
        if not objects:
            return (schema or pa.schema([])).empty_table()
        _check_depth(data)
        behaviour = "infer" if schema is None else "error" if strict else "ignore"
        table = pa_json.read_json(
            pa.BufferReader(data),
            pa_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=behaviour),
        )
        if table.num_rows != objects:
            raise ValueError("not one object a line")
        table.validate(full=True)
        return table


def _objects(data: bytes) -> int:
    """How many lines there are, each of them an object."""
    lines = data.count(b"\n")
    if data.count(b"\n{") + data.startswith(b"{") == lines:
        return lines
    if other := _OTHER.search(data):
        line = data[other.end() : other.end() + 40].partition(b"\n")[0].decode(errors="replace")
        raise ValueError(f"not an object: {line}")
    return len(_OBJECT.findall(data))


def _check_depth(data: bytes) -> None:
    # First with the brackets in texts, which is fast and nearly always enough.
    for text in (data, None):
        left = (text or _TEXT.sub(b"", data)).translate(None, _NOT_BRACKETS)
        for _ in range(_DEPTH_MAX):
            shorter = left.replace(b"[]", b"").replace(b"{}", b"")
            if len(shorter) == len(left):
                break
            left = shorter
        if len(left) - left.count(b"\n") <= _UNMATCHED_MAX:
            return
    raise ValueError(f"nested more than {_DEPTH_MAX} levels deep, or brackets do not match")


def _physical(type_: "pa.DataType") -> "pa.DataType":
    """What Arrow's reader makes of the text of days and times: only text."""
    return pa.string() if pa.types.is_date(type_) or pa.types.is_time(type_) else type_


def _wide(type_: "pa.DataType") -> "re.Pattern[bytes]":
    """A number that may have more digits than Arrow counts when it reads it as this type of decimals."""
    digits = 38 if pa.types.is_decimal128(type_) else 76
    return re.compile(rb"[0-9]{%d}|[0-9.]{%d}|[0-9.][eE]" % (max(1, digits + 1 - type_.scale), digits))


def _cast(column: "pa.ChunkedArray", type_: "pa.DataType", *, is_time: bool) -> "pa.ChunkedArray":
    if column.type == type_:
        return column
    if is_time:
        return moments(column, type_)
    return fixed(column.combine_chunks(), type_) if pa.types.is_decimal(type_) else pc.cast(column, type_)


def _has_doubles(type_: "pa.DataType") -> bool:
    if pa.types.is_floating(type_):
        return True
    return any(_has_doubles(type_.field(at).type) for at in range(type_.num_fields))


class _Inexact(str):
    """A number whose digits do not come back from a double."""

    __slots__ = ()


def _number(text: str) -> str:
    return "" if comes_back(text) else _Inexact(text)


def _inexact(data: bytes) -> dict[str, str]:
    """The keys that have, however deep, a number that no double holds, with that number. Only long numbers are looked at."""
    found: dict[str, str] = {}
    for line in data.split(b"\n") if _LONG.search(data) else ():
        if _LONG.search(line):
            values = json.loads(line, parse_float=_number, parse_int=_number)
            found |= {name: number for name, value in values.items() if (number := _inexact_in(value))}
    return found


def _inexact_in(value: object) -> str:
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return next(filter(None, map(_inexact_in, inside)), "")
    return str(value) if isinstance(value, _Inexact) else ""


def with_texts(data: bytes, names: Iterable[str]) -> bytes:
    """The lines with the values of some keys as text: what is no text already as it is written. Slow, by line.

    Raises:
        ValueError: a line is no object.
    """
    _check_depth(data)
    wanted = frozenset(names)
    return b"".join(_line(line.decode(), wanted).encode() + b"\n" for line in data.split(b"\n") if line.strip())


def _line(line: str, wanted: frozenset[str]) -> str:
    at = _skipped(line, 0, "{")
    parts = []
    while line[at : at + 1] != "}":
        key, end = _DECODER.raw_decode(line, at)
        if not isinstance(key, str):
            raise ValueError(f"{key!r} is not a key")  # noqa: TRY004 the line is wrong, not the call
        start = _skipped(line, end, ":")
        _, end = _DECODER.raw_decode(line, start)
        value = line[start:end]
        text = key in wanted and not value.startswith('"') and value != "null"
        parts.append(f"{json.dumps(key)}:{json.dumps(value) if text else value}")
        at = _skipped(line, end)
        if line[at : at + 1] != "}":
            at = _skipped(line, at, ",")
    if line[at + 1 :].strip():
        raise ValueError("more than one object in a line")
    return f"{{{','.join(parts)}}}"


def _skipped(line: str, at: int, expected: str = "") -> int:
    """Where the next thing begins, after spaces, ``expected``, and spaces."""
    for token in ("", expected):
        if not line.startswith(token, at):
            raise ValueError(f"{expected!r} is missing")
        space = _SPACE.match(line, at + len(token))
        at = space.end() if space else at
    return at
