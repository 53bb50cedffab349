"""200,000 nested records in pages of 100 at 5 ms into DuckDB: a Python function and `rest`, beside a bare loop that does as much and dlt.

The same records as one chain of links, a page at a time: `rest`, beside a client that follows the chain and throws the pages away.

dlt's `rest_api` runs in an environment of its own, tuned: nested values in one column each, Parquet, two workers, large buffers. Whole
processes are timed, one after the other, and medians are compared; quote ratios of one run, never numbers of two days.

    python bench/pages.py [--records 200000] [--rounds 3] [--ways bare,dicts,json,rest,dlt,chain-bare,chain]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urljoin

from postgresql import environment_of_dlt

RECORDS, PAGE, LATENCY_S, AT_ONCE = int(os.environ.get("BENCH_RECORDS", "200000")), 100, 0.005, 8

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
            number = int(head.split(b" ", 2)[1].rpartition(b"=")[2])
            body = bodies[number] if number < len(bodies) else b"[]"
            await asyncio.sleep(latency)
            link = b'Link: </records?page=%d>; rel="next"\\r\\n' % (number + 1) if number + 1 < len(bodies) else b""
            head = b"HTTP/1.1 200 OK\\r\\n%sContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % (link, len(body))
            writer.write(head + body)
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
        for number, body in enumerate(Pages(port), 1):
            rows += json.loads(body)
            if len(rows) >= 20_000 or number == RECORDS // PAGE:
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


def rest(port, directory, pages=MappingProxyType({"type": "page", "query": "page", "first": 0}), path="records"):
    import strandline as sl

    table = {"path": path, "primary_key": ["id"], "incremental_key": "updated_at"}
    api = sl.rest(f"http://127.0.0.1:{port}", pagination=dict(pages), tables={"records": table}, concurrency=AT_ONCE)
    source = sl.source(api, backend=sl.local(str(directory / "state")), name="bench")
    report = sl.sync(source, to=sl.duckdb(directory / "ours.duckdb"))
    assert report.tasks[0].rows_written == RECORDS


def chain_bare(port, directory):  # noqa: ARG001 -- it keeps nothing
    """With the client that `rest` has, too."""
    import urllib3

    pool, url, size = urllib3.PoolManager(), f"http://127.0.0.1:{port}/records?page=0", 0
    while url:
        answer = pool.request("GET", url)
        size += len(answer.data)
        following = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
        url = following and urljoin(url, following)
    assert size > RECORDS


WAYS = {
    "bare": bare,
    "dicts": lambda port, directory: ours(port, directory, as_json=False),
    "json": lambda port, directory: ours(port, directory, as_json=True),
    "rest": rest,
    "chain-bare": chain_bare,
    "chain": lambda port, directory: rest(port, directory, {"type": "link"}, "records?page=0"),
}
DLT = """
import os, sys
port, records = sys.argv[1], int(sys.argv[2])
os.environ |= {"NORMALIZE__WORKERS": "2", "NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS": "100000", "EXTRACT__DATA_WRITER__BUFFER_MAX_ITEMS": "100000",
               "NORMALIZE__LOADER_FILE_FORMAT": "parquet", "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
import dlt
from dlt.sources.rest_api import rest_api_source
if __name__ == "__main__":
    source = rest_api_source({
        "client": {"base_url": f"http://127.0.0.1:{port}",
                   "paginator": {"type": "page_number", "base_page": 0, "page_param": "page", "total_path": None, "stop_after_empty_page": True}},
        "resources": [{"name": "records", "primary_key": "id", "write_disposition": "merge", "max_table_nesting": 0,
                       "endpoint": {"path": "records", "incremental": {"cursor_path": "updated_at"}}}]})
    source.max_table_nesting = 0
    pipeline = dlt.pipeline("bench", destination=dlt.destinations.duckdb("dlt.duckdb"), dataset_name="copy", pipelines_dir=".")
    pipeline.run(source, loader_file_format="parquet", write_disposition="append")
    with pipeline.sql_client() as client:
        assert client.execute_sql("SELECT count(*) FROM records") == [(records,)]
"""


def once(way, port, directory):
    """Seconds, seconds of processors, and the peak of resident memory in MB, of a process and those that it has started."""
    directory.mkdir()
    command = [sys.executable, __file__, way, port, directory]
    if way == "dlt":
        (directory / "with_dlt.py").write_text(DLT)
        command = [environment_of_dlt(), "with_dlt.py", port, str(RECORDS)]
    began_s = time.monotonic()
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, out.decode()
    return time.monotonic() - began_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default="bare,dicts,json,rest,dlt,chain-bare,chain")
    options = parser.parse_args()
    if options.records != RECORDS:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "BENCH_RECORDS": str(options.records)})
    if "dlt" in options.ways:
        environment_of_dlt()
    ways, found = options.ways.split(","), {}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(RECORDS), str(PAGE), str(LATENCY_S)], stdout=subprocess.PIPE, text=True
    )
    try:
        port = server.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as directory:
            for number in range(options.rounds):
                for way in ways:
                    found.setdefault(way, []).append(once(way, port, Path(directory) / f"{way}{number}"))
                    wall_s, busy_s, peak = found[way][-1]
                    print(f"{way}: {wall_s:.1f} s, {busy_s:.1f} s of processors, {peak:.0f} MB", flush=True)
    finally:
        server.kill()
        server.wait()
    compared(found)


def compared(found):
    """Medians, beside those of the first way."""
    medians = {way: [statistics.median(column) for column in zip(*one, strict=True)] for way, one in found.items()}
    for way, (wall_s, busy_s, _) in medians.items():
        first = "chain-bare" if way.startswith("chain") and "chain-bare" in medians else next(iter(medians))
        of_wall, of_busy, _ = medians[first]
        print(
            f"{way}: median {wall_s:.1f} s, {wall_s / of_wall:.2f} x {first}; {busy_s:.1f} s of processors, "
            f"{busy_s / of_busy:.2f} x; at most {max(peak for *_, peak in found[way]):.0f} MB"
        )


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] in WAYS:
        WAYS[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
