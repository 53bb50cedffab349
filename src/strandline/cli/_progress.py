"""What is shown while a sync goes on: a live table on a terminal, lines elsewhere, events as JSON on request."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from strandline.cli._grouping import bare
from strandline.cli._summary import own_names
from strandline.logs import redact
from strandline.runs import Event, EventKind, Observer, RunReport, TaskReport, describe_cursor

__all__ = ["progress"]

_LINE_EVERY_S = 10.0
_REFRESH_EVERY_S = 0.25


@contextmanager
def progress(*, as_json: bool, stream: TextIO | None = None) -> Iterator[Observer]:
    """An observer that shows events on stderr, in the form that suits it."""
    stream = stream or sys.stderr
    if as_json:
        yield _JsonLines(stream)
    elif stream.isatty():
        with _live(stream) as observer:
            yield observer
    else:
        yield _Lines(stream)


class _JsonLines:
    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def __call__(self, event: Event) -> None:
        line: dict[str, Any] = {"event": event.kind.value, "run_id": event.run_id, "source": event.source}
        line["at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if event.text:
            line["text"] = event.text
        if event.report is not None:
            line |= event.report.record()
        elif isinstance(run := event.data.get("report"), RunReport):
            line |= {name: value for name, value in run.record().items() if name not in {"tasks", *line}}
            line["statuses"] = dict(Counter(task.status.value for task in run.tasks))
        text = redact(json.dumps(line, ensure_ascii=False))
        with self._lock:
            self._stream.write(text + "\n")
            self._stream.flush()


class _Lines:
    """Starts, ends and warnings; of a long task a line every ten seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()
        self._said: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        report = event.report
        if report is None:
            if event.kind in {EventKind.WARNING, EventKind.WAITING}:
                self._say(f"{event.source}: {event.kind.value}: {event.text}")
            return
        match event.kind:
            case EventKind.TASK_STARTED:
                self._said[report.name] = time.monotonic()
                self._say(f"{report.name}: started")
            case EventKind.COMMITTED if time.monotonic() - self._said.get(report.name, 0) >= _LINE_EVERY_S:
                self._said[report.name] = time.monotonic()
                self._say(f"{report.name}: {_committed(report)}")
            case EventKind.WARNING | EventKind.RETRY:
                self._say(f"{report.name}: {event.kind.value}: {bare(event.text, own_names(report))}")
            case EventKind.TASK_FINISHED:
                self._say(f"{report.name}: {report.status.value}: {_committed(report)}")

    def _say(self, text: str) -> None:
        with self._lock:
            self._stream.write(redact(text) + "\n")
            self._stream.flush()


def _committed(report: TaskReport) -> str:
    if not report.begun:
        return "not begun"
    return f"{report.rows_read:,} rows committed, cursor {describe_cursor(report.cursor_to)}"


@contextmanager
def _live(stream: TextIO) -> Iterator[Observer]:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    reports: dict[str, TaskReport] = {}
    said: set[str] = set()

    def table() -> Table:
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for header in ("table", "status"):
            shown.add_column(header, overflow="ellipsis", no_wrap=True)
        for header in ("rows", "rows/s"):
            shown.add_column(header, justify="right", no_wrap=True)
        shown.add_column("cursor", overflow="ellipsis", no_wrap=True)
        for report in list(reports.values()):
            seconds = report.seconds or (time.monotonic() - report.started_s if report.started_s else 0)
            speed = f"{report.rows_read / seconds:,.0f}" if seconds > _REFRESH_EVERY_S else ""
            cursor = describe_cursor(report.cursor_to, width_max=40)
            cells = [report.name, report.status.value, f"{report.rows_read:,}", speed, cursor]
            shown.add_row(*[redact(cell).replace("[", r"\[") for cell in cells])
        return shown

    def observe(event: Event) -> None:
        if event.report is not None:
            reports[event.report.name] = event.report
        # why nothing moves is said at once, above the table; warnings stand in the summary
        if event.kind in {EventKind.WAITING, EventKind.RETRY}:
            text = redact(event.text)
            if (why := text.partition("; trying again")[0]) not in said:
                said.add(why)
                console.print(f"{event.source}: {event.kind.value}: {text}", markup=False)

    console = Console(file=stream, highlight=False)
    with Live(get_renderable=table, console=console, refresh_per_second=1 / _REFRESH_EVERY_S, transient=True):
        yield observe
