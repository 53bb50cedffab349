"""Tasks are done by the workers of a Ray cluster: of one that is there, on any number of machines, or of one that is begun for the run.

A worker needs this package, the drivers of the spec's plugins and the variables that the spec names. Needs `strandline[ray]`.
"""

import importlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from strandline.describe import Description
from strandline.errors import UnreachableError
from strandline.executor import Done, Happening, Lost, Parcel, Said, carry_out

__all__ = ["Box", "RayExecutor", "work"]

_ANSWER_S = 30.0
_ALONE_S = 60.0
"""For how long there may be no worker at all, as while they begin again, before nobody is waited for any more."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody is told that there was a sync
    "RAY_agent_register_timeout_ms": "120000",  # a node whose agent is not there within 15 s aborts, as on a busy machine
    "RAY_raylet_start_wait_time_s": "180",
}
_OBJECTS_BYTES = 128 * 1024 * 1024
"""Of shared memory, where a cluster is begun: parcels and reports are small."""


def _ray() -> Any:
    """It takes a second to import, and none of it is needed to read a spec."""
    return importlib.import_module("ray")


class RayExecutor:
    """See ``strandline.executor.Executor``."""

    is_elsewhere = True
    description = Description(drivers=("ray",), installs="strandline[ray]")

    class Spec(BaseModel):
        """Which cluster."""

        model_config = ConfigDict(extra="forbid")

        address: str = Field(
            "",
            description="Of a cluster that this machine is a node of, `head:6379` or `auto`. Empty: a cluster of this machine is "
            "begun for the run.",
        )
        workers: int | None = Field(
            None,
            ge=1,
            le=1000,
            description="How many processes a cluster of this machine has; by default as many as there are processors.",
        )

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.spans_hosts = bool(spec.address)

    def crew(self, at_once: int) -> "RayCrew":
        """Connect, or begin a cluster. A process has one connection: what is connected already is used as it is.

        Raises:
            UnreachableError: no cluster answers, or none can be begun.
        """
        ray, address = _ray(), self.spec.address
        workers = self.spec.workers or min(at_once, os.cpu_count() or 1)
        begun = {"num_cpus": workers, "object_store_memory": _OBJECTS_BYTES, "include_dashboard": False}
        with ExitStack() as stack:
            try:
                if not ray.is_initialized():
                    for name, value in _ENVIRONMENT.items():
                        os.environ.setdefault(name, value)
                    with _own_signals():
                        ray.init(
                            **({"address": address} if address else {"address": "local", **begun}),
                            log_to_driver=False,
                            logging_level=logging.CRITICAL,
                        )
                    stack.callback(ray.shutdown)
                box = ray.remote(num_cpus=0)(Box).remote()
                ray.get(box.take.remote(), timeout=_ANSWER_S)
            except Exception as error:  # Ray raises any, also an `Exception` itself
                where = f"no cluster answers at {address}" if address else "no cluster begins"
                hint = (
                    "begin it with `ray start`; or leave out `address`"
                    if address
                    else "look after the machine's memory"
                )
                raise UnreachableError(f"Ray: {where}: {error}", hint=hint) from error
            return RayCrew(ray, box, stack.pop_all())


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes signals for itself, and a run has handlers of its own."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        with suppress(ValueError):  # not the main thread, which Ray has left alone then
            for number, handler in kept.items():
                signal.signal(number, handler)


class Box:
    """An actor of the cluster: what workers have said, and whether they are to stop."""

    def __init__(self) -> None:
        self._said: list[tuple[str, bytes]] = []
        self._stopping = False

    def say(self, parcel: str, content: bytes) -> None:
        """By a worker, which waits for it: what it returns later comes after."""
        self._said.append((parcel, content))

    def take(self) -> list[tuple[str, bytes]]:
        """By the run: what was said since."""
        said, self._said = self._said, []
        return said

    def stop(self) -> None:
        """By the run."""
        self._stopping = True

    def asked(self) -> bool:
        """By a worker."""
        return self._stopping


class RayCrew:
    """See ``strandline.executor.Crew``. Ray does nothing again by itself (``max_retries=0``): the run has to hear of it first.

    Ray has no more parcels than there are processors: it takes a worker that waits for an answer for idle, and would begin another one.
    """

    def __init__(self, ray: Any, box: Any, opened: ExitStack) -> None:
        self._ray, self._box, self._opened = ray, box, opened
        self._work = ray.remote(max_retries=0, num_cpus=1)(work)
        self._waiting: deque[Parcel] = deque()
        self._futures: dict[Any, str] = {}
        self._alone_since_s: float | None = None

    def submit(self, parcel: Parcel) -> None:
        """See ``Crew``."""
        self._waiting.append(parcel)

    def events(self, timeout_s: float) -> Sequence[Happening]:
        """See ``Crew``. What is ready has said all that it says before the box is looked into."""
        if not self._futures and not self._waiting:
            time.sleep(timeout_s)
            return []
        ray = self._ray
        try:
            self._hand_out()
            open_ = list(self._futures)
            if not open_:
                time.sleep(timeout_s)
                return []
            ended, _ = ray.wait(open_, num_returns=len(open_), timeout=0)
            if not ended:
                ended, _ = ray.wait(open_, timeout=timeout_s)
            found: list[Happening] = [Said(*one) for one in ray.get(self._box.take.remote(), timeout=_ANSWER_S)]
        except Exception as error:  # noqa: BLE001 -- whatever Ray raises whose cluster is gone: nobody does anything any more
            lost = [*self._futures.values(), *(one.id for one in self._waiting)]
            self._futures.clear()
            self._waiting.clear()
            return [Lost(parcel, _words(error)) for parcel in lost]
        return [*found, *(self._end(one) for one in ended)]

    def _hand_out(self) -> None:
        now_s, processors = time.monotonic(), int(self._ray.cluster_resources().get("CPU", 0))
        self._alone_since_s = None if processors else self._alone_since_s or now_s
        if self._alone_since_s is not None and now_s - self._alone_since_s >= _ALONE_S:
            raise RuntimeError("no worker is left")
        while self._waiting and len(self._futures) < processors:
            parcel = self._waiting.popleft()
            self._futures[self._work.remote(parcel.content, parcel.id, self._box, str(Path.cwd()))] = parcel.id

    def _end(self, future: Any) -> Happening:
        parcel = self._futures.pop(future)
        try:
            return Done(parcel, self._ray.get(future, timeout=_ANSWER_S))
        except Exception as error:  # noqa: BLE001 -- whatever Ray makes of a worker that died, or of what it raised
            return Lost(parcel, _words(error))

    def ask_to_stop(self) -> None:
        """See ``Crew``."""
        with suppress(Exception):
            self._ray.get(self._box.stop.remote(), timeout=_ANSWER_S)

    def close(self) -> None:
        """See ``Crew``."""
        with suppress(Exception):
            for future in self._futures:
                self._ray.cancel(future, force=True)
            self._ray.kill(self._box)
        self._futures.clear()
        self._waiting.clear()
        self._opened.close()


def _words(error: Exception) -> str:
    """The first line: the others are of the worker's stack, or advice for users of Ray."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"


def work(content: bytes, parcel: str, box: Any, directory: str) -> bytes:
    """What a worker does with a parcel. One that hears nothing of the box any more stops as if it was asked: its run has ended."""
    ray = _ray()
    with suppress(OSError):  # on another machine there need not be such a directory
        os.chdir(directory)

    def asked() -> bool:
        try:
            return bool(ray.get(box.asked.remote(), timeout=_ANSWER_S))
        except ray.exceptions.RayError:
            return True

    return carry_out(content, lambda text: ray.get(box.say.remote(parcel, text)), asked)
