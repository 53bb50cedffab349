"""PostgreSQL into DuckDB, PostgreSQL and Parquet files: Strandline, the bare building blocks and dlt, interleaved in one run.

Whole processes are timed. dlt runs in an environment of its own, made once below `.cache`, in its fastest configuration:
`connectorx`, Parquet files (which it loads into PostgreSQL by ADBC), one process for each core. Strandline runs twice: as it is
by default (`xid`, which looks at every row) and by the incremental key that dlt has too (`key`, by an index). Prints medians and
ratios; `--out docs/bench.json` writes them, and a plot beside.

    python bench/postgresql.py [--rows 5000000] [--rounds 3] [--to duckdb,postgresql,files] [--without dlt]
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
SERVER = "shared_buffers = 1GB\nmax_wal_size = 8GB\nfsync = on\nfull_page_writes = on\n"
FILL = """
CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL, token uuid, name text, amount numeric(18,4),
    doc jsonb, flag boolean, score double precision, note text, day date);
INSERT INTO orders SELECT g, '2026-01-01'::timestamptz + g * interval '1 second', md5(g::text)::uuid, 'customer ' || g,
    (g % 1000000) / 7.0, jsonb_build_object('id', g, 'tags', jsonb_build_array('a', 'b', 'c'), 'text', repeat('x', 60)),
    g % 3 = 0, g / 3.0, CASE WHEN g % 5 = 0 THEN NULL ELSE 'note ' || g END, '2020-01-01'::date + (g % 2000)::int
    FROM generate_series(1, {rows}) AS g;
CREATE INDEX ON orders (at);
"""
OURS = ("xid", "key")
CHANGE = "UPDATE orders SET score = score + 1, at = clock_timestamp() WHERE id % 10 = {digit}"
DLT = """
import os, sys
os.environ["NORMALIZE__WORKERS"] = os.environ["LOAD__WORKERS"] = str(os.cpu_count())
os.environ["DATA_WRITER__FILE_MAX_ITEMS"] = "1000000"
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
import dlt
from dlt.sources.sql_database import sql_table
if __name__ == "__main__":
    source, to, target, work, incremental = sys.argv[1:]
    kinds = {"duckdb": dlt.destinations.duckdb, "postgresql": dlt.destinations.postgres, "files": dlt.destinations.filesystem}
    destination = kinds[to](target)
    pipeline = dlt.pipeline("bench", destination=destination, dataset_name="copy", pipelines_dir=work)
    table = sql_table(credentials=source, table="orders", backend="connectorx", chunk_size=200_000,
        incremental=dlt.sources.incremental("at") if incremental == "1" else None)
    changes = "append" if to == "files" else "merge"
    table.apply_hints(primary_key="id", write_disposition=changes if incremental == "1" else "replace")
    pipeline.run(table, loader_file_format="parquet")
