"""`runs`: what past syncs did, from the log that each of them leaves in the project."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from strandline.cli._grouping import counted, named
from strandline.cli._layout import table, terminal_width, took
from strandline.cli._options import moment
from strandline.cli._output import color
from strandline.errors import UsageError
from strandline.logs import as_json, said
from strandline.runs import RUNS, RunStore, describe_cursor
from strandline.warned import Code

__all__ = ["command"]

_log = logging.getLogger(__name__)

_SHORT_ID = 8
_HEAD = ("run", "when", "took", "from → to", "tables", "failed", "rows", "exit")
_TASK_HEAD = ("table", "destination", "status", "rows", "took", "from cursor", "to cursor")


@click.command("runs")
@click.argument("run_id", required=False)
@click.option("--since", metavar="WHEN", callback=moment, help="Only runs since then: 2d, 12h, or 2026-01-31.")
@click.option("-n", "number", type=click.IntRange(min=1), default=20, show_default=True, help="How many, at most.")
@click.option("--json", "as_lines", is_flag=True, help="A line of JSON for each run, as in the summary file.")
def command(run_id: str | None, since: datetime | None, number: int, *, as_lines: bool) -> None:
    """List past runs, the newest first; with RUN_ID, each table of one.

    The beginning of a RUN_ID is enough. Every sync appends to the log of runs, .cq/runs in the project, which keeps the
    last 8 MiB or more.
    """
    place = _place()
    try:
        records, unreadable = RunStore(place).read()
    except OSError as error:
        raise UsageError(f"{place} cannot be read: {error.strerror}") from None
    if run_id is not None:
        _show_one(_found(records, run_id), as_lines=as_lines)
    else:
        records = [one for one in reversed(records) if since is None or _begun(one) >= since]
        _list(records[:number], len(records), as_lines=as_lines)
        if not records:
            _log.info("no runs yet" if since is None else "no runs since then")
    if unreadable:
        left = counted(unreadable, "line")
        _log.warning("%s of %s cannot be read: left out", left, place, extra=Code.RUN_LOG_DAMAGED.extra)


def _place() -> Path:
    """The log of the project in this directory, or of that of the spec that is found from here."""
    from strandline.spec import discover

    if RUNS.exists():
        return RUNS
    try:
        return discover(Path.cwd()).parent / RUNS
    except UsageError:
        return RUNS


def _found(records: Sequence[Mapping[str, Any]], run_id: str) -> Mapping[str, Any]:
    found = [one for one in records if one["run_id"].startswith(run_id)]
    if not found:
        raise UsageError(f"no run {run_id!r} in {RUNS}", hint="`strandline runs` lists the last ones")
    if len({one["run_id"] for one in found}) > 1:
        ids = [one["run_id"] for one in found]
        raise UsageError(f"several runs begin with {run_id!r}: {named(ids)}", hint="give more of the id")
    return found[-1]


def _list(records: Sequence[Mapping[str, Any]], count: int, *, as_lines: bool) -> None:
    if as_lines:
        for one in records:
            click.echo(as_json(one))
        return
    if not records:
        return
    rows = [_HEAD, *(_row(one) for one in records)]
    heading, *lines = table(rows, width=terminal_width(), right=(2, 4, 5, 6, 7))
    click.echo(heading)
    for line, one in zip(lines, records, strict=True):
        click.echo(click.style(line, fg="red") if one["exit_code"] else line, color=color())
    if count > len(records):
        click.echo(f"… and {count - len(records):,} earlier; -n {count} lists them all")


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    tasks = one["tasks"]
    done = sum(task["status"] == "completed" for task in tasks)
    failed = sum(task["status"] == "failed" for task in tasks)
    into = ", ".join(dict.fromkeys(task["destination"] for task in tasks))
    source = _name(one)
    return (
        said(one["run_id"][:_SHORT_ID] or "–"),
        _local(_begun(one)),
        took(one["seconds"]),
        said(f"{source} → {into}" if into else source),
        f"{done} of {len(tasks)}",
        str(failed) if failed else "",
        f"{sum(task['rows_written'] for task in tasks):,}",
        str(one["exit_code"]),
    )


def _name(one: Mapping[str, Any]) -> str:
    """Of an older version, which knew no shards, too."""
    return f"{one['source']}, shard {one['shard']}" if one.get("shard") else str(one["source"])


def _show_one(one: Mapping[str, Any], *, as_lines: bool) -> None:
    if as_lines:
        click.echo(as_json(one))
        return
    by = f", stopped by {one['stopped_by']}" if one["stopped_by"] else ""
    click.echo(said(f"run {one['run_id']} of {_name(one)}"))
    click.echo(said(f"began {_local(_begun(one))}, took {took(one['seconds'])}, exit code {one['exit_code']}{by}"))
    tasks = one["tasks"]
    for line in table([_TASK_HEAD, *map(_task_row, tasks)], width=terminal_width(), right=(3, 4)):
        click.echo(line)
    errors = [(f"{task['task']}: ", task["error"]) for task in tasks if task["error"]]
    errors += [("", one["error"])] if one["error"] else []
    for about, error in errors:
        click.echo(click.style("error: ", fg="red", bold=True) + said(about + error["message"]), color=color())
    for warning in dict.fromkeys([*one["warnings"], *(text for task in tasks for text in task["warnings"])]):
        click.echo(said(f"warning: {warning}"))


def _task_row(task: Mapping[str, Any]) -> tuple[str, ...]:
    before, after = (describe_cursor(task[name]) for name in ("cursor_from", "cursor_to"))
    known = {before, after} != {"–"}
    return (
        said(task["task"]),
        said(task["destination"]),
        task["status"],
        f"{task['rows_written']:,}",
        took(task["seconds"]),
        said(before) if known else "",
        said(after) if known else "",
    )


def _begun(one: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(one["started_at"])


def _local(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
