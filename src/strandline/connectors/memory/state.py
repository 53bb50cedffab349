"""States in memory: for tests, and for programs that keep no state between runs."""

import json
import secrets
import threading
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from strandline.errors import StateConflictError
from strandline.state import State, StateKey, Token
from strandline.state_format import decode_state, encode_state, history_with, load_state

__all__ = ["MemoryState", "parsed"]


class MemoryState:
    """Keeps states in the object itself: shared between threads, with nothing else, and gone with it.

    They are kept as JSON, so what another backend cannot keep, this one cannot either.
    """

    class Spec(BaseModel):
        """The backend ``memory`` has no settings."""

        model_config = ConfigDict(extra="forbid")

    def __init__(self, spec: Spec) -> None:
        del spec
        self._lock = threading.Lock()
        self._commits: dict[StateKey, tuple[tuple[Token, str], ...]] = {}

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Every state of ``source``."""
        with self._lock:
            newest = {key: commits[0] for key, commits in self._commits.items() if key.source == source}
        return {key: _loaded(key, *commit) for key, commit in newest.items()}

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` as its lineage's newest."""
        commit = (secrets.token_hex(16), json.dumps(encode_state(key, state)))
        decode_state(key, json.loads(commit[1]), where="memory")  # what could not be read back is never kept
        with self._lock:
            commits = self._commits.get(key, ())
            if (commits[0][0] if commits else None) != expected:
                raise StateConflictError(
                    f"{key}: the stored state is not the one this run saved last", hint="let the other run end first"
                )
            self._commits[key] = history_with(key, commit, commits, lambda one: one[1])
        return commit[0]

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits of one lineage, the newest first."""
        with self._lock:
            commits = self._commits.get(key, ())
        return [_loaded(key, *commit) for commit in commits]

    def close(self) -> None:
        """Do nothing: the states stay until the object goes."""


def _loaded(key: StateKey, token: Token, text: str) -> State:
    return load_state(key, parsed(text), where="memory", token=token)


def parsed(text: str) -> object:
    """What is not JSON is no state, which is what decoding then says."""
    try:
        return json.loads(text)
    except ValueError:
        return None
