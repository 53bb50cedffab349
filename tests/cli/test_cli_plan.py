"""What `plan` says of each table, in the words of somebody who has to decide whether to sync."""

import json
import re
import sqlite3
from contextlib import closing

import pytest

from strandline.cli import plan as command

KEYED = {"orders": {"incremental_key": "at", "lag": "5m", "deletes": "sweep"}}


def planned(cli, *arguments):
    """The lines of each table, and those of all."""
    done = cli("plan", *arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def cells(said):
    """The cells of each line of the table, by those of its first column."""
    return {parts[0]: parts[1:] for line in said.splitlines() if len(parts := re.split("  +", line.strip())) > 2}


def test_a_table_says_how_each_table_is_read_from_where_and_what_would_change(cli):
    cli.shop("orders", "items", tables=KEYED)
    assert cells(planned(cli)) == {
        "table": ["reads", "finds changes", "from", "would change"],
        "items": ["in full", "everything", "create"],
        "orders": ["incremental", "by at (lag: 5m, deletes: sweep)", "everything (first sync)", "create"],
    }
    assert "shop → copy (overwrite)\n" in planned(cli)
    assert cli("sync").exit_code == 0
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("ALTER TABLE orders ADD COLUMN note TEXT")
    assert cells(planned(cli))["orders"][2:] == ["2026-01-01 00:00:01", "add column note"]
    assert cells(planned(cli))["items"] == ["in full", "everything", "nothing"]
    assert cells(planned(cli, "--full-refresh", "orders"))["orders"][:2] == ["full refresh", "everything"]


def test_what_would_change_is_counted_where_it_is_much(cli):
    cli.shop("orders")
    assert cli("sync").exit_code == 0
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        for number in range(12):
            connection.execute(f"ALTER TABLE orders ADD COLUMN note{number} TEXT")
    assert cells(planned(cli))["orders"][-1] == "add 12 columns"
    assert planned(cli, "-v").count("ADD COLUMN") == 12


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_fits_the_terminal_and_no_name_is_cut(cli, monkeypatch, width):
    monkeypatch.setattr(command, "terminal_width", lambda: width)
    name = "events_of_the_customer_service_department_of_last_year"
    cli.shop("orders", name, tables=KEYED | {name: {"incremental_key": "at", "lag": "1d"}})
    lines = planned(cli).splitlines()
    table = lines[: next(at for at, line in enumerate(lines) if "settled" in line)]
    assert max(map(len, table)) <= width
    assert "".join(re.split("  +", line.strip())[0] for line in table).count(name) == 1
    for word in ("incremental", "everything", "create", "sweep)") * (width > 40):
        assert any(word in line for line in table)


def test_what_cannot_run_comes_last_and_is_red_on_a_terminal(cli):
    cli.shop("orders", "items", tables={"items": {"incremental_key": "nothing"}})
    done = cli("plan")
    assert done.exit_code == 2
    assert [*cells(done.stdout)] == ["table", "orders"]
    assert "  items   cannot run\n" in done.stdout
    assert "  error: table 'items' has no column 'nothing' (strandline.yml:1:" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_line_of_json_for_each_table(cli):
    cli.shop("orders", "items", tables=KEYED | {"items": {"incremental_key": "nothing"}})
    done = cli("plan", "--json")
    assert done.exit_code == 2
    orders, items = sorted(map(json.loads, done.stdout.splitlines()), key=lambda one: one["exit_code"])
    assert (orders["task"], orders["reads"], orders["finds_changes"]) == (
        "orders",
        "incremental",
        "by at (lag: 5m, deletes: sweep)",
    )
    (change,) = orders["changes"]
    assert (change["kind"], change["statements"][0][:12]) == ("create", "CREATE TABLE")
    assert (items["error"]["message"], items["exit_code"]) == ("table 'items' has no column 'nothing'", 2)


def test_details_of_one_table(cli):
    cli.shop("orders", "items", tables=KEYED)
    said = planned(cli, "-v", "--select", "orders")
    assert "CREATE TABLE" in said
    assert "items" not in said


def test_key_and_settings_are_said_of_a_table_that_is_read_incrementally(cli):
    cli.shop("orders", "items", tables=KEYED)
    said = planned(cli, "-v")
    assert (
        "mode       overwrite, incrementally by at (lag: 5m, deletes: sweep), the first sync reads everything\n" in said
    )
    assert "mode       overwrite, read in full at every sync\n" in said
    assert "from nothing" not in said
    assert cli("sync").exit_code == 0
    said = planned(cli, "-v")
    assert "incrementally by at (lag: 5m, deletes: sweep), from cursor 2026-01-01 00:00:01\n" in said
    assert "mode       overwrite, read in full at every sync\n" in said


def test_a_source_of_sqlite_says_how_it_finds_what_changed(cli):
    cli.shop("orders", "items", "notes", tables={name: {"incremental_key": "at"} for name in ("orders", "notes")})
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("CREATE INDEX orders_at ON orders (at)")
        connection.execute("CREATE VIEW recent AS SELECT * FROM orders")
    said = re.findall(r"shop → copy: (\w+)\n.*\n  reads by   (.*)\n", planned(cli, "-v"))
    assert said == [
        ("items", "a scan of the table"),
        ("notes", "a scan of the table: 'at' has no index"),
        ("orders", "an index on 'at'"),
        ("recent", "a query of the whole view"),
    ]


@pytest.mark.parametrize("into", ["duckdb", "sqlite"])
def test_what_only_marks_a_table_is_not_shown(cli, into):
    cli.shop("orders", into=into)
    said = planned(cli, "-v")
    assert "CREATE TABLE" in said
    assert "cq_mark_" not in said
    assert "COMMENT ON TABLE" not in said


def test_the_text_of_a_class_is_printed_once_with_its_tables(cli):
    cli.shop("orders", "items", "notes", tables=KEYED)
    said = planned(cli)
    assert said.count("every row is read at every sync") == 1
    assert "\n  full read: items, notes\n    every row is read at every sync;" in said
    said = planned(cli, "-v")
    assert said.count("every row is read at every sync") == 1
    assert said.count("guarantee  full read\n") == 2


def test_of_many_tables_of_a_class_the_first_are_named_and_the_others_counted(cli):
    names = [f"t{number:02}" for number in range(12)]
    cli.shop(*names)
    first = "\n  full read: t00, t01, t02, t03, t04 and 7 more\n"
    assert first in planned(cli)
    assert f"\nfull read: {', '.join(names)}\n" in planned(cli, "-v")
    said = [json.loads(line) for line in planned(cli, "--json").splitlines()]
    assert sorted(table for one in said for table in one["tables"]) == names


def test_limits_that_only_some_tables_of_a_class_have_are_said_of_these(cli):
    cli.shop(
        "orders",
        "items",
        "notes",
        tables=dict.fromkeys(("orders", "items", "notes"), KEYED["orders"]) | {"notes": {"incremental_key": "at"}},
    )
    said = planned(cli)
    assert "settled (single writer): items, notes, orders\n" in said
    assert said.count("a clock set back hides rows") == 1
    assert "\n    notes: deleted rows stay (`deletes: sweep` removes them)\n" in said
    assert "items, orders: with `lag`, rows that appear up to 300 s late are read" in said


def test_a_warning_of_several_tables_is_printed_once(cli):
    settings = {name: {"where": "id > 0"} for name in ("orders", "items")}
    cli.shop("orders", "items", mode="overwrite-delete-stale")
    assert cli("sync").exit_code == 0
    (cli.directory / "shop.db").unlink()
    cli.shop("orders", "items", tables=settings, mode="overwrite-delete-stale")
    warnings = [line for line in planned(cli).splitlines() if line.startswith("  warning: ")]
    assert len(warnings) == 2
    assert all("shop/" not in line for line in warnings)


@pytest.mark.parametrize("width", [60, 80])
def test_lines_are_wrapped_by_words_on_a_terminal(cli, monkeypatch, width):
    monkeypatch.setattr(command, "terminal_width", lambda: width)
    cli.shop("orders", "items", tables=KEYED)
    lines = planned(cli).splitlines()
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()).count("need `lag`; a clock set back hides rows") == 1


@pytest.mark.parametrize("into", ["duckdb", "sqlite", "files"])
def test_a_table_that_is_read_in_full_and_appended_is_stored_again_at_every_sync(cli, into):
    key = {"orders": {"incremental_key": "at"}}
    cli.shop("orders", "items", tables=key, into=into, mode="append", path="w/" if into == "files" else "w.db")
    items, orders = cli("plan", "-v").stdout.split("shop → copy: ")[1:]
    assert "every sync appends all rows again" in items
    assert "once" not in items
    assert "every sync appends all rows again" not in orders
    assert "each row version once" in orders


def test_without_a_cursor_everything_is_appended_again(cli):
    cli.shop("orders", tables={"orders": {"incremental_key": "at"}}, mode="append", backend="none")
    assert "every sync appends all rows again" in cli("plan").stdout
