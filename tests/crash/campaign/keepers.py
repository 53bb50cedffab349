"""The state backends: where each keeps its states, how it is emptied for a world, and what of it is left over."""

import json
import threading
import uuid
from contextlib import closing
from functools import cache
from pathlib import Path

import redis

from services.mariadb import MariaDBServer
from services.redis import DURABLE, RedisServer, valkey_program
from services.s3 import S3
from strandline.plugins import load_plugin
from strandline.state_format import parts_of

SOURCE = "shop"
_LOCAL, _FILE = ".cq/state", ".cq/state.db"


class Keeper:
    """One backend of one worker; its server is started once, and ends with ``stack``.

    Args:
        stack: ends what is started.
        databases: gives a database of PostgreSQL.
    """

    places = ()
    """Parts of the paths of its files."""

    def __init__(self, stack, databases):
        self.stack, self.databases = stack, databases

    def begin(self, world):
        """Empty it, for a new world in this directory; the settings of a spec."""
        self.settings = self.empty(world)
        return {"backend": self.name, "backend_spec": self.settings}

    def load(self):
        """What it has of the source, by lineage."""
        plugin = load_plugin("state_backend", self.name)
        with closing(plugin(plugin.Spec(**self.settings))) as backend:
            return backend.load(SOURCE)

    def left(self, tables):
        """Files that are of no state of these tables."""
        return set()


def _parts(path):
    """That the versions in a file of `local` name."""
    return [name for state in json.loads(path.read_text())["states"] for name in parts_of(json.dumps(state))]


class LocalKeeper(Keeper):
    name = "local"
    places = (f"{_LOCAL}/{SOURCE}",)

    def begin(self, world):
        """As a spec has it that says nothing of a backend."""
        self._folder = Path(world, _LOCAL)
        self.settings = {"path": str(self._folder)}
        return {}

    def left(self, tables):
        folder = self._folder / SOURCE
        states = {".lock", ".parts", *(f"{name}@warehouse.json" for name in ("%40run", *tables))}
        named = {name for path in folder.glob("*.json") for name in _parts(path)}
        # a part that nobody names any more goes with the next commit, and the last sync may have had none
        missing = named - {path.name for path in folder.glob(".parts/*/*")}
        return {path.name for path in folder.iterdir()} - states | missing


class SQLiteKeeper(Keeper):
    name = "sqlite"
    places = (_FILE,)

    def empty(self, world):
        return {"path": str(Path(world, _FILE)), "busy_timeout": "2s"}


class PostgreSQLKeeper(Keeper):
    name = "postgresql"

    def empty(self, world):
        del world
        return {"connection_string": self.databases.empty("states")}

    def crash(self):
        self.databases.server.crash()
        self.databases.server.start()


class MySQLKeeper(Keeper):
    name = "mysql"

    def __init__(self, stack, databases):
        super().__init__(stack, databases)
        self._server = stack.enter_context(MariaDBServer())

    def empty(self, world):
        del world
        self._server.execute("DROP DATABASE IF EXISTS states", "CREATE DATABASE states")
        return {"connection_string": self._server.uri("states"), "timeout": "5s"}

    def crash(self):
        self._server.kill()
        self._server.start()


class RedisKeeper(Keeper):
    name = "redis"

    def __init__(self, stack, databases):
        super().__init__(stack, databases)
        self._server = stack.enter_context(RedisServer(valkey_program(), *DURABLE))

    def empty(self, world):
        del world
        with closing(redis.Redis.from_url(self._server.url)) as client:
            client.flushall()
        return {"url": self._server.url}

    def crash(self):
        self._server.kill()
        self._server.start()


class ObjectsKeeper(Keeper):
    name = "objects"

    def empty(self, world):
        del world
        return {"url": f"s3://bucket/{uuid.uuid4().hex}", "options": s3().options}


_starting = threading.Lock()


def s3():
    """An object store of all workers: what it keeps is of the process, and ends with it."""
    with _starting:
        return _started_s3()


@cache
def _started_s3():
    return S3().__enter__()


_ALL = (LocalKeeper, SQLiteKeeper, PostgreSQLKeeper, MySQLKeeper, RedisKeeper, ObjectsKeeper)
KEEPERS = {one.name: one for one in _ALL}
