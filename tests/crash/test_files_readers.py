"""Someone reads a directory of Parquet files with a glob, while syncs into it are killed and started again.

`STRANDLINE_READER_KILLS=200 make test ARGS="tests/crash/test_files_readers.py -n 0"` kills two hundred times. The seed is part
of pytest-randomly's: `--randomly-seed` repeats it.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import duckdb
import pytest

pytestmark = pytest.mark.crash

KILLS = int(os.environ.get("STRANDLINE_READER_KILLS", "6"))
WINDOW, ROWS = 20, 400
"""Rows in a commit, and rows that are added to the source whenever a sync has come to its end."""
CALLS = ("link,linkat", "rename,renameat,renameat2", "fsync", "unlink,unlinkat", "write")
"""What a commit is made of; by which it is killed where strace is installed."""


class Lake:
    """A SQLite database, and a directory into which it is synced."""

    def __init__(self, directory):
        self.directory, self.rows = directory, 0
        self.glob = str(directory / "lake" / "**" / "*.parquet")
        self.log = directory / "lake" / ".strandline" / "log"
        source = {"path": "shop.db", "tables": {"t": {"incremental_key": "at"}}}
        files = {"path": "lake", "batch_size": WINDOW}
        documents = [
            {"kind": "source", "spec": {"name": "shop", "path": "sqlite", "destinations": ["lake"], "spec": source}},
            {"kind": "destination", "spec": {"name": "lake", "path": "files", "spec": files}},
        ]
        (directory / "strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))
        with closing(sqlite3.connect(directory / "shop.db")) as connection, connection:
            connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT)")

    def grow(self):
        """More rows, two of a time, so that some are read again at every border."""
        ids = range(self.rows, self.rows + ROWS)
        rows = [(one, f"2026-01-01 {one // 7200:02}:{one // 120 % 60:02}:{one // 2 % 60:02}") for one in ids]
        with closing(sqlite3.connect(self.directory / "shop.db")) as connection, connection:
            connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        self.rows += ROWS

    def commits(self):
        return len(list(self.log.glob("*.commit"))) if self.log.exists() else 0

    def start(self, *tracer):
        command = [*tracer, sys.executable, "-m", "strandline", "sync"]
        return subprocess.Popen(
            command, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def committed_counts(self):
        """How many rows there were after each commit: each is one file, whose name has its epoch and sequence."""
        sql = f"SELECT filename, count(*) FROM read_parquet('{self.glob}', filename = true) GROUP BY filename"
        found = {tuple(map(int, name.split("-")[-4:-2])): count for name, count in duckdb.sql(sql).fetchall()}
        counts = [0]
        for commit in sorted(found):
            counts.append(counts[-1] + found[commit])
        return counts


class Reader(threading.Thread):
    """Counts, again and again. Each look is (rows, different rows, greatest id)."""

    def __init__(self, lake):
        super().__init__()
        self.lake, self.looks, self.errors, self.done = lake, [(0, 0, None)], [], threading.Event()

    def run(self):
        sql = f"SELECT count(*), count(DISTINCT id), max(id) FROM read_parquet('{self.lake.glob}')"
        with closing(duckdb.connect(config={"threads": 1})) as connection:
            while not self.done.is_set():
                try:
                    self.looks.append(connection.execute(sql).fetchone())
                except duckdb.IOException as error:
                    if "No files found" not in str(error) or self.looks[-1][0]:
                        self.errors.append(error)
                        return


def killed_by_time(lake, chance):
    """A sync, killed while it commits; whether it was."""
    before, process = lake.commits(), lake.start()
    while process.poll() is None and lake.commits() == before:
        time.sleep(0.002)
    try:
        process.wait(chance.uniform(0, 0.3))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process


def killed_by_call(lake, chance):
    """A sync, killed at one of the calls that change something; whether it was."""
    call, nth = chance.choice(CALLS), chance.randint(1, 40)
    inject = f"inject={call}:signal=KILL:when={nth}"
    return lake.start(
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none", "-e", f"trace={call}", "-e", inject
    )


def sync(lake, process):
    """To the end of a process; whether it was killed."""
    out, err = process.communicate(timeout=120)
    if process.returncode in {-9, 137}:
        return True
    assert process.returncode == 0, (out + err).decode()
    lake.grow()
    return False


def test_a_reader_sees_committed_rows_only_while_syncs_are_killed(tmp_path):
    seed = random.getrandbits(32)
    chance, lake = random.Random(seed), Lake(tmp_path)
    ways = [killed_by_time, killed_by_call] if shutil.which("strace") else [killed_by_time]
    lake.grow()
    reader = Reader(lake)
    reader.start()
    kills = 0
    try:
        while kills < KILLS and not reader.errors:
            kills += sync(lake, chance.choice(ways)(lake, chance))
        assert not sync(lake, lake.start()), "nobody killed it"
    finally:
        reader.done.set()
        reader.join(60)
    assert reader.errors == [], f"seed {seed}"
    rows = lake.rows - ROWS  # the last ones were added after the last sync
    final = duckdb.sql(f"SELECT count(*), count(DISTINCT id), max(id) FROM '{lake.glob}'").fetchall()
    assert final == [(rows, rows, rows - 1)], f"seed {seed}"
    counts = [count for count, _, _ in reader.looks]
    assert set(counts) <= set(lake.committed_counts()), f"seed {seed}"
    assert counts == sorted(counts), f"seed {seed}"
    for count, different, greatest in reader.looks[1:]:
        assert count == different == (greatest + 1 if count else 0), f"seed {seed}"
    staged = lake.log.parent / "staged"
    assert list(staged.iterdir()) == [], "what the killed runs left was swept"
