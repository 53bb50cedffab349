from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline.connectors.memory.source import MemoryStore
from strandline.errors import RetryableError, TaskError, UsageError
from strandline.message import Checkpoint, Complete, Delete, Failure, Insert, Present, Schema, Truncate
from strandline.plugins import load_plugin
from strandline.reading import Reading
from strandline.table import Table

READING = Reading(None, datetime.now(UTC))
SCHEMA = pa.schema([("id", pa.int64()), ("at", pa.int64()), ("what", pa.string())])
BY_KEY = Table("orders", SCHEMA, primary_key=("id",), incremental_key=("at",), incremental=True)
BY_CHANGE = Table("orders", SCHEMA, primary_key=("id",), incremental=True)
IN_FULL = Table("orders", SCHEMA, primary_key=("id",))


@pytest.fixture
def store(request):
    yield MemoryStore.named(request.node.name)
    MemoryStore.forget(request.node.name)


@pytest.fixture
def source(request, store):
    cls = load_plugin("source", "memory")
    return lambda **settings: cls(cls.Spec(store=request.node.name, **settings))


def row(key, at, what="x"):
    return {"id": key, "at": at, "what": what}


def sync(source, cursor=None, *, until=None, reading=READING):
    """One pass of the only task: its messages, and the cursor it leaves; cut after the checkpoint ``until``."""
    [task] = source.tasks(source.tables())
    messages, checkpoints = [], 0
    for message in source.read(task, replace(reading, cursor=cursor)):
        messages.append(message)
        if isinstance(message, Checkpoint):
            cursor = message.cursor
            checkpoints += 1
            if checkpoints == until:
                break
    return messages, cursor


def ids(messages):
    return [key for message in messages if isinstance(message, Insert) for key in message.batch["id"].to_pylist()]


def reread_ids(messages):
    return ids(message for message in messages if isinstance(message, Insert) and message.reread)


def test_a_key_table_reads_what_is_new_and_reads_its_border_again(store, source):
    store.create(BY_KEY)
    store.upsert("orders", row(1, 1), row(2, 2), row(3, 2))
    first, cursor = sync(source(batch_rows=1))
    assert ids(first) == [1, 2, 3]
    assert reread_ids(first) == [2, 3], "they will be read again, so they are marked"
    store.upsert("orders", row(4, 2), row(5, 3), row(6, 4))
    second, cursor = sync(source(batch_rows=1), cursor)
    assert ids(second) == [2, 3, 4, 5, 6]
    assert reread_ids(second) == [2, 3, 4, 6]
    third, _ = sync(source(), cursor)
    assert ids(third) == [6]


def test_a_transaction_that_commits_late_is_delivered(store, source):
    store.create(BY_KEY)
    store.now = 10
    late = store.begin()
    late.upsert("orders", row(1, 10))
    store.now = 20
    store.upsert("orders", row(2, 20))
    first, cursor = sync(source())
    store.now = 30
    store.upsert("orders", row(3, 30))
    second, cursor = sync(source(batch_rows=1), cursor)
    late.commit()
    third, _ = sync(source(batch_rows=1), cursor)
    assert (ids(first), ids(second), ids(third)) == ([2], [2, 3], [1, 2, 3])
    assert reread_ids(third) == [1, 2, 3], "older than what was delivered, so it might have been"


def test_a_transaction_that_commits_in_the_middle_of_a_pass_is_delivered(store, source):
    store.create(BY_KEY)
    store.now = 10
    late = store.begin()
    late.upsert("orders", row(1, 10))
    store.now = 20
    store.upsert("orders", row(2, 20), row(3, 20))
    first, cursor = sync(source(batch_rows=1), until=1)
    late.commit()
    store.now = 30
    rest, cursor = sync(source(batch_rows=1), cursor)
    following, _ = sync(source(batch_rows=1), cursor)
    assert (ids(first), ids(rest), ids(following)) == ([2], [3], [1, 2, 3])


def test_a_row_dated_in_the_future_holds_nothing_back(store, source):
    store.create(BY_KEY)
    store.now = 10
    store.upsert("orders", row(1, 9999))
    first, cursor = sync(source())
    store.now = 20
    store.upsert("orders", row(2, 15))
    second, _ = sync(source(), cursor)
    assert (ids(first), ids(second)) == ([1], [2, 1])


