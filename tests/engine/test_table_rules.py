"""What the spec says of single tables and the engine does for every source: columns, write modes, names."""

from dataclasses import replace

import pyarrow as pa
import pytest
from test_engine import Numbers, destination, ids, job

from strandline.destination import WriteMode
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.message import Checkpoint, Complete, Insert, Schema
from strandline.rules import TableRules
from strandline.source import Task
from strandline.table import CQ_ID, Table


@pytest.fixture
def store(request):
    return destination(request.node.nodeid)


def ruled(one, **tables):
    """The job with rules of some tables, by name; ``every`` is those of all."""

    def rules(table):
        return TableRules(**tables.get(table.name, tables.get("every", {})))

    return replace(one, rules=rules, into=[replace(into, rules=rules) for into in one.into])


FIELDS = {"id": pa.int64(), "secret": pa.string(), "name": pa.string(), "secret_too": pa.string(), "more": pa.int64()}


def rows(store):
    """What is stored of ``People``, without nulls."""
    [batch] = store.read(Table("a", pa.schema(FIELDS | {CQ_ID: pa.uuid()}), ("id",)))
    return [{name: value for name, value in row.items() if value is not None} for row in batch.to_pylist()]


class People(Numbers):
    """A table with a secret, which gets another column while it is read."""

    def __init__(self, *, keyed=True, incremental=True, grows=False):
        super().__init__()
        schema = pa.schema([(name, FIELDS[name]) for name in ("id", "secret", "name")])
        self.offered = [
            Table("a", schema, ("id",) if keyed else (), ("id",) if incremental else (), incremental=incremental)
        ]
        self.secret, self.grows = "s", grows

    def read(self, task, reading):
        [table] = task.tables
        first = 1 if reading.cursor is None else reading.cursor["next"]
        for number in range(first, 3):
            values = {"id": number, "secret": self.secret, "name": "n", "secret_too": self.secret, "more": 1}
            if self.grows and number == 2:
                table = replace(self.offered[0], schema=pa.schema(FIELDS))
                yield Schema(table)
            yield Insert("a", pa.RecordBatch.from_pylist([values], table.schema), reread=True)
            yield Checkpoint({"next": number})
        yield Complete("a")
        yield Checkpoint({"next": 2} if table.incremental else None)


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
@pytest.mark.parametrize("grows", [False, True])
def test_columns_that_are_left_out_are_stored_nowhere(store, mode, grows):
    one = ruled(job(People(grows=grows), store, mode=mode), a={"columns": ["*", "-secret*"]})
    assert sync(one).exit_code == sync(one).exit_code == 0
    expected = [{"id": 1, "name": "n"}, {"id": 2, "name": "n"}]
    assert rows(store) == [expected[0], expected[1] | ({"more": 1} if grows else {})]


def test_nor_do_they_count_for_what_a_row_is(store):
    source = People(keyed=False, incremental=False)
    one = ruled(job(source, store, mode=WriteMode.OVERWRITE_DELETE_STALE), a={"columns": ["-secret"]})
    assert sync(one).exit_code == 0
    before = [row[CQ_ID] for row in rows(store)]
    source.secret = "another"
    assert sync(one).exit_code == 0
    assert [row[CQ_ID] for row in rows(store)] == before


def test_other_columns_of_an_incremental_table_need_a_full_refresh(store):
    source = People()
    one = job(source, store, mode=WriteMode.OVERWRITE)
    assert sync(one).exit_code == 0
    narrowed = ruled(one, a={"columns": ["*", "-secret"]})
    report = sync(narrowed)
    assert (report.exit_code, report.tasks[0].rows_read) == (3, 0)
    assert "columns was none when the cursor was made, and is " in report.tasks[0].error.message
    assert sync(replace(narrowed, refresh=lambda _: True)).exit_code == 0
    assert sync(narrowed).exit_code == 0
    assert rows(store) == [{"id": 1, "name": "n"}, {"id": 2, "name": "n"}]
    assert sync(one).exit_code == 3


def test_columns_that_leave_nothing_out_change_nothing(store):
    one = job(People(), store, mode=WriteMode.OVERWRITE)
    assert sync(one).exit_code == sync(ruled(one, a={"columns": ["*"]})).exit_code == 0


def test_a_key_cannot_be_left_out(store):
    report = sync(ruled(job(People(), store), a={"columns": ["name", "-id"]}))
    assert report.exit_code == 2
    assert "leaves out 'id' ('-id'), which is a key of the table" in report.error.message


def test_each_table_has_its_write_mode(store):
    one = ruled(job(Numbers("a", "b", incremental=False), store, mode=WriteMode.OVERWRITE), b={"write_mode": "append"})
    assert [found.mode for found in plan(one)] == [WriteMode.OVERWRITE, WriteMode.APPEND]
    assert "appends all rows again" in plan(one)[1].delivery
    assert sync(one).exit_code == sync(one).exit_code == 0
    assert (len(ids(store)), len(ids(store, "b"))) == (6, 12)


def test_another_write_mode_of_an_incremental_table_needs_a_full_refresh(store):
    one = job(Numbers("a"), store, mode=WriteMode.OVERWRITE)
    assert sync(one).exit_code == 0
    report = sync(ruled(one, a={"write_mode": "append"}))
    assert report.exit_code == 3
    assert "write_mode was overwrite when the cursor was made, and is append" in report.tasks[0].error.message


class Family(Numbers):
    """A table with children that are read with it."""

    def __init__(self):
        super().__init__("orders", "lines", incremental=False)
        self.offered[1] = replace(self.offered[1], parent="orders")

    def tasks(self, tables):
        return [Task("orders", tuple(tables))]

    def read(self, task, reading):
        for table in task.tables:
            yield Insert(table.name, pa.record_batch({"id": pa.array([1], pa.int64())}))
            yield Complete(table.name)
        yield Checkpoint(None)


def test_child_tables_are_written_as_their_parent_is(store):
    one = ruled(job(Family(), store, mode=WriteMode.OVERWRITE), orders={"write_mode": "append"})
    assert sync(one).exit_code == sync(one).exit_code == 0
    assert (len(ids(store, "orders")), len(ids(store, "lines"))) == (2, 2)


def test_they_cannot_be_written_otherwise(store):
    one = ruled(job(Family(), store, mode=WriteMode.OVERWRITE), lines={"write_mode": "append"})
    report = sync(one)
    assert report.exit_code == 2
    assert "several write modes: orders: overwrite, lines: append" in report.error.message


@pytest.mark.parametrize("incremental", [False, True])
def test_another_name_is_neither_a_first_sync_nor_goes_into_another_table(store, incremental):
    one = job(Numbers("a", "b", incremental=incremental), store, mode=WriteMode.OVERWRITE)
    named = ruled(one, every={"names": "shop_{table}"})
    assert sync(one).exit_code == 0
    report = sync(named)
    assert (report.exit_code, sum(task.rows_read for task in report.tasks)) == (3, 0)
    error = report.tasks[0].error
    assert "is stored as 'a', with 6 rows, and would be 'shop_a' by the spec" in error.message
    assert "`name: a`" in error.hint
    assert sync(ruled(one, a={"name": "b"}, b={"name": "a"})).exit_code == 3
    assert sync(replace(named, refresh=lambda _: True)).exit_code == sync(named).exit_code == 0
    assert ids(store, "shop_a") == ids(store) == [0, 1, 2, 3, 4, 5]
