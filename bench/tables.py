"""Many small tables from one SQLite file, or one PostgreSQL database, into DuckDB, SQLite and Parquet files: how does a sync
grow with their number?

python bench/tables.py [postgresql://USER@HOST/DATABASE] [TABLES ...]

Of whole processes: seconds of the first sync, the median of ROUNDS idle ones, and the processor time of that, which other
processes of the machine change least. Growth is the processor time for one table, of that with the fewest tables; 1 is linear.
The largest memory is that of any sync.

In the PostgreSQL database, which has to be empty, the tables are made and dropped. The sync after the first one, which compares
all keys, counts as none of these.
"""

import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import psycopg

ROUNDS = 3
ROWS = 10
INTO = {
    "duckdb": {"path": "out.duckdb"},
    "sqlite": {"path": "out.sqlite"},
    "files": {"path": "out", "format": "parquet"},
}


def fill(path, tables):
    with closing(sqlite3.connect(path)) as connection, connection:
        for number in range(tables):
            connection.execute(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, name TEXT, amount REAL)")
            rows = [(row, f"name {row}", row / 2) for row in range(ROWS)]
            connection.executemany(f"INSERT INTO t{number} VALUES (?, ?, ?)", rows)


@contextmanager
def filled(uri, tables):
    """A PostgreSQL database while it has the tables."""
    with psycopg.connect(uri, autocommit=True) as connection:
        for number in range(tables):
            connection.execute(f"CREATE TABLE t{number} (id bigint PRIMARY KEY, name text, amount double precision)")
            connection.execute(
                f"INSERT INTO t{number} SELECT i, 'name ' || i, i / 2.0 FROM generate_series(1, {ROWS}) AS n (i)"
            )
        yield
        for number in range(tables):
            connection.execute(f"DROP TABLE t{number}")


def spec_of(into, uri):
    path, spec = ("postgresql", {"connection_string": uri}) if uri else ("sqlite", {"path": "in.sqlite"})
    source = {"name": "shop", "path": path, "tables": ["*"], "destinations": ["copy"], "spec": spec}
    destination = {"name": "copy", "path": into, "spec": INTO[into]}
    documents = [{"kind": "source", "spec": source}, {"kind": "destination", "spec": destination}]
    return "\n---\n".join(map(json.dumps, documents))


def processor_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(into, tables, uri):
    """Seconds of the first sync, and of an idle one with its processor time."""
    with tempfile.TemporaryDirectory(prefix="strandline-tables-") as folder:
        if not uri:
            fill(f"{folder}/in.sqlite", tables)
        Path(folder, "strandline.yml").write_text(spec_of(into, uri))
        seconds = []
        for _ in range(1 + bool(uri) + ROUNDS):
            began, used = time.perf_counter(), processor_s()
            command = [sys.executable, "-m", "strandline", "sync"]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds.append((time.perf_counter() - began, processor_s() - used))
    return seconds[0][0], *(statistics.median(column) for column in zip(*seconds[-ROUNDS:], strict=True))


def main(numbers, uri):
    print("| into | tables | first sync | idle sync | processor | ms a table | growth | memory so far |")
    print("|---|---|---|---|---|---|---|---|")
    for into in INTO:
        fewest = None
        for tables in numbers:
            with filled(uri, tables) if uri else nullcontext():
                first, idle, used = measure(into, tables, uri)
            fewest = fewest or used / tables
            memory_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(
                f"| {into} | {tables:,} | {first:.1f} s | {idle:.1f} s | {used:.1f} s | {used / tables * 1000:.1f} | "
                f"{used / tables / fewest:.2f} | {memory_mb:.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    wanted = sys.argv[1:]
    server = next((one for one in wanted if "://" in one), "")
    main(sorted(int(one) for one in wanted if one != server) or [100, 400, 1000], server)
