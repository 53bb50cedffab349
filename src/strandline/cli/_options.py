"""What every command takes: how loud, in which form, and the spec."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from strandline import logs

if TYPE_CHECKING:
    from strandline.spec import Config

__all__ = ["Settings", "add_global_options", "duration", "global_options", "load_config", "moment", "spec_argument"]

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Settings:
    """What the global options say. One for each invocation, as ``ctx.obj``."""

    log_level: str = "info"
    log_format: str = "text"
    log_file: Path | None = None
    verbose: bool = False
    quiet: bool = False
    debug: bool = False
    no_env_file: bool = False
    is_run: bool = False
    """A run has begun: whoever reads its errors later wants to know when they came."""
    lost: dict[str, str] = field(default_factory=dict)
    """Output that could not be written, by what it is: why."""

    def set_up_logging(self) -> None:
        """From now on, as is said here."""
        level = "debug" if self.debug else logs.VERBOSE if self.verbose else self.log_level

        def lost(error: OSError) -> None:
            self.lost.setdefault(str(self.log_file), error.strerror or str(error))

        logs.configure(level=level, form=self.log_format, quiet=self.quiet, file=self.log_file, lost=lost)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Take a global option, wherever on the line it stands; logging follows at once."""
    settings = context.ensure_object(Settings)
    if value is not None and parameter.name is not None:
        setattr(settings, parameter.name, value)
        try:
            settings.set_up_logging()
        except OSError as error:
            file, settings.log_file = settings.log_file, None
            raise click.BadParameter(f"{file} cannot be written: {error.strerror or error}") from None


def global_options(*, hidden: bool) -> list[click.Option]:
    """The options of the group; subcommands accept the same, without listing them again."""

    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(names, callback=_keep, expose_value=False, hidden=hidden, **settings)

    def flag(*names: str, **settings: Any) -> click.Option:
        return option(*names, is_flag=True, default=None, **settings)

    return [
        option(
            "--log-level",
            type=click.Choice(logs.LEVELS, case_sensitive=False),
            help="How much is logged to stderr.  [default: info]",
        ),
        option(
            "--log-format",
            type=click.Choice(logs.FORMATS, case_sensitive=False),
            help="Lines for people, or one JSON event a line.  [default: text]",
        ),
        option(
            "--log-file",
            type=click.Path(path_type=Path, readable=False),
            metavar="PATH",
            help="Append to this file what is logged, with the time of each line.",
        ),
        flag("-v", "--verbose", help="Say more: each commit too."),
        flag("-q", "--quiet", help="Say nothing but errors; the exit code tells the rest."),
        flag("--debug", help="Log everything, and show tracebacks."),
        flag(
            "--no-env-file",
            envvar="STRANDLINE_NO_ENV_FILE",
            show_envvar=True,
            help="Take variables from the environment only, not from .env beside the spec.",
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

    settings = click.get_current_context().find_object(Settings)
    env_files = settings is None or not settings.no_env_file
    if specs:
        return load(specs, env_files=env_files)
    here = Path.cwd()
    found = discover(here)
    if found.parent == here:
        return load([found.name], env_files=env_files)
    os.chdir(found.parent)
    return load([found], env_files=env_files)


def moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    """A time as a person writes it: 2d and 12h ago, or 2026-01-31."""
    from strandline.settings import parse_duration

    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        try:
            return datetime.now(UTC) - parse_duration(value)
        except ValueError as error:
            raise click.BadParameter(f"{error}; or a time such as 2026-01-31") from None
    return at.astimezone(UTC)


def duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> timedelta | None:
    """A length of time as a person writes it: 2d, 12h."""
    from strandline.settings import parse_duration

    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
