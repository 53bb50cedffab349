"""`strandline sync` as a process of its own, killed by SIGKILL at system calls that a seed picks, and started again.

The seed is part of pytest-randomly's: `--randomly-seed` repeats it.
"""

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing

import duckdb
import pytest

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed: no kill points were tried"),
]

CALLS = "write,pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat"
"""What changes something that lasts: rows and states in the warehouse, the mirror, the record of runs."""
KILLS = 2
"""For each sync, before it may end."""
TRIES = 50
"""How often one is looked for at which to kill."""
ROWS, WINDOW = 2_000, 400


class Shop:
    """A SQLite database, a DuckDB file that it is synced into, and what has to be in there."""

    def __init__(self, directory, mode):
        self.directory, self.mode = directory, mode
        self.versions, self.newest = Counter(), {}
        directory.mkdir()
        spec = {"path": "shop.db", "tables": {"t": {"incremental_key": "at"}}}
        source = {"name": "shop", "path": "sqlite", "destinations": ["warehouse"], "spec": spec}
        store = {"path": "warehouse.duckdb", "batch_size": WINDOW}
        documents = [
            {"kind": "source", "spec": source},
            {"kind": "destination", "spec": {"name": "warehouse", "path": "duckdb", "write_mode": mode, "spec": store}},
        ]
        (directory / "strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))
        with closing(sqlite3.connect(directory / "shop.db")) as connection, connection:
            connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, v INTEGER)")

    def write(self, ids, value):
        """Rows that are new or have changed, several to a second."""
        rows = [(one, f"2026-01-0{value} 00:{n // 240:02}:{n // 4 % 60:02}", value) for n, one in enumerate(ids)]
        with closing(sqlite3.connect(self.directory / "shop.db")) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO t VALUES (?, ?, ?)", rows)
        self.versions.update((one, value) for one in ids)
        self.newest |= dict.fromkeys(ids, value)

    def expected(self):
        return self.versions if self.mode == "append" else Counter(self.newest.items())

    def stored(self):
        with closing(duckdb.connect(str(self.directory / "warehouse.duckdb"), read_only=True)) as connection:
            return Counter(connection.execute("SELECT id, v FROM t").fetchall())


def run(directory, *tracer):
    command = [*tracer, sys.executable, "-m", "strandline", "sync"]
    quiet = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}  # so that the calls are the same each time
    return subprocess.run(command, cwd=directory, env=quiet, capture_output=True, text=True, timeout=120, check=False)


def traced(directory, *arguments):
    return run(directory, "strace", "-f", "-qq", "-e", "signal=none", *arguments)


def calls_of(shop, elsewhere):
    """The calls of an undisturbed sync of a copy: (name, how many of it there were in the same thread until then)."""
    shutil.copytree(shop.directory, elsewhere)
    done = traced(elsewhere, "-o", "calls.log", "-e", f"trace={CALLS}")
    assert done.returncode == 0, done.stderr
    counts, calls = Counter(), []
    for line in (elsewhere / "calls.log").read_text().splitlines():
        if found := re.match(r"(\d+) +(\w+)\(", line):
            counts[found.groups()] += 1
            calls.append((found[2], counts[found.groups()]))
    return calls


def sync_through_kills(shop, elsewhere, chance):
    """Sync, killed up to ``KILLS`` times, until it completes; where it was killed."""
    before = elsewhere.with_name(f"before {elsewhere.name}")
    shutil.copytree(shop.directory, before)
    calls, killed = calls_of(shop, elsewhere), []
    for _ in range(TRIES):
        name, nth = chance.choice(calls)
        inject = f"inject={name}:signal=KILL:when={nth}"
        done = traced(shop.directory, "-o", "/dev/null", "-e", f"trace={name}", "-e", inject)
        if done.returncode != 0:
            assert done.returncode in {-9, 137}, done.stderr
            killed.append(f"{name} {nth}")
        elif killed:
            return killed
        else:  # its threads have shared the calls in another way, and that one never came
            shutil.rmtree(shop.directory)
            shutil.copytree(before, shop.directory)
        if len(killed) == KILLS:
            break
    done = run(shop.directory)
    assert done.returncode == 0, f"after {killed}: {done.stdout}{done.stderr}"
    return killed


@pytest.mark.parametrize("mode", ["append", "overwrite", "overwrite-delete-stale"])
def test_a_process_killed_anywhere_leaves_neither_a_gap_nor_a_duplicate(tmp_path, mode):
    seed = random.getrandbits(32)
    chance = random.Random(seed)
    shop = Shop(tmp_path / "shop", mode)
    story = [f"seed {seed}"]
    for value, ids in ((1, range(ROWS)), (2, range(ROWS // 2, ROWS + ROWS // 2))):
        shop.write(ids, value)
        killed = sync_through_kills(shop, tmp_path / f"copy {value}", chance)
        assert killed, story
        story.append(f"sync {value} killed at {', '.join(killed)}")
        missing, extra = shop.expected() - shop.stored(), shop.stored() - shop.expected()
        assert not missing, (story, len(missing), min(missing))
        assert not extra, (story, len(extra), min(extra))
