"""Documents that Arrow reads: it finds what Python finds, or leaves them to it."""

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from strandline.connectors.pages.alike import Alike, Rows
from strandline.connectors.pages.columns import Columns
from strandline.connectors.pages.documents import document_of
from strandline.connectors.pages.records import joined, read_page
from strandline.connectors.pages.shape import Shape
from strandline.errors import TaskError

KNOWN = {
    "a": 1,
    "s": "x",
    "d": 1.5,
    "n": None,
    "b": True,
    "o": {"x": 1, "z": None, "t": "t"},
    "l": [1, 2],
    "e": [],
    "ls": [{"q": "a", "r": 0.5}],
    "w": {},
}


def alike(*documents, path=()):
    """What knows these documents."""
    one = Alike(path)
    for document in documents or [[KNOWN]]:
        one.learn(document)
    return one


def read(data, **known):
    found = alike(**known).read(data)
    return None if found is None else found.columns({}, lists_matter=False)


def slowly(data):
    """As Python has it, in the shape of ``read``; ``None``: it is no JSON, or no list of objects."""
    try:
        page = read_page(document_of(data), Shape(), where="x")
    except (ValueError, TaskError, UnicodeError):
        return None
    return {name: arrays[0] for name, arrays in page.columns.items() if len(arrays) == 1}


def same(one, other):
    return [*one] == [*other] and all(one[name].equals(other[name]) for name in one)


def test_a_document_like_one_before_is_read_by_arrow():
    record = {**KNOWN, "a": 2, "s": "ä € 😀", "e": None}
    for data in (json.dumps([record, {}]), json.dumps([record, KNOWN], ensure_ascii=False, indent=2)):
        found = alike().read(data.encode())
        assert isinstance(found, Rows)
        assert found == json.loads(data)
        assert [*found] == json.loads(data)
        assert same(found.columns({}, lists_matter=False), slowly(data.encode()))


@pytest.mark.parametrize(
    "record",
    [
        b'{"a":1,"a":2}',
        b'{"o":{"x":1,"x":2}}',
        b'{"new":1}',
        b'{"o":{"new":1}}',
        b'{"w":{"new":1}}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":12345678901234567890}',
        b'{"a":"1"}',
        b'{"a":true}',
        b'{"s":1}',
        b'{"b":1}',
        b'{"n":1}',
        b'{"e":[1]}',
        b'{"e":["x"]}',
        b'{"d":"1.5"}',
        b'{"d":NaN}',
        b'{"d":-NaN}',
        b'{"d":Inf}',
        b'{"d":Infinity}',
        b'{"d":1e400}',
        b'{"d":0.1234567890123456789}',
        b'{"ls":[{"r": 9007199254740993}]}',
        b'{"d":1e-400}',
        b'{"s":"\xff"}',
        b'{"s":"\xed\xa0\x80"}',
        b'{"s":"\\ud800"}',
        b'{"s":"\\udc00"}',
        b'{"s":"a\nb"}',
        b'{"s":"a\x00b"}',
        b'{"s":"\\x"}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"d":.5}',
        b'{"d":1.}',
        b'{"a":1,}',
        b"{'a':1}",
        b"null",
        b"1",
        b"[1]",
    ],
)
def test_what_arrow_may_take_for_another_thing_is_left_to_python(record):
    assert read(b"[" + json.dumps(KNOWN).encode() + b"," + record + b"]") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b"[{}],",
        b"[{}]]",
        b"[{}]}",
        b'[{}]} {"":[{}]',
        b'[{}],"":[{}]',
        b'[{}],"k":1',
        b"[{}] x",
        b"// [{}]\n[{}]",
        b"\xef\xbb\xbf[{}]",
        json.dumps([KNOWN]).encode("utf-16"),
        b"<html>log in</html>",
    ],
)
def test_what_is_not_one_list_of_objects_is_left_to_python(data):
    assert read(data) is None


@pytest.mark.parametrize("path", [(), ("data", "items")])
def test_a_document_that_was_cut_off_is_never_read(path):
    document = [KNOWN, KNOWN] if not path else {"data": {"items": [KNOWN, {}], "more": False}, "next": "x"}
    data = json.dumps(document).encode()
    one = alike(document, path=path)
    assert one.read(data) is not None
    assert [end for end in range(len(data)) if one.read(data[:end]) is not None] == []


def test_digits_in_a_text_are_no_number():
    for text in ("1234567890123456789", "00:00:00.1234567890123456789", "Info, NaN", "1e400"):
        assert read(json.dumps([{**KNOWN, "s": text}]).encode()) is not None
    whole = alike([{"a": 1}]).read(b'[{"a": 9007199254740993}]').columns({}, lists_matter=False)
    assert whole["a"].to_pylist() == [2**53 + 1]


