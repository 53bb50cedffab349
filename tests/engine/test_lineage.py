from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from strandline.destination import WriteMode
from strandline.engine.lineage import Decorator, stored_table
from strandline.errors import TaskError
from strandline.message import Insert
from strandline.table import CQ_ID, Table


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
    kept.stored["t"] = kept.stored["t"].keeping({"x": pa.string(), "y": pa.string()})
    rows = Insert("t", pa.record_batch({"x": [1, None], "y": [10.5, 2.0]}))
    out = kept.insert(rows)
    assert out.batch.select(["x", "y"]).to_pylist() == [{"x": "1", "y": "10.5"}, {"x": None, "y": "2"}]
    assert out.version.equals(plain.insert(rows).version)
