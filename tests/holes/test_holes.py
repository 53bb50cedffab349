"""The hole table: situations in which other tools lose, duplicate or freeze rows. One test for each row and mode.

Driven through the command line, from SQLite into DuckDB, in every write mode.
"""

import shutil
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

STAMP = "%Y-%m-%d %H:%M:%S"


def stamp(**ago):
    return (datetime.now(UTC) - timedelta(**ago)).strftime(STAMP)


def keyed(bench, rows, *, kind="TEXT", **settings):
    """A table `t` with the incremental key `at`."""
    bench.origin.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, at {kind}, v TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=rows)
    bench.tables = {"t": {"incremental_key": "at", **settings}}


def test_hole_b_a_new_row_with_the_cursor_value_of_the_last_one_synced(bench, sync):
    at = stamp(hours=1)
    keyed(bench, [(1, at, "a"), (2, at, "b")])
    sync()
    bench.origin.execute(f"INSERT INTO t VALUES (3, '{at}', 'c')")
    sync()
    sync()
    assert bench.store.rows() == [(1, "a"), (2, "b"), (3, "c")]


def test_hole_c_a_row_that_changes_again_within_the_same_timestamp(bench, sync):
    at = stamp(hours=1)
    keyed(bench, [(1, at, "a"), (2, at, "old")])
    sync()
    bench.origin.execute("UPDATE t SET v = 'new' WHERE id = 2")
    sync()
    sync()
    kept = [(2, "new"), (2, "old")] if bench.mode == "append" else [(2, "new")]
    assert bench.store.rows() == [(1, "a"), *kept]


@pytest.mark.parametrize("kind", ["text", "epoch"])
def test_hole_d_a_row_dated_in_the_future(bench, sync, kind):
    def form(text):
        return text if kind == "text" else int(datetime.strptime(text, STAMP).replace(tzinfo=UTC).timestamp())

    keyed(bench, [(1, form(stamp(hours=2)), "a"), (2, form(stamp(days=-3650)), "future")], kind="TIMESTAMP")
    sync()
    cursor = str(bench.state()["cursor"])
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(3, form(stamp(hours=1)), "later")])
    sync()
    sync()
    assert bench.store.rows() == [(1, "a"), (2, "future"), (3, "later")]
    assert bench.state()["cursor"] is not None
    assert cursor


def test_hole_e_a_null_in_the_cursor_column_after_the_first_sync(bench, sync):
    keyed(bench, [(1, stamp(hours=2), "a")])
    sync()
    bench.origin.execute("INSERT INTO t VALUES (2, NULL, 'null')")
    sync()
    bench.origin.execute(f"INSERT INTO t VALUES (3, '{stamp(hours=1)}', 'c')", "INSERT INTO t VALUES (4, NULL, 'null')")
    sync()
    sync()
    assert bench.store.rows() == [(1, "a"), (2, "null"), (3, "c"), (4, "null")]


def test_hole_g_a_crash_between_the_destinations_commit_and_the_bookkeeping(bench, sync):
    keyed(bench, [(n, stamp(minutes=60 - n), f"v{n}") for n in range(1, 6)])
    sync()
    state, kept = bench.directory / ".cq" / "state", bench.directory / "kept"
    shutil.copytree(state, kept)
    bench.origin.execute(f"INSERT INTO t VALUES (6, '{stamp(minutes=10)}', 'v6')")
    sync()
    shutil.rmtree(state)  # as if the process had died after the commit, before it wrote the state file
    shutil.copytree(kept, state)
    bench.origin.execute(f"INSERT INTO t VALUES (7, '{stamp(minutes=5)}', 'v7')")
    sync()
    sync()
    assert bench.store.rows() == [(n, f"v{n}") for n in range(1, 8)]


