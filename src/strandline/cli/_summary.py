"""What a run did, for people: the summary that ``sync`` prints to stdout."""

import signal
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from strandline.cli._grouping import bare, grouped, named
from strandline.cli._layout import columns, wrapped
from strandline.logs import said
from strandline.message import Cursor
from strandline.runs import RunReport, Status, TaskReport, describe_cursor, signal_name

__all__ = ["exit_code", "own_names", "summary"]

_WORST_FIRST = (70, 3, 4, 2)
_WORTH_A_SPEED = 1_000
_IDLE_MANY = 4
_NAME_MIN, _COUNTS_MIN = 12, 48
"""Columns for the names of tasks, and what is left for the rest; a longer name gets a line of its own."""
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


def summary(reports: Sequence[RunReport], *, width: int | None = None) -> str:
    """Two lines a task, what is to be said of some or all of them, then totals and what to do next.

    Wrapped to ``width`` columns, if any, and without secrets: a broken line would hide one from ``said``.
    """
    tasks = [task for report in reports for task in report.tasks]
    lines: list[_Line] = []
    names = max((columns(said(task.task)) for task in tasks), default=0)
    if width is not None:
        names = min(names, max(_NAME_MIN, width - _COUNTS_MIN))
    for report in reports:
        for destination in dict.fromkeys(task.destination for task in report.tasks):
            lines.append(("", f"{report.source} → {destination}"))
            mine = [task for task in report.tasks if task.destination == destination]
            shared = _shared(mine)
            idle = _idle(mine, shared)
            for task in mine:
                if task not in (alike for tasks_alike in idle.values() for alike in tasks_alike):
                    lines += _task(task, names, shared)
            for status, alike in idle.items():
                lines.append(("  ", f"{named([task.task for task in alike])}: {_MARKS[status]}, not begun"))
            lines += _said_of(mine, shared)
        lines += [("warning: ", warning) for warning in dict.fromkeys(report.warnings)]
    lines += [("", line) for line in _totals(reports, tasks)]
    return "\n".join(part for first, text in lines for part in wrapped(said(first), said(text), width=width))


def own_names(task: TaskReport) -> tuple[str, ...]:
    """The names by which a text about a task may begin."""
    return (task.name, task.task, *task.tables)


def _shared(tasks: Sequence[TaskReport]) -> dict[tuple[str, str], list[TaskReport]]:
    """What several tasks failed for, such as a lock: by message and hint."""
    groups: dict[tuple[str, str], list[TaskReport]] = {}
    for task in tasks:
        if task.error is not None:
            groups.setdefault((task.error.message, task.error.hint), []).append(task)
    return {error: failed for error, failed in groups.items() if len(failed) > 1}


def _idle(
    tasks: Sequence[TaskReport], shared: dict[tuple[str, str], list[TaskReport]]
) -> dict[Status, list[TaskReport]]:
    """Tasks that were not begun, by status, where that is all that is to be said, and of many of them."""
    idle: dict[Status, list[TaskReport]] = {}
    for task in tasks:
        known = task.error is None or (task.error.message, task.error.hint) in shared
        if known and not task.begun and task.cursor_to is None:
            idle.setdefault(task.status, []).append(task)
    return {status: alike for status, alike in idle.items() if len(alike) >= _IDLE_MANY}


def _task(task: TaskReport, names: int, shared: dict[tuple[str, str], list[TaskReport]]) -> list[_Line]:
    indent, counts = " " * (names + 4), f"{_MARKS[task.status]}: {_counts(task)}"
    task_name = said(task.task)
    name = f"  {task_name}{' ' * (names - columns(task_name))}  "
    lines = [(name, counts)] if columns(task_name) <= names else [(name.rstrip(), ""), (indent, counts)]
    cursors = f"cursor {describe_cursor(task.cursor_from)} → {describe_cursor(task.cursor_to)}"
    cursors = cursors if _is_shown(task.cursor_from) or _is_shown(task.cursor_to) else ""
    about = "; ".join(part for part in (cursors, task.guarantee) if part)
    lines += [(indent, about)] if about and (task.begun or cursors) else []
    error = task.error
    if error is not None and (error.message, error.hint) not in shared:
        lines.append((f"{indent}error: ", error.message))
        lines += [(f"{indent}hint: ", error.hint)] if error.hint else []
    return lines


def _is_shown(cursor: Cursor | None) -> bool:
    """Whether there is anything to be seen of it: one that could not move yet is as good as none."""
    return describe_cursor(cursor) != describe_cursor(None)


def _counts(task: TaskReport) -> str:
    if not task.begun:
        return "not begun"
    counts = [f"read {task.rows_read:,}", f"written {task.rows_written:,}", f"re-read {task.rows_reread:,}"]
    if task.rows_known:
        counts.append(f"already stored {task.rows_known:,}")
    if task.rows_deleted:
        counts.append(f"deleted {task.rows_deleted:,}")
    counts.append(f"rejected {task.rows_rejected:,}")
    fast = task.rows_read >= _WORTH_A_SPEED and task.seconds
    speed = f", {task.rows_read / task.seconds:,.0f} rows/s" if fast else ""
    return f"{', '.join(counts)} ({task.seconds:.2f} s{speed})"


def _said_of(tasks: Sequence[TaskReport], shared: dict[tuple[str, str], list[TaskReport]]) -> Iterator[_Line]:
    """Warnings, and the errors of several tasks, each once with the tasks that it is about."""
    said = [(task.task, bare(warning, own_names(task))) for task in tasks for warning in task.warnings]
    for text, names in grouped(said).items():
        yield "  warning: ", f"{named(names)}: {text}"
    for (message, hint), failed in shared.items():
        about = "" if len(failed) == len(tasks) else f"{named([task.task for task in failed])}: "
        yield "  error: ", f"{about}{message}"
        if hint:
            yield "  hint: ", hint


def _totals(reports: Sequence[RunReport], tasks: Sequence[TaskReport]) -> list[str]:
    done = sum(task.status is Status.COMPLETED for task in tasks)
    read, written = sum(task.rows_read for task in tasks), sum(task.rows_written for task in tasks)
    seconds = sum(report.seconds for report in reports)
    total = f"{done} of {len(tasks)} task{'s' * (len(tasks) != 1)} completed"
    lines = [f"{total}, {read:,} rows read, {written:,} written, {seconds:.2f} s"]
    goes_on = "; it goes on from the cursors above" if any(_is_shown(task.cursor_to) for task in tasks) else ""
    stopped_by = next((report.signal for report in reports if report.signal is not None), None)
    if stopped_by is not None:
        by = "Ctrl-C" if stopped_by == signal.SIGINT else signal_name(stopped_by)
        idle = [report.source for report in reports if report.signal is not None and not report.tasks]
        lines += [f"not begun: {', '.join(idle)}"] if idle else []
        goes_on = ", the next sync goes on from the cursors above" if goes_on else ""
        lines[0] = f"{total}; stopped by {by}{goes_on}"
        lines.append(f"{read:,} rows read, {written:,} written, {seconds:.2f} s")
    elif any(task.status is Status.FAILED for task in tasks):
        lines.append(f"next: fix what failed and run the same command again{goes_on}")
    elif any(task.status is Status.STOPPED for task in tasks):
        lines.append(f"next: run the same command again{goes_on}")
    return lines
