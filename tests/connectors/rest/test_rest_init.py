"""`init` and `sync` are the two commands from the URL of an API to a table in DuckDB."""

import re
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from ruamel.yaml import YAML
from shop_api import moment

from services.api import Api, Reply, paged

ROWS = [{"id": n, "name": f"n{n % 3}", "updated_at": moment(n), "tags": [{"name": "x"}]} for n in range(12)]


@pytest.fixture
def api():
    with Api(lambda _asked: Reply([])) as api:
        yield api


def stored(query):
    with closing(duckdb.connect("w.duckdb", read_only=True)) as connection:
        return connection.execute(query).fetchall()


def drafted(cli, url):
    done = cli("init", "--from", url, "--to", "w.duckdb")
    assert done.exit_code == 0, done.output
    return next(iter(YAML(typ="safe").load_all(Path("strandline.yml"))))["spec"]["spec"]


def linked(asked):
    return paged(asked, [row for row in ROWS if row["updated_at"] >= asked.query.get("since", "")], 5)


def next_url(asked):
    at = int(asked.query.get("at", 0))
    url = f"{asked.url}/v1/items?at={at + 5}" if at + 5 < len(ROWS) else None
    return Reply({"meta": {"count": 12}, "data": {"items": ROWS[at : at + 5]}, "links": {"next": url}})


def token(asked):
    at = int(asked.query.get("cursor", 0))
    return Reply({"results": ROWS[at : at + 5], "paging": {"next_cursor": str(at + 5) if at + 5 < len(ROWS) else None}})


def offset(asked):
    at = int(asked.query.get("startAt", 0))
    return Reply({"startAt": at, "total": 12, "issues": ROWS[at : at + 5]})


def numbered(asked):
    at = int(asked.query.get("page", 1))
    return Reply({"page": at, "total_pages": 3, "rows": ROWS[5 * at - 5 : 5 * at], "facets": [{"a": 1}]})


def has_more(asked):
    after = int(asked.query.get("starting_after", -1)) + 1
    return Reply({"object": "list", "data": ROWS[after : after + 5], "has_more": after + 5 < len(ROWS)})


@pytest.mark.parametrize(
    ("answer", "records", "pagination"),
    [
        (linked, None, {"type": "link"}),
        (next_url, "data.items", {"type": "next_url", "path": "links.next"}),
        (token, "results", {"type": "token", "path": "paging.next_cursor", "query": "cursor"}),
        (offset, "issues", {"type": "offset", "query": "startAt", "total": "total"}),
        (numbered, "rows", {"type": "page", "query": "page", "pages": "total_pages"}),
        (has_more, "data", {"type": "last", "query": "starting_after", "more": "has_more"}),
    ],
)
def test_a_url_becomes_a_table_by_two_commands(cli, api, answer, records, pagination):
    api.answer = answer
    settings = drafted(cli, f"{api.url}/v1/items?state=all")
    table = settings["tables"]["items"]
    assert settings["base_url"] == f"{api.url}/v1"
    assert (table["path"], table.get("records"), table["pagination"]) == ("items", records, pagination)
    assert table["primary_key"] == ["id"]
    assert table["query"]["state"] == "all"
    assert (table.get("incremental_key"), table["query"].get("since")) == (
        ("updated_at", "{since}") if answer is linked else (None, None)
    )
    assert cli("sync").exit_code == 0
    assert stored("SELECT count(*), count(DISTINCT id) FROM items") == [(12, 12)]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply([]), "no records in it"),
        (Reply({"message": "who are you?"}, status=401), "who are you?"),
        (Reply(b"<html>", headers={"Content-Type": "text/html"}), "a page for people"),
    ],
)
def test_a_url_that_shows_no_records_is_told_in_words(cli, api, reply, words):
    api.answer = lambda _asked: reply
    done = cli("init", "--from", f"{api.url}/x", "--to", "w.duckdb")
    assert done.exit_code != 0
    assert words in " ".join(done.output.split())


