"""Syncs from a Delta table that are killed at every call: nothing is lost, and what is gone is gone."""

import shutil
from typing import ClassVar

import pytest
from synced_delta import FEED, SyncedDelta
from synced_table import rows

from sampling import MATRIX, SHARE
from strandline.destination import WriteMode
from strandline.plugins import load_plugin
from strandline.testing.kills import KillConformance

pytestmark = pytest.mark.crash


class _Killed(KillConformance):
    SHARE = SHARE if MATRIX else 0.04
    STEPS = 2
    ROWS_MAX = 4
    TABLE: ClassVar = {}
    FEED: ClassVar = {}

    @pytest.fixture
    def steps(self, tmp_path):
        """The table at each step."""
        top = tmp_path / "steps"
        lake = SyncedDelta(top / "1/orders")
        for start in (0, 4, 8):
            lake.write(rows(start, start + 4), configuration=self.FEED)
        shutil.copytree(top / "1", top / "0")
        self.change(lake)
        return top

    def change(self, lake):
        lake.write(rows(20, 24))
        lake.delta.delete("id = 5")
        lake.merge(rows(1, 3, v="new"))
        lake.delta.optimize.compact()

    @pytest.fixture
    def rows(self, steps):
        def rows(step):
            delta = SyncedDelta(steps / str(step) / "orders")
            return {"orders": delta.found().to_pylist()}

        return rows

    @pytest.fixture
    def plugins(self, steps):
        source = load_plugin("source", "delta")
        destination, backend = load_plugin("destination", "duckdb"), load_plugin("state_backend", "local")
        return lambda directory, step: (
            source(source.Spec(path=str(steps / str(step) / "orders"), tables={"*": self.TABLE})),
            destination(destination.Spec(path=str(directory / "rows.duckdb"))),
            backend(backend.Spec(path=str(directory / "states"))),
        )


class TestMirror(_Killed):
    WRITE_MODE, TABLE = WriteMode.OVERWRITE_DELETE_STALE, {"primary_key": ["id"]}


class TestFeed(_Killed):
    WRITE_MODE, TABLE, FEED = WriteMode.OVERWRITE, {"primary_key": ["id"]}, FEED


class TestAppend(_Killed):
    def change(self, lake):
        lake.write(rows(20, 24))
        lake.write(rows(20, 24))
        lake.delta.optimize.compact()
