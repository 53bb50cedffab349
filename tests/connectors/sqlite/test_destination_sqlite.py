import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from strandline.destination import Destination
from strandline.plugins import load_plugin
from strandline.testing.destination import DestinationConformance
from strandline.testing.destination_fixtures import Stranger


class TestSQLite(DestinationConformance):
    SCHEMA = "main"
    DRIFT_REFUSED = ("a day becomes a moment",)

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Destination]:
        cls = load_plugin("destination", "sqlite")
        return lambda: cls(cls.Spec(path=str(tmp_path / "warehouse.sqlite"), schema=self.SCHEMA))

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()

    @pytest.fixture
    def stranger(self, tmp_path: Path) -> Stranger:
        prefix = "" if self.SCHEMA == "main" else f"{self.SCHEMA}_".replace('"', '""')

        def run(table: str, statement: str) -> list[tuple[Any, ...]]:
            with closing(sqlite3.connect(tmp_path / "warehouse.sqlite")) as connection, connection:
                return connection.execute(statement.format(table=f'"{prefix}{table}"')).fetchall()

        return run


class TestSchema(TestSQLite):
    SCHEMA = 'my "own"'
