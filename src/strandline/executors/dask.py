"""Tasks are done by the workers of a Dask cluster: of one that is there, on any number of machines, or of one that is begun for the run.

A worker needs this package, the drivers of the spec's plugins and the variables that the spec names. Needs `strandline[dask]`.
"""

import importlib
import logging
import os
import queue
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from strandline.describe import Description
from strandline.errors import UnreachableError
from strandline.executor import Done, Happening, Lost, Parcel, Said, carry_out

__all__ = ["DaskExecutor", "work"]

_ANSWER_S = 30
_END_S = 10
_ALONE_S = 60.0
"""For how long there may be no worker at all, as while they begin again, before nobody is waited for any more."""


def _distributed() -> Any:
    """Dask's package of that name: it takes half a second to import, and none of it is needed to read a spec."""
    return importlib.import_module("distributed")


class DaskExecutor:
    """See ``strandline.executor.Executor``."""

    is_elsewhere = True
    description = Description(drivers=("distributed",), installs="strandline[dask]")

    class Spec(BaseModel):
        """Which cluster."""

        model_config = ConfigDict(extra="forbid")

        address: str = Field(
            "",
            description="Of a scheduler, `tcp://scheduler:8786`. Empty: a cluster of this machine is begun for the run.",
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

    def crew(self, at_once: int) -> "DaskCrew":
        """Connect, or begin a cluster.

        Raises:
            UnreachableError: no scheduler answers, or no worker can be begun.
        """
        distributed, dask = _distributed(), importlib.import_module("dask")
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what becomes of workers the run says itself
        with ExitStack() as stack:
            address: Any = self.spec.address
            try:
                if not address:
                    # what is given out again is another parcel: see strandline.engine.elsewhere
                    stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
                    workers = self.spec.workers or min(at_once, os.cpu_count() or 1)
                    address = distributed.LocalCluster(
                        n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
                    )
                    stack.callback(address.close, timeout=_END_S)
                client = distributed.Client(address, timeout=_ANSWER_S, set_as_default=False)
            except (OSError, RuntimeError) as error:
                where = f"no scheduler answers at {self.spec.address}" if self.spec.address else "no worker begins"
                hint = (
                    "look after it; or leave out `address`" if self.spec.address else "look after the machine's memory"
                )
                raise UnreachableError(f"Dask: {where}: {error}", hint=hint) from error
            stack.callback(client.close, timeout=_END_S)
            return DaskCrew(client, stack.pop_all())


class DaskCrew:
    """See ``strandline.executor.Crew``.

    What workers say comes by a topic of the scheduler, and what they return by their futures: so each says how often it has
    said something, and its end is told once all of that is here. The scheduler has no more parcels than there are threads: what it
    had laid out for a worker that dies would be lost with it.
    """

    def __init__(self, client: Any, opened: ExitStack) -> None:
        self._client, self._opened = client, opened
        self._topic = f"strandline-{secrets.token_hex(8)}"
        self._heard: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._waiting: deque[Parcel] = deque()
        self._futures: dict[str, Any] = {}
        self._alone_since_s: float | None = None
        self._said: Counter[str] = Counter()
        self._ended: dict[str, tuple[int, Happening]] = {}
        self._gone: set[str] = set()
        self._stop = _distributed().Event(self._topic, client=client)
        client.subscribe_topic(self._topic, lambda event: self._heard.put(("said", event[1])))

    def submit(self, parcel: Parcel) -> None:
        """See ``Crew``."""
        self._waiting.append(parcel)

    def _hand_out(self) -> None:
        if not (self._waiting or self._futures):
            return
        try:
            threads = sum(self._client.nthreads().values())
        except Exception as error:  # noqa: BLE001 -- whatever a client raises whose scheduler is gone
            self._give_up(error)
            return
        now_s = time.monotonic()
        self._alone_since_s = None if threads else self._alone_since_s or now_s
        if self._alone_since_s is not None and now_s - self._alone_since_s >= _ALONE_S:
            self._give_up(RuntimeError("no worker is left"))
        while self._waiting and len(self._futures) < threads:
            parcel = self._waiting.popleft()
            key = f"{self._topic}-{parcel.id}"
            future = self._client.submit(work, parcel.content, parcel.id, self._topic, key=key, pure=False)
            self._futures[parcel.id] = future
            future.add_done_callback(partial(self._tell_end, parcel.id))

    def _give_up(self, error: Exception) -> None:
        """Nobody does anything any more; nor what is submitted later, unless a worker comes."""
        for parcel in [*self._futures, *(one.id for one in self._waiting)]:
            self._heard.put(("ended", (parcel, error)))
        self._waiting.clear()

    def _tell_end(self, parcel: str, future: Any) -> None:
        self._heard.put(("ended", (parcel, future)))

    def events(self, timeout_s: float) -> Sequence[Happening]:
        """See ``Crew``."""
        found = list[Happening]()
        self._hand_out()
        with suppress(queue.Empty):
            self._hear(*self._heard.get(timeout=timeout_s), found)
            while True:
                self._hear(*self._heard.get_nowait(), found)
        return found

    def _hear(self, kind: str, content: Any, found: list[Happening]) -> None:
        if kind == "said":
            parcel, text = content
            if parcel in self._futures:
                self._said[parcel] += 1
                found.append(Said(parcel, text))
        else:
            parcel, future = content
            if parcel in self._gone:  # it was given up before
                return
            self._ended[parcel] = _ended(parcel, future)
        expected, end = self._ended.get(parcel, (-1, None))
        if end is not None and (self._said[parcel] >= expected):
            self._futures.pop(parcel, None)
            del self._ended[parcel], self._said[parcel]
            self._gone.add(parcel)
            found.append(end)

    def ask_to_stop(self) -> None:
        """See ``Crew``."""
        self._stop.set()

    def close(self) -> None:
        """See ``Crew``. Workers of a cluster that is there end what they do, once they have asked."""
        with suppress(Exception):
            self._stop.set()
            self._client.cancel(list(self._futures.values()))
        self._futures.clear()
        self._waiting.clear()
        self._opened.close()


def _ended(parcel: str, future: Any) -> tuple[int, Happening]:
    """How a future has ended, and how often something was said before; or the error for which there is none."""
    error = future if isinstance(future, Exception) else None
    try:
        said, content = future.result(timeout=_ANSWER_S) if error is None else (0, b"")
    except Exception as raised:  # noqa: BLE001 -- whatever Dask makes of a worker that died, or of a scheduler that is gone
        error = raised
    if error is not None:
        return 0, Lost(parcel, f"{type(error).__name__}: {error}")
    return said, Done(parcel, content)


def work(content: bytes, parcel: str, topic: str) -> tuple[int, bytes]:
    """What a worker does with a parcel; how often it has said something, and the result.

    Dask itself does again what a worker had that died. That one may be alive, so the run has to hear of it first.
    """
    distributed = _distributed()
    worker, client = distributed.get_worker(), distributed.get_client()
    begun, stop = (distributed.Event(name, client=client) for name in (f"{topic}-{parcel}-begun", topic))
    if begun.is_set():
        raise RuntimeError("another worker had it before")
    begun.set()
    said = 0

    def say(text: bytes) -> None:
        nonlocal said
        said += 1
        worker.log_event(topic, (parcel, text))

    asked: Callable[[], bool] = stop.is_set
    result = carry_out(content, say, asked)
    return said, result
