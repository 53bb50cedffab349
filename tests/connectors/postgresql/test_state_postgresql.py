"""The states that PostgreSQL keeps beside its rows."""

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from raw_states import RawRow

from strandline.plugins import load_plugin
from strandline.state import StateBackend
from strandline.testing.state_backend import StateBackendConformance
from strandline.testing.state_raw import Raw


class TestPostgreSQLState(StateBackendConformance):
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
