"""A window that says something else than the one behind it."""

from collections.abc import Callable, Iterator
from typing import Any

from strandline.message import Message


class Changed:
    """A window that says something else than the one behind it."""

    def __init__(self, window, change: Callable[[Message], Message | None] = lambda message: message, **attributes):
        self._window, self._change = window, change
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._window, name)

    def __iter__(self) -> Iterator[Message]:
        return (changed for message in self._window if (changed := self._change(message)) is not None)


class Replayed(Changed):
    """A window that was pulled before it is written."""

    def __init__(self, window):
        super().__init__(window)
        self._messages = list(window)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)
