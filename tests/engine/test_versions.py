"""By what a row that is read again is known: its content, whatever else its table has become."""

import decimal
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline.engine.versions import content_versions, former_forms
from strandline.table import CQ_ID, SYNC_TIME, Table

SAMPLES = {
    "null": (pa.null(), [None, None]),
    "bool": (pa.bool_(), [True, False]),
    "int8": (pa.int8(), [1, -1]),
    "uint64": (pa.uint64(), [1, 2**64 - 1]),
    "half": (pa.float16(), [1.5, 2.5]),
    "double": (pa.float64(), [0.1, -0.0]),
    "decimal": (pa.decimal128(38, 10), [decimal.Decimal("1.5"), decimal.Decimal("-1.5")]),
    "string": (pa.string(), ["", "a"]),
    "large": (pa.large_string(), ["", "a"]),
    "view": (pa.string_view(), ["", "a"]),
    "binary": (pa.binary(), [b"", b"\xff\x00"]),
    "binary view": (pa.binary_view(), [b"", b"\xff\x00"]),
    "fixed": (pa.binary(2), [b"ab", b"\xff\x00"]),
    "date32": (pa.date32(), [date(1970, 1, 1), date(9999, 12, 31)]),
    "date64": (pa.date64(), [date(1970, 1, 1), date(9999, 12, 31)]),
    "time32": (pa.time32("ms"), [1, 2]),
    "time64": (pa.time64("ns"), [1, 2]),
    "timestamp": (pa.timestamp("ns", tz="UTC"), [1, 2]),
    "duration": (pa.duration("us"), [timedelta(1), timedelta(2)]),
    "interval": (pa.month_day_nano_interval(), [(1, 2, 3), (1, 2, 4)]),
    "uuid": (pa.uuid(), [b"a" * 16, b"b" * 16]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["a", "b"]),
    "list": (pa.list_(pa.string()), [["a", None], ["a"]]),
    "fixed list": (pa.list_(pa.int8(), 2), [[1, 2], [1, None]]),
    "nested list": (pa.list_(pa.list_(pa.int8())), [[[1], [2]], [[1, 2]]]),
    "struct": (pa.struct({"a": pa.int8(), "b": pa.string()}), [{"a": 1, "b": None}, {"a": None, "b": "1"}]),
    "map": (pa.map_(pa.string(), pa.int8()), [[("a", 1)], [("a", None)]]),
}


FORMER = {
    "null": "1d094bf5cad44ba690df91d60c9d72b01d094bf5cad44ba690df91d60c9d72b0",
    "bool": "3c20a1ddd94e2ce69808a5b6fe1e479d17cbab5a9603556499806a1f12970657",
    "int8": "333515fd16763e23b72a3b8ba18aa24b9dad56c896a241a49a65ac0f3973efc3",
    "uint64": "333515fd16763e23b72a3b8ba18aa24b809c0a3079044dc6f93f9579ad082254",
    "half": "0d53ca2aa7f668c82910db8f6abe324c09f07c992f51cbef1b436c0322d4c6cf",
    "double": "5bbf9a127e3f37958908c4955426d08de19cd03dd5e68c1ffe6ea4a54334b35f",
    "decimal": "b1b88abc5a6021dfef15a5c1cbabdcf0b28e271b4737c79f4b42854d9041d92e",
    "string": "fcb8deac8b11588289e1e02ecc7c706bc3e0d867a4e96f1734bfd6181cd55529",
    "large": "fcb8deac8b11588289e1e02ecc7c706bc3e0d867a4e96f1734bfd6181cd55529",
    "view": "fcb8deac8b11588289e1e02ecc7c706bc3e0d867a4e96f1734bfd6181cd55529",
    "binary": "fcb8deac8b11588289e1e02ecc7c706b9fb6a4e9d25aa5c9cb66868036d4f0ed",
    "binary view": "fcb8deac8b11588289e1e02ecc7c706b9fb6a4e9d25aa5c9cb66868036d4f0ed",
    "fixed": "9145d73a5177edcb46e9f71b268117a29fb6a4e9d25aa5c9cb66868036d4f0ed",
    "date32": "d140299120c0dd85969f30cdb26288f715151b76c57245fcdf3c3e309d618a4e",
    "date64": "d140299120c0dd85969f30cdb26288f7bcd934610dfbd863b1edbdaf30a8c4a4",
    "time32": "333515fd16763e23b72a3b8ba18aa24bae6ca9e1680fa62b93b738c2bc0fa337",
    "time64": "333515fd16763e23b72a3b8ba18aa24bae6ca9e1680fa62b93b738c2bc0fa337",
    "timestamp": "333515fd16763e23b72a3b8ba18aa24bae6ca9e1680fa62b93b738c2bc0fa337",
    "duration": "cd0546595a2452e252587a1592d0353a95583443dbfec9aa11ad5e22c11d0ea0",
    "interval": "81bfebec8ca1b10403982a50fc345edf9be93d9ddd71b52525346c6f4fa26eda",
    "uuid": "ca14f48e4195c5a1c74e5ee99946c60da69f25a48eea89b60062d6da0e07abdd",
    "dictionary": "c3e0d867a4e96f1734bfd6181cd55529b39a0d1ac198cbaa080b1c4795f24e7e",
    "list": "dafa03ad938d81ffadcea5dfbe91750b95a9ae34597b4126dacccc74fb64bf7b",
    "fixed list": "00575c921e8231b2b38cf622fb0aedef31f7c448363787cd0514bf618426e4c5",
    "nested list": "8e7da40854d9c1f1975aa53712e6e43c374f9f53e25c4e51aedd5ff429f20502",
    "struct": "d95370a0f9b4a2df6df6ef362413cbcf1adb24456f1fa8a8cda06913c72f627d",
    "map": "a9fa9562489ea0e3bade489cc373e86eee59face1fc034a01dac33bb8abd15a8",
}
"""The versions of the samples before there were forms, in hex; what is stored has them."""


