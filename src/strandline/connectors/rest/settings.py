"""What a spec says of an API, and of each of its tables."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, HttpUrl, model_validator

from strandline.connectors.rest.family import Family
from strandline.connectors.rest.placeholders import FORMATS, placeholders
from strandline.connectors.rest.settings_auth import AuthSettings
from strandline.connectors.rest.settings_pages import OnePageSettings, PaginationSettings, PlaceText
from strandline.connectors.rest.times import parsed
from strandline.errors import UsageError
from strandline.settings import Duration, Seconds, Size, lasting, parse_type
from strandline.table_settings import PerTable

__all__ = ["RateLimit", "RestSettings", "RestTable"]

_EXACT = ConfigDict(extra="forbid")
_MISTYPED = re.compile(r"\{[A-Za-z_][\w.]*(:[^{}]*)?\}")


def _type(text: str) -> str:
    if text != "json":
        parse_type(text)
    return text


ColumnType: TypeAlias = Annotated[str, AfterValidator(_type)]


def _in_text(value: object) -> object:
    """A value of a query or a header as it is sent."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Sent: TypeAlias = Annotated[str, BeforeValidator(_in_text)]


def _bound(value: Any) -> Any:
    if value is not None:
        parsed(value)
    return value


def _base(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("a URL has no user and no password here: write `authentication`")
    return url


class RateLimit(BaseModel):
    """So many requests in so long a time, spread evenly."""

    model_config = _EXACT
    requests: int = Field(ge=1, description="How many.")
    per: Seconds = Field(description="In which time, as 1s or 1h.")


class RestTable(BaseModel):
    """How one table is asked for.

    In ``path``, ``query``, ``headers`` and ``body`` these are replaced: ``{since}`` and ``{until}``, the bounds of the
    incremental key, with a format behind a colon (``iso``, ``date``, ``unix``, ``unix_ms``, or ``%Y-%m-%d``); ``{parent.id}``, of
    the parent's record, and ``{parent.parent.id}``, of the record above that; ``{partition}``.
    """

    model_config = _EXACT
    NEEDS: ClassVar[Mapping[str, str]] = dict.fromkeys(("lag", "start", "end", "sorted", "window"), "incremental_key")
    """Under a glob, these mean nothing for a table without a key."""

    path: str | None = Field(None, min_length=1, description="Below `base_url`. Every table needs one.")
    method: Literal["GET", "POST"] = Field("GET", description="How it is asked.")
    query: dict[str, Sent] = Field({}, description="Parameters of the query.")
    headers: dict[str, Sent] = Field({}, description="Headers.")
    body: dict[str, Any] | None = Field(None, description="JSON that is sent.")
    graphql: str | None = Field(
        None, min_length=1, description="A query of GraphQL; its variables are `variables` in `body`. Sent by POST."
    )
    records: PlaceText | None = Field(
        None,
        description="Where the records lie in an answer: keys with dots between them, like data.items; * is every element or "
        "key; or JSONPath, like $.data[?@.type == 'order']. Default: the elements of an array, or the object, at the top.",
    )
    absent: Literal["fail", "empty"] = Field(
        "fail", description="What an answer without anything at `records` means: a fault, or that there are no records."
    )
    primary_key: list[str] = Field([], description="Columns that identify a row.")
    incremental_key: str | None = Field(
        None,
        min_length=1,
        description="Column that grows when a record changes, as updated_at: only what is new is read.",
    )
    lag: Duration = lasting("1m", "How far each sync looks back: records may appear so late.")
    start: Annotated[str | int | None, AfterValidator(_bound)] = Field(
        None, description="Where the first sync begins, as 2024-01-01. Default: everything."
    )
    end: Annotated[str | None, AfterValidator(_bound)] = Field(
        None, description="Where reading ends, as 2025-01-01. Default: now, by the API's clock."
    )
    sorted: bool = Field(
        False, description="Records come in the order of the key, so that a sync that is interrupted goes on there."
    )
    window: Duration | None = Field(
        None, description="Ask for so long a time at once, as 30d; needs {since} and {until}, and a `start`."
    )
    etag: bool = Field(
        False,
        description="All of it comes in one answer with an ETag: it is read again only when the API says that it has changed, and then "
        "replaces what was there.",
    )
    types: dict[str, ColumnType] = Field(
        {},
        description="Arrow types of columns, like string, int64, timestamp[us, UTC] or decimal128(18, 4); json keeps it as JSON.",
    )
    objects: Literal["struct", "json", "flat"] = Field(
        "struct", description="What becomes of objects in a record: a struct, JSON, or columns as user_name."
    )
    lists: Literal["list", "json", "tables"] = Field(
        "list", description="What becomes of lists in a record: a list, JSON, or a child table as orders_lines."
    )
    conflicts: Literal["fail", "json", "new"] = Field(
        "fail",
        description="What becomes of a value that does not go with its column: the table fails, or it stands in another column, "
        "as price_json or price_text.",
    )
    pagination: PaginationSettings | None = Field(None, description="How an answer continues. Default: as of the API.")
    parent: str | None = Field(
        None,
        min_length=1,
        description="The table for each of whose records this one is asked for, with {parent.…} in `path`.",
    )
    parent_columns: dict[str, str] = Field(
        {}, description="Columns that are taken from the parent's record: their names here, and there."
    )

    @model_validator(mode="after")
    def _words(self) -> "RestTable":
        wrong = []
        for text in [self.path or "", *self.query.values(), *self.headers.values()]:
            unknown = [found[0] for found in _MISTYPED.finditer(text) if not any(placeholders(found[0]))]
            wrong += [
                f"{one} is unknown: {{since}}, {{until}}, {{partition}} and {{parent.…}} are replaced"
                for one in unknown
            ]
        for name, form, _ in self.placeholders():
            if form and name in {"since", "until"} and form not in FORMATS and "%" not in form:
                wrong.append(f"{{{name}:{form}}}: a format is one of {', '.join(FORMATS)}, or has a %")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def contradictions(self) -> list[str]:
        """What does not go together, once all that a spec says of the table is known."""
        asked = {name for name, _, _ in self.placeholders()}
        needed = [name for name, _, may_lack in self.placeholders() if name == "since" and not may_lack]
        of_parent = sorted(name for name in asked if name.startswith("parent."))
        said = {
            "it has no `path`": self.path is None,
            "`graphql` and `query` in `body` are the same: write one of them": self.graphql
            and "query" in (self.body or {}),
            "a `body` is sent by POST: set `method`": self.body is not None
            and self.method == "GET"
            and not self.graphql,
            "`parent_columns` need a `parent`": self.parent_columns and not self.parent,
            f"{{{', '.join(of_parent)}}} needs a `parent`": of_parent and not self.parent,
            "a `parent` needs {parent.…} in the request": self.parent and not of_parent,
            "an `etag` is of a table in one answer: `pagination: {type: none}`, without a key and a parent": self.etag
            and not (isinstance(self.pagination, OnePageSettings) and not self.incremental_key and not self.parent),
            "{since} and {until} need an `incremental_key`": asked & {"since", "until"} and not self.incremental_key,
            "a `window` needs {since} and {until} in the request, and a `start`": self.window is not None
            and not (asked >= {"since", "until"} and self.start is not None),
            "a `start` needs {since} in the request": self.start is not None and "since" not in asked,
            "an `end` needs {until} in the request": self.end is not None and "until" not in asked,
            "{since} is a part of a text here, so the first sync needs a `start`": needed and self.start is None,
        }
        return [words for words, is_so in said.items() if is_so]

    def placeholders(self) -> list[tuple[str, str, bool]]:
        """All that stand in the request; see ``strandline.connectors.rest.placeholders``."""
        path = [(name, form, False) for name, form, _ in placeholders(self.path or "")]
        parts = (self.query, self.headers, self.body or {})
        return [*path, *(one for part in parts for one in placeholders(part))]


class PartitionList(BaseModel):
    """Partitions that the API lists: accounts, projects."""

    model_config = _EXACT
    path: str = Field(min_length=1, description="Below `base_url`.")
    query: dict[str, Sent] = Field({}, description="Parameters of the query.")
    records: PlaceText | None = Field(None, description="Where they lie in an answer. Default: as of a table.")
    field: PlaceText = Field("id", description="Of each, what {partition} is.")
    pagination: PaginationSettings | None = Field(None, description="How an answer continues. Default: as of the API.")

    def as_table(self) -> RestTable:
        """Asked for as a table is."""
        return RestTable(path=self.path, query=self.query, records=self.records, pagination=self.pagination)


class RestSettings(BaseModel):
    """Where an API is, how it is asked, and what it has."""

    model_config = _EXACT

    base_url: Annotated[HttpUrl, AfterValidator(_base)] = Field(description="What the paths of all tables lie below.")
    headers: dict[str, Sent] = Field(
        {}, description="Sent with every request to the host of `base_url`, and to no other."
    )
    query: dict[str, Sent] = Field({}, description="Parameters of every request, to that host only.")
    authentication: AuthSettings | None = Field(
        None, description="Who asks; credentials are sent to the host of `base_url` only."
    )
    pagination: PaginationSettings | None = Field(
        None,
        description="How an answer continues. Default: as the first answer says, by its header Link, or not at all.",
    )
    tables: PerTable[RestTable] = Field(
        default_factory=partial(PerTable, RestTable),
        description="The tables, by name; under a glob, what holds for all that it matches.",
    )
    partitions: list[str] | PartitionList = Field(
        [], description="Accounts, say: every table with {partition} is read for each of them, and each fails alone."
    )
    rate_limit: RateLimit | None = Field(
        None, description="How often may be asked. What the API says of it counts in any case."
    )
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="How many requests for child tables, or for pages that have numbers, go on at once."
    )
    timeout: Seconds = Field(30.0, description="How long to wait for each part of an answer.")
    answer_timeout: Seconds = Field(300.0, description="How long a whole answer may take.")
    answer_max: Size = Field(64 << 20, description="How large an answer may be, unpacked.")
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(5, description="How often a request is tried.")
    wait_max: Duration = lasting(
        "15m", "How long a rate limit is waited for; a longer one ends the task, which goes on next time."
    )
    private_addresses: Literal["refuse", "allow"] = Field(
        "refuse",
        description="What becomes of a redirect, or a next page, at an address of narrower reach than that of `base_url`: a private "
        "or a local one.",
    )

    @model_validator(mode="after")
    def _fits(self) -> "RestSettings":
        wrong = []
        if self.names() and (self.base_url.query or self.base_url.fragment):
            wrong.append("`base_url` has no query: write `query`, which is sent with every request")
        tables: dict[str, RestTable] = {}
        for name in self.names():
            try:
                tables[name] = self.tables.of(name)
            except UsageError as error:
                wrong.append(error.message)
        # what is wrong in a table may be all that is wrong with its children
        family = Family({} if wrong else tables)
        for name, one in tables.items():
            said = one.contradictions() + (family.contradictions(name) if family.said else [])
            if not self.partitions and any(word == "partition" for word, _, _ in one.placeholders()):
                said.append("{partition} needs `partitions`")
            wrong += [f"table {name!r}: {words}" for words in said]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def family(self) -> Family:
        """Which of its tables belongs to which."""
        return Family({name: self.tables.of(name) for name in self.names()})

    def names(self) -> list[str]:
        """Of all tables, in their order: the keys of ``tables`` that are no globs."""
        return [entry.key for entry in self.tables.entries if "*" not in entry.key]