def test_null_keys_are_read_at_every_sync(store, source):
    store.create(BY_KEY)
    store.upsert("orders", row(1, 5))
    _, cursor = sync(source())
    store.upsert("orders", row(2, None), row(3, 6))
    second, cursor = sync(source(batch_rows=1), cursor)
    assert (ids(second), reread_ids(second)) == ([2, 1, 3], [2, 1, 3])
    assert ids(sync(source(), cursor)[0]) == [2, 3]


def test_a_row_that_changes_within_its_stamp_is_delivered_again(store, source):
    store.create(BY_KEY)
    store.now = 5
    store.upsert("orders", row(1, 5, "before"), row(2, 5))
    _, cursor = sync(source())
    store.upsert("orders", row(1, 5, "after"))
    messages, _ = sync(source(), cursor)
    assert {"id": 1, "at": 5, "what": "after"} in [
        each for m in messages if isinstance(m, Insert) for each in m.batch.to_pylist()
    ]


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        (pa.timestamp("us", tz="UTC"), datetime(2024, 1, 1, 1, 2, 3, 4, UTC), datetime(2024, 1, 2, tzinfo=UTC)),
        (pa.timestamp("us"), datetime(2024, 1, 1, 1, 2, 3, 4), datetime(2024, 1, 2)),  # noqa: DTZ001 a column without a zone
        (pa.date32(), date(2024, 1, 1), date(2024, 1, 2)),
        (pa.string(), "a", "b"),
    ],
)
def test_keys_of_other_types_come_back_from_a_cursor(store, source, kind, first, second):
    schema = pa.schema([("id", pa.int64()), ("at", kind)])
    store.create(Table("orders", schema, primary_key=("id",), incremental_key=("at",), incremental=True))
    store.now = first
    store.upsert("orders", {"id": 1, "at": first}, {"id": 2, "at": None})
    _, middle = sync(source(batch_rows=1), until=1)
    rest, cursor = sync(source(batch_rows=1), middle)
    store.now = second
    store.upsert("orders", {"id": 3, "at": second})
    assert (ids(rest), ids(sync(source(), cursor)[0])) == ([1], [2, 1, 3])


def test_a_table_without_a_key_is_read_by_change_and_never_again(store, source):
    store.create(BY_CHANGE)
    store.upsert("orders", row(1, 1), row(2, 2))
    late = store.begin()
    late.upsert("orders", row(3, 0))
    first, cursor = sync(source())
    store.upsert("orders", row(1, None))
    late.commit()
    second, cursor = sync(source(batch_rows=1), cursor)
    assert (ids(first), ids(second)) == ([1, 2], [1, 3])
    assert reread_ids([*first, *second]) == []
    assert [type(message) for message in sync(source(), cursor)[0]] == [Complete, Checkpoint]


def test_a_feed_tells_deletes_in_their_order(store, source):
    store.create(BY_CHANGE)
    store.upsert("orders", row(1, 1), row(2, 1))
    _, cursor = sync(source(deletes="feed"))
    store.delete("orders", {"id": 1}, {"id": 7})
    store.upsert("orders", row(3, 1))
    store.truncate("orders")
    store.upsert("orders", row(1, 2))
    messages, _ = sync(source(deletes="feed"), cursor)
    told = [message for message in messages if not isinstance(message, Checkpoint)]
    assert [type(message) for message in told] == [Delete, Truncate, Insert, Complete]
    assert told[0].keys.to_pylist() == [{"id": 1}]
    assert told[0].keys.schema == pa.schema([("id", pa.int64())])
    assert ids(told) == [1]


@pytest.mark.parametrize("table", [BY_KEY, IN_FULL])
def test_a_feed_needs_changes(store, source, table):
    store.create(table)
    with pytest.raises(UsageError, match="feed"):
        source(deletes="feed").tables()


