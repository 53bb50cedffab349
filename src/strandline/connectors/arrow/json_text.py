"""Arrow arrays as JSON texts and back, without loss. For databases that have no types for nested values.

Lists are JSON arrays, structs and maps are objects; numbers are numbers, also those that a float could not hold; what JSON
has no word for (times, bytes, NaN) is a string. A member is written for every field of a struct, so that a struct of
nulls is not a null. Encoding is columnar; decoding goes through Python, since keys of maps are data.
"""

import json
from collections.abc import Sequence
from typing import Any

from strandline.connectors.arrow.casts import MEND_VALUE, cast_back
from strandline.errors import TaskError
from strandline.lazy import pa, pc

__all__ = ["bytes_of_hex", "decode_json", "encode_json", "hex_of", "interval_parts", "read_text", "text_of"]

_CONTROLS = range(0x20)
_UUID_CUTS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
_MICROS_NS = 1000


def encode_json(array: "pa.Array", *, where: str) -> "pa.Array":
    """One JSON text for each value; null for a null.

    Raises:
        TaskError: a type, or a value, has no JSON that could be read back.
    """
    kind, types = array.type, pa.types
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name != "arrow.uuid":
        return encode_json(array.storage, where=where)
    if types.is_dictionary(kind):
        return encode_json(array.dictionary_decode(), where=where)
    if types.is_run_end_encoded(kind):
        return encode_json(pc.run_end_decode(array), where=where)
    if types.is_struct(kind):
        return _struct(array, where)
    if types.is_map(kind):
        return _map(array, where)
    if types.is_nested(kind) and not types.is_union(kind):
        offsets, (values,) = _elements(array)
        return _enclosed("[", _joined(encode_json(values, where=where), offsets), "]", array)
    return _leaf(array, where)


def _leaf(array: "pa.Array", where: str) -> "pa.Array":
    kind, types = array.type, pa.types
    text = text_of(array, where=where)
    if types.is_floating(kind):
        return pc.if_else(pc.is_finite(array), text, _around('"', text, '"'))
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_decimal(kind) or types.is_duration(kind):
        return text
    return _around('"', _escaped(text), '"')


def _escaped(text: "pa.Array") -> "pa.Array":
    text = pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), '"', '\\"')
    if pc.any(pc.match_substring_regex(text, r"[\x00-\x1f]")).as_py():
        for code in _CONTROLS:
            text = pc.replace_substring(text, chr(code), f"\\u{code:04x}")
    return text


def _struct(array: "pa.Array", where: str) -> "pa.Array":
    kind = array.type
    names = [kind.field(at).name for at in range(kind.num_fields)]
    if len(set(names)) < len(names):
        raise TaskError(f"{where}: a struct with two fields of one name cannot be stored")
    parts: list[Any] = []
    for name, child in zip(names, array.flatten(), strict=True):
        before = "," if parts else ""
        parts += [f"{before}{json.dumps(name, ensure_ascii=False)}:", _or_null(encode_json(child, where=where))]
    if not parts:
        return pc.if_else(array.is_valid(), "{}", pa.scalar(None, pa.string()))
    return _enclosed("{", pc.binary_join_element_wise(*parts, ""), "}", array)


def _map(array: "pa.Array", where: str) -> "pa.Array":
    if pa.types.is_nested(array.type.key_type):
        raise TaskError(f"{where}: a map whose keys are {array.type.key_type} cannot be stored")
    offsets, (keys, items) = _elements(array)
    named = _around('"', _escaped(text_of(keys, where=where)), '":')
    members = pc.binary_join_element_wise(named, _or_null(encode_json(items, where=where)), "")
    return _enclosed("{", _joined(members, offsets), "}", array)


def _elements(array: "pa.Array") -> "tuple[pa.Array, list[pa.Array]]":
    """Where the elements of each value begin and end, and the elements. Those of nulls may be anything.

    Arrow's ``flatten`` would leave these out, but has no way to do so with extension types.
    """
    kind, types = array.type, pa.types
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64()))
        return pa.concat_arrays([pa.array([0], pa.int64()), ends]), [array.flatten()]
    if types.is_fixed_size_list(kind):
        size, count = kind.list_size, len(array)
        return pa.arange(0, (count + 1) * size, size), [array.values.slice(array.offset * size, count * size)]
    offsets = array.offsets.cast(pa.int64())
    first, last = offsets[0].as_py(), offsets[-1].as_py()
    children = [array.keys, array.items] if types.is_map(kind) else [array.values]
    return pc.subtract(offsets, first), [child.slice(first, last - first) for child in children]


def _joined(texts: "pa.Array", offsets: "pa.Array") -> "pa.Array":
    """The texts of each list with commas between them."""
    return pc.binary_join(pa.LargeListArray.from_arrays(offsets, _or_null(texts)), ",")


