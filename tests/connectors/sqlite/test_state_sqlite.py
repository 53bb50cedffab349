"""The states that SQLite keeps beside its rows."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import StateBackendConformance


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
    def damage(self, tmp_path: Path, backend: StateBackend) -> Callable[[StateKey], None]:
        def damage(key: StateKey) -> None:
            backend.close()
            with closing(sqlite3.connect(tmp_path / "warehouse.sqlite")) as connection, connection:
                cut = "UPDATE cq_state SET state = substr(state, 1, length(state) - 9) WHERE task = ?"
                connection.execute(cut, [key.task])

        return damage
