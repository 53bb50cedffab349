"""The states that DuckDB keeps beside its rows."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from raw_states import RawRow

from strandline.plugins import load_plugin
from strandline.state import StateBackend
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_raw import Raw


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
    def raw(self, tmp_path: Path, backend: StateBackend) -> Raw:
        def run(*asked):
            backend.close()
            with closing(duckdb.connect(str(tmp_path / "warehouse.duckdb"))) as connection:
                return connection.execute(*asked).fetchall()

        return RawRow(run, "cq_state", refuses=(duckdb.Error,))
