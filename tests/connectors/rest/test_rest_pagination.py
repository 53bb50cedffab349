"""How an answer continues, in each way; an API that sends us round in a circle is left."""

from contextlib import closing

import pytest
from pydantic import TypeAdapter
from rest_clients import client_of

from services.api import Api, Reply, paged
from strandline.connectors.arrow.json_path import json_path
from strandline.connectors.pages.alike import Alike, Rows
from strandline.connectors.rest.client import json_of
from strandline.connectors.rest.documents import one_at
from strandline.connectors.rest.pagination import Page, Pages, next_link
from strandline.connectors.rest.request import Request
from strandline.connectors.rest.settings_pages import PaginationSettings
from strandline.errors import TaskError

ROWS = [{"id": f"r{number}"} for number in range(23)]


@pytest.fixture(params=["by Python", "by Arrow"])
def api(request):
    with Api(lambda asked: paged(asked, ROWS, 5)) as api:
        api.by_arrow = request.param == "by Arrow"
        yield api


def walk(api, said, records="", **request):
    """All records, page after page."""
    said = None if said is None else TypeAdapter(PaginationSettings).validate_python(said)
    pages = Pages(said, Request(url=f"{api.url}/rows", **request))
    found, count, read = [], 0, []
    alike = Alike(json_path(records) if records else ())
    with closing(client_of(api.url)) as client:
        while pages.request is not None and count < 50:
            answer = client.ask(pages.request, lambda: None, lambda one: one)
            here = document = alike.read(answer.content) if api.by_arrow else None
            if document is None:
                document = json_of(answer)
                alike.learn(document)
                here = one_at(document, records) if records else document
            read.append(isinstance(document, Rows))
            found += here
            pages.turn(Page(answer, document, here))
            count += 1
    assert any(read) == (api.by_arrow and ROWS[9] in found)
    return found


def test_a_header_link(api):
    assert walk(api, {"type": "link"}, method="GET") == ROWS
    assert len(api.asked) == 5


@pytest.mark.parametrize(
    ("header", "url"),
    [
        ('<https://x/y?a=1,2&b=;c>; rel="next", <https://x/z>; rel="last"', "https://x/y?a=1,2&b=;c"),
        ('<https://x/first>; rel="first", </rows?after=3>; title="a, b"; rel=next', "/rows?after=3"),
        ('<https://x/y>; rel="prev next"', "https://x/y"),
        ('<https://x/y>; rel="prev"', ""),
        ('<https://x/y>; rel="next";', "https://x/y"),
        ('<https://x/y>;; rel = "next" ; of=a b', "https://x/y"),
        ("<https://x/y>; rel='next'", "https://x/y"),
        (r'<https://x/z>; title="\"; rel=next, \""; rel=last, <https://x/y>; title="a \"b\""; REL=Next', "https://x/y"),
        ("", ""),
        ("nonsense <", ""),
    ],
)
def test_the_next_link_of_a_header(header, url):
    assert next_link(header) == url


def test_a_next_link_that_is_not_written_as_one_is_not_taken_for_the_end():
    with pytest.raises(TaskError, match="`Link` cannot be understood"):
        next_link("https://x/y; rel=next")


def test_a_header_link_that_is_sent_in_two_lines(api):
    def answer(asked):
        reply = paged(asked, ROWS, 5)
        return Reply(reply.body, headers={"Link": reply.headers["Link"] + '\n<https://x/last>; rel="last"'})

    api.answer = answer
    assert walk(api, {"type": "link"}, method="GET") == ROWS


def test_a_url_in_the_answer_whole_or_relative(api):
    def answer(asked):
        at = int(asked.query.get("at", 0))
        url = f"/rows?at={at + 5}" if at % 2 else f"{api.url}/rows?at={at + 5}"
        return Reply({"rows": ROWS[at : at + 5], "links": {"next": url if at + 5 < len(ROWS) else None}})

    api.answer = answer
    assert walk(api, {"type": "next_url", "path": "links.next"}, "rows", method="GET") == ROWS


@pytest.mark.parametrize("place", ["query", "body"])
def test_a_token(api, place):
    def answer(asked):
        sent = asked.query if place == "query" else asked.json["page"]
        at = int(sent.get("token", "t0")[1:])
        return Reply({"rows": ROWS[at : at + 5], "next": f"t{at + 5}" if at + 5 < len(ROWS) else ""})

    api.answer = answer
    said = {"type": "token", "path": "next", place: "token" if place == "query" else "page.token"}
    request = {"method": "GET"} if place == "query" else {"method": "POST", "body": {"page": {"size": 5}}}
    assert walk(api, said, "rows", **request) == ROWS
    assert place == "query" or api.asked[1].json == {"page": {"size": 5, "token": "t5"}}


def test_a_token_of_graphql_with_a_word_whether_there_is_more(api):
    def answer(asked):
        at = int(asked.json["variables"].get("after") or "0")
        info = {"hasNextPage": at + 5 < len(ROWS), "endCursor": str(at + 5)}
        return Reply({"data": {"issues": {"nodes": ROWS[at : at + 5], "pageInfo": info}}})

    api.answer = answer
    said = {"type": "token", "path": "data.issues.pageInfo.endCursor", "more": "data.issues.pageInfo.hasNextPage"}
    said |= {"body": "variables.after"}
    assert walk(api, said, "data.issues.nodes", method="POST", body={"query": "…", "variables": {}}) == ROWS
    assert len(api.asked) == 5


