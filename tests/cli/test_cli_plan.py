"""What `plan` says of each table, in the words of somebody who has to decide whether to sync."""

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


def test_key_and_settings_are_said_of_a_table_that_is_read_incrementally(cli):
    cli.shop("orders", "items", tables=KEYED)
    said = planned(cli)
    assert (
        "mode       overwrite, incrementally by at (lag: 5m, deletes: sweep), the first sync reads everything\n" in said
    )
    assert "mode       overwrite, read in full at every sync\n" in said
    assert "from nothing" not in said
    assert cli("sync").exit_code == 0
    said = planned(cli)
    assert "incrementally by at (lag: 5m, deletes: sweep), from cursor 2026-01-01 00:00:01\n" in said
    assert "mode       overwrite, read in full at every sync\n" in said


def test_a_source_of_sqlite_says_how_it_finds_what_changed(cli):
    cli.shop("orders", "items", "notes", tables={name: {"incremental_key": "at"} for name in ("orders", "notes")})
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("CREATE INDEX orders_at ON orders (at)")
        connection.execute("CREATE VIEW recent AS SELECT * FROM orders")
    said = re.findall(r"shop → copy: (\w+)\n.*\n  reads by   (.*)\n", planned(cli))
    assert said == [
        ("items", "a scan of the table"),
        ("notes", "a scan of the table: 'at' has no index"),
        ("orders", "an index on 'at'"),
        ("recent", "a query of the whole view"),
    ]


@pytest.mark.parametrize("into", ["duckdb", "sqlite"])
def test_what_only_marks_a_table_is_not_shown(cli, into):
    cli.shop("orders", into=into)
    said = planned(cli)
    assert "CREATE TABLE" in said
    assert "cq_mark_" not in said
    assert "COMMENT ON TABLE" not in said


def test_the_text_of_a_class_is_printed_once_with_its_tables(cli):
    cli.shop("orders", "items", "notes", tables=KEYED)
    said = planned(cli)
    assert said.count("every row is read at every sync") == 1
    assert "\nfull read: items, notes\n  every row is read at every sync;" in said
    assert said.count("guarantee  full read\n") == 2


def test_a_warning_of_several_tables_is_printed_once(cli):
    settings = {name: {"where": "id > 0"} for name in ("orders", "items")}
    cli.shop("orders", "items", mode="overwrite-delete-stale")
    assert cli("sync").exit_code == 0
    (cli.directory / "shop.db").unlink()
    cli.shop("orders", "items", tables=settings, mode="overwrite-delete-stale")
    warnings = [line for line in planned(cli).splitlines() if line.startswith("warning: ")]
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
    items, orders = cli("plan").stdout.split("shop → copy: ")[1:]
    assert "every sync appends all rows again" in items
    assert "once" not in items
    assert "every sync appends all rows again" not in orders
    assert "each row version once" in orders


def test_without_a_cursor_everything_is_appended_again(cli):
    cli.shop("orders", tables={"orders": {"incremental_key": "at"}}, mode="append", backend="none")
    assert "every sync appends all rows again" in cli("plan").stdout
