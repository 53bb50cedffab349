"""For all tests: nothing is left out unnoticed in CI, and no verdict hangs on how fast a machine is."""

import json
import logging
import os
import sqlite3
import uuid
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import settings

from services.mariadb import MariaDBServer
from services.mariadb import programs as mariadb_programs
from services.postgresql import PostgreSQLServer, programs
from strandline import logs
from strandline.cli import main

pytest.register_assert_rewrite("strandline.testing")

if "STRANDLINE_DAMAGES" in os.environ:  # of a stored state; see `make damage`
    from strandline.testing.state_raw import RawCases

    RawCases.DAMAGES = int(os.environ["STRANDLINE_DAMAGES"])

# Tests start hundreds of interpreters, and one that compiles all modules again takes twice as long.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shared machine makes a test slow, not wrong; what fails prints what reproduces it.
settings.register_profile("strandline", deadline=None, print_blob=True)
settings.load_profile("strandline")


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", ())) if reporter and os.environ.get("CI") else 0


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A test that was skipped in CI has tested nothing: that is a failure."""
    if _skipped(session.config) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if count := _skipped(terminalreporter.config):
        terminalreporter.write_line(f"CI is set, so the {count} skipped tests count as failures", red=True)


@pytest.fixture(scope="session")
def postgresql_server():
    """One running server for all tests of a process. A test that stops or kills a server starts its own."""
    if programs() is None:
        pytest.skip("LOUD: no PostgreSQL server is installed; on Debian: apt-get install postgresql")
    server = PostgreSQLServer()
    try:
        yield server.create()
    finally:
        server.remove()


@pytest.fixture
def postgresql(postgresql_server):
    """The connection string of a new, empty database."""
    name = f"t_{uuid.uuid4().hex}"
    yield postgresql_server.create_database(name)
    postgresql_server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def mariadb_server():
    """One running server for all tests of a process, as ``postgresql_server``."""
    if mariadb_programs() is None:
        pytest.skip("LOUD: no server of MariaDB is installed; on Debian: apt-get install mariadb-server")
    with MariaDBServer() as server:
        yield server


@pytest.fixture
def mysql(mariadb_server):
    """The connection string of a new, empty database."""
    name = f"t_{uuid.uuid4().hex}"
    mariadb_server.execute(f"CREATE DATABASE {name}")
    yield mariadb_server.uri(name)
    mariadb_server.execute(f"DROP DATABASE {name}")


class CommandLine:
    """Runs ``strandline`` inside this process, in an empty current directory."""

    def __init__(self, directory):
        self.directory = directory

    def __call__(self, *arguments, **environment):
        return CliRunner(env=environment).invoke(main, list(map(str, arguments)), prog_name="strandline")

    def spec(self, *documents, path="strandline.yml"):
        """Write a spec of pairs (kind, spec)."""
        texts = [json.dumps({"kind": kind, "spec": spec}) for kind, spec in documents]
        Path(path).write_text("\n---\n".join(texts), "utf-8")

    def sqlite(self, path, *names, rows=2):
        """Make a database of tables with these names, a key and a time."""
        with closing(sqlite3.connect(path)) as connection, connection:
            for name in names:
                connection.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, status TEXT, at TEXT)')
                connection.executemany(
                    f"INSERT INTO \"{name}\" (status, at) VALUES ('new', ?)",
                    [(f"2026-01-01 00:00:{n:02}",) for n in range(rows)],
                )

    def shop(self, *names, tables=None, into="duckdb", mode="overwrite", path="w.duckdb", **settings):
        """The usual: one SQLite file into one destination."""
        self.sqlite("shop.db", *names)
        source = {"name": "shop", "path": "sqlite", "tables": ["*"], "destinations": ["copy"]}
        self.spec(
            ("source", source | {"spec": {"path": "shop.db", "tables": tables or {}}} | settings),
            ("destination", {"name": "copy", "path": into, "write_mode": mode, "spec": {"path": path}}),
        )


@pytest.fixture(autouse=True)
def secrets_of_one_test(monkeypatch):
    """A process knows its secrets for good, and here one process is many runs: what one calls a secret is a plain word to another."""
    monkeypatch.setattr(logs, "_known", logs._Known())


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """``cli("sync")``, and what it needs. Logging is afterwards as it was."""
    monkeypatch.chdir(tmp_path)
    with logging_as_it_was():
        yield CommandLine(tmp_path)


@pytest.fixture
def logged(capsys):
    """``logged()``: the lines that went to stderr since. Logging is set up as a command does it."""
    with logging_as_it_was():
        logs.configure()
        yield lambda: capsys.readouterr().err.splitlines()  # noqa: PLW0108 -- of what is read then


@contextmanager
def logging_as_it_was():
    """Afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("strandline")
    kept = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    yield
    for handler in set(root.handlers) - set(kept[0]):
        handler.close()
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = kept
    logging.captureWarnings(capture=False)
