"""`make holes` judges by what is stored: a copier that loses rows, as a plain cursor does, is found out by its scenarios."""

import importlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def holes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
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
