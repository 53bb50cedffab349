"""The state backend ``redis``: all states of a project in a Redis or Valkey server, for machines and pods without a disk.

Two keys for each source, in one slot of a cluster::

    strandline:{shop}:states       a hash: "task destination", each quoted → the token, and the state as JSON
    strandline:{shop}:history:…    a list for each lineage, the newest commit first

A script compares the token and writes both in one step.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.redis.server import connected, explained, place, probed, risks
from strandline.describe import Description
from strandline.errors import StateConflictError
from strandline.probe import Probe
from strandline.risks import check_risks
from strandline.settings import Seconds
from strandline.state import HISTORY_BYTES_MAX, HISTORY_MAX, State, StateKey, Token
from strandline.state_format import decode_state, encode_state, load_state, renews

__all__ = ["RedisState"]

_TOKEN = 32
"""Characters, before each state."""
_SAVE = f"""
local found = redis.call('HGET', KEYS[1], ARGV[1])
if (found and '=' .. string.sub(found, 1, {_TOKEN}) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] == '1' then redis.call('LPOP', KEYS[2]) end
redis.call('LPUSH', KEYS[2], ARGV[3])
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
            token, body = _parts(value)
            states[key] = load_state(key, body, where=self._place, token=token)
        return states

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` as its lineage's newest."""
        token, text = secrets.token_hex(_TOKEN // 2), json.dumps(encode_state(key, state))
        decode_state(key, json.loads(text), where=self._place)  # what could not be read back is never kept
        states, field = self._states(key.source), _field(key)
        with explained(self._place, f"save the state of {key}"):
            self._check()
            before = self._client.hget(states, field)
        # a commit that takes the place of the newest one is known before: it is the one that has the token
        again = before is not None and renews(key, before[_TOKEN:].decode(errors="replace"), text)
        known = "" if expected is None else f"={expected}".encode(errors="surrogateescape")
        arguments = (field, known, token + text, int(again))
        with explained(self._place, f"save the state of {key}", saves=True):
            done = self._client.eval(_SAVE, 2, states, self._history(key), *arguments)
        if not done:
            raise StateConflictError(
                f"{key}: the stored state is not the one this run saved last", hint="let the other run end first"
            )
        return token

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits of one lineage, the newest first."""
        with explained(self._place, f"read the history of {key}"):
            commits = [_parts(one) for one in self._client.lrange(self._history(key), 0, -1)]
        return [load_state(key, body, where=self._place, token=token) for token, body in commits]

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


def _field(key: StateKey) -> str:
    return f"{quote(key.task, safe='')} {quote(key.destination, safe='')}"


def _parts(value: bytes) -> tuple[Token, object]:
    """Token and body; what is not JSON is no state, which is what decoding then says."""
    token = value[:_TOKEN].decode(errors="surrogateescape")
    try:
        return token, json.loads(value[_TOKEN:])
    except ValueError:
        return token, None
