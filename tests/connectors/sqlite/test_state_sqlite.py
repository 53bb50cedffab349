"""The states that SQLite keeps beside its rows."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from raw_states import RawRow

from strandline.plugins import load_plugin
from strandline.state import StateBackend
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_raw import Raw


class TestSQLiteState(StateBackendConformance):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], StateBackend]]:
        cls = load_plugin("destination", "sqlite")
        with ExitStack() as opened:
            yield lambda: opened.enter_context(closing(cls(cls.Spec(path=str(tmp_path / "warehouse.sqlite"))))).states

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        backend = reopen()
        yield backend
        backend.close()

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Raw:
        def run(*asked):
            with closing(sqlite3.connect(tmp_path / "warehouse.sqlite", isolation_level=None)) as connection:
                return connection.execute(*asked).fetchall()

        return RawRow(run, "cq_state", text="CAST(? AS TEXT)")
