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
    spec(request.param)
    Path("in").mkdir()

    def run(*arguments, columns, code=0, **files):
        for name, content in files.items():
            path = Path("in") / name
            path.write_text(content)
            os.utime(path, (1_700_000_000, 1_700_000_000))
        run.said = command("sync", *arguments, code=code).text
        connect = duckdb.connect if request.param == "duckdb" else sqlite3.connect
        with closing(connect(place)) as connection:
            return connection.execute(f"SELECT {columns} FROM t ORDER BY id").fetchall()

    run.kind, run.command = request.param, command
    return run


def spec(kind, key=("id",), **types):
    settings = {"path": "in", "table": "t", "primary_key": list(key), "types": types}
    source = {"name": "s", "path": "files", "tables": ["*"], "destinations": ["d"], "spec": settings}
    store = {"name": "d", "path": kind, "write_mode": "overwrite", "spec": {"path": f"d.{kind}"}}
    documents = [{"kind": "source", "spec": source}, {"kind": "destination", "spec": store}]
    Path("strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))


def test_what_is_stored_as_text_takes_the_plain_type_at_a_full_refresh(lake):
    columns = 'id, CAST(b AS integer), substr(CAST("at" AS varchar), 1, 19), n, x'
    first = {"1.csv": "id,b,at,n,x\n1,abc,abc,abc,abc\n"}
    assert lake(columns='id, b, "at", n, x', **first) == [(1, "abc", "abc", "abc", "abc")]
    later = {"2.csv": "id,b,at,n,x\n2,true,2024-01-01 10:00:00,7,0.00001\n3,false,,-0.5,1e300\n"}
    later |= {"1.csv": "id,b,at,n,x\n2,true,2024-01-01 10:00:00,7,0.00001\n"}
    synced = lake(columns='id, b, "at", n, x', **later)
    assert synced[0] == (1, "abc", "abc", "abc", "abc")
    assert [row[1] for row in synced[1:]] == ["true", "false"]
    planned = lake.command("plan", "-v", "--full-refresh", "t").text
    assert "change_column" in planned
    assert planned.count("will be altered by the full refresh") == 4
    refreshed = lake("--full-refresh", "t", columns=columns)
    assert refreshed == [(2, 1, "2024-01-01 10:00:00", 7.0, 0.00001), (3, 0, None, -0.5, 1e300)]
    again = lake(columns=columns, **{"3.csv": "id,b,at,n,x\n4,true,,1,1\n"})
    assert again == [*refreshed, (4, 1, None, 1.0, 1.0)]


def test_a_number_becomes_a_text_at_a_full_refresh_and_not_before(lake):
    """In SQLite a column of numbers would make a number of every text that looks like one."""
    assert lake(columns="id, n", **{"1.jsonl": '{"id":1,"n":10}\n'}) == [(1, 10)]
    later = {"2.jsonl": '{"id":2,"n":"n/a"}\n{"id":3,"n":"010"}\n'}
    assert lake(columns="id, n", code=1, **later) == [(1, 10)]
    assert "--full-refresh" in lake.said
    assert lake("--full-refresh", "t", columns="id, n") == [(1, "10"), (2, "n/a"), (3, "010")]
    assert lake(columns="id, n", **{"3.jsonl": '{"id":4,"n":"1e3"}\n'})[-1] == (4, "1e3")


def test_digits_that_no_double_has_come_as_text_at_a_full_refresh(lake):
    assert lake(columns="id, n", **{"1.jsonl": '{"id":1,"n":0.5}\n'}) == [(1, 0.5)]
    digits = "0.1234567890123456789012345678901234567890"
    later = {"2.jsonl": f'{{"id":2,"n":{digits}}}\n'}
    assert lake(columns="id, n", code=1, **later) == [(1, 0.5)]
    assert lake("--full-refresh", "t", columns="id, n") == [(1, "0.5"), (2, digits)]


def test_a_number_that_is_the_key_becomes_a_text(lake):
    assert lake(columns="id, n", **{"1.jsonl": '{"id":1,"n":1}\n'}) == [(1, 1)]
    later = {"2.jsonl": '{"id":"x","n":2}\n{"id":"01","n":3}\n'}
    spec(lake.kind, id="string")
    assert lake(columns="id, n", code=1, **later) == [(1, 1)]
    assert "change_column id" in lake.command("plan", "-v", "--full-refresh", "t").text
    assert lake("--full-refresh", "t", columns="id, n") == [("01", 3), ("1", 1), ("x", 2)]
    assert lake(columns="id, n", **{"3.jsonl": '{"id":"01","n":4}\n'}) == [("01", 4), ("1", 1), ("x", 2)]


def test_the_key_becomes_one_of_two_columns(lake):
    first = {"1.jsonl": '{"id":1,"r":"a","n":1}\n'}
    assert lake(columns="id, r, n", **first) == [(1, "a", 1)]
    spec(lake.kind, ("id", "r"))
    later = {"2.jsonl": '{"id":1,"r":"b","n":2}\n'}
    assert lake(columns="id, r, n", code=1, **later) == [(1, "a", 1)]
    assert "change_key" in lake.command("plan", "-v", "--full-refresh", "t").text
    assert sorted(lake("--full-refresh", "t", columns="id, r, n")) == [(1, "a", 1), (1, "b", 2)]
    last = lake(columns="id, r, n", **{"3.jsonl": '{"id":1,"r":"b","n":3}\n'})
    assert sorted(last) == [(1, "a", 1), (1, "b", 3)]


def test_what_another_source_writes_too_is_refused_before_anything_is_touched(lake):
    lake(columns="id, n", **{"1.jsonl": '{"id":1,"n":10}\n'})
    other = {"name": "other", "path": "files", "tables": ["*"], "destinations": ["d"]}
    other |= {"spec": {"path": "there", "table": "t", "primary_key": ["id"]}, "table_settings": {"t": {"shared": True}}}
    documents = [json.loads(one) for one in Path("strandline.yml").read_text().split("\n---\n")]
    documents[0]["spec"]["table_settings"] = {"t": {"shared": True}}
    Path("strandline.yml").write_text("\n---\n".join(map(json.dumps, [{"kind": "source", "spec": other}, *documents])))
    Path("there").mkdir()
    Path("there/1.jsonl").write_text('{"id":101,"n":1}\n')
    os.utime("there/1.jsonl", (1_700_000_000, 1_700_000_000))
    assert lake(columns="id, n") == [(1, 10), (101, 1)]
    later = {"2.jsonl": '{"id":2,"n":"n/a"}\n'}
    assert lake("--full-refresh", "t", columns="id, n", code=2, **later) == [(1, 10), (101, 1)]
    assert "source 'other'" in lake.said
    assert "hint" in lake.said
    assert "source 'other'" in lake.command("plan", "--full-refresh", "t", code=2).text


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
