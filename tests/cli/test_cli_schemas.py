"""`schema` of destinations on the command line: two of them in one place, and what is said when they cannot be."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

SHOP = {"name": "shop", "path": "sqlite", "tables": ["*"], "spec": {"path": "shop.db"}}


def destination(name, plugin, **spec):
    return "destination", {"name": name, "path": plugin, "spec": spec}


@pytest.fixture
def two(cli):
    """``orders`` and ``items`` into the schemas ``a`` and ``b`` of one SQLite file."""
    cli.sqlite("shop.db", "orders", "items")

    def write(one="a", other="b"):
        places = [destination(name, "sqlite", path="w.sqlite", schema=name) for name in (one, other)]
        cli.spec(("source", SHOP | {"destinations": [one, other]}), *places)
        return cli

    return write


def stored(table):
    with closing(sqlite3.connect("w.sqlite")) as connection:
        return connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]


def test_one_source_into_two_schemas_of_a_file(two):
    cli = two()
    said = cli("plan", "-v").stdout
    for name in ("a_orders", "b_orders", "a_items", "b_items"):
        assert f"{name}: create" in said
        assert f'CREATE TABLE "main"."{name}"' in said
    assert cli("sync").exit_code == 0
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("DELETE FROM orders WHERE id = 1")
    assert cli("sync", "--full-refresh", "orders").exit_code == 0
    assert [stored(name) for name in ("a_orders", "b_orders", "a_items", "b_items")] == [1, 1, 2, 2]
    assert cli("plan", "-v").stdout.count("change     none") == 4
    assert "under names that begin with a_" in cli("doctor").stdout


def test_another_schema_is_another_place_and_not_a_first_sync(two, cli):
    assert two()("sync").exit_code == 0
    cli.spec(("source", SHOP | {"destinations": ["a"]}), destination("a", "sqlite", path="w.sqlite", schema="c"))
    done = cli("sync")
    assert done.exit_code == 3
    assert "gone from the destination" in done.stdout
    assert cli("sync", "--full-refresh", "*").exit_code == 0
    assert (stored("c_orders"), stored("a_orders")) == (2, 2)


def test_a_reserved_prefix_is_an_error_with_its_place(two):
    done = two(other="cq")("validate-config")
    assert done.exit_code == 2
    assert "error: `spec.spec.schema`: tables with the prefix 'cq' would have names of" in done.stderr


def test_files_of_a_table_and_of_a_schema_are_kept_apart(cli):
    cli.sqlite("shop.db", "orders", "crm")
    cli.spec(("source", SHOP | {"destinations": ["lake"]}), destination("lake", "files", path="lake"))
    assert cli("sync").exit_code == 0
    places = [destination(name, "files", path="lake", schema=name) for name in ("crm", "erp")]
    cli.spec(("source", SHOP | {"destinations": ["crm", "erp"]}), *places)
    for command in ("plan", "sync"):
        done = cli(command)
        assert done.exit_code == 2
        assert "has the files of the table 'crm', so it cannot be that of the schema 'crm'" in done.output
    cli.spec(("source", SHOP | {"destinations": ["erp"]}), places[1])
    assert cli("sync").exit_code == 0
    assert {path.parent.as_posix() for path in Path("lake").rglob("*.parquet")} == {
        "lake/orders",
        "lake/crm",
        "lake/erp/orders",
        "lake/erp/crm",
    }
