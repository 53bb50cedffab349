from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from strandline.destination import Destination
from strandline.plugins import load_plugin
from strandline.testing.destination import DestinationConformance
from strandline.testing.destination_fixtures import Stranger


class TestDuckDB(DestinationConformance):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Destination]:
        cls = load_plugin("destination", "duckdb")
        return lambda: cls(cls.Spec(path=str(tmp_path / "warehouse.duckdb")))

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()

    @pytest.fixture
    def stranger(self, tmp_path: Path) -> Stranger:
        def run(table: str, statement: str) -> list[tuple[Any, ...]]:
            with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
                return connection.execute(statement.format(table=table)).fetchall()

        return run
