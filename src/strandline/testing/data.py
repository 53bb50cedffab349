"""Arrow test data: every type. Seeded: the same seed gives the same values.

Types are given as functions, so that a suite can be collected without Arrow.
"""

import random
import struct
from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from typing import Any, TypeAlias

from strandline.lazy import pa, pc
from strandline.table import SOURCE_NAME, SYNC_TIME, Table, sync_time_type

__all__ = ["TYPES", "all_types_table", "families", "made", "random_array", "random_columns"]

TypeFunction: TypeAlias = "Callable[[], pa.DataType]"


def made(factory: str, *arguments: str) -> TypeFunction:
    """``pyarrow.<factory>(*arguments)``, made when it is asked for."""
    return lambda: getattr(pa, factory)(*arguments)


_WIDE = Context(prec=80)
"""Enough digits for every decimal."""

_PLAIN: Mapping[str, TypeFunction] = {
    **{f"int{bits}": made(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": made(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "float32": made("float32"),
    "float64": made("float64"),
    "binary": made("binary"),
    "string": made("string"),
    "boolean": made("bool_"),
    "uuid": made("uuid"),
    "inet": made("string"),
    "mac": lambda: pa.binary(6),
    "date32": made("date32"),
    "date64": made("date64"),
    **{f"duration_{unit}": made("duration", unit) for unit in ("s", "ms", "us", "ns")},
    "interval_month_day_nano": made("month_day_nano_interval"),
    "large_binary": made("large_binary"),
    "large_string": made("large_string"),
    **{f"time32_{unit}": made("time32", unit) for unit in ("s", "ms")},
    **{f"time64_{unit}": made("time64", unit) for unit in ("us", "ns")},
    **{f"timestamp_{unit}": made("timestamp", unit, "UTC") for unit in ("s", "ms", "us", "ns")},
    "decimal128": lambda: pa.decimal128(19, 10),
}
"""The columns of CloudQuery's test table that are not built from others, without the two intervals that pyarrow lacks.

CloudQuery's ``inet`` and ``mac`` are extensions of its own over these types.
"""

TYPES: Mapping[str, TypeFunction] = {
    **_PLAIN,
    "null": made("null"),
    "float16": made("float16"),
    "json": made("json_"),
    "bool8": made("bool8"),
    "opaque": lambda: pa.opaque(pa.binary(), "point", "example"),
    "string_view": made("string_view"),
    "binary_view": made("binary_view"),
    **{f"naive_timestamp_{unit}": made("timestamp", unit) for unit in ("s", "ms", "us", "ns")},
    "timestamp_us_zone": lambda: pa.timestamp("us", "Europe/Berlin"),
    "timestamp_ns_offset": lambda: pa.timestamp("ns", "+05:30"),
    "decimal32": lambda: pa.decimal32(9, 4),
    "decimal64": lambda: pa.decimal64(18, 0),
    "decimal128_widest": lambda: pa.decimal128(38, 38),
    "decimal128_negative_scale": lambda: pa.decimal128(5, -3),
    "decimal256": lambda: pa.decimal256(76, 38),
    "dictionary": lambda: pa.dictionary(pa.int16(), pa.string()),
    "run_end_encoded": lambda: pa.run_end_encoded(pa.int32(), pa.string()),
    "list": lambda: pa.list_(pa.timestamp("ns")),
    "large_list": lambda: pa.large_list(pa.string()),
    "list_view": lambda: pa.list_view(pa.int32()),
    "large_list_view": lambda: pa.large_list_view(pa.int32()),
    "fixed_size_list": lambda: pa.list_(pa.float64(), 3),
    "map": lambda: pa.map_(pa.string(), pa.decimal128(10, 2)),
    "struct": lambda: pa.struct([("a", pa.int8()), ("B b", pa.string()), ("nested", pa.struct([("c", pa.date32())]))]),
    "list_of_structs": lambda: pa.list_(pa.struct([("a", pa.list_(pa.int32())), ("b", pa.uuid())])),
    "map_of_lists": lambda: pa.map_(pa.int64(), pa.list_(pa.map_(pa.string(), pa.bool_()))),
    "deep": lambda: _deep(12),
    "dense_union": lambda: pa.dense_union([pa.field("a", pa.int32()), pa.field("b", pa.string())]),
    "sparse_union": lambda: pa.sparse_union([pa.field("a", pa.int32()), pa.field("b", pa.string())]),
}
"""Every type that pyarrow can build, each alone."""


def _deep(levels: int) -> "pa.DataType":
    kind = pa.int32()
    for level in range(levels):
        kind = pa.list_(kind) if level % 2 else pa.struct([("in", kind)])
    return kind


def all_types_table(
    name: str, *, primary_key: tuple[str, ...] = ("id",), refused: Mapping[str, str] | None = None
) -> Table:
    """CloudQuery's test table: every type, a struct of them, a list of each and two maps of each.

    Args:
        name: the table's.
        primary_key: the table's.
        refused: type families to leave out; see ``Capabilities.types_refused``.
    """
    plain = {label: kind() for label, kind in _PLAIN.items()}
    plain = {label: kind for label, kind in plain.items() if not families(kind) & set(refused or ())}
    columns: dict[str, pa.DataType] = {**plain, "json": pa.json_()}
    columns["struct"] = pa.struct(list(plain.items()))
    columns |= {f"{label}_list": pa.list_(kind) for label, kind in plain.items()}
    columns |= {f"string_{label}_map": pa.map_(pa.string(), kind) for label, kind in plain.items()}
    columns |= {f"int_{label}_map": pa.map_(pa.int64(), kind) for label, kind in plain.items()}
    fields = [pa.field(SYNC_TIME, sync_time_type()), pa.field(SOURCE_NAME, pa.string()), pa.field("id", pa.int64())]
    kept = {label: kind for label, kind in columns.items() if not families(kind) & set(refused or ())}
    return Table(name, pa.schema([*fields, *(pa.field(*one) for one in kept.items())]), primary_key)


def families(kind: "pa.DataType") -> set[str]:
    """The families of a type and of all types inside it, as ``Capabilities.types_refused`` names them."""
    own = str(kind)
    for bracket in "[(<":
        own = own.partition(bracket)[0]
    found = {own, "timestamp[ns, tz]"} if pa.types.is_timestamp(kind) and kind.tz and kind.unit == "ns" else {own}
    if isinstance(kind, pa.BaseExtensionType):
        return found | families(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return found | families(kind.value_type)
    return found.union(*(families(kind.field(at).type) for at in range(kind.num_fields)))


def random_columns(table: Table, count: int, *, seed: int = 0, nulls: bool = False) -> "dict[str, pa.Array]":
    """Values for all columns of a table but its key and lineage columns; each is seeded on its own.

    Args:
        table: whose columns to fill.
        count: how many rows.
        seed: another one, other values.
        nulls: whether every value is null.
    """
    skipped = {SYNC_TIME, SOURCE_NAME, *table.primary_key}
    return {
        one.name: _nulls(one.type, count) if nulls else random_array(one.type, count, seed=f"{seed} {one.name}")
        for one in table.schema
        if one.name not in skipped
    }


def random_array(kind: "pa.DataType", count: int, *, seed: int | str = 0) -> "pa.Array":
    """Random values of a type, with a null here and there, nested ones too."""
    return _random(kind, count, random.Random(str(seed)))


def _random(kind: "pa.DataType", count: int, rng: random.Random, *, whole: bool = False) -> "pa.Array":
    """Random values; with ``whole`` no nulls on the outermost level."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.json":
            texts = [
                None if rng.random() < 0.2 else f'{{"n": {rng.randrange(100)}, "x": [null, "é"]}}' for _ in range(count)
            ]
            return pa.ExtensionArray.from_storage(kind, pa.array(texts, kind.storage_type))
        return pa.ExtensionArray.from_storage(kind, _random(kind.storage_type, count, rng, whole=whole))
    if types.is_null(kind):
        return pa.nulls(count)
    if types.is_dictionary(kind):
        return _random(kind.value_type, count, rng, whole=whole).dictionary_encode().cast(kind)
    if types.is_run_end_encoded(kind):
        return pc.run_end_encode(_random(kind.value_type, count, rng, whole=whole), kind.run_end_type)
    if types.is_nested(kind):
        return _random_nested(kind, count, rng, whole=whole)
    values = [None if not whole and rng.random() < 0.2 else _value(kind, rng) for _ in range(count)]
    if types.is_temporal(kind) and not types.is_interval(kind):
        return pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
    return pa.array(values, kind)


def _random_nested(kind: "pa.DataType", count: int, rng: random.Random, *, whole: bool) -> "pa.Array":
    types = pa.types
    nulls = [not whole and rng.random() < 0.2 for _ in range(count)]
    mask = pa.array(nulls, pa.bool_())
    if types.is_union(kind):
        codes = pa.array([rng.choice(kind.type_codes) for _ in range(count)], pa.int8())
        fields = [kind.field(at) for at in range(kind.num_fields)]
        children = [_random(one.type, count, rng) for one in fields]
        if kind.mode == "sparse":
            return pa.UnionArray.from_sparse(codes, children, [one.name for one in fields], kind.type_codes)
        offsets = pa.array(range(count), pa.int32())
        return pa.UnionArray.from_dense(codes, offsets, children, [one.name for one in fields], kind.type_codes)
    if types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        return pa.StructArray.from_arrays([_random(one.type, count, rng) for one in fields], fields=fields, mask=mask)
    if types.is_fixed_size_list(kind):
        values = _random(kind.value_type, count * kind.list_size, rng)
        return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=mask)
    sizes = [0 if null else rng.choice((0, 1, 3)) for null in nulls]
    offsets = [sum(sizes[:at]) for at in range(count + 1)]
    if types.is_map(kind):
        return _random_map(kind, offsets, nulls, rng)
    values = _random(kind.value_type, offsets[-1], rng)
    large = types.is_large_list(kind) or types.is_large_list_view(kind)
    wide = pa.int64() if large else pa.int32()
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        cls = pa.LargeListViewArray if large else pa.ListViewArray
        return cls.from_arrays(pa.array(offsets[:-1], wide), pa.array(sizes, wide), values, type=kind, mask=mask)
    cls = pa.LargeListArray if large else pa.ListArray
    return cls.from_arrays(pa.array(offsets, wide), values, type=kind, mask=mask)


def _random_map(kind: "pa.DataType", offsets: list[int], nulls: list[bool], rng: random.Random) -> "pa.Array":
    """Maps whose keys differ within each: a map with one key twice is not a map everywhere."""
    keys = [f"k{at} {rng.randrange(10)}" if pa.types.is_string(kind.key_type) else at for at in range(offsets[-1])]
    begins = pa.array([None if null else at for at, null in zip(offsets, [*nulls, False], strict=True)], pa.int32())
    return pa.MapArray.from_arrays(begins, pa.array(keys, kind.key_type), _random(kind.item_type, len(keys), rng), kind)


def _value(kind: "pa.DataType", rng: random.Random) -> Any:
    types = pa.types
    if types.is_boolean(kind):
        return rng.random() < 0.5
    if types.is_integer(kind):
        low = -(2 ** (kind.bit_width - 1)) if types.is_signed_integer(kind) else 0
        return rng.randint(low, low + 2**kind.bit_width - 1)
    if types.is_floating(kind):
        bits = rng.randint(0, 2**10) / 2**5
        return bits if kind.bit_width == 16 else struct.unpack(">f", struct.pack(">f", rng.gauss(0, 1e6)))[0]
    if types.is_decimal(kind):
        digits = rng.randint(-(10**kind.precision) + 1, 10**kind.precision - 1)
        return Decimal(digits).scaleb(-kind.scale, _WIDE)
    if types.is_fixed_size_binary(kind):
        return rng.randbytes(kind.byte_width)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return rng.randbytes(rng.randrange(20))
    if types.is_interval(kind):
        return pa.MonthDayNano([rng.randint(-99, 99), rng.randint(-99, 99), rng.randint(-(10**9), 10**9) * 1000])
    if types.is_temporal(kind):
        return _ticks(kind, rng)
    return "".join(rng.choices("abc xyz 'é\"%_\\中🪣", k=rng.randrange(20)))


def _ticks(kind: "pa.DataType", rng: random.Random) -> int:
    """The integer behind a date, time, duration or timestamp: between 1900 and 2100, to the last digit of its unit."""
    types = pa.types
    if types.is_date32(kind):
        return rng.randint(-25_567, 47_482)
    if types.is_date64(kind):
        return rng.randint(-25_567, 47_482) * 86_400_000
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    if types.is_time(kind):
        return rng.randrange(86_400 * per_second)
    return rng.randint(-2_208_988_800 * per_second, 4_102_444_800 * per_second)


def _nulls(kind: "pa.DataType", count: int) -> "pa.Array":
    return pa.nulls(count, kind)
