"""Values of a real PostgreSQL server, and what they are in Arrow: exact, or refused in words."""

import hashlib
import random
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import psycopg
import pyarrow as pa
import pytest

from strandline.connectors.postgresql.types_read import convert
from strandline.errors import TaskError, UsageError
from strandline.message import Insert
from strandline.plugins import load_plugin
from strandline.reading import Reading

# the calendar repeats after 400 years
LATE_US = (date(2246, 12, 31).toordinal() - date(1970, 1, 1).toordinal() + 730 * 146_097) * 86_400_000_000
DAY_US, CHRIST_US = 86_400_000_000, -62_135_596_800_000_000


def read(uri, **settings):
    """The column `v` of table `t`, as an Arrow array."""
    cls = load_plugin("source", "postgresql")
    source = cls(cls.Spec(connection_string=uri, tables={"t": settings}))
    (table,) = source.tables()
    (task,) = source.tasks([table])
    reading = Reading(None, datetime.now(UTC))
    found = [message.batch for message in source.read(task, reading) if isinstance(message, Insert)]
    arrays = [batch.column("v") for batch in found]
    for array in arrays:
        array.validate(full=True)
        assert array.type == table.schema.field("v").type
    return table.schema.field("v"), [value for array in arrays for value in _exact(array)]


def _exact(array):
    if pa.types.is_timestamp(array.type) or pa.types.is_time(array.type):
        return array.view(pa.int64()).to_pylist()
    return array.view(pa.int32()).to_pylist() if pa.types.is_date(array.type) else array.to_pylist()


def table(uri, declared, *values, prepare=()):
    with psycopg.connect(uri, autocommit=True) as connection:
        for statement in prepare:
            connection.execute(statement)
        connection.execute(f"CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v {declared})")
        for value in values:
            connection.execute(f"INSERT INTO t (v) VALUES ({value})")


