"""A deadline for answers of the server: its own timeouts are worth nothing while it hangs."""

import time
from collections.abc import Generator
from typing import Any

from strandline.lazy import psycopg

__all__ = ["bound"]


def bound(connection: "psycopg.Connection[Any]", answer_s: float) -> None:
    """From now on, what waits longer than ``answer_s`` for one answer raises; the connection is of no use after that."""
    wait = connection.wait

    def wait_until(gen: "Generator[Any, Any, Any]", *arguments: Any, **options: Any) -> Any:
        return wait(_bounded(gen, time.monotonic() + answer_s), *arguments, **options)

    connection.wait = wait_until  # type: ignore[method-assign]  # every statement of psycopg waits here


def _bounded(gen: "Generator[Any, Any, Any]", deadline_s: float) -> "Generator[Any, Any, Any]":
    """What ``gen`` does; psycopg resumes it a few times a second, whether or not there is an answer."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if time.monotonic() > deadline_s:
                raise psycopg.OperationalError("the server does not answer")
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value
