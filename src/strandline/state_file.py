"""A lineage in one file or object, which is replaced as a whole.

::

    {"token": …, "checksum": …, "states": [newest, …, oldest]}, each state on a line of its own

A state is an object of ``strandline.state_format.encode_state``, with a checksum of its own. The file's checksum is made the
same way, of the whole but itself: the SHA-256 of canonical JSON (sorted keys, no spaces, ASCII). So a token or a history
that is damaged is noticed like a damaged state.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from strandline.errors import StateError
from strandline.seen import key_of
from strandline.state import State, StateKey, Token
from strandline.state_format import PartOf, decode_state

__all__ = ["Kept", "decode_file", "encode_file", "given_up"]


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


class Kept(NamedTuple):
    """A file's content, checked."""

    key: StateKey
    newest: State
    bodies: list[dict[str, Any]]


def encode_file(token: Token, bodies: Sequence[Mapping[str, Any]]) -> bytes:
    """The content of a file: a token, and the encoded commits, the newest first."""
    lines = ",\n  ".join(map(json.dumps, bodies))
    head = f' "token": "{token}",\n "checksum": "{_checksum(token, bodies)}",\n'
    return f'{{\n{head} "states": [\n  {lines}\n ]\n}}\n'.encode()


def decode_file(content: bytes, where: Path | str, *, repair: Callable[[], str], part: PartOf = lambda _: None) -> Kept:
    """What is in a file.

    Args:
        content: all of it.
        where: names the file in an error.
        repair: what to do with one that is damaged.
        part: see ``strandline.state_format.decode_state``.

    Raises:
        StateError: it is something else, damaged, or written by a newer version.
    """
    try:
        body = json.loads(content)
        token, bodies = body["token"], body["states"]
        key = key_of(bodies[0]["source"], bodies[0]["task"], bodies[0]["destination"])
        intact = body["checksum"] == _checksum(token, bodies)
        kept = Kept(key, decode_state(key, bodies[0], where=where, token=token, intact=intact, part=part), bodies)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise StateError(f"{where}: not a Strandline state ({error})", hint=repair()) from error
    if not intact:
        raise StateError(f"{where}: damaged, its checksum does not match", hint=repair())
    return kept


def given_up(content: bytes) -> Token:
    """The token of a file that cannot be trusted."""
    return f"damaged {hashlib.sha256(content).hexdigest()}"


def _checksum(token: Token, bodies: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(_CANONICAL.encode({"states": bodies, "token": token}).encode()).hexdigest()
