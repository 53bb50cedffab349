"""The hole table: situations in which other tools lose, duplicate or freeze rows. One test for each row and mode.

Driven through the command line, from every source into every destination, in every write mode (`make test`: see
``places.between``).
Hole A is in ``test_hole_a.py`` and ``test_late_rows.py``, hole F in ``test_hole_f.py``.
"""

import shutil
import threading
from datetime import UTC, datetime, timedelta

import pytest
from places import DATABASES, STAMP, between


def stamp(**ago):
    return (datetime.now(UTC) - timedelta(**ago)).strftime(STAMP)


def keyed(bench, rows, *, kind=None, **settings):
    """A table `t` with the incremental key `at`."""
    bench.origin.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, at {kind or bench.origin.time}, v TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=rows)
    bench.tables = {"t": {"incremental_key": "at", **settings}}


def large(bench, v, *, full, small, windows):
    """A table `t` that takes many windows: in one pair with many rows, elsewhere with few; how many."""
    count = full if bench.pair == ("sqlite", "duckdb") else small
    bench.origin.create_large()
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(n, stamp(minutes=5), v) for n in range(count)])
    bench.tables = {"t": {"incremental_key": "at"}}
    bench.batch = {"batch_size": count // windows}
    return count


@between()
def test_hole_b_a_new_row_with_the_cursor_value_of_the_last_one_synced(bench, sync):
    at = stamp(hours=1)
    keyed(bench, [(1, at, "a"), (2, at, "b")])
    sync()
    bench.origin.execute(f"INSERT INTO t VALUES (3, '{at}', 'c')")
    sync()
    sync()
    assert bench.store.rows() == [(1, "a"), (2, "b"), (3, "c")]


@between()
def test_hole_c_a_row_that_changes_again_within_the_same_timestamp(bench, sync):
    at = stamp(hours=1)
    keyed(bench, [(1, at, "a"), (2, at, "old")])
    sync()
    bench.origin.execute("UPDATE t SET v = 'new' WHERE id = 2")
    sync()
    sync()
    kept = [(2, "new"), (2, "old")] if bench.mode == "append" else [(2, "new")]
    assert bench.store.rows() == [(1, "a"), *kept]


@pytest.mark.parametrize("form", ["usual", "other"])
@between()
def test_hole_d_a_row_dated_in_the_future(bench, sync, form):
    kind, form, settings = bench.origin.forms[form]
    keyed(bench, [(1, form(stamp(hours=2)), "a"), (2, form(stamp(days=-3650)), "future")], kind=kind, **settings)
    sync()
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(3, form(stamp(hours=1)), "later")])
    sync()
    sync()
    assert bench.store.rows() == [(1, "a"), (2, "future"), (3, "later")]
    assert bench.state()["cursor"] is not None


@between()
def test_hole_e_a_null_in_the_cursor_column_after_the_first_sync(bench, sync):
    keyed(bench, [(1, stamp(hours=2), "a")])
    sync()
    bench.origin.execute("INSERT INTO t VALUES (2, NULL, 'null')")
    sync()
    bench.origin.execute(f"INSERT INTO t VALUES (3, '{stamp(hours=1)}', 'c')", "INSERT INTO t VALUES (4, NULL, 'null')")
    sync()
    sync()
    assert bench.store.rows() == [(1, "a"), (2, "null"), (3, "c"), (4, "null")]


@between()
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


