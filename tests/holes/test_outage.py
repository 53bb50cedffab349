"""The warehouse is a PostgreSQL server that goes away in the middle of a sync."""

import signal
import time
import uuid

import pytest
from places import MODES, PostgreSQLStore

from services.postgresql import PostgreSQLServer

COUNT, BATCH = 5_000, 100


@pytest.fixture(scope="module")
def server():
    """A server of its own, since these tests stop it."""
    one = PostgreSQLServer().create()
    yield one
    one.remove()


@pytest.fixture
def outage(request, make_bench, server):
    source, mode = request.param
    bench = make_bench(source, "sqlite", mode)
    bench.store = PostgreSQLStore(server.create_database(f"t_{uuid.uuid4().hex}"))
    bench.origin.create_large()
    bench.origin.execute(
        "INSERT INTO t VALUES (?, ?, ?)", rows=[(n, "2026-01-01 00:00:00", f"v{n}") for n in range(COUNT)]
    )
    bench.tables, bench.batch = {"t": {"incremental_key": "at"}}, {"batch_size": BATCH}
    yield bench
    if not server.is_running:
        server.start()


def when_under_way(bench, run):
    """As soon as some of the rows are there, and not all."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert run.poll() is None, run.communicate()
        state = bench.state()
        if state is not None and state["tables"]["t"]["rows"] >= COUNT // 5:
            return
        time.sleep(0.005)
    raise AssertionError("the sync does not get on")


def exact(bench):
    """The next sync ends the pass that was interrupted, and the one after it finds what came since."""
    assert bench.run("sync") == 0
    assert bench.store.rows() == sorted([(n, f"v{n}") for n in range(COUNT)], key=repr)
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(COUNT, "2026-01-02 00:00:00", f"v{COUNT}")])
    assert bench.run("sync") == 0
    assert bench.store.rows() == sorted([(n, f"v{n}") for n in range(COUNT + 1)], key=repr)


def from_(source):
    return [pytest.param((source, mode), id=f"{source}-{mode}") for mode in MODES]


@pytest.mark.parametrize("outage", from_("sqlite"), indirect=True)
def test_a_server_that_stays_away_fails_the_sync_and_the_next_one_goes_on(outage, server):
    run = outage.start("sync")
    when_under_way(outage, run)
    server.stop()
    printed = "".join(run.communicate(timeout=120))
    assert run.returncode in {1, 5}, printed
    assert "Traceback" not in printed
    assert "PostgreSQL" in printed
    assert outage.run("sync") == 5
    server.start()
    exact(outage)


@pytest.mark.parametrize("outage", from_("postgresql"), indirect=True)
def test_a_server_that_crashes_and_comes_back_is_written_to_again(outage, server):
    run = outage.start("sync")
    when_under_way(outage, run)
    server.stop(signal.SIGKILL)
    assert run.poll() is None
    server.start()
    printed = "".join(run.communicate(timeout=120))
    assert run.returncode == 0, printed
    exact(outage)
