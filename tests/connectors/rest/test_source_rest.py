"""The suite of sources on ``rest``: tables in every order, with children, by windows and in full."""

import pytest
from shop_api import SPEC, Shop

from strandline.plugins import load_plugin
from strandline.testing.source import SourceConformance


@pytest.fixture(scope="module")
def api():
    with Shop().serve() as api:
        yield api


class TestRest(SourceConformance):
    @pytest.fixture
    def shop(self, api):
        api.answer = Shop()
        return api.answer

    @pytest.fixture
    def change(self, shop):
        def change():
            shop.step += 1

        return change

    @pytest.fixture
    def make_source(self, api, shop):
        cls = load_plugin("source", "rest")
        return lambda: cls(cls.Spec(base_url=api.url, **SPEC))
