"""What the program's own hints name as the way out, followed."""

import pytest


@pytest.fixture
def table(bench):
    bench.origin.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, v TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (1, '2026-01-01 00:00:00', 'a')")
    bench.tables = {"t": {"incremental_key": "at"}}
    return bench


def test_after_a_reset_a_full_refresh_replaces_the_rows(table, sync):
    sync()
    assert table.run("state", "reset", "--yes", "shop", "t") == 0
    sync("--full-refresh", "t")
    assert table.store.rows() == [(1, "a")]
    table.origin.execute("INSERT INTO t VALUES (2, '2026-01-02 00:00:00', 'b')")
    sync()
    assert table.store.rows() == [(1, "a"), (2, "b")]


def test_after_a_reset_a_full_refresh_replaces_the_rows_of_a_table_that_is_read_in_full(table, sync):
    table.tables = {}
    sync()
    assert table.run("state", "reset", "--yes", "shop", "t") == 0
    sync("--full-refresh", "t")
    assert table.store.rows() == [(1, "a")]


def edit(table, task, how):
    """Change what the warehouse keeps of a task, as a careless hand would."""
    text = {
        "damaged": "replace(state, '\"sequence\": ', '\"sequence\": 1')",
        "torn": "state[:-20]",
        "newer": "replace(state, '\"format_version\": 1', '\"format_version\": 9')",
        "foreign": 'replace(state, \'"source": "shop"\', \'"source": "zoo"\')',
    }
    table.store.execute(f"UPDATE cq_state SET state = {text[how]} WHERE task = '{task}'")


@pytest.mark.parametrize(
    ("how", "task", "way"),
    [
        ("damaged", "t", "state reset"),
        ("torn", "t", "full refresh"),
        ("newer", "t", "state reset"),
        ("foreign", "t", "full refresh"),
        ("damaged", "@run", "state reset"),
        ("torn", "@run", "full refresh"),
    ],
)
def test_a_state_in_the_warehouse_that_cannot_be_trusted(table, sync, how, task, way):
    sync()
    edit(table, task, how)
    table.origin.execute("INSERT INTO t VALUES (2, '2026-01-02 00:00:00', 'b')")
    said = sync(code=3).text
    assert f"strandline state reset 'shop' '{task}'" in said
    assert table.store.rows() == [(1, "a")]
    if way == "state reset":
        assert table.run("state", "reset", "--yes", "shop", task) == 0
        ((note,),) = table.store.query(f"SELECT state->>'note' FROM cq_state WHERE task = '{task}'")
        assert note.startswith("reset by ") or task == "@run"
    elif task == "t":
        assert "strandline sync --full-refresh 't'" in said
    sync("--full-refresh", "t")
    assert table.store.rows() == [(1, "a"), (2, "b")]
    table.origin.execute("INSERT INTO t VALUES (3, '2026-01-03 00:00:00', 'c')")
    sync()
    assert table.store.rows() == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"token": "x"'])
def test_a_state_file_that_cannot_be_trusted_can_be_reset(table, sync, content):
    sync()
    path = table.directory / ".cq" / "state" / "shop" / "t@warehouse.json"
    path.write_bytes(content)
    assert "strandline state reset 'shop' 't'" in sync(code=3).text
    assert table.run("state", "reset", "--yes", "shop") == 0
    assert path.with_name("t@warehouse.json.damaged").read_bytes() == content
    sync("--full-refresh", "t")
    assert table.store.rows() == [(1, "a")]


def test_a_full_refresh_of_another_table_gives_up_nothing(table, sync):
    table.origin.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, v TEXT)")
    sync()
    edit(table, "t", "damaged")
    sync("--full-refresh", "u", code=3)
    assert table.store.rows() == [(1, "a")]


def test_a_reset_of_a_table_that_was_emptied_delivers_all_rows_again(table, sync):
    sync()
    table.store.execute("DELETE FROM t")
    assert "state reset" in sync(code=3).text
    assert table.run("state", "reset", "--yes", "shop", "t") == 0
    sync()
    assert table.store.rows() == [(1, "a")]
