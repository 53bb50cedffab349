"""Values of PostgreSQL's types, through the command line into each destination and out of it by its own SQL: exactly.

What is expected stands here once, and beside it what a destination keeps in another form.
"""

import json
import math
import uuid
from datetime import date, datetime, time
from decimal import Decimal

import pytest
from places import between

WIDE = "9" * 75 + ".5"
TEXT = "Grüße 🙂 'single' \"double\" \\ \t\r\n,; \x7f"
LONG = "-1234567890123456789012345678.0123456789"
UUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")

# name: type, what is inserted, what is expected, {destination: expected instead}
COLUMNS = {
    "i2": ("smallint", -32768, -32768, {}),
    "i4": ("integer", -(2**31), -(2**31), {}),
    "i8": ("bigint", 2**63 - 1, 2**63 - 1, {}),
    "f4": ("real", "0.1", 0.10000000149011612, {}),
    "f8": ("double precision", "5e-324", 5e-324, {}),
    "fixed": ("numeric(38,10)", LONG, Decimal(LONG), {"sqlite": LONG}),
    # exact in a Parquet file, but DuckDB reads what has more than 38 digits as a double
    "wide": ("numeric(76,1)", WIDE, Decimal(WIDE), {"duckdb": WIDE, "sqlite": WIDE, "files": True}),
    "free": (
        "numeric",
        "-12345678901234567890.500000000000000001",
        Decimal("-12345678901234567890.500000000000000001"),
        {"sqlite": "-12345678901234567890.500000000000000001"},
    ),
    "words": ("text", TEXT, TEXT, {}),
    "blank": ("text", "", "", {}),
    "short": ("varchar(5)", "abcde", "abcde", {}),
    "padded": ("char(5)", "ab", "ab   ", {}),
    "flag": ("boolean", False, False, {}),
    "bytes": ("bytea", b"\x00\xff'\\", b"\x00\xff'\\", {}),
    "day": ("date", "0001-01-01", date(1, 1, 1), {"sqlite": "0001-01-01"}),
    "clock": ("time", "23:59:59.999999", time(23, 59, 59, 999999), {"sqlite": "23:59:59.999999"}),
    "naive": (
        "timestamp",
        "1899-12-31 23:59:59.999999",
        datetime(1899, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001 -- the type has no zone
        {"sqlite": "1899-12-31 23:59:59.999999"},
    ),
    "moment": (
        "timestamptz",
        "2024-03-31 03:00:00.000001+02",
        1_711_846_800_000_001,
        {"sqlite": "2024-03-31 01:00:00.000001Z"},
    ),
    "span": (
        "interval",
        "14 months -3 days 04:05:06.789012",
        "1 year 2 mons -3 days +04:05:06.789012",
        {
            "duckdb": "1 year 2 months -3 days 04:05:06.789012",
            "sqlite": '{"months":14,"days":-3,"nanoseconds":14706789012000}',
            "files": {"months": 14, "days": -3, "nanoseconds": 14_706_789_012_000},
        },
    ),
    "known": ("uuid", UUID, UUID, {"sqlite": str(UUID)}),
    "doc": ("json", '{"b": 1.50, "a": [1, null]}', {"b": "1.50", "a": [1, None]}, {}),
    "docb": ("jsonb", '{"b":12345678901234567890.5}', {"b": "12345678901234567890.5"}, {}),
    "ints": ("int[]", "{1,NULL,3}", [1, None, 3], {}),
    "texts": ("text[]", '{"a,b",NULL,"\\""}', ["a,b", None, '"'], {}),
    "square": ("int[][]", "{{1,2},{3,4}}", [[1, 2], [3, 4]], {}),
    "feels": ("mood", "sad", "sad", {}),
    "counted": ("positive", 7, 7, {}),
    "composed": ("pair", "(1,two)", {"x": 1, "y": "two"}, {}),
    "net": ("inet", "192.168.0.1/24", "192.168.0.1/24", {}),
    "reach": ("int4range", "[1,5)", "[1,5)", {}),
    "bits": ("bit varying", "0101", "0101", {}),
    "cash": ("money", "-12.34", Decimal("-12.34"), {"sqlite": "-12.34"}),
    "tree": ("xml", "<a>&amp;</a>", "<a>&amp;</a>", {}),
    "number": ("oid", 2**32 - 1, 2**32 - 1, {}),
    "called": ("name", "who", "who", {}),
}
AS_JSON = {"doc", "docb", "ints", "texts", "square", "composed"}
"""Compared as documents, since white space means nothing in them; all digits of their numbers count."""
SELECTED = {
    "duckdb": {"moment": "epoch_us(moment)", "span": "CAST(span AS VARCHAR)"},
    "sqlite": {},
    "files": {"moment": "epoch_us(moment)", "wide": "wide BETWEEN 9e74 AND 2e75"},
    "postgresql": {
        "f4": "f4::float8",
        "moment": "(extract(epoch FROM moment) * 1000000)::bigint",
        **{name: f"{name}::text" for name in ("span", *AS_JSON)},
    },
}


def stored(bench, names=tuple(COLUMNS)):
    """By id, in the order of ``names``."""
    chosen = SELECTED[bench.store.spec["path"]]
    columns = ", ".join(chosen.get(name, f'"{name}"') for name in names)
    rows = bench.store.query(f"SELECT id, {columns} FROM t ORDER BY id")
    return {id_: tuple(map(_parsed, names, values)) for id_, *values in rows}


def _parsed(name, value):
    return json.loads(value, parse_float=str) if name in AS_JSON and value is not None else value


@pytest.fixture
def typed(bench):
    bench.origin.execute(
        "CREATE TYPE mood AS ENUM ('happy', 'sad')",
        "CREATE TYPE pair AS (x int, y text)",
        "CREATE DOMAIN positive AS int CHECK (value > 0)",
        f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'{name} {kind[0]}' for name, kind in COLUMNS.items())})",
    )
    return bench


def insert(bench, id_):
    values = [value for _, value, _, _ in COLUMNS.values()]
    marks = ", ".join(f"%s::{kind}" for kind, _, _, _ in COLUMNS.values())
    with bench.origin.connect() as connection:
        connection.execute(f"INSERT INTO t VALUES (%s, {marks})", [id_, *values])


@between("postgresql")
def test_values_arrive_as_they_are(typed, sync):
    expected = tuple(other.get(typed.pair[1], value) for _, _, value, other in COLUMNS.values())
    insert(typed, 1)
    typed.origin.execute("INSERT INTO t (id) VALUES (2)")
    sync()
    insert(typed, 3)  # now rows are merged with others
    sync()
    found = stored(typed)
    assert found[1] == expected
    assert found[2] == (None,) * len(COLUMNS)
    assert found[3] == expected


@between("postgresql", modes="overwrite append")
def test_numbers_that_are_none_arrive_too(typed, sync):
    typed.tables = {"t": {"types": {"free": "string"}}}
    typed.origin.execute("INSERT INTO t (id, f4, f8, free) VALUES (1, '-inf', 'nan', 'nan'), (2, 'nan', 'inf', '-0.0')")
    sync()
    found = stored(typed, ("f4", "f8", "free"))
    assert found[1][0] == -math.inf
    assert math.isnan(float(found[1][1]))
    assert found[1][2] == "NaN"
    assert math.isnan(float(found[2][0]))
    assert found[2][1:] == (math.inf, "0.0")
