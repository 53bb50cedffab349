"""``make detect``: one line for each thing that is broken on purpose, and the tests that notice it.

A test says what it breaks by ``@pytest.mark.detects("P1", "the state is saved before its rows")``: the promise that is then
broken, and how; ``by`` names the check that notices it, where that is not the test itself. It asserts that the sound one
passes the same check. What several tests detect is caught when all of them pass.
"""

from collections import defaultdict

import pytest
from promises import PROMISES, number

pytest.register_assert_rewrite("checks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As a property of the report, a mark reaches the process that prints."""
    for item in items:
        mark = item.get_closest_marker("detects")
        if mark is not None:
            promise, what = mark.args
            if promise not in PROMISES:
                raise pytest.UsageError(f"{item.nodeid}: {promise} is no promise")
            item.user_properties.append(("detects", (promise, what, mark.kwargs.get("by", item.originalname))))


def _outcomes(config: pytest.Config) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """By promise and what was broken: its tests, and how they ended."""
    found = defaultdict(list)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in reporter.stats.get(outcome, ()) if reporter else ():
            # what could not be collected has no properties
            detects = dict(getattr(report, "user_properties", ())).get("detects")
            if detects:
                promise, what, by = detects
                found[promise, what].append((by, outcome))
    return found


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What was skipped was not caught."""
    caught = all(how == "passed" for tests in _outcomes(session.config).values() for _, how in tests)
    if exitstatus == pytest.ExitCode.OK and not caught:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not any("detect" in argument for argument in terminalreporter.config.args):
        return  # they are some among many tests
    found = _outcomes(terminalreporter.config)
    caught = 0
    terminalreporter.section("broken on purpose")
    for promise, what in sorted(found, key=lambda one: (number(one[0]), one[1])):
        tests = found[promise, what]
        is_caught = all(how == "passed" for _, how in tests)
        caught += is_caught
        terminalreporter.write_line(f"{promise:>4} {PROMISES[promise]} · {what}")
        names = ", ".join(dict.fromkeys(by for by, how in tests if is_caught or how != "passed"))
        said = "caught" if is_caught else "NOT TRIED" if {how for _, how in tests} == {"skipped"} else "NOT CAUGHT"
        terminalreporter.write_line(f"       {said} by {names}", red=not is_caught, green=is_caught)
    open_ = [f"{promise} {text}" for promise, text in PROMISES.items() if promise not in {one for one, _ in found}]
    if open_:
        terminalreporter.write_line(f"nothing was broken for: {'; '.join(open_)}")
    terminalreporter.write_line(f"{caught} of {len(found)} caught", bold=True)
