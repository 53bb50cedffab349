"""A source, a destination and the command line between them, as a user has them."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

MODES = ("append", "overwrite", "overwrite-delete-stale")


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def text(self):
        return self.out + self.err


class SQLiteOrigin:
    """The database that a user syncs from."""

    def __init__(self, path: Path):
        self.path = path
        self.spec = {"path": "sqlite", "spec": {"path": str(path)}}

    def execute(self, *statements, rows=()):
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                if rows:
                    connection.executemany(statement, rows)
                else:
                    connection.execute(statement)


class DuckDBStore:
    """The warehouse that a user syncs into."""

    def __init__(self, path: Path):
        self.path = path
        self.spec = {"path": "duckdb", "spec": {"path": str(path)}}

    def query(self, sql):
        with closing(duckdb.connect(str(self.path))) as connection:
            return connection.execute(sql).fetchall()

    def rows(self, columns="id, v", table="t"):
        return sorted(self.query(f'SELECT {columns} FROM "{table}"'), key=repr)

    def execute(self, sql):
        self.query(sql)

    def drop_all(self):
        self.path.unlink()


class Bench:
    """One spec in one directory, and the commands a user gives there."""

    def __init__(self, directory: Path, mode: str):
        self.directory, self.mode = directory, mode
        self.origin = SQLiteOrigin(directory / "shop.db")
        self.store = DuckDBStore(directory / "warehouse.duckdb")
        self.tables, self.batch, self.backend = {}, {}, "local"

    def write_spec(self):
        source = {"name": "shop", "destinations": ["warehouse"], "backend": self.backend, **self.origin.spec}
        source["spec"] = {**source["spec"], "tables": self.tables}
        store = {"name": "warehouse", "write_mode": self.mode, **self.store.spec}
        store["spec"] = {**store["spec"], **self.batch}
        documents = [{"kind": "source", "spec": source}, {"kind": "destination", "spec": store}]
        text = "\n---\n".join(json.dumps(document, indent=1) for document in documents)
        (self.directory / "strandline.yml").write_text(text)

    def run(self, *arguments):
        """In this process, through the command line's own entry."""
        from strandline.cli import main

        self.write_spec()
        before = Path.cwd()
        os.chdir(self.directory)
        try:
            main(list(arguments))
        except SystemExit as end:
            return end.code or 0
        finally:
            os.chdir(before)

    def start(self, *arguments):
        """In a process of its own."""
        self.write_spec()
        return subprocess.Popen(
            [sys.executable, "-m", "strandline", *arguments],
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_when(self, process, condition, timeout_s=60):
        """SIGKILL as soon as ``condition`` holds; whether it came to that."""
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            if condition():
                process.send_signal(signal.SIGKILL)
                process.wait()
                process.communicate()
                return True
            time.sleep(0.005)
        process.kill()
        process.communicate()
        return False

    def summary(self):
        return [json.loads(line) for line in (self.directory / "summary.jsonl").read_text().splitlines()]

    def state(self, task="t"):
        """What the state file says of a task, as JSON."""
        path = self.directory / ".cq" / "state" / "shop" / f"{task}@warehouse.json"
        return json.loads(path.read_text())["states"][0] if path.exists() else None


@pytest.fixture(params=MODES)
def bench(request, tmp_path):
    return Bench(tmp_path, request.param)


@pytest.fixture
def sync(bench, capfd):
    """Sync and expect an exit code; what was printed."""

    def run(*arguments, code=0):
        found = bench.run("sync", *arguments)
        printed = capfd.readouterr()
        outcome = Outcome(found, printed.out, printed.err)
        assert found == code, outcome.text
        return outcome

    return run
