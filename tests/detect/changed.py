"""A window that says something else than the one behind it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from strandline.message import WindowMessage


class Changed:
    """Changes each message, or has other ``messages``; an attribute that is given hides the window's."""

    def __init__(
        self,
        window,
        change: Callable[[WindowMessage], WindowMessage | None] = lambda message: message,
        messages: Callable[[], Iterable[WindowMessage]] | None = None,
        **attributes,
    ):
        self._window, self._change, self._messages = window, change, messages
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._window, name)

    def __iter__(self) -> Iterator[WindowMessage]:
        messages = self._messages() if self._messages else self._window
        return (changed for message in messages if (changed := self._change(message)) is not None)


class Replayed(Changed):
    """A window that was pulled before it is written."""

    def __init__(self, window):
        pulled = list(window)
        super().__init__(window, messages=lambda: pulled)
