"""How loud a command is, and where to: levels, quiet, a log file, times off a terminal, colours on one only."""

import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")


@pytest.fixture
def shop(cli):
    cli.shop("orders", into="sqlite", path="copy.db")
    return cli


@pytest.fixture
def broken(shop):
    """One table can be synced, and another cannot."""
    shop.sqlite("shop.db", "items")
    shop("sync")
    with closing(sqlite3.connect("shop.db")) as file, file:
        file.execute("INSERT INTO items (status) VALUES ('new')")
    with closing(sqlite3.connect("copy.db")) as file, file:
        file.execute("CREATE TRIGGER t BEFORE INSERT ON items BEGIN SELECT RAISE(ABORT, 'no more items'); END")
    return shop


def on_a_terminal(*arguments, **environment):
    """What a terminal gets to show, and the exit code."""
    ours, theirs = pty.openpty()
    usual = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    with os.fdopen(theirs, "w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "strandline", *arguments],
            stdin=stream,
            stdout=stream,
            stderr=stream,
            env={**usual, "TERM": "xterm-256color", **environment},
        )
    shown = b""
    with suppress(OSError):
        while piece := os.read(ours, 1 << 16):
            shown += piece
    os.close(ours)
    return shown.decode(), process.wait(timeout=60)


@pytest.mark.parametrize("arguments", [(), ("state",), ("plugin",), ("completion",)])
def test_without_arguments_the_help_is_shown_and_nothing_has_succeeded(cli, arguments):
    done, asked = cli(*arguments), cli(*arguments, "--help")
    assert (done.exit_code, done.stderr) == (2, "")
    assert done.stdout == asked.stdout
    assert "\\n" not in done.stdout


def test_off_a_terminal_each_line_has_its_time(shop):
    done = shop("sync")
    lines = done.stderr.splitlines()
    assert [STAMP.sub("", line, count=1) for line in lines] == [
        "shop/orders → copy: started",
        "shop/orders → copy: completed: 2 rows committed, cursor –",
    ]
    assert all(STAMP.match(line) for line in lines)


def test_an_error_of_a_run_has_its_time_too(shop):
    Path("shop.db").unlink()
    done = shop("sync")
    assert done.exit_code == 5
    assert all(STAMP.match(line) for line in done.stderr.splitlines())
    assert " error: " in done.stderr
    # and of a command that is over at once it is as it always was
    assert shop("tables").stderr.startswith("error: ")


@pytest.mark.parametrize(("level", "said"), [("info", True), ("warning", False), ("error", False)])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_level_silences_what_is_below(shop, level, form, said):
    done = shop("sync", "--log-level", level, "--log-format", form)
    assert (done.exit_code, done.stderr != "") == (0, said)
    # the summary is the result, and no log
    assert ("1 of 1 task" in done.stdout) == (form == "text")


def test_verbose_adds_each_commit_and_debug_what_others_say(shop):
    assert "debug: shop/orders → copy: 2 rows committed" in shop("sync", "-v").stderr
    shop.shop("more", into="sqlite", path="copy.db")
    assert "debug: shop/more → copy: 2 rows committed" in shop("--debug", "sync").stderr


@pytest.mark.parametrize("quiet", ["-q", "--quiet"])
def test_quiet_says_nothing_of_what_went_well(shop, quiet):
    for command in (("sync",), ("migrate",), ("state", "reset", "--yes", "shop")):
        done = shop(*command, quiet)
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_quiet_says_each_error_once_and_the_exit_code_tells(broken):
    done = broken("sync", "--quiet")
    assert (done.exit_code, done.stdout) == (1, "")
    first, *rest = [STAMP.sub("", line, count=1) for line in done.stderr.splitlines()]
    assert first.startswith("error: shop/items → copy: ")
    assert "no more items" in first
    assert all(line.startswith("hint: ") for line in rest)


def test_what_is_asked_for_is_said_quietly_too(shop):
    assert "orders" in shop("plan", "-q").stdout


def test_a_log_file_has_everything_with_times_and_is_appended_to(broken):
    for _ in range(2):
        assert broken("sync", "-q", "--log-file", "sync.log").exit_code == 1
    lines = Path("sync.log").read_text("utf-8").splitlines()
    assert all(STAMP.match(line) for line in lines)
    for part in ("shop/orders → copy: started", "error: shop/items → copy: ", "no more items"):
        assert sum(part in line for line in lines) >= 2


def test_a_log_file_has_the_errors_of_the_summary(broken):
    done = broken("sync", "--log-file", "sync.log")
    assert "no more items" in done.stdout
    assert "no more items" not in done.stderr
    assert "no more items" in Path("sync.log").read_text("utf-8")


def test_a_log_file_as_json(shop):
    done = shop("--log-file", "sync.log", "sync", "--log-format", "json")
    assert Path("sync.log").read_text("utf-8") == done.stderr
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()][-1] == "run_finished"


def test_a_log_file_that_cannot_be_opened_stops_before_anything_is_done(shop):
    done = shop("sync", "--log-file", "nowhere/sync.log")
    assert done.exit_code == 2
    assert "nowhere/sync.log cannot be written: No such file or directory" in done.stderr
    assert not Path("copy.db").exists()


def test_a_log_file_that_is_full_is_said_and_changes_nothing(shop):
    done = shop("sync", "--log-file", "/dev/full")
    assert done.exit_code == 0
    assert "changes nothing of what was done: /dev/full: No space left on device" in done.stderr


def test_events_say_what_is_promised_once(shop):
    events = [json.loads(line) for line in shop("sync", "--log-format", "json").stderr.splitlines()]
    assert [event["event"] for event in events if "limits" in event] == ["task_started"]
    assert {event["guarantee"] for event in events if "task" in event} == {"full read"}
    assert all(event["at"].endswith("Z") and event["level"] == "info" for event in events)


def test_events_of_many_tables_say_what_is_promised_once(cli):
    cli.shop("orders", "items", "notes")
    events = [json.loads(line) for line in cli("sync", "--log-format", "json").stderr.splitlines()]
    assert sum("limits" in event for event in events) == 1
    assert sum(event["event"] == "task_started" for event in events) == 3


def test_a_terminal_shows_no_times_and_a_log_file_has_the_lines(shop):
    shown, code = on_a_terminal("sync", "--log-file", "sync.log")
    assert code == 0
    assert not STAMP.search(shown)
    assert "started" not in shown
    assert "shop/orders → copy: started" in Path("sync.log").read_text("utf-8")


def test_a_terminal_is_quiet_where_that_is_asked_for(shop):
    assert on_a_terminal("sync", "-q") == ("", 0)


def test_colours_are_for_terminals_without_no_color(broken):
    assert "\x1b[31m" in on_a_terminal("sync")[0]
    assert "\x1b[31m" not in on_a_terminal("sync", NO_COLOR="1")[0]
    assert "\x1b" not in broken("sync").stdout + broken("sync", "nope.yml").stderr
