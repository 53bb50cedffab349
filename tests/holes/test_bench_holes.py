"""`make holes` judges by what is stored: a copier that loses rows, as a plain cursor does, is found out by its scenarios."""

import csv
import importlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def holes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    importlib.import_module("holes.files")
    return importlib.import_module("holes.lab"), importlib.import_module("holes.scenarios")


class Naive:
    """Remembers the largest stamp that it saw, and asks for larger ones."""

    slug = name = "naive"
    seen = ""

    def relation(self, table):
        return f'"{table}"'

    def copy(self, lab):
        with closing(sqlite3.connect(lab.origin.path)) as connection:
            rows = connection.execute("SELECT id, at, v FROM t WHERE at > ? ORDER BY at", (self.seen,)).fetchall()
        with lab.store.reader() as do:
            do("CREATE TABLE IF NOT EXISTS t (id BIGINT, v VARCHAR)")
            for number, at, v in rows:
                if lab.mode == "overwrite":
                    do(f"DELETE FROM t WHERE id = {number}")
                do(f"INSERT INTO t VALUES ({number}, '{v}')")
                self.seen = at


@pytest.mark.parametrize(
    ("letter", "mode", "found"),
    [
        ("B", "overwrite", "LOST 1"),
        ("C", "overwrite", "stale 1"),
        ("C", "append", "stale 1"),
        ("D", "append", "LOST 2"),
        ("E", "overwrite", "LOST 2"),
        ("F", "overwrite", "not deleted 2"),
        ("J", "append", "ok"),
        ("K", "overwrite", "LOST 1, stale 1"),
    ],
)
def test_a_copier_that_loses_rows_is_found_out(holes, tmp_path, letter, mode, found):
    labs, scenarios = holes
    lab = labs.make_lab(tmp_path / "lab", mode, Naive(), "sqlite", "duckdb", None)
    lab.sync = lambda **_: lab.tool.copy(lab)
    one = next(one for one in scenarios.ALL if one.letter == letter)
    assert one.run(lab).text == found


def csv_rows(path):
    with path.open() as file:
        return [row for row in list(csv.reader(file))[1:] if len(row) == 2]


def json_rows(path):
    lines = path.read_text().splitlines()
    return [json.loads(line).values() for line in lines if line.startswith("{") and line.endswith("}")]


class Careless(Naive):
    """Passes over what it cannot read, and believes the rest."""

    def copy(self, lab):
        readers = {"csv": csv_rows, "jsonl": json_rows, "json": json_rows}
        with lab.store.reader() as do:
            do("CREATE OR REPLACE TABLE t (id BIGINT, v VARCHAR)")
            for path in sorted((lab.origin.path / "t").iterdir()):
                if path.suffix == ".parquet":
                    rows = [row.values() for row in pq.ParquetFile(path).read().to_pylist()]
                else:
                    rows = readers[path.suffix[1:]](path)
                if values := ", ".join(f"({number}, '{v}')" for number, v in rows):
                    do(f"INSERT INTO t VALUES {values}")


@pytest.mark.parametrize(
    ("letter", "found"),
    [
        ("V1", "LOST 1"),
        ("V2", "LOST 1"),
        ("V3", "LOST 1"),
        ("V4", "LOST 2"),
        ("W1", "ok"),
        ("W2", "LOST 2, stale 1"),
        ("W3", "LOST 1"),
        ("AC1", "stale 1"),
        ("AC2", "LOST 10"),
    ],
)
def test_a_copier_that_leaves_out_what_it_cannot_read_is_found_out(holes, tmp_path, letter, found):
    labs, scenarios = holes
    lab = labs.make_lab(tmp_path / "lab", "overwrite", Careless(), "files", "duckdb", None)

    def sync(**_):
        lab.tool.copy(lab)
        return labs.Outcome(0, "")

    lab.sync = sync
    one = next(one for one in scenarios.ALL if one.letter == letter)
    assert one.run(lab).text == found


@pytest.mark.parametrize("letter", ["V1", "V2", "V3", "V4", "W1", "W2", "W3", "AC1", "AC2", "AC3"])
def test_a_program_that_reads_no_file_at_all_does_not_pass(holes, tmp_path, letter):
    labs, scenarios = holes
    lab = labs.make_lab(tmp_path / "lab", "overwrite", labs.Strandline(), "files", "duckdb", None)
    lab.start, lab.end = lambda **_: None, lambda _: labs.Outcome(1, "an error")
    one = next(one for one in scenarios.ALL if one.letter == letter)
    with pytest.raises(labs.StoppedError):
        one.run(lab)


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ([(1, "a"), (2, "b")], "ok"),
        ([(1, "a")], "LOST 1"),
        ([(1, "a"), (2, "old")], "stale 1"),
        ([(1, "a"), (2, "b"), (2, "b"), (2, "b")], "duplicates 2"),
        ([(1, "a"), (2, "b"), (2, "old")], "duplicates 1"),
        ([(1, "a"), (2, "b"), (3, "c")], "not deleted 1"),
        ([], "LOST 2"),
    ],
)
def test_what_differs_is_counted(holes, stored, found):
    labs, _ = holes
    assert labs.compare([(1, "a"), (2, "b")], stored) == found
