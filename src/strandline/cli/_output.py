"""The streams of the process. What cannot be written to them is remembered, and undoes nothing of what was done.

Written without a buffer of ours: what a full disk or a reader that has gone did not take once, nobody tries again.
"""

import codecs
import contextlib
import errno
import io
import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

import click

from strandline.cli._options import Settings
from strandline.errors import MACHINE, StrandlineError
from strandline.logs import as_json, said

__all__ = ["OutputError", "color", "open_streams", "telling"]

_STDIN, _STDOUT, _STDERR = range(3)
_ESCAPES = "strandline.escapes"


class OutputError(StrandlineError):
    """Stdout cannot be written. Where the output is what the command is for, it has failed."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"stdout cannot be written: {_reason(error)}", hint=MACHINE.get(error.errno or 0, ""))
        self.reason = _reason(error)
        self.is_read_no_more = error.errno == errno.EPIPE
        """Whoever has read it has seen enough."""


def _reason(error: OSError) -> str:
    return "it is closed" if error.errno == errno.EBADF else error.strerror or type(error).__name__


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks, as JSON has it, so that a line of JSON stays one."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(_ESCAPES, _escaped)


class _Stream(io.TextIOBase):
    """Stdout or stderr, in whatever encoding. It has no ``buffer``, by which click would go past it."""

    def __init__(self, descriptor: int, encoding: str, lost: Callable[[OSError], None]) -> None:
        self._descriptor, self._encoding, self._lost = descriptor, encoding, lost

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        return _ESCAPES

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        data = text.encode(self._encoding, _ESCAPES)
        try:
            while data:
                data = data[self._put(data) :]
        except OSError as error:
            self._lost(error)
        return len(text)

    def _put(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # whoever has opened it does not want to wait; we have to
            select.select([], [self._descriptor], [])
            return 0


def open_streams(settings: Settings) -> None:
    """Let stdout and stderr of this process be written as is said above. Losses of stderr go to ``settings.lost``."""
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            # the next file that is opened, a database, say, must not be what is written to as stdout
            os.open(os.devnull, os.O_RDONLY)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 -- as long as the process

    def stdout_lost(error: OSError) -> None:
        raise OutputError(error) from error

    def stderr_lost(error: OSError) -> None:
        settings.lost.setdefault("stderr", _reason(error))

    sys.stdout = _Stream(_STDOUT, _encoding(sys.stdout), stdout_lost)
    sys.stderr = _Stream(_STDERR, _encoding(sys.stderr), stderr_lost)


def _encoding(stream: TextIO | None) -> str:
    return stream.encoding if stream is not None else "utf-8"


def color() -> bool | None:
    """Never with ``NO_COLOR``; otherwise click knows whether it is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


@contextlib.contextmanager
def telling(settings: Settings) -> Iterator[Callable[[str], None]]:
    """Says on stdout what a command has done, which no lost output undoes; at the end a line about what was lost.

    Nothing where only errors are asked for.
    """

    def tell(text: str) -> None:
        if settings.quiet:
            return
        try:
            click.echo(text, color=color())
        except OutputError as error:
            settings.lost.setdefault("stdout", error.reason)

    try:
        yield tell
    finally:
        if settings.lost:
            lost = "; ".join(f"{what}: {reason}" for what, reason in settings.lost.items())
            text = f"output could not be written, which changes nothing of what was done: {lost}"
            as_event = settings.log_format == "json"
            line = as_json({"level": "warning", "message": text}) if as_event else said(f"warning: {text}")
            with contextlib.suppress(OutputError):
                click.echo(line, err="stderr" not in settings.lost)
