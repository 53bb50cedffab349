"""Columns of every Arrow type, each value a pure function of 64 bits: no state, and no loop over rows."""

from typing import Any

from strandline.lazy import pa, pc

__all__ = ["BASIC", "TYPES", "arrow_type", "column", "mixed", "seeded"]

TYPES: dict[str, tuple[Any, ...]] = {
    **{name: (name,) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
    **{name: (name,) for name in ("float16", "float32", "float64", "date32", "date64", "null")},
    **{name: (name,) for name in ("string", "large_string", "string_view")},
    **{name: (name,) for name in ("binary", "large_binary", "binary_view")},
    **{f"time32_{unit}": ("time32", unit) for unit in ("s", "ms")},
    **{f"time64_{unit}": ("time64", unit) for unit in ("us", "ns")},
    **{f"timestamp_{unit}": ("timestamp", unit) for unit in ("s", "ms", "us", "ns")},
    **{f"duration_{unit}": ("duration", unit) for unit in ("s", "ms", "us", "ns")},
    "timestamp_us_utc": ("timestamp", "us", "UTC"),
    "bool": ("bool_",),
    "decimal32": ("decimal32", 9, 2),
    "decimal64": ("decimal64", 18, 4),
    "decimal128": ("decimal128", 38, 10),
    "decimal256": ("decimal256", 60, 20),
    "interval": ("month_day_nano_interval",),
    "fixed_size_binary": ("binary", 8),
    "dictionary": ("dictionary", ("int8",), ("string",)),
    "list": ("list_", ("int64",)),
    "large_list": ("large_list", ("string",)),
    "fixed_size_list": ("list_", ("int32",), 2),
    "struct": ("struct", {"number": ("int64",), "text": ("string",)}),
    "map": ("map_", ("string",), ("int64",)),
}
"""Every Arrow type but unions, list views, run-end encodings and extensions: the name of its column, and how it is made.

No Arrow yet, since a spec is checked without it; ``arrow_type`` makes the type.
"""

BASIC = ("bool", "int64", "float64", "string", "date32", "timestamp_us_utc")

_WORDS = (
    "",
    " ",
    "NULL",
    "é",
    "日本語",
    "🌊",
    "it's",
    '"',
    "\\",
    "a\nb",
    "%s;--",
    "tab\t",
    "<b>",
    "=1+1",
    "A" * 64,
    "0",
)
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def arrow_type(shape: tuple[Any, ...]) -> "pa.DataType":
    """The type of an entry of ``TYPES``."""
    name, *arguments = shape
    for place, argument in enumerate(arguments):
        if isinstance(argument, tuple):
            arguments[place] = arrow_type(argument)
        elif isinstance(argument, dict):
            arguments[place] = {field: arrow_type(inner) for field, inner in argument.items()}
    return getattr(pa, name)(*arguments)


def _u64(value: int) -> "pa.Scalar":
    return pa.scalar(value % (1 << 64), pa.uint64())


def mixed(bits: "pa.Array") -> "pa.Array":
    """Bits (uint64) in which each bit depends on all that were given: the finaliser of splitmix64 (Steele et al. 2014)."""
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        bits = pc.multiply(pc.bit_wise_xor(bits, pc.shift_right(bits, _u64(shift))), _u64(multiplier))
    return pc.bit_wise_xor(bits, pc.shift_right(bits, _u64(31)))


def seeded(bits: "pa.Array", number: int) -> "pa.Array":
    """Other bits for each ``number``, cheaply: ``bits`` have to be mixed already."""
    bits = pc.multiply(bits, _u64(2 * number + 1 + _MULTIPLIERS[1]))
    return pc.bit_wise_xor(bits, pc.shift_right(bits, _u64(32)))


def column(kind: "pa.DataType", bits: "pa.Array") -> "pa.Array":
    """One value a row, one in 16 of them null."""
    if pa.types.is_null(kind):
        return pa.nulls(len(bits))
    absent = pc.equal(pc.bit_wise_and(pc.shift_right(bits, _u64(8)), _u64(15)), _u64(0))
    if pa.types.is_dictionary(kind):
        numbers = pc.if_else(absent, None, pc.shift_right(bits, _u64(60)).cast(pa.int8()))
        return pa.DictionaryArray.from_arrays(numbers, pa.array(_WORDS))
    # Arrow cannot yet choose between views, so these are made from plain strings at the end.
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)
    values = pc.if_else(absent, pa.scalar(None, plain), _values(plain, bits))
    return values if values.type == kind else values.cast(kind)


