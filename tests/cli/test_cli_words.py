"""Small things that a new user reads first: errors about files, help, lists, and what programs read."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from strandline.cli import state
from strandline.cli._layout import columns
from strandline.plugins import load_plugin
from strandline.state import Pass, Phase, State, StateKey


def test_a_spec_that_is_not_there_is_named_in_the_first_line(cli):
    Path("empty").mkdir()
    assert cli("sync", "nope.yml").stderr.startswith("error: nope.yml: cannot be read: No such file or directory\n")
    assert cli("sync", "empty").stderr.startswith("error: empty: no *.yml or *.yaml in this directory\n")
    Path("latin.yml").write_bytes("kind: sourc\xe9".encode("latin-1"))
    assert cli("sync", "latin.yml").stderr.startswith("error: latin.yml:1:1: not UTF-8\n")


def test_doctor_does_not_say_to_fix_what_it_does_not_name(cli):
    cli.shop("orders", path="not/there/w.duckdb")
    said = cli("doctor").stdout
    assert (
        "warning  agreement: not compared with the destination, since this cannot be used: destination copy\n" in said
    )
    assert "fix: run doctor again when destination copy can be\n" in said
    assert "fix that" not in said


@pytest.mark.parametrize("command", [(), ("state",), ("plugin",)])
def test_help_cuts_nothing_off_and_promises_nothing_that_is_not_there(cli, command):
    said = cli(*command, "--help").stdout
    assert "..." not in said.replace("[ARGS]...", "").replace("[SPEC]...", "")
    assert "API" not in said


def test_the_first_event_of_a_task_has_its_cursor(cli):
    cli.shop("orders", tables={"orders": {"incremental_key": "at"}})
    assert cli("sync").exit_code == 0
    lines = cli("sync", "--log-format", "json").stderr.splitlines()
    (started,) = [event for event in map(json.loads, lines) if event["event"] == "task_started"]
    (finished,) = [event for event in map(json.loads, lines) if event["event"] == "task_finished"]
    assert started["cursor_from"]["shown"] == "2026-01-01 00:00:01"
    assert started["cursor_from"] == finished["cursor_from"]


def test_states_are_listed_in_columns(cli):
    cli.shop("a", "a_table_with_a_longer_name", tables={"a": {"incremental_key": "at"}})
    assert cli("sync").exit_code == 0
    heading, *lines = cli("state", "list").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["shop/a → copy", "shop/a_table_with_a_longer_name → copy"]
    assert [word for word in re.split(r"  +", heading) if word] == (
        ["table", "pass", "written", "saved", "age", "version", "cursor"]
    )
    at = heading.index("cursor")
    assert [line[at:] for line in lines] == ["2026-01-01 00:00:01", "–"]
    first, *_ = json.loads(cli("state", "list", "--format", "json").stdout)
    saved = datetime.fromisoformat(first["saved_at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert re.search(rf"  2  {saved}  +\d\.\d s  ", lines[0])


def test_a_full_refresh_is_listed_until_it_is_finished(cli):
    cli.shop("orders", backend_spec={"path": "kept"})
    cls = load_plugin("state_backend", "local")
    backend = cls(cls.Spec(path="kept"))
    for task, phase in (("orders", Phase.DONE), ("@refresh/orders", Phase.DONE), ("@refresh/items", Phase.READING)):
        kept = State(None, 1, 1, "r", Pass(1, full=True, phase=phase), saved_at=datetime.now(UTC).isoformat())
        backend.save(StateKey("shop", task, "copy"), kept, expected=None)
    backend.close()
    listed = cli("state", "list").stdout
    assert "shop/orders → copy" in listed
    assert "@refresh/items" in listed
    assert "@refresh/orders" not in listed
    tasks = [one["task"] for one in json.loads(cli("state", "list", "--format", "json").stdout)]
    assert sorted(tasks) == ["@refresh/items", "orders"]


def test_a_list_without_states(cli):
    cli.shop("orders")
    assert cli("state", "list").stdout == "no states yet\n"


def test_on_a_narrow_terminal_a_state_is_one_line(cli, monkeypatch):
    cli.shop("a", "events_of_the_customer_service_department", tables={"a": {"incremental_key": "at"}})
    assert cli("sync").exit_code == 0
    monkeypatch.setattr(state, "terminal_width", lambda: 80)
    lines = cli("state", "list").stdout.splitlines()
    assert (len(lines), max(map(columns, lines)) <= 80) == (3, True)
    assert any(line.startswith("shop/events_of_the_customer_service_department →") for line in lines)
