"""For all tests: nothing is left out unnoticed in CI, and no verdict hangs on how fast a machine is."""

import os

import pytest
from hypothesis import settings

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
