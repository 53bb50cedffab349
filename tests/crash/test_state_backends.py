"""The engine killed at every outside call, with each backend: beside rows that are committed with a state, and by itself."""

import sqlite3
from contextlib import closing

import psycopg
import pytest
import redis
from kept import InObjects, InRedis, InTables
from obstore.store import S3Store
from worlds import MemoryWorld

from services.redis import DURABLE, RedisServer, valkey_program
from services.s3 import S3
from strandline.destination import WriteMode
from strandline.plugins import load_plugin
from strandline.testing.crash import Campaign

pytestmark = pytest.mark.crash

APPEND, OVERWRITE, DELETE_STALE = WriteMode
CASES = [("keyed", APPEND, True, None), ("full", DELETE_STALE, True, None), ("log", APPEND, False, 2)]
SHARES = {"in_sqlite": 0.1, "in_postgresql": 0.05, "in_mysql": 0.03, "in_redis": 0.1, "in_objects": 0.03}
"""Of the points at which it is killed: a call to some costs more than to others."""
IDS = ["keyed apart", "full apart", "log together refreshed"]


def opened(name, **settings):
    cls = load_plugin("state_backend", name)
    return closing(cls(cls.Spec(**settings)))


@pytest.fixture(scope="module")
def valkey():
    with RedisServer(valkey_program(), *DURABLE) as server:
        yield server


@pytest.fixture
def in_sqlite(tmp_path):
    path = str(tmp_path / "state.db")
    with opened("sqlite", path=path) as backend:
        yield InTables(backend, lambda: sqlite3.connect(path), "?")


@pytest.fixture
def in_postgresql(postgresql):
    with opened("postgresql", connection_string=postgresql) as backend:
        yield InTables(backend, lambda: psycopg.connect(postgresql), "%s")


@pytest.fixture
def in_mysql(mariadb_server, mysql):
    with opened("mysql", connection_string=mysql) as backend:
        yield InTables(backend, lambda: mariadb_server.connect(mysql.rpartition("/")[2]), "%s")


@pytest.fixture
def in_redis(valkey):
    with opened("redis", url=valkey.url) as backend, closing(redis.Redis.from_url(valkey.url)) as client:
        client.flushall()
        yield InRedis(backend, client)


@pytest.fixture
def in_objects():
    with S3() as s3, opened("objects", url="s3://bucket/states", options=s3.options) as backend:
        yield InObjects(backend, S3Store("bucket", client_options={"allow_http": True}, **s3.options))


@pytest.mark.parametrize("place", SHARES)
@pytest.mark.parametrize(("kind", "mode", "loose", "refresh_at"), CASES, ids=IDS)
def test_killed_anywhere_nothing_is_lost(request, place, kind, mode, loose, refresh_at):
    world = MemoryWorld(kind, mode, loose=loose, kept=request.getfixturevalue(place), refresh_at=refresh_at)
    steps = (0, 1) if refresh_at is None else (refresh_at,)
    report = Campaign(world, seed=20, share=SHARES[place], steps=steps).kill_everywhere()
    assert report.kills
    assert not report.findings, report


@pytest.mark.parametrize("place", SHARES)
def test_a_run_that_is_overtaken_is_kept_out(request, place):
    world = MemoryWorld("keyed", OVERWRITE, loose=True, kept=request.getfixturevalue(place))
    report = Campaign(world, seed=2, share=SHARES[place] * 2, steps=[1]).interfere_everywhere(fenced=False)
    assert not report.findings, report
