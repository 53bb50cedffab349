"""`state`: look at cursors, and move or discard one on purpose."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from strandline.cli._agreeing import agreed, asking
from strandline.cli._comparing import diff
from strandline.cli._copying import copy, export, import_
from strandline.cli._layout import columns, table, terminal_width, took
from strandline.cli._moving import history, restore, rewind, set_
from strandline.cli._options import Settings, load_config, spec_argument
from strandline.cli._output import telling
from strandline.cli._states import source_named, states_of, task_named
from strandline.cli._sync_options import about_states
from strandline.engine.lease import Claim
from strandline.errors import UsageError
from strandline.logs import as_json, said
from strandline.runs import describe_cursor
from strandline.state import State, StateKey

__all__ = ["command", "fitting"]

_QUESTION = "Everything is read again from nothing. Discard it?"
_HEAD = ("table", "pass", "written", "saved", "age", "version", "cursor")


@click.group("state")
def command() -> None:
    """Look at the cursors, and move or discard one on purpose."""


for _one in (history, diff, set_, rewind, restore, copy, export, import_):
    command.add_command(_one)


@command.command("list", short_help="Every cursor of the spec's sources.")
@spec_argument
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def list_(specs: Sequence[Path], form: str) -> int:
    """Every cursor of the spec's sources, from the state backend.

    With the rows that were written since the table was created, and when something was committed last. A full refresh that was
    not finished has one of its own, with @refresh/ before its name. Exit code 3: one of them cannot be trusted.
    """
    config = load_config(specs)
    states = [found for source in config.sources for found in states_of(config, source) if not _is_over(*found)]
    if form == "json":
        click.echo(as_json([_record(key, state) for key, state in states], indent=2))
        return _trusted(states)
    now = datetime.now(UTC)
    rows = [_HEAD, *(_row(key, state, now) for key, state in states)]
    width = terminal_width()
    click.echo("\n".join(table(fitting(rows, width), width=width, right=(2, 4))), nl=bool(states))
    if not states:
        click.echo("no states yet")
    return _trusted(states)


def fitting(rows: Sequence[tuple[str, ...]], width: int | None) -> Sequence[tuple[str, ...]]:
    """The rows of the list; on a narrow terminal fewer cells, and no name that is cut for them."""
    for at in map(_HEAD.index, ("version", "saved", "pass", "age", "written")):
        if width is None or max(map(columns, table(rows)), default=0) <= width:
            break
        rows = [rows[0], *((*row[:at], "", *row[at + 1 :]) for row in rows[1:])]
    return rows


@command.command("show", short_help="Everything that is kept of one task, as JSON.")
@click.argument("source")
@click.argument("task")
@spec_argument
def show(source: str, task: str, specs: Sequence[Path]) -> int:
    """Everything that is kept of one task of a source, as JSON."""
    config = load_config(specs)
    task = task_named(config, source, task)
    found = [(key, state) for key, state in states_of(config, source_named(config, source)) if key.task == task]
    if not found:
        raise UsageError(f"source {source!r} has no state of {task!r}", hint="`strandline state list` shows them all")
    click.echo(as_json([_record(key, state) for key, state in found], indent=2))
    return _trusted(found)


@command.command("reset", short_help="Discard cursors: the next sync reads from nothing.")
@click.argument("source")
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
@asking
@about_states
@click.pass_obj
def reset(
    settings: Settings,
    source: str,
    tasks: tuple[str, ...],
    destination: tuple[str, ...],
    specs: tuple[Path, ...],
    *,
    note: str,
    yes: bool,
    claim: Claim,
) -> None:
    """Discard the cursor of TASKS, or of all tasks of a source: the next sync reads them from nothing.

    The rows that were delivered stay. In append mode they will be delivered again; --full-refresh replaces them. The change is
    recorded in the history, and asked about first.
    """
    from strandline.cli._jobs import Choice, open_job
    from strandline.engine.administer import reset_states

    config = load_config(specs)
    tasks = tuple(task_named(config, source, task) for task in tasks)
    with open_job(config, source_named(config, source), Choice(claim=claim)) as job:
        may = partial(agreed, question=_QUESTION, yes=yes, quiet=settings.quiet)
        done = reset_states(job, tasks, destination, actor=note, now=datetime.now(UTC), may=may)
    with telling(settings) as tell:
        for key, before in done:
            tell(said(f"{key}: discarded {describe_cursor(before.cursor)}"))
        if not done:
            tell("nothing to discard")


def _row(key: StateKey, state: State, now: datetime) -> tuple[str, ...]:
    saved = datetime.fromisoformat(state.saved_at).astimezone() if state.saved_at else None
    last = (saved.strftime("%Y-%m-%d %H:%M:%S"), took((now - saved).total_seconds())) if saved else ("", "")
    if state.untrusted is not None:
        return said(str(key)), "untrusted", "", *last, "", said(state.untrusted.message)
    phase = state.current.phase.value if state.current else "not begun"
    rows = f"{sum(one.rows for one in state.tables.values()):,}"
    return said(str(key)), phase, rows, *last, f"{state.epoch}.{state.sequence}", said(describe_cursor(state.cursor))


def _trusted(states: Sequence[tuple[StateKey, State]]) -> int:
    """The exit code, once they were shown; with the first of those that cannot be trusted as an error."""
    for _, state in states:
        if state.untrusted is not None:
            raise state.untrusted
    return 0


def _is_over(key: StateKey, state: State) -> bool:
    """Whether it is of a full refresh that replaced the rows, or dropped: it only remembers when that was."""
    from strandline.engine.plan import is_unfinished, refreshed_task

    return refreshed_task(key.task) is not None and not is_unfinished(state)


def _record(key: StateKey, state: State) -> dict[str, Any]:
    current = state.current
    return {
        "source": key.source,
        "task": key.task,
        "destination": key.destination,
        "cursor": state.cursor,
        "epoch": state.epoch,
        "sequence": state.sequence,
        "run_id": state.run_id,
        "saved_at": state.saved_at,
        "note": state.note,
        "untrusted": state.untrusted and state.untrusted.message,
        "pass": current
        and {
            "sync_time": datetime.fromtimestamp(current.sync_time_us / 1e6, UTC).isoformat(),
            "phase": current.phase.value,
            "full": current.full,
        },
        "rows": {name: table.rows for name, table in state.tables.items()},
    }
