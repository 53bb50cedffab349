"""Streams of every kind pass the suite of sources, and say what is wrong with a stream that is none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from strandline.connectors.pages import Child, GrewError, Mark, Opened, Shape, Stream
from strandline.errors import TaskError
from strandline.message import Checkpoint, Complete, Insert, Notice, Replace, Schema
from strandline.reading import Reading
from strandline.source import Task
from strandline.table import Guarantee
from strandline.testing.source import SourceConformance

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
READING = Reading(None, NOW)
GUARANTEE = Guarantee("settled (server clock)", "what the API changes without a new stamp")


class OneStream:
    """A source of one stream, for tests."""

    def __init__(self, opened):
        self.opened = opened

    def tables(self):
        return self.opened.tables()

    def tasks(self, tables):
        return [Task(self.opened.stream.name, tuple(tables))] if tables else []

    def read(self, task, reading):
        return self.opened.read(task, reading)

    def acknowledge(self, task, cursors):
        pass

    def close(self):
        self.opened.close()


def at(minutes):
    return (NOW + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def row(number, minutes, **more):
    return {"id": number, "at": at(minutes), "name": f"n{number}"} | more


def stream(name="items", **settings):
    return Stream(name, **({"now": lambda: NOW, "guarantee": GUARANTEE} | settings))


def pages(rows, size=2):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def since(rows, cursor, key="at"):
    return [one for one in rows if cursor is None or one[key] is None or datetime.fromisoformat(one[key]) >= cursor]


def source(rows, *, size=2, **settings):
    by_key = "incremental_key" in settings
    return OneStream(
        Opened(stream(**settings), lambda _: lambda cursor: pages(since(rows, cursor) if by_key else rows, size))
    )


def read(one, cursor=None, **reading):
    [task] = one.tasks(one.tables())
    return list(one.read(task, replace(READING, cursor=cursor, **reading)))


def ids(messages, **marked):
    return [
        key
        for one in messages
        if isinstance(one, Insert) and (not marked or one.reread is marked["reread"])
        for key in one.batch["id"].to_pylist()
    ]


def last(messages):
    return [one.cursor for one in messages if isinstance(one, Checkpoint)][-1]


class Conformance(SourceConformance):
    SETTINGS: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def rows(self):
        return [row(number, number // 3 - 20) for number in range(20)]

    @pytest.fixture
    def make_source(self, rows):
        return lambda: source(rows, primary_key=("id",), **self.SETTINGS)


class TestUnsorted(Conformance):
    SETTINGS: ClassVar[dict[str, Any]] = {"incremental_key": "at"}

    @pytest.fixture
    def rows(self):
        found = [row(number, number // 3 - 20) for number in range(20)]
        return [*reversed(found), row(20, 7), row(21, 0) | {"at": None}]

    @pytest.fixture
    def change(self, rows):
        return lambda: rows.extend([row(3, 1, name="changed"), row(30, 1), row(31, 9)])


class TestSortedWithListsAsTables(Conformance):
    SETTINGS: ClassVar[dict[str, Any]] = {"incremental_key": "at", "sorted": True, "shape": Shape(lists="tables")}

    @pytest.fixture
    def rows(self):
        return [row(n, n // 3 - 20, parts=[{"sku": f"s{n}", "n": one} for one in range(n % 3)]) for n in range(12)]

    @pytest.fixture
    def change(self, rows):
        parts = [{"sku": "s", "n": 0}]
        return lambda: rows.extend(
            [row(3, -2, name="changed", parts=parts), row(30, -1, parts=[]), row(32, 9, parts=parts)]
        )


class TestWithMarks(Conformance):
    @pytest.fixture
    def make_source(self, rows):
        def fetch(mark):
            start = mark["row"] if mark else 0
            for end in range(start + 2, len(rows) + 2, 2):
                yield rows[end - 2 : end]
                yield Mark({"row": min(end, len(rows))})

        return lambda: OneStream(Opened(stream(marks=True), lambda _: fetch))

    @pytest.fixture
    def change(self, rows):
        return lambda: rows.extend(row(number, 0) for number in range(40, 47))


class TestWithChildren(Conformance):
    @pytest.fixture
    def make_source(self, rows):
        def open_():
            of = Stream(
                "parts", ("item_id", "position"), parent="items", guarantee=GUARANTEE, declared=PARTS, closed=True
            )
            child = Child(
                of, of.columns(), lambda item: [[{"sku": f"s{item['id']}"}] * (item["id"] % 3)], {"item_id": "id"}, 2
            )
            opened = Opened(stream(primary_key=("id",)), lambda _: lambda _: pages(rows), [child])
            return OneStream(opened)

        return open_


PARTS = pa.schema([("item_id", pa.int64()), ("position", pa.int64()), ("sku", pa.string())])


# cursors -------------------------------------------------------------------------------------------------------------
def test_the_cursor_is_the_greatest_value_below_the_moment_before_the_first_request():
    rows = [row(1, -5), row(2, 3), row(3, -9)]
    assert last(read(source(rows, incremental_key="at")))["since"] == "2026-06-01T12:00:00.000000Z"
    assert last(read(source([*rows[:1], rows[2]], incremental_key="at")))["since"] == "2026-06-01T11:55:00.000000Z"


def test_a_lag_keeps_the_cursor_back_and_marks_what_comes_again():
    messages = read(source([row(1, -9), row(2, -3), row(3, -20)], incremental_key="at", lag=timedelta(minutes=5)))
    assert last(messages)["since"] == "2026-06-01T11:55:00.000000Z"
    assert set(ids(messages, reread=True)) == {2, 1}
    assert ids(messages, reread=False) == [3]


def test_ids_are_a_cursor_without_a_bound_and_times_as_numbers_have_one():
    def cursor(*values):
        rows = [{"id": n, "at": value} for n, value in enumerate(values)]
        one = OneStream(Opened(stream(incremental_key="at"), lambda _: lambda _: [rows]))
        return last(read(one))["since"]

    now_s = int(NOW.timestamp())
    assert cursor(7, 900, 30) == "900"
    assert cursor(now_s - 10, now_s + 10) == str(now_s)
    assert cursor("2026-06-01 11:00:00.1234567", "2031-01-01 00:00:00.1234567") == "2026-06-01 12:00:00"


def test_what_was_delivered_beyond_a_cursor_that_was_held_back_is_marked_in_the_next_pass():
    """Its clock goes on between two passes, so that these rows lie below the next bound."""
    rows, settings = (
        [row(1, -9), row(2, -3), row(3, 0) | {"at": None}],
        {"incremental_key": "at", "lag": timedelta(minutes=5)},
    )
    first = read(source(rows, **settings))
    assert sorted(ids(first, reread=True)) == [1, 2, 3]
    rows += [row(4, -4), row(5, -2), row(6, 50)]
    cursor = last(first)
    later = read(source(rows, now=lambda: NOW + timedelta(hours=1), **settings), cursor)
    assert sorted(ids(later, reread=True)) == [2, 3, 4, 6]
    assert ids(later, reread=False) == [5]
    older = {name: value for name, value in cursor.items() if name != "seen"}
    later = read(source(rows, now=lambda: NOW + timedelta(hours=1), **settings), older)
    assert ids(later, reread=False) == []


def test_times_in_nanoseconds_have_a_bound_within_the_lag_and_large_ids_have_none():
    def cursor(*values, lag=0):
        rows = [{"id": n, "at": value} for n, value in enumerate(values)]
        settings = {"incremental_key": "at", "lag": timedelta(seconds=lag)}
        messages = read(OneStream(Opened(stream(**settings), lambda _: lambda _: [rows])))
        return last(messages)["since"], sorted(ids(messages, reread=True))

    now_s = int(NOW.timestamp())
    assert cursor((now_s - 10) * 10**9, lag=300) == (f"{now_s - 300}000000000", [0])
    assert cursor((now_s - 10) * 10**9, (now_s + 90) * 10**9) == (f"{now_s}000000000", [0, 1])
    assert cursor(3 * 10**18, 4 * 10**18) == ("4000000000000000000", [0, 1])


def test_a_text_behind_all_times_does_not_take_the_cursor_past_the_clock():
    rows = [{"id": 1, "at": "2026-06-01T11:00:00Z"}, {"id": 2, "at": "pending"}]
    messages = read(OneStream(Opened(stream(incremental_key="at"), lambda _: lambda _: [rows])))
    assert last(messages)["since"] == "2026-06-01T12:00:00"
    assert 2 in ids(messages, reread=True)


def test_the_function_is_given_the_value_in_the_type_of_the_column():
    given = []

    def fetch(cursor):
        given.append(cursor)
        return [[row(1, -5)]]

    def one():
        return OneStream(Opened(stream(incremental_key="at"), lambda _: fetch))

    read(one(), last(read(one())))
    assert given == [None, None, NOW - timedelta(minutes=5)]  # the second one has looked at the first page


def test_an_unsorted_stream_that_dies_in_the_middle_moves_no_cursor():
    def fetch(_):
        yield [row(2, -1)]
        raise TaskError("the API is gone")

    one = OneStream(Opened(stream(incremental_key="at"), lambda _: fetch))
    [task] = one.tasks(one.tables())
    messages = one.read(task, replace(READING, batch_rows=1))
    found = []
    with pytest.raises(TaskError, match="gone"):
        found.extend(messages)
    assert not any(isinstance(message, Checkpoint) for message in found)


@pytest.mark.parametrize("second", [row(2, -9), row(2, 0) | {"at": None}])
def test_a_stream_that_is_declared_sorted_and_is_not_fails(second):
    one = source([row(1, -5), row(1, -4), second], incremental_key="at", sorted=True, size=1)
    with pytest.raises(TaskError, match="declared sorted") as caught:
        read(one, batch_rows=1)
    assert "unsorted" in caught.value.hint


def test_rows_older_than_the_cursor_are_told_where_they_are_stored_again():
    cursor = last(read(source([row(1, -5)], incremental_key="at")))
    one = OneStream(Opened(stream(incremental_key="at"), lambda _: lambda _: [[row(1, -5), row(0, -50)]]))
    [notice] = [each for each in read(one, cursor, absorbs=False) if isinstance(each, Notice)]
    assert "1 rows are older" in notice.text
    one.opened.stream = replace(one.opened.stream, drops_older=True)
    assert ids(read(one, cursor)) == [1]


def test_two_rows_of_one_key_keep_their_order():
    rows = [row(1, 0) | {"at": None}, row(1, -5), row(1, -9)]
    assert [
        key
        for one in read(source(rows, primary_key=("id",), incremental_key="at", size=9))
        if isinstance(one, Insert)
        for key in one.batch["at"].to_pylist()
    ] == [None, NOW - timedelta(minutes=5), NOW - timedelta(minutes=9)]


# schemas -------------------------------------------------------------------------------------------------------------
def test_the_pages_of_the_first_look_are_not_fetched_again():
    calls = []

    def fetch(_):
        for page in pages([row(number, number) for number in range(6)]):
            calls.append(len(page))
            yield page

    one = OneStream(Opened(stream(), lambda _: fetch))
    assert ids(read(one)) == [0, 1, 2, 3, 4, 5]
    assert calls == [2, 2, 2]


def test_a_first_page_that_can_be_read_only_once_loses_no_row():
    def fetch(_):
        for start in range(0, 4, 2):
            batch = pa.record_batch({"id": [start, start + 1]})
            yield pa.RecordBatchReader.from_batches(batch.schema, [batch])

    assert ids(read(OneStream(Opened(stream(), lambda _: fetch)))) == [0, 1, 2, 3]


def test_a_new_field_behind_a_checkpoint_is_a_schema_in_mid_stream():
    rows = [row(1, -9), row(2, -8), row(3, -7, note="new"), row(4, -6)]
    messages = read(source(rows, incremental_key="at", sorted=True, size=1), batch_rows=1)
    [told] = [one.table for one in messages if isinstance(one, Schema)]
    assert told.schema.field("note").type == pa.string()
    assert ids(messages) == [1, 2, 3, 4]
    place = next(number for number, one in enumerate(messages) if isinstance(one, Schema))
    assert isinstance(messages[place - 1], Checkpoint)
    assert last(messages)["columns"]["note"] == "string"


def test_a_new_field_behind_rows_without_a_checkpoint_begins_the_pass_again_with_every_column_first():
    rows = [
        row(1, -9),
        row(2, -8),
        row(3, -7, note="new", big=1.5),
        row(4, -6, user={"id": 1}),
        row(5, -6, user={"n": "x"}),
    ]
    one = source(rows, incremental_key="at", size=1)
    [task] = one.tasks(one.tables())
    few = replace(READING, batch_rows=1)
    with pytest.raises(GrewError):
        list(one.read(task, few))
    messages = list(one.read(task, replace(few, resumed=True)))
    assert isinstance(messages[0], Schema)
    assert sum(isinstance(message, Schema) for message in messages) == 1
    schema = messages[0].table.schema
    assert schema.names == ["id", "at", "name", "note", "big", "user"]
    assert all(message.batch.schema.equals(schema) for message in messages if isinstance(message, Insert))
    assert sorted(ids(messages)) == [1, 2, 3, 4, 5]


def test_a_column_that_no_record_of_a_pass_has_is_null_and_not_left_as_it_was():
    rows = [row(1, -9, note="x"), row(2, -5)]
    cursor = last(read(source(rows, incremental_key="at")))
    messages = read(source([row(1, -1)], incremental_key="at"), cursor)
    [batch] = [one.batch for one in messages if isinstance(one, Insert)]
    assert batch["note"].to_pylist() == [None]


def test_a_column_that_is_stored_in_its_former_type_is_sent_so():
    one = source([row(1, -9, n=3)])
    assert one.tables()[0].former == {
        "n": pa.float64(),
        "at": pa.string(),
        "id": pa.float64(),
    }
    [insert] = [each for each in read(one, former={"items": ("at", "n")}) if isinstance(each, Insert)]
    assert insert.batch.to_pylist() == [{"id": 1, "at": at(-9), "name": "n1", "n": 3.0}]


def test_an_empty_stream_without_declared_columns_is_unreadable_and_no_other_suffers():
    [table] = source([]).tables()
    assert "no record" in table.unreadable.message
    assert not table.never_left_out
    declared = source([], declared=pa.schema([("id", pa.int64())]))
    messages = read(declared)
    assert [type(one) for one in messages] == [Complete, Checkpoint]


def test_a_stream_whose_records_do_not_fit_is_never_left_out():
    [table] = source([row(1, -9, price=1), row(2, -8, price=True)]).tables()
    assert "column 'price'" in table.unreadable.message
    assert table.never_left_out


def test_a_parent_that_comes_twice_has_the_children_of_its_last_record():
    rows = [row(1, -9, tags=["a", "b"]), row(2, -9, tags=["c"]), row(1, -8, tags=["d"])]
    found: dict[int, list[str]] = {}
    for each in read(source(rows, primary_key=("id",), shape=Shape(lists="tables"), size=9)):
        if isinstance(each, Replace):
            found |= {one["items_id"]: [] for one in each.keys.to_pylist()}
        elif isinstance(each, Insert) and each.table == "items_tags":
            for one in each.batch.to_pylist():
                found[one["items_id"]].append(one["value"])
    assert found == {1: ["d"], 2: ["c"]}


def with_children(rows, fetch, refers, **settings):
    child = stream(name="notes", primary_key=("note",), parent="items")
    notes = Child(child, child.columns(), fetch, refers)
    return OneStream(Opened(stream(primary_key=("id",), **settings), lambda _: lambda _: [rows], [notes]))


def test_children_that_refer_to_two_parents_by_one_value_fail():
    rows = [row(1, -9, project="x"), row(2, -9, project="x")]
    with pytest.raises(TaskError, match="two records of items have"):
        read(with_children(rows, lambda one: [[{"note": one["id"]}]], {"project": "project"}))


def test_a_column_of_children_that_is_stored_in_its_former_type_is_sent_so():
    one = with_children([row(1, -9)], lambda _: [[{"note": 1, "price": 2}]], {"items_id": "id"})
    [batch] = [
        each.batch
        for each in read(one, former={"notes": ("price",)})
        if getattr(each, "table", "") == "notes" and isinstance(each, Insert)
    ]
    assert batch.schema.field("price").type == pa.float64()


LISTS: dict[str, Any] = {"primary_key": ("id",), "shape": Shape(lists="tables")}


@pytest.mark.parametrize("more", [{"tags": []}, {"tags": None}, {}])
def test_a_list_that_is_a_table_is_one_where_the_first_page_has_no_element_of_it(more):
    settings = LISTS | {"incremental_key": "at"}
    cursor = last(read(source([row(1, -9, tags=["a"])], **settings)))
    one = source([row(2, -8, **more), row(3, -7, tags=["b"])], size=1, **settings)
    [task] = one.tasks(one.tables())
    task = one.opened.remembered(task, cursor, {"items": 1, "items_tags": 1})
    assert [table.name for table in task.tables] == ["items", "items_tags"]
    assert "tags" not in task.tables[0].schema.names
    later = list(one.read(task, replace(READING, cursor=cursor)))
    replaced = [key for each in later if isinstance(each, Replace) for key in each.keys.to_pylist()]
    assert sorted(one["items_id"] for one in replaced) == [2, 3]
    assert [
        each.batch["value"].to_pylist()
        for each in later
        if getattr(each, "table", "") == "items_tags" and isinstance(each, Insert)
    ] == [["b"]]


def test_a_list_that_came_late_stays_a_column_where_the_first_page_shows_it_later():
    settings = LISTS | {"incremental_key": "at"}
    first = source([row(1, -9), row(2, -8, tags=["a"])], size=1, **settings)
    cursor = last(read(first))
    one = source([row(3, -7, tags=["b"])], **settings)
    [task] = one.tasks(one.tables())
    assert [table.name for table in one.opened.remembered(task, cursor, {"items": 2}).tables] == ["items"]


def test_a_list_that_is_a_table_and_is_to_be_a_column_now_or_is_none_any_more_fails():
    settings = LISTS | {"incremental_key": "at"}
    cursor = last(read(source([row(1, -9, tags=["a"])], **settings)))
    with pytest.raises(TaskError, match="`lists` says 'list'"):
        read(source([row(2, -8, tags=["b"])], **settings | {"shape": Shape()}), cursor)
    with pytest.raises(TaskError, match="'tags' is list"):
        read(source([row(2, -8, tags="b")], **settings), cursor)


def test_children_of_lists_are_replaced_with_their_parents():
    rows = [row(1, -9, tags=["a", "b"]), row(2, -9, tags=[])]
    one = source(rows, primary_key=("id",), shape=Shape(lists="tables"), size=9)
    assert [table.name for table in one.tables()] == ["items", "items_tags"]
    messages = read(one)
    [replaced] = [each.keys.to_pylist() for each in messages if isinstance(each, Replace)]
    assert replaced == [{"items_id": 1}, {"items_id": 2}]
    children = [each.batch.to_pylist() for each in messages if isinstance(each, Insert) and each.table == "items_tags"]
    assert children == [[{"items_id": 1, "position": 0, "value": "a"}, {"items_id": 1, "position": 1, "value": "b"}]]


def test_a_cursor_is_independent_of_the_types_that_the_next_look_finds():
    first = read(source([row(1, -9, price=1.5), row(2, -8, price=2)], incremental_key="at"))
    later = read(source([row(3, -7, price=4)], incremental_key="at"), last(first))
    [batch] = [one.batch for one in later if isinstance(one, Insert)]
    assert batch.schema.field("price").type == pa.float64()
