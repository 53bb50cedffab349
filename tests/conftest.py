"""For all tests: nothing is left out unnoticed in CI, and no verdict hangs on how fast a machine is."""

import os
import uuid

import pytest
from hypothesis import settings

from services.postgresql import PostgreSQLServer, programs

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
