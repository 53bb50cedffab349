"""What a source is told: which cursors all of its destinations have saved."""

import threading
from collections.abc import Iterable

from strandline.message import Cursor
from strandline.source import Source, Task
from strandline.state import StateKey

__all__ = ["Acknowledgements"]


class Acknowledgements:
    """Of one run. Safe to share between the threads of its tasks.

    A queue or a replication slot drops what was acknowledged. So it hears nothing of a task until every destination has
    saved a cursor, and then all of these cursors: one that is behind, or failed, or was not reached, holds it back.

    Args:
        source: is told.
        destinations: the names of all its destinations.
    """

    def __init__(self, source: Source, destinations: Iterable[str]) -> None:
        self._source, self._destinations = source, frozenset(destinations)
        self._saved: dict[str, dict[str, Cursor]] = {}
        self._lock = threading.Lock()

    def found(self, key: StateKey, cursor: Cursor | None) -> None:
        """A cursor that was saved before this run."""
        with self._lock:
            self._note(key, cursor)

    def known(self, task: str) -> dict[str, Cursor]:
        """The cursors that are saved of a task, by destination."""
        with self._lock:
            return dict(self._saved.get(task, {}))

    def saved(self, task: Task, key: StateKey, cursor: Cursor | None) -> None:
        """A cursor that was saved just now, or was given up (``None``)."""
        with self._lock:
            cursors = self._note(key, cursor)
            if cursor is not None and self._destinations <= cursors.keys():
                self._source.acknowledge(task, dict(cursors))

    def _note(self, key: StateKey, cursor: Cursor | None) -> dict[str, Cursor]:
        cursors = self._saved.setdefault(key.task, {})
        if cursor is None:
            cursors.pop(key.destination, None)
        else:
            cursors[key.destination] = cursor
        return cursors
