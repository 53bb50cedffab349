"""Settings of the source ``hackernews``, as CloudQuery calls them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from strandline.settings import Seconds, parse_duration

__all__ = ["HackerNewsSettings", "began"]

_AGO = re.compile(r"(\d+) (second|minute|hour|day|week)s? ago")
_UNITS = {"second": "s", "minute": "m", "hour": "h", "day": "d"}


def began(text: str, now: datetime) -> datetime:
    """The time that ``start_time`` means.

    Raises:
        ValueError: it is none.
    """
    if ago := _AGO.fullmatch(text.strip()):
        amount = int(ago[1])
        return now - (timedelta(weeks=amount) if ago[2] == "week" else parse_duration(f"{amount}{_UNITS[ago[2]]}"))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is no time such as 2023-01-01T00:00:00Z, or 3 hours ago") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _is_time(text: str) -> str:
    began(text, datetime.now(UTC))
    return text


class HackerNewsSettings(BaseModel):
    """What is read of Hacker News."""

    model_config = ConfigDict(extra="forbid")

    item_concurrency: int = Field(100, ge=1, le=1_000, description="How many items are fetched at once.")
    start_time: Annotated[str, AfterValidator(_is_time)] = Field(
        "24 hours ago",
        description="The first sync reads items from this time on: 2023-01-01T00:00:00Z, or 3 hours ago. Later ones go on from the cursor.",
    )
    url: str = Field(
        "https://hacker-news.firebaseio.com/v0",
        pattern=r"^https?://[^/?#\s]+[^?#\s]*$",
        description="Of the API, to before `/item`.",
    )
    timeout: Seconds = Field(30, description="How long to wait for an answer. A duration, as 30s.")
