"""Rows of a child table that go with what their parent has: the engine around `Replace`."""

import pyarrow as pa
import pytest

from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.run import sync
from strandline.errors import CursorExpiredError, TaskError
from strandline.message import Checkpoint, Complete, Insert, Replace
from strandline.plugins import load_plugin
from strandline.source import Task
from strandline.table import Table

ORDERS = pa.schema({"id": pa.int64()})


class Shop:
    """Orders with their lines; each sync reads the orders that `changed` names. A line has a number of its own."""

    def __init__(self):
        self.orders, self.changed = {1: {10: "tea", 11: "milk"}, 2: {20: "jam"}}, [1, 2]
        self.key, self.partition, self.selection = pa.int64(), None, ""
        self.incremental, self.expired, self.broken = True, False, None

    @property
    def lines(self):
        schema = pa.schema({"id": pa.int64(), "_cq_source_name": self.key, "product": pa.string()})
        return Table("lines", schema, ("id",), incremental=self.incremental, parent="orders", selection=self.selection)

    def tables(self):
        orders = Table("orders", ORDERS, ("id",), incremental=self.incremental)
        return [orders, self.lines]

    def tasks(self, tables):
        name = "orders" if self.partition is None else f"orders/{self.partition}"
        return [Task(name, tuple(tables), partition=self.partition)]

    def read(self, task, reading):
        if self.expired and reading.cursor is not None:
            self.expired = False
            raise CursorExpiredError("the server was restored")
        changed = self.changed if reading.cursor else list(self.orders)
        yield Insert("orders", pa.record_batch([pa.array(changed, pa.int64())], ORDERS))
        yield self.broken or self.replaced(*changed)
        lines = [(id_, order, product) for order in changed for id_, product in self.orders.get(order, {}).items()]
        columns = list(zip(*lines, strict=True)) or [(), (), ()]
        schema = self.lines.schema
        arrays = [pa.array(values).cast(field.type) for values, field in zip(columns, schema, strict=True)]
        yield Insert("lines", pa.record_batch(arrays, schema=schema))
        yield from (Complete(table.name) for table in task.tables)
        yield Checkpoint({"read": 1} if self.incremental else None)

    def replaced(self, *orders):
        """The column that refers to the order is called as one of ours, so that it is stored under another name."""
        return Replace("lines", pa.record_batch({"_cq_source_name": pa.array(orders, pa.int64()).cast(self.key)}))

    def acknowledge(self, task, cursors):
        pass

    def close(self):
        pass


class World:
    def __init__(self, name):
        cls, keep = load_plugin("destination", "memory"), load_plugin("state_backend", "memory")
        self.shop, self.store, self.backend = Shop(), cls(cls.Spec(name=name)), keep(keep.Spec())
        self.mode = WriteMode.OVERWRITE

    def sync(self, *changed, source="shop", refresh=False, **orders):
        """Sync once the orders have changed; the task's report."""
        self.shop.changed = list(changed)
        job = Job(source, self.shop, [Into("d", self.store, self.mode)], backend=self.backend)
        job.refresh = lambda task: refresh
        self.report = sync(job)
        return self.report.tasks[0]

    def stored(self):
        """The lines that are stored: number and product."""
        return sorted(
            (row["id"], row["product"])
            for batch in self.store.read(self.shop.lines, columns=["id", "product"])
            for row in batch.to_pylist()
        )


@pytest.fixture
def world(request):
    return World(request.node.nodeid)


ALL = [(10, "tea"), (11, "milk"), (20, "jam")]


def test_lines_that_an_order_has_no_more_are_gone(world):
    assert world.sync().rows_deleted == 0
    assert world.stored() == ALL
    world.shop.orders[1] = {11: "cream", 12: "bread"}
    report = world.sync(1)
    assert (report.error, report.rows_deleted, report.rows_written) == (None, 1, 3)
    assert world.stored() == [(11, "cream"), (12, "bread"), (20, "jam")]
    assert world.sync().rows_deleted == 0
    assert world.stored() == [(11, "cream"), (12, "bread"), (20, "jam")]


def test_a_table_that_lost_its_last_line_is_not_taken_for_one_that_was_lost(world):
    world.sync()
    world.shop.orders = {1: {}, 2: {}}
    assert world.sync(1, 2).rows_deleted == 3
    assert world.stored() == []
    world.shop.orders[2] = {21: "rolls"}
    assert (world.sync(2).error, world.report.exit_code) == (None, 0)
    assert world.stored() == [(21, "rolls")]


