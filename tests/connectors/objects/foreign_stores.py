"""The state backend ``objects`` with stores of other people: `make stores`, since they are built first, for minutes."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from obstore.store import from_url
from raw_states import RawObject

from services.object_stores import ObjectStore
from strandline.errors import UsageError
from strandline.plugins import load_plugin
from strandline.state import StateBackend
from strandline.testing.state_backend import KEY, StateBackendConformance, example_state
from strandline.testing.state_raw import Raw

PLUGIN = load_plugin("state_backend", "objects")


def opened(url: str, options: dict[str, str]) -> StateBackend:
    return PLUGIN(PLUGIN.Spec(url=url, options=options))


@pytest.fixture(scope="module", params=["versitygw", "azurite", "fake-gcs-server"])
def store(request):
    with ObjectStore(request.param) as started:
        yield started


class TestStores(StateBackendConformance):
    @pytest.fixture
    def url(self, store: ObjectStore) -> str:
        return f"{store.url}/{secrets.token_hex(8)}"

    @pytest.fixture
    def reopen(self, store: ObjectStore, url: str) -> Callable[[], StateBackend]:
        return lambda: opened(url, store.options)

    @pytest.fixture
    def backend(self, reopen: Callable[[], StateBackend]) -> Iterator[StateBackend]:
        with closing(reopen()) as backend:
            yield backend

    @pytest.fixture
    def raw(self, store: ObjectStore, url: str) -> Raw:
        return RawObject(from_url(url, config=store.options, client_options={"allow_http": True}))


def test_a_store_that_ignores_conditions_is_refused():
    with ObjectStore("s3rver") as careless, closing(opened(careless.url, careless.options)) as backend:
        with pytest.raises(UsageError, match="ignores conditions"):
            backend.save(KEY, example_state(), expected=None)
        assert dict(backend.load(KEY.source)) == {}
