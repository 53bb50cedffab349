"""The destination ``files`` with stores of other people: `make stores`, since they are built first, for minutes."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from services.object_stores import ObjectStore
from services.s3 import S3
from strandline.destination import Destination
from strandline.errors import UsageError
from strandline.plugins import load_plugin
from strandline.testing.destination import DestinationConformance
from strandline.testing.destination_append import DeliveredCases
from strandline.testing.destination_fixtures import orders
from strandline.testing.destination_migrate import CreateCases
from strandline.testing.destination_ownership import OwnershipCases
from strandline.testing.destination_stale import HeldCases
from strandline.testing.destination_states import FenceCases
from strandline.testing.destination_writes import InsertCases
from strandline.testing.windows import Lineage

PLUGIN = load_plugin("destination", "files")


def opened(url: str, options: dict[str, str]) -> Destination:
    return PLUGIN(PLUGIN.Spec(path=url, options=options))


@pytest.fixture(scope="module")
def moto() -> Iterator[tuple[str, dict[str, str]]]:
    with S3() as s3:
        yield "s3://bucket", s3.options


@pytest.fixture(scope="module", params=["versitygw", "azurite", "fake-gcs-server"])
def foreign(request) -> Iterator[tuple[str, dict[str, str]]]:
    with ObjectStore(request.param) as store:
        yield store.url, store.options


class Places:
    @pytest.fixture
    def reopen(self, place: tuple[str, dict[str, str]]) -> Callable[[], Destination]:
        url, options = place
        folder = secrets.token_hex(8)
        return lambda: opened(f"{url}/{folder}", options)

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        with closing(reopen()) as destination:
            yield destination


class TestAllOfTheSuite(Places, DestinationConformance):
    @pytest.fixture
    def place(self, moto: tuple[str, dict[str, str]]) -> tuple[str, dict[str, str]]:
        return moto


class TestStores(Places, InsertCases, HeldCases, CreateCases, FenceCases, DeliveredCases, OwnershipCases):
    """What stores have to do with."""

    @pytest.fixture
    def place(self, foreign: tuple[str, dict[str, str]]) -> tuple[str, dict[str, str]]:
        return foreign


def test_a_store_that_ignores_conditions_is_refused():
    with (
        ObjectStore("s3rver") as careless,
        closing(opened(careless.url, careless.options)) as destination,
        pytest.raises(UsageError, match="ignores conditions"),
    ):
        Lineage(destination).migrate(orders())
