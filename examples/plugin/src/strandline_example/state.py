"""The state backend ``onefile``: all states of a project in one JSON file, for one machine."""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from strandline.errors import StateConflictError, StateError
from strandline.paths import FOLDER, locked, opened, replace_file
from strandline.state import State, StateKey, Token
from strandline.state_format import decode_state, encode_state, history_with, load_state

Commits = dict[StateKey, list[list[str]]]
"""By lineage: tokens and encoded states, the newest first."""


class OneFile:
    """See ``strandline.state.StateBackend``. A lock beside the file makes the comparison and the write one step."""

    class Spec(BaseModel):
        """Where the file is."""

        model_config = ConfigDict(extra="forbid")
        path: str = Field(min_length=1, description="The file; made if it is missing.")

    def __init__(self, spec: Spec) -> None:
        self._path = Path(spec.path)

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Every state of a source; a damaged one says so itself."""
        found = {key: commits[0] for key, commits in self._read().items() if key.source == source}
        return {key: self._loaded(key, *commit) for key, commit in found.items()}

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Compare and set."""
        commit = [secrets.token_hex(16), json.dumps(encode_state(key, state))]
        decode_state(key, json.loads(commit[1]), where=str(self._path))  # what could not be read back is never kept
        with opened(self._path.parent, FOLDER) as directory, locked(directory, self._path.parent, wait_s=30):
            all_ = self._read()
            commits = all_.get(key, [])
            if (commits[0][0] if commits else None) != expected:
                raise StateConflictError(f"{key}: another run has saved a state", hint="let it end, then start again")
            all_[key] = [*history_with(key, commit, commits, lambda one: one[1])]
            content = [[[one.source, one.task, one.destination], kept] for one, kept in all_.items()]
            replace_file(directory, self._path.name, json.dumps(content).encode())
        return commit[0]

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits, the newest first."""
        return [self._loaded(key, *commit) for commit in self._read().get(key, [])]

    def close(self) -> None:
        """Nothing is held."""

    def _loaded(self, key: StateKey, token: Token, text: str) -> State:
        try:
            body = json.loads(text)
        except ValueError:  # what is not JSON is no state, which is what it then says
            body = None
        return load_state(key, body, where=str(self._path), token=token)

    def _read(self) -> Commits:
        try:
            found: list[Any] = json.loads(self._path.read_text("utf-8"))
            return {StateKey(*key): commits for key, commits in found}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise StateError(f"{self._path} is damaged: {error}", hint="restore it from a backup") from error
