"""`table_settings` on the command line: what is read with them, and what is said when they fit no table."""

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg
import pytest

WAREHOUSE = ("destination", {"name": "w", "path": "duckdb", "write_mode": "overwrite", "spec": {"path": "w.duckdb"}})


@pytest.fixture
def shop(cli):
    """A spec of one SQLite file with ``orders``, ``items`` and ``notes``, and what it says of their tables."""
    cli.sqlite("shop.db", "orders", "items", "notes")

    def write(table_settings, *, own=None, **settings):
        source = {"name": "shop", "path": "sqlite", "tables": ["*"], "destinations": ["w"]}
        spec = {"path": "shop.db"} | ({"tables": own} if own else {})
        cli.spec(("source", source | {"spec": spec, "table_settings": table_settings} | settings), WAREHOUSE)
        return cli

    return write


def stored(sql):
    with closing(duckdb.connect("w.duckdb")) as connection:
        return connection.execute(sql).fetchall()


def add(table, at):
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute(f"INSERT INTO {table} (status, at) VALUES ('late', ?)", [at])


@pytest.mark.parametrize("nested", [False, True])
def test_a_sync_reads_each_table_as_it_is_told(shop, nested):
    tables = {
        "orders": {"incremental_key": "at", "lag": 0, "columns": ["id", "at"]},
        "*": {"incremental_key": "at", "lag": "1d"},
        "n*": {"where": "id = 1"},
    }
    cli = shop({}, own=tables) if nested else shop(tables)
    assert cli("sync").exit_code == 0
    assert [column for (column, *_) in stored("DESCRIBE orders")][2:] == ["id", "at"]
    for name in ("orders", "items"):
        add(name, "2025-12-31 23:00:00")
    assert cli("sync").exit_code == 0
    counts = [stored(f"SELECT count(*) FROM {name}") for name in ("orders", "items", "notes")]
    assert counts == [[(2,)], [(3,)], [(1,)]]  # only `items` looks back


def test_both_spellings_are_used_together(shop):
    cli = shop({"orders": {"lag": "1d"}}, own={"orders": {"incremental_key": "at"}})
    assert "incremental  by at (lag: 1d)" in cli("plan").stdout
    assert cli("sync").exit_code == 0


def test_plan_shows_what_a_glob_gives(shop):
    tables = {"*": {"incremental_key": "at", "lag": "5m", "deletes": "sweep"}, "i*": {"lag": "1h"}}
    said = shop(tables)("plan").stdout
    assert said.count("incremental  by at (lag: 5m, deletes: sweep)") == 2
    assert said.count("incremental  by at (lag: 1h, deletes: sweep)") == 1


@pytest.mark.parametrize("command", ["sync", "plan", "migrate"])
def test_a_key_that_means_no_table_is_an_error_with_its_place(shop, command):
    done = shop({"ordrs": {"lag": "5m"}, "x*": {"adopt": True}})(command)
    assert (done.exit_code, Path("w.duckdb").exists()) == (2, False)
    assert "error: SQLite file 'shop.db' has no table 'ordrs'\n  strandline.yml:1:" in done.stderr
    assert "hint: did you mean 'orders'?" in done.stderr


def test_so_it_is_where_the_plugin_is_told_nothing(shop):
    done = shop({"ordrs": {}, "x*": {"adopt": True}})("sync")
    assert done.exit_code == 2
    assert "error: source 'shop' has no table 'ordrs'\n  strandline.yml:1:" in done.stderr
    assert "error: source 'shop' has no table that matches 'x*'\n  strandline.yml:1:" in done.stderr


def test_a_table_that_is_not_chosen_may_have_settings(shop):
    assert shop({"notes": {"incremental_key": "at"}}, skip_tables=["notes"])("sync").exit_code == 0


def test_what_a_glob_gives_need_fit_the_chosen_tables_only(shop):
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("CREATE TABLE log (id INTEGER PRIMARY KEY)")
    tables = {"*": {"incremental_key": "at"}}
    assert shop(tables, skip_tables=["log"])("sync").exit_code == 0
    done = shop(tables)("sync")
    assert done.exit_code == 2
    assert "error: table 'log' has no column 'at'" in done.stderr
    assert "its settings are those of '*' (strandline.yml:1:" in done.stderr
    assert shop(tables | {"log": {"incremental_key": None}})("sync").exit_code == 0
    assert shop({"log": {"incremental_key": "at"}}, skip_tables=["log"])("sync").exit_code == 0


