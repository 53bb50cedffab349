"""A spec that names a backend: what a user sees of it."""

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import duckdb
import psycopg
import pytest
import redis

from services.mariadb import MariaDBServer
from services.postgresql import PostgreSQLServer
from services.redis import DURABLE, RedisServer, valkey_program
from strandline.engine.task import Retries
from strandline.lazy import pa
from strandline.plugins import load_plugin


@pytest.fixture
def valkey():
    with RedisServer(valkey_program(), *DURABLE) as server:
        yield server


@pytest.fixture
def in_sqlite():
    return {"path": "kept/state.db"}, lambda: Path("kept/state.db").unlink()


@pytest.fixture
def in_postgresql(postgresql):
    def lose():
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute("DROP TABLE cq_cursors, cq_cursors_history")

    return {"connection_string": postgresql}, lose


@pytest.fixture
def in_mysql(mariadb_server, mysql):
    def lose():
        mariadb_server.execute("DROP TABLE cq_cursors, cq_cursors_history", database=mysql.rpartition("/")[2])

    return {"connection_string": mysql}, lose


@pytest.fixture
def in_redis(valkey):
    def lose():
        with closing(redis.Redis.from_url(valkey.url)) as client:
            client.flushall()

    return {"url": valkey.url}, lose


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql", "redis"])
def test_cursors_are_kept_listed_and_written_again_when_they_are_lost(request, cli, name):
    settings, lose = request.getfixturevalue(f"in_{name}")
    tables = {"orders": {"incremental_key": "at"}}
    cli.shop("orders", tables=tables, backend=name, backend_spec=settings)
    done = cli("sync")
    assert (done.exit_code, "2 new or changed" in done.stdout) == (0, True), done.output
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("INSERT INTO orders (status, at) VALUES ('late', '2026-02-01 00:00:00')")
    assert cli("sync").exit_code == 0
    assert "2026-02-01 00:00:00" in cli("state", "list").stdout
    lose()
    assert "shop/orders" not in cli("state", "list").stdout
    assert cli("sync").exit_code == 0
    assert "2026-02-01 00:00:00" in cli("state", "list").stdout
    with duckdb.connect("w.duckdb", read_only=True) as warehouse:
        assert warehouse.sql("SELECT count(*) FROM orders").fetchall() == [(3,)]


@pytest.fixture
def own_server(request):
    """A server of the test's own, its settings as a backend, and how it is killed and started again."""

    def started(name, stack):
        if name == "redis":
            server = stack.enter_context(RedisServer(valkey_program(), *DURABLE))
            return {"url": server.url}, server.kill, server.start
        if name == "mysql":
            server = stack.enter_context(MariaDBServer())
            return {"connection_string": server.uri()}, server.kill, server.start
        server = PostgreSQLServer().create()
        stack.callback(server.remove)
        return {"connection_string": server.uri()}, server.crash, server.start

    with ExitStack() as stack:
        yield started(request.param, stack)


@pytest.mark.parametrize("comes_back", [True, False], ids=["comes back", "stays away"])
@pytest.mark.parametrize(
    ("name", "own_server"), [(name, name) for name in ("postgresql", "mysql", "redis")], indirect=["own_server"]
)
def test_a_server_that_is_killed_in_mid_run_costs_time_and_no_row(cli, monkeypatch, name, own_server, comes_back):
    """Beside a destination that keeps no states: what is durable there is covered, or read again."""
    settings, kill, start = own_server
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "crash" / "doubles")
    cli.shop(
        "orders",
        tables={"orders": {"incremental_key": "at"}},
        into="plain",
        path="plain",
        backend=name,
        backend_spec=settings,
    )
    assert cli("sync").exit_code == 0
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("INSERT INTO orders (status, at) VALUES ('late', '2026-02-01 00:00:00')")
    cls, killed = load_plugin("state_backend", name), []
    sound = cls.save

    def save(self, key, state, **more):
        if key.task == "orders" and state.cursor and state.cursor["shown"].startswith("2026-02") and not killed:
            killed.append(key)
            kill()
            if comes_back:
                start()
        return sound(self, key, state, **more)

    monkeypatch.setattr(cls, "save", save)
    monkeypatch.setattr(Retries, "pause_s", lambda *_: 0.01)
    done = cli("sync")
    assert killed
    assert done.exit_code == (0 if comes_back else 5), done.output
    if not comes_back:
        start()
        assert "2026-02-01" not in cli("state", "list").stdout
        assert cli("sync", "--takeover").exit_code == 0
    assert "2026-02-01 00:00:00" in cli("state", "list").stdout
    with pa.OSFile("plain/orders.rows") as file, pa.ipc.open_file(file) as reader:
        assert sorted(reader.read_all()["id"].to_pylist()) == [1, 2, 3]


def test_a_backend_that_is_not_there_leaves_everything_as_it_was(cli):
    cli.shop("orders", backend="redis", backend_spec={"url": "redis://:s3cret-word@127.0.0.1:1/0"})
    done = cli("sync")
    assert done.exit_code == 5
    assert "Redis 127.0.0.1:1" in done.output
    assert "s3cret-word" not in done.output
    assert not Path("w.duckdb").exists()


def test_a_server_that_can_lose_a_cursor_is_a_mistake_of_the_spec(cli):
    with RedisServer(valkey_program()) as server:
        cli.shop("orders", backend="redis", backend_spec={"url": server.url})
        for command in ("plan", "sync"):
            done = cli(command)
            assert done.exit_code == 2
            assert "accept: [no-persistence]" in done.output
        assert not Path("w.duckdb").exists()
        assert cli("doctor").exit_code == 1


def test_what_a_backend_keeps_in_the_source_s_own_database_is_not_read(cli):
    cli.shop("orders", backend="sqlite", backend_spec={"path": "shop.db", "table": "kept"})
    for _ in range(2):
        assert cli("sync").exit_code == 0
    with duckdb.connect("w.duckdb", read_only=True) as warehouse:
        names = {name for (name,) in warehouse.sql("SELECT table_name FROM duckdb_tables()").fetchall()}
    assert "orders" in names
    assert not {name for name in names if name.startswith("kept")}
