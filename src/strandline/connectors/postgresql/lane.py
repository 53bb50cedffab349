"""A slice that is read by a thread of its own, a bounded way ahead of whoever takes its rows."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

__all__ = ["Lane", "NoLaneError"]

_AHEAD_BYTES = 32 << 20
"""What a lane holds at most, or one batch more: a slice, unless its values lie outside of its pages."""
_LOOK_S = 0.1
_LEAVE_S = 5.0
"""How long a statement may take to end when nobody wants its rows any more."""


class NoLaneError(Exception):
    """It cannot be read in another session; in that of the pass it can."""


class Lane:
    """Begins to read when it is made. One thread takes its items, once."""

    def __init__(self, read: Callable[[], Generator[Any]], check_open: Callable[[], None]) -> None:
        self._read, self._check_open = read, check_open
        self._items: deque[tuple[Any, int]] = deque()
        self._bytes, self._ended, self._left = 0, False, False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="read a slice", daemon=True)
        self._thread.start()

    def items(self) -> Iterator[Any]:
        """All that is read, as it comes.

        Raises:
            NoLaneError: before the first item.
            TaskError: the reading is closed.
        """
        try:
            while (item := self._next()) is not None:
                yield item
        finally:
            self.leave()

    def leave(self) -> None:
        """Nobody wants more: the statement is ended. A second call does nothing."""
        with self._changed:
            self._left = True
            self._items.clear()
            self._changed.notify_all()
        self._thread.join(_LEAVE_S)

    def _next(self) -> Any:
        with self._changed:
            while not self._items and not self._ended:
                self._check_open()
                self._changed.wait(_LOOK_S)
            if self._items:
                item, size = self._items.popleft()
                self._bytes -= size
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            return None

    def _run(self) -> None:
        try:
            with closing(self._read()) as items:
                for item in items:
                    if not self._put(item):
                        break
        except BaseException as error:  # noqa: BLE001 -- raised again where the items are taken
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, item: Any) -> bool:
        """Whether more is wanted."""
        size = item[1].nbytes if isinstance(item, tuple) else 0
        with self._changed:
            while self._bytes >= _AHEAD_BYTES and not self._left:
                self._changed.wait()
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()
            return not self._left
