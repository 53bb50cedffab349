"""`--select`, `--exclude` and `--full-refresh` with several sources in one spec."""

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg
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


@pytest.fixture
def sales(cli, postgresql):
    """``orders`` in the schemas public and sales of a server; the second is ``sales_orders`` at the destination."""
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA sales")
        for name in ("orders", "sales.orders", "sales.items"):
            connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")

    def write(**settings):
        source = {"name": "shop", "path": "postgresql", "destinations": ["w"], "tables": ["*"]} | settings
        own = {"connection_string": postgresql, "schemas": ["public", "sales"]}
        cli.spec(("source", source | {"spec": own}), documents()[0])
        return cli

    return write


@pytest.mark.parametrize("name", ["sales.orders", "sales_orders", "sales.o*"])
def test_a_table_of_another_schema_is_called_by_either_name(sales, name):
    assert sales()("sync", "--select", name).exit_code == 0
    assert synced() == ["sales_orders"]
    assert sales()("sync", "--full-refresh", name, "--select", name).exit_code == 0
    assert sales()("sync", "--exclude", name).exit_code == 0
    assert synced() == ["orders", "sales_items", "sales_orders"]


def test_the_spec_takes_either_name(sales):
    assert sales(tables=["sales.*"], skip_tables=["sales_items"])("sync").exit_code == 0
    assert synced() == ["sales_orders"]


def test_so_is_one_of_the_schema_public(sales):
    assert sales()("sync", "--select", "public.*").exit_code == 0
    assert synced() == ["orders"]
    assert "hint: did you mean 'orders'?" in sales()("sync", "--select", "order").stderr


@pytest.mark.parametrize(
    ("gone", "name", "glob"),
    [
        ("sales.orders", "sales_orders", "sales.*"),
        ("sales.orders", "sales_orders", "sales_*"),
        ("sales.orders", "sales_orders", "*"),
        ("orders", "orders", "public.*"),
        ("orders", "orders", "*"),
    ],
)
def test_one_that_is_gone_is_named_by_either_name(sales, postgresql, gone, name, glob):
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY)")
        cli = sales(tables=[glob])
        assert cli("sync").exit_code == 0
        connection.execute(f"DROP TABLE {gone}")
    assert f"the source does not offer '{name}' any more" in "".join(cli("sync").output.splitlines())


def test_one_that_is_gone_and_left_out_is_not_named(sales, postgresql):
    assert sales()("sync").exit_code == 0
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("DROP TABLE sales.orders")
    for glob in ("sales.*", "sales_*"):
        done = sales(skip_tables=[glob])("sync")
        assert (done.exit_code, "any more" in done.output) == (0, False)


def test_one_that_is_there_and_not_chosen_any_more_is_not_gone(sales):
    assert sales()("sync").exit_code == 0
    done = sales(tables=["sales.*"])("sync")
    assert (done.exit_code, "any more" in done.output) == (0, False)