@pytest.mark.parametrize(
    "url", ["https://me:pw-123456@api.example.com/x", "https://api.example.com/x?api_key=pw-123456"]
)
def test_a_secret_in_a_url_is_written_nowhere(cli, url):
    done = cli("init", "--from", url, "--to", "w.duckdb")
    assert done.exit_code == 2
    assert "pw-123456" not in done.output
    assert "no secret is written into a spec" in " ".join(done.output.split())


OPENAPI = """
openapi: 3.0.3
servers: [{url: /v1}]
paths:
  /orders:
    get:
      parameters:
        - {name: updated_since, in: query, schema: {type: string}}
        - $ref: '#/components/parameters/Cursor'
        - {name: limit, in: query, schema: {type: integer, maximum: 7}}
      responses:
        '200':
          content:
            application/json:
              schema: {$ref: '#/components/schemas/Orders'}
    post: {responses: {'201': {description: made}}}
  /orders/{order_id}/lines:
    get:
      responses: {'200': {content: {application/json: {schema: {type: array, items: {$ref: '#/components/schemas/Line'}}}}}}
  /orders/{order_id}/lines/{line_id}/taxes:
    get:
      responses: {'200': {content: {application/json: {schema: {type: array, items: {$ref: '#/components/schemas/Line'}}}}}}
  /orders/{order_id}:
    get:
      responses: {'200': {content: {application/json: {schema: {$ref: '#/components/schemas/Order'}}}}}
  /health:
    get:
      responses: {'200': {content: {text/plain: {}}}}
components:
  parameters:
    Cursor: {name: cursor, in: query, schema: {type: string}}
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Key}
  schemas:
    Order:
      allOf:
        - type: object
          properties: {id: {type: integer}, updated_at: {type: string, format: date-time}}
    Orders:
      type: object
      properties:
        data: {type: array, items: {$ref: '#/components/schemas/Order'}}
        next_cursor: {type: string}
    Line: {type: object, properties: {id: {type: integer}, product: {type: string}}}
"""


def test_an_openapi_document_becomes_tables_with_their_children(cli, api):
    orders = [{"id": n, "updated_at": moment(n)} for n in range(12)]

    def answer(asked):
        if asked.path == "/openapi.yaml":
            return Reply(OPENAPI.encode(), headers={"Content-Type": "application/yaml"})
        if asked.path == "/v1/orders":
            assert asked.query["limit"] == "7"
            at = int(asked.query.get("cursor", 0))
            rows = [row for row in orders if row["updated_at"] >= asked.query.get("updated_since", "")]
            return Reply({"data": rows[at : at + 7], "next_cursor": str(at + 7) if at + 7 < len(rows) else ""})
        number, *taxed = map(int, re.findall(r"\d+", asked.path.removeprefix("/v1")))
        if taxed:
            assert taxed[0] // 10 == number
            return Reply([{"id": 10 * taxed[0]}])
        return Reply([{"id": 10 * number + n, "product": "tea"} for n in range(number % 3)])

    api.answer = answer
    settings = drafted(cli, f"{api.url}/openapi.yaml")
    assert settings["tables"] == {
        "orders": {
            "path": "orders",
            "query": {"updated_since": "{since}", "limit": 7},
            "records": "data",
            "pagination": {"type": "token", "path": "next_cursor", "query": "cursor"},
            "primary_key": ["id"],
            "incremental_key": "updated_at",
        },
        "lines": {
            "parent": "orders",
            "path": "orders/{parent.id}/lines",
            "pagination": {"type": "link"},
            "primary_key": ["id"],
        },
        "taxes": {
            "parent": "lines",
            "path": "orders/{parent.parent.id}/lines/{parent.id}/taxes",
            "pagination": {"type": "link"},
            "primary_key": ["id"],
        },
    }
    assert '# authentication: {type: api_key, header: X-Key, key: "${API_KEY}"}' in Path("strandline.yml").read_text()
    assert cli("sync").exit_code == 0
    assert stored("SELECT count(*) FROM orders") == [(12,)]
    assert stored("SELECT count(*) FROM lines") == [(12,)]
    assert stored(
        "SELECT count(*) FROM taxes JOIN lines ON lines_id = lines.id AND taxes.orders_id = lines.orders_id"
    ) == [(12,)]
