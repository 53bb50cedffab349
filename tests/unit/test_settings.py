"""One grammar for durations, sizes and types, wherever in a spec they stand."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from strandline.cli.schema import spec_schema
from strandline.settings import Duration, Seconds, Size, duration_s, parse_duration, parse_size, parse_type

UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}
BYTES = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "KiB": 1 << 10,
    "MB": 1000**2,
    "MiB": 1 << 20,
    "GB": 1000**3,
    "GiB": 1 << 30,
}


class Model(BaseModel):
    duration: Duration = timedelta(0)
    seconds: Seconds = 1
    size: Size = 1


@given(st.lists(st.tuples(st.integers(0, 9999), st.sampled_from(sorted(UNITS))), min_size=1, max_size=6))
def test_a_duration_is_the_sum_of_its_parts(parts):
    text = "".join(f"{count}{unit}" for count, unit in parts)
    assert parse_duration(text) == sum((count * UNITS[unit] for count, unit in parts), timedelta())


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("30s", 30), ("1h30m", 5400), ("500ms", 0.5), ("2d", 172_800), ("0", 0), (0, 0), ("1.5h", 5400), (" 5m ", 300)],
)
def test_forms_of_a_duration(written, seconds):
    assert parse_duration(written) == timedelta(seconds=seconds)
    assert Model(duration=written).duration == timedelta(seconds=seconds)
    if seconds and isinstance(written, str):
        assert Model(seconds=written).seconds == seconds


@pytest.mark.parametrize(
    "written", ["", "5", 5, "h", "5 m", "-1s", "5min", "1w", "1h 5", "٥s", "inf", True, None, "9" * 9999 + "d"]
)
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(ValueError, match="30s"):
        parse_duration(written)
    with pytest.raises(ValidationError):
        Model(duration=written)


def test_seconds_in_python_are_numbers_and_never_none():
    assert Model(seconds=0.05).seconds == 0.05
    for written in ("0", 0, -1, "0ms"):
        with pytest.raises(ValidationError):
            Model(seconds=written)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=999_999_998)))
def test_a_part_of_a_second_is_a_whole_one_since_a_look_back_may_never_be_shorter(duration):
    assert timedelta(0) <= timedelta(seconds=duration_s(duration)) - duration < timedelta(seconds=1)


def test_what_is_less_than_a_microsecond_is_not_nothing():
    assert parse_duration("1ns") == timedelta(microseconds=1)


def places(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for below in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from places(below)


def test_the_defaults_that_an_editor_shows_can_be_written():
    shown = [
        (place["pattern"], place["default"])
        for place in places(spec_schema())
        if "pattern" in place and "default" in place
    ]
    of_durations = next(pattern for pattern, default in shown if default == "1h")
    for pattern, text in shown:
        assert re.search(pattern, text)
        if pattern == of_durations:
            parse_duration(text)


@given(st.integers(0, 1 << 40), st.sampled_from(sorted(BYTES)), st.sampled_from(["", " "]))
def test_a_size_is_a_number_with_a_unit(count, unit, blank):
    assert parse_size(f"{count}{blank}{unit}") == count * BYTES[unit]
    assert parse_size(count) == count


@pytest.mark.parametrize(("written", "count"), [("16MiB", 16 << 20), ("64 kB", 64_000), ("1.5KiB", 1536), (4096, 4096)])
def test_forms_of_a_size(written, count):
    assert Model(size=written).size == count


@pytest.mark.parametrize(
    "written", ["", "MiB", "16 Mb", "16m", "-1", "1.5", "0.3KiB", 1.5, True, None, "1e3", "9" * 9999]
)
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ValueError, match="16MiB"):
        parse_size(written)


SIMPLE: list[Any] = [
    *(pa.int8(), pa.int64(), pa.uint16(), pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string()),
    *(pa.large_string(), pa.binary(), pa.date32(), pa.date64(), pa.time32("ms"), pa.time64("ns"), pa.duration("us")),
    *(pa.timestamp("s"), pa.timestamp("us", "UTC"), pa.timestamp("ns", "Europe/Berlin"), pa.timestamp("ms", "+01:00")),
    *(pa.decimal32(5, 2), pa.decimal64(12, 0), pa.decimal128(38, 10), pa.decimal256(60, 20)),
]
NAMES = st.text("abcXYZ_ 019é-", min_size=1).map(str.strip).filter(bool)
TYPES = st.recursive(
    st.sampled_from(SIMPLE),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        st.lists(st.tuples(NAMES, inner), min_size=1, max_size=3).map(pa.struct),
        st.tuples(inner, inner).map(lambda pair: pa.map_(*pair)),
    ),
    max_leaves=8,
)


@given(TYPES)
def test_a_type_is_written_as_arrow_writes_it(type_):
    assert parse_type(str(type_)) == type_


@pytest.mark.parametrize(
    ("written", "type_"),
    [
        ("decimal(10,2)", pa.decimal128(10, 2)),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("timestamp[us, UTC]", pa.timestamp("us", "UTC")),
        ("timestamp[us,tz=UTC]", pa.timestamp("us", "UTC")),
        ("float64", pa.float64()),
        (" bool ", pa.bool_()),
        ("list<int64>", pa.list_(pa.int64())),
        (
            "list<struct<a: decimal(9, 2), b: list<string>>>",
            pa.list_(pa.struct([("a", pa.decimal128(9, 2)), ("b", pa.list_(pa.string()))])),
        ),
        ("map<string, timestamp[us, UTC]>", pa.map_(pa.string(), pa.timestamp("us", "UTC"))),
    ],
)
def test_forms_of_a_type(written, type_):
    assert parse_type(written) == type_


@pytest.mark.parametrize(
    "written",
    ["", "integer", "decimal", "decimal(0, 0)", "decimal(39, 1)", "timestamp[us, ]", "timestamp[x, UTC]", "list<>", "list<int64", "list<int64>>",
     "list<int64, int64>", "map<string>", "struct<int64>", "struct<a: >", "struct<>", "int64>", "list<" * 9999 + "int64" + ">" * 9999],
)  # fmt: skip
def test_what_is_no_type_is_refused(written):
    with pytest.raises(ValueError, match="is not a type"):
        parse_type(written)