@pytest.mark.parametrize("table", [BY_KEY, BY_CHANGE, IN_FULL])
def test_a_sweep_sends_all_keys_after_the_rows_and_before_the_end(store, source, table):
    store.create(table)
    store.upsert("orders", *(row(key, key) for key in range(5)))
    _, cursor = sync(source(deletes="sweep"))
    store.delete("orders", {"id": 2})
    messages, _ = sync(source(deletes="sweep", batch_rows=2), cursor)
    kinds = [type(message) for message in messages]
    start = kinds.index(Present)
    assert kinds[start:] == [Present, Present, Complete, Checkpoint]
    assert Insert not in kinds[start:]
    assert [key for m in messages[start:-2] for key in m.keys["id"].to_pylist()] == [0, 1, 3, 4]


def test_a_full_table_begins_again_and_resumes_by_row(store, source):
    store.create(IN_FULL)
    store.upsert("orders", *(row(key, 0) for key in range(4)))
    first, cursor = sync(source(batch_rows=1), until=2)
    store.upsert("orders", row(0, 9), row(4, 9))
    rest, end = sync(source(batch_rows=1), cursor)
    assert (ids(first), ids(rest), end) == ([0, 1], [2, 3, 4], None)


def test_one_task_reads_many_tables_and_completes_each_once(store, source):
    for name, table in (("a", BY_KEY), ("b", IN_FULL), ("c", BY_CHANGE)):
        store.create(table.named(name))
        store.upsert(name, row(1, 1), row(2, 2))
    whole, cursor = sync(source(one_task=True, batch_rows=1))
    assert [message.table for message in whole if isinstance(message, Complete)] == ["a", "b", "c"]
    for until in range(1, len([message for message in whole if isinstance(message, Checkpoint)])):
        first, middle = sync(source(one_task=True, batch_rows=1), until=until)
        rest, end = sync(source(one_task=True, batch_rows=1), middle)
        assert [*first, *rest] == whole
        assert end == cursor
    again, _ = sync(source(one_task=True), cursor)
    assert [(message.table, message.batch["id"].to_pylist()) for message in again if isinstance(message, Insert)] == [
        ("a", [2]),
        ("b", [1, 2]),
    ]


def test_equal_rows_without_a_primary_key_are_several_rows(store, source):
    store.create(Table("orders", SCHEMA, incremental_key=("at",), incremental=True))
    store.upsert("orders", row(1, 1), row(1, 1))
    messages, cursor = sync(source(batch_rows=1))
    assert ids(messages) == [1, 1]
    store.upsert("orders", row(1, 1))
    assert ids(sync(source(), cursor)[0]) == [1, 1, 1]


def test_a_table_that_changed_since_it_was_asked_for_says_so(store, source):
    store.create(BY_CHANGE)
    store.upsert("orders", row(1, 1))
    one = source()
    [task] = one.tasks(one.tables())
    wider = Table("orders", SCHEMA.append(pa.field("more", pa.string())), primary_key=("id",), incremental=True)
    store.create(wider)
    first, second, *_ = one.read(task, READING)
    assert isinstance(first, Schema)
    assert first.table.schema == wider.schema
    assert second.batch.to_pylist() == [row(1, 1) | {"more": None}]


