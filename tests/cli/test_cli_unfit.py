"""Tables that cannot be synced as they are: all of them are named at once, and none of them hides another."""

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

BAD = {"items": {"incremental_key": "amount"}, "notes": {"incremental_key": "at", "lag": "5m", "where": "no such"}}


def sql(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def unfit(cli):
    """``orders`` fits, ``keyless`` has no key to be overwritten by, and the settings of ``items`` and ``notes`` are wrong."""
    cli.shop("orders", "items", "notes", tables=BAD | {"keyless": {"incremental_key": "at"}})
    sql("shop.db", "CREATE TABLE keyless (at TEXT)", "CREATE VIEW broken AS SELECT * FROM nowhere")
    return cli


def test_plan_lists_every_table_with_what_is_wrong_and_the_remedy(unfit):
    done = unfit("plan")
    said = " ".join(done.stdout.split())
    assert done.exit_code == 2
    assert "orders" in said
    assert "table 'items' has no column 'amount'" in said
    assert "`where` is no condition" in said
    assert "'keyless' is read incrementally but has no primary key" in said
    assert "name its primary_key" in said
    assert "broken" in said


@pytest.mark.parametrize("command", [("sync",), ("migrate",), ("sync", "--full-refresh", "*")])
def test_what_is_wrong_with_the_spec_is_said_at_once_and_nothing_is_touched(unfit, command):
    done = unfit(*command)
    assert done.exit_code == 2
    assert not Path("w.duckdb").exists()
    said = " ".join(done.stderr.split())
    assert "table 'items' has no column 'amount'" in said
    assert "`where` is no condition" in said
    assert "'keyless' is read incrementally but has no primary key" in said
    assert "name its primary_key" in said
    assert "nothing was touched" in said
    assert "orders" not in done.stdout


def test_a_table_with_wrong_settings_hides_none_that_belongs_to_somebody(unfit):
    with duckdb.connect("w.duckdb") as connection:
        connection.execute("CREATE TABLE orders AS SELECT 1 AS id")
    for command in (("plan",), ("sync",), ("migrate",)):
        done = unfit(*command)
        assert done.exit_code == 2
        assert "`adopt: true`" in done.output
        assert "no column 'amount'" in done.output


def test_globs_that_match_nothing_are_all_named(cli):
    cli.shop("orders")
    done = cli("sync", "--select", "ordrs", "--exclude", "itms", "--full-refresh", "nots")
    assert done.exit_code == 2
    assert all(f"no table matches '{glob}'" in done.stderr for glob in ("ordrs", "itms", "nots"))


def test_plan_goes_on_after_a_source_that_cannot_be_reached(cli):
    cli.shop("orders")
    there = {"name": "shop", "path": "sqlite", "destinations": ["copy"], "spec": {"path": "shop.db"}}
    cli.spec(
        ("source", there | {"name": "away", "spec": {"path": "nowhere.db"}}),
        ("source", there),
        ("destination", {"name": "copy", "path": "duckdb", "write_mode": "overwrite", "spec": {"path": "w.duckdb"}}),
    )
    done = cli("plan")
    assert done.exit_code != 0
    assert "orders" in done.stdout
    assert "nowhere.db" in done.stderr


def test_migrate_goes_on_after_a_table_that_fails_and_names_it(cli):
    cli.shop("orders", "items")
    sql("shop.db", "CREATE VIEW broken AS SELECT * FROM nowhere")
    spec = Path("strandline.yml")
    spec.write_text(spec.read_text().replace('["*"]', '["orders", "items", "broken"]'))
    done = cli("migrate")
    assert done.exit_code == 1
    assert "broken" in done.stderr
    with duckdb.connect("w.duckdb") as connection:
        assert {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()} >= {
            "orders",
            "items",
        }


def test_migrate_names_what_a_glob_leaves_out(cli):
    cli.shop("orders")
    sql("shop.db", "CREATE VIEW broken AS SELECT * FROM nowhere")
    done = cli("migrate")
    assert done.exit_code == 0
    assert "table 'broken' is left out" in " ".join(done.output.split())


def test_migrate_goes_on_after_a_state_that_cannot_be_trusted(cli):
    cli.shop("orders", tables={"orders": {"incremental_key": "at"}}, backend_spec={"path": "state"})
    assert cli("sync").exit_code == 0
    sql("shop.db", "CREATE TABLE items (id INTEGER PRIMARY KEY)")
    with duckdb.connect("w.duckdb") as connection:
        connection.execute("DROP TABLE orders")
    done = cli("migrate")
    assert done.exit_code == 3
    assert "orders" in done.stderr
    assert "--full-refresh" in done.stderr
    with duckdb.connect("w.duckdb") as connection:
        assert connection.execute("SELECT count(*) FROM items").fetchone() == (0,)


def test_migrate_looks_at_every_source_before_it_touches_anything(cli):
    cli.sqlite("shop.db", "orders")
    cli.sqlite("other.db", "items")
    into = {"name": "copy", "path": "duckdb", "write_mode": "overwrite", "spec": {"path": "w.duckdb"}}
    wrong = {"path": "other.db", "tables": {"items": {"incremental_key": "amount"}}}
    cli.spec(
        ("source", {"name": "a", "path": "sqlite", "destinations": ["copy"], "spec": {"path": "shop.db"}}),
        ("source", {"name": "b", "path": "sqlite", "destinations": ["copy"], "spec": wrong}),
        ("destination", into),
    )
    done = cli("migrate")
    assert (done.exit_code, Path("w.duckdb").exists()) == (2, False)
    assert "no column 'amount'" in done.stderr
