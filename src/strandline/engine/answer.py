"""Calls of plugins that may never return: the one who calls goes on being asked to stop, and does not wait for ever."""

import threading
from collections.abc import Callable
from typing import TypeVar

from strandline.engine.window import Stop, StoppedError
from strandline.errors import UnreachableError

__all__ = ["ANSWER_S", "answered"]

T = TypeVar("T")

ANSWER_S = 300.0
"""How long a source may take to tell what it has."""
_SLICE_S = 0.1


def answered(call: Callable[[], T], *, of: str, within_s: float | None = ANSWER_S, stop: Stop | None = None) -> T:
    """What ``call`` returns or raises. It runs in a thread of its own, which is left behind if it does not end.

    Python handles a signal only between two of its own instructions, and in the main thread: one that waits inside a
    driver handles none.

    Args:
        call: must not have changed anything when it is left behind.
        of: what is asked, for the error.
        within_s: how long; ``None``: for ever.
        stop: may cut it short.

    Raises:
        UnreachableError: there was no answer.
        StoppedError: the run was asked to stop.
    """
    ended, results, errors = threading.Event(), list[T](), list[BaseException]()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 -- raised again where it was asked
            errors.append(error)
        ended.set()

    threading.Thread(target=run, name=f"ask {of}", daemon=True).start()
    waited_s = 0.0
    while not ended.wait(_SLICE_S):
        waited_s += _SLICE_S
        if stop is not None and stop.requested:
            raise StoppedError("")
        if within_s is not None and waited_s >= within_s:
            raise UnreachableError(
                f"{of} has not answered for {within_s:.0f} s",
                hint="does it hang? Its network, its server or its disk may",
            )
    for error in errors:
        raise error
    return results[0]
