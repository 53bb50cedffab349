from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import StateBackendConformance


class TestLocalState(StateBackendConformance):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], StateBackend]:
        cls = load_plugin("state_backend", "local")
        return lambda: cls(cls.Spec(path=str(tmp_path / "state")))

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        backend = reopen()
        yield backend
        backend.close()

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Callable[[StateKey], None]:
        def damage(key: StateKey) -> None:
            path = tmp_path / "state" / key.source / f"{key.task}@{key.destination}.json"
            path.write_bytes(path.read_bytes()[:-9])

        return damage
