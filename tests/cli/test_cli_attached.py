"""What people have attached to our tables, on the command line: `plan` says what a sync would do to it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb


def sql(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        return [connection.execute(one).fetchall() for one in statements][-1]


def referred(cli, **settings):
    """A table in SQLite that was synced, and one of the user's that refers to it; then row 1 goes at the source."""
    cli.shop("orders", into="sqlite", mode="overwrite-delete-stale", path="w.sqlite", **settings)
    assert cli("sync").exit_code == 0
    sql(
        "w.sqlite",
        "CREATE UNIQUE INDEX IF NOT EXISTS by_id ON orders (id)",
        "CREATE TABLE IF NOT EXISTS note (tid INTEGER REFERENCES orders (id) ON DELETE CASCADE, txt TEXT)",
        "INSERT INTO note VALUES (1, 'mine')",
    )
    sql("shop.db", "DELETE FROM orders WHERE id = 1")


def test_a_delete_that_somebodys_foreign_key_would_follow_is_announced_and_refused(cli):
    referred(cli)
    said = " ".join(cli("plan").stdout.split())
    assert "of note (ON DELETE CASCADE) refers to its rows" in said
    assert "allow_cascade: true" in said
    for arguments in (("sync",), ("sync", "--full-refresh", "orders")):
        done = cli(*arguments)
        assert done.exit_code == 1, done.output
        assert "refers to 1 row that would be deleted" in done.output
        assert "allow_cascade" in done.output
    assert sql("w.sqlite", "SELECT * FROM note") == [(1, "mine")]
    assert sql("w.sqlite", "SELECT id FROM orders") == [(1,), (2,)]


def test_a_delete_that_the_spec_allows_is_followed_by_the_foreign_key(cli):
    referred(cli, table_settings={"orders": {"allow_cascade": True}})
    said = " ".join(cli("plan").stdout.split())
    assert "decides what becomes of rows that refer to a deleted one" in said
    assert cli("sync").exit_code == 0
    assert sql("w.sqlite", "SELECT * FROM note") == []
    assert sql("w.sqlite", "SELECT id FROM orders") == [(2,)]


def test_a_full_refresh_says_which_values_of_somebody_it_loses(cli):
    cli.shop("orders", mode="append")
    assert cli("sync").exit_code == 0
    with duckdb.connect("w.duckdb") as connection:
        connection.execute("ALTER TABLE orders ADD COLUMN mine VARCHAR")
    assert "loses the values" not in cli("plan").stdout
    for command in ("plan", "sync"):
        done = cli(command, "--full-refresh", "orders")
        assert done.exit_code == 0
        assert "loses the values of mine" in " ".join(done.output.split())


def test_a_table_that_is_created_again_says_what_it_is_created_without(cli):
    cli.shop("orders", mode="overwrite")
    assert cli("sync").exit_code == 0
    with duckdb.connect("w.duckdb") as connection:
        connection.execute("ALTER TABLE orders ADD COLUMN mine VARCHAR")
    sql("shop.db", "DROP TABLE orders", "CREATE TABLE orders (id INTEGER PRIMARY KEY, status BLOB, at TEXT)")
    sql("shop.db", "INSERT INTO orders VALUES (1, x'00', '')")
    spec = Path("strandline.yml")
    spec.write_text(spec.read_text().replace('"write_mode"', '"migrate_mode": "forced", "write_mode"'))
    said = " ".join(cli("plan").stdout.split())
    assert "is created again without column mine" in said
    assert "lost: column mine" in cli("migrate").output