@between()
def test_hole_h_two_runs_at_the_same_time(bench, sync):
    count = large(bench, "v", full=20_000, small=4_000, windows=40)
    runs = [bench.start("sync"), bench.start("sync")]
    outcomes = [run.communicate(timeout=120) for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes in ([0, 0], [0, 4]), outcomes
    sync()
    assert len(bench.store.rows()) == len(set(bench.store.rows())) == count


@between(destinations="duckdb sqlite")
def test_hole_h_a_run_is_refused_while_another_process_holds_the_file(bench, sync):
    keyed(bench, [(1, stamp(minutes=5), "v")])
    with bench.store.reader() as hold:
        if bench.store.spec["path"] == "sqlite":
            hold("BEGIN IMMEDIATE")
            bench.batch = {"busy_timeout": "0.2s"}
        else:
            hold("SELECT 1")
        second = bench.start("sync")
        err = "".join(second.communicate(timeout=60))
    assert second.returncode == 4, err
    assert any(said in err for said in ("lock", "held", "another process writes")), err
    sync()
    assert bench.store.rows() == [(1, "v")]


@between(destinations="postgresql")
def test_hole_h_a_run_waits_while_another_session_holds_the_table(bench, sync):
    keyed(bench, [(1, stamp(minutes=5), "a")])
    sync()
    bench.origin.execute(f"INSERT INTO t VALUES (2, '{stamp(minutes=4)}', 'b')")
    with bench.store.reader() as hold, bench.store.reader() as look:
        hold("BEGIN")
        hold("LOCK TABLE t")
        run = bench.start("sync")
        while not look("SELECT 1 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted"):
            assert run.poll() is None, run.communicate()
        hold("COMMIT")
    printed = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert bench.store.rows() == [(1, "a"), (2, "b")]


@between()
def test_hole_i_a_batch_that_the_destination_rejects(bench, sync):
    bench.origin.execute(f"CREATE TABLE t (id TEXT, at {bench.origin.time}, v TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[("1", stamp(hours=2), "a")])
    bench.tables = {"t": {"incremental_key": "at", "primary_key": ["id"]}}
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


@between()
def test_hole_j_a_chunked_backfill_over_repeated_timestamps(bench, sync):
    stamps = [stamp(minutes=30), stamp(minutes=20), stamp(minutes=10)]
    keyed(bench, [(n, stamps[n % 3], f"v{n}") for n in range(20)])
    bench.batch = {"batch_size": 3}
    sync()
    assert len(bench.store.rows()) == 20
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(n, stamps[2], f"v{n}") for n in range(20, 40)])
    sync()
    assert bench.store.rows() == sorted([(n, f"v{n}") for n in range(40)], key=repr)


@between()
def test_hole_k_a_look_back_window_writes_each_row_version_once(bench, sync):
    keyed(bench, [(n, stamp(minutes=10 - n), f"v{n}") for n in range(1, 6)], lag="1h")
    sync()
    sync()
    bench.origin.execute(f"INSERT INTO t VALUES (6, '{stamp(minutes=20)}', 'late')")
    bench.origin.execute("UPDATE t SET v = 'changed' WHERE id = 3")
    sync()
    outcome = sync()
    assert ("6 unchanged" if bench.mode == "append" else "≤ 6 new or changed") in outcome.out
    both = [(3, "changed"), (3, "v3")] if bench.mode == "append" else [(3, "changed")]
    assert bench.store.rows() == [(1, "v1"), (2, "v2"), *both, (4, "v4"), (5, "v5"), (6, "late")]


@between()
def test_hole_l_killed_late_in_a_long_first_load(bench, sync):
    count = large(bench, "x" * 20, full=150_000, small=8_000, windows=75)

    def most_is_there():
        state = bench.state()
        return state is not None and state["tables"]["t"]["rows"] >= 0.8 * count

    assert bench.kill_when(bench.start("sync"), most_is_there)
    done = bench.state()["tables"]["t"]["rows"]
    outcome = sync("--summary-location", "summary.jsonl")
    read = bench.summary()[-1]["tasks"][0]["rows_read"]
    assert read <= count - done + count // 40, outcome.out
    assert len(bench.store.rows()) == len(set(bench.store.rows())) == count


@between()
def test_hole_m_the_cursor_is_never_ahead_of_the_rows(bench, sync):
    count = large(bench, "x", full=60_000, small=6_000, windows=30)
    for share in (0.2, 0.5, 0.8):

        def enough(share=share):
            state = bench.state()
            return state is not None and state["tables"]["t"]["rows"] >= share * count

        bench.kill_when(bench.start("sync"), enough)
        state = bench.state()
        assert len(bench.store.rows()) >= state["tables"]["t"]["rows"]
    sync()
    assert len(bench.store.rows()) == len(set(bench.store.rows())) == count


