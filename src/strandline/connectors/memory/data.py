"""What a store in memory holds: tables, delivered sets and states, as one value that a transaction changes a copy of."""

import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from strandline.connectors.memory.state import parsed
from strandline.destination import Fence
from strandline.errors import StateConflictError
from strandline.fold import Delivered, Rows
from strandline.ownership import Owner
from strandline.state import State, StateKey, Token, is_run
from strandline.state_format import encode_state, history_with, load_state

__all__ = ["Data", "States", "Store"]


@dataclass(slots=True)
class Data:
    """All that a store holds. What is in place is never changed; a transaction changes its copy."""

    tables: dict[str, Rows] = field(default_factory=dict)
    delivered: dict[tuple[StateKey, str], Delivered] = field(default_factory=dict)
    owners: dict[str, tuple[Owner, ...]] = field(default_factory=dict)
    """By table: who writes it."""
    commits: dict[StateKey, tuple[tuple[Token, str], ...]] = field(default_factory=dict)
    """By lineage: tokens and encoded states, the newest first."""

    def copy(self, *tables: str) -> "Data":
        """A copy in which the ``tables`` may be changed, and anything else only be added or taken away."""
        data = Data(dict(self.tables), dict(self.delivered), dict(self.owners), dict(self.commits))
        for name in tables:
            if name in data.tables:
                data.tables[name] = replace(data.tables[name], rows=dict(data.tables[name].rows))
        for place, delivered in self.delivered.items():
            if place[1] in tables:
                data.delivered[place] = delivered.copy()
        return data

    def drop(self, name: str) -> None:
        """Drop a table, and what was known of its rows: what is no longer stored must be delivered again."""
        self.tables.pop(name, None)
        self.owners.pop(name, None)
        for place in [place for place in self.delivered if place[1] == name]:
            del self.delivered[place]

    def check(self, fence: Fence) -> None:
        """Refuse a run that another one has fenced out."""
        token, text = self.commits.get(fence.key, (("", ""),))[0]
        stored = load_state(fence.key, parsed(text), where="memory", token=token) if text else None
        if stored is not None and stored.epoch > fence.epoch:
            raise StateConflictError(
                f"run {fence.run_id} of {fence.source} is fenced: its epoch {fence.epoch} is over, "
                f"run {stored.run_id} has begun {stored.epoch}",
                hint="let one run at a time sync this source",
            )

    def give_up(self, former: StateKey, *, follower: StateKey) -> None:
        """The state of a lineage that another one follows."""
        state = self.states(former.source).get(former)
        if state is not None and not state.is_blank:
            self.save(former, state.followed(follower), state.token)

    def states(self, source: str) -> dict[StateKey, State]:
        """The newest state of each lineage of a source."""
        newest = {key: commits[0] for key, commits in self.commits.items() if key.source == source}
        return {
            key: load_state(key, parsed(text), where="memory", token=token) for key, (token, text) in newest.items()
        }

    def save(self, key: StateKey, state: State, expected: Token | None) -> Token:
        """Save a state over the ``expected`` one; its token."""
        commit = (secrets.token_hex(16), json.dumps(encode_state(key, state)))
        _decode(key, *commit)  # what could not be read back is never kept
        commits = self.commits.get(key, ())
        if (commits[0][0] if commits else None) != expected:
            raise StateConflictError(
                f"{key}: the stored state is not the one this run saved last", hint="let the other run end first"
            )
        self.commits[key] = history_with(key, commit, commits, lambda one: one[1])
        return commit[0]


class Store:
    """What every handle of one name shares."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.data = Data()


class States:
    """The states kept beside the rows: see ``strandline.state.StateBackend``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, source: str) -> Mapping[StateKey, State]:
        """See ``StateBackend.load``."""
        return self._store.data.states(source)

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """See ``StateBackend.save``."""
        with self._store.lock:
            data = self._store.data.copy()
            if not is_run(key.task):
                data.check(Fence(key.source, key.destination, state.epoch, state.run_id))
            token = data.save(key, state, expected)
            self._store.data = data
        return token

    def history(self, key: StateKey) -> Sequence[State]:
        """See ``StateBackend.history``."""
        return [_decode(key, *commit) for commit in self._store.data.commits.get(key, ())]

    def close(self) -> None:
        """Nothing is held."""


def _decode(key: StateKey, token: Token, text: str) -> State:
    return load_state(key, parsed(text), where="memory", token=token)
