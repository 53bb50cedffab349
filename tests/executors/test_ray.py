"""The executor `ray` where there is no Ray: what becomes of parcels for which nobody is left."""

import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from strandline.executor import Done, Lost, Parcel, Said
from strandline.executors import ray


class Cluster:
    """As much of Ray as a crew asks for; futures are the parcels' names, and nothing is done until somebody says so."""

    def __init__(self):
        self.cpus, self.done, self.said = 1, {}, []
        self.box = SimpleNamespace(take=SimpleNamespace(remote=self._take), stop=SimpleNamespace(remote=lambda: None))

    def remote(self, **_options):
        return lambda _work: SimpleNamespace(remote=lambda _content, parcel, *_: parcel)

    def _take(self):
        said, self.said = self.said, []
        return said

    def wait(self, futures, *, num_returns=1, timeout):
        del timeout
        return [one for one in futures if one in self.done][:num_returns], []

    def get(self, what, **_options):
        return self.done[what] if isinstance(what, str) else what

    def cluster_resources(self):
        if self.cpus is None:
            raise OSError("the head is gone")
        return {"CPU": float(self.cpus)} if self.cpus else {}

    def cancel(self, *_, **__):
        pass

    kill = cancel


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def crew(cluster):
    found = ray.RayCrew(cluster, cluster.box, ExitStack())
    yield found
    found.close()


@pytest.mark.parametrize(("cpus", "says"), [(0, "no worker is left"), (None, "the head is gone")])
def test_where_no_worker_is_left_nobody_is_waited_for(monkeypatch, cluster, crew, cpus, says):
    """Not for ever: what was given out is lost, and what is given out then."""
    monkeypatch.setattr(ray, "_ALONE_S", 0.1)
    for name in ("one", "two"):
        crew.submit(Parcel(name, b""))
    assert crew.events(0.0) == []
    cluster.cpus, lost, deadline_s = cpus, [], time.monotonic() + 60
    while len(lost) < 2:
        assert time.monotonic() < deadline_s
        lost += crew.events(0.0)
    assert [(type(one), one.parcel) for one in lost] == [(Lost, "one"), (Lost, "two")]
    assert all(says in one.why for one in lost)
    cluster.cpus = 1
    crew.submit(Parcel("when one has come", b""))
    cluster.done["when one has come"] = b"done"
    assert crew.events(0.0) == [Done("when one has come", b"done")]


def test_no_more_is_begun_than_there_are_processors(cluster, crew):
    """Ray would begin more: it takes a worker that waits for an answer for idle."""
    for name in ("one", "two"):
        crew.submit(Parcel(name, b""))
    cluster.done = {"one": b"1", "two": b"2"}
    assert crew.events(0.0) == [Done("one", b"1")]
    assert crew.events(0.0) == [Done("two", b"2")]


def test_what_a_worker_said_comes_before_its_end(cluster, crew):
    crew.submit(Parcel("one", b""))
    cluster.said, cluster.done["one"] = [("one", b"a"), ("one", b"b")], b"done"
    assert crew.events(0.0) == [Said("one", b"a"), Said("one", b"b"), Done("one", b"done")]
