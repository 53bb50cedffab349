"""The states that a commit log keeps beside the rows."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from strandline.connectors.files.log import Commit, Entry, Log, Record
from strandline.connectors.files.parts import StagedState, part_of
from strandline.connectors.files.store import Store
from strandline.connectors.files.stored_tables import owners_of
from strandline.destination import Fence, check_token
from strandline.errors import StateError
from strandline.ownership import Owner, followed
from strandline.state import State, StateKey, Token, is_run
from strandline.state_format import load_state

__all__ = ["LogStates", "adopted", "check_fence", "token_of"]


def check_fence(log: Log, fence: Fence) -> None:
    """Compare with the epoch that is stored, where one is.

    Raises:
        StateConflictError: another run has taken over.
    """
    commits = log.states.get(fence.key)
    if not commits:
        return
    # a fence that cannot be read is given up by command only, and that raises the epoch
    stored = load_state(fence.key, _parsed(commits[0].text), where="@run", token=commits[0].token)
    fence.check(stored.epoch)


def token_of(log: Log, key: StateKey) -> Token | None:
    """Of the state that is stored."""
    commits = log.states.get(key)
    return commits[0].token if commits else None


def adopted(store: Store, log: Log, former: Iterable[tuple[StateKey, str]], key: StateKey) -> Entry:
    """What changes where ``key`` follows other lineages: who is registered, and that their states are given up.

    Args:
        store: of the log.
        log: as it is before.
        former: by lineage and table.
        key: whose the tables are from now on.
    """
    tables, states = dict[str, Record | None](), dict[StateKey, Commit]()
    new = Owner(key.source, key.destination)
    for lineage, table in former:
        owners = followed(owners_of(log, table), Owner(lineage.source, lineage.destination), new)
        tables[table] = replace(log.tables[table], owners=owners)
        for commit in log.states.get(lineage, ())[:1]:
            state = _state(store, lineage, commit)
            if not state.is_blank:
                states[lineage] = StagedState(store, log, lineage, state.followed(key)).commit  # which has no cursor
    return Entry(tables=tables, states=list(states.items()))


class LogStates:
    """See ``strandline.state.StateBackend``. Closed with the destination."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Every state of ``source``."""
        with self._looking() as log:
            return {
                key: _state(self._store, key, commits[0]) for key, commits in log.states.items() if key.source == source
            }

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` as its lineage's newest."""
        with self._explained(f"{key}: the state may not have been saved"), self._store.transaction() as transaction:
            if not is_run(key.task):
                check_fence(transaction.log, Fence(key.source, key.destination, state.epoch, state.run_id))
            check_token(key, token_of(transaction.log, key), expected)
            staged = StagedState(self._store, transaction.log, key, state)
            self._store.seal(old for old, _ in staged.moves)
            transaction.commit(Entry(moves=staged.moves, removes=staged.removes, states=[(key, staged.commit)]))
        return staged.commit.token

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits of one lineage, the newest first."""
        with self._looking() as log:
            return [_state(self._store, key, commit) for commit in log.states.get(key, ())]

    @contextmanager
    def _looking(self) -> Iterator[Log]:
        """What is committed, while its parts stay."""
        with self._explained("the states cannot be read"):
            if not self._store.look().number:
                yield Log()
                return
            with self._store.alone() as log:
                yield log

    def close(self) -> None:
        """Do nothing: the destination closes what it opened."""

    @contextmanager
    def _explained(self, problem: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(
                f"{self._store.where}: {problem}: {error.strerror}", hint="look after the disk and its rights"
            ) from error


def _state(store: Store, key: StateKey, commit: Commit) -> State:
    part = part_of(store.root, key)
    return load_state(key, _parsed(commit.text), where=store.where, token=commit.token, part=part)


def _parsed(text: str) -> object:
    """What is not JSON is no state, which is what decoding then says."""
    try:
        return json.loads(text)
    except ValueError:
        return None
