"""States as JSON files: one for each lineage, replaced as a whole.

::

    .cq/state/                      the root; everything below it is private (0700, 0600)
    └── shop/                       the source
        ├── .lock                   held for the length of one save
        ├── %40run@warehouse.json   the task, "@", the destination; each part by ``encode_part``
        ├── orders@warehouse.json   see ``strandline.state_file``
        └── .parts/                 of large cursors (``strandline.parted``)
            └── orders@warehouse/   each under its name
"""

import errno
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.local.parts import LocalParts
from strandline.connectors.local.probes import probe_directory
from strandline.describe import Description
from strandline.disk import check_locks_hold
from strandline.errors import MACHINE, StateConflictError, StateError
from strandline.parted import Part
from strandline.paths import FOLDER, PLAIN, encode_part, locked, make_directory, opened, replace_file
from strandline.probe import Probe
from strandline.seen import Seen
from strandline.state import State, StateKey, Token
from strandline.state_file import Kept, decode_file, encode_file, given_up
from strandline.state_format import PartOf, decode_state, encode_parted, history_with, parts_of

__all__ = ["LocalState"]

LOCK_WAIT_S = 30.0
"""How long a save waits for the save of another thread or process to end."""

T = TypeVar("T")

_HINTS = {
    (errno.EACCES, errno.EPERM, errno.EROFS): "make it writable, or choose another `path` in backend_spec",
    (errno.ENAMETOOLONG,): "choose a shorter `path` in backend_spec",
    (errno.ELOOP, errno.ENOTDIR, errno.ENXIO): "states are plain files in real directories; move away what is there",
}


