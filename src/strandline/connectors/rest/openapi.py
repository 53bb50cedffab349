"""A spec for `strandline init`, from an OpenAPI 3 document: collections that can be read, how they continue, and their keys."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from strandline.connectors.rest.client import json_of
from strandline.connectors.rest.proposals import CHANGED, KEYS, SINCE, table_name
from strandline.connectors.rest.request import Answer
from strandline.errors import UsageError
from strandline.proposal import Proposal, Proposals, Setting

__all__ = ["document_of", "is_openapi", "proposed_by"]

_TABLES_MAX = 100
_START, _HEAD = 100, 4096
_REFERENCES_MAX = 20
_TOKENS = (
    "cursor",
    "after",
    "page_token",
    "pageToken",
    "next_token",
    "nextToken",
    "starting_after",
    "continuation",
    "continuationToken",
)
_OFFSETS = ("offset", "skip", "startAt", "start")
_PAGES = ("page", "page_number", "pageNumber")
_SIZES = ("per_page", "limit", "page_size", "pageSize", "maxResults")
_NEXT = re.compile(r"next|nextLink|next_?(url|link|href)|@odata\.nextLink", re.IGNORECASE)
_NEXT_TOKEN = re.compile(r"next_?(page)?_?(token|cursor)|(end)?cursor", re.IGNORECASE)
_SIZE_MAX = 100


def document_of(answer: Answer) -> Any:
    """The JSON, or the YAML of an OpenAPI document, that a URL answers with.

    Raises:
        BrokenError: it is neither.
    """
    start = answer.content[:_START].lstrip()
    if not re.search(rb"^openapi\s*:", answer.content[:_HEAD], re.MULTILINE) or start.startswith((b"{", b"<")):
        return json_of(answer)
    try:
        return YAML(typ="safe", pure=True).load(io.BytesIO(answer.content))
    except (YAMLError, ValueError, RecursionError):
        return json_of(answer)


def is_openapi(document: Any) -> bool:
    """Whether it is one of version 3."""
    return (
        isinstance(document, dict)
        and str(document.get("openapi", "")).startswith("3.")
        and isinstance(document.get("paths"), dict)
    )


@dataclass(frozen=True, slots=True)
class _Collection:
    """A path that answers with a list of objects."""

    path: str
    parameters: Mapping[str, Mapping[str, Any]]
    """Of the query, by name."""
    records: str
    fields: Mapping[str, Any]
    """Of an object, by name."""
    envelope: Mapping[str, Any]
    """What is beside the list."""


def proposed_by(document: Mapping[str, Any], url: str) -> Proposals:
    """A spec for the collections of a document that lies at ``url``.

    Raises:
        UsageError: there are none.
    """
    collections = {one.path: one for one in _collections(document)}
    names: dict[str, str] = {}
    asked: dict[str, str] = {}
    """Of the paths of the document, those of the spec."""
    tables = []
    for path, one in sorted(collections.items(), key=lambda item: (item[0].count("{"), item[0])):
        parent = _parent(path, names, collections)
        if "{" in path and not parent:
            continue
        name = _free(table_name(path.rstrip("/").rpartition("/")[2]), names.values(), path)
        names[path], asked[path] = name, path.lstrip("/")
        if parent:
            # what the parent takes from its own parent is one level higher for its children
            above = asked[parent[0]].replace("{parent.", "{parent.parent.")
            asked[path] = f"{above}/{{parent.{parent[2]}}}{path.rpartition('}')[2]}"
        tables.append(_table(name, one, asked[path], parent[1] if parent else ""))
        if len(tables) == _TABLES_MAX:
            break
    if not tables:
        raise UsageError(f"{url} describes no path that answers with a list of objects", hint="name the URL of one")
    servers = document.get("servers") or [{}]
    base = urljoin(url, str(servers[0].get("url", "/")) if isinstance(servers[0], dict) else "/")
    if "{" in base or not urlsplit(base).hostname:
        raise UsageError(f"{url} does not say where its server is: {base!r}", hint="write the spec by hand: `base_url`")
    return Proposals(tuple(tables), {"base_url": base}, tuple(_notes(document)), only_these=True)


def _collections(document: Mapping[str, Any]) -> Iterator[_Collection]:
    for path, item in document["paths"].items():
        get = item.get("get") if isinstance(item, dict) else None
        if not isinstance(get, dict):
            continue
        answer = _resolved(document, get.get("responses", {}).get("200", get.get("responses", {}).get(200, {})))
        content = answer.get("content", {})
        kind = next((one for one in content if "json" in one), None)
        schema = _resolved(document, content[kind].get("schema", {})) if kind else {}
        found = _list_in(document, schema)
        if found is None:
            continue
        every = [_resolved(document, one) for one in [*item.get("parameters", []), *get.get("parameters", [])]]
        asked = {str(one.get("name")): one for one in every if one.get("in") == "query"}
        records, fields = found
        yield _Collection(str(path), asked, records, fields, _properties(document, schema))


def _resolved(document: Mapping[str, Any], node: Any) -> dict[str, Any]:
    """What a node says, or what it refers to within the document."""
    for _ in range(_REFERENCES_MAX):
        if not isinstance(node, dict) or "$ref" not in node:
            break
        at: Any = document
        for step in str(node["$ref"]).removeprefix("#/").split("/"):
            at = at.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(at, dict) else {}
        node = at
    return node if isinstance(node, dict) else {}


def _properties(document: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    schema = _resolved(document, schema)
    found = dict(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        found |= _properties(document, part)
    return found


def _list_in(document: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Where the list of objects lies in an answer, and the fields of those."""
    if fields := _fields(document, schema):
        return "", fields
    lists = {
        name: fields
        for name, one in _properties(document, schema).items()
        if (fields := _fields(document, _resolved(document, one)))
    }
    if len(lists) != 1:
        return None
    return next(iter(lists.items()))


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    return _properties(document, schema["items"]) if schema.get("type") == "array" and "items" in schema else {}


