"""Arrow types as the tables of a lake store them, without loss.

The formats of lakes have few types: no unsigned numbers, no nanoseconds, no durations. The first are wider numbers, the others whole
numbers of their unit; a uuid is a text. What is nested is a list, struct or map, or JSON where something in it has no type there.
A column of nothing but nulls is left out.
"""

from collections.abc import Callable, Mapping

from strandline.connectors.arrow.casts import cast_back, cast_to, digits
from strandline.connectors.arrow.json_text import bytes_of_hex, decode_json, encode_json, text_of
from strandline.connectors.arrow.kinds import UNREADABLE, family_of
from strandline.errors import TaskError
from strandline.lazy import pa, pc

__all__ = ["Types", "decoded", "encoded"]

_DIGITS_MAX = 38
_WIDE_DIGITS = 76


class Types:
    """The types of one format.

    Args:
        name: of the format.
        others: types that are written in another way than all formats share.
    """

    def __init__(self, name: str, others: "Callable[[], Mapping[pa.DataType, pa.DataType]]" = dict) -> None:
        self.name, self._others = name, others
        no_unions = f"{name} has no unions; send a struct with one column for each member"
        self.refused: Mapping[str, str] = {
            "sparse_union": no_unions,
            "dense_union": no_unions,
            "month_day_nano_interval": f"{name} has no intervals; send a duration",
            **UNREADABLE,
        }
        """Families of Arrow types that cannot be stored, with the reason."""

    def written_as(self, kind: "pa.DataType", where: str) -> "pa.DataType | None":
        """The type in Parquet files, one of the format's; ``None``: nothing is written.

        Raises:
            TaskError: the type cannot be stored.
        """
        types = pa.types
        if isinstance(kind, pa.BaseExtensionType):
            return pa.string() if kind.extension_name == "arrow.uuid" else self.written_as(kind.storage_type, where)
        if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
            return self.written_as(kind.value_type, where)
        others = self._others()
        if kind in others:
            return others[kind]
        if types.is_decimal(kind):
            return _decimal(kind) or pa.string()
        if types.is_temporal(kind) and not types.is_interval(kind):
            return _temporal(kind)
        if types.is_nested(kind) and not types.is_union(kind):
            return self._nested(kind, where)
        plain = _plain()
        if kind in plain:
            return plain[kind]
        if types.is_fixed_size_binary(kind):
            return pa.binary()
        family = family_of(kind)
        raise TaskError(f"{where}: {family} cannot be stored in {self.name}", hint=self.refused.get(family, ""))

    def _nested(self, kind: "pa.DataType", where: str) -> "pa.DataType":
        """One of the format's, if Arrow casts to it and back; else JSON."""
        if pa.types.is_map(kind):
            inside = [kind.key_field, kind.item_field]
        else:
            inside = [kind.field(at) for at in range(kind.num_fields)]
        parts = [self.written_as(one.type, f"{where}.{one.name}") for one in inside]
        if all(part is not None for part in parts) and parts and not _has_uuid(kind):
            native = _native(kind, parts)
            try:
                one = cast_to(pa.nulls(1, kind), native, where=where)
                if cast_back(one, kind, where=where).type == kind:
                    return native
            except TaskError:
                pass
        decode_json(encode_json(pa.nulls(1, kind), where=where), kind, where=where)
        return pa.string()


def _plain() -> "dict[pa.DataType, pa.DataType | None]":
    return {
        pa.null(): None,
        pa.bool_(): pa.bool_(),
        pa.int8(): pa.int8(),
        pa.int16(): pa.int16(),
        pa.int32(): pa.int32(),
        pa.int64(): pa.int64(),
        pa.uint8(): pa.int16(),
        pa.uint16(): pa.int32(),
        pa.uint32(): pa.int64(),
        pa.uint64(): pa.decimal128(20, 0),
        pa.float16(): pa.float32(),
        pa.float32(): pa.float32(),
        pa.float64(): pa.float64(),
        **dict.fromkeys((pa.string(), pa.large_string(), pa.string_view()), pa.string()),
        **dict.fromkeys((pa.binary(), pa.large_binary(), pa.binary_view()), pa.binary()),
    }


def _decimal(kind: "pa.DataType") -> "pa.DataType | None":
    precision, scale = kind.precision, kind.scale
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    return pa.decimal128(precision, scale) if precision <= _DIGITS_MAX else None


def _temporal(kind: "pa.DataType") -> "pa.DataType":
    types = pa.types
    if types.is_date(kind):
        return pa.date32()
    if types.is_timestamp(kind) and kind.unit != "ns":
        return pa.timestamp("us", "UTC" if kind.tz is not None else None)
    return pa.int32() if types.is_time32(kind) else pa.int64()


def _native(kind: "pa.DataType", parts: "list[pa.DataType | None]") -> "pa.DataType":
    if pa.types.is_struct(kind):
        names = [kind.field(at).name for at in range(kind.num_fields)]
        return pa.struct(list(zip(names, parts, strict=True)))
    if pa.types.is_map(kind):
        return pa.map_(*parts)
    return pa.list_(parts[0])


def _has_uuid(kind: "pa.DataType") -> bool:
    """Whether something inside has to be made by hand."""
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    by_hand = (pa.types.is_decimal256, pa.types.is_run_end_encoded)
    return any(
        isinstance(one, pa.BaseExtensionType) or any(test(one) for test in by_hand) or _has_uuid(one) for one in inner
    )


def encoded(array: "pa.Array", kind: "pa.DataType", *, where: str) -> "pa.Array":
    """Values as they are written, in the type ``written_as`` says.

    Raises:
        TaskError: a value has no place there.
    """
    own, types = array.type, pa.types
    if own == kind:
        return array
    if isinstance(own, pa.BaseExtensionType):
        if own.extension_name == "arrow.uuid":
            return text_of(array, where=where)
        return encoded(array.storage, kind, where=where)
    if types.is_string(kind) and types.is_nested(own):
        return encode_json(array, where=where)
    if types.is_string(kind) and types.is_decimal(own):
        return digits(array)
    return cast_to(array, kind, where=where)


def decoded(array: "pa.Array", kind: "pa.DataType", *, where: str) -> "pa.Array":
    """The inverse of ``encoded``: values in the Arrow type of their table."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            plain = bytes_of_hex(pc.replace_substring(array, "-", ""))
            return pa.ExtensionArray.from_storage(kind, plain.cast(pa.binary(16)))
        return pa.ExtensionArray.from_storage(kind, decoded(array, kind.storage_type, where=where))
    if types.is_string(array.type) and types.is_nested(kind):
        return decode_json(array, kind, where=where)
    if types.is_decimal(kind) and types.is_string(array.type) and kind.scale < 0:
        array = array.cast(pa.decimal256(_WIDE_DIGITS, 0))
    return cast_back(array, kind, where=where)
