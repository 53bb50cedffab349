"""The version of a row: 16 bytes of its content, by which a row that is read again is known.

A version does not change where only the table does: where a column comes, or a field of a struct, in which the row has nothing,
and where a column of whole numbers becomes one of decimals or doubles, or one of days one of moments.

Before there were *forms*, a struct counted all its fields, and a number or a time was spelled as its type has it. What was stored so is
known by it for good: a form says of a column which parts of it are still told so. A lineage that begins now has none.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from strandline.lazy import pa, pc
from strandline.state import State
from strandline.table import CLIENT_ID, CQ_ID, SOURCE_NAME, SYNC_TIME, Table

__all__ = ["Form", "content_versions", "former_forms", "forms_of"]

_NOT_CONTENT = frozenset({SYNC_TIME, SOURCE_NAME, CLIENT_ID, CQ_ID})
"""Columns that differ between deliveries of one row."""

Form: TypeAlias = Any
"""JSON. ``"typed"``: a number or a time, as its type has it; ``[[name, form], ...]``: an object, whose fields of these names count where
they are null, too; ``{"items": form}``: a list. ``None``: nothing is told as before."""
_TYPED = "typed"
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY_S = 86_400
_INT64_END = 2.0**63
_DIGITS_128 = 38


def forms_of(state: State | None, tables: Mapping[str, Table]) -> Mapping[str, Mapping[str, Form]]:
    """How rows of these tables, as they are sent, are told apart in a lineage of which this is the state."""
    if state is None:
        return {}
    if state.forms is not None:
        return state.forms
    return {name: forms for name, table in tables.items() if (forms := former_forms(table))}


def former_forms(table: Table) -> dict[str, Form]:
    """How rows of a table were told apart before there were forms, by column; without the columns that are told so now, too."""
    forms = {one.name: _former(one.type) for one in table.schema}
    return {name: form for name, form in forms.items() if form is not None}


def _former(kind: "pa.DataType") -> Form:
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _former(kind.storage_type)
    if types.is_dictionary(kind):
        return _former(kind.value_type)
    if types.is_struct(kind):
        return [[one.name, _former(one.type)] for one in kind]
    if types.is_map(kind):
        return {"items": [[one.name, _former(one.type)] for one in (kind.key_field, kind.item_field)]}
    if types.is_nested(kind):
        form = _former(kind.value_type)
        return None if form is None else {"items": form}
    return _TYPED if types.is_date(kind) or types.is_timestamp(kind) or _has_fractions(kind) else None


def content_versions(
    batch: "pa.RecordBatch",
    columns: Sequence[str],
    scope: tuple[str, ...] = (),
    forms: Mapping[str, Form] | None = None,
) -> "pa.Array":
    """For each row 16 bytes that identify the content of ``columns``; lineage columns do not count.

    Equal rows of different scopes (source, partition) are different rows, so a scope counts.

    BLAKE2b over the name and the value of each column that is not null, in the order of names, each with its length in
    front, so that no two different rows have the same input. Numbers of equal value are equal, whatever their type.
    """
    parts = [
        pc.fill_null(_named(name, _as_bytes(batch.column(name), (forms or {}).get(name))), b"")
        for name in sorted(set(columns) - _NOT_CONTENT)
    ]
    rows = _joined(*parts).to_pylist() if parts else [b""] * batch.num_rows
    seed = hashlib.blake2b(b"".join(b"%d:%b" % (len(part), part) for part in map(str.encode, scope)), digest_size=16)
    digest, key = hashlib.blake2b, seed.digest()
    return pa.array([digest(row, digest_size=16, key=key).digest() for row in rows], pa.binary(16))


def _bytes(text: str) -> "pa.Scalar":
    return pa.scalar(text.encode(), pa.large_binary())


def _joined(*parts: "pa.Array | pa.Scalar") -> "pa.Array":
    """The parts of each row, one after the other; null where one is null."""
    return pc.binary_join_element_wise(*parts, _bytes(""))


def _named(name: str, values: "pa.Array") -> "pa.Array":
    return _joined(_bytes(f"{len(name.encode())}:{name}="), _measured(values))


def _measured(values: "pa.Array") -> "pa.Array":
    """Each value with its length in front; null stays null."""
    lengths = pc.cast(pc.cast(pc.binary_length(values), pa.string()), pa.large_binary())
    return _joined(lengths, _bytes(":"), values)


def _as_bytes(values: "pa.Array", form: Form = None) -> "pa.Array":  # noqa: C901 -- a line for each family of types
    """Each value as bytes, injective within one type; null stays null."""
    kind = values.type
    types = pa.types
    if isinstance(values, pa.ExtensionArray):
        return _as_bytes(values.storage, form)
    if types.is_dictionary(kind):
        return _as_bytes(values.dictionary_decode(), form)
    if types.is_struct(kind):
        return _struct_as_bytes(values, form if isinstance(form, list) else [])
    if types.is_nested(kind):
        return _list_as_bytes(values, form["items"] if isinstance(form, dict) else None)
    if types.is_interval(kind):
        return _as_bytes(values.view(pa.binary(kind.bit_width // 8)))
    if form != _TYPED and (types.is_date(kind) or types.is_timestamp(kind) or _has_fractions(kind)):
        return _text(_plain(values))
    if types.is_temporal(kind):
        return _text(values.view(pa.int32() if kind.bit_width == pa.int32().bit_width else pa.int64()))
    if types.is_float16(kind):
        return _as_bytes(pc.cast(values, pa.float32()), form)
    if types.is_null(kind):
        return pa.nulls(len(values), pa.large_binary())
    if types.is_fixed_size_binary(kind):
        return pc.cast(pc.cast(values, pa.binary()), pa.large_binary())
    if types.is_binary_view(kind):
        return pc.cast(values, pa.large_binary())
    if types.is_primitive(kind) or types.is_decimal(kind) or types.is_string_view(kind):
        return _text(values)
    return pc.cast(values, pa.large_binary())


def _text(values: "pa.Array") -> "pa.Array":
    return pc.cast(pc.cast(values, pa.large_string()), pa.large_binary())


def _has_fractions(kind: "pa.DataType") -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _plain(values: "pa.Array") -> "pa.Array":
    """Numbers and times as texts that do not tell their type."""
    if pa.types.is_floating(values.type):
        return _doubles(values)
    return _decimals(values) if pa.types.is_decimal(values.type) else _moments(values)


def _doubles(values: "pa.Array") -> "pa.Array":
    """Whole ones as the whole numbers that they are."""
    values = pc.cast(values, pa.float64())
    whole = pc.and_(pc.equal(pc.trunc(values), values), pc.less(pc.abs(values), _INT64_END))
    numbers = pc.cast(pc.if_else(whole, values, 0.0), pa.int64())
    return pc.if_else(whole, pc.cast(numbers, pa.large_string()), pc.cast(values, pa.large_string()))


def _decimals(values: "pa.Array") -> "pa.Array":
    """Without zeros at the end of a fraction."""
    if values.type.scale < 0:
        digits = values.type.precision - values.type.scale
        values = pc.cast(values, (pa.decimal128 if digits <= _DIGITS_128 else pa.decimal256)(digits, 0))
    text = pc.cast(values, pa.large_string())
    for pattern, by in ((r"^0E.*$", "0"), (r"(\.\d*?)0+(E.*)?$", r"\1\2"), (r"\.(E.*)?$", r"\1"), ("E", "e")):
        text = pc.replace_substring_regex(text, pattern, by)
    return text


def _moments(values: "pa.Array") -> "pa.Array":
    """Seconds since 1970, and the rest of one in the form of a fraction."""
    kind = values.type
    if pa.types.is_date32(kind):
        return pc.cast(pc.multiply(pc.cast(values.view(pa.int32()), pa.int64()), _DAY_S), pa.string())
    per_second = _PER_SECOND[getattr(kind, "unit", "ms")]
    ticks = values.view(pa.int64())
    seconds = pc.cast(pc.divide(ticks, per_second), pa.string())
    rest = pc.subtract(ticks, pc.multiply(pc.divide(ticks, per_second), per_second))
    digits = len(str(per_second)) - 1
    padded = pc.utf8_lpad(pc.cast(pc.abs(rest), pa.string()), max(digits, 1), "0")
    fraction = pc.replace_substring_regex(padded, "0+$", "")
    sign = pc.if_else(pc.less(rest, 0), "-", "+")
    some = pc.binary_join_element_wise(seconds, sign, fraction, "")
    return pc.if_else(pc.equal(rest, 0), seconds, some)


def _struct_as_bytes(values: "pa.StructArray", known: Sequence[tuple[str, Form]]) -> "pa.Array":
    """Fields of a form, null or not, in its order; then the others that have a value, by name."""
    names = values.type.names
    if len(set(names)) < len(names):
        names = [str(at) for at in range(len(names))]
    fields = dict(zip(names, values.flatten(), strict=True))
    parts = list[pa.Array]()
    for name, form in known:
        value = fields.pop(name, None)
        empty = pa.nulls(len(values), pa.large_binary())
        parts.append(pc.fill_null(empty if value is None else _measured(_as_bytes(value, form)), b"-"))
    parts += [pc.fill_null(_named(name, _as_bytes(fields[name])), b"") for name in sorted(fields)]
    return pc.if_else(values.is_valid(), _joined(_bytes("s"), *parts), pa.scalar(None, pa.large_binary()))


def _list_as_bytes(values: "pa.Array", form: Form) -> "pa.Array":
    """Lists of every kind, and maps, which are lists of pairs."""
    if pa.types.is_map(values.type):
        values = pc.cast(values, pa.list_(pa.struct([values.type.key_field, values.type.item_field])))
    elements = pc.fill_null(_measured(_as_bytes(pc.list_flatten(values), form)), b"-")
    lengths = pc.cast(pc.fill_null(pc.list_value_length(values), 0), pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, pc.cast(elements, pa.binary())), b"")
    return pc.if_else(values.is_valid(), pc.cast(joined, pa.large_binary()), pa.scalar(None, pa.large_binary()))
