"""The types of columns: by name, of several files together, and of values that stand in files as text."""

import math
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from strandline.decimals import decimals
from strandline.errors import UsageError
from strandline.lazy import pa, pc
from strandline.settings import parse_type

__all__ = [
    "UNSURE_DECIMAL",
    "comes_back",
    "decimal_mark",
    "declared_types",
    "extended",
    "finished",
    "fixed",
    "iso_type",
    "moments",
    "numbers",
    "plain",
    "texts_where",
    "widened",
]

_EXACT_BITS = {"halffloat": 11, "float": 24, "double": 53}
"""Up to how many bits an integer is exact in a floating-point type, by the name of the type."""
_DIGITS_128_MAX, _DIGITS_MAX = 38, 76
"""Of decimal128 and decimal256."""
UNSURE_DECIMAL = "some fractions have a comma, and others a point; `csv.decimal` says what it is"
_DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_CLOCK = r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6}0*)?)?"
_MOMENT = f"{_DAY[:-1]}({_CLOCK})?$"
_ZONED = f"{_DAY[:-1]}{_CLOCK}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})$"
_SAFE_DIGITS = 15
"""A number of so many digits comes back from a double."""


def declared_types(names: Mapping[str, str]) -> "dict[str, pa.DataType]":
    """The Arrow types that a spec names for its columns.

    Raises:
        UsageError: one of them is no type.
    """
    types = {}
    for column, name in names.items():
        try:
            types[column] = parse_type(name)
        except ValueError as error:
            raise UsageError(
                f"`types`: {name!r}, for column {column!r}, is not a type that can be read from text",
                hint="such are string, int64, double, bool, date32, timestamp[us], timestamp[us, UTC], decimal(18, 4)",
            ) from error
    return types


def plain(type_: "pa.DataType") -> "pa.DataType":
    """The type without a dictionary at its top, and with nulls at every depth.

    Files of one table need not agree on encodings, nor on what is required.
    """
    if pa.types.is_dictionary(type_):
        return plain(type_.value_type)
    if pa.types.is_struct(type_):
        return pa.struct([_nullable(field) for field in type_])
    if pa.types.is_map(type_):
        return pa.map_(plain(type_.key_type), _nullable(type_.item_field), keys_sorted=type_.keys_sorted)
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(_nullable(type_.value_field), type_.list_size)
    if pa.types.is_large_list(type_):
        return pa.large_list(_nullable(type_.value_field))
    return pa.list_(_nullable(type_.value_field)) if pa.types.is_list(type_) else type_


def _nullable(field: "pa.Field") -> "pa.Field":
    return pa.field(field.name, plain(field.type))


def texts_where(type_: "pa.DataType", becomes_text: "Callable[[pa.DataType], bool]") -> "pa.DataType":
    """The type with text in the place of some types, also inside of lists, structs and maps."""

    def changed(inner: "pa.DataType") -> "pa.DataType":
        return texts_where(inner, becomes_text)

    if pa.types.is_list(type_):
        return pa.list_(changed(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(changed(field.type)) for field in type_])
    if pa.types.is_map(type_):
        return pa.map_(changed(type_.key_type), changed(type_.item_type), keys_sorted=type_.keys_sorted)
    return pa.string() if becomes_text(type_) else type_


def finished(type_: "pa.DataType") -> "pa.DataType":
    """The type with text wherever only nulls were seen."""
    return texts_where(type_, pa.types.is_null)


def widened(one: "pa.DataType", other: "pa.DataType", *, text: bool) -> "pa.DataType | None":
    """The smallest type that holds every value of both, or ``None``.

    Args:
        one: of a column in some files.
        other: of the same column in others.
        text: the values stand as text, and each is checked as it is read, so that a whole number may meet a fraction,
            and a day a moment.
    """
    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _struct(one, other, text=text)
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = widened(one.value_type, other.value_type, text=text)
        return inner and pa.list_(inner)
    return _wider(one, other, text=text) or _wider(other, one, text=text)


def _struct(one: "pa.StructType", other: "pa.StructType", *, text: bool) -> "pa.DataType | None":
    fields = {field.name: field.type for field in one}
    for field in other:
        type_ = widened(fields.get(field.name, pa.null()), field.type, text=text)
        if type_ is None:
            return None
        fields[field.name] = type_
    return pa.struct(list(fields.items()))


def _wider(low: "pa.DataType", high: "pa.DataType", *, text: bool) -> "pa.DataType | None":
    """``high``, or a type like it, if that holds every value of ``low``."""
    is_ = pa.types
    if is_.is_integer(low) and is_.is_integer(high):
        if is_.is_signed_integer(low) == is_.is_signed_integer(high):
            return high if low.bit_width <= high.bit_width else None
        bits = max(2 * low.bit_width, high.bit_width)
        return None if is_.is_signed_integer(low) else {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits)
    if is_.is_integer(low) and is_.is_floating(high):
        return high if text or low.bit_width <= _EXACT_BITS[str(high)] else None
    if is_.is_floating(low) and is_.is_floating(high):
        return high if low.bit_width <= high.bit_width else None
    if is_.is_timestamp(low) and is_.is_timestamp(high) and low.tz == high.tz:
        units = ("s", "ms", "us", "ns")
        return high if units.index(low.unit) <= units.index(high.unit) else None
    if text and is_.is_date32(low) and is_.is_timestamp(high) and high.tz is None:
        return high
    if is_.is_decimal(low) and is_.is_decimal(high):
        scale = max(low.scale, high.scale)
        digits = max(low.precision - low.scale, high.precision - high.scale) + scale
        if digits > _DIGITS_MAX:
            return None
        return (pa.decimal128 if digits <= _DIGITS_128_MAX else pa.decimal256)(digits, scale)
    large = (is_.is_string(low) and is_.is_large_string(high)) or (is_.is_binary(low) and is_.is_large_binary(high))
    return high if large else None