_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**53 + 1, 2**63, -(2**63)]),
    st.sampled_from([0.5, 1.0, -0.0, 1e300, 1e22, 0.1]),
    st.sampled_from(["", "x", "2026-01-01", "2026-01-01T00:00:00Z", "ü", "\x00", '"\\']),
)
_VALUES = st.one_of(
    _LEAVES,
    st.lists(st.integers(0, 2) | st.none() | st.booleans(), max_size=2),
    st.dictionaries(st.sampled_from("xyé"), st.integers(0, 2) | st.none() | st.sampled_from([0.5, 2.0]), max_size=2),
    st.lists(st.dictionaries(st.sampled_from("xy"), st.sampled_from([None, "v", "w"]), max_size=2), max_size=2),
)
_RECORDS = st.dictionaries(st.sampled_from(["a", "b", "cé"]), _VALUES, max_size=3)
_PAGES = st.lists(st.lists(_RECORDS, max_size=3), min_size=2, max_size=5)
_SHAPES = st.builds(Shape, objects=st.sampled_from(["struct", "flat"]), lists=st.sampled_from(["list", "tables"]))


def told(page):
    """What there is to be told of a page. In objects, a null is as good as nothing."""
    return page.rows, {
        name: [(sure(one.type), without_nulls(one.to_pylist())) for one in arrays]
        for name, arrays in page.columns.items()
    }


def sure(kind):
    if pa.types.is_struct(kind):
        return pa.struct([(one.name, sure(one.type)) for one in kind if not pa.types.is_null(sure(one.type))])
    return pa.list_(sure(kind.value_type)) if pa.types.is_list(kind) else kind


def without_nulls(value):
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_PAGES, _SHAPES, st.booleans())
@example([[{"a": 1.5}], [{"a": 1.0}]], Shape(), False)
@example([[{"a": 1.5}], [{"a": 1}]], Shape(), False)
@example([[{"a": {"x": 1}}], [{"a": {}}], [{"a": {"x": None}}]], Shape(), True)
@example([[{"a": [{"x": "x"}]}], [{"a": []}], [{"b": 1}]], Shape(lists="tables"), False)
@example([[{"a": []}], [{"a": [None, None]}], [{"a": [True, None]}]], Shape(), False)
def test_a_page_is_the_same_whoever_reads_it(pages, shape, spelled):
    one = Alike(("rows",))
    for rows in pages:
        data = json.dumps({"rows": rows, "next": "t"}, ensure_ascii=spelled).encode()
        found = one.page(data, where="items")
        assert [*found] == rows
        assert told(read_page(found, shape, where="items")) == told(read_page(rows, shape, where="items"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_PAGES, st.integers(1, 3), st.sampled_from(["fail", "json", "new"]), st.sampled_from([None, "string", "double"]))
@example([[{"a": 1.5}], [{"a": 1.0}]], 1, "fail", "string")
@example([[{"a": 1.5}], [{"a": 1}]], 1, "fail", "string")
@example([[{"a": {"x": 1}}], [{"a": {"x": 0.5}}], [{"a": {"x": 2.0}}]], 1, "json", None)
def test_a_stream_is_the_same_whoever_reads_its_pages(pages, size, conflicts, kind):
    types = {} if kind is None else {"a": pa.string() if kind == "string" else pa.float64()}

    def tables(by_arrow):
        columns, one, found = (
            Columns("items", Shape(types=types, conflicts=conflicts), types=dict(types)),
            Alike(()),
            [],
        )
        try:
            for start in range(0, len(pages), size):
                some = [json.dumps(page).encode() for page in pages[start : start + size]]
                read = [
                    read_page(data, columns.shape, where="items", alike=one if by_arrow else None, known=columns.types)
                    for data in some
                ]
                found.append(columns.take([page for page in read if page.rows]).to_pylist())
        except TaskError as error:
            found.append(error.message)
        return found, dict(columns.types)

    assert tables(True) == tables(False)


def test_neighbours_with_the_same_types_become_one_page():
    pages = [
        read_page(rows, Shape(), where="x") for rows in ([{"a": 1}], [{"a": 2}, {"a": 3}], [{"a": "x"}], [{"a": 4}])
    ]
    whole = joined(pages)
    assert [page.rows for page in whole] == [3, 1, 1]
    assert [value for page in whole for value in page.columns["a"][0].to_pylist()] == [1, 2, 3, "x", 4]


def test_what_stands_beside_the_records_is_known_without_python():
    document = {"rows": [{"id": 1}], "meta": {"next": "t5", "count": 9, "more": True, "cost": 1.0, "gone": None}}
    found = alike(document, path=("rows",)).read(json.dumps(document).encode())
    beside = {path: found.beside(path) for path in [("meta", "next"), ("meta", "count"), ("meta", "more")]}
    assert list(beside.values()) == ["t5", 9, True]
    for path in [("meta", "gone"), ("meta", "cost"), ("meta",), ("rows", "0"), ("no",), (None,)]:
        assert found.beside(path) is None


def test_a_list_that_no_record_names_is_not_taken_for_an_empty_one():
    one = alike([{"id": 1, "tags": ["a"]}])
    assert [*one.read(b'[{"id": 2}]').columns({}, lists_matter=True)] == ["id"]
    assert one.read(b'[{"id": 2, "tags": null}]').columns({}, lists_matter=True) is None
    assert one.read(b'[{"id": 2, "tags": []}]').columns({}, lists_matter=True) is not None


def test_documents_that_are_never_alike_are_not_tried_for_ever():
    one = Alike(())
    for number in range(30):
        one.page(json.dumps([{f"f{number}": number}]).encode(), where="x")
    assert one.read(b'[{"f29": 29}]') is None
    assert alike([{"f29": 1}]).read(b'[{"f29": 29}]') is not None
