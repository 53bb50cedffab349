"""What every command takes: how loud, in which form, and the spec."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from strandline import logs

if TYPE_CHECKING:
    from strandline.spec import Config

__all__ = ["Settings", "add_global_options", "global_options", "load_config", "spec_argument"]

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Settings:
    """What the global options say. One for each invocation, as ``ctx.obj``."""

    log_level: str = "info"
    log_format: str = "text"
    debug: bool = False
    lost: dict[str, str] = field(default_factory=dict)
    """Output that could not be written, by what it is: why."""


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Take a global option, wherever on the line it stands; logging follows at once."""
    settings = context.ensure_object(Settings)
    if value is not None and parameter.name is not None:
        setattr(settings, parameter.name, value)
    logs.configure(level="debug" if settings.debug else settings.log_level, form=settings.log_format)


def global_options(*, hidden: bool) -> list[click.Option]:
    """The options of the group; subcommands accept the same, without listing them again."""
    return [
        click.Option(
            ["--log-level"],
            type=click.Choice(logs.LEVELS, case_sensitive=False),
            callback=_keep,
            expose_value=False,
            hidden=hidden,
            help="How much is logged to stderr.  [default: info]",
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(logs.FORMATS, case_sensitive=False),
            callback=_keep,
            expose_value=False,
            hidden=hidden,
            help="Lines for people, or one JSON event a line.  [default: text]",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            default=None,
            callback=_keep,
            expose_value=False,
            hidden=hidden,
            help="Log everything, and show tracebacks.",
        ),
    ]


def add_global_options(command: click.Command) -> None:
    """Let ``command``, and every command below it, take the global options too."""
    if any(parameter.name == "debug" for parameter in command.params):
        return
    command.params += global_options(hidden=True)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_global_options(below)


def spec_argument(command: Command) -> Command:
    """``[SPEC]…``: files or directories; ``load_config`` reads them."""
    return click.argument("specs", metavar="[SPEC]...", nargs=-1, type=click.Path(path_type=Path))(command)


def load_config(specs: Sequence[Path]) -> "Config":
    """The spec in ``specs``, checked.

    Without any, ``strandline.yml`` here or above. Found above, the command runs as if started in its directory:
    relative paths in it, that of the states above all, mean the same from everywhere in the repository.
    """
    from strandline.spec import discover, load

    if specs:
        return load(specs)
    here = Path.cwd()
    found = discover(here)
    if found.parent == here:
        return load([found.name])
    os.chdir(found.parent)
    return load([found])
