"""A request, and what is answered: plain values that every part of the source hands on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode, urljoin, urlsplit, urlunsplit

from strandline.errors import TaskError
from strandline.logs import printable

__all__ = ["Answer", "Request", "joined", "origin", "shown"]

_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. Never changed: what signs or continues it makes another one."""

    method: str
    url: str
    """Absolute, perhaps with a query of its own."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Replaces what the URL says under the same names."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    """JSON values; ``None``: there is none."""
    form: bool = False
    """The body is sent as a form, and not as JSON."""

    @property
    def target(self) -> str:
        """The whole URL."""
        return joined(self.url, self.query)

    @property
    def content(self) -> bytes | None:
        """The body as it is sent."""
        if self.body is None:
            return None
        return (
            urlencode(self.body).encode()
            if self.form
            else json.dumps(self.body, separators=(",", ":"), default=str).encode()
        )

    def asking(
        self, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, url: str = ""
    ) -> "Request":
        """The same request with more in it, or of another URL, which may be relative.

        Raises:
            TaskError: that is none of HTTP.
        """
        return replace(
            self,
            url=_found_at(self.target, url) if url else self.url,
            query={} if url else {**self.query, **(query or {})},
            headers={**self.headers, **(headers or {})},
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, complete and unpacked."""

    request: Request
    """The last one, where there were redirects."""
    status: int
    headers: Mapping[str, str]
    """By their names in small letters."""
    content: bytes


def joined(url: str, query: Mapping[str, str]) -> str:
    """``url`` with these parameters, each once. What it has already keeps its place and its spelling."""
    return _joined(url, tuple(query.items())) if query else url


@lru_cache(maxsize=256)
def _joined(url: str, query: tuple[tuple[str, str], ...]) -> str:
    """A request is asked for its target several times."""
    parts, names = urlsplit(url), {name for name, _ in query}
    kept = [one for one in parts.query.split("&") if one and _name(one) not in names]
    return urlunsplit(parts._replace(query="&".join([*kept, urlencode(query, quote_via=quote, safe="")])))


def _found_at(base: str, url: str) -> str:
    try:
        target = urljoin(base, url)
        parts = urlsplit(target)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return target
    except ValueError:
        pass
    raise TaskError(
        f"{shown(base)} sends us to what is no URL of HTTP: {printable(url[:_SHOWN])!r}",
        hint="look at `base_url` and `pagination`",
    )


def _name(parameter: str) -> str:
    return unquote_plus(parameter.partition("=")[0])


@lru_cache(maxsize=256)
def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: who is asked. Credentials belong to one."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


@lru_cache(maxsize=256)
def shown(url: str) -> str:
    """A URL for people: without its query and a user, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))
