"""A part of the suite of destinations with ``files`` in an object store: whose rows and whose turn it is; `make stores` has all of it."""

from collections.abc import Callable, Iterator

import pytest

from services.s3 import S3
from strandline.destination import Destination, WriteMode
from strandline.plugins import load_plugin
from strandline.testing.destination_stale import HeldCases
from strandline.testing.destination_states import FenceCases


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as running:
        yield running


class TestFilesInObjects(HeldCases, FenceCases):
    @pytest.fixture
    def reopen(self, s3: S3) -> Callable[[], Destination]:
        s3.empty()
        cls = load_plugin("destination", "files")
        return lambda: cls(cls.Spec(path="s3://bucket/lake", options=s3.options))

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()

    def test_rows_are_appended(self, lineage) -> None:
        assert lineage.mode is WriteMode.APPEND