def extended(schema: "pa.Schema", found: "pa.Schema") -> "pa.Schema":
    """``schema`` with the columns, and the fields of structs, that only ``found`` has. Types stay as they are."""
    fields = {field.name: field.type for field in schema}
    for field in found:
        fields[field.name] = _with_fields(fields[field.name], field.type) if field.name in fields else field.type
    return pa.schema(list(fields.items()))


def _with_fields(type_: "pa.DataType", found: "pa.DataType") -> "pa.DataType":
    if pa.types.is_struct(type_) and pa.types.is_struct(found):
        fields = {field.name: field.type for field in type_}
        for field in found:
            fields[field.name] = _with_fields(fields[field.name], field.type) if field.name in fields else field.type
        return pa.struct(list(fields.items()))
    if pa.types.is_list(type_) and pa.types.is_list(found):
        return pa.list_(_with_fields(type_.value_type, found.value_type))
    return type_


def numbers(text: "pa.Array", type_: "pa.DataType", *, decimal: str = ".", trim: bool = True) -> "pa.Array":
    """The text of a CSV column as int64 or double, if that is all there is to it.

    Args:
        text: what stands in the file.
        type_: int64 or double.
        decimal: what stands before a fraction; ``,.`` is either of them, but not both.
        trim: blanks around a number mean nothing.

    Raises:
        ValueError: a value is no number, or would not be the same as a number: 007, +49, -0, 0x1F, 1e999, or one in a
            column of fractions whose digits do not come back from a double.
    """
    if pa.types.is_floating(type_) and decimal != ".":
        text = _with_points(text, decimal)
    try:
        values = pc.cast(text, type_)
    except pa.ArrowInvalid:
        if not trim:
            raise
        text = pc.utf8_trim_whitespace(text)
        values = pc.cast(text, type_)
    zeros = pc.or_(pc.starts_with(text, "0"), pc.starts_with(text, "-0"))
    floating = pa.types.is_floating(type_)
    # Looking for a pattern takes as long as all the rest.
    odd = pc.match_substring_regex(text, "^-?0[^.]" if floating else "^-0|^0.") if pc.any(zeros).as_py() else zeros
    if floating:
        odd = pc.or_(odd, pc.starts_with(text, "+"))
    if pc.any(odd).as_py():
        raise ValueError(f"{pc.filter(text, odd)[0].as_py()!r} would not stay the same as {type_}")
    if floating:
        doubtful = pc.or_(pc.greater(pc.utf8_length(text), _SAFE_DIGITS), pc.is_inf(values))
        for value in pc.filter(text, doubtful).to_pylist():
            if not comes_back(value):
                raise ValueError(f"{value!r} would not stay the same as double")
    return values


def fixed(text: "pa.Array", type_: "pa.DataType", *, decimal: str = ".") -> "pa.Array":
    """The text of a column as decimals, exactly; ``decimal`` is what stands before a fraction.

    Raises:
        ValueError: a value is no number, or has more digits than the type.
    """
    text = pc.utf8_trim_whitespace(text)
    return decimals(text if decimal == "." else _with_points(text, decimal), type_)


def iso_type(texts: "pa.Array") -> "pa.DataType | None":
    """The type of texts that are all days, or all moments, without a zone or all with one; ``None``: they are other texts.

    A day among moments without a zone is its midnight. What is finer than microseconds stays text.
    """
    if not texts.null_count < len(texts):
        return None
    for form, type_ in ((_DAY, pa.date32()), (_MOMENT, pa.timestamp("us")), (_ZONED, pa.timestamp("us", "UTC"))):
        if pc.all(pc.match_substring_regex(texts, form)).as_py():
            try:
                moments(texts, type_)
            except pa.ArrowInvalid:  # the 31st of February
                return None
            return type_
    return None


def moments(texts: "pa.Array", type_: "pa.DataType") -> "pa.Array":
    """Texts as days or moments; Arrow reads no digits beyond the type's, be they zeros.

    Raises:
        pa.ArrowInvalid: one is none.
    """
    try:
        return pc.cast(texts, type_)
    except pa.ArrowInvalid:
        return pc.cast(pc.replace_substring_regex(texts, r"(\.[0-9]{6})0+", r"\1"), type_)


def _with_points(text: "pa.Array", decimal: str) -> "pa.Array":
    found = decimal_mark(text)
    if found == "." and decimal == ",":
        raise ValueError(UNSURE_DECIMAL)
    return pc.replace_substring(text, ",", ".") if found == "," else text


def decimal_mark(text: "pa.Array") -> str:
    """What stands before the fractions of a column; nothing where there are none.

    Raises:
        ValueError: a comma and a point.
    """
    comma, point = (bool(pc.any(pc.match_substring(text, mark)).as_py()) for mark in ",.")
    if comma and point:
        raise ValueError(UNSURE_DECIMAL)
    return "," if comma else "." if point else ""


def comes_back(number: str) -> bool:
    """Whether a double of this number is written as the same number again."""
    value = float(number)
    if math.isinf(value) or math.isnan(value):
        return "n" in number.lower()
    try:
        return Decimal(number.strip()) == Decimal(repr(value))
    except InvalidOperation:  # an exponent beyond all bounds
        return False