def test_hole_h_two_runs_at_the_same_time(bench, sync):
    keyed(bench, [(n, stamp(minutes=5), "v") for n in range(20_000)])
    bench.batch = {"batch_size": 500}
    runs = [bench.start("sync"), bench.start("sync")]
    outcomes = [run.communicate(timeout=120) for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes in ([0, 0], [0, 4]), outcomes
    sync()
    assert len(bench.store.rows()) == len(set(bench.store.rows())) == 20_000


def test_hole_h_a_second_run_is_refused_while_the_first_holds_the_warehouse(bench, sync):
    keyed(bench, [(1, stamp(minutes=5), "v")])
    with closing(duckdb.connect(str(bench.store.path))) as connection:
        connection.execute("SELECT 1")
        second = bench.start("sync")
        err = "".join(second.communicate(timeout=60))
    assert second.returncode == 4, err
    assert "lock" in err or "held" in err
    sync()
    assert bench.store.rows() == [(1, "v")]


def test_hole_i_a_batch_that_the_destination_rejects(bench, sync):
    bench.origin.execute("CREATE TABLE t (id TEXT PRIMARY KEY, at TEXT, v TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[("1", stamp(hours=2), "a")])
    bench.tables = {"t": {"incremental_key": "at"}}
    sync()
    before = bench.state()["cursor"]
    bench.origin.execute(
        "INSERT INTO t VALUES (?, ?, ?)", rows=[(None, stamp(hours=1), "bad"), ("2", stamp(hours=1), "b")]
    )
    outcome = sync(code=1)
    assert "null" in outcome.text.lower()
    assert bench.state()["cursor"] == before
    assert bench.store.rows() == [("1", "a")]
    bench.origin.execute("UPDATE t SET id = '3' WHERE id IS NULL")
    sync()
    assert bench.store.rows() == [("1", "a"), ("2", "b"), ("3", "bad")]


def test_hole_j_a_chunked_backfill_over_repeated_timestamps(bench, sync):
    stamps = [stamp(minutes=30), stamp(minutes=20), stamp(minutes=10)]
    keyed(bench, [(n, stamps[n % 3], f"v{n}") for n in range(20)])
    bench.batch = {"batch_size": 3}
    sync()
    assert len(bench.store.rows()) == 20
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(n, stamps[2], f"v{n}") for n in range(20, 40)])
    sync()
    assert bench.store.rows() == sorted([(n, f"v{n}") for n in range(40)], key=repr)


def test_hole_k_a_look_back_window_writes_each_row_version_once(bench, sync):
    keyed(bench, [(n, stamp(minutes=10 - n), f"v{n}") for n in range(1, 6)], lag="1h")
    sync()
    sync()
    bench.origin.execute(f"INSERT INTO t VALUES (6, '{stamp(minutes=20)}', 'late')")
    bench.origin.execute("UPDATE t SET v = 'changed' WHERE id = 3")
    sync()
    outcome = sync()
    assert "re-read 6" in outcome.out
    both = [(3, "changed"), (3, "v3")] if bench.mode == "append" else [(3, "changed")]
    assert bench.store.rows() == [(1, "v1"), (2, "v2"), *both, (4, "v4"), (5, "v5"), (6, "late")]


def test_hole_l_killed_late_in_a_long_first_load(bench, sync):
    count = 150_000
    keyed(bench, [(n, stamp(minutes=5), "x" * 20) for n in range(count)])
    bench.batch = {"batch_size": 2_000}

    def most_is_there():
        state = bench.state()
        return state is not None and state["tables"]["t"]["rows"] >= 0.8 * count

    assert bench.kill_when(bench.start("sync"), most_is_there)
    done = bench.state()["tables"]["t"]["rows"]
    outcome = sync("--summary-location", "summary.jsonl")
    read = bench.summary()[-1]["tasks"][0]["rows_read"]
    assert read <= count - done + 2_000, outcome.out
    assert len(bench.store.rows()) == len(set(bench.store.rows())) == count


def test_hole_m_the_cursor_is_never_ahead_of_the_rows(bench, sync):
    count = 60_000
    keyed(bench, [(n, stamp(minutes=5), "x") for n in range(count)])
    bench.batch = {"batch_size": 2_000}
    for share in (0.2, 0.5, 0.8):

        def enough(share=share):
            state = bench.state()
            return state is not None and state["tables"]["t"]["rows"] >= share * count

        bench.kill_when(bench.start("sync"), enough)
        state = bench.state()
        assert len(bench.store.rows()) >= state["tables"]["t"]["rows"]
    sync()
    assert len(bench.store.rows()) == len(set(bench.store.rows())) == count