def _values(kind: "pa.DataType", bits: "pa.Array") -> "pa.Array":
    is_ = pa.types
    if is_.is_nested(kind):
        return _nested(kind, bits)
    if is_.is_boolean(kind):
        return pc.greater(bits, _u64(1 << 63))
    if is_.is_floating(kind):
        # As many bits as the mantissa has, so that every value is exact: between -512 and 512.
        digits = {16: 11, 32: 24, 64: 53}[kind.bit_width]
        number = _signed(bits, digits).cast(pa.float64() if is_.is_float64(kind) else pa.float32())
        return pc.multiply(number, pa.scalar(2.0 ** (10 - digits), number.type)).cast(kind)
    if is_.is_unsigned_integer(kind):
        return pc.shift_right(bits, _u64(64 - kind.bit_width)).cast(kind)
    if is_.is_signed_integer(kind):
        return _signed(bits, kind.bit_width).cast(kind)
    if is_.is_decimal(kind):
        return _decimal(kind, bits)
    if is_.is_interval(kind):
        some = [pa.MonthDayNano([n % 13 - 6, n * 7 % 31, n * 1_000_007_000]) for n in range(64)]
        return pa.array(some, kind).take(pc.shift_right(bits, _u64(58)))
    if is_.is_temporal(kind):
        return _temporal(kind, bits)
    return _bytes(kind, bits)


def _signed(bits: "pa.Array", digits: int) -> "pa.Array":
    """Numbers (int64) of so many binary digits, the sign included."""
    return pc.shift_right(bits.view(pa.int64()), pa.scalar(64 - digits))


def _decimal(kind: "pa.DataType", bits: "pa.Array") -> "pa.Array":
    if pa.types.is_decimal32(kind):
        return _signed(bits, 29).cast(pa.int32()).view(kind)
    if pa.types.is_decimal64(kind):
        return _signed(bits, 59).view(kind)
    whole = pa.decimal128 if pa.types.is_decimal128(kind) else pa.decimal256
    return _signed(bits, 64).cast(whole(kind.precision, 0)).view(kind)


def _temporal(kind: "pa.DataType", bits: "pa.Array") -> "pa.Array":
    day_s = 86_400
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.get(getattr(kind, "unit", "s"), 1)
    if pa.types.is_date32(kind):
        return _signed(bits, 16).cast(pa.int32()).view(kind)
    if pa.types.is_date64(kind):
        return pc.multiply(_signed(bits, 16), pa.scalar(day_s * 1000)).view(kind)
    if pa.types.is_time(kind):
        digits = (day_s * factor).bit_length() - 1
        number = pc.shift_right(bits, _u64(64 - digits))
        return number.cast(pa.int32() if pa.types.is_time32(kind) else pa.int64()).view(kind)
    # 33 binary digits of seconds: from 1833 to 2106, and further digits for the fraction.
    return _signed(bits, 32 + (factor.bit_length() - 1 if factor > 1 else 0)).view(kind)


def _bytes(kind: "pa.DataType", bits: "pa.Array") -> "pa.Array":
    if pa.types.is_fixed_size_binary(kind):
        return bits.view(kind)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    # Eight letters between a and p, half a byte each; the buffer of numbers is the buffer of text.
    data = pc.add(pc.bit_wise_and(bits, _u64(0x0F0F0F0F0F0F0F0F)), _u64(0x6161616161616161)) if text else bits
    offsets = pa.arange(0, 8 * len(bits) + 1, 8).cast(pa.int64() if large else pa.int32())
    values = pa.Array.from_buffers(kind, len(bits), [None, offsets.buffers()[1], data.buffers()[1]])
    odd = pc.equal(pc.bit_wise_and(pc.shift_right(bits, _u64(16)), _u64(31)), _u64(0))
    words = pa.array([word.encode() for word in _WORDS], pa.binary()).cast(kind)
    return pc.if_else(odd, words.take(pc.shift_right(bits, _u64(60))), values)


def _nested(kind: "pa.DataType", bits: "pa.Array") -> "pa.Array":
    if pa.types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        children = [column(field.type, seeded(bits, number)) for number, field in enumerate(fields, 1)]
        return pa.StructArray.from_arrays(children, fields=fields)
    if pa.types.is_fixed_size_list(kind):
        lengths = pc.multiply(pc.bit_wise_and(bits, _u64(0)), _u64(0)).cast(pa.int64())
        lengths = pc.add(lengths, pa.scalar(kind.list_size))
    else:
        lengths = pc.shift_right(bits, _u64(62)).cast(pa.int64())  # none to three
    ends = pc.cumulative_sum(lengths)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    numbers = pa.arange(0, offsets[-1].as_py())
    parents = pc.list_parent_indices(pa.LargeListArray.from_arrays(offsets, numbers))
    places = pc.subtract(numbers, offsets.take(parents)).cast(pa.uint64())
    inner = mixed(pc.add(bits.take(parents), places))
    if pa.types.is_map(kind):
        keys = pa.array(["a", "b", "c"]).take(places)
        return pa.MapArray.from_arrays(offsets.cast(pa.int32()), keys, column(kind.item_type, inner))
    items = column(kind.value_type, inner)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(items, kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.LargeListArray.from_arrays(offsets, items)
    return pa.ListArray.from_arrays(offsets.cast(pa.int32()), items)
