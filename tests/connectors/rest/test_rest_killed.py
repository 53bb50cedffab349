"""Syncs from an API that are killed at every call: nothing is lost, whatever order the API has, and nothing is there twice."""

import pytest
from shop_api import SPEC, Shop

from sampling import SHARE
from strandline.destination import WriteMode
from strandline.plugins import load_plugin
from strandline.testing.kills import KillConformance
from strandline.testing.plain import PlainDestination

pytestmark = pytest.mark.crash

SIZE = 3


@pytest.fixture(scope="module")
def apis():
    """The shop at each step."""
    with Shop(0, SIZE).serve() as first, Shop(1, SIZE).serve() as second:
        yield [first, second]


class _Killed(KillConformance):
    SHARE = SHARE
    STEPS = 2
    ROWS_MAX = 4

    @pytest.fixture
    def rows(self):
        def rows(step):
            """In append mode, every version."""
            shops = [Shop(at, SIZE) for at in range(step + 1)]
            if self.WRITE_MODE is not WriteMode.APPEND:
                return shops[-1].tables()
            found = {}
            for shop in shops:
                for name, rows in shop.tables().items():
                    known = found.setdefault(name, [])
                    known += [row for row in rows if row not in known]
            return found

        return rows

    def source(self, apis, step):
        cls = load_plugin("source", "rest")
        tables = {name: SPEC["tables"][name] for name in self.TABLES}
        return cls(cls.Spec(base_url=apis[step].url, **{**SPEC, "tables": tables}))

    @pytest.fixture
    def plugins(self, apis):
        destination, backend = load_plugin("destination", self.INTO), load_plugin("state_backend", "local")
        return lambda directory, step: (
            self.source(apis, step),
            destination(destination.Spec(path=str(directory / "rows"))),
            backend(backend.Spec(path=str(directory / "states"))),
        )


class TestIntoDuckDB(_Killed):
    INTO, WRITE_MODE, TABLES = "duckdb", WriteMode.OVERWRITE_DELETE_STALE, ("visits",)


class TestIntoFiles(_Killed):
    INTO, WRITE_MODE, TABLES = "files", WriteMode.APPEND, ("events",)


class TestIntoWhatKeepsNoStates(_Killed):
    WRITE_MODE, TABLES = WriteMode.OVERWRITE, ("issues", "comments", "reactions")

    @pytest.fixture
    def plugins(self, apis):
        keep = load_plugin("state_backend", "local")
        return lambda directory, step: (
            self.source(apis, step),
            PlainDestination(PlainDestination.Spec(path=str(directory / "rows"), delivery="idempotent")),
            keep(keep.Spec(path=str(directory / "states"))),
        )