"""


def bare(source, to, target):
    """ADBC in a thread, a short queue, one INSERT or COPY: no cursor, no state, no second sync."""
    import queue
    import threading

    import adbc_driver_manager as adbc
    import adbc_driver_postgresql as driver
    import pyarrow as pa
    import pyarrow.compute as pc

    batches = queue.Queue(8)

    def read():
        connection = adbc.AdbcConnection(driver.connect(source))
        statement = adbc.AdbcStatement(connection)
        statement.set_sql_query("SELECT * FROM orders")
        handle, _ = statement.execute_query()
        for batch in pa.RecordBatchReader._import_from_c(handle.address):  # noqa: SLF001 -- its documented entry
            batches.put(batch)
        batches.put(None)

    threading.Thread(target=read, daemon=True).start()
    first = batches.get()
    at = first.schema.names.index("amount")
    schema = first.schema.set(at, pa.field("amount", pa.decimal128(18, 4)))
    schema = pa.schema([pa.field(one.name, one.type) for one in schema])

    def typed():
        batch = first
        while batch is not None:
            arrays = batch.columns
            arrays[at] = pc.cast(arrays[at].storage, pa.decimal128(18, 4))
            yield pa.record_batch(arrays, schema=schema)
            batch = batches.get()

    if to == "duckdb":
        import duckdb

        connection = duckdb.connect(target)
        connection.execute(
            'CREATE TABLE orders (id BIGINT, "at" TIMESTAMPTZ, token UUID, name VARCHAR, amount DECIMAL(18,4), doc JSON, '
            "flag BOOLEAN, score DOUBLE, note VARCHAR, day DATE)"
        )
        connection.register("incoming", pa.RecordBatchReader.from_batches(schema, typed()))
        connection.execute("INSERT INTO orders SELECT * FROM incoming")
        connection.close()
    elif to == "files":
        import pyarrow.parquet as pq

        Path(target).mkdir()
        with pq.ParquetWriter(Path(target, "orders.parquet"), schema, compression="zstd") as writer:
            for batch in typed():
                writer.write_batch(batch)
    else:
        copy_in(target, schema, typed())


def copy_in(target, schema, batches):
    """Binary COPY into a new table, all in one."""
    import pgpq
    import psycopg
    import pyarrow as pa
    from pgpq import encoders
    from pgpq import schema as types

    plain = pa.schema([
        pa.field(one.name, pa.binary(16) if one.name == "token" else pa.string() if one.name == "doc" else one.type)
        for one in schema
    ])  # fmt: skip
    builders = {one.name: pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(one) for one in plain}
    builders["doc"] = encoders.StringEncoderBuilder.new_with_output(plain.field("doc"), types.Jsonb())
    encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(plain, builders)
    with psycopg.connect(target) as connection:
        connection.execute(
            "CREATE TABLE orders (id bigint, at timestamptz, token uuid, name text, amount numeric(18,4), doc jsonb, "
            "flag boolean, score float8, note text, day date)"
        )
        with connection.cursor().copy("COPY orders FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(encoder.write_header())
            for batch in batches:
                arrays = [getattr(one, "storage", one) for one in batch.columns]
                copy.write(encoder.write_batch(pa.record_batch(arrays, schema=plain)))
            copy.write(encoder.finish())


class Bench:
    """One server, one directory, and what is timed there."""

    def __init__(self, server, directory, rows, python_of_dlt):
        self.server, self.directory, self.rows, self.python_of_dlt = server, directory, rows, python_of_dlt
        self.uri = server.create_database("shop")
        server.execute(FILL.format(rows=rows), "shop")
        server.execute("VACUUM ANALYZE orders", "shop")
        self.number = 0

    def target(self, to):
        """A new destination."""
        self.number += 1
        if to == "duckdb":
            return str(self.directory / f"copy{self.number}.duckdb")
        if to == "files":
            return str(self.directory / f"copy{self.number}")
        return self.server.create_database(f"copy{self.number}")

    def forget(self, to, target):
        if to == "duckdb":
            Path(target).unlink(missing_ok=True)
        elif to == "files":
            shutil.rmtree(target)
        else:
            self.server.execute(f'DROP DATABASE "{target.rsplit("/", 1)[1]}" WITH (FORCE)')

    def command(self, who, to, target, work, *, incremental=False):
        if who == "bare":
            return [sys.executable, __file__, "--bare", self.uri, to, target]
        if who == "dlt":
            script = self.directory / "with_dlt.py"
            script.write_text(DLT)
            # dlt keeps a full load apart from an incremental one: the merge key has to be there from the start
            with_password = target.replace("postgres@", "postgres:any@")  # it wants one; the server trusts anybody
            return [self.python_of_dlt, script, self.uri, to, with_password, work, str(int(incremental))]
        own = {"connection_string": target} if to == "postgresql" else {"path": target}
        mode = "append" if to == "files" else "overwrite"
        origin = {
            "connection_string": self.uri,
            "tables": {"orders": {"incremental_key": "at"}} if who == "key" else {},
        }
        documents = [
            {"kind": "source", "spec": {"name": "shop", "path": "postgresql", "destinations": ["copy"], "tables": ["orders"], "spec": origin}},
            {"kind": "destination", "spec": {"name": "copy", "path": to, "write_mode": mode, "spec": own}},
        ]  # fmt: skip
        (work / "strandline.yml").write_text("\n---\n".join(map(json.dumps, documents)))
        return [sys.executable, "-m", "strandline", "sync"]

    def run(self, command, work):
        """Seconds, and the peak of resident memory in MB."""
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, out.decode()
        return time.perf_counter() - began, usage.ru_maxrss / 1024


def measure(bench, whos, to, rounds):
    found = {}

    def note(what, who, taken):
        found.setdefault((what, who), []).append(taken)
        print(f"{to:>10} {what:>13} {who:>10} {taken[0]:7.2f} s {taken[1]:6.0f} MB", flush=True)

    for number in range(rounds):
        kept = []
        for who in [*whos[number % len(whos) :], *whos[: number % len(whos)]]:  # nobody is always the first
            work = bench.directory / f"{to}-{who}-{number}"
            work.mkdir()
            target = bench.target(to)
            note("full", who, bench.run(bench.command(who, to, target, work), work))
            if who == "dlt":
                bench.forget(to, target)
                work, target = bench.directory / f"{to}-{who}-{number}-merge", bench.target(to)
                work.mkdir()
                bench.run(bench.command(who, to, target, work, incremental=True), work)
            if who == "bare":
                bench.forget(to, target)
            else:
                kept.append((who, target, work))
        for who, target, work in kept:
            note("unchanged", who, bench.run(bench.command(who, to, target, work, incremental=True), work))
        bench.server.execute(CHANGE.format(digit=number % 10), "shop")
        for who, target, work in kept:
            note("10 % changed", who, bench.run(bench.command(who, to, target, work, incremental=True), work))
            bench.forget(to, target)
        bench.server.execute("VACUUM orders", "shop")
        bench.server.execute("CHECKPOINT", "shop")
    return found


def environment_of_dlt():
    """Its interpreter."""
    folder = ROOT / ".cache" / "dlt"
    python, has = folder / "bin" / "python", folder / "wanted.txt"
    wanted = [
        "dlt[duckdb,postgres,sql_database,parquet]>=1.31",
        "connectorx",
        "adbc-driver-manager",
        "adbc-driver-postgresql",
        "psycopg2-binary",
        "psycopg[binary]",
        "pandas",
    ]
    if not has.exists() or has.read_text().split() != wanted:
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, *wanted], check=True)
        has.write_text("\n".join(wanted))
    return str(python)


def report(results, rows):
    """As a table in Markdown, and the figures."""
    lines = [
        "| to | what | Strandline | | of bare | of dlt | bare blocks | dlt | peak MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    figures = []
    for to, found in results.items():
        for what in ("full", "unchanged", "10 % changed"):
            seconds = {
                who: statistics.median(one[0] for one in taken) for (w, who), taken in found.items() if w == what
            }
            for ours in OURS:
                peak = max(one[1] for one in found[what, ours])
                others = {who: seconds[who] for who in ("bare", "dlt") if who in seconds}
                cells = [f"by {ours}", f"{seconds[ours]:.2f} s"]
                cells += [f"{others[who] / seconds[ours]:.2f} ×" if who in others else "–" for who in ("bare", "dlt")]
                cells += [f"{others[who]:.2f} s" if who in others else "–" for who in ("bare", "dlt")]
                lines.append(f"| {to} | {what} | {' | '.join(cells)} | {peak:.0f} |")
                taken = {"strandline": seconds[ours], **others}
                figures.append({"to": to, "what": what, "by": ours, "rows": rows, "seconds": taken, "peak_mb": peak})
    return "\n".join(lines), figures


def plot(figures):
    """Bars of the ratios, as SVG."""
    bars = [
        (f"{one['what']} → {one['to']} by {one['by']}, of {who}", one["seconds"][who] / one["seconds"]["strandline"])
        for one in figures
        for who in ("bare", "dlt")
        if who in one["seconds"]
    ]
    scale, step, left = 460 / max(ratio for _, ratio in bars), 26, 300
    height = step * len(bars) + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="820" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="820" height="{height}" fill="white"/>',
        f'<line x1="{left + scale:.0f}" x2="{left + scale:.0f}" y1="8" y2="{height - 26}" stroke="#888" stroke-dasharray="4"/>',
        f'<text x="{left + scale:.0f}" y="{height - 8}" text-anchor="middle" fill="#555">1: as fast as Strandline</text>',
    ]
    for at, (words, ratio) in enumerate(bars):
        y, colour = 10 + at * step, "#2a6f97" if "dlt" in words else "#a9a9a9"
        lines += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{words}</text>',
            f'<rect x="{left}" y="{y}" width="{ratio * scale:.0f}" height="18" fill="{colour}"/>',
            f'<text x="{left + ratio * scale + 6:.0f}" y="{y + 14}">{ratio:.2f} ×</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bare", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--to", default="duckdb,postgresql,files")
    parser.add_argument("--without", default="")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    if options.bare:
        bare(*options.bare)
        return
    from services.postgresql import PostgreSQLServer

    whos = [who for who in (*OURS, "bare", "dlt") if who not in options.without.split(",")]
    server = PostgreSQLServer(SERVER, durable=True).create()
    try:
        with tempfile.TemporaryDirectory(prefix="strandline-bench-") as directory:
            python = environment_of_dlt() if "dlt" in whos else ""
            bench = Bench(server, Path(directory), options.rows, python)
            results = {to: measure(bench, whos, to, options.rounds) for to in options.to.split(",")}
    finally:
        server.remove()
    table, figures = report(results, options.rows)
    print(
        f"\n{options.rows:,} rows, medians of {options.rounds} rounds, interleaved; larger ratios are better\n\n{table}"
    )
    if options.out:
        Path(options.out).write_text(json.dumps(figures, indent=1) + "\n")
        Path(options.out).with_suffix(".svg").write_text(plot(figures))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
