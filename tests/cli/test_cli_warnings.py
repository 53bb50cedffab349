"""Warnings: each once, with the tables that it is about, under one spelling of a task."""

import os
import pty
from contextlib import suppress
from datetime import UTC, datetime

from strandline.cli._grouping import named
from strandline.cli._options import Settings
from strandline.cli._progress import progress
from strandline.cli._summary import summary
from strandline.runs import Event, EventKind, RunReport, Status, TaskReport
from strandline.state import StateKey

WAITS = "the cursor waits for pid 10961 (nightly_report, role postgres), for {} s; what is newer is delivered"


def reported(*warnings):
    """A report of tasks t0, t1, …, each with a warning, or none."""
    tasks = [
        TaskReport(
            "shop", f"t{at}", "wh", (f"t{at}",), "settled", "", Status.COMPLETED, started_s=1.0, warnings=list(said)
        )
        for at, said in enumerate(warnings)
    ]
    return RunReport("r", "shop", datetime.now(UTC), tasks)


def test_a_warning_that_is_the_same_but_for_the_table_is_one_line():
    said = summary([reported(*([f"t{at}: {WAITS.format(72 + at % 2)}"] for at in range(6)))])
    assert said.count("the cursor waits") == 1
    assert f"\n  warning: t0, t1 and 4 more: {WAITS.format(72)}\n" in said


def test_a_warning_of_one_table_has_its_name_once():
    key = StateKey("shop", "t0", "wh")
    said = summary([reported([f"{key}: it is full"], ["t1: it is odd"], [])])
    assert "\n  warning: t0: it is full\n  warning: t1: it is odd\n" in said


def test_a_key_is_spelled_as_a_task_is():
    (task,) = reported([]).tasks
    assert str(StateKey("shop", "t0", "wh")) == task.name == "shop/t0 → wh"


def test_lines_have_no_name_twice(logged):
    (task,) = reported([]).tasks
    with progress(Settings()) as observer:
        for text in ("t0: it waits", "shop/t0 → wh: it waits", "it waits"):
            observer(Event(EventKind.WARNING, "r", "shop", task, text))
        observer(Event(EventKind.WAITING, "r", "shop", text="run x has the lease"))
    assert [line.partition(" ")[2] for line in logged()] == [
        *["warning: shop/t0 → wh: it waits"] * 3,
        "shop: waiting: run x has the lease",
    ]


def test_on_a_terminal_warnings_are_left_to_the_summary_and_what_is_waited_for_is_said_once(logged):
    ours, theirs = pty.openpty()
    first, second = reported([], []).tasks
    with os.fdopen(theirs, "w") as stream, progress(Settings(), stream=stream) as observer:
        for task in (first, second):
            observer(Event(EventKind.WARNING, "r", "shop", task, "it is odd"))
            observer(Event(EventKind.RETRY, "r", "shop", task, f"the line is cut; trying again in {id(task)} s"))
        observer(Event(EventKind.WAITING, "r", "shop", text="run x has the lease"))
    shown = b""
    # Linux says that the other end is closed by an error
    with suppress(OSError):
        while piece := os.read(ours, 1 << 16):
            shown += piece
    os.close(ours)
    shown = shown.decode()
    assert "it is odd" not in shown
    assert (shown.count("the line is cut"), shown.count("waiting: run x has the lease")) == (1, 1)


def test_names():
    assert [named(list("abcdef"[:count])) for count in range(6)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
        "a, b and 2 more",
        "a, b and 3 more",
    ]
