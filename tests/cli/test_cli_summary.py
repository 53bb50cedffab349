"""The summary of a sync: what was read, and what of it was new, in a line a table that fits; what failed comes last."""

import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from strandline.cli._layout import columns
from strandline.cli._summary import summary
from strandline.errors import TaskError
from strandline.runs import RunReport, Status, TaskReport

BY_TIME = {"orders": {"incremental_key": "at"}}


def changed(statement, path="shop.db"):
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(statement)


def numbers(done, table="orders"):
    """What the summary says of a table, by heading."""
    heading, row = (
        next(line for line in done.stdout.splitlines() if line.split()[:1] == [name]) for name in ("table", table)
    )
    names = ("read", "new or changed", "unchanged", "deleted", "rejected")
    return {
        name: row[: heading.index(name) + len(name)].rsplit("  ", 1)[1].strip() for name in names if name in heading
    }


def test_what_was_delivered_before_is_unchanged_and_nothing_that_is_new(cli):
    cli.shop("orders", tables=BY_TIME, mode="append")
    assert numbers(cli("sync")) == {"read": "2", "new or changed": "2"}
    changed("INSERT INTO orders (status, at) VALUES ('new', '2026-01-02')")
    assert numbers(cli("sync")) == {"read": "2", "new or changed": "1", "unchanged": "1"}
    done = cli("sync")
    assert numbers(done) == {"read": "1", "unchanged": "1"}
    assert "1 of 1 task completed: 1 row read, 1 unchanged, " in done.stdout


def test_where_rows_are_stored_again_nobody_claims_that_they_have_changed(cli):
    cli.shop("orders", "notes", tables=BY_TIME)
    done = cli("sync")
    assert numbers(done) == numbers(done, "notes") == {"read": "2", "new or changed": "2"}
    done = cli("sync", "--summary-location", "s.jsonl")
    assert numbers(done) == {"read": "1", "new or changed": "≤ 1"}
    assert numbers(done, "notes") == {"read": "2", "new or changed": "≤ 2"}
    assert "3 rows read, ≤ 3 new or changed" in done.stdout
    tasks = json.loads(Path("s.jsonl").read_text("utf-8"))["tasks"]
    assert {task["task"]: (task["rows_written"], task["rows_unsure"]) for task in tasks} == {
        "orders": (1, 1),
        "notes": (2, 2),
    }


def test_deleted_rows_have_a_column_where_there_are_any(cli):
    cli.shop("orders", mode="overwrite-delete-stale")
    assert "deleted" not in cli("sync").stdout
    changed("DELETE FROM orders WHERE id = 1")
    done = cli("sync")
    assert numbers(done)["deleted"] == "1"
    assert "1 deleted" in done.stdout.splitlines()[-1]


def test_a_cursor_that_did_not_move_is_said_once(cli):
    cli.shop("orders", tables=BY_TIME)
    assert "– → 2026-01-01 00:00:01" in cli("sync").stdout
    assert cli("sync").stdout.count("2026-01-01 00:00:01") == 1


def test_how_long_the_source_was_held_up_is_said_on_request(cli):
    cli.shop("orders")
    assert "longest statement" not in cli("sync").stdout
    done = cli("sync", "-v", "--summary-location", "s.jsonl")
    assert re.search(
        r"^longest statement at shop, and oldest snapshot: \d+\.\d\d s \(orders\)$", done.stdout, re.MULTILINE
    )
    (task,) = json.loads(Path("s.jsonl").read_text("utf-8"))["tasks"]
    assert 0 <= task["statement_s"] <= task["seconds"]


def some_failed(**settings):
    tasks = [
        TaskReport("shop", name, "wh", (name,), status=status, rows_read=1_234, rows_written=1_234, started_s=1.0)
        for name, status in (
            ("bad", Status.FAILED),
            ("a_table_with_a_long_name_that_takes_all_the_room", Status.COMPLETED),
        )
    ]
    for task in tasks:
        task.seconds, task.cursor_to = 2.5, {"shown": "2026-01-01 00:00:00.000000+00:00"}
    tasks[0].error = TaskError("bad: it broke", hint="mend it")
    return summary([RunReport("r", "shop", datetime.now(UTC), tasks, seconds=2.5)], **settings)


def test_what_failed_comes_last_and_then_what_to_do():
    lines = some_failed().splitlines()
    assert [line.split()[0] for line in lines[1:6]] == [
        "table",
        "a_table_with_a_long_name_that_takes_all_the_room",
        "bad",
        "error:",
        "hint:",
    ]
    assert lines[4] == "  error: bad: it broke"
    assert lines[-1].startswith("next: fix what failed and run the same command again")


def test_what_failed_is_red_where_that_is_wanted():
    red = [line for line in some_failed(colored=True).splitlines() if "\x1b[31m" in line]
    assert [line.removeprefix("\x1b[31m").split()[0] for line in red] == ["bad", "error:"]
    assert "\x1b" not in some_failed()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_on_a_terminal_each_table_has_one_line(width):
    lines = some_failed(width=width).splitlines()
    assert max(map(columns, lines)) <= width
    assert sum("1,234" in line and "2.50 s" in line and "rows read" not in line for line in lines) == 2


def test_with_nothing_to_say_of_a_column_there_is_none(cli):
    cli.shop("orders")
    heading = cli("sync").stdout.splitlines()[1]
    assert heading.split()[:2] == ["table", "status"]
    assert not {"unchanged", "deleted", "rejected", "rows/s"} & set(heading.split())