def _parent(path: str, names: Mapping[str, str], collections: Mapping[str, _Collection]) -> tuple[str, str, str] | None:
    """The parent's path, its name, and the field by which a child is asked for."""
    found = re.fullmatch(r"(.*?)/\{([^{}]+)\}/[^{}]+", path)
    if not found or found[1] not in names or not _key(collections[found[1]].fields):
        return None
    fields = collections[found[1]].fields
    wanted = re.sub(r".*_(?=(id|number|key)$)|(?<=[a-z])(?=Id$)", "", found[2])
    field = next((one for one in (found[2], wanted, wanted.lower(), _key(fields)) if one in fields), "")
    return (found[1], names[found[1]], field) if field else None


def _table(name: str, one: _Collection, path: str, parent: str) -> Proposal:
    settings = []
    if parent:
        settings.append(Setting("parent", parent))
    settings.append(Setting("path", path))
    since = next((one_ for one_ in SINCE if one_ in one.parameters), "") if not parent else ""
    changed = (
        next((field for field, said in one.fields.items() if CHANGED.fullmatch(field) and _is_time(said)), "")
        if since
        else ""
    )
    size = next((one_ for one_ in _SIZES if one_ in one.parameters), "")
    query: dict[str, Any] = {since: "{since}"} if since and changed else {}
    if size:
        most = _resolved({}, one.parameters[size].get("schema", {})).get("maximum")
        query[size] = most if isinstance(most, int) else _SIZE_MAX
    if query:
        settings.append(Setting("query", query))
    if one.records:
        settings.append(Setting("records", one.records))
    settings.append(Setting("pagination", _pagination(one), "as the document has it"))
    if key := _key(one.fields):
        settings.append(Setting("primary_key", [key]))
    if since and changed:
        settings.append(Setting("incremental_key", changed, f"the API has a parameter {since}"))
    return Proposal(name, name, "", "lag only" if since and changed else "full read", tuple(settings))


def _pagination(one: _Collection) -> dict[str, Any]:
    sent = next((name for name in _TOKENS if name in one.parameters), "")
    more = next((name for name in ("has_more", "hasMore") if name in one.envelope), "")
    told = next((name for name in one.envelope if _NEXT_TOKEN.fullmatch(name)), "")
    url = next((name for name in one.envelope if _NEXT.fullmatch(name)), "")
    if sent and told:
        return {"type": "token", "path": told, "query": sent}
    if url:
        return {"type": "next_url", "path": url if "." not in url else f'"{url}"'}
    if sent == "starting_after":
        return {"type": "last", "query": sent} | ({"more": more} if more else {})
    for kind, known in (("page", _PAGES), ("offset", _OFFSETS)):
        if sent := next((name for name in known if name in one.parameters), ""):
            return {"type": kind, "query": sent}
    return {"type": "link"}


def _key(fields: Mapping[str, Any]) -> str:
    return next((name for name in KEYS if name in fields), "")


def _is_time(said: Any) -> bool:
    return isinstance(said, dict) and (said.get("format") in {"date-time", "date"} or said.get("type") == "integer")


def _free(name: str, taken: Any, path: str) -> str:
    if name not in taken:
        return name
    whole = table_name("_".join(part for part in path.split("/") if part and "{" not in part))
    return whole if whole not in taken else f"{whole}_{len(list(taken))}"


def _notes(document: Mapping[str, Any]) -> Iterator[str]:
    schemes = document.get("components", {}).get("securitySchemes", {})
    for said in schemes.values() if isinstance(schemes, dict) else ():
        match (said.get("type"), said.get("scheme", said.get("in"))) if isinstance(said, dict) else None:
            case ("http", "bearer"):
                yield 'authentication: {type: bearer, token: "${API_TOKEN}"}'
            case ("http", "basic"):
                yield 'authentication: {type: basic, username: NAME, password: "${API_PASSWORD}"}'
            case ("apiKey", "header" | "query" as place):
                yield f'authentication: {{type: api_key, {place}: {said.get("name")}, key: "${{API_KEY}}"}}'
            case _:
                continue
