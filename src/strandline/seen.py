"""States that were decoded already: the same content is decoded once, and is in memory once.

A run loads every state twice, from the destination and from its mirror: when it looks, and again once it has taken over. Of twenty
thousand tables that is most of its work, and of its memory.
"""

import sys
from dataclasses import replace
from hashlib import blake2b
from typing import Any
from weakref import ReferenceType, WeakValueDictionary, ref

from strandline.state import State, StateKey

__all__ = ["Seen", "key_of", "lean", "shared"]

_LEAN_MAX = 64
"""Of a larger mapping, hardly any text comes again."""
_by_nonce: WeakValueDictionary[str, State] = WeakValueDictionary()


class Seen:
    """What one backend has decoded, by where it lay. Keeps no state that nobody else has; threads may share it."""

    def __init__(self) -> None:
        self._found: dict[object, tuple[bytes, StateKey, ReferenceType[State]]] = {}

    def at(self, place: object, content: bytes) -> tuple[StateKey, State] | None:
        """What was decoded there, if all of it is still the same."""
        digest, key, state = self._found.get(place) or (b"", None, None)
        found = state() if state is not None and digest == _digest(content) else None
        return (key, found) if key is not None and found is not None else None

    def add(self, place: object, content: bytes, key: StateKey, state: State) -> None:
        """What was decoded, from nothing else than ``content``."""
        self._found[place] = _digest(content), key, ref(state)


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def shared(state: State) -> State:
    """The same, made of an equal state that somebody has: what a mirror keeps is what the destination keeps."""
    other = _by_nonce.get(state.nonce)
    if other is not None and other == state:
        return replace(other, token=state.token, untrusted=state.untrusted)
    _by_nonce[state.nonce] = state
    return state


def key_of(source: str, task: str, destination: str) -> StateKey:
    """A key of which each text is in memory once."""
    return StateKey(*map(sys.intern, (source, task, destination)))


def lean(value: Any) -> Any:
    """JSON values of which each text is in memory once: those of ten thousand cursors have most of them in common."""
    if isinstance(value, str):
        return sys.intern(value)
    if type(value) is dict and len(value) <= _LEAN_MAX:
        return {sys.intern(name): lean(item) for name, item in value.items()}
    if type(value) is list and len(value) <= _LEAN_MAX:
        return [*map(lean, value)]
    return value
