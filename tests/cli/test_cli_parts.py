"""A cursor of many files: what a sync writes of it, and what a person does with it."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from strandline.connectors.files import positions
from strandline.plugins import load_plugin
from strandline.state import StateKey

FILES = 300
"""Their positions are larger than what stays with a state."""
KEY = StateKey("shop", "t", "copy")


def add(name, *rows):
    path = Path(f"in/t/{name}.csv")
    path.write_text("id\n" + "".join(f"{row}\n" for row in rows))
    os.utime(path, (0, 0))


@pytest.fixture
def shop(cli, monkeypatch):
    monkeypatch.setattr(positions, "_RACY_NS", -(10**18))
    Path("in/t").mkdir(parents=True)
    for number in range(FILES):
        add(f"{number:03}", number)
    source = {"name": "shop", "path": "files", "tables": ["*"], "destinations": ["copy"], "spec": {"path": "in"}}
    copy = {"name": "copy", "path": "sqlite", "write_mode": "append", "spec": {"path": "out.db"}}
    cli.spec(("source", source), ("destination", copy))
    assert cli("sync").exit_code == 0
    return cli


def stored():
    with closing(sqlite3.connect("out.db")) as connection:
        return [one for (one,) in connection.execute("SELECT id FROM t ORDER BY id")]


def parts():
    with closing(sqlite3.connect("out.db")) as connection:
        here = {one for (one,) in connection.execute("SELECT token FROM cq_state_history WHERE number < 0")}
    assert here == {path.name for path in Path(".cq/state/shop/.parts/t@copy").iterdir()}, "the mirror has the same"
    return here


def backend():
    cls = load_plugin("state_backend", "local")
    return cls(cls.Spec())


def test_a_sync_writes_the_positions_that_have_changed_and_an_idle_one_writes_nothing(shop):
    before = parts()
    assert len(before) == 1
    for number in (1, 2):
        add(f"new {number}", 1000 + number)
        assert shop("sync").exit_code == 0
        assert parts() == before
    kept = Path(".cq/state/shop/t@copy.json").read_bytes()
    assert len(kept) < 20_000
    assert shop("sync").exit_code == 0
    assert Path(".cq/state/shop/t@copy.json").read_bytes() == kept
    assert stored() == [*range(FILES), 1001, 1002]


def test_a_state_that_an_older_version_has_saved_is_gone_on_from(shop):
    """In one piece, with the positions of all files."""
    for states in (backend(), load_plugin("destination", "sqlite")(_spec()).states):
        found = states.load("shop")[KEY]
        whole = found.following(
            run_id="old", epoch=found.epoch, cursor=dict(found.cursor, files=dict(found.cursor["files"]))
        )
        states.save(KEY, whole, expected=found.token)
    assert b'"format_version": 1' in Path(".cq/state/shop/t@copy.json").read_bytes().splitlines()[4]
    add("new", 1000)
    assert shop("sync").exit_code == 0
    assert stored() == [*range(FILES), 1000]
    assert parts()


def _spec():
    return load_plugin("destination", "sqlite").Spec(path="out.db")


def test_a_cursor_with_parts_is_shown_compared_put_back_and_moved(shop):
    first = backend().load("shop")[KEY]
    version = f"{first.epoch}.{first.sequence}"
    add("new", 1000)
    assert shop("sync").exit_code == 0
    (shown,) = json.loads(shop("state", "show", "shop", "t").stdout)
    assert len(shown["cursor"]["files"]) == FILES + 1
    (changes,) = json.loads(shop("state", "diff", "shop", "t", "--format", "json").stdout)
    assert [name for name in changes["changes"] if name.startswith("cursor.files.")] == ["cursor.files.t/new.csv"]
    exported = shop("state", "export", "shop").stdout
    assert {state["format_version"] for states in json.loads(exported)["states"] for state in states} == {1}
    moved = shop("state", "restore", "shop", "t", "--version", version, "--yes", "--reason", "again")
    assert moved.exit_code == 0
    assert backend().load("shop")[KEY].cursor == first.cursor
    assert shop("sync").exit_code == 0
    assert stored() == [*range(FILES), 1000, 1000], "appended again, as whoever put the cursor back was told"
    assert shop("state", "rewind", "shop", "t", "--to-cursor", "1960-01-01", "--yes").exit_code == 0
    assert backend().load("shop")[KEY].cursor["files"] == {}


def test_a_part_that_is_gone_stops_its_table_with_what_to_do(shop):
    with closing(sqlite3.connect("out.db")) as connection, connection:
        connection.execute("DELETE FROM cq_state_history WHERE number < 0")
    done = shop("sync")
    assert done.exit_code == 3
    said = done.stdout + done.stderr
    assert "a part of the state is gone" in said
    assert "state reset" in said
    assert stored() == [*range(FILES)]
