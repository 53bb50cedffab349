"""Files that come late: the newest version of a row stays, whatever file it is in and whichever sync brings it."""

import json
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest


@pytest.fixture(params=["duckdb", "sqlite"])
def lake(request, command):
    """Quiet files of one table, ordered by ``at``; a sync of them; what is stored then."""
    place = f"d.{request.param}"
    Path("in").mkdir()

    def spec(mode="overwrite", **settings):
        settings = {"path": "in", "table": "t", "primary_key": ["id"], "incremental_key": "at"} | settings
        source = {"name": "s", "path": "files", "tables": ["*"], "destinations": ["d"], "spec": settings}
        store = {"path": place, "batch_size": 3}
        warehouse = {"name": "d", "path": request.param, "write_mode": mode, "spec": store}
        documents = [{"kind": kind, "spec": one} for kind, one in (("source", source), ("destination", warehouse))]
        Path("strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))

    def run(*arguments, code=0, **files):
        for name, content in files.items():
            path = Path("in") / name
            path.write_text(content)
            os.utime(path, (1_700_000_000, 1_700_000_000))
        command("sync", *arguments, code=code)
        connect = duckdb.connect if request.param == "duckdb" else sqlite3.connect
        with closing(connect(place)) as connection:
            return connection.execute('SELECT id, "at", v FROM t ORDER BY id').fetchall()

    run.spec, run.command = spec, command
    spec()
    return run


def test_a_late_older_file_replaces_no_newer_row(lake):
    assert lake(**{"b.csv": "id,at,v\n1,20,new\n2,20,new\n"}) == [(1, 20, "new"), (2, 20, "new")]
    late = {"a.csv": "id,at,v\n1,10,late\n3,10,late\n", "z.csv": "id,at,v\n2,19,late\n3,9,late\n"}
    assert lake(**late) == [(1, 20, "new"), (2, 20, "new"), (3, 10, "late")]


def test_a_null_loses_and_of_equal_values_the_file_that_comes_last_wins(lake):
    files = {
        "1.csv": "id,at,v\n1,5,a\n2,5,a\n3,,a\n",
        "2.csv": "id,at,v\n1,,b\n2,5,b\n3,,b\n",
        "10.csv": "id,at,v\n2,5,c\n",
    }
    expected = [(1, 5, "a"), (2, 5, "c"), (3, None, "b")]
    assert lake(**files) == expected
    assert lake(**{"11.csv": "id,at,v\n1,,d\n3,,d\n"}) == [*expected[:2], (3, None, "d")]


def test_rows_that_grow_and_files_that_are_replaced_follow_the_same_order(lake):
    lake(**{"1.csv": "id,at,v\n1,5,a\n"})
    assert lake(**{"1.csv": "id,at,v\n1,5,a\n1,4,b\n2,1,b\n"}) == [(1, 5, "a"), (2, 1, "b")]
    assert lake(**{"1.csv": "id,at,v\n1,3,c\n2,2,c\n"}) == [(1, 5, "a"), (2, 2, "c")]


def test_a_full_refresh_has_the_newest_of_the_files_that_are_there(lake):
    lake(**{"1.csv": "id,at,v\n1,9,gone\n2,9,a\n", "2.csv": "id,at,v\n1,5,b\n1,4,b\n2,5,b\n"})
    Path("in/1.csv").unlink()
    assert lake() == [(1, 9, "gone"), (2, 9, "a")]
    assert lake("--full-refresh", "t", "--allow-mass-delete") == [(1, 5, "b"), (2, 5, "b")]


@pytest.mark.parametrize("mode", ["overwrite", "overwrite-delete-stale"])
@pytest.mark.parametrize("seed", range(2))
def test_it_is_the_greatest_value_whatever_comes_when(lake, mode, seed):
    lake.spec(mode)
    chance, newest, contents = random.Random(seed), {}, {}

    def merged(into, rows):
        for key, at, v in rows:
            if key not in into or (at or 0) >= (into[key][1] or 0):
                into[key] = key, at, v

    number = 0
    for _ in range(5):
        files = {}
        for _ in range(chance.randint(1, 4)):
            number += 1
            rows = [
                (chance.randint(1, 9), chance.choice([None, *range(1, 12)]), f"{number}-{place}")
                for place in range(chance.randint(1, 8))
            ]
            files[f"{number}.csv"] = "".join(
                ["id,at,v\n", *(f"{key},{'' if at is None else at},{v}\n" for key, at, v in rows)]
            )
            contents[f"{number}.csv"] = rows
            merged(newest, rows)
        assert lake(**files) == sorted(newest.values())
    for name in chance.sample(sorted(contents), len(contents) // 2):
        Path("in", name).unlink()
        del contents[name]
    left = {}
    for name in sorted(contents, key=lambda name: int(name.split(".")[0])):
        merged(left, contents[name])
    lake.command("state", "reset", "--yes", "s", "t")
    if mode == "overwrite":
        merged(newest, left.values())
        assert lake() == sorted(newest.values())
    else:
        assert lake("--allow-mass-delete") == sorted(left.values())


def test_a_state_without_the_order_is_not_gone_on_from(lake):
    lake.spec(incremental_key=None)
    lake(**{"1.csv": "id,at,v\n1,9,a\n", "2.csv": "id,at,v\n1,5,b\n"})
    lake.spec()
    assert "incremental_key was none" in lake.command("sync", code=3).text
    assert lake("--full-refresh", "t") == [(1, 9, "a")]


def test_a_column_that_has_no_order_fails_its_table_by_name(lake):
    Path("in/1.jsonl").write_text('{"id":1,"at":[1]}\n')
    said = lake.command("sync", code=1).text
    assert "'at', its incremental_key, is list" in said
    lake.spec(incremental_key="nowhere")
    assert "'nowhere', its incremental_key, is not there" in lake.command("sync", code=1).text