def test_a_table_that_cannot_be_read_leaves_the_others_alone(store, source):
    store.create(BY_CHANGE.named("a"))
    store.create(BY_CHANGE.named("b"))
    store.upsert("b", row(1, 1))
    store.failures["a"] = TaskError("no permission")
    messages, _ = sync(source(one_task=True))
    assert messages[0] == Failure("a", store.failures["a"])
    assert ids(messages) == [1]
    assert [message.table for message in messages if isinstance(message, Complete)] == ["b"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_read_fails_where_it_was_told_to_and_as_often(store, source, times):
    store.create(BY_CHANGE)
    store.upsert("orders", *(row(key, 0) for key in range(3)))
    store.fail_at(3, times=times)
    one = source(batch_rows=1)
    [task] = one.tasks(one.tables())
    for _ in range(times):
        messages = one.read(task, READING)
        assert ids([next(messages), next(messages), next(messages)]) == [0, 1]
        with pytest.raises(RetryableError):
            next(messages)
    assert ids(sync(one)[0]) == [0, 1, 2]


def test_a_hook_changes_rows_while_they_are_read(store, source):
    store.create(BY_CHANGE)
    store.upsert("orders", row(1, 0), row(2, 0))
    store.on_message = lambda task, number: store.upsert(task, row(2, 1)) if number == 1 else None
    messages, cursor = sync(source(batch_rows=1))
    assert ids(messages) == [1, 2], "as they were when the read began"
    assert [m.batch.to_pylist() for m in sync(source(), cursor)[0] if isinstance(m, Insert)] == [[row(2, 1)]]


def test_batches_keep_to_their_bounds(store, source):
    store.create(BY_CHANGE)
    store.upsert("orders", *(row(key, 0, "x" * 100) for key in range(50)))
    reading = Reading(None, datetime.now(UTC), batch_rows=20, batch_bytes=1000)
    batches = [m.batch for m in sync(source(), reading=reading)[0] if isinstance(m, Insert)]
    assert sum(batch.num_rows for batch in batches) == 50
    assert all(batch.nbytes <= 1000 for batch in batches)


def test_what_is_wrong_with_a_change_is_said_at_once(store):
    store.create(BY_KEY)
    with pytest.raises(UsageError, match="missing"):
        store.upsert("orders", {"id": 1, "missing": 1})
    with pytest.raises(UsageError, match="nowhere"):
        store.upsert("nowhere", {"id": 1})
    with pytest.raises(UsageError, match="primary key"):
        store.delete("orders", {"at": 1})
    assert store.rows("orders").num_rows == 0


def test_a_transaction_that_raises_changes_nothing(store):
    store.create(BY_KEY)
    store.now = 1

    def fail():
        with store.begin() as transaction:
            transaction.upsert("orders", row(1, 1))
            transaction.upsert("orders", {"missing": 1})

    with pytest.raises(UsageError):
        fail()
    store.now = 2
    assert store.rows("orders").num_rows == 0
    assert store.horizon == 2, "nothing is left open"


class Mirror:
    """What a destination that overwrites would hold."""

    def __init__(self, source):
        self.source, self.cursor, self.rows, self.times, self.unmarked = source, None, {}, Counter(), set()

    def sync(self, until=None):
        messages, self.cursor = sync(self.source, self.cursor, until=until)
        for message in messages:
            if isinstance(message, Insert):
                rows = message.batch.to_pylist()
                self.rows |= {each["id"]: each for each in rows}
                self.times.update(each["what"] for each in rows)
                self.unmarked |= {each["what"] for each in rows if not message.reread}


ACTIONS = st.tuples(
    st.sampled_from(["upsert", "begin", "commit", "tick", "sync"]), st.integers(0, 4), st.integers(0, 3)
)


@given(actions=st.lists(ACTIONS, max_size=25), table=st.sampled_from([BY_KEY, BY_CHANGE]))
def test_no_row_version_is_lost_whatever_happens_between_syncs(actions, table):
    """Rows are stamped by the clock when their transaction begins, as a database does; some with null or the future."""
    MemoryStore.forget("hypothesis")
    store = MemoryStore.named("hypothesis")
    store.create(table)
    store.now = 0
    cls = load_plugin("source", "memory")
    mirror, opened = Mirror(cls(cls.Spec(store="hypothesis", batch_rows=2))), []
    for number, (action, key, extra) in enumerate([*actions, ("commit", 0, 0)]):
        if action == "begin":
            opened.append(store.begin())
            opened[-1].upsert("orders", row(key, opened[-1].stamp, f"late {number}"))
        elif action == "commit" and opened:
            opened.pop(key % len(opened)).commit()
        elif action == "upsert":
            store.upsert("orders", row(key, [store.now, None, store.now + 2, store.now][extra], str(number)))
        elif action == "tick":
            store.now += extra
        elif action == "sync":
            mirror.sync(until=extra or None)
    for transaction in opened:
        transaction.commit()
    mirror.sync()  # the end of a pass that was cut, or one that finds what was committed last
    mirror.sync()
    assert sorted(mirror.rows.values(), key=str) == sorted(store.rows("orders").to_pylist(), key=str)
    assert {mirror.times[what] for what in mirror.unmarked} <= {1}, (
        "what is not marked is delivered once and never again"
    )