@between(destinations=DATABASES)
def test_hole_n_a_reader_during_a_full_refresh_sees_the_old_table_until_the_new_one_is_complete(bench, sync):
    count = large(bench, "old", full=20_000, small=4_000, windows=20)
    left = count * 3 // 4
    sync()
    before = bench.store.tables()
    bench.origin.execute("UPDATE t SET v = 'new'", f"DELETE FROM t WHERE id >= {left}")
    seen, started, done = set(), threading.Event(), threading.Event()

    def watch():
        # in this process, since DuckDB lets no other in while a sync holds the file
        with bench.store.reader() as read:
            while not done.is_set():
                seen.update(read("SELECT count(*), min(v), max(v) FROM t"))
                started.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert started.wait(30)
        sync("--full-refresh", "t")
    finally:
        done.set()
        watcher.join()
    assert (count, "old", "old") in seen
    assert seen <= {(count, "old", "old"), (left, "new", "new")}
    assert bench.store.rows("count(*), min(v), max(v)") == [(left, "new", "new")]
    assert bench.store.tables() == before


@between(destinations=DATABASES)
def test_hole_o_every_path_writes_the_same_lineage_columns(bench, sync):
    keyed(bench, [(1, stamp(hours=2), "first load")])
    sync()
    bench.origin.execute(f"INSERT INTO t VALUES (2, '{stamp(hours=1)}', 'incremental')")
    sync()
    paths = [bench.store.rows("id, _cq_source_name, _cq_sync_time IS NULL")]
    columns = bench.store.columns()
    sync("--full-refresh", "*")
    paths.append(bench.store.rows("id, _cq_source_name, _cq_sync_time IS NULL"))
    assert paths == [[(1, "shop", False), (2, "shop", False)]] * 2
    assert bench.store.columns() == columns
    assert {"_cq_source_name", "_cq_sync_time"} < set(columns)


@pytest.mark.parametrize("how", ["all removed", "rows deleted", "table dropped", "table created again"])
@between(destinations=DATABASES)
def test_hole_p_state_is_there_but_the_destination_was_dropped_or_emptied(bench, sync, how):
    keyed(bench, [(1, stamp(hours=2), "a"), (2, stamp(hours=1), "b")])
    sync()
    if how == "all removed":
        bench.store.drop_all()
    elif how == "rows deleted":
        bench.store.execute("DELETE FROM t")
    elif how == "table dropped":
        bench.store.execute("DROP TABLE t")
    else:
        bench.store.create_again()
    bench.origin.execute(f"INSERT INTO t VALUES (3, '{stamp(minutes=1)}', 'c')")
    before = bench.state()
    outcome = sync(code=3)
    assert "--full-refresh" in outcome.text
    assert bench.state() == before
    if how == "rows deleted":
        assert bench.store.rows() == []
    sync("--full-refresh", "t")
    assert bench.store.rows() == [(1, "a"), (2, "b"), (3, "c")]
    sync()
    assert bench.store.rows() == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize("how", ["all removed", "files removed", "directory removed"])
@between(destinations="files")
def test_hole_p_state_is_there_but_the_files_are_gone(bench, sync, how):
    keyed(bench, [(1, stamp(hours=2), "a"), (2, stamp(hours=1), "b")])
    sync()
    if how == "all removed":
        bench.store.drop_all()
    elif how == "files removed":
        bench.store.empty("t")
    else:
        bench.store.drop("t")
    bench.origin.execute(f"INSERT INTO t VALUES (3, '{stamp(minutes=1)}', 'c')")
    before = bench.state()
    assert "state reset" in sync(code=3).text
    assert "state reset" in sync("--full-refresh", "t", code=2).text
    assert bench.state() == before
    assert bench.run("state", "reset", "--yes", "shop", "t") == 0
    for _ in range(2):
        sync()
        assert bench.store.rows() == [(1, "a"), (2, "b"), (3, "c")]


@between()
def test_hole_q_a_table_whose_fetch_failed_keeps_its_rows(bench, sync):
    kind, value = bench.origin.unreadable
    bench.origin.execute(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER, w {kind})", "CREATE TABLE u (id INTEGER PRIMARY KEY)"
    )
    bench.origin.execute("INSERT INTO t (id, v) VALUES (?, ?)", rows=[(1, 10), (2, 20), (3, 30)])
    sync()
    bench.origin.execute("DELETE FROM t WHERE id < 3", f"INSERT INTO t VALUES (4, 40, '{value}')")
    bench.origin.execute("INSERT INTO u VALUES (1)")
    outcome = sync(code=1)
    assert "'w'" in outcome.text or "t.w" in outcome.text
    assert set(bench.store.rows()) >= {(1, 10), (2, 20), (3, 30)}
    assert bench.store.rows("id", "u") == [(1,)]