def us(*parts):
    return int((datetime(*parts, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000


CASES = [
    ("smallint", ["-32768", "32767", "NULL"], pa.int16(), [-32768, 32767, None]),
    ("int", ["-2147483648", "NULL"], pa.int32(), [-(2**31), None]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"], pa.int64(), [-(2**63), 2**63 - 1]),
    ("oid", ["4294967295"], pa.int64(), [4294967295]),
    ("boolean", ["true", "NULL"], pa.bool_(), [True, None]),
    ("real", ["1.5", "'-Infinity'"], pa.float32(), [1.5, float("-inf")]),
    ("float8", ["0.1", "1e308"], pa.float64(), [0.1, 1e308]),
    ("text", ["'é😀'", "''", "NULL"], pa.string(), ["é😀", "", None]),
    ("varchar(5)", ["'a  '"], pa.string(), ["a  "]),
    ("char(3)", ["'a'"], pa.string(), ["a  "]),
    ("bytea", ["'\\x00ff'", "''"], pa.binary(), [b"\x00\xff", b""]),
    ("uuid", ["'6ffd493f-b5df-45c3-806e-8f36808af9f4'"], pa.uuid(), [UUID("6ffd493f-b5df-45c3-806e-8f36808af9f4")]),
    ("jsonb", ["'{\"a\": [1, null]}'", "'1e3'"], pa.json_(pa.string()), ['{"a": [1, null]}', "1000"]),
    ("json", ["'{\"a\":  1, \"a\": 2}'"], pa.json_(pa.string()), ['{"a":  1, "a": 2}']),
    ("date", ["'2026-11-23'", "'0001-01-01'"], pa.date32(), [20780, -719162]),
    ("date", ["'4713-01-01 BC'", "'5874897-12-31'"], pa.date32(), [-2440550, 2145042905]),
    ("time", ["'23:59:59.999999'"], pa.time64("us"), [DAY_US - 1]),
    ("timestamp", ["'2026-11-23 01:02:03'"], pa.timestamp("us"), [us(2026, 11, 23, 1, 2, 3)]),
    ("timestamp", ["'0001-01-01 BC'"], pa.timestamp("us"), [CHRIST_US - 366 * DAY_US]),
    ("timestamp", ["'4713-01-01 BC'", "'294246-12-31'"], pa.timestamp("us"), [-210863520000000000, LATE_US]),
    ("timestamptz", ["'2026-11-23 01:00:00+01'"], pa.timestamp("us", tz="UTC"), [us(2026, 11, 23)]),
    ("numeric(10,2)", ["-0.05", "99999999.99"], pa.decimal128(10, 2), [Decimal("-0.05"), Decimal("99999999.99")]),
    ("numeric(38)", ["1" * 38], pa.decimal128(38, 0), [Decimal("1" * 38)]),
    ("numeric(50,10)", ["1" * 40 + ".5"], pa.decimal256(50, 10), [Decimal("1" * 40 + ".5000000000")]),
    ("numeric(3,-2)", ["12345"], pa.decimal128(5, 0), [Decimal(12300)]),
    ("numeric(2,5)", ["0.00012"], pa.decimal128(5, 5), [Decimal("0.00012")]),
    ("numeric", ["1.50", "'0.000'", "1." + "0" * 60, "-" + "9" * 20 + "." + "9" * 18, "NULL"], pa.decimal128(38, 18), [Decimal("1.5"), Decimal(0), Decimal(1), Decimal("-" + "9" * 20 + "." + "9" * 18), None]),
    ("money", ["'$92,233,720,368,547,758.07'", "-0.05", "NULL"], pa.decimal128(21, 2), [Decimal("92233720368547758.07"), Decimal("-0.05"), None]),
    ("numeric(100,2)", ["1"], pa.string(), ["1.00"]),
    ("inet", ["'10.0.0.0/8'"], pa.string(), ["10.0.0.0/8"]),
    ("macaddr", ["'08:00:2b:01:02:03'"], pa.string(), ["08:00:2b:01:02:03"]),
    ("int4range", ["'[1,3]'"], pa.string(), ["[1,4)"]),
    ("bit varying", ["B'101'"], pa.string(), ["101"]),
    ("xml", ["'<a/>'"], pa.string(), ["<a/>"]),
    ("point", ["point(1,2)"], pa.string(), ["(1,2)"]),
    ("timetz", ["'01:02:03+02'"], pa.string(), ["01:02:03+02"]),
    ("int[]", ["'{1,NULL}'", "'{}'", "'{{1,2},{3,4}}'", "'[2:3]={7,8}'"], pa.json_(pa.string()), ["[1,null]", "[]", "[[1,2],[3,4]]", "[7,8]"]),
    ("text[]", ["ARRAY['a\"b', NULL]"], pa.json_(pa.string()), ['["a\\"b",null]']),
    ("float8[]", ["'{-0,1e308,NaN,0.1}'"], pa.json_(pa.string()), ['[-0,1e+308,"NaN",0.1]']),
    ("json[]", ["ARRAY['{\"a\":  1, \"a\": \"\\u0000\"}'::json]"], pa.json_(pa.string()), ['[{"a":  1, "a": "\\u0000"}]']),
    ("numeric[]", ["'{NaN,1.50,12345678901234567890.000001}'"], pa.json_(pa.string()), ['["NaN",1.50,12345678901234567890.000001]']),
    ('"char"', ["''", "'a'"], pa.string(), ["", "a"]),
    ("mood", ["'sad'"], pa.string(), ["sad"]),
    ("pair", ["ROW(1, 'x')"], pa.json_(pa.string()), ['{"a":1,"b":"x"}']),
    ("positive", ["7"], pa.int32(), [7]),
    ("price", ["7.5"], pa.decimal128(6, 2), [Decimal("7.50")]),
]  # fmt: skip
OWN = (
    "CREATE TYPE mood AS ENUM ('sad', 'happy')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN positive AS int CHECK (value > 0)",
    "CREATE DOMAIN amount AS numeric(6,2)",
    "CREATE DOMAIN price AS amount NOT NULL",
)


@pytest.mark.parametrize(("declared", "values", "kind", "expected"), CASES, ids=lambda case: str(case)[:30])
def test_a_value_is_the_same_in_arrow(postgresql, declared, values, kind, expected):
    table(postgresql, declared, *values, prepare=OWN)
    field, found = read(postgresql)
    assert field.type == kind
    assert found == expected


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("timestamp", "'infinity'"),
        ("timestamptz", "'-infinity'"),
        ("timestamp", "'294276-12-31'"),
        ("date", "'infinity'"),
        ("date", "'-infinity'"),
        ("time", "'24:00'"),
        ("numeric(10,2)", "'NaN'"),
        ("numeric", "'NaN'"),
        ("numeric", "'-Infinity'"),
        ("interval", "'10000000 hours'"),
        ("interval", "'1 mon -3000000 hours'"),
    ],
)
def test_what_arrow_cannot_hold_is_refused_or_null_never_another_value(postgresql, declared, value):
    table(postgresql, declared, value, "NULL")
    with pytest.raises(TaskError, match=r"t\.v") as caught:
        read(postgresql)
    assert "out_of_range" in caught.value.hint
    assert read(postgresql, out_of_range="null")[1] == [None, None]


@pytest.mark.parametrize(
    ("declared", "value", "named"),
    [
        ("timestamp", "'infinity'", "infinity"),
        ("timestamptz", "'-infinity'", "-infinity"),
        ("timestamp", "'294276-12-31'", "a time after the year 294246"),
        ("date", "'infinity'", "infinity"),
        ("date", "'-infinity'", "-infinity"),
        ("time", "'24:00'", "24:00:00"),
        ("numeric(10,2)", "'NaN'", "NaN"),
        ("interval", "'10000000 hours'", "an interval of more than 2562046 hours"),
    ],
)
def test_the_value_that_is_refused_is_named(postgresql, declared, value, named):
    table(postgresql, declared, value)
    with pytest.raises(TaskError, match=rf"t\.v: .*\({named}\)"):
        read(postgresql)


def test_an_interval_keeps_its_months_days_and_microseconds(postgresql):
    largest = "'-178000000 years 2147483647 days 2562046:59:59.999999'"
    table(postgresql, "interval", "'1 year 2 mons -3 days 04:05:06.000007'", largest, "NULL")
    assert read(postgresql)[1] == [
        (14, -3, 14_706_000_007_000),
        (-178_000_000 * 12, 2**31 - 1, (2_562_047 * 3_600_000_000 - 1) * 1000),
        None,
    ]


def test_numbers_are_exact_at_any_size(postgresql):
    generator = random.Random(7)
    digits = [generator.randint(1, 10 ** generator.randint(1, 60)) for _ in range(300)]
    texts = [f"{Decimal(number).scaleb(-generator.randint(0, 40)):f}" for number in digits]
    texts += [f"-{text}" for text in texts] + ["0", "0.00", "10000", "0.0001", "1000000000.0000"]
    table(postgresql, "numeric", *texts)
    assert read(postgresql, types={"v": "string"})[1] == texts


@pytest.mark.parametrize(
    ("declared", "value", "remedy"),
    [
        ("numeric", "123456789012345678901", "decimal(38, 17)"),
        ("numeric", "0.1234567890123456789", "decimal(38, 19)"),
        ("numeric", "12345678901234567890123456789.1234567890", "v: string"),
        ("numeric", "1e100", "v: string"),
        ("numeric", "'NaN'", "v: string"),
        ("numeric", "'-Infinity'", "double"),
    ],
)
def test_a_number_that_a_decimal_has_no_place_for_fails_with_its_row_and_the_way_out(
    postgresql, declared, value, remedy
):
    table(postgresql, declared, "1.5", value, "2")
    with pytest.raises(TaskError, match=r"t\.v: .*in the row with id = 2") as caught:
        read(postgresql)
    assert (value.strip("'")[:15] in caught.value.message) or value == "1e100"
    assert remedy in caught.value.hint
    assert "types" in caught.value.hint
    if "decimal(" in remedy:
        assert read(postgresql, types={"v": remedy})[1] == [Decimal("1.5"), Decimal(value), Decimal(2)]


def test_out_of_range_makes_null_of_what_is_no_number_and_never_of_digits(postgresql):
    table(postgresql, "numeric", "'NaN'", "1e30")
    with pytest.raises(TaskError, match="id = 2"):
        read(postgresql, out_of_range="null")


@pytest.mark.parametrize(
    ("declared", "values", "asked", "expected"),
    [
        ("numeric", ["1.50", "'NaN'"], "string", ["1.50", "NaN"]),
        ("numeric", ["0.1", "1e300", "'Infinity'"], "double", [0.1, 1e300, float("inf")]),
        ("numeric", ["1.10", "'2.0000'"], "decimal(10, 1)", [Decimal("1.1"), Decimal("2.0")]),
        ("numeric", ["'5.00'"], "int64", [5]),
        ("money", ["'$1,234.50'"], "string", ["$1,234.50"]),
        ("money", ["'$1,234.50'"], "decimal(10, 4)", [Decimal("1234.5000")]),
        ("int", ["7"], "string", ["7"]),
        ("int", ["7"], "int64", [7]),
        ("text", ["'2024-01-01 10:00:00+02'"], "timestamp", [us(2024, 1, 1, 8)]),
        ("text", ["'12.5'"], "decimal(5, 2)", [Decimal("12.50")]),
        ("char(3)", ["'a'"], "string", ["a  "]),
        ("timestamp", ["'2024-01-01 10:00'"], "timestamp", [us(2024, 1, 1, 10)]),
        ("timestamptz", ["'2024-01-01 10:00+02'"], "string", ["2024-01-01 08:00:00+00"]),
        ("date", ["'2024-01-01'"], "timestamp[us]", [us(2024, 1, 1)]),
        ("int[]", ["'{1,2}'"], "string", ["[1,2]"]),
        ("boolean", ["true"], "string", ["true"]),
    ],
)
def test_types_say_what_a_column_is_read_as(postgresql, declared, values, asked, expected):
    table(postgresql, declared, *values, "NULL")
    assert read(postgresql, types={"v": asked})[1] == [*expected, None]


@pytest.mark.parametrize(
    ("declared", "value", "asked"),
    [
        ("numeric", "1.23", "decimal(10, 1)"),
        ("text", "'x'", "int64"),
        ("numeric", "1.5", "int64"),
        ("text", "'2024'", "timestamp"),
    ],
)
def test_a_value_that_is_not_of_the_type_that_types_names_fails(postgresql, declared, value, asked):
    table(postgresql, declared, value)
    with pytest.raises(TaskError, match="in the row with id = 1") as caught:
        read(postgresql, types={"v": asked})
    assert "v: string" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"types": {"v": "nonsense"}}, "nonsense"),
        ({"types": {"w": "string"}}, "'w'"),
        ({"types": {"v": "list<int64>"}}, "cannot be read as list"),
        ({"types": {"v": "string"}, "mask": {"v": "hash"}}, "masked"),
    ],
)
def test_types_that_mean_nothing_are_refused_before_anything_is_read(postgresql, settings, words):
    table(postgresql, "numeric", "1")
    with pytest.raises(UsageError, match=words):
        read(postgresql, **settings)


