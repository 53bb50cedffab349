"""A first load from PostgreSQL into DuckDB, killed by SIGKILL at about nine tenths: how much does the next sync read again?

python bench/killed_load.py [ROWS]
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]


def rows_saved(directory):
    """What the state says of the table; it is read while it is replaced."""
    path = directory / ".cq" / "state" / "shop" / "orders@copy.json"
    try:
        return json.loads(path.read_text())["states"][0]["tables"]["orders"]["rows"]
    except (OSError, KeyError, IndexError):
        return 0


def main(rows):
    import duckdb
    from postgresql import FILL

    from services.postgresql import PostgreSQLServer

    server = PostgreSQLServer("shared_buffers = 1GB\nmax_wal_size = 8GB\n").create()
    try:
        with tempfile.TemporaryDirectory(prefix="strandline-killed-") as folder:
            directory = Path(folder)
            server.execute(FILL.format(rows=rows))
            documents = [
                {"kind": "source", "spec": {"name": "shop", "path": "postgresql", "destinations": ["copy"], "spec": {"connection_string": server.uri()}}},
                {"kind": "destination", "spec": {"name": "copy", "path": "duckdb", "write_mode": "append", "spec": {"path": "copy.duckdb"}}},
            ]  # fmt: skip
            (directory / "strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))
            command = [sys.executable, "-m", "strandline", "sync", "--summary-location", "summary.jsonl"]
            process = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None and rows_saved(directory) < 0.9 * rows:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
            saved = rows_saved(directory)
            subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            read = json.loads((directory / "summary.jsonl").read_text().splitlines()[-1])["tasks"][0]["rows_read"]
            with duckdb.connect(str(directory / "copy.duckdb")) as connection:
                (count, ids, low, high) = connection.execute(
                    "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM orders"
                ).fetchone()
            print(f"killed with {saved:,} of {rows:,} rows saved ({saved / rows:.0%})")
            print(
                f"the next sync read {read:,} ({read / rows:.1%}), of which {read + saved - rows:,} for the second time"
            )
            print(f"stored: {count:,} rows, {ids:,} ids from {low} to {high}")
            assert count == ids == rows, "the table is not exact"
    finally:
        server.remove()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000)
