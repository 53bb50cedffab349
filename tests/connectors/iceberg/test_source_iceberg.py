"""Iceberg tables as sources, by the shared suite."""

import pyarrow as pa
import pytest
from pyiceberg.transforms import IdentityTransform
from synced_iceberg import SyncedIceberg
from synced_table import rows

from strandline.testing.source import SourceConformance


class TestAddedFiles(SourceConformance):
    @pytest.fixture
    def lake(self, tmp_path):
        lake = SyncedIceberg(tmp_path)
        table = lake.create(rows(0, 1).schema)
        with table.update_spec() as spec:
            spec.add_field("day", IdentityTransform())
        for start in (0, 8):
            lake.write(rows(start, start + 8))
        nested = pa.table({"id": [1, 2, 3], "l": [[{"x": 1}], None, []]})
        lake.catalog.create_table("default.nested", nested.schema).append(nested)
        lake.catalog.create_table("default.empty", nested.schema)
        return lake

    @pytest.fixture
    def make_source(self, lake):
        return lake.source

    @pytest.fixture
    def change(self, lake):
        def change():
            lake.write(rows(30, 33))
            lake.ice.delete("id < 3")

        return change
