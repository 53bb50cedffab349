"""The state backend ``redis``: all states of a project in a Redis or Valkey server, for machines and pods without a disk.

The keys of a source lie in one slot of a cluster::

    strandline:{shop}:states       a hash: "task destination", each quoted → the token, and the state as JSON
    strandline:{shop}:history:…    a list for each lineage, the newest commit first
    strandline:{shop}:parts:…      a hash for each lineage whose cursor is large (``strandline.parted``): a part's name → the part

A script compares the token and writes all in one step.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.redis.server import connected, explained, place, probed, risks
from strandline.describe import Description
from strandline.errors import StateConflictError
from strandline.parted import Part
from strandline.probe import Probe
from strandline.risks import check_risks
from strandline.settings import Seconds
from strandline.state import HISTORY_BYTES_MAX, HISTORY_MAX, State, StateKey, Token
from strandline.state_format import (
    PartOf,
    decode_state,
    encode_parted,
    kept_of,
    load_state,
    parts_of,
    renews,
    sizes_of,
)

__all__ = ["RedisState"]

_TOKEN = 32
"""Characters, before each state."""
_SAVE = f"""
local found = redis.call('HGET', KEYS[1], ARGV[1])
if (found and '=' .. string.sub(found, 1, {_TOKEN}) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] == '1' then redis.call('LPOP', KEYS[2]) end
redis.call('LPUSH', KEYS[2], ARGV[3])
local new = tonumber(ARGV[6])
for at = 7, 6 + 2 * new, 2 do redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1]) end
for at = 7 + 2 * new, #ARGV do redis.call('HDEL', KEYS[3], ARGV[at]) end
if ARGV[5] ~= '0' then
  redis.call('LTRIM', KEYS[2], 0, ARGV[5] - 1)
  return 1
end
local bytes = 0
for number, commit in ipairs(redis.call('LRANGE', KEYS[2], 1, -1)) do
  bytes = bytes + #commit - {_TOKEN}
  if number >= {HISTORY_MAX} or (number >= 2 and bytes > {HISTORY_BYTES_MAX}) then
    redis.call('LTRIM', KEYS[2], 0, number - 1)
    break
  end
