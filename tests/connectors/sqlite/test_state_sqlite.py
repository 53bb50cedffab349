"""The states that SQLite keeps beside its rows."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from raw_states import RawRow

from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_parts import PartsCases, PutPart
from strandline.testing.state_raw import Raw


def executed(path: Path, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


class TestSQLiteState(StateBackendConformance, PartsCases):
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

    @pytest.fixture
    def parts(self, tmp_path: Path) -> Callable[[StateKey], set[str]]:
        names = "SELECT token FROM cq_state_history WHERE number < 0 AND task = '{}'"
        return lambda key: {name for (name,) in executed(tmp_path / "warehouse.sqlite", names.format(key.task))}

    @pytest.fixture
    def put_part(self, tmp_path: Path) -> PutPart:
        def put(key: StateKey, name: str, text: str | None) -> None:
            change = "DELETE FROM cq_state_history" if text is None else f"UPDATE cq_state_history SET state = '{text}'"
            executed(
                tmp_path / "warehouse.sqlite", f"{change} WHERE number < 0 AND token = '{name}' AND task = '{key.task}'"
            )

        return put
