"""The workers of a run of the campaign: forked from a warm process, as its syncs are, and hit at calls of the task that they do.

A process beside the sync forks them, and outlives it: workers whose run was killed go on. What each of them is to suffer is said in the
request, as ``Fault``; what becomes of them stands in a directory of notes, whose files are called ``KIND-PID``.
"""

import importlib
import json
import os
import pickle
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from strandline.executor import carry_out
from strandline.testing.faults import Outside, Point

__all__ = ["Fault", "employ", "serve"]

_POLL_S = 0.01


class Fault(TypedDict):
    """What happens to whoever does a task, at one call."""

    task: str
    attempt: int
    point: Sequence[Any]
    """Name, number and whether after it, of the calls for this task."""
    acts: Sequence[str]
    """In order. ``kill``: it dies. ``lose``: the run takes it for lost, and it goes on, hearing of nobody. ``orphan``: the run dies. ``stop``:
    it is suspended, until somebody sends it a SIGCONT. ``wake``: whoever is suspended goes on."""


class Plan(TypedDict):
    """For all workers of one sync."""

    notes: str
    faults: NotRequired[Sequence[Fault]]


class _Hands(Outside):
    """What one worker does to the outside, counted for each task."""

    def __init__(self, plan: Plan, channel: int) -> None:
        super().__init__()
        self._notes, self._faults, self._channel = Path(plan["notes"]), list(plan.get("faults", ())), channel
        self._task, self._attempt, self._is_lost = "", 0, False
        self.note("worker")

    def note(self, kind: str, text: str = "") -> None:
        (self._notes / f"{kind}-{os.getpid()}").write_text(text, "utf-8")

    def carry_out(self, content: bytes, say: Callable[[bytes], None], asked: Callable[[], bool]) -> bytes:
        """See ``strandline.executor.carry_out``."""
        work = pickle.loads(content).work  # noqa: S301 -- the run that is tested has made it
        self._task, self._attempt = work.task.id, work.attempt
        self._numbers.clear()
        self.calls.clear()
        result = carry_out(content, say, lambda: not self._is_lost and asked())
        self.note(
            f"done.{time.monotonic_ns()}", json.dumps([self._task, [(one.call, one.number) for one in self.calls]])
        )
        return result

    def strike(self, point: Point) -> None:
        """Suffer what was planned, once."""
        for fault in self._faults:
            planned = Point(*fault["point"])
            if (fault["task"], fault["attempt"], planned) == (self._task, self._attempt, point):
                self._faults.remove(fault)
                self.note("struck")
                for act in fault["acts"]:
                    getattr(self, f"_{act}")()
                return

    def _kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _lose(self) -> None:
        self.note("lost")
        self._is_lost = True
        with socket.socket(fileno=os.dup(self._channel)) as channel, suppress(OSError):
            channel.shutdown(socket.SHUT_RDWR)

    def _orphan(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(int((self._notes / "run").read_text("utf-8")), signal.SIGKILL)

    def _stop(self) -> None:
        self.note("stopped")
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # of the process, it may stop this thread later

    def _wake(self) -> None:
        for one in self._notes.glob("stopped-*"):
            with suppress(ProcessLookupError):
                os.kill(int(one.name.partition("-")[2]), signal.SIGCONT)


class _Employed:
    """As much of a ``Popen`` as an executor needs, of a process that another one has forked."""

    def __init__(self, pid: int, notes: Path) -> None:
        self.pid, self._is_lost = pid, (notes / f"lost-{pid}").exists

    def kill(self) -> None:
        """One that was lost is out of reach."""
        if not self._is_lost():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, _timeout_s: float | None = None) -> int:
        """Until it has ended."""
        while not self._is_lost() and Path(f"/proc/{self.pid}").exists():
            time.sleep(_POLL_S)
        return -signal.SIGKILL


def employ(employer: socket.socket, plan: Plan) -> None:
    """In a sync: its executor ``processes`` has the workers of ``serve``, two at once."""
    processes: Any = importlib.import_module("strandline.executors.processes")
    notes = Path(plan["notes"])
    (notes / "run").write_text(str(os.getpid()), "utf-8")

    def begun(theirs: socket.socket) -> _Employed:
        socket.send_fds(employer, [b"1"], [theirs.fileno()])
        return _Employed(int.from_bytes(employer.recv(8), "big"), notes)

    processes.begun = begun
    processes.ProcessesExecutor.crew = lambda _executor, _at_once: processes.ProcessCrew(2)


def serve(run: socket.socket, request: Mapping[str, Any], prepare: Callable[[Outside], None]) -> None:
    """In a process of its own: fork workers for a run, until it and all of them have ended.

    Args:
        run: where it asks for them.
        request: as for the sync, with its plan.
        prepare: what is done in each of them, first.
    """
    processes: Any = importlib.import_module("strandline.executors.processes")
    os.chdir(request["cwd"])
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for one in (1, 2):
        os.dup2(out, one)
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        if not select.select([run], [], [], _POLL_S)[0]:
            continue
        try:
            asked, descriptors, *_ = socket.recv_fds(run, 1, 1)
        except ConnectionError:
            asked, descriptors = b"", []
        if not asked:
            break
        pid = os.fork()
        if pid == 0:
            run.close()
            hands = _Hands(request["workers"], descriptors[0])
            prepare(hands)
            processes.carry_out = hands.carry_out
            processes.work(descriptors[0])
            os._exit(0)
        os.close(descriptors[0])
        with suppress(ConnectionError):
            run.sendall(pid.to_bytes(8, "big"))
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
