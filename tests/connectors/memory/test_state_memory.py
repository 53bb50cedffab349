from collections.abc import Callable, Iterator

import pytest
from raw_states import RawCommit

from strandline.plugins import load_plugin
from strandline.state import StateBackend
from strandline.testing.state_backend import KEY, StateBackendConformance, example_state
from strandline.testing.state_raw import Raw


class TestMemoryState(StateBackendConformance):
    @pytest.fixture
    def backend(self) -> Iterator[StateBackend]:
        cls = load_plugin("state_backend", "memory")
        backend = cls(cls.Spec())
        yield backend
        backend.close()

    @pytest.fixture
    def reopen(self, backend: StateBackend) -> Callable[[], StateBackend]:
        return lambda: backend

    @pytest.fixture
    def raw(self, backend: StateBackend) -> Raw:
        return RawCommit(lambda: backend._commits)

    def test_it_is_shared_by_nothing(self, backend: StateBackend) -> None:
        other = type(backend)(type(backend).Spec())
        backend.save(KEY, example_state(), expected=None)
        assert other.load(KEY.source) == {}
