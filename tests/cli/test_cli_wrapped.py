"""What is printed on a terminal is wrapped by words, and hangs below what it belongs to."""

from datetime import UTC, datetime

import pytest

from strandline.cli import _errors, doctor
from strandline.cli._layout import columns, table
from strandline.cli._summary import summary
from strandline.cli.state import fitting
from strandline.errors import TaskError
from strandline.runs import RunReport, Status, TaskReport

LONG = "the table needs a column that the destination cannot make, and so it was not written; nothing was lost"


def reported(*names):
    tasks = [
        TaskReport(
            "shop",
            name,
            "wh",
            (name,),
            "settled (single writer)",
            status=Status.FAILED,
            rows_about=1_234_567,
            started_s=1.0,
        )
        for name in names
    ]
    for task in tasks:
        task.warnings, task.error = [LONG], TaskError(f"{task.task}: {LONG}", hint=LONG)
        task.cursor_from = task.cursor_to = {"shown": "2026-01-01 00:00:00.000000+00:00"}
    return summary([RunReport("r", "shop", datetime.now(UTC), tasks)], width=60)


@pytest.mark.parametrize("name", ["t", "a name", "events_of_customer_service"])
def test_a_summary(name):
    lines = reported(name, "other").splitlines()
    assert max(map(columns, lines)) <= 60
    (at,) = (at for at, line in enumerate(lines) if line.startswith("  warning: "))
    assert lines[at + 1].startswith(" " * 11)
    assert lines[at + 1].strip()


def test_into_a_pipe_it_is_not():
    report = RunReport("r", "shop", datetime.now(UTC), [TaskReport("shop", "t", "wh", ("t",), warnings=[LONG])])
    assert f"  warning: t: {LONG}\n" in summary([report])


def test_a_cursor_that_could_not_move_is_not_gone_on_from():
    task = TaskReport("shop", "t", "wh", ("t",), "settled", status=Status.STOPPED, started_s=1.0)
    task.cursor_from = task.cursor_to = {"shown": "–"}
    said = summary([RunReport("r", "shop", datetime.now(UTC), [task], signal=15)])
    assert "stopped by SIGTERM\n" in said
    assert "cursor" not in said


def test_doctor_and_errors(cli, monkeypatch):
    cli.shop("orders", "items")
    monkeypatch.setattr(doctor, "terminal_width", lambda: 60)
    monkeypatch.setattr(_errors, "error_width", lambda: 60)
    done = cli("doctor")
    assert done.stdout.endswith(" problems\n")
    # words are not broken, so that a path can be copied
    assert all(columns(line) <= 60 or "/" in line for line in done.stdout.splitlines())
    wrong = cli("sync", "--select", " ".join(["a"] * 80))
    first, second, *_ = wrong.stderr.splitlines()
    assert max(map(columns, (first, second))) <= 60
    assert (first[:7], second[:9]) == ("error: ", "       a ")


def test_on_a_narrow_terminal_a_list_of_states_has_fewer_columns_and_whole_names():
    head = ("table", "pass", "written", "saved", "age", "version", "cursor")
    rows = [
        head,
        *(
            (f"shop/{name} → wh", "done", "300", "2026-11-30 23:32:25", "0.6 s", "1.2", "2026-01-01 00:04:59")
            for name in ("order_lines", "customers")
        ),
    ]
    lines = {width: table(fitting(rows, width), width=width) for width in (80, 120)}
    assert lines[120][0].split() == list(head)
    assert lines[80][0].split() == ["table", "pass", "written", "age", "cursor"]
    assert all("shop/order_lines → wh" in one[1] and one[1].endswith("2026-01-01 00:04:59") for one in lines.values())
    assert max(map(len, lines[80])) <= 80
