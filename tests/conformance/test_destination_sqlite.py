from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strandline.destination import Destination
from strandline.plugins import load_plugin
from strandline.testing.destination import DestinationConformance


class TestSQLite(DestinationConformance):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Destination]:
        cls = load_plugin("destination", "sqlite")
        return lambda: cls(cls.Spec(path=str(tmp_path / "warehouse.sqlite")))

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()