def versions(values: list, kind: pa.DataType, forms: dict | None = None) -> list:
    batch = pa.record_batch({"x": pa.array(values, kind)})
    return content_versions(batch, ["x"], forms=forms).to_pylist()


@pytest.mark.parametrize("name", SAMPLES)
def test_values_of_every_type_have_versions_that_tell_them_apart(name):
    kind, values = SAMPLES[name]
    found = versions([*values, None, *values], kind)
    assert found[:2] == found[3:]
    if name != "null":
        assert len(set(found[:3])) == 3


@pytest.mark.parametrize("name", SAMPLES)
def test_a_slice_of_a_batch_has_the_versions_of_its_rows(name):
    kind, values = SAMPLES[name]
    batch = pa.record_batch({"x": pa.array([None, *values, values[0]], kind)})
    whole = content_versions(batch, ["x"]).to_pylist()
    assert content_versions(batch.slice(1, 2), ["x"]).to_pylist() == whole[1:3]


@given(st.lists(st.tuples(st.none() | st.text(max_size=3), st.none() | st.text(max_size=3)), min_size=1, max_size=8))
def test_two_rows_have_one_version_exactly_when_their_content_is_equal(rows):
    batch = pa.record_batch(
        {"a": pa.array([a for a, _ in rows], pa.string()), "b": pa.array([b for _, b in rows], pa.string())}
    )
    found = content_versions(batch, ["a", "b"]).to_pylist()
    for one, row in zip(found, rows, strict=True):
        for other, another in zip(found, rows, strict=True):
            assert (one == other) == (row == another)


def test_a_column_that_is_added_and_null_leaves_the_version_as_it_is():
    plain = pa.record_batch({"a": [1, 2]})
    wider = pa.record_batch({"a": [1, 2], "b": pa.array([None, "x"])})
    before, after = content_versions(plain, ["a"]).to_pylist(), content_versions(wider, ["a", "b"]).to_pylist()
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_the_order_of_columns_does_not_matter_and_lineage_is_not_content():
    one = pa.record_batch({"a": [1], "b": ["x"], SYNC_TIME: [1], CQ_ID: ["u"]})
    other = pa.record_batch({"b": ["x"], SYNC_TIME: [2], CQ_ID: ["v"], "a": [1]})
    assert content_versions(one, one.schema.names) == content_versions(other, other.schema.names)


def test_equal_rows_of_two_sources_or_partitions_are_two_rows():
    batch = pa.record_batch({"a": [1]})
    found = {content_versions(batch, ["a"], scope).to_pylist()[0] for scope in [("s", ""), ("s", "p"), ("sp", "")]}
    assert len(found) == 3


