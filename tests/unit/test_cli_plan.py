"""What `plan` says of each table, in the words of somebody who has to decide whether to sync."""

import pytest


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
