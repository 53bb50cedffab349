"""200,000 nested records in pages of 100 at 5 ms: a Python function into DuckDB, beside a bare loop that does as much."""

import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

RECORDS, PAGE, LATENCY_S, AT_ONCE = 200_000, 100, 0.005, 8

SERVER = """
import asyncio, json, sys
from datetime import UTC, datetime, timedelta
records, page, latency = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
began = datetime(2026, 1, 1, tzinfo=UTC)
def record(n):
    return {"id": n, "updated_at": (began + timedelta(seconds=n)).isoformat(), "title": f"record {n}", "body": "x" * 120, "score": n / 4,
            "user": {"id": n % 997, "login": f"user{n % 997}", "admin": False}, "labels": [{"id": n % 7, "name": "bug"}], "open": n % 2 == 0}
bodies = [json.dumps([record(n) for n in range(start, start + page)]).encode() for start in range(0, records, page)]
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            body = bodies[int(head.split(b" ", 2)[1].rpartition(b"=")[2])]
            await asyncio.sleep(latency)
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Pages:
    """The pages of the server, in their order, several asked for at once."""

    def __init__(self, port):
        self._port, self._local = port, threading.local()

    def _get(self, number):
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = HTTPConnection("127.0.0.1", self._port)
        connection.request("GET", f"/records?page={number}")
        return connection.getresponse().read()

    def __iter__(self):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(self._get, range(RECORDS // PAGE))


def bare(port, directory):
    import duckdb
    import pyarrow as pa

    with duckdb.connect(str(directory / "bare.duckdb")) as database:
        made = False
        rows = []
        for body in Pages(port):
            rows += json.loads(body)
            if len(rows) >= 20_000:
                database.register("page", pa.Table.from_pylist(rows))
                database.execute(f"{'INSERT INTO records' if made else 'CREATE TABLE records AS'} SELECT * FROM page")
                made, rows = True, []
        assert database.execute("SELECT count(*) FROM records").fetchone() == (RECORDS,)


def ours(port, directory, *, as_json):
    import strandline as sl

    @sl.table(primary_key="id", incremental_key="updated_at")
    def records(cursor):  # noqa: ARG001 -- it is read from nothing
        yield from (Pages(port) if as_json else map(json.loads, Pages(port)))

    report = sl.sync(
        records, to=sl.duckdb(directory / "ours.duckdb"), backend=sl.local(str(directory / "state")), name="bench"
    )
    assert report.tasks[0].rows_written == RECORDS


WAYS = {
    "bare": bare,
    "dicts": lambda port, directory: ours(port, directory, as_json=False),
    "json": lambda port, directory: ours(port, directory, as_json=True),
}


def main():
    if len(sys.argv) > 2:
        way, port = sys.argv[1], int(sys.argv[2])
        with tempfile.TemporaryDirectory() as directory:
            began_s, cpu_s = time.monotonic(), time.process_time()
            WAYS[way](port, Path(directory))
            seconds, cpu = time.monotonic() - began_s, time.process_time() - cpu_s
        mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{way}: {seconds:.1f} s, {1e6 * cpu / RECORDS:.0f} µs of CPU a record, {mib:.0f} MB", flush=True)
        return
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(RECORDS), str(PAGE), str(LATENCY_S)], stdout=subprocess.PIPE, text=True
    )
    try:
        port = server.stdout.readline().strip()
        for way in WAYS:
            subprocess.run([sys.executable, __file__, way, port], check=True)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
