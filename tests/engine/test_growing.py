"""A column that a source meets in the middle of a table, into every destination."""

import pyarrow as pa
import pytest
from test_engine import Numbers, backend, job

from strandline.destination import WriteMode
from strandline.engine.run import sync
from strandline.errors import RetryableError, TaskError
from strandline.message import Checkpoint, Complete, Insert, Schema
from strandline.plugins import load_plugin
from strandline.table import Table

PLACES = {
    "duckdb": lambda root: {"path": str(root / "w.duckdb")},
    "sqlite": lambda root: {"path": str(root / "w.sqlite")},
    "files": lambda root: {"path": str(root / "lake")},
    "memory": lambda root: {"name": str(root)},
    "postgresql": None,
}


class Growing(Numbers):
    """Row by row, as an API sends them: a field that no row had before is a new column from there on."""

    def __init__(self, *rows, at_once=1):
        super().__init__("t")
        self.rows, self.at_once, self.cut, self.killed = list(rows), at_once, None, False

    def read(self, task, reading):
        table, start = task.tables[0], reading.cursor["next"] if reading.cursor else 0
        for number in range(start, len(self.rows)):
            if number == self.cut:
                self.cut = None
                raise TaskError("killed") if self.killed else RetryableError("cut")
            row = self.rows[number]
            new = {name: type_of(value) for name, value in row.items() if name not in table.schema.names}
            if new:
                schema = pa.schema([*table.schema, *new.items()])
                table = Table(table.name, schema, ("id",), ("id",), incremental=True)
                yield Schema(table)
            yield Insert("t", pa.RecordBatch.from_pylist([row], table.schema))
            if number % self.at_once == 0 or new:
                yield Checkpoint({"next": number + 1})
        yield Complete("t")
        yield Checkpoint({"next": len(self.rows)})


def type_of(value):
    return {str: pa.string(), float: pa.float64(), list: pa.list_(pa.int64())}[type(value)]


ROWS = [
    {"id": 0},
    {"id": 1, "name": "one"},
    {"id": 2, "name": "two", "price": 2.5},
    {"id": 0, "price": 0.5},
    {"id": 3, "tags": [1, 2]},
]
WHOLE = pa.schema({"id": pa.int64(), "name": pa.string(), "price": pa.float64()})


@pytest.fixture
def store(request, tmp_path, place):
    cls = load_plugin("destination", place)
    of = PLACES[place]
    place = of(tmp_path) if of else {"connection_string": request.getfixturevalue("postgresql")}
    one = cls(cls.Spec(**place))
    yield one
    one.close()


def stored(store):
    found = [row for batch in store.read(Table("t", WHOLE, ("id",))) for row in batch.to_pylist()]
    return sorted(((row["id"], row["name"], row["price"]) for row in found), key=repr)


APPENDED = [(0, None, 0.5), (0, None, None), (1, "one", None), (2, "two", 2.5), (3, None, None)]
EXPECTED = {mode: [one for one in APPENDED if one != (0, None, None)] for mode in WriteMode} | {
    WriteMode.APPEND: APPENDED
}


@pytest.mark.parametrize("rows_max", [1, 1000])
@pytest.mark.parametrize(
    ("place", "mode"), [(place, mode) for place in PLACES for mode in WriteMode if place != "files" or mode == "append"]
)
def test_a_column_that_is_met_in_mid_stream_is_stored_with_its_rows(store, mode, rows_max):
    one = job(Growing(*ROWS), store, mode=mode, rows_max=rows_max)
    report = sync(one)
    assert report.tasks[0].error is None
    assert stored(store) == EXPECTED[mode]
    assert sync(one).tasks[0].error is None
    assert stored(store) == EXPECTED[mode]


@pytest.mark.parametrize("cut", [2, 3])
@pytest.mark.parametrize("place", PLACES)
def test_a_read_that_is_resumed_meets_it_again(store, cut):
    source = Growing(*ROWS)
    source.cut = cut
    assert sync(job(source, store, rows_max=1)).tasks[0].error is None
    assert stored(store) == APPENDED


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("cut", [None, 3])
@pytest.mark.parametrize("place", [place for place in PLACES if place != "files"])
def test_a_full_refresh_keeps_a_column_that_it_meets_in_mid_stream(store, cut, killed):
    """Also where it is resumed, by this run or by another one, and what is left has another set of columns."""
    source, kept = Growing(*ROWS[:1]), backend()
    assert sync(job(source, store, mode=WriteMode.OVERWRITE, backend=kept)).exit_code == 0
    source = Growing(*ROWS)
    source.cut, source.killed = cut, killed and cut is not None
    one = job(source, store, mode=WriteMode.OVERWRITE, rows_max=1, refresh=lambda _: True, backend=kept)
    report = sync(one)
    if source.killed:
        assert report.exit_code == 1
        one.refresh = lambda _: False
        report = sync(one)
    assert report.tasks[0].error is None
    assert stored(store) == EXPECTED[WriteMode.OVERWRITE]
