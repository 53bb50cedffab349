"""What a run did, for people: the summary that ``sync`` prints to stdout."""

import signal
from collections.abc import Sequence

from strandline.runs import RunReport, Status, TaskReport, describe_cursor, signal_name

__all__ = ["exit_code", "summary"]

_WORST_FIRST = (70, 3, 4, 2)
_WORTH_A_SPEED = 1_000
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


def summary(reports: Sequence[RunReport]) -> str:
    """Two lines a task, then totals and what to do next."""
    tasks = [task for report in reports for task in report.tasks]
    lines: list[str] = []
    width = max((len(task.task) for task in tasks), default=0)
    for report in reports:
        for destination in dict.fromkeys(task.destination for task in report.tasks):
            lines.append(f"{report.source} → {destination}")
            for task in report.tasks:
                if task.destination == destination:
                    lines += _task(task, width)
        lines += [f"warning: {warning}" for warning in report.warnings]
    lines += _totals(reports, tasks)
    return "\n".join(lines)


def _task(task: TaskReport, width: int) -> list[str]:
    counts = [f"read {task.rows_read:,}", f"written {task.rows_written:,}", f"re-read {task.rows_reread:,}"]
    if task.rows_known:
        counts.append(f"already stored {task.rows_known:,}")
    if task.rows_deleted:
        counts.append(f"deleted {task.rows_deleted:,}")
    counts.append(f"rejected {task.rows_rejected:,}")
    speed = (
        f", {task.rows_read / task.seconds:,.0f} rows/s" if task.rows_read >= _WORTH_A_SPEED and task.seconds else ""
    )
    indent = " " * (width + 4)
    lines = [
        f"  {task.task:<{width}}  {_MARKS[task.status]}: {', '.join(counts)} ({task.seconds:.2f} s{speed})",
        f"{indent}cursor {describe_cursor(task.cursor_from)} → {describe_cursor(task.cursor_to)}; {task.guarantee}",
    ]
    lines += [f"{indent}warning: {warning}" for warning in task.warnings]
    if task.error is not None:
        lines.append(f"{indent}error: {task.error.message}")
        lines += [f"{indent}hint: {task.error.hint}"] if task.error.hint else []
    return lines


def _totals(reports: Sequence[RunReport], tasks: Sequence[TaskReport]) -> list[str]:
    done = sum(task.status is Status.COMPLETED for task in tasks)
    read, written = sum(task.rows_read for task in tasks), sum(task.rows_written for task in tasks)
    seconds = sum(report.seconds for report in reports)
    total = f"{done} of {len(tasks)} task{'s' * (len(tasks) != 1)} completed"
    lines = [f"{total}, {read:,} rows read, {written:,} written, {seconds:.2f} s"]
    stopped_by = next((report.signal for report in reports if report.signal is not None), None)
    if stopped_by is not None:
        by = "Ctrl-C" if stopped_by == signal.SIGINT else signal_name(stopped_by)
        idle = [report.source for report in reports if report.signal is not None and not report.tasks]
        lines += [f"not begun: {', '.join(idle)}"] if idle else []
        lines[0] = f"{total}; stopped by {by}, the next sync goes on from the cursors above"
        lines.append(f"{read:,} rows read, {written:,} written, {seconds:.2f} s")
    if any(task.status is Status.FAILED for task in tasks):
        lines.append("next: mend what failed and run the same command again; it goes on from the cursors above")
    elif stopped_by is None and any(task.status is Status.STOPPED for task in tasks):
        lines.append("next: run the same command again; it goes on from the cursors above")
    return lines
