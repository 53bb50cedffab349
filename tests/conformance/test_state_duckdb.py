"""The states that DuckDB keeps beside its rows."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strandline.plugins import load_plugin
from strandline.state import StateBackend
from strandline.testing.state_backend import StateBackendConformance


class TestDuckDBState(StateBackendConformance):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], StateBackend]:
        cls = load_plugin("destination", "duckdb")
        return lambda: cls(cls.Spec(path=str(tmp_path / "warehouse.duckdb"))).states

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        backend = reopen()
        yield backend
        backend.close()