def test_two_tables_of_one_name_are_refused_before_anything_is_written(shop):
    done = shop({"*": {"name": "all"}}, skip_tables=["notes"])("sync")
    assert (done.exit_code, Path("w.duckdb").exists()) == (2, False)
    assert (
        "error: tables 'items' and 'orders' would both be 'all' at the destination\n  strandline.yml:1:" in done.stderr
    )


def test_files_take_keys_and_types_of_single_tables(cli):
    for name in ("orders", "items"):
        Path("data", name).mkdir(parents=True)
        Path("data", name, "a.csv").write_text("id,code\n1,7\n")
    tables = {"orders": {"primary_key": ["id"], "types": {"code": "string"}}, "*": {"primary_key": ["code"]}}
    source = {"name": "shop", "path": "files", "tables": ["*"], "destinations": ["w"], "spec": {"path": "data"}}
    cli.spec(("source", source | {"table_settings": tables}), WAREHOUSE)
    assert cli("sync").exit_code == 0
    assert (stored("SELECT id, code FROM orders"), stored("SELECT id, code FROM items")) == ([(1, "7")], [(1, 7)])
    listed = cli("tables").stdout.splitlines()
    assert [line.split()[2] for line in listed if line.split()[0] in {"orders", "items"}] == ["code", "id"]
    cli.spec(("source", source | {"table_settings": {"itms": {"types": {}}}}), WAREHOUSE)
    assert "error: 'data' has no table 'itms'\n  strandline.yml:1:" in cli("sync").stderr


@pytest.mark.parametrize("path", ["test", "memory"])
def test_sources_without_settings_of_tables_take_the_engines(cli, path):
    source = {"name": "shop", "path": path, "destinations": ["w"], "spec": {}}
    cli.spec(("source", source | {"table_settings": {"test_1": {"lag": "5m"}}}), WAREHOUSE)
    done = cli("validate-config")
    assert done.exit_code == 2
    assert f"error: source {path} takes no `lag` in table_settings" in done.stderr
    cli.spec(("source", source | {"table_settings": {"test_1": {"backfill": True}}}), WAREHOUSE)
    assert cli("validate-config").exit_code == 0


@pytest.fixture
def sales(cli, postgresql):
    """``sales.orders`` and ``sales.log`` of a server, with settings."""
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA sales")
        connection.execute("CREATE TABLE sales.log (id int PRIMARY KEY)")
        connection.execute("CREATE TABLE sales.orders (id int PRIMARY KEY, at timestamptz)")
        connection.execute("INSERT INTO sales.orders VALUES (1, now()), (2, NULL)")

    def write(tables, **own):
        spec = {"connection_string": postgresql, "schemas": ["sales"]} | own
        source = {"name": "shop", "path": "postgresql", "tables": ["*"], "destinations": ["w"], "spec": spec}
        cli.spec(("source", source | {"table_settings": tables}), WAREHOUSE)
        return cli

    return write


@pytest.mark.parametrize("name", ["sales.orders", "sales_orders", "*.orders"])
def test_a_table_of_another_schema_is_called_by_either_name(sales, name):
    cli = sales({"sales.*": {"lag": "5m"}, name: {"incremental_key": "at", "nulls": "exclude"}})
    said = cli("plan").stdout
    assert "incremental  by at (lag: 5m)" in said
    assert said.count("lag: 5m") == 1  # it means nothing for `sales.log`, which is read by xid
    assert cli("sync").exit_code == 0
    assert stored("SELECT id FROM sales_orders") == [(1,)]


def test_a_condition_under_a_glob_that_one_table_does_not_know(sales):
    tables = {"*": {"where": "at IS NOT NULL"}}
    done = sales(tables)("plan")
    assert done.exit_code == 2
    assert "table 'sales_log': `where` is no condition" in done.stdout
    assert sales(tables)("tables").exit_code == 0
    assert sales(tables | {"sales.log": {"where": None}})("sync").exit_code == 0
    assert stored("SELECT id FROM sales_orders") == [(1,)]


def test_a_table_of_the_schema_public_is_called_by_either_name(sales, postgresql):
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE TABLE people (id int PRIMARY KEY, at timestamptz)")
    for name in ("people", "public.people", "public.*"):
        cli = sales({name: {"incremental_key": "at"}}, schemas=["public", "sales"])
        assert cli("plan", "--select", "people").stdout.count("incremental  by at") == 1
    assert "did you mean 'people'?" in sales({"peopel": {"lag": "5m"}}, schemas=["public", "sales"])("plan").stderr


