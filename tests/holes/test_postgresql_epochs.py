"""Transaction ids have 32 bits: after 2^32 transactions they are handed out again, and rows that were frozen keep theirs."""

import os
import pwd

import pytest
from postgresql_origin import TABLE, Origin, fill

from services.postgresql import PostgreSQLServer, run

SEGMENT = 1 << 20
"""Transactions of one file of pg_xact, which has 256 KiB."""


@pytest.fixture
def quiet():
    server = PostgreSQLServer("autovacuum = off\n").create()
    yield server
    server.remove()


def jump(server, transaction):
    """As if as many transactions had ended; everything is frozen before, as the server would see to."""
    for (name,) in server.execute("SELECT datname FROM pg_database WHERE datallowconn"):
        server.execute("VACUUM FREEZE", name)
    server.stop()
    epoch, id_ = divmod(transaction, 1 << 32)
    segment = server._data / "pg_xact" / f"{id_ // SEGMENT:04X}"
    if not segment.exists():
        segment.write_bytes(bytes(1 << 18))
        if not os.geteuid():
            user = pwd.getpwnam("postgres")
            os.chown(segment, user.pw_uid, user.pw_gid)
    run("pg_resetwal", "-f", "-e", epoch, "-x", id_, "-D", server._data)
    server.start()


def spend(server, until):
    """Hand out ids."""
    while server.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 % (1::int8 << 32)")[0][0] <= until:
        server.execute("SELECT pg_current_xact_id()")


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_rows_that_were_frozen_are_not_stored_again_when_their_ids_are(quiet, mode):
    shop = Origin(quiet.uri(), mode)
    quiet.execute(TABLE)
    for id_ in (1, 2, 3):
        quiet.execute(fill(id_, id_))
    ((first, last),) = quiet.execute("SELECT min(xmin::text::int8), max(xmin::text::int8) FROM t")
    shop.sync()
    for transaction in (1_500_000_000, 3_000_000_000, (1 << 32) + first - 20):
        jump(quiet, transaction)
        shop.sync()
    quiet.execute(fill(4, 4))
    shop.sync()
    assert shop.ids() == [1, 2, 3, 4]
    spend(quiet, last)
    quiet.execute(fill(5, 5))
    if mode == "overwrite":
        shop.sync()
    else:
        (task,) = shop.sync(code=1).tasks
        assert "transaction ids again" in task.error.message
        assert "incremental_key" in task.error.hint
        assert shop.ids() == [1, 2, 3, 4]
        shop.sync(refresh=lambda task: True)
    assert shop.ids() == [1, 2, 3, 4, 5]
    quiet.execute(fill(6, 6))
    shop.sync()
    assert shop.ids() == [1, 2, 3, 4, 5, 6]
