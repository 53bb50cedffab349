"""A spec for `strandline init`, from what a URL answers: where records lie, how the answer continues, what identifies a record."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from strandline.connectors.rest.client import Client, json_of
from strandline.connectors.rest.continuing import guessed, joined_path
from strandline.connectors.rest.documents import one_at
from strandline.connectors.rest.pagination import next_link
from strandline.connectors.rest.request import Answer, Request
from strandline.connectors.rest.times import as_time
from strandline.errors import StrandlineError, UsageError
from strandline.proposal import Proposal, Proposals, Setting

__all__ = ["CHANGED", "KEYS", "SINCE", "Found", "found_in", "proposed", "table_name"]

_DEPTH_MAX = 3
_BEST = ("data", "items", "results", "records", "value", "values", "rows", "entries", "elements", "list", "content")
KEYS = ("id", "_id", "uuid", "guid", "key", "sha", "number", "code", "slug", "name")
"""Fields that often identify a record, the best first."""
CHANGED = re.compile(
    r"(last[_-]?)?(updated|modified|changed|edited)([_-]?(at|on|date|time|timestamp|since))?|(date|time)[_-]?(updated|modified)"
    r"|system_?modstamp|last_?update(_?(at|on|date|time))?|(update|modification)_?(time|date)",
    re.IGNORECASE,
)
"""Fields that say when a record was changed last."""
SINCE = (
    "since",
    "updated_since",
    "updated_after",
    "modified_since",
    "modified_after",
    "updatedSince",
    "updatedAfter",
    "from_date",
)
"""Parameters by which APIs are often asked for what is new."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an answer shows of its table."""

    records: str
    """The path; empty: the top."""
    pagination: Mapping[str, Any]
    why: str
    rows: Sequence[Mapping[str, Any]]
    key: str = ""
    changed: str = ""
    """The column by which it could be incremental."""
    notes: tuple[str, ...] = field(default=())


def proposed(url: str, answer: Answer, document: Any, client: Client) -> Proposals:
    """A spec for one URL that answers with records.

    Args:
        url: asked for.
        answer: what came.
        document: the JSON in it.
        client: asks whether there is a parameter for what is new.

    Raises:
        StrandlineError: it does not.
    """
    parts = urlsplit(url)
    found = found_in(answer, document)
    above, _, last = parts.path.rstrip("/").rpartition("/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    settings = [Setting("path", last or "/")]
    since = _since(url, found, client) if found.changed else ""
    if query or since:
        settings.append(Setting("query", {**query, **({since: "{since}"} if since else {})}))
    if found.records:
        settings.append(Setting("records", found.records, f"{len(found.rows)} records in the first answer"))
    settings.append(Setting("pagination", dict(found.pagination), found.why))
    if found.key:
        settings.append(Setting("primary_key", [found.key], "different in all records of the first answer"))
    if since:
        settings.append(Setting("incremental_key", found.changed, f"with {since} in the future, there were no records"))
    why = 'reads only what is new; with a parameter for it, if the API has one: query: {NAME: "{since}"}'
    options = (Setting("incremental_key", found.changed, why),) if found.changed and not since else ()
    name = table_name(last or parts.hostname or "records")
    guarantee = "lag only" if since else "full read"
    table = Proposal(name, name, "", guarantee, tuple(settings), options)
    base = urlunsplit((parts.scheme, parts.netloc, above, "", ""))
    return Proposals((table,), {"base_url": base}, found.notes, only_these=True)


def found_in(answer: Answer, document: Any) -> Found:
    """What an answer shows of its table.

    Raises:
        UsageError: there are no records in it.
    """
    lists = sorted(_lists(document, ""), key=lambda one: (-_rank(one[0]), len(one[1])), reverse=True)
    if lists:
        records, rows = lists[0]
    elif isinstance(document, dict) and document:
        records, rows = "", [document]
    else:
        raise UsageError("the answer has no records in it", hint="name a URL that answers with a list of objects")
    pagination, why = guessed(document, identified=_identifies("id", rows))
    if next_link(answer.headers.get("link", "")):
        pagination, why = {"type": "link"}, "the header Link has the next page"
    notes = (
        ()
        if pagination["type"] != "none" or len(rows) == 1
        else ("nothing in the answer says how it continues: is it all?",)
    )
    names = list(dict.fromkeys(name for row in rows for name in row))
    key = next((name for name in KEYS if _identifies(name, rows)), "")
    changed = next((name for name in names if CHANGED.fullmatch(name) and _are_times(name, rows)), "")
    return Found(records, pagination, why, rows, key, changed, notes)


def table_name(text: str) -> str:
    """Of the last part of a path."""
    return re.sub(r"\W+", "_", re.sub(r"\.json$", "", text)).strip("_").lower() or "records"


def _lists(document: Any, path: str, depth: int = 0) -> Iterator[tuple[str, list[Any]]]:
    """Where lists of objects lie, with them."""
    if isinstance(document, list):
        if document and all(isinstance(one, dict) for one in document):
            yield path, document
    elif isinstance(document, dict) and depth < _DEPTH_MAX:
        for name, value in document.items():
            yield from _lists(value, joined_path(path, name), depth + 1)


def _rank(path: str) -> int:
    """The smaller, the more likely it is that records lie there."""
    last = path.rpartition(".")[2]
    return 0 if not path else path.count(".") * 100 + (_BEST.index(last) if last in _BEST else len(_BEST))


def _identifies(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    values = [row.get(name) for row in rows]
    return all(isinstance(one, str | int) and not isinstance(one, bool) for one in values) and len(set(values)) == len(
        values
    )


def _are_times(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return all(as_time(row.get(name)) is not None for row in rows)


def _since(url: str, found: Found, client: Client) -> str:
    """A parameter that the API understands: with a time of the future, there is nothing."""
    times = [as_time(row.get(found.changed)) for row in found.rows]
    future = max(one for one in times if one is not None) + timedelta(days=36_500)
    query = urlsplit(url).query
    for name in (
        *SINCE,
        f"{found.changed}_gte",
        f"{found.changed}__gte",
        f"{found.changed}[gte]",
        f"{found.changed}_after",
    ):
        if name in dict(parse_qsl(query)):
            continue
        request = Request("GET", url, query={name: future.strftime("%Y-%m-%dT%H:%M:%SZ")})
        try:
            document = client.ask(request, _quiet, json_of)
        except StrandlineError:
            continue
        if (one_at(document, found.records) if found.records else document) == []:
            return name
    return ""


def _quiet() -> None:
    """Nobody listens."""
