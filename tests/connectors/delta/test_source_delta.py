"""Delta tables as sources, by the shared suite."""

from typing import ClassVar

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from synced_table import rows

from strandline.plugins import load_plugin
from strandline.testing.source import SourceConformance


class Delta(SourceConformance):
    settings: ClassVar = {"orders": {"primary_key": ["id"]}}
    configuration: ClassVar = {}

    @pytest.fixture
    def make_source(self, tmp_path):
        place = str(tmp_path / "lake/orders")
        for start in (0, 8, 16):
            write_deltalake(
                place, rows(start, start + 8), mode="append", partition_by=["day"], configuration=self.configuration
            )
        write_deltalake(str(tmp_path / "lake/empty"), rows(0, 0))
        write_deltalake(
            str(tmp_path / "lake/equal"), pa.table({"a": ["x", "x", None, None], "l": [[1], [1], None, []]})
        )
        cls = load_plugin("source", "delta")
        return lambda: cls(cls.Spec(path=str(tmp_path / "lake"), tables=self.settings))

    @pytest.fixture
    def change(self, tmp_path):
        def change():
            place = str(tmp_path / "lake/orders")
            write_deltalake(place, rows(30, 37), mode="append")
            DeltaTable(place).delete("id < 3")
            DeltaTable(place).update(predicate="id = 9", updates={"v": "'new'"})
            DeltaTable(place).optimize.compact()

        return change


class TestAddedFiles(Delta):
    pass


class TestChangeDataFeed(Delta):
    configuration: ClassVar = {"delta.enableChangeDataFeed": "true"}
