"""A backend that has lost what it knew, beside a destination that keeps no states: missing is not empty, and what went back is no gap.

Each kind of backend, as a person or a server loses it: one key, all of them, and a backup that is put back.
"""

import json
import shutil
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import duckdb
import obstore
import psycopg
import pytest
import redis
from kept import InObjects, InRedis, InTables
from obstore.store import S3Store

from services.redis import DURABLE, RedisServer, valkey_program
from services.s3 import S3
from strandline.lazy import pa
from strandline.plugins import load_plugin

TASK = "orders"


class InFiles:
    """In a directory, or a file of DuckDB."""

    def __init__(self, path, copy):
        self._path, self._copy = Path(path), Path(copy)

    def snapshot(self):
        (shutil.copytree if self._path.is_dir() else shutil.copy)(self._path, self._copy)

    def restore(self, kept):
        self.empty()
        (shutil.copytree if self._copy.is_dir() else shutil.copy)(self._copy, self._path)

    def empty(self):
        if self._path.is_dir():
            shutil.rmtree(self._path)
        self._path.unlink(missing_ok=True)

    def delete(self):
        (found,) = self._path.rglob(f"*{TASK}@*.json")
        found.unlink()


class Keeper(InFiles):
    """The destination that keeps the states of another one."""

    def delete(self):
        with duckdb.connect(str(self._path)) as connection:
            connection.execute("DELETE FROM cq_state WHERE task = ?", [TASK])


class Tables(InTables):
    def delete(self):
        self._run([f"DELETE FROM {name} WHERE task = '{TASK}'" for name in self._tables])

    def empty(self):
        self._run([f"DELETE FROM {name}" for name in self._tables])

    def _run(self, statements):
        with closing(self._connect()) as connection:
            for statement in statements:
                connection.cursor().execute(statement)
            connection.commit()


class Keys(InRedis):
    def delete(self):
        self._client.hdel("strandline:{shop}:states", f"{TASK} copy")

    def empty(self):
        self._client.flushall()


class Objects(InObjects):
    def delete(self):
        (found,) = [name for name in self._names() if TASK in name]
        obstore.delete(self._store, found)

    def empty(self):
        obstore.delete(self._store, self._names())


def opened(name, settings):
    cls = load_plugin("state_backend", name)
    return closing(cls(cls.Spec(**settings)))


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def backends(request, cli):
    """By kind: what the spec says of it, and the hands that lose something."""

    def tables(name, settings, connect, parameter):
        backend = request.getfixturevalue("stack").enter_context(opened(name, settings))
        return {"backend": name, "backend_spec": settings}, Tables(backend, connect, parameter)

    def kind(name):
        if name == "local":
            return {"backend_spec": {"path": "kept"}}, InFiles("kept", "copied")
        if name == "destination":
            options = {"table_name": "cq_state_shop", "connection": "@@plugins.keeper.connection"}
            return {"backend_options": options}, Keeper("keeper.duckdb", "copied.duckdb")
        if name == "sqlite":
            return tables(name, {"path": "kept.db"}, lambda: sqlite3.connect("kept.db"), "?")
        if name == "postgresql":
            uri = request.getfixturevalue("postgresql")
            return tables(name, {"connection_string": uri}, lambda: psycopg.connect(uri), "%s")
        if name == "mysql":
            uri, server = request.getfixturevalue("mysql"), request.getfixturevalue("mariadb_server")
            return tables(name, {"connection_string": uri}, lambda: server.connect(uri.rpartition("/")[2]), "%s")
        stack = request.getfixturevalue("stack")
        if name == "redis":
            server = stack.enter_context(RedisServer(valkey_program(), *DURABLE))
            client = stack.enter_context(closing(redis.Redis.from_url(server.url)))
            return {"backend": name, "backend_spec": {"url": server.url}}, Keys(None, client)
        s3 = stack.enter_context(S3())
        store = S3Store("bucket", client_options={"allow_http": True}, **s3.options)
        settings = {"url": "s3://bucket/states", "options": s3.options}
        return {"backend": name, "backend_spec": settings}, Objects(None, store)

    return kind


@pytest.fixture
def plain(monkeypatch):
    """The destination of that name, which keeps no states."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "crash" / "doubles")


def spec(cli, settings):
    tables = {TASK: {"incremental_key": "id"}}
    source = {
        "name": "shop",
        "path": "sqlite",
        "tables": [TASK],
        "destinations": ["copy"],
        "spec": {"path": "shop.db", "tables": tables},
    }
    cli.spec(
        ("source", source | settings),
        ("destination", {"name": "copy", "path": "plain", "write_mode": "append", "spec": {"path": "plain"}}),
        ("destination", {"name": "keeper", "path": "duckdb", "spec": {"path": "keeper.duckdb"}}),
    )


def insert():
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("INSERT INTO orders (status) VALUES ('late')")


def ids():
    with pa.OSFile(f"plain/{TASK}.rows") as file, pa.ipc.open_file(file) as reader:
        return sorted(reader.read_all()["id"].to_pylist())


def rows_read(cli):
    done = cli("sync", "--summary-location", "summary.jsonl")
    assert done.exit_code == 0, done.output
    (task,) = json.loads(Path("summary.jsonl").read_text("utf-8").splitlines()[-1])["tasks"]
    return task["rows_read"]


KINDS = ["local", "sqlite", "postgresql", "mysql", "redis", "objects", "destination"]


@pytest.mark.parametrize("name", KINDS)
def test_what_a_backend_has_lost_is_noticed_and_what_went_back_is_read_again(cli, plain, backends, name):
    settings, hands = backends(name)
    cli.sqlite("shop.db", TASK, rows=20)
    spec(cli, settings)
    assert rows_read(cli) == 20
    assert TASK in cli("state", "list").stdout
    kept = hands.snapshot()
    insert()
    assert rows_read(cli) == 2  # with the row at the cursor, which is read at every sync
    for lose in (hands.delete, hands.empty):
        lose()
        before = ids()
        done = cli("sync")
        assert (done.exit_code, "--full-refresh" in done.output) == (3, True), done.output
        assert cli("plan").exit_code == 3
        assert ids() == before
    hands.restore(kept)
    insert()
    assert rows_read(cli) == 3
    assert set(ids()) == set(range(1, 23))


def test_a_cursor_that_redis_has_evicted_is_missed(cli, plain):
    with RedisServer(valkey_program(), "--maxmemory-policy", "allkeys-random", *DURABLE) as server:
        spec(cli, {"backend": "redis", "backend_spec": {"url": server.url, "accept": ["eviction"]}})
        cli.sqlite("shop.db", TASK)
        assert rows_read(cli) == 2
        with closing(redis.Redis.from_url(server.url)) as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(redis.OutOfMemoryError):
                client.set("x", "y")  # for which it has dropped all else
            client.config_set("maxmemory", 0)
            assert client.dbsize() == 0
        assert cli("sync").exit_code == 3
        assert ids() == [1, 2]


def test_a_redis_that_kept_nothing_on_disk_is_missed_after_a_crash(cli, plain):
    with RedisServer(valkey_program()) as server:
        spec(cli, {"backend": "redis", "backend_spec": {"url": server.url, "accept": ["no-persistence"]}})
        cli.sqlite("shop.db", TASK)
        assert rows_read(cli) == 2
        server.kill()
        server.start()
        done = cli("sync")
        assert (done.exit_code, "--full-refresh" in done.output) == (3, True), done.output
        assert ids() == [1, 2]