@pytest.mark.parametrize(("more", "requests"), [({}, 6), ({"pages": "pages"}, 5), ({"more": "more"}, 5)])
@pytest.mark.parametrize("first", [0, 1])
def test_numbered_pages(api, more, requests, first):
    def answer(asked):
        at = (int(asked.query["p"]) - first) * 5
        return Reply({"rows": ROWS[at : at + 5], "pages": 5, "more": at + 5 < len(ROWS)})

    api.answer = answer
    assert walk(api, {"type": "page", "query": "p", "first": first, **more}, "rows", method="GET") == ROWS
    assert len(api.asked) == requests


@pytest.mark.parametrize(("more", "requests"), [({}, 6), ({"total": "total"}, 5)])
def test_an_offset_by_as_many_as_came(api, more, requests):
    def answer(asked):
        at = int(asked.query.get("skip", 0))  # the API gives five, whatever it is asked for
        return Reply({"rows": ROWS[at : at + 5], "total": len(ROWS)})

    api.answer = answer
    said = {"type": "offset", "query": "skip", **more}
    assert walk(api, said, "rows", method="GET", query={"limit": "100"}) == ROWS
    assert len(api.asked) == requests


@pytest.mark.parametrize(("more", "requests"), [({}, 6), ({"more": "has_more"}, 5)])
def test_behind_the_last_record(api, more, requests):
    def answer(asked):
        after = asked.query.get("starting_after")
        at = 0 if after is None else ROWS.index({"id": after}) + 1
        return Reply({"data": ROWS[at : at + 5], "has_more": at + 5 < len(ROWS)})

    api.answer = answer
    assert walk(api, {"type": "last", "query": "starting_after", **more}, "data", method="GET") == ROWS
    assert len(api.asked) == requests


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ({"type": "link"}, lambda asked: Reply([1], headers={"Link": f'<{asked.url}/rows?page=2>; rel="next"'})),
        ({"type": "link"}, lambda asked: Reply([1], headers={"Link": f'<{asked.url}/rows>; rel="next"'})),
        (
            {"type": "next_url", "path": "next"},
            lambda asked: Reply({"next": f"/rows?p={asked.number % 3}", "rows": [1]}),
        ),
        ({"type": "token", "path": "next", "query": "t"}, lambda _asked: Reply({"next": "same", "rows": [1]})),
        ({"type": "last", "query": "after"}, lambda _asked: Reply({"rows": [{"id": 7}]})),
    ],
)
def test_a_circle_is_left(api, said, answer):
    api.answer = answer
    records = "" if said["type"] == "link" else "rows"
    with pytest.raises(TaskError, match="the same next page twice"):
        walk(api, said, records, method="GET")
    assert len(api.asked) <= 4


@pytest.mark.parametrize(
    ("said", "document", "words"),
    [
        ({"type": "token", "path": "next", "query": "t"}, {"next": {"a": 1}, "rows": []}, "no text and no number"),
        (
            {"type": "token", "path": "next", "query": "t", "more": "more"},
            {"next": "x", "rows": []},
            "whether there is more",
        ),
        ({"type": "page", "query": "p", "pages": "pages"}, {"rows": [1]}, "how many there are"),
        ({"type": "last", "query": "after"}, {"rows": [{"no": 1}]}, "has no 'id'"),
    ],
)
def test_an_answer_that_does_not_say_what_it_should_is_not_taken_for_the_last_one(api, said, document, words):
    api.answer = lambda _asked: Reply(document)
    with pytest.raises(TaskError, match=words):
        walk(api, said, "rows", method="GET")


@pytest.mark.parametrize(
    "envelope",
    [
        {"next": "/rows?page=2"},
        {"meta": {"next_cursor": "abc"}},
        {"has_more": True},
        {"page": 1, "total_pages": 2},
        {"offset": 0, "total": 9},
        {"@odata.nextLink": "https://x/y"},
    ],
)
def test_a_first_page_is_not_taken_for_all_where_the_spec_does_not_say_how_it_continues(api, envelope):
    api.answer = lambda _asked: Reply({"rows": [{"id": 1}], **envelope})
    with pytest.raises(TaskError, match="does not say how") as caught:
        walk(api, None, "rows", method="GET")
    assert "pagination: {type: " in caught.value.hint


@pytest.mark.parametrize(
    "envelope", [{"next": None}, {"has_more": False}, {"page": 2, "pages": 2}, {"offset": 0, "total": 1}, {}]
)
def test_an_answer_that_shows_that_it_is_all_is_all(api, envelope):
    api.answer = lambda _asked: Reply({"rows": [{"id": 1}], **envelope})
    assert walk(api, None, "rows", method="GET") == [{"id": 1}]


@pytest.mark.parametrize("said", [{"type": "page", "query": "page"}, {"type": "offset", "query": "skip"}])
def test_an_api_that_takes_no_notice_of_the_number_of_a_page_is_left(api, said):
    api.answer = lambda _asked: Reply({"rows": [{"id": 1}, {"id": 2}]})
    with pytest.raises(TaskError, match="the same records"):
        walk(api, said, "rows", method="GET")
    assert len(api.asked) == 2
