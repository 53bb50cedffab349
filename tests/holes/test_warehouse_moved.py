"""A warehouse that is moved, or written on, is the one that it was; a table that was created again is another one."""

import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace

import pytest
from places import between, store_of

from services.postgresql import as_user, programs
from strandline.connectors.postgresql.migration import PostgreSQLMigrator
from strandline.engine.pipeline import Pipeline

MOVABLE = ["postgresql", "sqlite"]


def filled(bench, sync):
    bench.origin.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')"
    )
    sync()
    assert bench.store.rows() == [(1, "a"), (2, "b"), (3, "c")]


def moved(bench, database, directory):
    """The same rows, states and comments in another database; its tables have other numbers there."""
    old = bench.store
    (directory / "moved").mkdir()
    bench.store = store_of(bench.pair[1], directory / "moved", database)
    if bench.pair[1] == "sqlite":
        with closing(sqlite3.connect(old.path)) as one, closing(sqlite3.connect(bench.store.path)) as other:
            other.executescript("\n".join(one.iterdump()))
        return
    bench.store.execute("CREATE TABLE padding (id integer)")
    dump = subprocess.run(
        [programs() / "pg_dump", "-d", old.uri], check=True, capture_output=True, cwd="/", **as_user()
    ).stdout
    subprocess.run(
        [programs() / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", bench.store.uri],
        input=dump, check=True, capture_output=True, cwd="/", **as_user(),
    )  # fmt: skip


def goes_on(bench, sync):
    bench.origin.execute("INSERT INTO t VALUES (4, 'd')", "DELETE FROM t WHERE id = 1")
    sync()
    assert {(2, "b"), (3, "c"), (4, "d")} <= set(bench.store.rows())
    assert bench.store.rows("count(*)") == [(3 if bench.mode == "overwrite-delete-stale" else 4,)]


@between(sources=["sqlite"], destinations=MOVABLE, modes=["overwrite", "overwrite-delete-stale"])
def test_a_warehouse_that_was_dumped_and_restored_goes_on(bench, sync, database, tmp_path):
    filled(bench, sync)
    moved(bench, database, tmp_path)
    goes_on(bench, sync)


@between(sources=["sqlite"], destinations=["postgresql"], modes=["overwrite-delete-stale"])
def test_the_mark_of_a_version_before_is_exchanged_at_the_first_sync(bench, sync, database, tmp_path, monkeypatch):
    known_as = Pipeline.known_as
    with monkeypatch.context() as before:
        before.setattr(PostgreSQLMigrator, "_new_mark", lambda _: "")
        before.setattr(Pipeline, "known_as", lambda *given: replace(known_as(*given), also=""))
        filled(bench, sync)
    assert bench.state()["tables"]["t"]["mark"].isdigit()
    sync("--no-migrate")
    assert bench.state()["tables"]["t"]["mark"].isdigit()
    sync()
    known = bench.state()["tables"]["t"]
    assert not known["mark"].isdigit()
    assert known["rows"] >= 3
    moved(bench, database, tmp_path)
    goes_on(bench, sync)


@between(sources=["sqlite"], destinations=["postgresql", "duckdb"], modes=["overwrite-delete-stale"])
def test_a_table_on_which_somebody_has_commented_is_the_same_one(bench, sync):
    filled(bench, sync)
    for text in ("NULL", "'what people buy'"):
        bench.store.execute(f"COMMENT ON TABLE t IS {text}")
        sync()
    kept = {
        "postgresql": "SELECT obj_description('t'::regclass)",
        "duckdb": "SELECT comment FROM duckdb_tables() WHERE table_name = 't'",
    }
    assert "what people buy" in bench.store.query(kept[bench.pair[1]])[0][0]
    bench.store.execute("COMMENT ON TABLE t IS NULL")
    goes_on(bench, sync)


@pytest.mark.parametrize("how", ["rows deleted", "created again"])
@between(sources=["sqlite"], destinations=MOVABLE, modes=["overwrite-delete-stale"])
def test_what_is_lost_after_the_move_is_noticed(bench, sync, database, tmp_path, how):
    filled(bench, sync)
    moved(bench, database, tmp_path)
    if how == "rows deleted":
        bench.store.execute("DELETE FROM t")
    else:
        bench.store.create_again()
    assert "--full-refresh" in sync(code=3).text
