"""Bounds of an incremental key: as the spec and the records have them, as an API is asked for them, and cut into windows."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

__all__ = ["as_time", "parsed", "wider", "windows"]

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


def wider(value: Any, name: str, form: str) -> Any:
    """A bound that leaves nothing out: neither for its coarse form, nor where an API means it to be excluded.

    Args:
        value: a time, a number, or anything else, which stays as it is.
        name: ``since`` or ``until``.
        form: in which it is written.
    """
    sign = 1 if name == "until" else -1
    if isinstance(value, int) and not isinstance(value, bool) and not form:
        return value + sign * (1_000 if value >= _MILLISECONDS_FROM else 1)
    moment = as_time(value) if form or isinstance(value, date) else None
    if moment is None:
        return value
    if form in {"", "iso", "unix", "unix_ms"} or "%S" in form:
        return moment + sign * timedelta(seconds=1)
    return moment + sign * (
        timedelta(minutes=1) if "%M" in form else timedelta(hours=1) if "%H" in form else timedelta(days=1)
    )


def windows(since: datetime, until: datetime, step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """From ``since`` to ``until`` in pieces of ``step``; the last one may be shorter."""
    while since < until:
        end = min(since + step, until)
        yield since, end
        since = end