end
return 1
"""


class RedisState:
    """See ``strandline.state.StateBackend``. A server that can lose what it has acknowledged is refused, unless told so."""

    description = Description(drivers=("redis",))

    class Spec(BaseModel):
        """Settings of the backend ``redis``."""

        model_config = ConfigDict(extra="forbid")

        url: str = Field(
            min_length=1,
            description="`redis://host:6379/0`, `rediss://` with TLS (`?ssl_ca_certs=/path` names an authority), or `unix:///path`.",
        )
        username: str = Field("", description="The ACL user, if the URL does not name one.")
        password: str = Field("", description="Its password, if the URL does not have it.")
        prefix: str = Field("strandline", min_length=1, description="With what the names of all keys begin.")
        sentinels: tuple[str, ...] = Field(
            (), description="`host:port` of each Sentinel; the URL's host is not used then."
        )
        service: str = Field("mymaster", description="The name under which the Sentinels know the server.")
        sentinel_password: str = Field("", description="Of the Sentinels, if they have one.")
        timeout: Seconds = Field(10, description="How long to wait for an answer. A duration, as 10s.")
        accept: frozenset[Literal["eviction", "everysec", "no-persistence"]] = Field(
            frozenset(), description="Ways of losing cursors that are put up with; without, such a server is refused."
        )

    def __init__(self, spec: Spec) -> None:
        self._spec, self._client = spec, connected(spec)
        self._place, self._trusted = place(spec, self._client), False

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Every state of ``source``."""
        with explained(self._place, "read the states"):
            self._check()
            found = self._client.hgetall(self._states(source))
        states = {}
        for field, value in found.items():
            key = StateKey(source, *map(unquote, field.decode().split(" ")))
            states[key] = self._settled(key, field, value)
        return states

    def _settled(self, key: StateKey, field: bytes, value: bytes) -> State:
        """The state in a value, or in the one that another run has put there since: with the old one its parts may go."""
        while True:
            state, before = self._state(key, value, self._part(key)), value
            if state.untrusted is not None and parts_of(_text(value)):
                with explained(self._place, "read the states"):
                    value = self._client.hget(self._states(key.source), field) or value
            if value == before:
                return state

    def _state(self, key: StateKey, value: bytes, part: PartOf) -> State:
        token = value[:_TOKEN].decode(errors="surrogateescape")
        return load_state(key, _parsed(value[_TOKEN:]), where=self._place, token=token, part=part)

    def _part(self, key: StateKey) -> PartOf:
        def part(name: str) -> Part | None:
            with explained(self._place, f"read the state of {key}"):
                text = self._client.hget(self._parts(key), name)
            return None if text is None else Part.read(name, text.decode(errors="replace"))

        return cache(part)

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` as its lineage's newest."""
        token, (body, parts) = secrets.token_hex(_TOKEN // 2), encode_parted(key, state)
        text = json.dumps(body)
        # what could not be read back is never kept
        decode_state(key, json.loads(text), where=self._place, part=parts.get)
        states, field = self._states(key.source), _field(key)
        with explained(self._place, f"save the state of {key}"):
            self._check()
            # if another run saves after this look, the token is another one, and the script does nothing
            with self._client.pipeline(transaction=False) as look:
                before, stored = look.hget(states, field).hkeys(self._parts(key)).execute()
            older = self._client.lrange(self._history(key), 0, -1) if stored or parts else []
        # a commit that takes the place of the newest one is known before: it is the one that has the token
        again = before is not None and renews(key, _text(before), text)
        known = "" if expected is None else f"={expected}".encode(errors="surrogateescape")
        changes = _changes({name.decode() for name in stored}, parts, [text, *map(_text, older[again:])])
        arguments = (field, known, token + text, int(again), *changes)
        with explained(self._place, f"save the state of {key}", saves=True):
            done = self._client.eval(_SAVE, 3, states, self._history(key), self._parts(key), *arguments)
        if not done:
            raise StateConflictError(
                f"{key}: the stored state is not the one this run saved last", hint="let the other run end first"
            )
        return token

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits of one lineage, the newest first."""
        name, commits = self._history(key), None
        while True:
            before = commits
            with explained(self._place, f"read the history of {key}"):
                commits = self._client.lrange(name, 0, -1)
            part = self._part(key)
            states = [self._state(key, one, part) for one in commits]
            if commits == before or all(one.untrusted is None for one in states):
                return states

    def probes(self) -> Iterator[Probe]:
        """Whether states can be kept; see ``strandline.probe``."""
        with explained(self._place, "look at the server"):
            yield from probed(self._client, self._place, frozenset(self._spec.accept))

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        self._client.close()

    def _check(self) -> None:
        """Once, before anything is trusted to it.

        Raises:
            UsageError: the server can lose a cursor.
        """
        if self._trusted:
            return
        check_risks(self._place, risks(self._client, self._place), self._spec.accept)
        self._trusted = True

    def _states(self, source: str) -> str:
        return f"{self._spec.prefix}:{{{quote(source, safe='')}}}:states"

    def _history(self, key: StateKey) -> str:
        return f"{self._spec.prefix}:{{{quote(key.source, safe='')}}}:history:{_field(key)}"

    def _parts(self, key: StateKey) -> str:
        return f"{self._spec.prefix}:{{{quote(key.source, safe='')}}}:parts:{_field(key)}"


def _field(key: StateKey) -> str:
    return f"{quote(key.task, safe='')} {quote(key.destination, safe='')}"


def _changes(stored: set[str], parts: Mapping[str, Part], texts: Sequence[str]) -> list[Any]:
    """How the script changes the parts of a lineage whose history would be ``texts``, the newest first.

    How many commits are kept (0: it counts them itself); how many parts are new, with names and texts; and which go.
    """
    if not stored and not parts:
        return [0, 0]
    kept = kept_of(sizes_of(texts))
    named = {name for text in texts[:kept] for name in parts_of(text)}
    new = [(name, part.text()) for name, part in parts.items() if name not in stored]
    return [kept, len(new), *(one for pair in new for one in pair), *(stored - named)]


def _text(value: bytes) -> str:
    """The state in a value."""
    return value[_TOKEN:].decode(errors="replace")


def _parsed(text: bytes) -> object:
    """What is not JSON is no state, which is what decoding then says."""
    try:
        return json.loads(text)
    except ValueError:
        return None
