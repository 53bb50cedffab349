"""A project of version 0.1, which knew neither owners nor fingerprints: its tables are ours, and its cursors go on.

``fixtures/warehouse-0.1.tar.xz`` is a directory after two syncs by version 0.1: the databases `shop.db` and `branch.db`, a
spec, local states, and four warehouses: DuckDB, SQLite, files, and a DuckDB file whose table two sources share.
"""

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow.dataset as ds
import pytest

ARCHIVE = Path(__file__).with_name("fixtures") / "warehouse-0.1.tar.xz"
STORED = {
    "duck": lambda: duckdb.connect("duck.duckdb").sql("SELECT id FROM orders").fetchall(),
    "lite": lambda: sqlite3.connect("lite.sqlite").execute("SELECT id FROM orders").fetchall(),
    "lake": lambda: [(one,) for one in ds.dataset("lake/orders", format="parquet").to_table()["id"].to_pylist()],
}


@pytest.fixture
def project(tmp_path, command):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return command


def shop(*statements):
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def tasks(path):
    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [task for record in records for task in record["tasks"]]


def test_a_warehouse_goes_on_without_reading_again(project):
    shop("INSERT INTO orders VALUES (22, '2026-01-04 00:00:00', 'n22')")
    project("sync", "--summary-location", "first.jsonl")
    project("sync", "--summary-location", "second.jsonl")
    for name, stored in STORED.items():
        assert sorted(stored()) == [(number,) for number in range(1, 23)], name
    for path in ("first.jsonl", "second.jsonl"):
        read = {(one["source"], one["task"], one["destination"]): one["rows_read"] for one in tasks(path)}
        assert (
            max(rows for (_, task, _), rows in read.items() if task == "orders") <= 2
        )  # the last row, and the new one


def test_a_table_that_two_sources_shared_goes_on_with_a_warning(project):
    shop("INSERT INTO orders VALUES (22, '2026-01-04 00:00:00', 'n22')")
    for _ in range(2):
        said = project("sync").text
        assert "written by source 'head' into 'both', too" in said
        assert "written by source 'branch' into 'both', too" in said
    rows = duckdb.connect("both.duckdb").sql("SELECT id, _cq_source_name FROM orders ORDER BY id").fetchall()
    assert rows == [*((number, "head") for number in range(1, 23)), *((number, "branch") for number in range(101, 106))]


@pytest.mark.parametrize("name", ["duck", "lite", "lake"])
def test_a_table_of_0_1_is_not_another_sources_to_write(project, name):
    before = sorted(STORED[name]())
    spec = {
        "kind": "source",
        "spec": {
            "name": "another",
            "path": "sqlite",
            "tables": ["orders"],
            "destinations": [name],
            "spec": {"path": "branch.db"},
        },
    }
    text = Path("strandline.yml").read_text()
    alone = next(part for part in text.split("---\n") if f"name: {name}," in part)
    Path("another.yml").write_text(json.dumps(spec) + "\n---\n" + alone)
    for command in ("plan", "sync", "migrate"):
        said = project(command, "another.yml", code=3).text  # a source with a new name, for all it knows
        assert "source 'shop'" in said
        assert "hint:" in said
    assert sorted(STORED[name]()) == before
