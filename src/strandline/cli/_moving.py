"""`state history`, `set`, `rewind` and `restore`: how a cursor came to where it is, and another one in its place."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strandline.cli._agreeing import agreed, asking, moved
from strandline.cli._layout import table, terminal_width
from strandline.cli._options import Settings, duration, load_config, moment, spec_argument
from strandline.cli._output import telling
from strandline.cli._states import histories_of, source_named, task_named
from strandline.cli._sync_options import about_states
from strandline.engine.lease import Claim
from strandline.logs import as_json, said
from strandline.message import Cursor
from strandline.runs import describe_cursor
from strandline.state import State

if TYPE_CHECKING:
    from strandline.engine.moving import Standing

__all__ = ["history", "restore", "rewind", "set_"]

_QUESTION = "What lies before that cursor is not read again, whether it was stored or not. Move it?"
_HEAD = ("version", "saved", "pass", "by", "cursor")


@click.command("history", short_help="How a cursor came to where it is.")
@click.argument("source")
@click.argument("task")
@spec_argument
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def history(source: str, task: str, specs: Sequence[Path], form: str) -> None:
    """How the cursor of TASK came to where it is: the last commits, the newest first.

    Each with its version, which `state restore` takes, and with the run or the person that saved it.
    """
    config = load_config(specs)
    found = histories_of(config, source, task_named(config, source, task))
    if form == "json":
        records = [{"destination": key.destination, **_record(state)} for key, states in found for state in states]
        click.echo(as_json(records, indent=2))
        return
    for key, states in found:
        click.echo(said(str(key)))
        rows = [_HEAD, *map(_row, states)]
        for line in table(rows, width=terminal_width(), right=()):
            click.echo(f"  {line}")


def _row(state: State) -> tuple[str, ...]:
    if state.untrusted is not None:
        return "untrusted", "", "", said(state.untrusted.message), ""
    saved = datetime.fromisoformat(state.saved_at).astimezone() if state.saved_at else None
    phase = state.current.phase.value if state.current is not None else ""
    by = state.note or f"run {state.run_id[:8]}"
    when = saved.strftime("%Y-%m-%d %H:%M:%S") if saved is not None else ""
    return f"{state.epoch}.{state.sequence}", when, phase, said(by), said(describe_cursor(state.cursor))


def _record(state: State) -> dict[str, Any]:
    return {
        "version": f"{state.epoch}.{state.sequence}",
        "saved_at": state.saved_at,
        "phase": state.current and state.current.phase.value,
        "run_id": state.run_id,
        "note": state.note,
        "cursor": state.cursor,
        **({"untrusted": state.untrusted.message} if state.untrusted is not None else {}),
    }


def _moving(what: str) -> Callable[[Callable[..., Any]], Any]:
    """What these commands share: which cursor, why, and that somebody has to agree."""

    def decorate(chooses: Callable[..., "Callable[[Standing], Cursor]"]) -> Any:
        @click.argument("source")
        @click.argument("task")
        @asking
        @about_states
        @click.pass_obj
        def command(
            settings: Settings,
            /,
            source: str,
            task: str,
            destination: tuple[str, ...],
            specs: tuple[Path, ...],
            *,
            note: str,
            yes: bool,
            claim: Claim,
            **options: Any,
        ) -> None:
            from strandline.cli._jobs import Choice, open_job
            from strandline.engine.moving import move_cursors

            wanted, config = chooses(**options), load_config(specs)
            task = task_named(config, source, task)
            with open_job(config, source_named(config, source), Choice(claim=claim)) as job:
                moves = move_cursors(
                    job,
                    task,
                    destination,
                    wanted,
                    may=lambda moves: agreed(moves, _QUESTION, yes=yes, quiet=settings.quiet),
                    note=f"{what} by {note}",
                    now=datetime.now(UTC),
                )
            with telling(settings) as tell:
                for move in moves:
                    tell(said(moved(move)))
                if not moves:
                    tell("nothing was moved")

        command.__doc__ = chooses.__doc__
        return command

    return decorate


@click.command("set", short_help="Give a task another cursor.")
@click.option("--cursor", "text", required=True, metavar="JSON", help="The cursor, as `state show` prints one.")
@_moving("set")
def set_(text: str) -> "Callable[[Standing], Cursor]":
    """Give TASK another cursor, that only its source can judge. Rows before it that were not read yet never will be.

    The change is recorded in the history, and asked about first.
    """
    try:
        cursor = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"--cursor is no JSON: {error}") from None
    if not isinstance(cursor, dict):
        raise click.BadParameter("--cursor is no JSON object")
    return lambda _: cursor


@click.command("rewind", short_help="Put a cursor back, to a time or a place.")
@click.option(
    "--to-time", "time", metavar="WHEN", callback=moment, help="2d, 12h ago; or 2026-01-31T12:00. By the history."
)
@click.option("--to-cursor", "place", metavar="VALUE", help="A value of the incremental key; of files, a time.")
@click.option("--by", "by", metavar="DURATION", callback=duration, help="So long before where it is now: 2d, 12h.")
@_moving("rewound")
def rewind(time: datetime | None, place: str | None, by: timedelta | None) -> "Callable[[Standing], Cursor]":
    """Put the cursor of TASK back. The next sync reads from there on.

    --to-time: to where it was at a time, by its history. --to-cursor: to a value of its key. --by: so much before where it is,
    where the key is a time. The last two ask the source. The change is recorded in the history, and asked about first.
    """
    from strandline.engine.moving import version_at

    if (time is not None) + (place is not None) + (by is not None) != 1:
        raise click.UsageError("say one of --to-time, --to-cursor and --by")
    if time is not None:
        return lambda standing: version_at(time, standing.history)
    to = place if by is None else by
    assert to is not None
    return lambda standing: standing.asked.rewound(standing.key, standing.before.cursor, to)


@click.command("restore", short_help="Put a cursor back to a version of its history.")
@click.option("--version", required=True, metavar="VERSION", help="As `state history` shows it: 3000.41.")
@_moving("restored")
def restore(version: str) -> "Callable[[Standing], Cursor]":
    """Put the cursor of TASK back to a version of its history. The next sync reads from there on.

    The change is recorded in the history, and asked about first.
    """
    from strandline.engine.moving import version_of

    return lambda standing: version_of(version, standing.history)
