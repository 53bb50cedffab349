"""Requests that are made before anybody waits for their answers, and what became of them."""

from collections.abc import Callable, Iterable
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, TypeAlias

from strandline.connectors.rest.client import Client
from strandline.connectors.rest.documents import NOTHING
from strandline.connectors.rest.request import Answer, Request

__all__ = ["Ahead", "Read"]

Read: TypeAlias = Callable[[Answer], tuple[Answer, Any]]
"""Makes a document of an answer."""

_PAGES_MAX = 32
_BYTES_MAX = 16 << 20
"""Of answers that nobody has taken. Where there are more, a chain goes on when one is taken."""
_SLICE_S = 1.0


class Ahead:
    """What has been asked for before it is known to be wanted. What is not wanted after all, nobody hears of.

    A chain of pages goes on by itself, within bounds: the next page is asked for as soon as an answer names it, in another thread than the one
    that reads the answer. Who takes the answers decides what is wanted, in what order, and when that is all.

    Its threads hold up nobody's exit. There are as many as requests that were asked for at one time.
    """

    def __init__(
        self,
        client: Client,
        alive: Callable[[], None],
        read: Read,
        named: Callable[[Answer, Any], Request | None] = lambda _answer, _document: None,
    ) -> None:
        """See above.

        Args:
            client: asks.
            alive: is told now and then while an answer is waited for.
            read: an answer.
            named: the request behind an answer, if that one names it: told by its header, before there is a document (``NOTHING``), or by
                its document. Is called in any thread, and raises nothing.
        """
        self._client, self._alive, self._read, self._named = client, alive, read, named
        self._asked: dict[_Key, _Asked] = {}
        self._begun = set[_Key]()
        """None is asked for twice: a chain may be a circle."""
        self._withheld: Request | None = None
        """Where the chain goes on once there is room."""
        self._waiting = SimpleQueue[_Asked | None]()
        self._lock = Lock()
        self._threads = self._busy = 0
        self._is_closed = False

    def begin(self, requests: Iterable[Request]) -> None:
        """Ask for each, if that was not done."""
        with self._lock:
            for request in requests:
                self._begin(request)

    def _begin(self, request: Request) -> None:
        if (key := _key(request)) in self._begun or self._is_closed:
            return
        self._begun.add(key)
        asked = self._asked[key] = _Asked(request)
        self._busy += 1
        if self._threads < self._busy:
            self._threads += 1
            Thread(target=self._run, name="next page", daemon=True).start()
        self._waiting.put(asked)

    def result(self, request: Request) -> tuple[Answer, Any]:
        """What is answered, as it was read; errors as of ``Client.ask``, in their turn."""
        with self._lock:
            asked = self._asked.pop(_key(request), None)
            withheld, self._withheld = self._withheld, None
        if withheld is not None:
            self._go_on(withheld)
        if asked is None:
            asked = _Asked(request)
            self._ask(asked)
        while not asked.done.wait(_SLICE_S):
            self._alive()
        if asked.error is not None or asked.found is None:
            raise asked.error or AssertionError("a request without an answer has an error")
        return asked.found

    def close(self) -> None:
        """No other request begins, and the threads end."""
        with self._lock:
            self._is_closed = True
            for _ in range(self._threads):
                self._waiting.put(None)

    def _run(self) -> None:
        while (asked := self._waiting.get()) is not None:
            if not self._is_closed:
                self._ask(asked)
            with self._lock:
                self._busy -= 1

    def _ask(self, asked: "_Asked") -> None:
        def read(answer: Answer) -> tuple[Answer, Any]:
            asked.size = len(answer.content)
            self._go_on(self._named(answer, NOTHING))
            answer, document = self._read(answer)
            self._go_on(self._named(answer, document))
            return answer, document

        try:
            asked.found = self._client.ask(asked.request, self._alive, read)
        except BaseException as error:  # noqa: BLE001 -- raised again where the answer is asked for
            asked.error = error
        asked.done.set()

    def _go_on(self, request: Request | None) -> None:
        """With a chain, if there is room."""
        if request is None:
            return
        with self._lock:
            lying = self._asked.values()
            if len(lying) < _PAGES_MAX and sum(one.size for one in lying) < _BYTES_MAX:
                self._begin(request)
            else:
                self._withheld = request


class _Asked:
    """One request, and what became of it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.size = 0
        """Bytes of the answer."""
        self.found: tuple[Answer, Any] | None = None
        self.error: BaseException | None = None
        self.done = Event()


_Key: TypeAlias = tuple[str, bytes | None]


def _key(request: Request) -> _Key:
    return request.target, request.content
