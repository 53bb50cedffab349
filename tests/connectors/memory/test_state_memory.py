from collections.abc import Callable, Iterator

import pytest

from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import KEY, StateBackendConformance, example_state


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
    def damage(self, backend: StateBackend) -> Callable[[StateKey], None]:
        def damage(key: StateKey) -> None:
            (token, text), *older = backend._commits[key]
            backend._commits[key] = [(token, text.replace('"sequence": 3', '"sequence": 4')), *older]

        return damage

    def test_it_is_shared_by_nothing(self, backend: StateBackend) -> None:
        other = type(backend)(type(backend).Spec())
        backend.save(KEY, example_state(), expected=None)
        assert other.load(KEY.source) == {}
