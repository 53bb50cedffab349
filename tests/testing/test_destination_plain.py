"""The double that keeps no states, in both of its kinds."""

from collections.abc import Callable, Iterator

import pytest

from strandline.destination import Destination
from strandline.testing.destination import DestinationConformance
from strandline.testing.plain import PlainDestination


class PlainConformance(DestinationConformance):
    DELIVERY: str

    @pytest.fixture
    def reopen(self, tmp_path) -> Callable[[], Destination]:
        return lambda: PlainDestination(PlainDestination.Spec(path=str(tmp_path / "plain"), delivery=self.DELIVERY))

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()


class TestPlain(PlainConformance):
    DELIVERY = "plain"


class TestIdempotent(PlainConformance):
    DELIVERY = "idempotent"
