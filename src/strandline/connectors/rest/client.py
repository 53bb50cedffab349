"""What a source asks an API with: credentials, redirects, rate limits, and what is tried again.

A request is tried again where that may help: the connection broke, the server says that it is busy or broken, the answer is
no whole JSON. Then the engine tries the task again, a bounded number of times. Whatever else is answered fails the task, in words.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from strandline.connectors.pages.documents import document_of
from strandline.connectors.rest.limits import Pace, date_of, exhausted_s, retry_after_s
from strandline.connectors.rest.request import Answer, Request, origin, shown
from strandline.connectors.rest.transport import BrokenError, Transport
from strandline.errors import RetryableError, StrandlineError, TaskError
from strandline.logs import redact

T = TypeVar("T")

__all__ = ["Client", "Clock", "Credentials", "Nobody", "json_of"]

log = logging.getLogger(__name__)

_REDIRECTS_MAX = 10
_REDIRECTS = {301, 302, 303, 307, 308}
_KEEPS_METHOD = {307, 308}
_BUSY = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
_LIMITED = {403, 429, 503}
_SLICE_S = 1.0
_BACKOFF_S = 0.5
_BACKOFF_MAX_S = 60.0
_EXCERPT = 200
_UNAUTHORIZED, _NOT_MODIFIED, _FIRST_BAD = 401, 304, 400


class Credentials(Protocol):
    """Who asks."""

    def sign(self, request: Request, send: Callable[[Request], Answer]) -> Request:
        """The request with what says who asks; ``send`` asks for a token, if need be."""

    def renew(self, refused: Request) -> bool:
        """Whether asking again may help, after a request was answered with 401."""


class Nobody:
    """Without credentials."""

    def sign(self, request: Request, send: Callable[[Request], Answer]) -> Request:  # noqa: ARG002 -- of the contract
        """As it is."""
        return request

    def renew(self, refused: Request) -> bool:  # noqa: ARG002 -- of the contract
        """There is nothing to renew."""
        return False


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, so that a test has its own."""

    monotonic_s: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = field(default=random.random)


