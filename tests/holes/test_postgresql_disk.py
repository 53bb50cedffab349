"""A crash of the server takes back what nobody waited for (`synchronous_commit = off`): nothing of it was stored before."""

import contextlib
import os
import signal
import time

import psycopg
import pytest
from postgresql_origin import BIG, TABLE, Origin, fill, meanwhile

from services.postgresql import PostgreSQLServer, programs
from strandline.connectors.postgresql import log as postgresql_log
from strandline.engine.task import Retries

WAIT_S = 60


class Lazy:
    """A server whose log comes to the disk when it is told to, and not before."""

    def __init__(self):
        self.server = PostgreSQLServer("autovacuum = off\nwal_writer_delay = 10s\nbgwriter_delay = 10s\n").create()
        self.server.execute(TABLE)
        self.server.execute(fill(1, 60))
        self.server.execute("CHECKPOINT")
        self._writer = None

    def stop_writing(self):
        ((self._writer,),) = self.server.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
        os.kill(self._writer, signal.SIGSTOP)

    def asynchronously(self, *statements):
        with self.server.connect() as connection:
            connection.execute("SET synchronous_commit = off")
            for statement in statements:
                connection.execute(statement)

    def crash(self):
        """The server loses one of its processes, and with it its memory; it comes back from its disk."""
        os.kill(self._writer, signal.SIGKILL)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.Error):
                found = self.server.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
                if found not in ([], [(self._writer,)]):
                    return
            time.sleep(0.05)
        raise AssertionError("the server did not come back")

    def ids(self):
        return [number for (number,) in self.server.execute("SELECT id FROM t ORDER BY id")]

    def remove(self):
        if self._writer is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._writer, signal.SIGKILL)
        self.server.remove()


@pytest.fixture
def lazy(monkeypatch):
    if programs() is None:
        pytest.skip("LOUD: no PostgreSQL server is installed; on Debian: apt-get install postgresql")
    monkeypatch.setattr(postgresql_log, "_WAIT_S", 0.5)
    started = Lazy()
    yield started
    started.remove()


WAYS = pytest.mark.parametrize(
    "settings", [{}, {"incremental_key": "id"}, {"mode": "full"}], ids=["xid", "key", "full"]
)


def _not_stored(shop, **more):
    report = shop.report(code=1, retries=Retries(attempts_max=1), **more)
    assert "log to the disk" in str(report.error)
    assert "wal_writer_delay" in report.error.hint


@WAYS
@pytest.mark.parametrize("first", [False, True], ids=["later", "first"])
def test_a_row_that_a_crash_takes_back_is_not_in_the_destination(lazy, settings, first):
    shop = Origin(lazy.server.uri(), "overwrite")
    shop.tables = {"t": settings}
    shop.slice_pages, shop.at_once = 1, 3
    if not first:
        shop.sync()
    lazy.stop_writing()
    lazy.asynchronously(fill(101, 103, "'taken back'"))
    _not_stored(shop)
    lazy.crash()
    assert lazy.ids() == list(range(1, 61))
    shop.sync()
    assert shop.ids() == lazy.ids()


@WAYS
def test_a_row_whose_deletion_a_crash_takes_back_is_still_there(lazy, settings):
    shop = Origin(lazy.server.uri(), "overwrite-delete-stale")
    shop.tables = {"t": {**settings, "deletes": "sweep"}}
    shop.sync()
    lazy.stop_writing()
    lazy.asynchronously("DELETE FROM t WHERE id > 50")
    _not_stored(shop)
    lazy.crash()
    assert lazy.ids() == list(range(1, 61))
    shop.sync()
    assert shop.ids() == lazy.ids()


@pytest.mark.parametrize("at_once", [1, 2], ids=["alone", "two"])
def test_a_row_whose_deletion_a_crash_takes_back_in_a_first_load_is_there(lazy, at_once):
    lazy.server.execute("TRUNCATE t")
    lazy.server.execute(fill(1, 60, BIG))
    lazy.server.execute("CHECKPOINT")
    shop = Origin(lazy.server.uri(), "append")
    shop.slice_pages, shop.at_once = 1, at_once

    def delete():
        lazy.stop_writing()
        lazy.asynchronously("DELETE FROM t WHERE id > 20 AND id % 2 = 0")

    _not_stored(shop, source=meanwhile(shop, 0, delete), rows_max=1)
    lazy.crash()
    assert lazy.ids() == list(range(1, 61))
    shop.sync()
    assert shop.ids() == list(range(1, 61))


def test_a_log_that_comes_late_is_waited_for(lazy, monkeypatch):
    monkeypatch.setattr(postgresql_log, "_WAIT_S", 60)
    shop = Origin(lazy.server.uri(), "append")
    shop.sync()
    lazy.asynchronously(fill(101, 103))
    shop.sync()
    assert shop.ids() == [*range(1, 61), 101, 102, 103]


def test_a_row_that_a_sweep_has_looked_up_and_a_crash_takes_back_is_not_in_the_destination(lazy):
    shop = Origin(lazy.server.uri(), "overwrite-delete-stale")
    shop.tables = {"t": {"incremental_key": "id", "deletes": "sweep"}}
    shop.sync()
    lazy.server.execute(fill(0, 0))
    source = shop.source()
    read_keys = source.read_keys

    def late(*of):
        lazy.stop_writing()
        lazy.asynchronously("UPDATE t SET v = 'taken back' WHERE id = 0")
        yield from read_keys(*of)

    source.read_keys = late
    _not_stored(shop, source=source)
    lazy.crash()
    assert shop.ids() == list(range(1, 61))
    shop.sync()
    assert shop.rows("id", "v") == sorted(lazy.server.execute("SELECT id, v FROM t"))
