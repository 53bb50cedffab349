"""The live table of a sync: as many tables as there is room for, the ones first that somebody should look at."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from strandline.cli._layout import columns, fitted
from strandline.logs import said
from strandline.runs import Event, EventKind, Status, TaskReport, describe_cursor

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Screen", "live", "table_lines"]

_REFRESH_EVERY_S = 0.25
_CURSOR_MAX, _CURSOR_MIN = 40, 12
_NAME_MIN = 12
_GAP = 2
_FIRST = (Status.FAILED, Status.RUNNING, Status.STOPPED, Status.COMPLETED)


def table_lines(reports: Sequence[TaskReport], *, width: int, height: int) -> list[str]:
    """A heading and a line a table, in no more than ``width`` columns and ``height`` lines."""
    shown, rest = list(reports), ""
    if len(reports) > height - 1:
        shown = sorted(reports, key=lambda report: _FIRST.index(report.status))
        shown, hidden = shown[: max(0, height - 2)], shown[max(0, height - 2) :]
        counts = Counter(report.status.value for report in hidden)
        rest = f"… and {len(hidden)} more: " + ", ".join(f"{count} {status}" for status, count in counts.items())
    pairs = {(report.source, report.destination) for report in reports}
    # of one source and destination, the name of the table says everything
    rows = [("table", "status", "rows", "rows/s", "cursor")]
    rows += [_cells(report, short=len(pairs) == 1) for report in shown]
    widths = _widths([max(columns(row[at]) for row in rows) for at in range(5)], width)
    lines = [
        (" " * _GAP)
        .join(
            fitted(cell, wide, right=at in {2, 3})
            for at, (cell, wide) in enumerate(zip(row, widths, strict=True))
            if wide
        )
        .rstrip()
        for row in rows
    ]
    return [*lines, rest] if rest else lines


def _cells(report: TaskReport, *, short: bool) -> tuple[str, str, str, str, str]:
    seconds = report.seconds or (time.monotonic() - report.started_s if report.started_s else 0)
    speed = f"{report.rows_read / seconds:,.0f}" if seconds > _REFRESH_EVERY_S else ""
    cursor = "" if report.cursor_to is None else describe_cursor(report.cursor_to, width_max=_CURSOR_MAX)
    name = report.task if short else report.name
    return said(name), report.status.value, f"{report.rows_read:,}", speed, said(cursor)


def _widths(wanted: Sequence[int], width: int) -> list[int]:
    """How wide each column is, 0 for none: the cursor gives way, then the speed, then the name."""
    name, status, rows, speed, cursor = wanted

    def left(*others: int) -> int:
        return width - sum(others) - _GAP * len(others)

    if (room := left(name, status, rows, speed)) >= min(cursor, _CURSOR_MIN):
        return [name, status, rows, speed, min(cursor, room)]
    if (room := left(status, rows, speed, _CURSOR_MIN)) >= _NAME_MIN and cursor >= _CURSOR_MIN:
        return [room, status, rows, speed, _CURSOR_MIN]
    if (room := left(status, rows, speed)) >= _NAME_MIN:
        return [min(name, room), status, rows, speed, 0]
    return [max(1, min(name, left(status, rows))), status, rows, 0, 0]


class Screen:
    """Observes a run, and says what cannot wait above the table."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._reports: dict[str, TaskReport] = {}
        self._said: set[str] = set()

    def __call__(self, event: Event) -> None:
        """See ``Observer``."""
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
        reports = list(self._reports.values())
        return table_lines(reports, width=size.width, height=max(2, size.height - 1)) if reports else []


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
        text = Text(heading, style="bold", no_wrap=True, overflow="crop", end="")
        for line in rest:
            text.append(f"\n{line}", style="not bold")
        return text

    refreshes_per_s = 1 / _REFRESH_EVERY_S
    with Live(get_renderable=drawn, console=console, refresh_per_second=refreshes_per_s, transient=True):
        yield screen
