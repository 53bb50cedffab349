"""Values at the edges of their types, by type. Dates and times are the integers behind them.

A destination stores ``BOUNDARIES`` exactly. ``EXTREMES`` it may refuse; what it takes, it stores exactly.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from strandline.lazy import pa
from strandline.testing.data import made

__all__ = ["BOUNDARIES", "EXTREMES", "LOOKALIKES", "ODD_NAMES", "RESERVED_NAMES", "array_of"]

Values: TypeAlias = "tuple[Callable[[], pa.DataType], Sequence[Any]]"

_YEAR_1_S, _YEAR_9999_S = -62_135_596_800, 253_402_300_799
_DAY_S = 86_400
_INT64 = (-(2**63), 2**63 - 1)
_TEXTS = (
    *(
        "",
        " ",
        "trailing ",
        " leading",
        "\t",
        "\r\n",
        "'",
        '"',
        "`",
        "\\",
        "\\N",
        "NULL",
        "null",
        "%s",
        "$1",
        "{}",
        "?",
    ),
    *(
        "\u202eright to left",
        "\u0645\u0631\u062d\u0628\u0627",
        "e\u0301",
        "\u00e9",
        "\U0001faa3\U0001f469\u200d\U0001f52c",
    ),
    *("\ufeffbom", "\uffff", "\ufffd", "\x01\x1f\x7f\x80", "\u2028", "x" * 100_000),
    *("=1+1", "<script>alert(1)</script>", "\x1b[31mred", "x'; drop table y; --"),
)


def _timestamps(unit: str, per_second: int) -> dict[str, Values]:
    first, last = _YEAR_1_S * per_second, _YEAR_9999_S * per_second + per_second - 1
    values = [first, first + 1, -1, 0, 1, last - 1, last, None]
    return {
        f"timestamp_{unit}": (lambda: pa.timestamp(unit, "UTC"), values),
        f"naive_timestamp_{unit}": (lambda: pa.timestamp(unit), values),
    }


def _integers() -> dict[str, Values]:
    kinds: dict[str, Values] = {}
    for bits in (8, 16, 32, 64):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        kinds[f"int{bits}"] = (made(f"int{bits}"), [low, -1, 0, 1, high, None])
        kinds[f"uint{bits}"] = (
            made(f"uint{bits}"),
            [0, 1, high, high + 1, 2**bits - 1, None],
        )
    return kinds


BOUNDARIES: Mapping[str, Values] = {
    **_integers(),
    "boolean": (made("bool_"), [True, False, None]),
    "float32": (
        made("float32"),
        [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e-45, 3.4028235e38, None],
    ),
    "float64": (
        made("float64"),
        [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1.7976931348623157e308, 0.1, None],
    ),
    "string": (made("string"), [*_TEXTS, None]),
    "large_string": (made("large_string"), [*_TEXTS, None]),
    "binary": (made("binary"), [b"", b"\0", b"\0\0", b"\\x00", bytes(range(256)), b"\xff" * 100_000, None]),
    "fixed_size_binary": (lambda: pa.binary(3), [b"\0\0\0", b"\xff\xff\xff", b"abc", None]),
    "decimal_whole": (lambda: pa.decimal128(38, 0), [Decimal(10**38 - 1), Decimal(1 - 10**38), Decimal(0), None]),
    "decimal_fraction": (
        lambda: pa.decimal128(38, 38),
        [Decimal(f"0.{'9' * 38}"), Decimal(f"-0.{'9' * 38}"), Decimal("1e-38"), None],
    ),
    "decimal_cents": (
        lambda: pa.decimal128(10, 2),
        [Decimal("99999999.99"), Decimal("-99999999.99"), Decimal("0.10"), None],
    ),
    "date32": (made("date32"), [_YEAR_1_S // _DAY_S, -1, 0, 11_016, _YEAR_9999_S // _DAY_S, None]),
    "date64": (
        made("date64"),
        [_YEAR_1_S * 1000, -_DAY_S * 1000, 0, _YEAR_9999_S // _DAY_S * _DAY_S * 1000, None],
    ),
    "time32_s": (lambda: pa.time32("s"), [0, _DAY_S - 1, None]),
    "time64_us": (lambda: pa.time64("us"), [0, 1, _DAY_S * 10**6 - 1, None]),
    "time64_ns": (lambda: pa.time64("ns"), [0, 1, _DAY_S * 10**9 - 1, None]),
    **_timestamps("s", 1),
    **_timestamps("ms", 10**3),
    **_timestamps("us", 10**6),
    "timestamp_ns": (
        lambda: pa.timestamp("ns", "UTC"),
        [-9_223_000_000_000_000_001, -1, 0, 1, 9_223_000_000_000_000_001, None],
    ),
    "duration_s": (lambda: pa.duration("s"), [-(10**10), -1, 0, 1, 10**10, None]),
    "duration_ns": (lambda: pa.duration("ns"), [-(10**17) - 1, -1, 0, 1, 10**17 + 1, None]),
    "list": (lambda: pa.list_(pa.int32()), [[], [None], [1, None, 3], None]),
    "list_of_lists": (lambda: pa.list_(pa.list_(pa.string())), [[], [None], [[]], [[None], [], None, ["", "x"]], None]),
    "struct": (
        lambda: pa.struct([("a", pa.int32()), ("b", pa.string())]),
        [{"a": None, "b": None}, None, {"a": 1, "b": ""}],
    ),
    "list_of_structs": (
        lambda: pa.list_(pa.struct([("a", pa.int32())])),
        [[], [None], [{"a": None}], [{"a": 1}, None], None],
    ),
    "struct_of_lists": (
        lambda: pa.struct([("a", pa.list_(pa.int32()))]),
        [{"a": None}, {"a": []}, {"a": [None]}, None],
    ),
    "map": (lambda: pa.map_(pa.string(), pa.int32()), [[], [("", None)], [("b", 1), ("a", 2)], None]),
}
"""By name: the type, and the values."""

EXTREMES: Mapping[str, Values] = {
    "text with NUL": (made("string"), ["\0", "a\0b"]),
    "interval with nanoseconds": (
        made("month_day_nano_interval"),
        [(1, -1, 1), (0, 0, 2**63 - 1), (2**31 - 1, -(2**31), 0)],
    ),
    "date32 of any year": (made("date32"), [-(2**31), 2**31 - 1]),
    "timestamp_s of any year": (lambda: pa.timestamp("s", "UTC"), _INT64),
    "timestamp_us of any year": (lambda: pa.timestamp("us", "UTC"), _INT64),
    "timestamp_ns of any year": (lambda: pa.timestamp("ns"), _INT64),
    "duration_ns of any length": (lambda: pa.duration("ns"), _INT64),
    "decimal256": (lambda: pa.decimal256(76, 0), [Decimal(10**76 - 1), Decimal(1 - 10**76)]),
    "map with a key twice": (lambda: pa.map_(pa.string(), pa.int32()), [[("a", 1), ("a", 2)]]),
}
"""By what is extreme about them: the type, and the values."""

ODD_NAMES = (
    *("two words", "it's", 'say "hi"', "semi;colon", 'x"; drop table y; --', "back\\slash", "back`tick", "new\nline"),
    *("select", "table", "order", "group", "user", "null", "1st", "123", "-", "--", "/*", "%s", "%(a)s", "$1", "?"),
    *(":a", "@x", "a.b", "a,b", "(a)", "[a]", "{a}", "caf\u00e9", "\u4e2d\u6587", "\U0001faa3", "\u202ertl", "_cq_"),
)
"""Names of tables and columns that are easily taken for something else."""

RESERVED_NAMES = (
    *("rowid", "oid", "ctid", "xmin", "main", "information_schema", "sqlite_master", "pg_catalog", "_cq_stage"),
    *(" x", "x ", "a\0b", "\U0001faa3" * 50, "x" * 200),
)
"""Names that a database may keep for itself, or that are too long for it."""

LOOKALIKES = (
    ("orders", "Orders", "ORDERS"),
    ("caf\u00e9", "cafe\u0301", "cafe"),
    ("stra\u00dfe", "strasse"),
    ("i", "I", "\u0131"),
    ("x" * 199 + "y", "x" * 199 + "z"),
    ("a", "a ", " a"),
)
"""Names that a database may take for one."""


def array_of(values: Values) -> "pa.Array":
    """The values in their type."""
    kind, plain = values[0](), values[1]
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return pa.array(plain, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
    if pa.types.is_interval(kind):
        return pa.array([pa.MonthDayNano(value) for value in plain], kind)
    return pa.array(plain, kind)
