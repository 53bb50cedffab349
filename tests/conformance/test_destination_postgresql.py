from collections.abc import Callable, Iterator

import pytest

from strandline.destination import Destination
from strandline.plugins import load_plugin
from strandline.testing.destination import DestinationConformance


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