def _or_null(texts: "pa.Array") -> "pa.Array":
    return pc.fill_null(texts, "null")


def _around(before: str, texts: "pa.Array", after: str) -> "pa.Array":
    return pc.binary_join_element_wise(before, texts, after, "")


def _enclosed(before: str, texts: "pa.Array", after: str, like: "pa.Array") -> "pa.Array":
    return pc.if_else(like.is_valid(), _around(before, texts, after), pa.scalar(None, pa.string()))


# values that are not nested ------------------------------------------------------------------------------------------


def text_of(array: "pa.Array", *, where: str) -> "pa.Array":
    """Values that are not nested, as text that PostgreSQL and ``decode_json`` read.

    Raises:
        TaskError: a type, or a value, has no such text.
    """
    kind, types = array.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name != "arrow.uuid":
            return text_of(array.storage, where=where)
        plain = hex_of(array.storage)
        return pc.binary_join_element_wise(*(pc.utf8_slice_codeunits(plain, *cut) for cut in _UUID_CUTS), "-")
    if types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    if _is_bytes(kind):
        return _around("\\x", hex_of(array), "")
    try:
        return _plain_text(array, where)
    except pa.ArrowException as error:
        raise TaskError(f"{where}: {kind} cannot be stored here ({error})") from error


def _plain_text(array: "pa.Array", where: str) -> "pa.Array":
    kind, types = array.type, pa.types
    if types.is_interval(kind):
        return _interval_text(array)
    if types.is_duration(kind):
        return array.cast(pa.int64()).cast(pa.string())
    if types.is_float16(kind):
        array = array.cast(pa.float32())
    if types.is_floating(kind):
        text = array.cast(pa.string())
        for arrow, ours in (("nan", "NaN"), ("inf", "Infinity")):
            text = pc.replace_substring(text, arrow, ours)
        return text
    if types.is_date64(kind):
        array = array.cast(pa.date32())
    if not types.is_temporal(kind):
        return array.cast(pa.string())
    if types.is_timestamp(kind):
        text = pc.replace_substring(array.cast(pa.timestamp(kind.unit)).cast(pa.string()), " ", "T")
        text = _around("", text, "Z" if kind.tz is not None else "")
    else:
        text = array.cast(pa.string())
    if not _can_be_read(text, array, kind):
        raise TaskError(f"{where}: a time lies outside of the years 1 to 9999", hint=MEND_VALUE)
    return text


def _can_be_read(text: "pa.Array", array: "pa.Array", kind: "pa.DataType") -> bool:
    try:
        return bool(_temporal(text, kind).equals(array.cast(kind)))
    except pa.ArrowInvalid:
        return False


def _interval_text(array: "pa.Array") -> "pa.Array":
    """Months, days and nanoseconds."""
    columns = interval_parts(array).flatten()
    return pc.binary_join_element_wise(*(one.cast(pa.string()) for one in columns), " ")


def interval_parts(array: "pa.Array") -> "pa.Array":
    """Intervals as structs of months, days and nanoseconds."""
    first, last = 16 * array.offset, 16 * (array.offset + len(array))
    raw = memoryview(array.buffers()[1])[first:last]
    pairs, longs = raw.cast("i"), raw.cast("q")
    months, days, nanos = pairs[0::4].tolist(), pairs[1::4].tolist(), longs[1::2].tolist()
    columns = [pa.array(months, pa.int32()), pa.array(days, pa.int32()), pa.array(nanos, pa.int64())]
    return pa.StructArray.from_arrays(columns, ["months", "days", "nanoseconds"], mask=array.is_null())


def hex_of(array: "pa.Array") -> "pa.Array":
    """The bytes of each value in hexadecimal. All at once, as one buffer."""
    whole = pc.fill_null(array.cast(pa.large_binary()), b"")
    ends = pa.Array.from_buffers(pa.int64(), len(whole) + 1, [None, whole.buffers()[1]], offset=whole.offset)
    raw = memoryview(whole.buffers()[2] or b"")[ends[0].as_py() : ends[-1].as_py()]
    sizes = pc.multiply(pc.binary_length(whole), 2)
    return _sliced(raw.hex().encode(), sizes, array.is_valid(), pa.large_string()).cast(pa.string())


def bytes_of_hex(texts: "pa.Array") -> "pa.Array":
    """What ``hex_of`` was given, as binary."""
    sizes = pc.divide(pc.fill_null(pc.binary_length(texts), 0).cast(pa.int64()), 2)
    raw = bytes.fromhex("".join(texts.drop_null().to_pylist()))
    return _sliced(raw, sizes, texts.is_valid(), pa.large_binary()).cast(pa.binary())


def _sliced(raw: bytes, sizes: "pa.Array", valid: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(sizes.cast(pa.int64()))])
    values = pa.Array.from_buffers(kind, len(sizes), [None, offsets.buffers()[1], pa.py_buffer(raw)])
    return pc.if_else(valid, values, pa.scalar(None, kind))