def test_keys_that_are_numbers_without_a_bound_stay_text_and_go_on(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id numeric PRIMARY KEY, k numeric, v numeric)")
        connection.execute("INSERT INTO t VALUES (1.0, 2.50, 3.50)")
    cls = load_plugin("source", "postgresql")
    (found,) = cls(cls.Spec(connection_string=postgresql, tables={"t": {"incremental_key": "k"}})).tables()
    assert [field.type for field in found.schema] == [pa.string(), pa.string(), pa.decimal128(38, 18)]
    assert found.basis["primary_key"] == "id (string)"


def test_the_hash_of_a_masked_number_is_what_it_was(postgresql):
    table(postgresql, "money", "'$1.50'")
    assert read(postgresql, mask={"v": "hash"})[1] == [hashlib.sha256(b"$1.50").hexdigest()]


def test_text_that_is_no_utf8_is_refused():
    # a "char" holds any byte, and old databases hold what no server of today would take
    lone = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xe9")])
    with pytest.raises(TaskError, match=r"t\.v: .*UTF-?8"):
        convert(lone, pa.field("v", pa.string()), "t.v")


def test_tables_with_generated_dropped_and_commented_columns(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE t (b int, gone int, a int, v int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (a, b))"
        )
        connection.execute("ALTER TABLE t DROP COLUMN gone")
        connection.execute("COMMENT ON TABLE t IS 'Numbers, doubled'")
        connection.execute("INSERT INTO t (a, b) VALUES (2, 1)")
    cls = load_plugin("source", "postgresql")
    (found,) = cls(cls.Spec(connection_string=postgresql)).tables()
    assert (found.schema.names, found.primary_key, found.description) == (
        ["b", "a", "v"],
        ("a", "b"),
        "Numbers, doubled",
    )
    assert read(postgresql)[1] == [4]
