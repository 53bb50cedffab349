"""What is shown while a sync goes on: a live table on a terminal, lines elsewhere, events as JSON on request."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from strandline.cli._grouping import bare, counted
from strandline.cli._options import Settings
from strandline.cli._summary import own_names
from strandline.logs import said
from strandline.runs import Event, EventKind, RunReport, Status, TaskReport, describe_cursor

if TYPE_CHECKING:
    from strandline.cli._screen import Screen

__all__ = ["Lines", "progress"]

_log = logging.getLogger(__name__)

_LINE_EVERY_S = 10.0


class Shows(Protocol):
    """An ``Observer`` that can also say what is no event of the engine."""

    def __call__(self, event: Event) -> None:
        """See ``Observer``."""

    def say(self, text: str) -> None:
        """At once, from any thread."""


@contextmanager
def progress(settings: Settings, *, stream: TextIO | None = None) -> Iterator[Shows]:
    """An observer that shows events on stderr, in the form that suits it, and in the log file."""
    stream = stream or sys.stderr
    if settings.log_format == "text" and _log.isEnabledFor(logging.INFO) and not settings.quiet and stream.isatty():
        from strandline.cli._screen import live

        with live(stream) as screen:
            yield Lines(screen)
    elif settings.log_format == "json":
        yield _JsonLines()
    else:
        yield Lines(quiet=settings.quiet)


def _level(event: Event) -> int:
    if event.report is not None and event.report.status is Status.FAILED and event.kind is EventKind.TASK_FINISHED:
        return logging.ERROR
    return logging.WARNING if event.kind in {EventKind.WARNING, EventKind.RETRY} else logging.INFO


class _JsonLines:
    """Every event, with what its task has done so far. The limits of a class stand in the first event of a table that has it."""

    def __init__(self) -> None:
        self._limits: dict[str, str] = {}
        """By which table each was said."""

    def say(self, text: str) -> None:
        _log.info("%s", text, extra={"event": {"event": "notice", "text": text}})

    def __call__(self, event: Event) -> None:
        level = _level(event)
        if not _log.isEnabledFor(level):
            return
        line: dict[str, Any] = {"event": event.kind.value, "run_id": event.run_id, "source": event.source}
        if event.text:
            line["text"] = event.text
            line |= {"code": event.code} if event.code else {}
        if event.report is not None:
            line |= event.report.record()
            name = event.report.name
            is_first = (
                event.kind is EventKind.TASK_STARTED and self._limits.setdefault(event.report.limits, name) == name
            )
            if not is_first:
                del line["limits"]
        elif event.kind is EventKind.RUN_FINISHED and isinstance(run := event.data.get("report"), RunReport):
            line |= {name: value for name, value in run.record().items() if name not in {"tasks", *line}}
            line["statuses"] = dict(Counter(task.status.value for task in run.tasks))
        _log.log(level, "%s", event.kind.value, extra={"event": line})


class Lines:
    """Starts, ends and warnings; of a long task a line every ten seconds. A screen has them instead of stderr.

    Args:
        screen: a live table, if there is one.
        quiet: whether errors follow at the end, as nothing else is said.
        write: is given a level and a text without secrets, instead of the log of the command line.
    """

    def __init__(
        self, screen: "Screen | None" = None, *, quiet: bool = False, write: Callable[[int, str], None] | None = None
    ) -> None:
        self._screen, self._quiet, self._write = screen, quiet, write
        self._said: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if self._screen is not None:
            self._screen(event)
        report, level = event.report, _level(event)
        if report is None:
            if event.kind in {EventKind.WARNING, EventKind.WAITING}:
                waits = "waiting: " if event.kind is EventKind.WAITING else ""
                self._log(level, f"{event.source}: {waits}{event.text}")
            return
        match event.kind:
            case EventKind.TASK_STARTED:
                self._said[report.name] = time.monotonic()
                self._log(level, f"{report.name}: started")
            case EventKind.COMMITTED if time.monotonic() - self._said.get(report.name, 0) >= _LINE_EVERY_S:
                self._said[report.name] = time.monotonic()
                self._log(level, f"{report.name}: {_committed(report)}")
            case EventKind.COMMITTED if _log.isEnabledFor(logging.DEBUG):
                # asked for; on a terminal above the table
                _log.debug("%s", f"{report.name}: {_committed(report)}")
            case EventKind.WARNING:
                self._log(level, f"{report.name}: {bare(event.text, own_names(report))}")
            case EventKind.RETRY:
                self._log(level, f"{report.name}: retry: {bare(event.text, own_names(report))}")
            case EventKind.TASK_FINISHED:
                # where nothing is said but errors, the error itself follows at the end
                self._log(level, f"{report.name}: {report.status.value}: {_committed(report)}", shown=self._quiet)

    def say(self, text: str) -> None:
        if self._screen is not None:
            self._screen.say(text)
        self._log(logging.INFO, text)

    def _log(self, level: int, text: str, *, shown: bool = False) -> None:
        if self._write is not None:
            self._write(level, said(text))
            return
        _log.log(level, "%s", text, extra={"shown": shown or self._screen is not None})


def _committed(report: TaskReport) -> str:
    if not report.begun:
        return "not begun"
    return f"{counted(report.rows_read, 'row')} committed, cursor {describe_cursor(report.cursor_to)}"
