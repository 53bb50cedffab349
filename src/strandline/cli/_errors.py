"""How a failure looks on stderr: what happened, where, and what to do next. Nothing in it is a secret."""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from types import TracebackType

import click

from strandline.cli._layout import columns, error_width, wrapped
from strandline.cli._options import Settings
from strandline.cli._output import color, open_streams
from strandline.errors import MACHINE, Problem, StrandlineError, UsageError
from strandline.logs import printable, redact, said, stamped

__all__ = ["BUG", "INTERRUPTED", "color", "gravest", "guard_process", "show"]

USAGE = 2
BUG = 70
INTERRUPTED = 130

_GRAVEST_FIRST = (2, 3, 4, 5)
"""A mistake in the spec, for which nothing is touched; a state that cannot be trusted; another run; out of reach."""

_log = logging.getLogger("strandline")


def gravest(codes: Iterable[int]) -> int:
    """One exit code for several errors; 0 for none."""
    there = set(codes)
    return next((code for code in _GRAVEST_FIRST if code in there), int(any(there)))


def show(error: BaseException, settings: Settings) -> int:
    """Write ``error`` to stderr, and return the exit code that it asks for."""
    if isinstance(error, StrandlineError):
        problems = error.problems if isinstance(error, UsageError) else ()
        dated = settings.is_run and not isinstance(error, UsageError)
        last = (
            [] if any(one.message == error.message for one in problems) else [Problem(error.message, hint=error.hint)]
        )
        _write([*problems, *last], settings, dated=dated)
        code = error.exit_code
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):
        # what was asked for is not known, so that a script with an empty variable fails
        click.echo(error.format_message(), color=color())
        code = USAGE
    elif isinstance(error, click.ClickException):
        hint = getattr(error, "hint", "")
        context = getattr(error, "ctx", None)
        if not hint and context is not None:
            hint = f"`{context.command_path} --help` lists what there is"
        _write([Problem(_sentence(error.format_message()), hint=hint)], settings)
        code = USAGE
    elif isinstance(error, KeyboardInterrupt | click.Abort):
        _write([Problem("interrupted")], settings)
        code = INTERRUPTED
    elif isinstance(error, OSError) and error.errno in MACHINE and error.filename is None:
        _write([Problem(str(error.strerror), hint=MACHINE[error.errno])], settings)
        code = 1
    else:
        hint = "run it again with --debug, and report the bug with what it prints"
        _write(
            [Problem(f"this is a bug in Strandline: {_short(error)}", hint="" if settings.debug else hint)], settings
        )
        code = BUG
    if settings.debug:
        _log.debug("traceback", exc_info=error)
    return code


def _sentence(message: str) -> str:
    """As click says it, in our style: lower case, no full stop."""
    return (message[:1].lower() + message[1:]).removesuffix(".")


def _short(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _write(problems: list[Problem], settings: Settings, *, dated: bool = False) -> None:
    for problem in problems:
        extra = {name: getattr(problem, name) for name in ("where", "line", "hint") if getattr(problem, name)}
        if settings.log_format == "json":
            _log.error("%s", problem.message, extra=extra)
            continue
        lines = _lines(problem, width := error_width())
        if dated and width is None:
            lines = [f"{stamped(time.time())} {line}" for line in lines]
        click.echo("\n".join(lines) + ("\n" if problem.line else ""), err=True, color=color())
        where = f"{problem.where}: " if problem.where else ""
        _log.error("%s", where + problem.message, extra=extra | {"shown": True})  # for the log file


def _lines(problem: Problem, width: int | None) -> list[str]:
    # what concerns a whole file has no line to be shown, and is understood only with its name
    whole = f"{problem.where}: " if problem.where and not problem.line else ""
    lines = _labelled("error: ", whole + problem.message, width, fg="red")
    if problem.where and not whole:
        lines.append(f"  {said(problem.where)}")
    if problem.line:
        line = redact(problem.line)
        column = int(problem.where.rpartition(":")[2]) - 1
        lines.append("  | " + printable(line))
        if column < len(line):
            lines.append("  | " + " " * columns(printable(line[:column])) + "^")
    if problem.hint:
        lines += _labelled("hint: ", problem.hint, width)
    return lines


def _labelled(label: str, text: str, width: int | None, *, fg: str | None = None) -> list[str]:
    first, *rest = wrapped(label, said(text), width=width)
    return [click.style(label, fg=fg, bold=True) + first.removeprefix(label), *rest]


def guard_process(settings: Settings) -> None:
    """Errors that nobody catches, in any thread, are shown like any other; streams may be closed, or full."""
    open_streams(settings)

    def in_main(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        show(error, settings)

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
            show(arguments.exc_value, settings)

    def in_finalizer(arguments: "sys.UnraisableHookArgs") -> None:
        if arguments.exc_value is not None:
            _log.debug("ignored: %s", _short(arguments.exc_value), exc_info=arguments.exc_value)

    sys.excepthook = in_main
    threading.excepthook = in_thread
    sys.unraisablehook = in_finalizer
