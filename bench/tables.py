"""Many small tables from one SQLite file into DuckDB, SQLite and Parquet files: how does a sync grow with their number?

python bench/tables.py [TABLES ...]

Of whole processes: seconds of the first sync, the median of ROUNDS idle ones, and the processor time of that, which other
processes of the machine change least. Growth is the processor time for one table, of that with the fewest tables; 1 is linear.
"""

import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

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


def spec_of(into):
    source = {
        "name": "shop",
        "path": "sqlite",
        "tables": ["*"],
        "destinations": ["copy"],
        "spec": {"path": "in.sqlite"},
    }
    destination = {"name": "copy", "path": into, "spec": INTO[into]}
    documents = [{"kind": "source", "spec": source}, {"kind": "destination", "spec": destination}]
    return "\n---\n".join(map(json.dumps, documents))


def processor_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(into, tables):
    """Seconds of the first sync, and of an idle one with its processor time."""
    with tempfile.TemporaryDirectory(prefix="strandline-tables-") as folder:
        fill(f"{folder}/in.sqlite", tables)
        Path(folder, "strandline.yml").write_text(spec_of(into))
        seconds = []
        for _ in range(1 + ROUNDS):
            began, used = time.perf_counter(), processor_s()
            command = [sys.executable, "-m", "strandline", "sync"]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds.append((time.perf_counter() - began, processor_s() - used))
    return seconds[0][0], *(statistics.median(column) for column in zip(*seconds[1:], strict=True))


def main(numbers):
    print("| into | tables | first sync | idle sync | processor | ms a table | growth |")
    print("|---|---|---|---|---|---|---|")
    for into in INTO:
        fewest = None
        for tables in numbers:
            first, idle, used = measure(into, tables)
            fewest = fewest or used / tables
            print(
                f"| {into} | {tables:,} | {first:.1f} s | {idle:.1f} s | {used:.1f} s | {used / tables * 1000:.1f} | "
                f"{used / tables / fewest:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sorted(map(int, sys.argv[1:])) or [100, 400, 1000])
