import pytest

from strandline.plugins import load_plugin
from strandline.testing.source import SourceConformance


class Generated(SourceConformance):
    settings: dict

    @pytest.fixture
    def make_source(self):
        cls = load_plugin("source", "test")
        return lambda: cls(cls.Spec(**self.settings))


class TestEveryType(Generated):
    settings = {"rows": 10, "types": "all"}  # noqa: RUF012 the settings of a test, never changed


class TestSeveralTables(Generated):
    settings = {"rows": 20, "tables": 3, "seed": 7}  # noqa: RUF012 likewise, never changed


class TestReadInFull(Generated):
    settings = {"rows": 20, "incremental": False}  # noqa: RUF012 likewise, never changed


class TestNoRows(Generated):
    settings = {"rows": 0}  # noqa: RUF012 likewise, never changed