def test_both_names_cannot_set_the_same(sales):
    done = sales({"sales.orders": {"lag": "5m"}, "sales_orders": {"lag": "5m"}})("plan")
    assert done.exit_code == 2
    assert "error: `lag` of one table is set twice: under 'sales.orders' at strandline.yml:1:" in done.stdout


def test_names_and_defaults_hold_for_every_table(shop):
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("CREATE TABLE log (status TEXT)")  # without a key to be swept by
    defaults = {"deletes": "sweep", "columns": ["*", "-stat*"]}
    tables = {
        "orders": {"incremental_key": "at"},
        "items": {"name": "things"},
        "log": {"columns": ["*"], "write_mode": "append"},
    }
    cli = shop(tables, names="{source}_{table}", defaults=defaults, skip_tables=["notes"])
    said = cli("plan").stdout
    assert "shop → w (overwrite; log: append)\n" in said
    assert cli("sync").exit_code == cli("sync", "--select", "orders").exit_code == 0
    names = [
        name for (name,) in stored("SELECT table_name FROM duckdb_tables() ORDER BY 1") if not name.startswith("cq_")
    ]
    assert names == ["shop_log", "shop_orders", "things"]
    assert [column for (column, *_) in stored("DESCRIBE shop_orders")][2:] == ["id", "at"]
    assert "orders" in cli("state", "list").stdout  # as at the source, whatever it is called elsewhere


@pytest.mark.parametrize("columns", [["*", "-secrt"], ["*", "-stats_*"]])
def test_columns_that_leave_out_nothing_are_refused_at_their_place(shop, columns):
    done = shop({}, defaults={"columns": columns})("sync")
    assert (done.exit_code, Path("w.duckdb").exists()) == (2, False)
    assert "error: `columns` of `defaults`: no column matches " in done.stderr
    assert "strandline.yml:1:" in done.stderr


def test_a_key_that_is_left_out_is_refused_at_its_place(shop):
    done = shop({"orders": {"incremental_key": "at", "columns": ["*", "-a*"]}})("sync")
    assert (done.exit_code, Path("w.duckdb").exists()) == (2, False)
    assert "error: table 'orders': `columns` leaves out 'at' ('-a*'), which is a key of the table\n" in done.stderr
    assert "strandline.yml:1:" in done.stderr


@pytest.mark.parametrize("path", ["test", "files"])
def test_every_source_leaves_columns_out(cli, path):
    Path("data").mkdir()
    Path("data/test_1.csv").write_text("id,secret,note\n1,s,n\n")
    own = {"path": "data", "primary_key": ["id"]} if path == "files" else {"rows": 2}
    source = {"name": "shop", "path": path, "tables": ["*"], "destinations": ["w"], "spec": own}
    cli.spec(("source", source), WAREHOUSE)
    assert cli("sync").exit_code == 0
    [_, _, *columns] = [column for (column, *_) in stored("DESCRIBE test_1") if column != "_cq_id"]
    Path("w.duckdb").unlink()
    settings = {"names": "{table}_x", "table_settings": {"test_1": {"columns": [f"-{columns[-1]}"]}}}
    cli.spec(("source", source | {"name": "other"} | settings), WAREHOUSE)
    assert cli("sync").exit_code == 0
    assert [column for (column, *_) in stored("DESCRIBE test_1_x") if column != "_cq_id"][2:] == columns[:-1]


def test_a_template_names_tables_by_their_schema(sales, postgresql):
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, internal_a int)")
        connection.execute("INSERT INTO orders VALUES (7)")
    cli = sales(
        {"sales.*": {"names": "s_{table}"}, "public.*": {"columns": ["*", "-internal_*"]}}, schemas=["public", "sales"]
    )
    assert cli("sync", "--select", "*orders").exit_code == 0
    assert (stored("SELECT id FROM orders"), stored("SELECT count(*) FROM s_orders")) == ([(7,)], [(2,)])
    for name, task in {
        "sales.orders": "sales_orders",
        "sales_orders": "sales_orders",
        "public.orders": "orders",
    }.items():
        for command in ("show", "history", "diff"):
            assert f"{task}" in cli("state", command, "shop", name).stdout
    assert "shop/sales_orders → w: discarded" in cli("state", "reset", "shop", "sales.orders", "--yes").stdout
    assert [column for (column, *_) in stored("DESCRIBE orders")][2:] == ["id"]


def test_a_template_that_fits_no_table_is_refused_at_its_place(shop):
    done = shop({}, names="{schema}_{table}")("sync")
    assert (done.exit_code, Path("w.duckdb").exists()) == (2, False)
    assert "table 'items' has no schema\n  strandline.yml:1:" in done.stderr
