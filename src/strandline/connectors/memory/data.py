"""What a store in memory holds: tables, delivered sets and states, as one value that a transaction changes a copy of."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from strandline.connectors.memory.commits import Commits
from strandline.destination import Fence
from strandline.errors import StateConflictError
from strandline.fold import Delivered, Rows
from strandline.ownership import Owner
from strandline.state import State, StateKey, Token, is_run

__all__ = ["Data", "States", "Store"]


@dataclass(slots=True)
class Data:
    """All that a store holds. What is in place is never changed; a transaction changes its copy."""

    tables: dict[str, Rows] = field(default_factory=dict)
    delivered: dict[tuple[StateKey, str], Delivered] = field(default_factory=dict)
    owners: dict[str, tuple[Owner, ...]] = field(default_factory=dict)
    """By table: who writes it."""
    commits: Commits = field(default_factory=Commits)

    def copy(self, *tables: str) -> "Data":
        """A copy in which the ``tables`` may be changed, and anything else only be added or taken away."""
        data = Data(dict(self.tables), dict(self.delivered), dict(self.owners), Commits(self.commits))
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
        stored = self.commits.newest(fence.key)
        if stored is not None and stored.epoch > fence.epoch:
            raise StateConflictError(
                f"run {fence.run_id} of {fence.source} is fenced: its epoch {fence.epoch} is over, "
                f"run {stored.run_id} has begun {stored.epoch}",
                hint="let one run at a time sync this source",
            )

    def give_up(self, former: StateKey, *, follower: StateKey) -> None:
        """The state of a lineage that another one follows."""
        state = self.commits.newest(former)
        if state is not None and not state.is_blank:
            self.commits.save(former, state.followed(follower), state.token)


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
        return self._store.data.commits.states(source)

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """See ``StateBackend.save``."""
        with self._store.lock:
            data = self._store.data.copy()
            if not is_run(key.task):
                data.check(Fence(key.source, key.destination, state.epoch, state.run_id))
            token = data.commits.save(key, state, expected)
            self._store.data = data
        return token

    def history(self, key: StateKey) -> Sequence[State]:
        """See ``StateBackend.history``."""
        return self._store.data.commits.history(key)

    def close(self) -> None:
        """Nothing is held."""
