"""Several runs of one source at once, as processes: one holds the lease, and who was overtaken changes nothing."""

import os
import signal
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from places import STAMP, between


def stamp(**ago):
    return (datetime.now(UTC) - timedelta(**ago)).strftime(STAMP)


@contextmanager
def reading(bench):
    """A run that has taken the lease and waits for its first row, until the context ends."""
    bench.origin.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, at {bench.origin.time}, v TEXT)")
    bench.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[(n, stamp(minutes=9), "v") for n in range(100)])
    bench.tables = {"t": {"incremental_key": "at"}}
    with bench.origin.connect() as holder, bench.origin.connect() as look:
        look.autocommit = True
        holder.execute("LOCK TABLE t")
        run = bench.start("sync")
        waits = "SELECT 1 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted"
        while not look.execute(waits).fetchall():
            assert run.poll() is None, run.communicate()
        yield run


@between(sources="postgresql", modes="append overwrite")
def test_of_several_runs_at_once_one_holds_the_lease(bench, sync):
    """Of four, or of two, with the modes in turn."""
    with reading(bench) as first:
        others = [bench.start("sync") for _ in range(3 if bench.mode == "append" else 1)]
        for other in others:
            told = "".join(other.communicate(timeout=60))
            assert other.returncode == 4, told
            assert str(first.pid) in told
    printed = first.communicate(timeout=60)
    assert first.returncode == 0, printed
    assert sync().code == 0
    assert sorted(bench.store.rows()) == [(n, "v") for n in range(100)]


@between(sources="postgresql", destinations="postgresql sqlite files")
def test_a_run_that_was_suspended_and_overtaken_changes_nothing_when_it_goes_on(bench, sync):
    with reading(bench) as first:
        os.kill(first.pid, signal.SIGSTOP)
    bench.origin.execute(f"UPDATE t SET v = 'newer', at = '{stamp(minutes=8)}' WHERE id < 50")
    later = bench.start("sync", "--takeover")
    printed = later.communicate(timeout=60)
    assert later.returncode == 0, printed
    stored = bench.store.rows()
    os.kill(first.pid, signal.SIGCONT)
    printed = first.communicate(timeout=60)
    assert first.returncode == 4, printed
    assert bench.store.rows() == stored
    assert sync().code == 0
    assert bench.store.rows() == stored
    assert len(stored) == 100
    assert sum(v == "newer" for _, v in stored) == 50


@between(sources="postgresql", modes="append")
def test_a_run_that_waits_for_the_other_one_goes_on_when_it_has_ended(bench, sync):
    with reading(bench) as first:
        second = bench.start("sync", "--wait-lock", "5m")
        for line in second.stderr:
            if "waiting" in line:
                break
    printed = first.communicate(timeout=60)
    assert first.returncode == 0, printed
    printed = second.communicate(timeout=60)
    assert second.returncode == 0, printed
    assert len(bench.store.rows()) == 100


@between(sources="postgresql", modes="append")
def test_nobody_waits_for_a_run_that_was_killed(bench, sync):
    with reading(bench) as first:
        first.kill()
        first.communicate(timeout=60)
    assert sync().code == 0
    assert len(bench.store.rows()) == 100
