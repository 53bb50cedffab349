"""What is shown while a sync goes on: a live table on a terminal, lines elsewhere, events as JSON on request."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from strandline.cli._grouping import bare
from strandline.cli._summary import own_names
from strandline.logs import as_json, said
from strandline.runs import Event, EventKind, RunReport, TaskReport, describe_cursor

__all__ = ["progress"]

_LINE_EVERY_S = 10.0


class Shows(Protocol):
    """An ``Observer`` that can also say what is no event of the engine."""

    def __call__(self, event: Event) -> None:
        """See ``Observer``."""

    def say(self, text: str) -> None:
        """At once, from any thread."""


@contextmanager
def progress(*, as_json: bool, stream: TextIO | None = None) -> Iterator[Shows]:
    """An observer that shows events on stderr, in the form that suits it."""
    stream = stream or sys.stderr
    if as_json:
        yield _JsonLines(stream)
    elif stream.isatty():
        from strandline.cli._screen import live

        with live(stream) as screen:
            yield screen
    else:
        yield _Lines(stream)


class _JsonLines:
    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def say(self, text: str) -> None:
        self._write({"event": "notice", "text": text})

    def __call__(self, event: Event) -> None:
        line: dict[str, Any] = {"event": event.kind.value, "run_id": event.run_id, "source": event.source}
        if event.text:
            line["text"] = event.text
        if event.report is not None:
            line |= event.report.record()
        elif isinstance(run := event.data.get("report"), RunReport):
            line |= {name: value for name, value in run.record().items() if name not in {"tasks", *line}}
            line["statuses"] = dict(Counter(task.status.value for task in run.tasks))
        self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        at = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        text = as_json(line | at)
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
                self.say(f"{event.source}: {event.kind.value}: {event.text}")
            return
        match event.kind:
            case EventKind.TASK_STARTED:
                self._said[report.name] = time.monotonic()
                self.say(f"{report.name}: started")
            case EventKind.COMMITTED if time.monotonic() - self._said.get(report.name, 0) >= _LINE_EVERY_S:
                self._said[report.name] = time.monotonic()
                self.say(f"{report.name}: {_committed(report)}")
            case EventKind.WARNING | EventKind.RETRY:
                self.say(f"{report.name}: {event.kind.value}: {bare(event.text, own_names(report))}")
            case EventKind.TASK_FINISHED:
                self.say(f"{report.name}: {report.status.value}: {_committed(report)}")

    def say(self, text: str) -> None:
        with self._lock:
            self._stream.write(said(text) + "\n")
            self._stream.flush()


def _committed(report: TaskReport) -> str:
    if not report.begun:
        return "not begun"
    return f"{report.rows_read:,} rows committed, cursor {describe_cursor(report.cursor_to)}"
