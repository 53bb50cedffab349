"""The states that PostgreSQL keeps beside its rows."""

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest

from strandline.plugins import load_plugin
from strandline.state import StateBackend, StateKey
from strandline.testing.state_backend import StateBackendConformance


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
    def damage(self, postgresql: str, backend: StateBackend) -> Callable[[StateKey], None]:
        def damage(key: StateKey) -> None:
            with closing(psycopg.connect(postgresql, autocommit=True)) as connection:
                connection.execute("UPDATE cq_state SET state = left(state, -9) WHERE task = %s", [key.task])

        return damage
