"""Many tables by the workers of each executor, of which one is killed every few seconds: what is stored, and how long it took. `make executors`.

Not part of the test suite, for it takes minutes and all processors. Exit code 1: something was lost, or stored twice.
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pyarrow.compute as pc
import pyarrow.dataset as ds

from services.postgresql import PostgreSQLServer

TABLE = "{:<11}{:<12}{:>7}{:>8}{:>11}{:>9}{:>8}{:>13}{:>11}{:>12}{:>6}"


def write(line: str) -> None:
    """At once, for it takes long until the next one."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def spec(options: argparse.Namespace, place: Path, into: str, executor: str, url: str) -> None:
    """What is synced."""
    own = {} if executor == "threads" else {"workers": options.workers}
    source = {
        "name": "made",
        "path": "test",
        "destinations": ["copy"],
        "concurrency": options.workers,
        "executor": executor,
        "executor_spec": own,
        "spec": {"rows": options.rows, "tables": options.tables},
    }
    where = {"path": "copy"} if into == "files" else {"connection_string": url}
    copy = {"name": "copy", "path": into, "write_mode": "append", "spec": where | {"batch_size": options.window}}
    documents = [json.dumps({"kind": "source", "spec": source}), json.dumps({"kind": "destination", "spec": copy})]
    (place / "strandline.yml").write_text("\n---\n".join(documents), "utf-8")


def below(process: int) -> list[int]:
    """The processes that descend from one, those that have no descendants: the workers."""
    found, parents = [process], {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, fields = int(path.parent.name), path.read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(pid)
    for one in found:
        found += parents.get(one, [])
    return [one for one in found[1:] if one not in parents and _is_worker(one)]


def _is_worker(pid: int) -> bool:
    try:
        command = (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
    return b"executors.processes" in command or b"spawn_main" in command or command.startswith(b"ray::work")


def synced(
    options: argparse.Namespace, place: Path, *, kills: bool, dies_s: float | None = None
) -> tuple[int, int, float]:
    """One sync: its exit code, how many workers were killed, and how long it took."""
    began_s, killed = time.monotonic(), 0
    started_s = began_s
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "strandline", "sync", "--summary-location", "summary.jsonl"],
            cwd=place,
            stdout=log,
            stderr=log,
        )
        next_s = float("inf")
        while process.poll() is None:
            time.sleep(0.05)
            if next_s == float("inf") and b": started" in (place / "log").read_bytes():  # there are workers now
                next_s = began_s = time.monotonic()
            if kills and time.monotonic() >= next_s:
                next_s += options.every
                if workers := below(process.pid):
                    os.kill(random.choice(workers), signal.SIGKILL)
                    killed += 1
            if dies_s is not None and next_s < float("inf") and time.monotonic() - began_s >= dies_s:
                process.kill()
    return process.returncode, killed, time.monotonic() - started_s


def cpu_s() -> float:
    """Of all processes that have ended and were waited for: not of those whose run was killed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def stored(options: argparse.Namespace, place: Path, into: str, url: str) -> tuple[int, int]:
    """Rows, and rows of an id that is there already."""
    rows = ids = 0
    with psycopg.connect(url) as database:
        for number in range(1, options.tables + 1):
            if into == "files":
                if not any((place / "copy" / f"test_{number}").glob("*.parquet")):
                    continue
                found = ds.dataset(place / "copy" / f"test_{number}", format="parquet").to_table(["id"])["id"]
                counts = len(found), pc.count_distinct(found).as_py()
            else:
                if database.execute("SELECT to_regclass(%s)", [f"test_{number}"]).fetchone() == (None,):
                    continue
                counts = database.execute(f"SELECT count(*), count(DISTINCT id) FROM test_{number}").fetchone()
            rows, ids = rows + counts[0], ids + counts[1]
    return rows, rows - ids


def measured(options: argparse.Namespace, into: str, executor: str, *, kills: bool, url: str) -> bool:
    """One line of the table; whether all is well."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        spec(options, place, into, executor, url)
        codes, killed, lasted_s, before, used_s = [], 0, 0.0, 0, cpu_s()
        if kills:
            code, count, seconds = synced(options, place, kills=True, dies_s=2 * options.every)
            killed, lasted_s = killed + count, lasted_s + seconds
            before, _ = stored(options, place, into, url)
        code, count, seconds = synced(options, place, kills=kills)
        codes.append(code)
        killed, lasted_s = killed + count, lasted_s + seconds
        if not (place / "summary.jsonl").exists():
            write((place / "log").read_text("utf-8")[-3000:])
            return False
        records = [json.loads(line) for line in (place / "summary.jsonl").read_text("utf-8").splitlines()]
        read = sum(task["rows_read"] for record in records for task in record["tasks"])
        rows, twice = stored(options, place, into, url)
        wanted = options.rows * options.tables
        sound = (rows, twice, codes) == (wanted, 0, [0])
        what = "killed" if kills else "in peace"
        again = read - (
            wanted - before
        )  # by the run that was completed; of the one that was killed nobody has the figures
        sound = sound and again <= killed * options.window
        times, rates = (
            (f"{lasted_s:.1f}", f"{cpu_s() - used_s:.1f}"),
            (f"{read:,}", f"{again:,}", f"{read / lasted_s:,.0f}"),
        )
        figures = *times, f"{rows:,}", twice, killed, *rates, codes[-1]
        write(TABLE.format(f"{executor}", f"{into[:5]} {what}"[:12], *figures))
        if not sound:
            write((place / "log").read_text("utf-8")[-3000:])
        return sound


def main() -> int:
    """Each executor into each destination, in peace and with kills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--window", type=int, default=20_000, help="rows")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two kills")
    parser.add_argument("--executors", default="threads,processes,dask,ray")
    parser.add_argument("--into", default="files,postgresql")
    options = parser.parse_args()
    sound = True
    head = ("executor", "into", "s", "CPU s", "rows", "twice", "killed", "rows read", "again", "rows/s", "exit")
    write(TABLE.format(*head))
    with ExitStack() as stack:
        server = PostgreSQLServer()
        stack.callback(server.remove)
        server.create()
        for into in options.into.split(","):
            for executor in options.executors.split(","):
                for kills in [False, True][: 1 if executor == "threads" else 2]:
                    url = server.create_database(f"t{abs(hash((into, executor, kills)))}")
                    sound &= measured(options, into, executor, kills=kills, url=url)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
