"""What is seen on a terminal while a sync goes on: every status, on any width."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline.cli import _screen
from strandline.cli._layout import columns, fitted, shortened, wrapped
from strandline.cli._screen import totals
from strandline.runs import Status, TaskReport

LONG = "events_of_the_customer_service_department_{}"


def report(name, status=Status.RUNNING, *, rows=0, cursor=None, destination="warehouse", **more):
    one = TaskReport("shop", name, destination, (name,), status=status, rows_read=rows, **{"seconds": 1.0} | more)
    one.cursor_to = cursor
    return one


def table_lines(reports, *, width, height):
    return _screen.table_lines(reports, width=width, height=height, now_s=100.0)


def running(name, **more):
    """One that began 10 s ago."""
    return report(name, seconds=0.0, started_s=90.0, **more)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_status_and_rows_are_seen_on_any_terminal(width):
    reports = [
        report(LONG.format(at), Status.FAILED, rows=12_345_678, cursor={"shown": f"2026-01-01 00:00:{at:06}.123456+00"})
        for at in range(4)
    ]
    heading, *lines = table_lines(reports, width=width, height=20)
    assert all(columns(line) <= width for line in [heading, *lines])
    assert heading.split()[:3] == ["table", "status", "rows"]
    for at, line in enumerate(lines):
        assert line.startswith("e")
        assert line.split()[1:3] == ["failed", "12,345,678"]
        assert line.split()[0].endswith(f"{at}")


def test_the_cursor_gives_way_before_the_name():
    reports = [report("customers", cursor={"shown": "2026-01-01 00:00:00.123456+00:00"})]
    shown = "\n".join(table_lines(reports, width=60, height=20))
    assert "customers" in shown
    assert "2026" in shown
    assert "customers" in "\n".join(table_lines(reports, width=36, height=20))


def test_source_and_destination_are_named_where_there_are_several():
    reports = [report("orders", destination=name) for name in ("a", "b")]
    assert [line.split("  ")[0] for line in table_lines(reports, width=80, height=20)[1:]] == [
        "shop/orders → a",
        "shop/orders → b",
    ]


def test_what_failed_and_what_runs_comes_first_where_there_is_no_room_for_all():
    reports = [report(f"t{at:02}", Status.COMPLETED) for at in range(30)]
    reports += [report("running", Status.RUNNING), report("failed", Status.FAILED)]
    lines = table_lines(reports, width=80, height=6)
    assert [line.split()[0] for line in lines] == ["table", "failed", "running", "t00", "t01", "…"]
    assert lines[-1] == "… and 28 more: 28 completed"


def test_in_their_order_where_there_is_room():
    reports = [report("b", Status.COMPLETED), report("a", Status.FAILED)]
    assert [line.split()[0] for line in table_lines(reports, width=80, height=3)] == ["table", "b", "a"]


def test_rows_are_shown_of_about_how_many_with_time_and_what_is_left():
    reports = [
        running("orders", rows=1_000, rows_about=12_345),
        report("items", Status.COMPLETED, rows=7, rows_about=7),
    ]
    heading, orders, items = table_lines(reports, width=120, height=20)
    assert heading.split() == ["table", "status", "rows", "rows/s", "time", "left"]
    assert " ".join(orders.split()) == "orders running 1,000 of ~12.3k 100 10.0 s 1 min 53 s"
    assert " ".join(items.split()) == "items completed 7 7 1.0 s"


def test_nobody_knows_how_many_rows_have_changed():
    one = running("orders", rows=1_000, rows_about=12_345, cursor={"shown": "5"}, cursor_from={"shown": "3"})
    assert " ".join(table_lines([one], width=120, height=20)[1].split()) == "orders running 1,000 100 10.0 s 5"
    assert totals([one], now_s=100.0) == "0 of 1 task done, 1,000 rows, 100 rows/s, 10.0 s"


def test_totals_say_how_far_all_tables_are():
    done = report("items", Status.COMPLETED, rows=500, started_s=90.0)
    waits = report("notes", seconds=0.0, rows_about=500)
    reports = [running("orders", rows=500, rows_about=1_500), done, waits]
    assert totals(reports, now_s=100.0) == "1 of 3 tasks done, 1,000 rows, 100 rows/s, 10.0 s, about 15.0 s left"
    waits.rows_about = 0
    assert "left" not in totals(reports, now_s=100.0)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_time_and_what_is_left_give_way_before_the_name(width):
    one = running("customers", rows=1_000, rows_about=12_345, cursor={"shown": "2026-01-01 00:00:00.123456+00:00"})
    heading, line = table_lines([one], width=width, height=20)
    assert max(map(columns, (heading, line))) <= width
    assert line.startswith("customers")
    assert ("left" in heading.split(), "cursor" in heading.split()) == (width >= 60, width >= 80)


@given(text=st.text("abc漢字e\u0301"), width=st.integers(0, 20))
def test_a_shortened_text_fits(text, width):
    assert columns(shortened(text, width)) <= width
    assert columns(fitted(text, width)) == width


@given(words=st.lists(st.text("abc", min_size=1, max_size=12)), width=st.integers(30, 80))
def test_wrapping_loses_no_word_and_hangs(words, width):
    lines = wrapped("  hint: ", " ".join(words), width=width)
    assert all(columns(line) <= width for line in lines)
    assert all(line.startswith(" " * 8) for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == " ".join(["hint:", *words])


def test_without_a_terminal_lines_stay_whole():
    assert wrapped("a ", "b " * 100, width=None) == ["a " + "b " * 100]
