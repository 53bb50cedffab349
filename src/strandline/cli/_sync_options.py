"""Options that `sync`, `plan`, `migrate` and `state reset` share."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from strandline.engine.lease import Claim
from strandline.settings import parse_duration
from strandline.shard import Shard

__all__ = ["about_states", "choosing", "claiming", "executing", "sharding"]

Command = TypeVar("Command", bound=Callable[..., Any])


def choosing(command: Command) -> Command:
    """``--select``, ``--exclude`` and ``--full-refresh``."""
    for option in (
        click.option(
            "--full-refresh", "refresh", metavar="GLOB", multiple=True, help="Read these tables from nothing."
        ),
        click.option("--exclude", metavar="GLOB", multiple=True, help="Leave these tables out."),
        click.option("--select", metavar="GLOB", multiple=True, help="Only these of the spec's tables."),
    ):
        command = option(command)
    return command


def sharding(command: Command) -> Command:
    """``--shard``, which the command gets as ``shard``."""
    return click.option(
        "--shard",
        metavar="N/M",
        callback=_shard,
        help="Only the tables of this one of M shards, which are numbered from 0; others run the others.",
    )(command)


def executing(command: Command) -> Command:
    """``--executor``, which the command gets as ``executor``."""
    return click.option(
        "--executor",
        metavar="NAME",
        default="",
        help="Who does the tasks, in place of the spec's: threads, processes …",
    )(command)


def claiming(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--wait-lock`` and ``--takeover``, which the command gets as ``claim``."""

    @click.option(
        "--wait-lock",
        metavar="DURATION",
        callback=_duration,
        help="Wait so long (30s, 10m) for another run of the source to end, instead of stopping with exit code 4.",
    )
    @click.option("--takeover", is_flag=True, help="Do not wait for another run of the source: fence it out.")
    @wraps(command)
    def claimed(*args: Any, wait_lock: float, takeover: bool, **options: Any) -> Any:
        return command(*args, **options, claim=Claim(wait_s=wait_lock, takeover=takeover))

    return claimed


def about_states(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--destination``, ``--spec`` and those of ``claiming``, of a command that changes states of tasks."""
    for option in (
        click.option("--spec", "specs", multiple=True, type=click.Path(path_type=Path), help="The spec, as for sync."),
        click.option("--destination", multiple=True, help="Only in this destination."),
    ):
        command = option(command)
    return claiming(command)


def _shard(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Shard | None:
    try:
        return Shard.of(value) if value is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float:
    try:
        return parse_duration(value).total_seconds() if value is not None else 0.0
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
