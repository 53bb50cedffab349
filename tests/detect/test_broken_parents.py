"""Sources whose rows have children: the suite finds those that lose children, or let a reader see a parent without them."""

import pyarrow as pa
import pytest

from strandline.errors import TaskError
from strandline.message import Checkpoint, Complete, Insert, Replace
from strandline.source import Task
from strandline.table import Table
from strandline.testing.source import SourceConformance

PARENTS, CHILDREN = pa.schema({"id": pa.int64()}), pa.schema({"parent": pa.int64(), "name": pa.string()})
ORDERS = Table("orders", PARENTS, ("id",), incremental=True)
LINES = Table("lines", CHILDREN, ("parent", "name"), incremental=True, parent="orders")


class Sound:
    """Two orders, each with two lines, in two pages; a second sync finds nothing."""

    def tables(self):
        return [ORDERS, LINES]

    def tasks(self, tables):
        return [Task("orders", tuple(tables))]

    def read(self, task, reading):
        at = 0 if reading.cursor is None else self.position(reading.cursor)
        for order in range(at, 2):
            yield from self.page(order)
            yield Checkpoint({"next": order + 1})
        yield from self.end()
        yield from (Complete(table.name) for table in task.tables)
        yield Checkpoint({"next": 2})

    def position(self, cursor):
        if cursor.keys() != {"next"}:
            raise TaskError("not a cursor of this source", hint="--full-refresh")
        return cursor["next"]

    def page(self, order):
        yield Insert("orders", pa.record_batch([[order]], PARENTS))
        yield self.replaced(order)
        yield from self.lines(order)

    def replaced(self, *orders):
        return Replace("lines", pa.record_batch({"parent": pa.array(orders, pa.int64())}))

    def lines(self, order):
        for name in ("tea", "milk"):
            yield Insert("lines", pa.record_batch([[order], [name]], CHILDREN))

    def end(self):
        return ()

    def acknowledge(self, task, cursors):
        pass

    def close(self):
        pass


class SendsTheLinesFirst(Sound):
    def page(self, order):
        yield from self.lines(order)
        yield self.replaced(order)


class ChecksBetweenAnOrderAndItsLines(Sound):
    def page(self, order):
        first, second = self.lines(order)
        yield from (self.replaced(order), first, Checkpoint({"next": order}), second)


class SendsSomeColumns(Sound):
    def lines(self, order):
        for one in super().lines(order):
            yield Insert("lines", one.batch.drop_columns(["name"]))


class ReplacesWhatItDidNotRead(Sound):
    def end(self):
        yield self.replaced(0, 1)


BROKEN = {
    SendsTheLinesFirst: ("P1", "children come before what replaces those of their parent", "messages_keep_the_grammar"),
    ChecksBetweenAnOrderAndItsLines: ("P2", "a parent is committed without its children", "messages_keep_the_grammar"),
    SendsSomeColumns: ("P31", "children that replace others lack columns", "messages_keep_the_grammar"),
    ReplacesWhatItDidNotRead: (
        "P1",
        "children are replaced whose parents were not read",
        "no_child_is_lost_where_a_read_resumes_or_a_second_one_follows",
    ),
}
DETECTED = [
    pytest.param(cls, f"test_{case}", marks=pytest.mark.detects(promise, what, by=f"test_{case}"), id=cls.__name__)
    for cls, (promise, what, case) in BROKEN.items()
]


class TestSound(SourceConformance):
    @pytest.fixture
    def make_source(self):
        return Sound


@pytest.mark.parametrize(("cls", "case"), DETECTED)
def test_a_broken_source_is_noticed(cls, case):
    suite = SourceConformance()
    with pytest.raises(AssertionError):
        getattr(suite, case)(make_source=cls, reading=SourceConformance.reading.__wrapped__(suite))
