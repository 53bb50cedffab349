"""The suite of sources for files in S3, as moto has it."""

from collections.abc import Callable

import obstore
import pytest
from obstore.store import S3Store
from test_source_files import ROWS, csv, parquet

from services.s3 import S3
from strandline.plugins import load_plugin
from strandline.source import Source
from strandline.testing.source import SourceConformance


@pytest.fixture(scope="module")
def server():
    with S3() as started:
        yield started


class TestObjects(SourceConformance):
    """A table of CSV in several objects, and one of Parquet."""

    @pytest.fixture
    def make_source(self, server: S3) -> Callable[[], Source]:
        server.empty()
        store = S3Store("bucket", prefix="in", client_options={"allow_http": True}, **server.options)
        for name, rows in (("one/a/1", ROWS[:20]), ("one/2", ROWS[20:27]), ("one/3", ROWS[:2])):
            obstore.put(store, f"{name}.csv", csv(rows))
        obstore.put(store, "two.parquet", parquet(ROWS[27:]))
        cls = load_plugin("source", "files")
        return lambda: cls(cls.Spec(path="s3://bucket/in", options=server.options, file_column="file"))
