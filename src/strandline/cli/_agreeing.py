"""Before a person moves a cursor: what follows from it, and the question."""

import getpass
import logging
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from strandline.cli._layout import took
from strandline.errors import UsageError
from strandline.logs import said
from strandline.runs import RUNS, RunStore, describe_cursor
from strandline.state import StateKey

if TYPE_CHECKING:
    from strandline.engine.rewinding import Move

__all__ = ["agreed", "asking", "moved"]

_log = logging.getLogger(__name__)

_ROWS_MIN = 1_000
"""A pass of fewer rows does not tell how fast one is."""


def asking(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--reason`` and ``--yes``; the command gets ``note``, which says who does it and why, and ``yes``."""

    @click.option("--reason", default="", help="Why; it is kept in the history.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @wraps(command)
    def asks(*args: Any, reason: str, **options: Any) -> Any:
        return command(*args, **options, note=getpass.getuser() + (f": {reason}" if reason else ""))

    return asks


def agreed(moves: "Sequence[Move]", question: str, *, yes: bool, quiet: bool) -> bool:
    """Whether somebody wants it, knowing what follows.

    Raises:
        UsageError: there is nobody to ask.
    """
    if yes and quiet:
        return True
    for move in moves:
        click.echo(said(f"{moved(move)}; {_again(move)}"), err=True)
        if move.delivery:
            click.echo(said(f"  delivery: {move.delivery}"), err=True)
    if yes or not moves:
        return True
    if not sys.stdin.isatty():
        raise UsageError("nothing was moved, since nobody can be asked", hint="--yes moves it without a question")
    return click.confirm(question, err=True)


def moved(move: "Move") -> str:
    """From where to where."""
    return f"{move.key}: {describe_cursor(move.before.cursor)} → {describe_cursor(move.cursor)}"


def _again(move: "Move") -> str:
    again, so = move.again, "and are stored again (append)" if move.appends else "and replace themselves"
    if again.rows is None:
        return f"how many rows the next sync reads again is not known ({again.unknown}); they come once more, {so}"
    if not again.rows:
        return "the next sync reads nothing again"
    speed = _rows_a_second(move.key)
    lasts = f", in about {took(again.rows / speed)}" if speed else ""
    return f"the next sync reads about {again.rows:,} rows again{lasts}; they come once more, {so}"


def _rows_a_second(key: StateKey) -> float | None:
    """As the project's last long pass of it was."""
    try:
        records, _ = RunStore(RUNS).read()
    except OSError as error:
        _log.debug("the log of runs cannot be read: %s", error)
        return None
    passes = [
        task["rows_read"] / task["seconds"]
        for record in records
        if record["source"] == key.source
        for task in record["tasks"]
        if (task["task"], task["destination"]) == (key.task, key.destination)
        and task["rows_read"] >= _ROWS_MIN
        and task["seconds"]
    ]
    return passes[-1] if passes else None