# back ----------------------------------------------------------------------------------------------------------------


def decode_json(texts: "pa.Array", kind: "pa.DataType", *, where: str) -> "pa.Array":
    """What ``encode_json`` was given.

    Raises:
        TaskError: a text is not what it would have written for this type.
    """
    try:
        # numbers stay texts, so that no digit is lost; objects stay pairs, so that no key is
        read = json.JSONDecoder(parse_int=str, parse_float=str, object_pairs_hook=list).decode
        return _built([None if text is None else read(text) for text in texts.to_pylist()], kind)
    except (ValueError, TypeError, AttributeError) as error:
        raise TaskError(f"{where}: a stored value cannot be read as {kind} ({error})") from error


def read_text(texts: "pa.Array", kind: "pa.DataType", *, where: str) -> "pa.Array":
    """What ``text_of`` was given; and numbers as Arrow writes them.

    Raises:
        TaskError: a text is not of this type.
    """
    try:
        if isinstance(kind, pa.BaseExtensionType):
            return pa.ExtensionArray.from_storage(kind, _read(texts, kind.storage_type))
        return _read(texts, kind)
    except (ValueError, TypeError, IndexError) as error:
        raise TaskError(f"{where}: a stored value cannot be read as {kind} ({error})") from error


def _built(values: Sequence[Any], kind: "pa.DataType") -> "pa.Array":
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _built(values, kind.storage_type))
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return cast_back(_built(values, kind.value_type), kind, where=str(kind))
    if types.is_struct(kind):
        rows = [dict(value or ()) for value in values]
        fields = [kind.field(at) for at in range(kind.num_fields)]
        children = [_built([row.get(field.name) for row in rows], field.type) for field in fields]
        return pa.StructArray.from_arrays(children, fields=fields, mask=_mask(values))
    if types.is_map(kind):
        keys = [pair[0] for value in values for pair in value or ()]
        items = [pair[1] for value in values for pair in value or ()]
        offsets = pa.array(_offsets(values), pa.int32())
        return pa.MapArray.from_arrays(offsets, _built(keys, kind.key_type), _built(items, kind.item_type), kind)
    if types.is_fixed_size_list(kind):
        padded = [item for value in values for item in (value or [None] * kind.list_size)]
        return pa.FixedSizeListArray.from_arrays(_built(padded, kind.value_type), type=kind, mask=_mask(values))
    if types.is_nested(kind):
        return _listed(values, kind)
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return _read(pa.array(texts, pa.large_string()), kind)


def _listed(values: Sequence[Any], kind: "pa.DataType") -> "pa.Array":
    types = pa.types
    large = types.is_large_list(kind) or types.is_large_list_view(kind)
    offsets = pa.array(_offsets(values), pa.int64() if large else pa.int32())
    inner = _built([item for value in values for item in value or ()], kind.value_type)
    listed = (pa.LargeListArray if large else pa.ListArray).from_arrays(offsets, inner)
    return cast_back(listed, kind, where=str(kind))


def _offsets(values: Sequence[Any]) -> list[int | None]:
    """Where each value begins; null for a null."""
    offsets: list[int | None] = []
    at = 0
    for value in values:
        offsets.append(None if value is None else at)
        at += len(value or ())
    return [*offsets, at]


def _mask(values: Sequence[Any]) -> "pa.Array":
    return pa.array([value is None for value in values], pa.bool_())


def _read(texts: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    """Values that are not nested, from their text."""
    types = pa.types
    if types.is_null(kind):
        return pa.nulls(len(texts))
    if _is_bytes(kind):
        if not pa.types.is_fixed_size_binary(kind):
            return bytes_of_hex(pc.utf8_slice_codeunits(texts, 2)).cast(kind)
        plain = pc.replace_substring_regex(texts, r"^\\x|-", "")
        return bytes_of_hex(plain).cast(kind)
    if types.is_interval(kind):
        rows = [None if text is None else tuple(map(int, text.split(" "))) for text in texts.to_pylist()]
        return pa.array(rows, kind)
    if types.is_duration(kind):
        return texts.cast(pa.int64()).view(kind)
    if types.is_temporal(kind):
        return _temporal(texts, kind)
    if types.is_float16(kind):
        return texts.cast(pa.float32()).cast(kind)
    return texts.cast(kind)


def _temporal(texts: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    if not pa.types.is_time(kind):
        return texts.cast(kind)
    day = pc.binary_join_element_wise("1970-01-01", texts.cast(pa.string()), "T")
    ticks = day.cast(pa.timestamp(kind.unit)).cast(pa.int64())
    return (ticks.cast(pa.int32()) if kind.bit_width == pa.int32().bit_width else ticks).view(kind)


def _is_bytes(kind: "pa.DataType") -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )
