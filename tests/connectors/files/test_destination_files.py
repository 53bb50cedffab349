from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strandline.destination import Destination, WriteMode
from strandline.plugins import load_plugin
from strandline.testing.destination import DestinationConformance
from strandline.testing.destination_types import NameCases, TypeCases
from strandline.testing.destination_writes import InsertCases, ReadCases


class Lake:
    FORMAT = "parquet"
    SCHEMA: str | None = None

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Destination]:
        cls = load_plugin("destination", "files")
        return lambda: cls(cls.Spec(path=str(tmp_path / "lake"), format=self.FORMAT, schema=self.SCHEMA))

    @pytest.fixture
    def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
        destination = reopen()
        yield destination
        destination.close()


class TestParquet(Lake, DestinationConformance):
    def test_rows_are_appended(self, lineage) -> None:
        assert lineage.mode is WriteMode.APPEND


class TestSchema(TestParquet):
    SCHEMA = "My own/../x"


class TextCases(Lake, ReadCases, TypeCases):
    """What the format of a file has to do with."""

    test_all_types_are_appended = InsertCases.test_all_types_are_appended
    test_columns_of_any_name = NameCases.test_columns_of_any_name
    _check_columns = staticmethod(NameCases._check_columns)


class TestCSV(TextCases):
    FORMAT = "csv"


class TestJSONLines(TextCases):
    FORMAT = "jsonl"
