from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from strandline.destination import Destination
from strandline.plugins import load_plugin
from strandline.testing.destination import DestinationConformance
from strandline.testing.destination_fixtures import Stranger


class TestPostgreSQL(DestinationConformance):
    @pytest.fixture
    def reopen(self, postgresql: str) -> Callable[[], Destination]:
        cls = load_plugin("destination", "postgresql")
        return lambda: cls(cls.Spec(connection_string=postgresql))

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()

    @pytest.fixture
    def stranger(self, postgresql: str) -> Stranger:
        def run(table: str, statement: str) -> list[tuple[Any, ...]]:
            with closing(psycopg.connect(postgresql, autocommit=True)) as connection:
                cursor = connection.execute(statement.format(table=table).encode())
                return cursor.fetchall() if cursor.description else []

        return run
