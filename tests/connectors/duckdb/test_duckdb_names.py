"""Columns that are called like what our SQL calls its tables: DuckDB would take ``t.id`` for a field of a struct ``t``."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from strandline.connectors.duckdb.destination import DuckDBDestination
from strandline.destination import WriteMode
from strandline.message import Complete, Delete, Present
from strandline.table import SOURCE_NAME, SYNC_TIME, Table, sync_time_type
from strandline.testing.destination_fixtures import orders
from strandline.testing.windows import Lineage

ALIASES = ["c", "d", "f", "r", "s", "t", "T"]
"""What our SQL calls tables; to DuckDB, T is t."""


@pytest.fixture
def lineage(tmp_path: Path) -> Iterator[Lineage]:
    destination = DuckDBDestination(DuckDBDestination.Spec(path=str(tmp_path / "warehouse.duckdb")))
    yield Lineage(destination)
    destination.close()


def table_with(name: str) -> Table:
    fields = pa.struct([("id", pa.int64()), ("version", pa.int64())])
    schema = pa.schema([("id", pa.int64()), ("n", pa.int64()), (name, fields)])
    schema = schema.append(pa.field(SYNC_TIME, sync_time_type())).append(pa.field(SOURCE_NAME, pa.string()))
    return Table("rows", schema, ("id",), incremental=True)


def fields(count: int) -> list[dict[str, int]]:
    return [{"id": 99, "version": 99}] * count


def stored(lineage: Lineage, table: Table) -> list[tuple[int, int]]:
    rows = [row for batch in lineage.read(table) for row in batch.to_pylist()]
    return sorted((row["id"], row["n"]) for row in rows)


@pytest.mark.parametrize("name", ALIASES)
def test_rows_are_overwritten_and_deleted_by_their_own_keys(lineage: Lineage, name: str) -> None:
    table = table_with(name)
    lineage.migrate(table)
    lineage.write(lineage.insert(table, {"id": [1, 2, 3], "n": [0, 0, 0], name: fields(3)}))
    lineage.write(lineage.insert(table, {"id": [2, 4], "n": [1, 1], name: fields(2)}))
    assert stored(lineage, table) == [(1, 0), (2, 1), (3, 0), (4, 1)]
    deleted = Delete("rows", pa.record_batch({"id": [1]}))
    lineage.write(deleted, lineage.insert(table, {"id": [3], "n": [2], name: fields(1)}))
    assert stored(lineage, table) == [(2, 1), (3, 2), (4, 1)]


@pytest.mark.parametrize("name", ALIASES)
def test_a_sweep_knows_which_keys_are_lacking(lineage: Lineage, name: str) -> None:
    table = table_with(name)
    lineage.migrate(table)
    lineage.write(lineage.insert(table, {"id": [1, 2], "n": [0, 0], name: fields(2)}))
    receipt = lineage.write(Present("rows", pa.record_batch({"id": [2, 3]})), Complete("rows"))
    assert stored(lineage, table) == [(2, 0)]
    assert receipt.lacking == {"rows": (1,)}


@pytest.mark.parametrize("name", ALIASES)
def test_a_key_may_be_called_so_too(lineage: Lineage, name: str) -> None:
    table = orders("rows", **{name: pa.string()})
    table = replace(table, primary_key=("id", name))
    lineage.migrate(table)
    for ids in ([1, 2], [2, 3]):
        lineage.write(lineage.insert(table, {"id": ids, name: ["x"] * 2}))
    gone = pa.record_batch({"id": [1], name: ["x"]})
    lineage.write(Delete("rows", gone), lineage.insert(table, {"id": [4], name: ["x"]}))
    assert sorted(row["id"] for batch in lineage.read(table) for row in batch.to_pylist()) == [2, 3, 4]


@pytest.mark.parametrize("name", ALIASES)
def test_rows_that_come_again_are_appended_once(lineage: Lineage, name: str) -> None:
    table = replace(table_with(name), primary_key=())
    lineage.mode = WriteMode.APPEND
    lineage.migrate(table)
    for _ in range(2):
        lineage.write(lineage.insert(table, {"id": [1, 2], "n": [0, 0], name: fields(2)}, reread=True))
        lineage.next_pass()
    assert stored(lineage, table) == [(1, 0), (2, 0)]
