"""The comparison of rows that all suites rest upon: what differs is different."""

import pyarrow as pa
import pytest

from strandline.table import Table
from strandline.testing.exact import assert_same_rows

DIFFERENT = [
    ([0.0], [-0.0], pa.float64()),
    ([float("nan")], [None], pa.float64()),
    ([""], [None], pa.string()),
    (["a"], ["a "], pa.string()),
    (["\u00e9"], ["e\u0301"], pa.string()),
    ([[]], [None], pa.list_(pa.int32())),
    ([[None]], [[]], pa.list_(pa.int32())),
    ([{"a": None}], [None], pa.struct([("a", pa.int32())])),
    ([[("a", 1), ("b", 2)]], [[("b", 2), ("a", 1)]], pa.map_(pa.string(), pa.int32())),
    ([1], [1, 1], pa.int64()),
    ([1, 2], [1], pa.int64()),
    ([1, 1, 2], [1, 2, 2], pa.int64()),
]


def table_of(kind: pa.DataType) -> Table:
    return Table("t", pa.schema([("value", kind)]))


def rows_of(values: pa.Array) -> list[pa.RecordBatch]:
    return [pa.record_batch([values], ["value"])]


@pytest.mark.parametrize(("expected", "actual", "kind"), DIFFERENT)
def test_different_rows_are_different(expected, actual, kind):
    first, second = pa.array(expected, kind), pa.array(actual, kind)
    assert_same_rows(rows_of(first), rows_of(first), table_of(kind))
    with pytest.raises(AssertionError):
        assert_same_rows(rows_of(first), rows_of(second), table_of(kind))
    with pytest.raises(AssertionError):
        assert_same_rows(rows_of(second), rows_of(first), table_of(kind))


def test_a_nanosecond_is_a_difference():
    kind = pa.timestamp("ns", "UTC")
    first, second = (pa.array([value], pa.int64()).view(kind) for value in (2**60, 2**60 + 1))
    with pytest.raises(AssertionError):
        assert_same_rows(rows_of(first), rows_of(second), table_of(kind))


def test_another_type_is_a_difference():
    values = pa.array([1], pa.int32())
    with pytest.raises(AssertionError):
        assert_same_rows(rows_of(values), rows_of(values.cast(pa.int64())), table_of(pa.int32()))


def test_the_order_of_rows_is_none():
    first, second = pa.array([1, None, 2]), pa.array([2, 1, None])
    assert_same_rows(rows_of(first), rows_of(second), table_of(pa.int64()))
