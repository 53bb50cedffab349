"""States in memory: for tests, and for programs that keep no state between runs."""

import threading
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from strandline.connectors.memory.commits import Commits
from strandline.state import State, StateKey, Token

__all__ = ["MemoryState"]


class MemoryState:
    """Keeps states in the object itself: shared between threads, with nothing else, and gone with it."""

    class Spec(BaseModel):
        """The backend ``memory`` has no settings."""

        model_config = ConfigDict(extra="forbid")

    def __init__(self, spec: Spec) -> None:
        del spec
        self._lock = threading.Lock()
        self._commits = Commits()

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Every state of ``source``."""
        with self._lock:
            return self._commits.states(source)

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` as its lineage's newest."""
        with self._lock:
            return self._commits.save(key, state, expected)

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits of one lineage, the newest first."""
        with self._lock:
            return self._commits.history(key)

    def close(self) -> None:
        """Do nothing: the states stay until the object goes."""
