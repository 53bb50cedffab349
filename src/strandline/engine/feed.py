"""A reader thread and the queue it fills: reading overlaps writing, and memory is bounded in bytes."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Self

from strandline.message import Delete, Insert, Present, Replace, SourceMessage, WindowMessage

__all__ = ["Ended", "Feed", "NothingYet"]


class Ended(Exception):  # noqa: N818 -- a condition of the stream, not an error
    """The source has yielded its last message."""


class NothingYet(Exception):  # noqa: N818 -- a condition of the stream, not an error
    """No message arrived within the time that was given."""


class Feed:
    """Runs ``messages`` in a thread of its own and hands the messages over, in order.

    A message waits while the queue holds ``bytes_max`` or more, so that a slow destination slows the source. What the
    source raises is raised by ``get`` after everything it had yielded.
    """

    def __init__(
        self, messages: Callable[[], Iterator[SourceMessage | WindowMessage]], *, bytes_max: int, name: str
    ) -> None:
        self._messages = messages
        self._bytes_max = bytes_max
        self._queue: deque[tuple[SourceMessage | WindowMessage, int]] = deque()
        self._bytes = 0
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._alive = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._fill, name=f"read {name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading. Waits for the reader to leave the source, but not for ever: it may hang in a driver."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout=5)

    def get(self, *, timeout_s: float) -> SourceMessage | WindowMessage:
        """The next message.

        Raises:
            NothingYet: none came within ``timeout_s``.
            Ended: there are no more.
        """
        with self._changed:
            began_s = time.monotonic()
            while not self._queue:
                if self._error is not None:
                    raise self._error
                if self._ended:
                    raise Ended
                waited_s = time.monotonic() - began_s
                if waited_s >= timeout_s:
                    raise NothingYet
                self._changed.wait(timeout_s - waited_s)
            message, size_bytes = self._queue.popleft()
            self._bytes -= size_bytes
            self._changed.notify_all()
            return message

    def alive(self) -> None:
        """The source is at work though it sends nothing. From any thread."""
        self._alive = True

    def was_alive(self) -> bool:
        """Whether it has said so since the last look."""
        alive, self._alive = self._alive, False
        return alive

    def put_back(self, message: SourceMessage | WindowMessage) -> None:
        """Make ``message`` the next one again."""
        with self._changed:
            self._queue.appendleft((message, 0))

    def _fill(self) -> None:
        messages: Iterator[SourceMessage | WindowMessage] | None = None
        try:
            messages = self._messages()
            for message in messages:
                if not self._put(message):
                    break
        except BaseException as error:  # noqa: BLE001 -- raised again in the thread that asks for messages
            self._fail(error)
        finally:
            self._leave(messages)

    def _put(self, message: SourceMessage | WindowMessage) -> bool:
        size_bytes = _size_bytes(message)
        with self._changed:
            while self._bytes >= self._bytes_max and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._queue.append((message, size_bytes))
            self._bytes += size_bytes
            self._changed.notify_all()
            return True

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None:
                self._error = error

    def _leave(self, messages: Iterator[SourceMessage | WindowMessage] | None) -> None:
        close = getattr(messages, "close", None)
        try:
            if close is not None:
                close()
        except BaseException as error:  # noqa: BLE001 -- likewise
            self._fail(error)
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _size_bytes(message: SourceMessage | WindowMessage) -> int:
    match message:
        case Insert():
            return int(message.batch.nbytes) + (0 if message.version is None else int(message.version.nbytes))
        case Delete() | Replace() | Present():
            return int(message.keys.nbytes)
        case _:
            return 0
