"""What becomes of the values of records: types, how they grow, and what goes with none."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strandline.connectors.pages.columns import Columns, read_kind, written_kind
from strandline.connectors.pages.documents import parsed
from strandline.connectors.pages.records import read_page
from strandline.connectors.pages.shape import Shape
from strandline.errors import TaskError

UTC_TIME = pa.timestamp("us", "UTC")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIDNIGHT = NOON.replace(tzinfo=None, hour=0)
FIVE = MIDNIGHT.replace(hour=5)


def taken(*pages, keys=(), types=None, closed=False, **shape):
    shape = Shape(types=types or {}, **shape)
    columns = Columns("items", shape, frozenset(keys), dict(types or {}), closed=closed)
    table = None
    for page in pages:
        table = columns.take([read_page(one, columns.shape, where="items") for one in page])
        table.validate(full=True)
    return table


def values(*pages, **settings):
    """Of pages that come together."""
    return taken(pages, **settings).to_pylist()


def kinds(*pages, **settings):
    table = taken(*([page] for page in pages), **settings)
    return {one.name: one.type for one in table.schema}


# one page ------------------------------------------------------------------------------------------------------------
def test_json_as_it_came_and_lists_of_dicts_are_the_same_page():
    rows = [{"id": 1, "at": "2026-01-01T12:00:00Z", "tags": ["a"], "of": {"n": 1.5}}, {"id": 2, "of": {"m": None}}]
    document = json.dumps({"data": {"items": rows}}).encode()
    assert parsed(document, ("data", "items"), where="items") == rows
    assert values(rows) == [
        {"id": 1, "at": NOON, "tags": ["a"], "of": {"n": 1.5}},
        {"id": 2, "at": None, "tags": None, "of": {"n": None}},
    ]


def test_numbers_of_json_that_no_double_holds_keep_every_digit():
    [row] = values(
        parsed(b'[{"a": 0.1234567890123456789, "b": 18446744073709551616, "c": 9007199254740993}]', (), where="x")
    )
    assert row == {"a": Decimal("0.1234567890123456789"), "b": Decimal(2**64), "c": 2**53 + 1}


@pytest.mark.parametrize(
    ("page", "what"),
    [
        (b"<html>", "no JSON"),
        (b'{"data": 1, "x": {"y": []}}', "'data', 'x'"),
        (b'{"items": [[1]]}', "no object"),
        (7, "int"),
    ],
)
def test_what_is_no_page_of_records_is_said_so(page, what):
    with pytest.raises(TaskError, match=what):
        read_page(page, Shape(), where="items", path=("items",))


def test_arrow_and_what_speaks_its_interface_are_pages():
    class Frame:
        def __arrow_c_stream__(self, requested_schema=None):
            return pa.table(
                {"id": pa.array([1], pa.int32()), "s": pa.array(["a"], pa.string_view())}
            ).__arrow_c_stream__(requested_schema)

    assert values(Frame(), pa.record_batch({"id": pa.array([2], pa.int32())})) == [
        {"id": 1, "s": "a"},
        {"id": 2, "s": None},
    ]
    assert kinds(Frame()) == {"id": pa.int32(), "s": pa.string()}


def test_python_values_keep_their_types_and_no_moment_becomes_a_day():
    zoned = datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    found = kinds([{"d": date(2026, 1, 1), "m": MIDNIGHT, "z": zoned, "n": Decimal("1.50"), "b": b"x"}])
    assert found == {
        "d": pa.date32(),
        "m": pa.timestamp("us"),
        "z": UTC_TIME,
        "n": pa.decimal128(3, 2),
        "b": pa.binary(),
    }
    assert values([{"x": date(2026, 1, 1)}, {"x": FIVE}])[1] == {"x": FIVE}
    with pytest.raises(TaskError, match="column 'x'"):
        values([{"x": MIDNIGHT}, {"x": NOON}])


def test_times_of_several_kinds_within_objects_and_lists_are_kept_as_they_are():
    zoned = datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    rows = values([{"o": {"t": MIDNIGHT}, "l": [date(2026, 1, 1)]}, {"o": {"t": zoned}, "l": [FIVE]}])
    assert [json.loads(one["o"])["t"] for one in rows] == ["2026-01-01T00:00:00", "2026-01-01T14:00:00+02:00"]
    assert [json.loads(one["l"]) for one in rows] == [["2026-01-01"], ["2026-01-01T05:00:00"]]
    assert values([{"o": {"t": MIDNIGHT}}, {"o": {"t": FIVE}}])[1] == {"o": {"t": FIVE}}


# growing -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (1, 1.5, pa.float64()),
        (1, Decimal("1.25"), pa.decimal128(21, 2)),
        (None, {"a": 1}, pa.struct([("a", pa.int64())])),
        ({"a": 1}, {"b": "x"}, pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ([], [{"a": 1}], pa.list_(pa.struct([("a", pa.int64())]))),
        ([{"a": 1}], [{"a": 1.5, "b": [2]}], pa.list_(pa.struct([("a", pa.float64()), ("b", pa.list_(pa.int64()))]))),
        ("2026-01-01", "2026-01-01T12:00:00", pa.timestamp("us")),
        ("2026-01-01T12:00:00Z", "2026-01-01T12:00:00.5+02:00", UTC_TIME),
        ("x", 5, pa.string()),
        ("x", {"a": [1]}, pa.string()),
        ("x", "2026-01-01", pa.string()),
    ],
)
def test_a_column_grows_to_hold_what_comes_later(first, second, kind):
    assert kinds([{"x": first}], [{"x": second}])["x"] == kind
    assert len(values([{"x": first}], [{"x": second}])) == 2


def test_anything_becomes_text_where_the_column_is_text():
    rows = values([{"x": "a"}], [{"x": 5}], [{"x": True}], [{"x": {"a": [1]}}], [{"x": None}])
    assert [row["x"] for row in rows] == ["a", "5", "true", '{"a":[1]}', None]


@pytest.mark.parametrize(
    ("first", "second", "other", "as_json"),
    [
        (1, "n/a", "x_text", '"n/a"'),
        (2**53 + 1, 1.5, "x_number", "1.5"),
        ("2026-01-01", "soon", "x_text", '"soon"'),
        (True, 1, "x_int", "1"),
        ({"a": 1}, [1], "x_json", "[1]"),
        (1.5, {"a": 1}, "x_json", '{"a":1}'),
    ],
)
def test_a_conflict_fails_or_stands_in_another_column_as_was_declared(first, second, other, as_json):
    columns = [[{"x": first}]], [[{"x": second}, {"x": first}]]
    with pytest.raises(TaskError, match="column 'x' is") as caught:
        taken(*columns)
    assert "declare" in caught.value.hint
    kept = taken(*columns, conflicts="json").to_pylist()
    assert kept[0]["x_json"] == as_json
    assert kept[0]["x"] is None
    assert kept[1]["x_json"] is None
    new = taken(*columns, conflicts="new")
    assert new.column_names == ["x", other]
    assert [row[other] is None for row in new.to_pylist()] == [False, True]


def test_a_page_of_mixed_kinds_is_taken_apart_and_nothing_of_it_is_lost():
    page = [{"x": 1, "y": {"a": 1}}, {"x": "a", "y": {"a": "s"}}, {"x": None}, {"x": True}]
    rows = values(page, conflicts="new")
    assert [{name for name, value in row.items() if value is not None} for row in rows] == [
        {"x", "y"},
        {"x_text", "y"},
        set(),
        {"x_bool"},
    ]
    assert json.loads(rows[1]["y"]) == {"a": "s"}


def test_a_key_never_changes_its_type_whatever_was_declared_of_conflicts():
    with pytest.raises(TaskError, match="column 'id' is int64"):
        taken([[{"id": 1}]], [[{"id": "a"}]], keys=["id"], conflicts="new")
    assert taken([[{"id": 1}]], [[{"id": 2.0}]], keys=["id"]).to_pylist() == [{"id": 2}]


def test_texts_of_a_primary_key_are_never_times():
    assert kinds([{"id": "2026-01-01"}], texts=frozenset({"id"})) == {"id": pa.string()}


def test_declared_types_hold_and_say_what_does_not_fit():
    types = {"x": pa.decimal128(5, 2), "j": pa.json_()}
    assert values([{"x": 1, "j": {"b": 1, "a": [None]}}], types=types) == [
        {"x": Decimal("1.00"), "j": '{"b": 1, "a": [null]}'}
    ]
    with pytest.raises(TaskError, match="'y', which is not declared"):
        taken([[{"y": 1}]], types=types, closed=True)


# objects and lists ---------------------------------------------------------------------------------------------------
def test_objects_and_lists_can_be_kept_as_json_without_the_fields_of_their_neighbours():
    rows = values([{"o": {"a": 1}, "l": [1]}, {"o": {"b": "é"}, "l": []}], objects="json", lists="json")
    assert rows == [{"o": '{"a": 1}', "l": "[1]"}, {"o": '{"b": "é"}', "l": "[]"}]
    [row] = values(pa.table({"o": [{"a": 1}]}), objects="json")
    assert row == {"o": '{"a":1}'}


def test_objects_can_become_columns():
    assert values([{"u": {"id": 1, "of": {"n": "x"}}}, {"u": None}], objects="flat") == [
        {"u_id": 1, "u_of_n": "x"},
        {"u_id": None, "u_of_n": None},
    ]


_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text())
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner), max_leaves=6
)
_PAGES = st.lists(
    st.lists(st.dictionaries(st.sampled_from(["x", "y"]), _VALUES), min_size=1, max_size=4), min_size=1, max_size=4
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_PAGES)
def test_whatever_comes_each_row_is_there_and_each_value_stands_in_one_column(pages):
    columns = Columns("items", Shape(conflicts="json"), types={"id": pa.null()})
    rows = [row for page in pages for row in columns.take([read_page(page, columns.shape, where="items")]).to_pylist()]
    given = [row for page in pages for row in page]
    assert len(rows) == len(given)
    for row, wanted in zip(rows, given, strict=True):
        for name in ("x", "y"):
            found = [value for column, value in row.items() if column in {name, f"{name}_json"} and value is not None]
            empty = wanted.get(name) in (None, [], {}) or not _has_leaves(wanted.get(name))
            assert len(found) <= 1
            assert found or empty


def _has_leaves(value):
    inside = value.values() if isinstance(value, dict) else value
    return any(map(_has_leaves, inside)) if isinstance(value, dict | list) else value is not None


@pytest.mark.parametrize(
    "kind",
    [pa.json_(), pa.uuid(), UTC_TIME, pa.null(), pa.decimal128(38, 9), pa.struct([('a: "b>', pa.list_(pa.date32()))])],
)
def test_a_cursor_keeps_types_whatever_their_fields_are_called(kind):
    assert read_kind(json.loads(json.dumps(written_kind(kind)))) == kind


def test_an_empty_list_stays_one_where_it_is_known_what_it_is_a_list_of():
    columns = Columns("items", Shape())
    columns.take([read_page([{"id": 1, "tags": ["a"]}], columns.shape, where="items")])
    alone = columns.take([read_page([{"id": 2, "tags": []}, {"id": 3}], columns.shape, where="items")])
    assert alone["tags"].to_pylist() == [[], None]
