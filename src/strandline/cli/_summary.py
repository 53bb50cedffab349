"""What a run did, for people: the summary that ``sync`` prints to stdout."""

import logging
import signal
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import click

from strandline.cli._grouping import bare, counted, grouped, named
from strandline.cli._layout import table, wrapped
from strandline.logs import said
from strandline.message import Cursor
from strandline.runs import RunReport, Status, TaskReport, describe_cursor, signal_name

__all__ = ["HEAD", "cells", "exit_code", "log_errors", "own_names", "summary"]

_log = logging.getLogger(__name__)

_WORST_FIRST = (70, 3, 4, 2)
_WORTH_A_SPEED = 1_000
_IDLE_MANY = 4
_LAST = (Status.COMPLETED, Status.RUNNING, Status.STOPPED, Status.FAILED)
HEAD = ("table", "status", "read", "new or changed", "unchanged", "deleted", "rejected", "time", "rows/s", "cursor")
_NUMBERS = range(2, 9)
_Line: TypeAlias = tuple[str, str]
"""What a text begins with, and the text, whose further lines hang below its first."""
_MARKS = {
    Status.COMPLETED: "completed",
    Status.FAILED: "FAILED",
    Status.STOPPED: "stopped",
    Status.RUNNING: "not finished",
}


def exit_code(reports: Sequence[RunReport]) -> int:
    """One exit code for several sources: the worst, and 1 when some completed and others did not."""
    codes = [report.exit_code for report in reports]
    for code in _WORST_FIRST:
        if code in codes:
            return code
    stopped = [code for code in codes if code > 128]  # noqa: PLR2004 -- 128 + the signal, as shells have it
    if stopped:
        return stopped[0]
    return codes[0] if len(set(codes)) == 1 else int(any(codes))


def summary(
    reports: Sequence[RunReport], *, width: int | None = None, colored: bool = False, verbose: bool = False
) -> str:
    """A line a task, what failed last; what is to be said of some or all of them; then totals and what to do next.

    ``verbose``: also how long a source was held up.

    Made to fit ``width`` columns, if any, and without secrets: a broken line would hide one from ``said``.
    """
    lines: list[_Line] = []
    for report in reports:
        for destination in dict.fromkeys(task.destination for task in report.tasks):
            lines.append(("", f"{report.source} → {destination}{_of_shard(report)}"))
            mine = [task for task in report.tasks if task.destination == destination]
            lines += _of_destination(sorted(mine, key=lambda task: _LAST.index(task.status)), width)
        if report.shard and not report.tasks and report.error is None:
            lines.append(("", f"{report.name}: it has none of the tables"))
        lines += [("warning: ", warning) for warning in dict.fromkeys(report.warnings)]
        lines += [("", line) for line in _longest(report) if verbose]
    lines += [("", line) for line in _totals(reports, on_terminal=width is not None)]
    shown = []
    for first, text in lines:
        parts = wrapped(said(first), said(text), width=width)
        red = colored and (first.strip() == "error:" or f"  {_MARKS[Status.FAILED]}  " in text)
        shown += [click.style(part, fg="red") if red else part for part in parts]
    return "\n".join(shown)


def _of_shard(report: RunReport) -> str:
    return f" (shard {report.shard})" if report.shard else ""


def _of_destination(tasks: Sequence[TaskReport], width: int | None) -> Iterator[_Line]:
    errors = grouped_errors(tasks)
    idle = _idle(tasks)
    unseen = {id(task) for alike in idle.values() for task in alike}
    for row in table([HEAD, *(cells(task) for task in tasks if id(task) not in unseen)], width=width, right=_NUMBERS):
        yield "", f"  {row}"
    for status, alike in idle.items():
        yield "  ", f"{named([task.task for task in alike])}: {_MARKS[status]}, not begun"
    warnings = [(task.task, bare(warning, own_names(task))) for task in tasks for warning in task.warnings]
    for text, names in grouped(warnings).items():
        yield "  warning: ", f"{named(names)}: {text}"
    for (text, hint), names in errors.items():
        about = "" if len(tasks) == len(names) > 1 else f"{named(names)}: "
        yield "  error: ", f"{about}{text}"
        if hint:
            yield "  hint: ", hint


def _longest(report: RunReport) -> Iterator[str]:
    """The statement that was open longest at the source, if it tells."""
    task = max(report.tasks, key=lambda task: task.statement_s, default=None)
    if task is not None and task.statement_s:
        yield f"longest statement at {report.source}, and oldest snapshot: {task.statement_s:.2f} s ({task.task})"


def grouped_errors(tasks: Sequence[TaskReport]) -> dict[tuple[str, str], list[str]]:
    """What tasks failed for, as message and hint, with their names: several may have met the same lock."""
    groups: dict[tuple[str, str], list[str]] = {}
    for task in tasks:
        if task.error is not None:
            groups.setdefault((bare(task.error.message, own_names(task)), task.error.hint), []).append(task.task)
    return groups


