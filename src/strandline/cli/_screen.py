"""The live table of a sync: as many tables as there is room for, the ones first that somebody should look at."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from strandline.cli._grouping import counted
from strandline.cli._layout import columns, fitted, took
from strandline.logs import said
from strandline.runs import Event, EventKind, RunReport, Status, TaskReport, describe_cursor

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Screen", "live", "table_lines", "totals"]

_REFRESH_EVERY_S = 0.25
_CURSOR_MAX, _CURSOR_MIN = 40, 12
_NAME_MIN = 12
_GAP = 2
_FIRST = (Status.FAILED, Status.RUNNING, Status.STOPPED, Status.COMPLETED)
_HEAD = ("table", "status", "rows", "rows/s", "time", "left", "cursor")
_NAME, _STATUS, _ROWS, _SPEED, _TIME, _LEFT, _CURSOR = range(7)
_GIVES_WAY = ((), (_CURSOR,), (_CURSOR, _TIME), (_CURSOR, _TIME, _LEFT), (_CURSOR, _TIME, _LEFT, _SPEED))
"""Which columns are left out where there is no room for all."""
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def table_lines(reports: Sequence[TaskReport], *, width: int, height: int, now_s: float) -> list[str]:
    """A heading and a line a table, in no more than ``width`` columns and ``height`` lines; ``now_s`` by the monotonic clock."""
    shown, rest = list(reports), ""
    if len(reports) > height - 1:
        shown = sorted(reports, key=lambda report: _FIRST.index(report.status))
        shown, hidden = shown[: max(0, height - 2)], shown[max(0, height - 2) :]
        counts = Counter(report.status.value for report in hidden)
        rest = f"… and {len(hidden)} more: " + ", ".join(f"{count} {status}" for status, count in counts.items())
    pairs = {(report.source, report.destination) for report in reports}
    # of one source and destination, the name of the table says everything
    rows = [_HEAD, *(_cells(report, now_s, short=len(pairs) == 1) for report in shown)]
    widths = _widths(
        [max(columns(row[at]) for row in rows) if any(row[at] for row in rows[1:]) else 0 for at in range(7)], width
    )
    lines = [
        (" " * _GAP)
        .join(
            fitted(cell, wide, right=at in {_ROWS, _SPEED, _TIME, _LEFT})
            for at, (cell, wide) in enumerate(zip(row, widths, strict=True))
            if wide
        )
        .rstrip()
        for row in rows
    ]
    return [*lines, rest] if rest else lines


def totals(reports: Sequence[TaskReport], *, now_s: float) -> str:
    """How far all of them are: ``2 of 7 tasks done, 1,200 rows, 600 rows/s, 2.0 s, about 4.0 s left``."""
    done, rows = sum(report.status is Status.COMPLETED for report in reports), sum(one.rows_read for one in reports)
    began_s = min((one.started_s for one in reports if one.started_s), default=now_s)
    seconds = now_s - began_s
    parts = [f"{done} of {counted(len(reports), 'task')} done", counted(rows, "row")]
    if seconds > _REFRESH_EVERY_S:
        parts += [f"{rows / seconds:,.0f} rows/s"]
    parts += [took(seconds)]
    left = [_rows_left(report) for report in reports if report.status is Status.RUNNING]
    if left and rows and None not in left:
        parts += [f"about {took(sum(one or 0 for one in left) * seconds / rows)} left"]
    return ", ".join(parts)


def _cells(report: TaskReport, now_s: float, *, short: bool) -> tuple[str, ...]:
    seconds = report.seconds or (now_s - report.started_s if report.started_s else 0)
    speed = report.rows_read / seconds if seconds > _REFRESH_EVERY_S else 0
    left = _rows_left(report) if report.status is Status.RUNNING else None
    cursor = "" if report.cursor_to is None else describe_cursor(report.cursor_to, width_max=_CURSOR_MAX)
    return (
        said(report.task if short else report.name),
        report.status.value,
        f"{report.rows_read:,}" + (f" of {_about(report.rows_read + left)}" if left else ""),
        f"{speed:,.0f}" if speed else "",
        took(seconds) if seconds else "",
        took(left / speed) if left and speed else "",
        said(cursor),
    )


def _rows_left(report: TaskReport) -> int | None:
    """About how many are still to be read; ``None``: nobody knows, as where only changes are read."""
    if not report.rows_about or report.cursor_from is not None:
        return None
    return max(0, report.rows_about - report.rows_read)


def _about(number: int) -> str:
    """``~12.3M``."""
    for unit, name in _UNITS:
        if number >= unit:
            return f"~{number / unit:.3g}{name}"
    return f"~{number}"


def _widths(wanted: Sequence[int], width: int) -> list[int]:
    """How wide each column is, 0 for none: the cursor gives way first, then the name."""
    for hidden in _GIVES_WAY:
        widths = [0 if at in hidden else wide for at, wide in enumerate(wanted)]
        fixed = sum(widths[_STATUS:_CURSOR]) + _GAP * (sum(wide > 0 for wide in widths) - 1)
        name, cursor = min(widths[_NAME], _NAME_MIN), min(widths[_CURSOR], _CURSOR_MIN)
        if fixed + name + cursor <= width:
            widths[_NAME] = min(widths[_NAME], width - fixed - cursor)
            widths[_CURSOR] = min(widths[_CURSOR], width - fixed - widths[_NAME])
            return widths
    widths[_NAME] = max(1, width - fixed)
    return widths


class Screen:
    """Observes a run, and says what cannot wait above the table."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._reports: dict[str, TaskReport] = {}
        self._said: set[str] = set()
        self._runs: dict[str, RunReport] = {}

    def __call__(self, event: Event) -> None:
        """See ``Observer``."""
        if isinstance(run := event.data.get("report"), RunReport):
            self._runs[run.run_id] = run
        if event.report is not None:
            self._reports[event.report.name] = event.report
        # why nothing moves is said at once; warnings stand in the summary
        if event.kind in {EventKind.WAITING, EventKind.RETRY}:
            why = event.text.partition("; trying again")[0]
            if why not in self._said:
                self._said.add(why)
                self.say(f"{event.source}: {event.kind.value}: {event.text}")

    def say(self, text: str) -> None:
        """From any thread."""
        self._console.print(said(text), markup=False)

    def lines(self) -> list[str]:
        """What is to be seen now. The last line of the terminal is left to the cursor."""
        size = self._console.size
        reports, now_s = list(self._reports.values()), time.monotonic()
        if not reports:
            return []
        known = [task for run in self._runs.values() for task in run.tasks]
        total = totals(known or reports, now_s=now_s)
        return [
            fitted(total, size.width).rstrip(),
            *table_lines(reports, width=size.width, height=max(2, size.height - 2), now_s=now_s),
        ]


@contextmanager
def live(stream: TextIO) -> Iterator[Screen]:
    """A table that is drawn again four times a second, and is gone at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    screen = Screen(console)

    def drawn() -> Text:
        heading, *rest = screen.lines() or [""]
        text = Text(heading, no_wrap=True, overflow="crop", end="")
        for at, line in enumerate(rest):
            text.append(f"\n{line}", style="bold" if at == 0 else "")
        return text

    refreshes_per_s = 1 / _REFRESH_EVERY_S
    with Live(get_renderable=drawn, console=console, refresh_per_second=refreshes_per_s, transient=True):
        yield screen