class LocalState:
    """Keeps states as JSON files in a directory. Any number of threads and processes of one machine may share it."""

    description = Description(of_host=True)

    class Spec(BaseModel):
        """Settings of the backend ``local``."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(default=".cq/state", min_length=1, description="The directory that keeps the states.")
        allow_network: bool = Field(
            default=False,
            description="Allow a network file system. Its locks may not hold, so two runs may both believe they won.",
        )

    def __init__(self, spec: Spec) -> None:
        self._root = Path(spec.path).absolute()
        self._trusted = self._allows_network = spec.allow_network
        self._swept: set[Path] = set()
        self._seen = Seen()

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Every state of ``source``. Only a directory that does not exist is empty."""
        where = self._root / encode_part(source)
        found = {}
        with _explained(f"{where}: cannot be read"):
            self._refuse_network()
            if _is_missing(where):
                return {}
            with opened(where, FOLDER | os.O_NOFOLLOW) as directory:
                for name in sorted(os.listdir(directory)):  # noqa: PTH208 - of what is open
                    if name.endswith(".json") and not name.startswith("."):
                        key, state = self._load(directory, where / name, source)
                        found[key] = state
        return found

    def _load(self, directory: int, where: Path, source: str) -> tuple[StateKey, State]:
        try:
            return _settled(directory, where, lambda content: self._decoded(content, where))
        except StateError as error:
            task, _, destination = where.stem.partition("@")
            key = StateKey(source, unquote(task), unquote(destination))
            if self._path(key) != where:  # a long name is not in that of its file: nobody can tell whose state it is
                raise
            token = None
            with suppress(StateError):  # what is no plain file cannot be replaced either
                token = given_up(_content(directory, where))
            return key, State(None, 0, 0, run_id="", note=error.message, token=token, untrusted=error)

    def _decoded(self, content: bytes, where: Path) -> tuple[StateKey, State]:
        place = f"{where.parent.name}/{where.name}"
        if (same := self._seen.at(place, content)) is not None:
            return same
        kept = self._checked(content, where, LocalParts(where).get)
        if "parts" not in kept.bodies[0]:
            self._seen.add(place, content, kept.key, kept.newest)
        return kept.key, kept.newest

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` as its lineage's newest; on disk once this returns."""
        where = self._path(key)
        folder = where.parent
        with _explained(f"{where}: the state may not have been saved"):
            self._refuse_network()
            make_directory(folder)
            with opened(folder, FOLDER | os.O_NOFOLLOW) as directory, locked(directory, folder, wait_s=LOCK_WAIT_S):
                kept, found_token = self._find(directory, where, expected)
                if found_token != expected:
                    found = f"run {kept.newest.run_id} has saved another" if kept else "it is gone"
                    raise StateConflictError(
                        f"{where}: the state is not the one this run saved last; {found}",
                        hint="let that run end, then sync again" if kept else "put back a copy of it",
                    )
                if folder not in self._swept:
                    _sweep(directory)
                    self._swept.add(folder)
                token, kept_parts = secrets.token_hex(16), LocalParts(where)
                body, parts = encode_parted(key, state)
                bodies = history_with(key, body, kept.bodies if kept else [], json.dumps)
                content = encode_file(token, bodies)
                _decode(content, where, parts.get)  # what could not be read back is never written
                kept_parts.add(parts)
                if kept is None and expected is not None:
                    replace_file(directory, f"{where.name}.damaged", _content(directory, where))
                replace_file(directory, where.name, content)
                kept_parts.keep(lambda: {name for body in bodies for name in parts_of(json.dumps(body))})
        return token

    def _find(self, directory: int, where: Path, expected: Token | None) -> tuple[Kept | None, Token | None]:
        """What is stored, with its token. What cannot be trusted has one only for who gives it up."""
        if _is_missing(where):
            return None, None
        if expected is not None and expected == given_up(_content(directory, where)):
            return None, expected
        kept = self._checked(_content(directory, where), where, lambda _: Part({}))  # its parts are not looked at
        return kept, kept.newest.token

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits of one lineage, the newest first."""
        where = self._path(key)
        with _explained(f"{where}: cannot be read"):
            if _is_missing(where.parent):
                return []
            with opened(where.parent, FOLDER | os.O_NOFOLLOW) as directory:
                if _is_missing(where):
                    return []

                def decode(content: bytes) -> list[State]:
                    part = cache(LocalParts(where).get)  # versions share most of them
                    kept = self._checked(content, where, part)
                    older = (decode_state(key, body, where=str(where), part=part) for body in kept.bodies[1:])
                    return [kept.newest, *older]

                return _settled(directory, where, decode)

    def probes(self) -> Iterator[Probe]:
        """Whether the directory can keep states; see ``strandline.probe``."""
        yield from probe_directory(self._root, allow_network=self._allows_network)

    def close(self) -> None:
        """Do nothing: nothing is held between calls."""

    def _path(self, key: StateKey) -> Path:
        return self._root / encode_part(key.source) / _name(key)

    def _checked(self, content: bytes, where: Path, part: PartOf) -> Kept:
        kept = _decode(content, where, part)
        if not str(where).endswith(f"{os.sep}{encode_part(kept.key.source)}{os.sep}{_name(kept.key)}"):
            raise StateError(f"{where}: belongs to {kept.key}", hint=f"put it back as {self._path(kept.key)}")
        return kept

    def _refuse_network(self) -> None:
        """Once, where the directory is or will be. Other systems than Linux do not tell."""
        if not self._trusted:
            other = "choose a `path` on a local disk, another backend, or set `allow_network: true`"
            check_locks_hold(self._root, otherwise=other)
        self._trusted = True


@contextmanager
def _explained(problem: str) -> Iterator[None]:
    """Turn an error of the operating system into one that says what to do."""
    try:
        yield
    except OSError as error:
        hint = next((hint for numbers, hint in _HINTS.items() if error.errno in numbers), None)
        hint = hint or MACHINE.get(error.errno or 0, MACHINE[errno.EIO])
        raise StateError(f"{problem}: {error.strerror}", hint=hint) from error


def _content(directory: int, where: Path) -> bytes:
    opening = opened(where.name, os.O_RDONLY | PLAIN, directory=directory)
    with _explained(f"{where}: cannot be read"), opening as fd:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StateError(f"{where}: not a plain file", hint="move it away, and put back a copy of the state")
        return b"".join(iter(lambda: os.read(fd, 1 << 16), b""))


def _settled(directory: int, where: Path, decode: Callable[[bytes], T]) -> T:
    """What ``decode`` makes of a file, where nobody saves in between: the parts of a former content may go with it."""
    while True:
        content = _content(directory, where)
        try:
            return decode(content)
        except StateError:
            if _content(directory, where) == content:
                raise


def _is_missing(path: Path) -> bool:
    """Whether there is certainly nothing; ``Path.exists`` also takes a loop or a file in the way for nothing."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    return False


def _sweep(directory: int) -> None:
    """Remove what killed writers left. A writer has its file only while it holds the lock, so none of these is live."""
    for name in os.listdir(directory):
        if name.startswith(".") and name.endswith(".tmp"):
            with suppress(OSError):
                os.unlink(name, dir_fd=directory)


def _name(key: StateKey) -> str:
    return f"{encode_part(key.task)}@{encode_part(key.destination)}.json"


def _decode(content: bytes, where: Path, part: PartOf) -> Kept:
    def repair() -> str:
        task = unquote(where.stem.partition("@")[0])
        return (
            f"put back a copy of it; or move it away, where the destination keeps states too, and it is written again; or "
            f"strandline state reset {unquote(where.parent.name)!r} {task!r} discards it"
        )

    return decode_file(content, where, repair=repair, part=part)
