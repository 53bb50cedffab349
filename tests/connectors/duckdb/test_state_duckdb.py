"""The states that DuckDB keeps beside its rows."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
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

    @pytest.fixture
    def damage(self, tmp_path: Path, backend: StateBackend) -> Callable[[StateKey], None]:
        def damage(key: StateKey) -> None:
            backend.close()
            with closing(duckdb.connect(str(tmp_path / "warehouse.duckdb"))) as connection:
                connection.execute("UPDATE cq_state SET state = state[:-9] WHERE task = ?", [key.task])

        return damage
