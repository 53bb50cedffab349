"""A source, a destination and the command line between them, as a user has them."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from places import MODES, origin_of, store_of


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def text(self):
        return self.out + self.err


class Bench:
    """One spec in one directory, and the commands a user gives there."""

    def __init__(self, directory: Path, origin, store, mode: str):
        self.directory, self.mode = directory, mode
        self.origin, self.store = origin, store
        self.pair = origin.spec["path"], store.spec["path"]
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


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """A command in an empty directory, which is also the test's; expects an exit code; what was printed."""
    from strandline.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        printed = capfd.readouterr()
        outcome = Outcome(end.value.code or 0, printed.out, printed.err)
        assert outcome.code == code, outcome.text
        return outcome

    return run


@pytest.fixture
def database(request):
    """Makes new, empty PostgreSQL databases; their connection strings. Without a call no server is needed."""
    names = []

    def create():
        names.append(f"t_{uuid.uuid4().hex}")
        return request.getfixturevalue("postgresql_server").create_database(names[-1])

    yield create
    for name in names:
        request.getfixturevalue("postgresql_server").execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def make_bench(tmp_path, database):
    def make(source, destination, mode):
        origin, store = origin_of(source, tmp_path, database), store_of(destination, tmp_path, database)
        return Bench(tmp_path, origin, store, mode)

    return make


@pytest.fixture(params=MODES)
def bench(request, make_bench):
    """A mode is from SQLite into DuckDB; a test that wants more names sources and destinations too."""
    return make_bench(*(("sqlite", "duckdb", request.param) if isinstance(request.param, str) else request.param))


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
