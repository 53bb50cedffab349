"""Asks the Hacker News API for items, over connections that are kept open."""

import http.client
import json
import queue
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from strandline.errors import RetryableError, TaskError, UnreachableError

__all__ = ["Client"]

_BODY_BYTES_MAX = 4 << 20
_ATTEMPTS = 3
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class Client:
    """Safe to share between threads."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        self._url, self._timeout_s = url, timeout_s
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path.rstrip("/")
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()

    def newest(self) -> int:
        """The greatest id that is in use.

        Raises:
            As ``items``.
        """
        [found] = self._asked(["maxitem"])
        if not isinstance(found, int):
            raise TaskError(f"{self._url}/maxitem.json is {type(found).__name__}, and no number", hint="look at `url`")
        return found

    def items(self, ids: Sequence[int]) -> list[dict[str, Any] | None]:
        """The items of some ids, in their order; ``None`` where there is none, or none yet.

        Raises:
            UnreachableError: the API does not answer.
            RetryableError: it answers that it will later, or with something else than JSON.
            TaskError: it refuses.
        """
        found = self._asked([f"item/{one}" for one in ids])
        for number, item in zip(ids, found, strict=True):
            if item is not None and (not isinstance(item, dict) or item.get("id") != number):
                raise TaskError(f"{self._url}/item/{number}.json is not this item", hint="look at `url`")
        return found

    def _asked(self, what: Sequence[str]) -> list[Any]:
        connection = self._taken()
        found = []
        try:
            for one in what:
                body, connection = self._body(connection, f"{self._path}/{one}.json")
                try:
                    found.append(json.loads(body))
                except ValueError as error:
                    raise RetryableError(f"{self._url}/{one}.json is no JSON: {body[:60]!r}") from error
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        return found

    def _taken(self) -> http.client.HTTPConnection:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._kind(self._host, self._port, timeout=self._timeout_s)

    def _body(self, connection: http.client.HTTPConnection, path: str) -> tuple[bytes, http.client.HTTPConnection]:
        """An answer, and the connection for the next question: one that the server has closed meanwhile is made again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                connection.request("GET", path, headers={"Accept": "application/json"})
                answer = connection.getresponse()
                body = answer.read(_BODY_BYTES_MAX + 1)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if attempt == _ATTEMPTS:
                    raise UnreachableError(f"{self._url} does not answer: {error}", hint="look at `url`") from error
                continue
            if len(body) > _BODY_BYTES_MAX:
                raise TaskError(
                    f"{self._url}: an answer of more than {_BODY_BYTES_MAX >> 20} MiB", hint="look at `url`"
                )
            if answer.status == http.client.OK:
                return body, connection
            raise self._refused(answer)
        raise AssertionError("the last attempt returns or raises")

    def _refused(self, answer: http.client.HTTPResponse) -> RetryableError | TaskError:
        said = f"{self._url} answers {answer.status} {answer.reason}"
        if answer.status in _LATER:
            after = answer.headers.get("Retry-After", "")
            return RetryableError(said, after_s=float(after) if after.isdecimal() else 0.0)
        return TaskError(said, hint="look at `url`")

    def close(self) -> None:
        """A second call does nothing."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return
