"""The command ``strandline``. A command's module is imported when it runs, so that ``--help`` is quick."""

import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from strandline import __version__
from strandline.cli._errors import guard_process, show
from strandline.cli._options import Settings, add_global_options, global_options
from strandline.cli._output import OutputError
from strandline.errors import UnreachableError
from strandline.logs import register_parts

__all__ = ["main"]

PIPE_CLOSED = 128 + 13
"""As shells have it of a program that ended by SIGPIPE."""

_COMMANDS = {
    "init": ("init", "Write a spec: look at a source, and propose how each table is read."),
    "sync": ("sync", "Bring the destinations up to date, fetching only what changed."),
    "runs": ("runs", "List past runs, the newest first; with RUN_ID, each table of one."),
    "plan": ("plan", "Show what a sync would do, table by table, and touch nothing."),
    "state": ("state", "Look at the cursors, and move or discard one on purpose."),
    "migrate": ("migrate", "Make the tables of the destinations fit, without moving a row."),
    "optimize": ("optimize", "Join the small files of lakes, and remove those that no table names any more."),
    "test-connection": ("test_connection", "Reach every source, destination and state backend, and change nothing."),
    "doctor": ("doctor", "Probe whether everything can do what the promises need, and say how to fix what cannot."),
    "validate-config": ("validate", "Check a spec without touching anything."),
    "tables": ("tables", "Describe the tables of the sources."),
    "plugin": ("plugins", "Look at the installed plugins."),
    "schema": ("schema", "Print the JSON Schema of specs, for editors."),
    "completion": ("completion", "Print the completion script of a shell."),
}
"""In the order of the help: each command with its module in this package, where it is called ``command``, and help."""


class _Lazy(click.Group):
    """Knows the names and help of its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"strandline.cli.{_COMMANDS[cmd_name][0]}").command
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        add_global_options(command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # none of stdout, which has an error of its own; click would end without a word
            raise UnreachableError("a connection was closed by whom it led to") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from strandline.errors import did_you_mean

        hint = did_you_mean(args[0], _COMMANDS)
        if hint and args[0] not in _COMMANDS and not args[0].startswith("-"):
            error = click.UsageError(f"no such command {args[0]!r}", ctx)
            error.hint = hint  # type: ignore[attr-defined]
            raise error
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "strandline",
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002  click's own signature
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002  click's own signature
        **extra: Any,
    ) -> NoReturn:
        """Run, and exit with the code that page and reference promise."""
        del standalone_mode
        settings = Settings()
        settings.set_up_logging()
        for argument in sys.argv[1:] if args is None else args:
            register_parts(argument)  # whatever it turns out to be, an error may quote it
        if args is None:
            # the process is ours, and not that of a test or of an embedding program
            guard_process(settings)
            # what is imported stays: to look through it for garbage, now and again later, is a tenth of a short sync
            gc.disable()
        try:
            code = super().main(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                obj=settings,
                **extra,
            )
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 the command line is where errors end
            if isinstance(error, OutputError) and error.is_read_no_more:
                # there is nobody to tell. No code of ours: nothing has failed
                sys.exit(PIPE_CLOSED)
            sys.exit(show(error, settings))
        sys.exit(code if isinstance(code, int) else 0)


@click.group(
    cls=_Lazy,
    params=global_options(hidden=False),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="strandline")
def main() -> None:
    """Copy what changed from databases and files into warehouses, databases and files.

    Without a SPEC, a command reads strandline.yml in this directory or the nearest parent.
    """
