import uuid
from collections.abc import Callable, Iterator

import pytest
from raw_states import RawCommit

from strandline.destination import Destination
from strandline.plugins import load_plugin
from strandline.state import StateBackend
from strandline.testing.destination import DestinationConformance
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_raw import Raw


@pytest.fixture
def reopen() -> Iterator[Callable[[], Destination]]:
    cls, name = load_plugin("destination", "memory"), uuid.uuid4().hex
    yield lambda: cls(cls.Spec(name=name))
    cls.reset(name)


class TestMemory(DestinationConformance):
    @pytest.fixture
    def reopen(self, reopen: Callable[[], Destination]) -> Callable[[], Destination]:
        return reopen

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()


class TestMemoryStates(StateBackendConformance):
    """The states beside the rows are a backend like any other."""

    @pytest.fixture
    def reopen(self, reopen: Callable[[], Destination]) -> Callable[[], StateBackend]:
        return lambda: reopen().states

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> StateBackend:
        return reopen()

    @pytest.fixture
    def raw(self, backend: StateBackend) -> Raw:
        return RawCommit(lambda: backend._store.data.commits)