class Client:
    """Asks one API. Safe to share between threads."""

    def __init__(
        self,
        transport: Transport,
        *,
        home: str,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        credentials: Credentials,
        attempts: int,
        wait_max_s: float,
        every_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        """See above.

        Args:
            transport: sends.
            home: a URL of the API; what follows is sent to its host only.
            headers: of every request.
            query: of every request.
            credentials: of every request.
            attempts: of a request.
            wait_max_s: how long a limit is waited for.
            every_s: between two requests, where the spec limits them.
            clock: ours.
        """
        self._transport, self._credentials = transport, credentials
        self._home, self._headers, self._query = origin(home), headers, query
        self._attempts, self._wait_max_s = attempts, wait_max_s
        self._pace, self._clock = Pace(every_s), clock or Clock()
        self._date: datetime | None = None

    @property
    def date(self) -> datetime | None:
        """What the API's clock has shown last, to the second; ``None``: nothing yet."""
        return self._date

    def ask(self, request: Request, alive: Callable[[], None], read: Callable[[Answer], T]) -> T:
        """What ``read`` makes of a good answer, or of one that says that nothing was changed (304).

        Args:
            request: what is asked.
            alive: is told now and then while it lasts.
            read: may raise a ``BrokenError``: then the request is tried again.

        Raises:
            RetryableError: none after several attempts, or only after a longer time than is waited for.
            TaskError: the API refuses.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                answer = self._follow(request, alive)
                if answer.status == _UNAUTHORIZED and self._credentials.renew(answer.request):
                    answer = self._follow(request, alive)
                if (problem := _problem(answer)) is None:
                    return read(answer)
                raise problem
            except RetryableError as error:
                self._check_wait(request, error.after_s)
                if attempt == self._attempts:
                    raise
                self._pause(error, attempt, alive)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, problem: RetryableError, attempt: int, alive: Callable[[], None]) -> None:
        backoff_s = min(_BACKOFF_MAX_S, _BACKOFF_S * 2**attempt) * (0.5 + self._clock.chance() / 2)
        wait_s = max(problem.after_s, backoff_s)
        log.info("%s; asking again in %.1f s", problem.message, wait_s)
        if problem.after_s:
            self._pace.hold(self._clock.monotonic_s() + problem.after_s)
        self._wait(wait_s, alive)

    def _follow(self, request: Request, alive: Callable[[], None]) -> Answer:
        """Through redirects."""
        seen = {request.target}
        for _ in range(_REDIRECTS_MAX + 1):
            answer = self._once(request, alive)
            if answer.status not in _REDIRECTS:
                return answer
            where = answer.headers.get("location", "")
            if not where:
                raise TaskError(f"{shown(request.url)} answers with {answer.status} and names no other place")
            request = _redirected(request, answer.status, where)
            if request.target in seen:
                raise TaskError(
                    f"{shown(request.url)} sends us round in a circle", hint="look at `base_url` and `path`"
                )
            seen.add(request.target)
        raise TaskError(
            f"{shown(request.url)}: more than {_REDIRECTS_MAX} redirects", hint="look at `base_url` and `path`"
        )

    def _once(self, request: Request, alive: Callable[[], None]) -> Answer:
        if origin(request.url) != self._home:
            if request.body is not None:
                raise TaskError(
                    f"{self._home[1]} sends us to {shown(request.url)}, another host, which gets no body of ours",
                    hint="write that URL into the spec",
                )
            return self._send(replace(request, headers={}), alive)
        own = replace(request, headers={**self._headers, **request.headers}, query={**self._query, **request.query})
        return self._send(self._credentials.sign(own, lambda one: self._send(one, alive)), alive)

    def _send(self, request: Request, alive: Callable[[], None]) -> Answer:
        wait_s = self._pace.take(self._clock.monotonic_s())
        self._check_wait(request, wait_s)
        self._wait(wait_s, alive)
        answer = self._transport.send(request, alive)
        now = self._clock.now()
        if origin(request.url) == self._home and (date := date_of(answer.headers)) is not None:
            self._date = date
        if (left_s := exhausted_s(answer.headers, now)) is not None:
            self._pace.hold(self._clock.monotonic_s() + left_s)
        return answer

    def _check_wait(self, request: Request, wait_s: float) -> None:
        if wait_s > self._wait_max_s:
            raise TaskError(
                f"{shown(request.url)}: the API wants to be asked again in {wait_s:.0f} s, and not before",
                hint="sync again then; or ask less with `rate_limit`, or wait longer with `wait_max`",
            )

    def _wait(self, wait_s: float, alive: Callable[[], None]) -> None:
        until_s = self._clock.monotonic_s() + wait_s
        while (left_s := until_s - self._clock.monotonic_s()) > 0:
            alive()
            self._clock.sleep(min(left_s, _SLICE_S))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def json_of(answer: Answer) -> Any:
    """The JSON of an answer.

    Raises:
        BrokenError: it is none, though it should be: it may be one the next time.
    """
    try:
        return document_of(answer.content)
    except (ValueError, RecursionError):
        kind = answer.headers.get("content-type", "")
        where = shown(answer.request.url)
        start = answer.content.lstrip()[:1]
        if "html" in kind or start == b"<":
            raise BrokenError(
                f"{where} answers with a page for people and not with JSON{_excerpt(answer)}",
                hint="is it a login page, or that of a proxy? Look at `base_url`, `path` and `authentication`",
            ) from None
        raise BrokenError(
            f"{where} answers with what is no whole JSON{_excerpt(answer)}", hint="look at `path`"
        ) from None


def _redirected(request: Request, status: int, where: str) -> Request:
    target = request.asking(url=where)
    if origin(request.url)[0] == "https" and origin(target.url)[0] != "https":
        raise TaskError(f"{shown(request.url)} sends us to {shown(target.url)}, which is not encrypted")
    if request.body is not None and status not in _KEEPS_METHOD:
        raise TaskError(
            f"{shown(request.url)} sends us to {shown(target.url)}, and says not to repeat the body there",
            hint="write that URL into the spec",
        )
    return target


def _problem(answer: Answer) -> StrandlineError | None:
    """What is wrong with an answer; ``None``: nothing."""
    status, where = answer.status, shown(answer.request.url)
    if status < _FIRST_BAD and (status < 300 or status == _NOT_MODIFIED):  # noqa: PLR2004 -- classes of HTTP
        return None
    now = datetime.now(UTC)
    words = f"{where} answers with {status}{_excerpt(answer)}"
    after_s = retry_after_s(answer.headers, now) if status in _LIMITED else None
    if after_s is None and status in _LIMITED:
        after_s = exhausted_s(answer.headers, now)
    if status in _BUSY or after_s is not None:
        return RetryableError(words, hint="the API is busy, or limits how often it is asked", after_s=after_s or 0.0)
    if status == _UNAUTHORIZED:
        return TaskError(words, hint="look at `authentication`: the credentials are wrong, or have expired")
    hint = {403: "these credentials may not read it", 404: "look at `base_url` and `path`"}.get(status, "")
    return TaskError(words, hint=hint)


def _excerpt(answer: Answer) -> str:
    """The beginning of what was said, without secrets."""
    text = " ".join(answer.content[: 4 * _EXCERPT].decode("utf-8", "replace").split())
    return f": {redact(text)[:_EXCERPT]}" if text else ""
