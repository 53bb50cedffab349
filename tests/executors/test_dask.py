"""The executor `dask` where there is no Dask: what becomes of parcels for which nobody is left."""

import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from strandline.executor import Lost, Parcel
from strandline.executors import dask


class Scheduler:
    """A client of a scheduler with so many threads, which does nothing."""

    threads = 1

    def __init__(self):
        self.submitted = []

    def nthreads(self):
        if self.threads is None:
            raise OSError("the scheduler is gone")
        return {"tcp://worker": self.threads} if self.threads else {}

    def submit(self, *_arguments, key, **_options):
        self.submitted.append(key)
        return SimpleNamespace(add_done_callback=lambda _: None)

    def subscribe_topic(self, *_):
        pass

    def cancel(self, _):
        pass


def events(crew, count):
    found, deadline_s = [], time.monotonic() + 60
    while len(found) < count:
        assert time.monotonic() < deadline_s
        found += crew.events(0.05)
    return found


@pytest.mark.parametrize(("threads", "says"), [(0, "no worker is left"), (None, "the scheduler is gone")])
def test_where_no_worker_is_left_nobody_is_waited_for(monkeypatch, threads, says):
    """Not for ever: what was given out is lost, what waits too, and what is given out then."""
    monkeypatch.setattr(dask, "_distributed", lambda: SimpleNamespace(Event=lambda *_, **__: threading.Event()))
    monkeypatch.setattr(dask, "_ALONE_S", 0.1)
    client = Scheduler()
    crew = dask.DaskCrew(client, ExitStack())
    for name in ("given out", "waits"):
        crew.submit(Parcel(name, b""))
    assert crew.events(0.0) == []
    assert len(client.submitted) == 1
    client.threads = threads
    lost = events(crew, 2)
    crew.submit(Parcel("later", b""))
    lost += events(crew, 1)
    assert [(type(one), one.parcel) for one in lost] == [(Lost, name) for name in ("given out", "waits", "later")]
    assert all(says in one.why for one in lost)
    client.threads = 1
    crew.submit(Parcel("when one has come", b""))
    assert crew.events(0.0) == []
    assert len(client.submitted) == 2
    crew.close()
