"""A state on its way into the log, with the parts of its cursor (``strandline.parted``) in files of their own.

::

    .strandline/parts/<source>/<task>@<destination>/<name of the part>

They come and go as all files of a commit: hidden first, renamed once an entry names them, removed once one does not any more.
"""

import json
import os
import secrets
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from strandline.connectors.files.log import Commit, Log
from strandline.connectors.files.store import OWN, Store
from strandline.parted import Part
from strandline.paths import FOLDER, PLAIN, encode_part, opened, write_file
from strandline.state import State, StateKey
from strandline.state_format import PartOf, decode_state, encode_parted, history_with, parts_of

__all__ = ["StagedState", "part_of"]


class StagedState:
    """To be committed after ``log``, or discarded. Its parts are durable but for their names: see ``Store.seal``."""

    def __init__(self, store: Store, log: Log, key: StateKey, state: State) -> None:
        body, parts = encode_parted(key, state)
        text = json.dumps(body)
        decode_state(key, json.loads(text), where="log", part=parts.get)  # what could not be read back is never kept
        self.commit = Commit(secrets.token_hex(16), text)
        self.moves: list[tuple[str, str]] = []
        """The parts that are not there yet."""
        self._store, older = store, log.states.get(key, ())
        there = _named(older)
        self.removes = [_place(key, one) for one in there - _named(history_with(key, self.commit, older, _text))]
        """The parts that no commit of the history will name any more."""
        try:
            for name in parts.keys() - there:
                self._write(parts[name], _place(key, name))
        except BaseException:
            self.discard()
            raise

    def _write(self, part: Part, place: str) -> None:
        staged = self._store.stage()
        self.moves.append((staged, place))
        path = self._store.root / staged
        with opened(path.parent, FOLDER) as folder:
            write_file(folder, path.name, part.text().encode())

    def discard(self) -> None:
        """It will not be committed."""
        self._store.discard(old for old, _ in self.moves)


def part_of(root: Path, key: StateKey) -> PartOf:
    """Reads the parts of a lineage, while nobody else can commit."""

    def part(name: str) -> Part | None:
        if not name.isalnum():
            return None
        try:
            with opened(root / _place(key, name), os.O_RDONLY | PLAIN) as fd:
                content = b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError(error.strerror) from error
        return Part.read(name, content.decode("utf-8", "replace"))

    return cache(part)


def _place(key: StateKey, name: str) -> str:
    folder = f"{encode_part(key.source)}/{encode_part(key.task)}@{encode_part(key.destination)}"
    return f"{OWN}/parts/{folder}/{name}"


def _text(commit: Commit) -> str:
    return commit.text


def _named(commits: Iterable[Commit] | Sequence[Commit]) -> set[str]:
    return {name for commit in commits for name in parts_of(commit.text)}
