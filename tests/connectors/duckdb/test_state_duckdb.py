"""The states that DuckDB keeps beside its rows."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from raw_states import RawRow

from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_parts import PartsCases, PutPart
from strandline.testing.state_raw import Raw


def executed(path: Path, backend: StateBackend, statement: str) -> list[tuple]:
    backend.close()
    with closing(duckdb.connect(str(path))) as connection:
        return connection.execute(statement).fetchall()


class TestDuckDBState(StateBackendConformance, PartsCases):
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

    @pytest.fixture
    def parts(self, tmp_path: Path, backend: StateBackend) -> Callable[[StateKey], set[str]]:
        names = "SELECT token FROM cq_state_history WHERE number < 0 AND task = '{}'"
        return lambda key: {
            name for (name,) in executed(tmp_path / "warehouse.duckdb", backend, names.format(key.task))
        }

    @pytest.fixture
    def put_part(self, tmp_path: Path, backend: StateBackend) -> PutPart:
        def put(key: StateKey, name: str, text: str | None) -> None:
            change = "DELETE FROM cq_state_history" if text is None else f"UPDATE cq_state_history SET state = '{text}'"
            executed(
                tmp_path / "warehouse.duckdb",
                backend,
                f"{change} WHERE number < 0 AND token = '{name}' AND task = '{key.task}'",
            )

        return put
