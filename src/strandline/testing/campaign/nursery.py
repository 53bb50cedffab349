"""A process that has imported everything, and forks a sync at each request: a start costs 10 ms instead of a second.

It has opened nothing and runs no thread of ours. Requests and replies are lines of JSON on its stdin and stdout:
``{"fork": …}`` is answered with a pid, and ``{"wait": pid}`` with an exit code. A child calls the entry of the command line,
with plugins that are wrapped by ``strandline.testing.faults``, and hits itself at the chosen point.
"""

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TextIO

from strandline.cli import main
from strandline.describe import description_of
from strandline.plugins import KINDS, load_plugin, plugin_names
from strandline.spec.models import DestinationSpec, SourceSpec
from strandline.testing.campaign import workforce
from strandline.testing.faults import FaultySource, FaultyStates, Killer, Outside, Point, faulty_destination

__all__ = ["serve"]

_WARM = ("strandline.cli.sync", *(f"pyarrow.{name}" for name in ("compute", "csv", "json", "parquet")))
"""Imported only so that a child need not; with the drivers of all plugins."""
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_PR_SET_PTRACER, _ANYBODY = 0x59616D61, -1


class _Stopper(Outside):
    """Suspends the process at one point, with all its threads, until somebody sends it a SIGCONT."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self.point = point

    def strike(self, point: Point) -> None:
        """Wait here."""
        if point == self.point:
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # of the process, it may stop this thread later


def _outside_of(request: Mapping[str, Any]) -> Outside:
    """What a child does at which point."""
    if not request.get("point"):
        return Outside()
    call, number, after = request["point"]
    point = Point(call, number, after=after)
    if request["act"] == "stop":
        return _Stopper(point)
    return Killer(point, die=lambda: os.kill(os.getpid(), signal.SIGKILL))


def _wrap_plugins(outside: Outside) -> None:
    """Everything that this process opens from now on goes through ``outside``."""
    open_source, open_destination, open_backend = SourceSpec.open, DestinationSpec.open, SourceSpec.open_backend
    opens: dict[tuple[type, str], Any] = {
        (SourceSpec, "open"): lambda spec: FaultySource(open_source(spec), outside),
        (DestinationSpec, "open"): lambda spec: faulty_destination(open_destination(spec), outside),
        (SourceSpec, "open_backend"): lambda spec: FaultyStates(open_backend(spec), outside),
    }
    for (spec, name), wrapped in opens.items():
        setattr(spec, name, wrapped)


def _end_with_parent() -> None:
    """Nobody is left over, not even who is suspended, when the campaign ends in the middle of it."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _sync(request: Mapping[str, Any], employer: socket.socket | None = None) -> int:
    """A sync as the user's shell would start it; its exit code."""
    _end_with_parent()
    os.chdir(request["cwd"])
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | (os.O_APPEND if employer else os.O_TRUNC))
    if employer is not None:
        workforce.employ(employer, request["workers"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    faulthandler.register(signal.SIGUSR1)  # where it hangs, if it does
    outside = _outside_of(request)
    _wrap_plugins(outside)
    sys.argv = ["strandline", "sync", *request["arguments"]]
    if request.get("waits"):
        _LIBC.prctl(_PR_SET_PTRACER, _ANYBODY)
        os.kill(os.getpid(), signal.SIGSTOP)
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    if request.get("calls"):
        Path(request["calls"]).write_text(json.dumps([(one.call, one.number) for one in outside.calls]))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError):
            stream.flush()
    return int(code)


def _fork(request: Mapping[str, Any], inherited: tuple[TextIO, ...]) -> int:
    """The pid of a child that does what is requested; beside it another one, that forks its workers, if it has any."""
    while _Workforce.left and os.waitpid(_Workforce.left[0], os.WNOHANG)[0]:
        _Workforce.left.pop(0)
    if "workers" not in request:
        return _child(lambda: _sync(request), *inherited)
    employer, run = socket.socketpair()
    with employer, run:
        Path(request["out"]).unlink(missing_ok=True)
        _Workforce.left.append(_child(lambda: _serve_workers(run, request), employer, *inherited))
        return _child(lambda: _sync(request, employer), run, *inherited)


class _Workforce:
    """The processes that fork workers."""

    left: ClassVar[list[int]] = []


def _child(do: Callable[[], int], *closed: TextIO | socket.socket) -> int:
    """The pid of a child that does it; what it has inherited is closed."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        for one in closed:
            one.close()
        code = do()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def _serve_workers(run: socket.socket, request: Mapping[str, Any]) -> int:
    _end_with_parent()

    def prepare(outside: Outside) -> None:
        _end_with_parent()
        faulthandler.register(signal.SIGUSR1)
        _wrap_plugins(outside)

    workforce.serve(run, request, prepare)
    return 0


def _wait(pid: int) -> int:
    """The exit code of a child, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve() -> None:
    """Until nobody asks any more; then the process ends, without the complaints of drivers that find an interpreter's end."""
    _end_with_parent()
    plugins = [load_plugin(kind, name) for kind in KINDS for name in plugin_names(kind)]
    for module in dict.fromkeys([*_WARM, *(driver for one in plugins for driver in description_of(one).drivers)]):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    do: dict[str, Any] = {"fork": partial(_fork, inherited=(requests, replies)), "wait": _wait}
    for line in requests:
        [(verb, argument)] = json.loads(line).items()
        replies.write(json.dumps(do[verb](argument)) + "\n")
        replies.flush()
    os._exit(0)


if __name__ == "__main__":
    serve()
