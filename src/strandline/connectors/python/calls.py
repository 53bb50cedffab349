"""Calls of an author's function: generators of both colours, rows that are objects, and errors in words."""

import asyncio
import dataclasses
import enum
import inspect
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from strandline.connectors.pages import Mark, Page
from strandline.errors import RetryableError, StrandlineError, TaskError

__all__ = ["pages_of"]

_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of HTTP after which asking again may help."""
_SINGLES_MAX = 1_000
"""So many rows that come one by one are a page."""


def pages_of(call: Callable[[], Any], *, where: str) -> Iterator[Page | Mark]:
    """The pages that a call yields.

    Raises:
        RetryableError: the call failed as a service fails that may answer later.
        TaskError: it failed otherwise; with the place in the author's code.
    """
    singles: list[Any] = []
    try:
        for one in _iterated(call(), where):
            if _is_row(one):
                singles.append(_plain(one))
                if len(singles) < _SINGLES_MAX:
                    continue
                one, singles = singles, []  # noqa: PLW2901 -- so many rows are a page
            elif singles:
                yield singles
                singles = []
            yield [_plain(row) for row in one] if isinstance(one, list | tuple) and one and _is_object(one[0]) else one
        if singles:
            yield singles
    except StrandlineError:
        raise
    except Exception as error:
        raise _in_words(error, where) from error


def _is_row(one: Any) -> bool:
    return isinstance(one, Mapping) or _is_object(one)


def _is_object(one: Any) -> bool:
    return not isinstance(one, Mark | type) and bool(
        dataclasses.is_dataclass(one) or hasattr(one, "__struct_fields__") or hasattr(one, "model_dump")
    )


def _plain(value: Any) -> Any:
    """An object as the dict of its fields, at every depth."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, enum.Enum):
        return value.value
    if _is_object(value):
        if hasattr(value, "model_dump"):
            return _plain(value.model_dump())
        names = getattr(value, "__struct_fields__", None) or [one.name for one in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    return value


def _iterated(found: Any, where: str) -> Iterable[Any]:
    if found is None:
        return ()
    if inspect.iscoroutine(found) or hasattr(found, "__anext__") or hasattr(found, "__aiter__"):
        return _Awaited(found)
    if _is_row(found) or hasattr(found, "__arrow_c_stream__") or hasattr(found, "__arrow_c_array__"):
        return [found]
    if not isinstance(found, Iterable) or isinstance(found, str | bytes):
        raise TaskError(f"{where}: the function returns {type(found).__name__}", hint="yield lists of dicts")
    return [found] if isinstance(found, list) and found and _is_row(found[0]) else found


class _Awaited:
    """An asynchronous iterator, or a coroutine, in an event loop and a thread of its own: the caller may have another loop."""

    def __init__(self, found: Any) -> None:
        self._found = found
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="table function", daemon=True)

    def __iter__(self) -> Iterator[Any]:
        self._thread.start()
        try:
            if inspect.iscoroutine(self._found):
                yield from _iterated(self._wait(self._found), "")
                return
            left: AsyncIterator[Any] = self._found.__aiter__()
            try:
                while True:
                    try:
                        one = self._wait(_next(left))
                    except _EndError:
                        return
                    yield one
            finally:
                if hasattr(left, "aclose"):
                    self._wait(left.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _wait(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result()


class _EndError(Exception):
    """The iterator has no more; a future cannot say so with the error of Python's own."""


async def _next(left: AsyncIterator[Any]) -> Any:
    try:
        return await left.__anext__()
    except StopAsyncIteration:
        raise _EndError from None


def _in_words(error: Exception, where: str) -> StrandlineError:
    """What became of a call, by what kind of failure it is: libraries of HTTP say it with a response."""
    place = next(
        (one for one in reversed(traceback.extract_tb(error.__traceback__)) if not _is_ours(one.filename)), None
    )
    at = f" ({Path(place.filename).name}:{place.lineno})" if place is not None else ""
    said = f"{where}: {type(error).__name__}: {error}{at}"
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or getattr(error, "status", None)
    if isinstance(status, int):
        waits = getattr(response, "headers", None) or {}
        after = str(waits.get("Retry-After", "") if hasattr(waits, "get") else "")
        kind = RetryableError if status in _LATER else None
        return kind(said, after_s=float(after) if after.isdecimal() else 0.0) if kind else TaskError(said)
    of_library = isinstance(error, OSError) and type(error).__module__ != "builtins" and error.errno is None
    passing = isinstance(error, ConnectionError | TimeoutError) or of_library
    return RetryableError(said) if passing else TaskError(said)


def _is_ours(file: str) -> bool:
    return "strandline/connectors" in file.replace("\\", "/") or "concurrent/futures" in file or "/asyncio/" in file
