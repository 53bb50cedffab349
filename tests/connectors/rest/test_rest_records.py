"""Which part of an answer are its records: keys with dots between them, JSONPath, and what is no answer of that shape."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.api import Api, Reply
from strandline.connectors.rest.documents import all_at, one_at
from strandline.connectors.rest.source import RestSource
from strandline.errors import TaskError
from strandline.message import Insert
from strandline.reading import Reading

SHOP = {
    "data": [
        {"type": "order", "id": 1, "lines": [{"n": 1}, {"n": 2}]},
        {"type": "refund", "id": 2, "lines": []},
        {"type": "order", "id": 3, "lines": [{"n": 3}]},
    ],
    "links": [{"rel": "self", "href": "/a"}, {"rel": "next", "href": "/b"}],
}
ERROR = {"error": {"message": "no right", "code": 7}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$.data[?@.type == 'order'].id", [1, 3]),
        ("$.data[?@.id > 1 && @.lines[0]].id", [3]),
        ("$.data[?search(@.type, '^re')].id", [2]),
        ("$.data[*].lines[*].n", [1, 2, 3]),
        ("$.data[-1].id", [3]),
        ("$.data[1:].id", [2, 3]),
        ("$..n", [1, 2, 3]),
        ("$['links'][?@.rel=='next'].href", ["/b"]),
        ("$", [SHOP]),
        ("data.*.lines.*.n", [1, 2, 3]),
    ],
)
def test_what_is_picked(path, found):
    assert all_at(SHOP, path) == found


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("$.data[?@.type == 'x']", {"data": [{"type": "y"}]}),
        ("$.data[?@.type == 'x']", {"data": []}),
        ("$.data[?@.type == 'x']", {"data": None}),
        ("$.data[*].lines[*]", {"data": [{"lines": []}, {}]}),
        ("$.data[5:]", SHOP),
        ("$[*]", []),
        ("data.*.lines", {"data": []}),
        ("data.*.lines", {"data": {}}),
        ("data.*.lines.*", {"data": [{"lines": None}]}),
    ],
)
def test_a_list_of_which_nothing_is_picked_has_no_records(path, document):
    assert all_at(document, path) == []


@pytest.mark.parametrize(
    "path",
    [
        "$.data[?@.type == 'x']",
        "$.data[*]",
        "$.data[1:]",
        "$[?@.type == 'x']",
        "$.error.rows[*]",
        "$.error.message[*]",
        "$..items",
        "data.*",
        "data.*.lines",
        "error.*.rows",
    ],
)
@pytest.mark.parametrize("document", [ERROR, "down", None])
def test_a_document_of_another_shape_is_not_one_without_records(path, document):
    assert all_at(document, path) is None


@pytest.mark.parametrize("document", [[], {}, [{"error": "down"}], [{"id": 1}]])
def test_what_lies_at_no_depth_is_not_known_to_be_empty(document):
    assert all_at(document, "$..items") is None
    assert all_at([{"items": []}], "$..items") == [[]]


def test_keys_that_begin_with_a_dollar_are_keys():
    assert one_at({"$values": [1]}, "$values") == [1]
    assert one_at({"$": {"a": 1}}, '"$".a') == 1


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("$.data[?@.type = 'x']", "at \"= 'x']\""),
        ("$.data[", "at its end"),
        ("$.data[?first(@)]", "'first' is not defined"),
        ("$.data[?match(@.type, '(')]", "'(' is no regular expression"),
        ("$.data[?@.lines[?search(@.n, '[')]]", "'[' is no regular expression"),
    ],
)
def test_a_path_that_is_none_is_refused_where_it_stands(cli, path, words):
    Path("strandline.yml").write_text(
        f"""kind: source
spec:
  name: shop
  path: rest
  tables: ["*"]
  destinations: [warehouse]
  spec:
    base_url: http://127.0.0.1:9
    tables:
      rows:
        path: rows
        records: {path!r}
