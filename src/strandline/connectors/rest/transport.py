"""Bytes to a server and back: connections, time limits, sizes, and where connections may lead. One attempt at a time."""

import time
import zlib
from collections.abc import Callable, Collection
from typing import Any

from strandline.connectors.rest.drivers import (
    urllib3,
    urllib3_connection,
    urllib3_connectionpool,
    urllib3_exceptions,
)
from strandline.connectors.rest.reach import reach as reach_of
from strandline.connectors.rest.request import Answer, Request, origin, shown
from strandline.errors import RetryableError, TaskError, UnreachableError

__all__ = ["BrokenError", "Transport"]

_CHUNK = 1 << 16
_PACKED = ("", "identity", "gzip", "x-gzip", "deflate")


class BrokenError(RetryableError):
    """The answer did not arrive whole. Asking again may help."""


class Transport:
    """Sends requests. Safe to share between threads: connections are pooled."""

    def __init__(
        self,
        home: str,
        *,
        trusted: Collection[str] = (),
        timeout_s: float,
        answer_timeout_s: float,
        answer_max: int,
        connections: int,
        allows_narrower: bool = False,
        reach: Callable[[str], int] = reach_of,
    ) -> None:
        """See above.

        Args:
            home: the URL whose reach is the measure for all others.
            trusted: other URLs that the spec names, which may be anywhere.
            timeout_s: for each part of an answer.
            answer_timeout_s: for a whole answer.
            answer_max: bytes of an answer, unpacked.
            connections: how many are kept open to each host.
            allows_narrower: other hosts may be anywhere, too.
            reach: of an address.
        """
        self._home = origin(home)[1]
        self._trusted = {origin(one)[1] for one in (home, *trusted)}
        self._timeout_s, self._answer_timeout_s, self._answer_max = timeout_s, answer_timeout_s, answer_max
        self._allows_narrower, self._reach = allows_narrower, reach
        self._home_reach: int | None = None
        self._pools = _pools(self.check, connections)

    def send(self, request: Request, alive: Callable[[], None]) -> Answer:
        """The answer to one request, whatever it is; redirects are not followed.

        Raises:
            UnreachableError: there is none.
            TaskError: it is too large, packed in an unknown way, or the server is somewhere it must not be.
        """
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "strandline",
            **request.headers,
        }
        if request.content is not None:
            kind = "application/x-www-form-urlencoded" if request.form else "application/json"
            headers = {"Content-Type": kind, **headers}
        where = shown(request.url)
        try:
            response = self._pools.request(
                request.method,
                request.target,
                body=request.content,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=self._timeout_s, read=self._timeout_s),
            )
        except ValueError as error:  # of urllib3, some are both
            raise TaskError(
                f"{where} cannot be asked: {error}", hint="look at `base_url`, `path` and `headers`"
            ) from error
        except urllib3_exceptions.HTTPError as error:
            raise UnreachableError(f"{where} does not answer: {_reason(error)}", hint="look at `base_url`") from error
        try:
            content = self._read(response, where, alive)
        except BaseException:
            response.close()  # what is left of the answer is nothing to go on with
            raise
        response.release_conn()
        named = {name.lower(): response.headers[name] for name in response.headers}
        if "set-cookie" in named:  # these cannot be joined by commas
            named["set-cookie"] = "\n".join(response.headers.getlist("set-cookie"))
        return Answer(request, response.status, named, content)

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        self._pools.clear()

    def _read(self, response: Any, where: str, alive: Callable[[], None]) -> bytes:
        packed = response.headers.get("content-encoding", "").strip().lower()
        if packed not in _PACKED:
            raise TaskError(f"{where} answers in {packed!r}, which was not asked for", hint="look at `headers`")
        until_s = time.monotonic() + self._answer_timeout_s
        parts, size = [], 0
        try:
            while part := response.read1(_CHUNK, decode_content=True):
                parts.append(part)
                size += len(part)
                if size > self._answer_max:
                    raise TaskError(
                        f"{where}: an answer is larger than {self._answer_max:,} bytes",
                        hint="ask for smaller pages, or raise `answer_max`",
                    )
                if time.monotonic() > until_s:
                    raise BrokenError(
                        f"{where}: an answer has not ended for {self._answer_timeout_s:.0f} s",
                        hint="ask for smaller pages, or raise `answer_timeout`",
                    )
                alive()
        except (urllib3_exceptions.HTTPError, OSError, zlib.error) as error:
            raise BrokenError(f"{where}: the answer breaks off: {_reason(error)}") from error
        return b"".join(parts)

    def check(self, host: str, connected: Any) -> None:
        """Look where a new connection leads, before anything is asked.

        Raises:
            TaskError: into a network that others do not reach.
        """
        found = self._reach(connected.getpeername()[0])
        if host == self._home:
            self._home_reach = found if self._home_reach is None else self._home_reach
        if host in self._trusted or self._allows_narrower:
            return
        if self._home_reach is None or found < self._home_reach:
            connected.close()
            raise TaskError(
                f"{self._home} sends us to {host}, an address that is not reached from where {self._home} is",
                hint="`private_addresses: allow` accepts it, if you trust the API",
            )


def _pools(check: Callable[[str, Any], None], connections: int) -> Any:
    """Of connections, each of which is looked at before anything is sent."""

    class Plain(urllib3_connection.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            check(self.host, self.sock)

    class Secure(urllib3_connection.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            check(self.host, self.sock)

    class PlainPool(urllib3_connectionpool.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3_connectionpool.HTTPSConnectionPool):
        ConnectionCls = Secure

    pools = urllib3.PoolManager(maxsize=connections, retries=False)
    pools.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return pools


def _reason(error: BaseException) -> str:
    """What happened, without what a driver says of its own objects."""
    while isinstance(error, urllib3_exceptions.MaxRetryError) and error.reason is not None:
        error = error.reason
    return str(error).partition("object at 0x")[2].partition(": ")[2] or str(error) or type(error).__name__