@pytest.mark.parametrize("name", SAMPLES)
def test_what_was_stored_before_there_were_forms_is_still_known(name):
    kind, values = SAMPLES[name]
    forms = former_forms(Table("t", pa.schema({"x": kind})))
    assert b"".join(versions(values, kind, forms)).hex() == FORMER[name]


A, AB = pa.struct({"a": pa.int64()}), pa.struct({"b": pa.float64(), "a": pa.int64()})
GROWN = {
    "struct": (A, AB, {"a": 1}),
    "struct within": (pa.struct({"in": A}), pa.struct({"in": AB, "more": pa.string()}), {"in": {"a": 1}}),
    "list": (pa.list_(A), pa.list_(AB), [{"a": 1}, None, {"a": None}]),
    "map": (pa.map_(pa.string(), A), pa.map_(pa.string(), AB), [("k", {"a": 1})]),
    "whole number": (pa.int64(), pa.float64(), 12_345_678_901),
    "negative number": (pa.int64(), pa.float64(), -7),
    "number to decimal": (pa.int64(), pa.decimal128(38, 9), 1200),
    "no number": (pa.int64(), pa.decimal128(38, 9), 0),
    "finer decimal": (pa.decimal128(5, 2), pa.decimal256(60, 9), decimal.Decimal("-1.50")),
    "coarse decimal": (pa.decimal128(5, -2), pa.int64(), decimal.Decimal(1500)),
    "decimal to double": (pa.decimal128(5, 2), pa.float64(), decimal.Decimal("1.25")),
    "small decimal": (pa.decimal128(20, 10), pa.decimal128(30, 15), decimal.Decimal("-0.0000000150")),
    "very small decimal": (pa.decimal128(20, 10), pa.float64(), decimal.Decimal("0.000000001")),
    "float": (pa.float16(), pa.float64(), 1.5),
    "day": (pa.date32(), pa.timestamp("us"), date(1969, 12, 31)),
    "long day": (pa.date64(), pa.timestamp("s"), date(2026, 1, 2)),
    "moment": (pa.timestamp("ms", "UTC"), pa.timestamp("ns", "UTC"), datetime(1969, 12, 31, 23, 59, 59, 500_000, UTC)),
    "within": (pa.struct({"a": pa.int64()}), pa.struct({"a": pa.float64()}), {"a": 10**12}),
}


@pytest.mark.parametrize("name", GROWN)
def test_a_row_is_known_in_a_column_that_grew(name):
    before, after, value = GROWN[name]
    array = pa.array([value], before)
    [plain] = pa.array([value], before).to_pylist()
    grown = pa.array([plain], after) if pa.types.is_nested(before) else array.cast(after)
    assert versions([value], before) == content_versions(pa.record_batch({"x": grown}), ["x"]).to_pylist()


@pytest.mark.parametrize("name", ["struct", "struct within", "list", "map"])
def test_a_row_that_was_stored_before_is_known_in_a_struct_that_grew_since(name):
    before, after, value = GROWN[name]
    forms = former_forms(Table("t", pa.schema({"x": before})))
    assert versions([value], before, forms) == versions([value], after, forms)


def test_a_field_that_has_a_value_is_another_row():
    found = [versions([one], AB)[0] for one in ({"a": 1}, {"a": 1, "b": 0.5}, {"b": 1.0}, {}, None)]
    assert len(set(found)) == len(found)
    times = [
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=one) for one in (-1, 1, 0, 10, 1_000_001, -1_000_001)
    ]
    assert len(set(versions(times, pa.timestamp("us", "UTC")))) == len(times)
    numbers = [0.1, 1.0, -1.0, 2.0**63, 1e300, float("nan"), float("inf"), float("-inf"), 10.0, 100.0]
    assert len(set(versions(numbers, pa.float64()))) == len(numbers)


def test_two_fields_of_one_name_both_count():
    arrays = [
        pa.StructArray.from_arrays([pa.array([1]), pa.array([two])], fields=[pa.field("a", pa.int64())] * 2)
        for two in (1, 2)
    ]
    assert len({content_versions(pa.record_batch({"x": one}), ["x"])[0].as_py() for one in arrays}) == 2
