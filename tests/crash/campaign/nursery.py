"""A process that has imported everything, and forks a sync at each request: a start costs 10 ms instead of a second.

It has opened nothing and runs no thread of ours. Requests and replies are lines of JSON on its stdin and stdout:
``{"fork": …}`` is answered with ``{"pid": …}``, and ``{"wait": pid}`` with ``{"status": …}``. A child calls the entry of
the command line, with plugins that are wrapped by ``strandline.testing.faults``, and hits itself at the chosen point.
"""

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path

import adbc_driver_postgresql.dbapi
import duckdb
import pgpq
import psycopg
import pyarrow.compute
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

import strandline.cli.sync
from strandline.cli import main
from strandline.connectors.files import store as files_store
from strandline.connectors.local import state as local_state
from strandline.plugins import KINDS, load_plugin, plugin_names
from strandline.spec.models import DestinationSpec, SourceSpec
from strandline.testing.faults import FaultySource, FaultyStates, Killer, Outside, Point, faulty_destination

sys.path.append(str(Path(__file__).parents[1] / "doubles"))
DRIVERS = (adbc_driver_postgresql.dbapi, duckdb, pgpq, psycopg, pyarrow.parquet, strandline.cli.sync)
"""Imported only so that a child need not."""
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_PR_SET_PTRACER, _ANYBODY = 0x59616D61, -1


class Stopper(Outside):
    """Suspends the process at one point, with all its threads, until somebody sends it a SIGCONT."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self.point = point

    def strike(self, point):
        """Wait here."""
        if point == self.point:
            os.kill(os.getpid(), signal.SIGSTOP)


def outside_of(request) -> Outside:
    """What a child does at which point."""
    if not request.get("point"):
        return Outside()
    call, number, after = request["point"]
    point = Point(call, number, after=after)
    if request["act"] == "stop":
        return Stopper(point)
    return Killer(point, die=lambda: os.kill(os.getpid(), signal.SIGKILL))


def wrap_plugins(outside: Outside) -> None:
    """Everything that this process opens from now on goes through ``outside``."""
    open_source, open_destination, open_backend = SourceSpec.open, DestinationSpec.open, SourceSpec.open_backend
    SourceSpec.open = lambda spec: FaultySource(open_source(spec), outside)
    DestinationSpec.open = lambda spec: faulty_destination(open_destination(spec), outside)
    SourceSpec.open_backend = lambda spec: FaultyStates(open_backend(spec), outside)


def end_with_parent() -> None:
    """Nobody is left over, not even who is suspended, when the campaign ends in the middle of it."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


LOCK_WAIT_S = 5.0


def sync(request) -> int:
    """A sync as the user's shell would start it; its exit code."""
    end_with_parent()
    os.chdir(request["cwd"])
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    faulthandler.register(signal.SIGUSR1)  # where it hangs, if it does
    outside = outside_of(request)
    wrap_plugins(outside)
    sys.argv = ["strandline", "sync", *request["arguments"]]
    if request.get("waits"):
        _LIBC.prctl(_PR_SET_PTRACER, _ANYBODY)
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    if request.get("calls"):
        Path(request["calls"]).write_text(json.dumps([(one.call, one.number) for one in outside.calls]))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError):
            stream.flush()
    return code


def fork(request, inherited) -> int:
    """The pid of a child that does what is requested."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        for one in inherited:
            one.close()
        code = sync(request)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def wait(pid) -> int:
    """The exit code of a child, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve() -> None:
    """Until nobody asks any more."""
    end_with_parent()
    for kind in KINDS:
        for name in plugin_names(kind):
            load_plugin(kind, name)
    # a suspended run may hold these locks, and several saves in a row would wait for it
    local_state.LOCK_WAIT_S = files_store.LOCK_WAIT_S = LOCK_WAIT_S
    gc.collect()
    gc.freeze()
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    do = {"fork": partial(fork, inherited=(requests, replies)), "wait": wait}
    for line in requests:
        [(verb, argument)] = json.loads(line).items()
        replies.write(json.dumps(do[verb](argument)) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve()
    os._exit(0)  # drivers complain of what they find at the end of an interpreter
