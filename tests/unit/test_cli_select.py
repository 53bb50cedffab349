"""`--select`, `--exclude` and `--full-refresh` with several sources in one spec."""

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest


@pytest.fixture
def two(cli):
    """Sources ``shop`` (orders, items) and ``crm`` (people, notes) into one destination."""
    cli.sqlite("shop.db", "orders", "items")
    cli.sqlite("crm.db", "people", "notes")
    cli.spec(*documents("shop", "crm"))
    return cli


def documents(*names):
    common = {"path": "sqlite", "tables": ["*"], "destinations": ["w"]}
    sources = [("source", common | {"name": name, "spec": {"path": f"{name}.db"}}) for name in names]
    return *sources, ("destination", {"name": "w", "path": "duckdb", "spec": {"path": "w.duckdb"}})


def synced():
    if not Path("w.duckdb").exists():
        return []
    with closing(duckdb.connect("w.duckdb")) as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
        return [name for (name,) in tables if not name.startswith("cq_")]


def test_a_glob_need_match_in_one_source_only(two):
    done = two("sync", "--select", "people")
    assert (done.exit_code, synced()) == (0, ["people"])
    assert "shop" not in done.stdout
    assert two("sync", "--select", "orders", "--select", "notes").exit_code == 0
    assert synced() == ["notes", "orders", "people"]
    assert two("sync", "--exclude", "items").exit_code == 0
    assert synced() == ["notes", "orders", "people"]
    done = two("sync", "--full-refresh", "people")
    assert (done.exit_code, synced()) == (0, ["items", "notes", "orders", "people"])


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *((command, option) for command in ("sync", "plan", "migrate") for option in ("--select", "--exclude")),
        *((command, "--full-refresh") for command in ("sync", "plan")),
    ],
)
def test_one_that_matches_nowhere_is_an_error_before_anything_runs(two, command, option):
    done = two(command, option, "peopel")
    assert (done.exit_code, done.stdout, synced()) == (2, "", [])
    assert f"error: `{option}`: no table matches 'peopel'\nhint: did you mean 'people'?\n" == done.stderr


def test_the_tables_of_all_sources_are_listed(two):
    said = two("sync", "--select", "zzz").stderr
    assert "hint: the tables are items, orders, notes, people" in said


def test_with_one_source_the_option_is_named_too(cli):
    cli.sqlite("shop.db", "orders", "items")
    cli.spec(*documents("shop"))
    for option in ("--select", "--exclude", "--full-refresh"):
        done = cli("sync", option, "order")
        assert (done.exit_code, synced()) == (2, [])
        assert f"error: `{option}`: no table matches 'order'\nhint: did you mean 'orders'?\n" == done.stderr


def test_a_source_that_cannot_be_looked_at_holds_back_no_other(two):
    Path("shop.db").unlink()
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    Path("shop.db").write_bytes(b"this is no database" * 100)
    done = two("sync", "--select", "people")
    assert done.exit_code != 0
    assert synced() == ["people"]
