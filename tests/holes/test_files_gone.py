"""Files that are gone: their rows are in the destination only, and are dropped for nobody who has not said so."""

import json
import os
from contextlib import closing
from pathlib import Path

import duckdb
import pytest


def spec(mode="overwrite", migrate_mode="safe"):
    settings = {"path": "in", "table": "t", "primary_key": ["id"]}
    source = {"name": "s", "path": "files", "tables": ["*"], "destinations": ["d"], "spec": settings}
    store = {
        "name": "d",
        "path": "duckdb",
        "write_mode": mode,
        "migrate_mode": migrate_mode,
        "spec": {"path": "d.duckdb"},
    }
    documents = [{"kind": "source", "spec": source}, {"kind": "destination", "spec": store}]
    Path("strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))


def put(name, text, at=1_700_000_000):
    Path("in", name).write_text(text)
    os.utime(Path("in", name), (at, at))


def stored():
    with closing(duckdb.connect("d.duckdb")) as connection:
        return connection.execute("SELECT id, n FROM t ORDER BY id, n").fetchall()


@pytest.fixture(params=["overwrite", "append", "overwrite-delete-stale"])
def mode(request, tmp_path, command):
    """Three files are synced; then the first one is removed."""
    Path("in").mkdir()
    spec(request.param)
    for number in (1, 2, 3):
        put(f"{number}.jsonl", f'{{"id":{number},"n":{number}}}\n')
    command("sync")
    Path("in/1.jsonl").unlink()
    return request.param


@pytest.mark.parametrize("syncs", [0, 1, 3])
def test_a_full_refresh_drops_their_rows_only_when_it_is_told_to(mode, command, syncs):
    for number in range(syncs):
        put(f"{number + 4}.jsonl", f'{{"id":{number + 4},"n":0}}\n')
        command("sync")
    before = stored()
    for refused in (
        command("plan", "--full-refresh", "t", code=2),
        command("sync", "--full-refresh", "t", code=2),
    ):
        assert "gone are 1 file with 1 rows" in refused.text
        assert "put back" in refused.text
        assert "--allow-mass-delete" in refused.text
    assert stored() == before
    told = command("sync", "--full-refresh", "t", "--allow-mass-delete")
    assert "1 file with 1 rows" in told.text
    assert stored() == before[1:]
    command("sync", "--full-refresh", "t")
    assert stored() == before[1:]


def test_a_file_that_is_put_back_is_read_again(mode, command):
    put("1.jsonl", '{"id":1,"n":1}\n')
    command("sync", "--full-refresh", "t")
    assert stored() == [(1, 1), (2, 2), (3, 3)]


def test_a_file_that_was_renamed_or_packed_is_not_gone(mode, command):
    put("1.jsonl", '{"id":1,"n":1}\n')
    Path("in/1.jsonl").rename("in/9.jsonl")
    command("sync", "--full-refresh", "t")
    assert stored() == [(1, 1), (2, 2), (3, 3)]


def test_a_forced_migration_is_refused_while_they_are_gone(mode, command):
    spec(mode, "forced")
    put("4.jsonl", '{"id":4,"n":"n/a"}\n')
    for refused in (command("sync", code=2), command("plan", code=2), command("migrate", code=2)):
        assert "gone are 1 file with 1 rows" in refused.text
        assert "--full-refresh" in refused.text
        assert "put back" in refused.text
    assert stored() == [(1, 1), (2, 2), (3, 3)]
    put("1.jsonl", '{"id":1,"n":1}\n')
    command("sync")
    assert stored() == [(1, "1"), (2, "2"), (3, "3"), (4, "n/a")]


def test_a_full_refresh_goes_where_a_forced_migration_may_not(mode, command):
    spec(mode, "forced")
    put("4.jsonl", '{"id":4,"n":"n/a"}\n')
    command("sync", code=2)
    command("sync", "--full-refresh", "t", "--allow-mass-delete")
    assert stored() == [(2, "2"), (3, "3"), (4, "n/a")]


def test_what_replaced_a_file_is_what_it_is_where_rows_replace_each_other(tmp_path, command):
    Path("in").mkdir()
    for mode, code in (("overwrite", 0), ("append", 2)):
        spec(mode)
        for at, n in enumerate((1, 2)):
            put("daily.jsonl", f'{{"id":1,"n":{n}}}\n', 1_700_000_000 + at)
            command("sync")
        command("sync", "--full-refresh", "t", code=code)
        Path("d.duckdb").unlink()
        command("state", "reset", "--yes", "s", "t")


def test_a_table_that_is_empty_loses_nothing(mode, command):
    with closing(duckdb.connect("d.duckdb")) as connection:
        connection.execute("DELETE FROM t")
    command("sync", "--full-refresh", "t")
    assert stored() == [(2, 2), (3, 3)]