---
kind: destination
spec: {{name: warehouse, path: duckdb, spec: {{path: w.duckdb}}}}
""".replace("\\'", "''"),
        "utf-8",
    )
    done = cli("validate-config")
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
    assert "strandline.yml:12:18" in done.output


def test_a_place_in_a_body_is_no_query():
    with pytest.raises(ValidationError, match="is no path"):
        RestSource.Spec.model_validate(
            {"base_url": "http://a.example", "pagination": {"type": "token", "path": "a", "body": "$.a..[*]"}}
        )


# in a reading --------------------------------------------------------------------------------------------------------
@pytest.fixture
def api():
    with Api(lambda _asked: Reply([])) as api:
        yield api


def read(api, **table):
    said = {"base_url": api.url, "attempts": 1, "tables": {"rows": {"path": "rows", **table}}}
    with closing(RestSource(RestSource.Spec.model_validate(said))) as source:
        [task] = source.tasks(source.tables())
        return [
            row
            for one in source.read(task, Reading(None, datetime(2026, 1, 1, tzinfo=UTC)))
            if isinstance(one, Insert)
            for row in one.batch.to_pylist()
        ]


PAGES = [[1, 2], [4, 6], [8, 3], [5]]


@pytest.mark.parametrize(
    "pagination",
    [
        {"type": "page", "query": "at", "first": 0},
        {"type": "offset", "query": "skip"},
        {"type": "last", "query": "after"},
    ],
)
@pytest.mark.parametrize("records", ["$.rows[?@.odd].row", "$.rows[?@.odd == true].row", "rows.*.odds"])
def test_a_page_of_which_nothing_is_picked_is_not_the_last_one(api, pagination, records):
    """Positions are counted in what the API has, not in what is picked of it."""
    flat = [n for page in PAGES for n in page]

    def answer(asked):
        if "after" in asked.query:
            at = flat.index(int(asked.query["after"])) + 1
        else:
            at = int(asked.query.get("skip", 2 * int(asked.query.get("at", 0))))
        rows = [
            {"id": n, "row": {"id": n}, "odd": True, "odds": [{"id": n}]} if n % 2 else {"id": n, "odds": []}
            for n in flat[at : at + 2]
        ]
        return Reply({"rows": rows})

    api.answer = answer
    assert [row["id"] for row in read(api, records=records, pagination=pagination)] == [1, 3, 5]


@pytest.mark.parametrize("records", ["$.rows[?@.odd]", "$..rows[*]", "rows.*", "rows.*.x"])
def test_an_error_in_a_good_answer_is_no_page_without_records(api, records):
    api.answer = lambda asked: Reply({"rows": [{"id": 1, "odd": True, "x": {"id": 1}}]} if not asked.number else ERROR)
    pagination = {"type": "page", "query": "page"}
    with pytest.raises(TaskError, match=r"answers without .*; it has 'error'"):
        read(api, records=records, pagination=pagination)
    api.asked.clear()
    api.answer = lambda asked: Reply(
        {"rows": [{"id": 1, "odd": True, "x": {"id": 1}}]} if asked.query["page"] == "1" else ERROR
    )
    assert len(read(api, records=records, pagination=pagination, absent="empty")) == 1


def test_an_object_after_lists_is_no_record(api):
    """Also where nothing says where the records lie, so that an object alone is one; and a slice is of a list only."""
    answers = {"1": [{"id": 1}], "2": ERROR, "3": []}
    api.answer = lambda asked: Reply(answers[asked.query["page"]])
    pagination = {"type": "page", "query": "page"}
    with pytest.raises(TaskError, match="answers with an object, after pages that were lists; it has 'error'"):
        read(api, pagination=pagination)
    api.answer = lambda _asked: Reply(ERROR)
    assert [row["error"]["code"] for row in read(api, pagination={"type": "none"})] == [7]
    with pytest.raises(TaskError, match=r"answers without '\$\[:\]'; it has 'error'"):
        read(api, records="$[:]", pagination={"type": "none"})


def test_an_answer_that_says_that_it_has_no_content_has_no_records(api):
    api.answer = lambda asked: Reply({"rows": [{"id": 1}]}) if asked.query["page"] == "1" else Reply(b"", status=204)
    assert [row["id"] for row in read(api, records="rows", pagination={"type": "page", "query": "page"})] == [1]


def test_the_next_page_may_be_found_by_a_filter(api):
    def answer(asked):
        at = int(asked.query.get("at", 0))
        links = [{"relation": "self", "url": "/rows"}] + [{"relation": "next", "url": f"/rows?at={at + 1}"}] * (at < 2)
        return Reply({"link": links, "entry": [{"resource": {"id": at}}]})

    api.answer = answer
    pagination = {"type": "next_url", "path": "$.link[?@.relation == 'next'].url"}
    assert [row["id"] for row in read(api, records="$.entry[*].resource", pagination=pagination)] == [0, 1, 2]
