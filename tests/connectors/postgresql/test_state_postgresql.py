"""The states that PostgreSQL keeps beside its rows."""

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from raw_states import RawRow

from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_parts import PartsCases, PutPart
from strandline.testing.state_raw import Raw


def executed(connection_string: str, statement: str) -> list[tuple]:
    with closing(psycopg.connect(connection_string, autocommit=True)) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


class TestPostgreSQLState(StateBackendConformance, PartsCases):
    @pytest.fixture
    def reopen(self, postgresql: str) -> Callable[[], StateBackend]:
        cls = load_plugin("destination", "postgresql")
        return lambda: cls(cls.Spec(connection_string=postgresql)).states

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        backend = reopen()
        yield backend
        backend.close()

    @pytest.fixture
    def raw(self, postgresql: str) -> Iterator[Raw]:
        def run(*asked):
            cursor = connection.execute(*asked)
            return cursor.fetchall() if cursor.description else []

        with closing(psycopg.connect(postgresql, autocommit=True)) as connection:
            yield RawRow(run, "cq_state", parameter="%s", refuses=(psycopg.DataError,))

    @pytest.fixture
    def parts(self, postgresql: str) -> Callable[[StateKey], set[str]]:
        names = "SELECT token FROM cq_state_history WHERE number < 0 AND task = '{}'"
        return lambda key: {name for (name,) in executed(postgresql, names.format(key.task))}

    @pytest.fixture
    def put_part(self, postgresql: str) -> PutPart:
        def put(key: StateKey, name: str, text: str | None) -> None:
            change = "DELETE FROM cq_state_history" if text is None else f"UPDATE cq_state_history SET state = '{text}'"
            executed(postgresql, f"{change} WHERE number < 0 AND token = '{name}' AND task = '{key.task}'")

        return put
