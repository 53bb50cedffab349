"""docs/state-backends.md, "Repair": a damaged state is taken out of a backend, and the destination's own is written there again."""

import sqlite3
from contextlib import closing
from pathlib import Path

import redis

from services.redis import DURABLE, RedisServer, valkey_program

ROW = "source = 'shop' AND task = 'orders' AND destination = 'copy'"
DAMAGE = f"UPDATE cq_cursors SET state = replace(state, '2026', '2025') WHERE {ROW}"
REMOVE = f"DELETE FROM cq_cursors WHERE {ROW}"


def stops_until_it_is_taken_out(cli, damage, remove, name, settings):
    cli.shop("orders", tables={"orders": {"incremental_key": "at"}}, backend=name, backend_spec=settings)
    assert cli("sync").exit_code == 0
    damage()
    stopped = cli("sync")
    assert stopped.exit_code == 3
    assert "take this one out of the backend" in stopped.output
    remove()
    again = cli("sync")
    assert again.exit_code == 0, again.output
    assert "2026-01-01" in cli("state", "list").stdout
    assert cli("state", "history", "shop", "orders").exit_code == 0


def test_of_a_file(cli):
    path = Path(".cq/state/shop/orders@copy.json")
    stops_until_it_is_taken_out(
        cli, lambda: path.write_text(path.read_text().replace("2026", "2025")), path.unlink, "local", {}
    )


def test_of_a_row(cli):
    def run(sql):
        with closing(sqlite3.connect("kept.db")) as connection, connection:
            connection.execute(sql)

    stops_until_it_is_taken_out(cli, lambda: run(DAMAGE), lambda: run(REMOVE), "sqlite", {"path": "kept.db"})


def test_of_a_value(cli):
    with RedisServer(valkey_program(), *DURABLE) as server, closing(redis.Redis.from_url(server.url)) as client:
        names = ("strandline:{shop}:states", "orders copy")
        stops_until_it_is_taken_out(
            cli,
            lambda: client.hset(*names, client.hget(*names).replace(b"2026", b"2025")),
            lambda: client.hdel(*names),
            "redis",
            {"url": server.url},
        )
