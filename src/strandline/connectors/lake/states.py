"""The states that the log of a lake keeps beside the rows."""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from strandline.connectors.lake.journal import Journal
from strandline.connectors.lake.log import Commit, Entry, Log, Record
from strandline.connectors.stores.drivers import obstore_exceptions
from strandline.destination import Fence, check_token
from strandline.errors import RetryableError, StateError, UnreachableError
from strandline.ownership import Owner, followed
from strandline.state import State, StateKey, Token, is_run
from strandline.state_format import decode_state, encode_state, load_state

__all__ = ["LakeStates", "adopted", "check_fence", "commit_of", "token_of"]


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


def commit_of(key: StateKey, state: State) -> Commit:
    """A state as the log keeps it, with a fresh token."""
    text = json.dumps(encode_state(key, state))
    decode_state(key, json.loads(text), where="log")  # what could not be read back is never kept
    return Commit(secrets.token_hex(16), text)


def adopted(
    log: Log, former: Iterable[tuple[StateKey, str]], key: StateKey, tables: Mapping[str, Record | None]
) -> Entry:
    """What changes where ``key`` follows other lineages: who is registered, and that their states are given up.

    Args:
        log: as it is before.
        former: by lineage and table.
        key: whose the tables are from now on.
        tables: what becomes of tables in the same commit.
    """
    changed, states = dict(tables), dict[StateKey, Commit]()
    new = Owner(key.source, key.destination)
    for lineage, table in former:
        record = changed.get(table) or log.tables[table]
        changed[table] = replace(
            record, owners=followed(record.owners, Owner(lineage.source, lineage.destination), new)
        )
        for commit in log.states.get(lineage, ())[:1]:
            state = load_state(lineage, _parsed(commit.text), where="log", token=commit.token)
            if not state.is_blank:
                states[lineage] = commit_of(lineage, state.followed(key))
    return Entry(tables=changed, states=list(states.items()))


class LakeStates:
    """See ``strandline.state.StateBackend``. Closed with the destination."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Every state of ``source``."""
        with self._explained("the states cannot be read"):
            log = self._journal.look()
        return {
            key: load_state(key, _parsed(commits[0].text), where=self._journal.where, token=commits[0].token)
            for key, commits in log.states.items()
            if key.source == source
        }

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` as its lineage's newest."""
        commit = commit_of(key, state)

        def entry(log: Log, _number: int) -> Entry:
            if not is_run(key.task):
                check_fence(log, Fence(key.source, key.destination, state.epoch, state.run_id))
            check_token(key, token_of(log, key), expected)
            return Entry(states=[(key, commit)])

        with self._explained(f"{key}: the state may not have been saved"):
            self._journal.commit(entry)
        return commit.token

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits of one lineage, the newest first."""
        with self._explained("the states cannot be read"):
            commits = self._journal.look().states.get(key, ())
        return [
            load_state(key, _parsed(commit.text), where=self._journal.where, token=commit.token) for commit in commits
        ]

    def close(self) -> None:
        """Do nothing: the destination closes what it opened."""

    @contextmanager
    def _explained(self, problem: str) -> Iterator[None]:
        try:
            yield
        except (OSError, RetryableError) as error:
            if isinstance(error, UnreachableError):
                raise
            raise StateError(
                f"{self._journal.where}: {problem}: {error}", hint="look after the disk and its rights"
            ) from error
        except obstore_exceptions.BaseError as error:
            first = str(error).strip().split("\n")[0][:300]
            raise UnreachableError(f"{self._journal.where}: {problem}: {first}", hint="is the store up?") from error


def _parsed(text: str) -> object:
    """What is not JSON is no state, which is what decoding then says."""
    try:
        return json.loads(text)
    except ValueError:
        return None
