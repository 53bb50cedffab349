from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from raw_states import RawFile

from strandline.paths import encode_part
from strandline.plugins import load_plugin
from strandline.state import StateBackend
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_raw import Raw


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
    def raw(self, tmp_path: Path) -> Raw:
        return RawFile(lambda key: tmp_path / "state" / encode_part(key.source) / f"{key.task}@{key.destination}.json")
