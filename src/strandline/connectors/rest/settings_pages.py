"""What a spec says of how an answer continues."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from strandline.connectors.arrow.json_path import json_path
from strandline.connectors.rest.json_queries import check_query, is_query

__all__ = [
    "LastSettings",
    "LinkSettings",
    "NextURLSettings",
    "OffsetSettings",
    "OnePageSettings",
    "PageSettings",
    "PaginationSettings",
    "PathText",
    "PlaceText",
    "TokenSettings",
]

_EXACT = ConfigDict(extra="forbid")


def _path(value: str) -> str:
    json_path(value)
    return value


def _place(value: str) -> str:
    if is_query(value):
        check_query(value)
        return value
    return _path(value)


PathText: TypeAlias = Annotated[str, AfterValidator(_path)]
"""A path in a JSON document, as ``meta.next``."""

PlaceText: TypeAlias = Annotated[str, AfterValidator(_place)]
"""Where to look in a JSON document: a path, or JSONPath."""


class _Sent(BaseModel):
    """Where the position of the next page is sent: one of the two."""

    model_config = _EXACT
    query: str | None = Field(None, min_length=1, description="The parameter of the query that has it.")
    body: PathText | None = Field(None, description="Where it stands in the body, as variables.after.")

    @model_validator(mode="after")
    def _one_place(self) -> "_Sent":
        if (self.query is None) == (self.body is None):
            raise ValueError("say where it is sent: `query` or `body`, one of the two")
        return self


class OnePageSettings(BaseModel):
    """Everything comes at once."""

    model_config = _EXACT
    type: Literal["none"]


class LinkSettings(BaseModel):
    """The header ``Link`` has the next URL, as ``rel="next"``."""

    model_config = _EXACT
    type: Literal["link"]


class NextURLSettings(BaseModel):
    """The answer has the next URL, whole or relative; none, null or empty at the end."""

    model_config = _EXACT
    type: Literal["next_url"]
    path: PlaceText = Field("next", description="Where it is in the answer.")


class TokenSettings(_Sent):
    """The answer has a token of the next page; none, null or empty at the end."""

    type: Literal["token"]
    path: PlaceText = Field(description="Where it is in the answer, as meta.next_cursor.")
    more: PlaceText | None = Field(
        None, description="Where the answer says whether there is more, as pageInfo.hasNextPage."
    )


class PageSettings(_Sent):
    """Pages are numbered. The first one without records is the end, unless the answer says it before."""

    type: Literal["page"]
    first: int = Field(1, ge=0, description="The number of the first page.")
    pages: PlaceText | None = Field(None, description="Where the answer says how many pages there are.")
    more: PlaceText | None = Field(None, description="Where the answer says whether there is more.")


class OffsetSettings(_Sent):
    """So many records are passed over. An answer without records is the end, unless the answer says it before."""

    type: Literal["offset"]
    total: PlaceText | None = Field(None, description="Where the answer says how many records there are in all.")
    more: PlaceText | None = Field(None, description="Where the answer says whether there is more.")


class LastSettings(_Sent):
    """The next page begins behind the last record of this one. An answer without records is the end, unless it says so before."""

    type: Literal["last"]
    field: PlaceText = Field("id", description="Of the record, what is sent.")
    more: PlaceText | None = Field(None, description="Where the answer says whether there is more, as has_more.")


def _named(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


PaginationSettings: TypeAlias = Annotated[
    OnePageSettings | LinkSettings | NextURLSettings | TokenSettings | PageSettings | OffsetSettings | LastSettings,
    Field(discriminator="type"),
]
"""One of them, by its ``type``."""
