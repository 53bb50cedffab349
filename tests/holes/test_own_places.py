"""A source is never written into what it reads: not its file, not a prefix in it, not a directory below its files."""

import sqlite3
from contextlib import closing

import pytest

from strandline.connectors.files.source import FilesSource
from strandline.connectors.sqlite.source import SQLiteSource
from strandline.place import file_places


@pytest.fixture
def shop(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    return SQLiteSource(SQLiteSource.Spec(path=str(tmp_path / "shop.db")))


@pytest.mark.parametrize("bench", [("sqlite", "sqlite", "overwrite-delete-stale")], indirect=True)
@pytest.mark.parametrize("schema", ["main", "crm"])
def test_the_tables_of_the_source_file_are_not_altered(bench, sync, schema):
    bench.origin.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    bench.store.spec["spec"] |= {"path": bench.origin.spec["spec"]["path"], "schema": schema}
    before = bench.directory.joinpath("shop.db").read_bytes() if bench.directory.joinpath("shop.db").exists() else None
    for command in ("plan", "sync", "migrate"):
        assert bench.run(command) == 2
    assert "same database" in sync(code=2).text
    assert before is None or bench.directory.joinpath("shop.db").read_bytes() == before


def test_a_link_to_the_file_is_the_file(shop, tmp_path):
    (tmp_path / "link.db").hardlink_to(tmp_path / "shop.db")
    (tmp_path / "soft.db").symlink_to(tmp_path / "shop.db")
    for name in ("link.db", "soft.db"):
        assert set(shop.places()) & set(file_places(tmp_path / name))
        assert shop.reaches([f"{one} crm_" for one in file_places(tmp_path / name)])


def test_another_file_is_another_place(shop, tmp_path):
    for name in ("shop.db2", "other.db", "shop.db_"):
        assert not shop.reaches(file_places(tmp_path / name))
        assert not set(shop.places()) & set(file_places(tmp_path / name))


@pytest.mark.parametrize(
    ("path", "destination", "reached"),
    [
        ("data", "data", True),
        ("data", "data/lake", True),
        ("data", "data/_lake", False),
        ("data", "data/warehouse.duckdb", True),  # it would be a file of an unknown format
        ("data", "lake", False),
        ("data/*.csv", "data", False),
        ("data/*.csv", "data/lake", False),
        ("data/*.csv", "data/warehouse.duckdb", False),
        ("data/**/*.csv", "data/warehouse.duckdb", False),
        ("data/**/*.csv", "data/lake", True),
        ("data/*/*.csv", "data", True),
        ("data/*/*/*.csv", "data/lake", True),
        ("data/a.csv", "data/lake", False),
    ],
)
def test_files_are_not_read_that_a_sync_has_written(tmp_path, path, destination, reached):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("id\n1\n")
    source = FilesSource(FilesSource.Spec(path=str(tmp_path / path)))
    assert source.reaches(file_places(tmp_path / destination)) == reached
