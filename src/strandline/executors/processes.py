"""Tasks are done by other processes of the same machine, one task at a time in each, so that they use all of its processors.

A process that dies is replaced, and its task goes on at its last saved cursor.
"""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from pydantic import BaseModel, ConfigDict, Field

from strandline.executor import Done, Happening, Lost, Parcel, Said, carry_out

__all__ = ["ProcessesExecutor", "begun", "work"]

_END_S = 5.0
_PROGRAM = "import sys; from strandline.executors.processes import work; work(int(sys.argv[1]))"
_SAID, _DONE, _FAILED, _STOP = b"s", b"d", b"f", b"x"


class ProcessesExecutor:
    """See ``strandline.executor.Executor``."""

    is_elsewhere, spans_hosts = True, False

    class Spec(BaseModel):
        """How many."""

        model_config = ConfigDict(extra="forbid")

        workers: int | None = Field(
            None, ge=1, le=1000, description="How many processes; by default as many as there are processors."
        )

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def crew(self, at_once: int) -> "ProcessCrew":
        """Processes are begun when there is something for them to do."""
        return ProcessCrew(self.spec.workers or min(at_once, os.cpu_count() or 1))


class ProcessCrew:
    """See ``strandline.executor.Crew``."""

    def __init__(self, workers: int) -> None:
        self._workers_max = workers
        self._waiting: deque[Parcel] = deque()
        self._workers: list[_Worker] = []
        self._heard: queue.Queue[tuple[_Worker, Happening | None]] = queue.Queue()
        self._stopping = False

    def submit(self, parcel: Parcel) -> None:
        """See ``Crew``."""
        self._waiting.append(parcel)
        self._hand_out()

    def events(self, timeout_s: float) -> Sequence[Happening]:
        """See ``Crew``."""
        found = list[Happening]()
        with suppress(queue.Empty):
            self._hear(*self._heard.get(timeout=timeout_s), found)
            while True:
                self._hear(*self._heard.get_nowait(), found)
        self._hand_out()
        return found

    def ask_to_stop(self) -> None:
        """See ``Crew``."""
        self._stopping = True
        for worker in self._workers:
            worker.ask_to_stop()

    def close(self) -> None:
        """See ``Crew``."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._waiting.clear()

    def _hear(self, worker: "_Worker", happened: Happening | None, found: list[Happening]) -> None:
        if happened is None:  # it has ended
            self._workers.remove(worker)
            code = worker.end()
            happened = Lost(worker.parcel, f"its process ended ({code})") if worker.parcel else None
        if happened is not None:
            found.append(happened)
            if not isinstance(happened, Said):
                worker.parcel = ""

    def _hand_out(self) -> None:
        while self._waiting:
            idle = next((one for one in self._workers if not one.parcel), None)
            if idle is None:
                if len(self._workers) >= self._workers_max:
                    return
                idle = _Worker(self._heard)
                self._workers.append(idle)
            if self._stopping:
                idle.ask_to_stop()
            idle.give(self._waiting.popleft())


def begun(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    """A process that does what it is given by the other end of a socket."""
    return subprocess.Popen(  # noqa: S603 -- this interpreter, with a program of ours
        [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


class _Worker:
    """One process, and the thread that hears it."""

    def __init__(self, heard: "queue.Queue[tuple[_Worker, Happening | None]]") -> None:
        self.parcel = ""
        """What it is doing."""
        self._heard = heard
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = begun(theirs)
        self._connection = Connection(ours.detach())
        self._thread = threading.Thread(target=self._listen, name="worker", daemon=True)
        self._thread.start()

    def give(self, parcel: Parcel) -> None:
        self.parcel = parcel.id
        with suppress(OSError):  # it has died, as its thread will say
            self._connection.send_bytes(parcel.content)

    def ask_to_stop(self) -> None:
        with suppress(OSError):
            self._connection.send_bytes(_STOP)

    def end(self) -> str:
        """How it has ended."""
        with suppress(OSError):
            self._process.kill()
        code = self._process.wait(_END_S)
        self._thread.join(_END_S)
        self._connection.close()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _listen(self) -> None:
        try:
            while True:
                message = self._connection.recv_bytes()
                kind, content = message[:1], message[1:]
                if kind == _FAILED:
                    self._heard.put((self, Lost(self.parcel, content.decode(errors="replace"))))
                else:
                    self._heard.put((self, (Said if kind == _SAID else Done)(self.parcel, content)))
        except (EOFError, OSError):
            self._heard.put((self, None))


def work(descriptor: int) -> None:
    """What a worker does: parcels, until nobody sends any more. A run that is gone has asked it to stop, too."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the run hears them, and asks
        signal.signal(number, signal.SIG_IGN)
    connection, parcels, stop = Connection(descriptor), queue.Queue[bytes | None](), threading.Event()
    sending = threading.Lock()

    def listen() -> None:
        try:
            while True:
                message = connection.recv_bytes()
                if message == _STOP:
                    stop.set()
                else:
                    parcels.put(message)
        except (EOFError, OSError):
            stop.set()
            parcels.put(None)

    def send(kind: bytes, content: bytes) -> None:
        with sending, suppress(OSError):
            connection.send_bytes(kind + content)

    threading.Thread(target=listen, daemon=True).start()
    while (parcel := parcels.get()) is not None:
        try:
            result = carry_out(parcel, lambda content: send(_SAID, content), stop.is_set)
        except Exception as error:  # noqa: BLE001 -- the run is told, and gives the task out again
            send(_FAILED, f"{type(error).__name__}: {error}".encode())
        else:
            send(_DONE, result)
