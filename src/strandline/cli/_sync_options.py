"""Options that `sync`, `plan` and `migrate` share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["choosing"]

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
