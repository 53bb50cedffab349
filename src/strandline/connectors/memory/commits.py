"""States in memory, as JSON: what another backend cannot keep, these cannot either."""

import json
import secrets
from typing import TypeAlias

from strandline.errors import StateConflictError
from strandline.state import State, StateKey, Token
from strandline.state_format import decode_state, encode_state, history_with, load_state

__all__ = ["Commits"]

_Kept: TypeAlias = tuple[tuple[Token, str], ...]


class Commits(dict[StateKey, _Kept]):
    """By lineage: tokens and encoded states, the newest first. Whoever shares one between threads holds a lock."""

    def states(self, source: str) -> dict[StateKey, State]:
        """The newest state of each lineage of a source."""
        return {key: _loaded(key, *commits[0]) for key, commits in self.items() if key.source == source}

    def newest(self, key: StateKey) -> State | None:
        """The state of one lineage; ``None``: it has none."""
        commits = self.get(key)
        return _loaded(key, *commits[0]) if commits else None

    def save(self, key: StateKey, state: State, expected: Token | None) -> Token:
        """Save a state over the ``expected`` one; its token.

        Raises:
            StateConflictError: another one is stored.
            StateError: it could not be read back.
        """
        commit = (secrets.token_hex(16), json.dumps(encode_state(key, state)))
        decode_state(key, json.loads(commit[1]), where="memory")
        commits = self.get(key, ())
        if (commits[0][0] if commits else None) != expected:
            raise StateConflictError(
                f"{key}: the stored state is not the one this run saved last", hint="let the other run end first"
            )
        self[key] = history_with(key, commit, commits, lambda one: one[1])
        return commit[0]

    def history(self, key: StateKey) -> list[State]:
        """The last commits of one lineage, the newest first."""
        return [_loaded(key, *commit) for commit in self.get(key, ())]


def _loaded(key: StateKey, token: Token, text: str) -> State:
    try:
        body = json.loads(text)
    except ValueError:
        body = None  # which is no state, as decoding then says
    return load_state(key, body, where="memory", token=token)
