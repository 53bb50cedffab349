"""Columns of files drift: a table goes on by itself, its rows stay what they were, and a full refresh says the same."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest


@pytest.fixture(params=["duckdb", "sqlite"])
def lake(request, tmp_path, command, monkeypatch):
    """Quiet files of one table; a sync of them in overwrite mode; what is stored then."""
    monkeypatch.chdir(tmp_path)
    place = f"d.{request.param}"
    settings = {"path": "in", "table": "t", "primary_key": ["id"]}
    source = {"name": "s", "path": "files", "tables": ["*"], "destinations": ["d"], "spec": settings}
    warehouse = {"name": "d", "path": request.param, "write_mode": "overwrite", "spec": {"path": place}}
    documents = [{"kind": "source", "spec": source}, {"kind": "destination", "spec": warehouse}]
    Path("strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))
    Path("in").mkdir()

    def run(*arguments, columns, code=0, **files):
        for name, content in files.items():
            path = Path("in") / name
            path.write_text(content)
            os.utime(path, (1_700_000_000, 1_700_000_000))
        command("sync", *arguments, code=code)
        connect = duckdb.connect if request.param == "duckdb" else sqlite3.connect
        with closing(connect(place)) as connection:
            return connection.execute(f"SELECT {columns} FROM t ORDER BY id").fetchall()

    return run


def test_what_is_stored_as_text_comes_as_the_same_text_after_a_full_refresh(lake):
    columns = 'id, b, "at", n, x'
    assert lake(columns=columns, **{"1.csv": "id,b,at,n,x\n1,abc,abc,abc,abc\n"}) == [(1, "abc", "abc", "abc", "abc")]
    Path("in/1.csv").unlink()
    later = {"2.csv": "id,b,at,n,x\n2,true,2024-01-01 10:00:00,7,0.00001\n3,false,,-0.5,1e300\n"}
    synced = lake(columns=columns, **later)
    assert synced[0] == (1, "abc", "abc", "abc", "abc")
    assert [row[1] for row in synced[1:]] == ["true", "false"]
    assert lake("--full-refresh", "t", "--allow-mass-delete", columns=columns) == synced[1:]


def test_fractions_come_after_whole_numbers_also_in_a_key(lake):
    assert lake(columns="id, n", **{"1.jsonl": '{"id":1,"n":10}\n'}) == [(1, 10)]
    later = {"2.jsonl": '{"id":2,"n":10.5}\n'}
    assert lake(columns="id, n", **later) == [(1, 10.0), (2, 10.5)]
    assert lake("--full-refresh", "t", columns="id, n") == [(1, 10.0), (2, 10.5)]


def test_a_column_of_the_name_that_a_rebuilt_one_has_meanwhile_stays(lake):
    name = "n of another type"
    first = {"1.jsonl": json.dumps({"id": 1, "n": 10, name: "x"}) + "\n"}
    assert lake(columns=f'id, n, "{name}"', **first) == [(1, 10, "x")]
    later = {"2.jsonl": json.dumps({"id": 2, "n": 0.5, name: "y"}) + "\n"}
    assert lake(columns=f'id, n, "{name}"', **later) == [(1, 10.0, "x"), (2, 0.5, "y")]


def test_a_new_field_of_a_struct_is_null_where_it_was_not(lake):
    lake(columns="id, s", **{"1.jsonl": '{"id":1,"s":{"a":1}}\n'})
    rows = lake(columns="id, s", **{"2.jsonl": '{"id":2,"s":{"a":2,"b":{"c":"x"}}}\n'})
    values = [json.loads(value) if isinstance(value, str) else value for _, value in rows]
    assert [(value["a"], (value.get("b") or {}).get("c")) for value in values] == [(1, None), (2, "x")]
