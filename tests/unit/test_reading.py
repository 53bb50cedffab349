"""What a reading does for sources of APIs: batches within bounds, calls in threads, signs of life."""

import threading
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline.errors import RetryableError, TaskError
from strandline.reading import Reading

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema({"id": pa.int64(), "name": pa.string(), "tags": pa.list_(pa.string())})


def reading(**more):
    return Reading(None, NOW, **more)


# batches ---------------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.fixed_dictionaries({"id": st.integers(-(2**63), 2**63 - 1)}, optional={"name": st.text()}), max_size=400
    ),
    st.integers(1, 200),
    st.integers(1, 4000),
)
def test_rows_come_in_their_order_in_batches_within_the_bounds(rows, batch_rows, batch_bytes):
    batches = list(reading(batch_rows=batch_rows, batch_bytes=batch_bytes).batches(iter(rows), SCHEMA))
    for batch in batches:
        assert batch.schema == SCHEMA
        assert 0 < batch.num_rows <= batch_rows
        assert batch.num_rows == 1 or batch.nbytes <= batch_bytes
    found = [row for batch in batches for row in batch.to_pylist()]
    assert found == [{"id": row["id"], "name": row.get("name"), "tags": None} for row in rows]


def test_few_rows_are_taken_ahead_before_their_size_is_known():
    taken = []

    def rows():
        for number in range(100_000):
            taken.append(number)
            yield {"id": number, "name": "x" * 10_000}

    first = next(reading(batch_bytes=100_000).batches(rows(), SCHEMA))
    assert first.nbytes <= 100_000
    assert len(taken) <= 64


def test_many_small_rows_come_in_few_batches():
    assert len(list(reading().batches(({"id": number} for number in range(100_000)), SCHEMA))) < 10


def test_a_column_that_the_table_does_not_have_is_not_left_out_in_silence():
    with pytest.raises(TaskError, match="'price', 'sku', which its table does not have"):
        list(reading().batches([{"id": 1}, {"id": 2, "sku": 3, "price": 4}], SCHEMA))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *(("1", pa.int64()), (1.5, pa.int64()), (2**63, pa.int64()), (2**53 + 1, pa.float64()), (1, pa.string())),
        *((Decimal("0.125"), pa.decimal128(10, 2)), ({"a": 1}, pa.string()), (1, pa.bool_())),
        *((NOW.replace(hour=5), pa.date32()), (NOW.replace(microsecond=7), pa.timestamp("s", "UTC"))),
        (NOW.replace(microsecond=7), pa.timestamp("ms", "UTC")),
    ],
)
def test_a_value_that_does_not_fit_is_neither_cut_nor_rounded(value, kind):
    with pytest.raises(TaskError, match="column 'v'"):
        list(reading().batches([{"v": None}, {"v": value}], pa.schema({"v": kind})))


# each ------------------------------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_values_whoever_is_ready_first():
    second = threading.Event()

    def fn(value):
        if value == 0:
            assert second.wait(20)
        if value == 1:
            second.set()
        return value * 10

    assert list(reading().each(fn, range(6), at_once=2)) == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_calls_than_asked_are_going_on_or_wait_to_be_taken(at_once):
    begun, lock, going, most = [], threading.Lock(), [0], [0]

    def fn(value):
        with lock:
            begun.append(value)
            going[0] += 1
            most[0] = max(most[0], going[0])
        threading.Event().wait(0.01)
        with lock:
            going[0] -= 1
        return value

    for taken, result in enumerate(reading().each(fn, range(12), at_once=at_once)):
        assert result == taken
        assert len(begun) <= taken + at_once
    assert most[0] <= at_once
    assert sorted(begun) == list(range(12))


def test_an_error_is_raised_in_its_turn():
    def fn(value):
        if value == 2:
            raise RetryableError("429", after_s=3)
        return value

    results = reading().each(fn, range(6), at_once=6)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RetryableError) as caught:
        next(results)
    assert caught.value.after_s == 3


def test_leaving_waits_for_the_calls_that_are_going_on():
    ended = []

    def fn(value):
        threading.Event().wait(0.05)
        ended.append(value)

    results = reading().each(fn, range(100), at_once=3)
    next(results)
    results.close()
    assert sorted(ended) == [0, 1, 2]


def test_closing_the_reading_ends_a_wait_and_begins_no_other_call():
    one, begun, release = reading(), [], threading.Event()

    def fn(value):
        begun.append(value)
        one.close()
        release.wait(0.5)

    with pytest.raises(TaskError, match="closed"):
        list(one.each(fn, range(10), at_once=1))
    assert begun == [0]


# signs of life -----------------------------------------------------------------------------------------------------------


def test_a_sign_of_life_is_heard_until_the_reading_is_closed():
    heard = []
    one = reading(on_alive=lambda: heard.append(1))
    one.alive()
    one.close()
    one.close()
    with pytest.raises(TaskError, match="closed"):
        one.alive()
    assert heard == [1]
