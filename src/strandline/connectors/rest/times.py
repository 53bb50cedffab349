"""Bounds of an incremental key: as the spec and the records have them, as an API is asked for them, and cut into windows."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

__all__ = ["as_time", "earlier", "parsed", "windows"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 100_000_000_000
"""A number from here on counts milliseconds since 1970, and a smaller one seconds."""
_SECONDS_FROM = 100_000_000
"""A smaller number is no time."""


def parsed(written: str | int) -> Any:
    """A bound in a spec: a time, or a number.

    Raises:
        ValueError: it is neither.
    """
    text = str(written).strip()
    if text.lstrip("-").isdigit():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is no time as 2024-01-31 or 2024-01-31T12:00:00Z, and no number") from None
    return found.replace(tzinfo=found.tzinfo or UTC)


def as_time(value: Any) -> datetime | None:
    """What a key's value means, if it is a time."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        if value < _SECONDS_FROM:
            return None
        return _EPOCH + (timedelta(milliseconds=value) if value >= _MILLISECONDS_FROM else timedelta(seconds=value))
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC)


def earlier(value: Any) -> Any:
    """What an API is asked for, so that it leaves nothing out at the bound itself, whichever way it understands `since`."""
    if isinstance(value, datetime):
        return value - timedelta(seconds=1)
    if isinstance(value, date):
        return as_time(value)
    if isinstance(value, int):
        return value - (1_000 if value >= _MILLISECONDS_FROM else 1)
    return value


def windows(since: datetime, until: datetime, step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """From ``since`` to ``until`` in pieces of ``step``; the last one may be shorter."""
    while since < until:
        end = min(since + step, until)
        yield since, end
        since = end