def test_an_appended_table_keeps_the_lines_of_every_time(world):
    world.mode = WriteMode.APPEND
    world.sync()
    world.shop.orders[1] = {11: "cream"}
    assert (world.sync(1).rows_deleted, world.report.tasks[0].warnings) == (0, [])
    assert world.stored() == [(10, "tea"), (11, "cream"), (11, "milk"), (20, "jam")]


def test_lines_of_another_partition_and_of_another_source_stay(world):
    world.shop.partition = "north"
    world.sync()
    world.shop.partition, world.shop.orders = "south", {1: {90: "salt"}}
    world.sync()
    assert world.stored() == [*ALL, (90, "salt")]
    world.shop.orders = {1: {}}
    assert world.sync(1).rows_deleted == 1
    assert world.stored() == ALL


def test_orders_are_known_by_a_key_that_is_stored_as_text(world):
    """A column that was text stays text: the numbers that come now are compared as texts."""
    world.shop.key = pa.string()
    world.sync()
    world.shop.key, world.shop.orders[1] = pa.int64(), {11: "cream"}
    assert (world.sync(1).error, world.report.tasks[0].rows_deleted) == (None, 1)
    assert world.stored() == [(11, "cream"), (20, "jam")]


def test_a_full_refresh_replaces_lines_too(world):
    world.sync()
    world.shop.orders = {1: {11: "cream"}, 2: {20: "jam"}}
    assert world.sync(refresh=True).error is None
    assert world.stored() == [(11, "cream"), (20, "jam")]


def test_lines_that_another_filter_let_through_are_kept_and_that_is_said(world):
    """A line that is not sent need not be gone: the filter may leave it out."""
    world.shop.incremental = False
    world.sync()
    world.shop.selection, world.shop.orders[1] = "product <> 'tea'", {11: "cream"}
    report = world.sync()
    assert (report.error, report.rows_deleted) == (None, 0)
    assert any("another filter" in warning and "--full-refresh 'lines'" in warning for warning in report.warnings)
    assert world.stored() == [(10, "tea"), (11, "cream"), (20, "jam")]
    assert world.sync(refresh=True).error is None
    world.shop.orders[1] = {12: "bread"}
    assert (world.sync().rows_deleted, world.report.tasks[0].warnings) == (1, [])
    assert world.stored() == [(12, "bread"), (20, "jam")]


def test_the_sync_that_notices_an_expired_cursor_keeps_lines_and_says_so(world):
    world.sync()
    world.shop.expired, world.shop.orders[1] = True, {11: "cream"}
    report = world.sync(1)
    assert (report.error, report.rows_deleted) == (None, 0)
    assert any("--full-refresh 'lines'" in warning for warning in report.warnings)
    assert world.stored() == [(10, "tea"), (11, "cream"), (20, "jam")]
    world.shop.orders[1] = {12: "bread"}
    assert world.sync(1).rows_deleted == 2
    assert world.stored() == [(12, "bread"), (20, "jam")]


WRONG = {
    "another table": Replace("notes", pa.record_batch({"id": [1]})),
    "another column": Replace("lines", pa.record_batch({"order": [1]})),
    "no column": Replace("lines", pa.RecordBatch.from_arrays([], [])),
    "another type": Replace("lines", pa.record_batch({"_cq_source_name": ["1"]})),
    "a null": Replace("lines", pa.record_batch({"_cq_source_name": pa.array([1, None], pa.int64())})),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_orders_that_do_not_fit_their_lines_fail_the_table(world, wrong):
    world.sync()
    world.shop.broken, world.shop.orders = WRONG[wrong], {1: {}}
    assert isinstance(world.sync(1).error, TaskError)
    assert world.stored() == ALL


def test_lines_that_are_not_whole_fail_where_they_replace_others(world):
    class Partial(Shop):
        def read(self, task, reading):
            for message in super().read(task, reading):
                if isinstance(message, Insert) and message.table == "lines":
                    yield Insert("lines", message.batch.drop_columns(["product"]))
                else:
                    yield message

    world.sync()
    world.shop = Partial()
    assert isinstance(world.sync(1).error, TaskError)
    assert world.stored() == ALL
