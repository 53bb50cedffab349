"""How long an API wants us to wait: what its headers say, and how requests are spread. Nothing here sleeps."""

import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

__all__ = ["Pace", "date_of", "exhausted_s", "retry_after_s"]

_EPOCH_MIN_S = 1_000_000_000
"""A number from here on is a time, and no length of time."""
_STRUCTURED = re.compile(r"(?:^|[;,\s])(r|remaining|t|reset)\s*=\s*(\d+)")
_REMAINING = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_RESET = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")


def date_of(headers: Mapping[str, str]) -> datetime | None:
    """The API's clock, to the second, when it answered; a cached answer has an older one."""
    return _moment(headers.get("date", ""))


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds until a request may be repeated, by ``Retry-After`` in either form.

    Args:
        headers: by their names in small letters.
        now: our clock; used where the API does not tell its own.
    """
    written = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d*)?", written):
        return float(written)
    until = _moment(written)
    return None if until is None else max(0.0, (until - (date_of(headers) or now)).total_seconds())


def exhausted_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds until more may be asked, where nothing is left; ``None`` where something is, or nobody says.

    Known: ``X-RateLimit-…`` with a time or a length of time, ``RateLimit-…`` in fields of their own, and in one.
    """
    found = {name[0]: int(value) for name, value in _STRUCTURED.findall(headers.get("ratelimit", ""))}
    remaining = _first(headers, _REMAINING)
    if found.get("r") == 0 and "t" in found:
        return float(found["t"])
    reset = _first(headers, _RESET)
    if remaining is None or remaining > 0 or reset is None:
        return None
    if reset < _EPOCH_MIN_S:
        return reset
    clock = (date_of(headers) or now).timestamp()
    return max(0.0, (reset / 1000 if reset > _EPOCH_MIN_S * 1000 else reset) - clock)


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    for name in names:
        written = headers.get(name, "").partition(",")[0].strip()
        if re.fullmatch(r"\d{1,15}(\.\d*)?", written):
            return float(written)
    return None


@lru_cache(maxsize=16)
def _moment(written: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(written)
    except (ValueError, TypeError, IndexError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


class Pace:
    """When the next request may begin, for all threads of a source. Times are seconds of a clock that only goes forward."""

    def __init__(self, every_s: float = 0.0) -> None:
        self._every_s = every_s
        self._lock = threading.Lock()
        self._next_s = 0.0

    def take(self, now_s: float) -> float:
        """Seconds to wait before a request; the ones after it wait longer."""
        with self._lock:
            begins_s = max(now_s, self._next_s)
            self._next_s = begins_s + self._every_s
            return begins_s - now_s

    def hold(self, until_s: float) -> None:
        """Nothing begins before."""
        with self._lock:
            self._next_s = max(self._next_s, until_s)
