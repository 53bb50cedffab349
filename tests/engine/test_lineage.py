import decimal
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline.destination import WriteMode
from strandline.engine.lineage import Decorator, content_versions, stored_table
from strandline.errors import TaskError
from strandline.message import Insert
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


def versions(values: list, kind: pa.DataType) -> list:
    batch = pa.record_batch({"x": pa.array(values, kind)})
    return content_versions(batch, ["x"]).to_pylist()


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


def _decorator(table: Table, mode: WriteMode, partition: str | None = None) -> Decorator:
    stored = stored_table(table, mode=mode, partitioned=partition is not None)
    moment = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp() * 1e6)
    return Decorator("shop", partition, moment, mode, {table.name: table}, {table.name: stored})


def test_rows_carry_the_time_of_their_pass_and_the_name_of_their_source():
    table = Table("t", pa.schema({"id": pa.int64()}), ("id",))
    out = _decorator(table, WriteMode.OVERWRITE, "eu").insert(Insert("t", pa.record_batch({"id": [1, 2]}))).batch
    assert out.schema.names == ["_cq_sync_time", "_cq_source_name", "_cq_client_id", "id"]
    assert out.column(0).to_pylist() == [datetime(2026, 1, 2, tzinfo=UTC)] * 2
    assert out.column(1).to_pylist() == ["shop"] * 2
    assert out.column(2).to_pylist() == ["eu"] * 2


def test_a_table_without_a_primary_key_gets_an_id_and_its_rows_a_version():
    table = Table("t", pa.schema({"x": pa.int64()}))
    assert stored_table(table, mode=WriteMode.OVERWRITE, partitioned=False).primary_key == (CQ_ID,)
    out = _decorator(table, WriteMode.OVERWRITE).insert(Insert("t", pa.record_batch({"x": [1, 1, 2]})))
    assert out.version is not None
    assert pc.count_distinct(out.version).as_py() == 2


def test_only_what_is_read_again_needs_a_version_when_appending():
    table = Table("t", pa.schema({"id": pa.int64()}), ("id",))
    decorator, batch = _decorator(table, WriteMode.APPEND), pa.record_batch({"id": [1]})
    assert decorator.insert(Insert("t", batch)).version is None
    assert decorator.insert(Insert("t", batch, reread=True)).version is not None


@pytest.mark.parametrize(
    "batch",
    [pa.record_batch({"y": [1]}), pa.record_batch({"x": ["1"]}), pa.record_batch({"x": pa.array([1], "int32")})],
)
def test_a_batch_that_does_not_fit_its_table_is_refused(batch):
    table = Table("t", pa.schema({"x": pa.int64()}), ("x",))
    with pytest.raises(TaskError, match="t"):
        _decorator(table, WriteMode.OVERWRITE).insert(Insert("t", batch))


def test_values_of_a_column_that_is_stored_as_text_come_as_text_and_keep_their_version():
    table = Table("t", pa.schema({"x": pa.int64(), "y": pa.float64()}))
    plain, kept = (_decorator(table, WriteMode.OVERWRITE) for _ in range(2))
    kept.stored["t"] = kept.stored["t"].keeping(["x", "y"])
    rows = Insert("t", pa.record_batch({"x": [1, None], "y": [10.5, 2.0]}))
    out = kept.insert(rows)
    assert out.batch.select(["x", "y"]).to_pylist() == [{"x": "1", "y": "10.5"}, {"x": None, "y": "2"}]
    assert out.version.equals(plain.insert(rows).version)