def test_hole_n_a_reader_during_a_full_refresh_sees_the_old_table_until_the_new_one_is_complete(bench, sync):
    count = 20_000
    keyed(bench, [(n, stamp(minutes=5), "old") for n in range(count)])
    bench.batch = {"batch_size": 1_000}
    sync()
    bench.origin.execute("UPDATE t SET v = 'new'", "DELETE FROM t WHERE id >= 15000")
    seen, done = set(), threading.Event()

    def watch():
        # in this process, since DuckDB lets no other in while a sync holds the file
        with closing(duckdb.connect(str(bench.store.path))) as connection:
            while not done.is_set():
                seen.update(connection.execute("SELECT count(*), min(v), max(v) FROM t").fetchall())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        sync("--full-refresh", "t")
    finally:
        done.set()
        watcher.join()
    assert seen <= {(count, "old", "old"), (15_000, "new", "new")}
    assert bench.store.rows("count(*), min(v), max(v)") == [(15_000, "new", "new")]
    assert [row for row in bench.store.query("SELECT table_name FROM duckdb_tables()") if "refresh" in row[0]] == []


def test_hole_o_every_path_writes_the_same_lineage_columns(bench, sync):
    keyed(bench, [(1, stamp(hours=2), "first load")])
    sync()
    bench.origin.execute(f"INSERT INTO t VALUES (2, '{stamp(hours=1)}', 'incremental')")
    sync()
    paths = [bench.store.rows("id, _cq_source_name, _cq_sync_time IS NULL")]
    columns = bench.store.query("SELECT column_name FROM duckdb_columns() WHERE table_name = 't' ORDER BY ALL")
    sync("--full-refresh", "*")
    paths.append(bench.store.rows("id, _cq_source_name, _cq_sync_time IS NULL"))
    assert paths == [[(1, "shop", False), (2, "shop", False)]] * 2
    again = bench.store.query("SELECT column_name FROM duckdb_columns() WHERE table_name = 't' ORDER BY ALL")
    assert again == columns


@pytest.mark.parametrize("how", ["file removed", "rows deleted", "table dropped", "table created again"])
def test_hole_p_state_is_there_but_the_destination_was_dropped_or_emptied(bench, sync, how):
    keyed(bench, [(1, stamp(hours=2), "a"), (2, stamp(hours=1), "b")])
    sync()
    if how == "file removed":
        bench.store.drop_all()
    elif how == "rows deleted":
        bench.store.execute("DELETE FROM t")
    elif how == "table dropped":
        bench.store.execute("DROP TABLE t")
    else:
        bench.store.execute("CREATE TABLE other AS FROM t LIMIT 1")
        bench.store.execute("DROP TABLE t")
        bench.store.execute("ALTER TABLE other RENAME TO t")
    bench.origin.execute(f"INSERT INTO t VALUES (3, '{stamp(minutes=1)}', 'c')")
    before = bench.state()
    outcome = sync(code=3)
    assert "--full-refresh" in outcome.err
    assert bench.state() == before
    if how == "rows deleted":
        assert bench.store.rows() == []
    sync("--full-refresh", "t")
    assert bench.store.rows() == [(1, "a"), (2, "b"), (3, "c")]
    sync()
    assert bench.store.rows() == [(1, "a"), (2, "b"), (3, "c")]


def test_hole_q_a_table_whose_fetch_failed_keeps_its_rows(bench, sync):
    bench.origin.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)", "CREATE TABLE u (id INTEGER PRIMARY KEY)"
    )
    bench.origin.execute("INSERT INTO t VALUES (?, ?)", rows=[(1, 10), (2, 20), (3, 30)])
    sync()
    bench.origin.execute("DELETE FROM t WHERE id < 3", "INSERT INTO t VALUES (4, 'not a number')")
    bench.origin.execute("INSERT INTO u VALUES (1)")
    outcome = sync(code=1)
    assert "not a number" in outcome.text or "t.v" in outcome.text or "'v'" in outcome.text
    assert set(bench.store.rows()) >= {(1, 10), (2, 20), (3, 30)}
    assert bench.store.rows("id", "u") == [(1,)]
