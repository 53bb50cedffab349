"""Strandline's `test` source into DuckDB against DuckDB's own INSERT from an Arrow reader over the same batches.

Interleaved in one run; prints medians and their ratio. `python bench/duckdb_ingest.py [ROWS] [ROUNDS]`
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

MODES = ("append", "overwrite")


def reader(rows):
    import pyarrow as pa

    from strandline.message import Insert
    from strandline.plugins import load_plugin
    from strandline.reading import Reading

    cls = load_plugin("source", "test")
    source = cls(cls.Spec(rows=rows))
    (task,) = source.tasks(source.tables())
    reading = Reading(None, datetime.now(UTC))
    batches = (one.batch for one in source.read(task, reading) if isinstance(one, Insert))
    return pa.RecordBatchReader.from_batches(task.tables[0].schema, batches)


def bare(rows, directory):
    import duckdb

    connection = duckdb.connect(str(directory / "bare.duckdb"))
    connection.register("empty", reader(1))
    began = time.perf_counter()
    connection.execute("CREATE TABLE t AS SELECT * FROM empty LIMIT 0")
    connection.register("batches", reader(rows))
    connection.execute("INSERT INTO t SELECT * FROM batches")
    connection.close()
    return time.perf_counter() - began


def strandline(rows, directory, mode):
    from strandline.destination import WriteMode
    from strandline.engine.into import Into
    from strandline.engine.job import Job
    from strandline.engine.run import sync
    from strandline.plugins import load_plugin

    source_type, store_type = load_plugin("source", "test"), load_plugin("destination", "duckdb")
    state_type = load_plugin("state_backend", "local")
    store = store_type(store_type.Spec(path=str(directory / "strandline.duckdb")))
    job = Job(
        "bench",
        source_type(source_type.Spec(rows=rows)),
        [Into("store", store, WriteMode(mode))],
        state_type(state_type.Spec(path=str(directory / "state"))),
    )
    began = time.perf_counter()
    report = sync(job)
    store.close()
    assert report.exit_code == 0, report.record()
    return time.perf_counter() - began


def child(kind, rows):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        seconds = bare(rows, path) if kind == "bare" else strandline(rows, path, kind)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main():
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    seconds, peak_mb = {}, {}
    for _ in range(rounds):
        for kind in ("bare", *MODES):
            out = subprocess.run(
                [sys.executable, __file__, "--child", kind, str(rows)], check=True, capture_output=True, text=True
            )
            took, peak = out.stdout.split()
            seconds.setdefault(kind, []).append(float(took))
            peak_mb.setdefault(kind, []).append(int(peak))
    base = statistics.median(seconds["bare"])
    for kind, values in seconds.items():
        median = statistics.median(values)
        print(
            f"{kind:<10} {median:6.2f} s  {rows / median:10,.0f} rows/s  {base / median:5.2f} of bare"
            f"  peak {max(peak_mb[kind])} MB"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
