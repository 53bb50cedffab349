"""The state backend ``objects``: an object for each lineage in S3, GCS, Azure, or whatever speaks S3.

An object is named, and has the content, as a file of the backend ``local``. It is replaced under the condition that it is still
the version that was read (``If-Match``), or created under the condition that there is none (``If-None-Match``). The token in it is
new at every write, so that no two contents have one ETag.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.objects.store import Store
from strandline.describe import Description
from strandline.errors import StateConflictError, StateError
from strandline.paths import encode_part
from strandline.probe import Probe, Verdict
from strandline.settings import Seconds
from strandline.state import State, StateKey, Token
from strandline.state_file import Kept, decode_file, encode_file, given_up
from strandline.state_format import decode_state, encode_state, history_with

__all__ = ["ObjectsState"]

_AT_ONCE = 16
_SUFFIX = ".json"


class ObjectsState:
    """See ``strandline.state.StateBackend``. A store that ignores conditions is refused."""

    description = Description(drivers=("obstore",))

    class Spec(BaseModel):
        """Settings of the backend ``objects``."""

        model_config = ConfigDict(extra="forbid")

        url: str = Field(
            min_length=1,
            description="`s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`, whose account is in `options` or the environment.",
        )
        options: dict[str, str] = Field(
            default={},
            repr=False,
            description="Settings of obstore: `endpoint`, `region`, `access_key_id`, `secret_access_key` and so on. What is not "
            "there is taken from the environment, as usual.",
        )
        timeout: Seconds = Field(30, description="How long to wait for an answer. A duration, as 30s.")

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._opened: Store | None = None
        self._trusted = False
        self._known: dict[str, tuple[str, bytes]] = {}
        """What was loaded, by name, with its ETag: a run looks several times, and thousands of objects stay as they are."""

    @property
    def _store(self) -> Store:
        """Opened when it is first needed: looking for credentials may ask the network."""
        if self._opened is None:
            self._opened = Store(self._spec.url, self._spec.options, self._spec.timeout)
        return self._opened

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Every state of ``source``: one listing, and what has changed since the last one."""
        store, known = self._store, dict(self._known)
        listed = {name: tag for name, tag in store.listed(encode_part(source)).items() if name.endswith(_SUFFIX)}
        changed = [name for name, tag in listed.items() if tag is None or known.get(name, ("", b""))[0] != tag]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for name, found in zip(changed, pool.map(store.get, changed), strict=True):
                known.pop(name, None)
                if found is not None:
                    known[name] = (found[1].get("e_tag", ""), found[0])
        self._known = known
        return dict(self._loaded(name, known[name][1], source) for name in sorted(listed) if name in known)

    def _loaded(self, name: str, content: bytes, source: str) -> tuple[StateKey, State]:
        try:
            kept = self._decoded(name, content)
        except StateError as error:
            task, _, destination = name.rpartition("/")[2].removesuffix(_SUFFIX).partition("@")
            key = StateKey(source, unquote(task), unquote(destination))
            if _name(key) != name:  # a long name is not in that of its object: nobody can tell whose state it is
                raise
            return key, State(None, 0, 0, run_id="", note=error.message, token=given_up(content), untrusted=error)
        return kept.key, kept.newest

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` as its lineage's newest, by one conditional write."""
        store, name, token, body = self._store, _name(key), secrets.token_hex(16), encode_state(key, state)
        decode_state(key, json.loads(json.dumps(body)), where=name)  # what could not be read back is never written
        if not self._trusted:
            store.check_conditions(encode_part(key.source))
            self._trusted = True
        found, kept = store.get(name), None
        stored: Token | None = None
        if found is not None and expected is not None and expected == given_up(found[0]):
            stored = expected
        elif found is not None:
            kept = self._decoded(name, found[0])
            stored = kept.newest.token
        content = encode_file(token, history_with(key, body, kept.bodies if kept else [], json.dumps))
        if stored != expected or not store.put(name, content, found[1] if found is not None else "create"):
            raise StateConflictError(
                f"{store.place}: {name} is not the state that this run saved last", hint="let the other run end first"
            )
        return token

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits of one lineage, the newest first."""
        found = self._store.get(_name(key))
        if found is None:
            return []
        kept = self._decoded(_name(key), found[0])
        return [kept.newest, *(decode_state(key, body, where=_name(key)) for body in kept.bodies[1:])]

    def probes(self) -> Iterator[Probe]:
        """Whether states can be kept; see ``strandline.probe``."""
        store = self._store
        store.listed("probe")
        yield Probe("connection", Verdict.OK, store.place)
        store.check_conditions("probe")
        yield Probe("conditions", Verdict.OK, "of two writers one is refused")

    def close(self) -> None:
        """Do nothing: nothing is held between calls."""

    def _decoded(self, name: str, content: bytes) -> Kept:
        def repair() -> str:
            source, _, rest = name.rpartition("/")
            task = unquote(rest.partition("@")[0])
            return (
                f"put back an older version of it; or strandline state reset {unquote(source)!r} {task!r} discards it"
            )

        kept = decode_file(content, f"{self._store.place}: {name}", repair=repair)
        if _name(kept.key) != name:
            raise StateError(
                f"{self._store.place}: {name} belongs to {kept.key}", hint=f"put it back as {_name(kept.key)}"
            )
        return kept


def _name(key: StateKey) -> str:
    return f"{encode_part(key.source)}/{encode_part(key.task)}@{encode_part(key.destination)}{_SUFFIX}"