def log_errors(report: RunReport, *, shown: bool) -> None:
    """What tasks failed for, each once, as errors; ``shown`` in the summary already, they are for a log file only."""
    failed = [task for task in report.tasks if task.error is not None]
    for destination in dict.fromkeys(task.destination for task in failed):
        mine = [task for task in failed if task.destination == destination]
        for (text, hint), names in grouped_errors(mine).items():
            where = f"{report.source}/{named(names)} → {destination}"
            _log.error("%s: %s", where, text, extra={"shown": shown} | ({"hint": hint} if hint else {}))


def own_names(task: TaskReport) -> tuple[str, ...]:
    """The names by which a text about a task may begin."""
    return (task.name, task.task, *task.tables)


def _idle(tasks: Sequence[TaskReport]) -> dict[Status, list[TaskReport]]:
    """Tasks that were not begun, by status, where there are many of them."""
    idle: dict[Status, list[TaskReport]] = {}
    for task in tasks:
        if not task.begun and task.cursor_to is None:
            idle.setdefault(task.status, []).append(task)
    return {status: alike for status, alike in idle.items() if len(alike) >= _IDLE_MANY}


def cells(task: TaskReport) -> tuple[str, ...]:
    """What the table of the summary says of one task, below ``HEAD``."""
    if not task.begun:
        return (task.task, _MARKS[task.status], *("" for _ in _NUMBERS), "not begun")
    fast = task.rows_read >= _WORTH_A_SPEED and task.seconds
    return (
        said(task.task),
        _MARKS[task.status],
        f"{task.rows_read:,}",
        _changed([task]),
        *(f"{count:,}" if count else "" for count in (task.rows_known, task.rows_deleted, task.rows_rejected)),
        f"{task.seconds:.2f} s",
        f"{task.rows_read / task.seconds:,.0f}" if fast else "",
        said(_cursors(task)),
    )


def _changed(tasks: Sequence[TaskReport]) -> str:
    """How many rows are new or changed: at most so many, where they were stored again unseen."""
    written, unsure = sum(task.rows_written for task in tasks), sum(task.rows_unsure for task in tasks)
    return f"{'≤ ' * bool(unsure)}{written:,}" if written else ""


def _cursors(task: TaskReport) -> str:
    if not (_is_shown(task.cursor_from) or _is_shown(task.cursor_to)):
        return "read in full" if task.full and task.windows else ""
    before, after = describe_cursor(task.cursor_from), describe_cursor(task.cursor_to)
    return after if before == after else f"{before} → {after}"


def _is_shown(cursor: Cursor | None) -> bool:
    """Whether there is anything to be seen of it: one that could not move yet is as good as none."""
    return describe_cursor(cursor) != describe_cursor(None)


def _totals(reports: Sequence[RunReport], *, on_terminal: bool) -> list[str]:
    tasks = [task for report in reports for task in report.tasks]
    done = sum(task.status is Status.COMPLETED for task in tasks)
    total = f"{done} of {counted(len(tasks), 'task')} completed"
    counts = [f"{counted(sum(task.rows_read for task in tasks), 'row')} read"]
    counts += [f"{changed} new or changed"] if (changed := _changed(tasks)) else []
    for field, what in (("rows_known", "unchanged"), ("rows_deleted", "deleted"), ("rows_rejected", "rejected")):
        number = sum(getattr(task, field) for task in tasks)
        counts += [f"{number:,} {what}"] if number else []
    rows = f"{', '.join(counts)}, {sum(report.seconds for report in reports):.2f} s"
    goes_on = "; it goes on from the cursors above" if any(_is_shown(task.cursor_to) for task in tasks) else ""
    stopped_by = next((report.signal for report in reports if report.signal is not None), None)
    if stopped_by is not None:
        by = "Ctrl-C" if stopped_by == signal.SIGINT else signal_name(stopped_by)
        idle = [report.source for report in reports if report.signal is not None and not report.tasks]
        goes_on = ", the next sync goes on from the cursors above" if goes_on else ""
        return [f"{total}; stopped by {by}{goes_on}", *([f"not begun: {', '.join(idle)}"] if idle else []), rows]
    lines = [f"{total}: {rows}"]
    if any(task.status is Status.FAILED for task in tasks):
        lines.append(f"next: fix what failed and run the same command again{goes_on}")
    elif any(task.status is Status.STOPPED for task in tasks):
        lines.append(f"next: run the same command again{goes_on}")
    elif on_terminal and tasks:
        lines.append(
            "next: `strandline sync` again fetches what has changed by then; `strandline runs` lists what was done"
        )
    return lines
