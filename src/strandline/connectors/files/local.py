"""Files of this machine: which there are, and what is in one.

Whatever is neither a file nor a directory is passed over. Links are followed, but never to what was found already, so
neither a loop nor a link ``latest`` yields a row twice.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from strandline.connectors.files.paths import (
    WILD,
    File,
    Look,
    Parts,
    begins,
    file_of,
    in_order,
    is_hidden,
    matches,
    pattern_of,
    shown,
    table_of,
    written_below,
)
from strandline.errors import RetryableError, UsageError
from strandline.lazy import pa
from strandline.place import file_places

__all__ = ["LocalFile", "LocalPlace"]

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Removed meanwhile, or a link to nowhere."""
_BEFORE_BYTES = 256


@dataclass(frozen=True)
class LocalPlace:
    """A directory, and one name in it or what a path below it has to match. See ``paths.Place``."""

    base: str
    pattern: Parts
    name: str | None = None
    buffer_bytes = 0

    @classmethod
    def of(cls, path: str) -> "LocalPlace":
        """The place that ``path`` names. What exists is taken as it is, even with wildcards in its name.

        Raises:
            UsageError: there is no such directory or file.
        """
        path = str(Path(path).expanduser())
        try:
            found = Path(path).stat().st_mode
        except OSError as error:
            long = error.errno == errno.ENAMETOOLONG and WILD.search(path)  # what it matches may be shorter
            if error.errno not in _GONE and not long:
                raise _unseen(error) from error
            found = 0
        if stat.S_ISDIR(found):
            return cls(path, ("**", "*"))
        if stat.S_ISREG(found):
            parent, name = os.path.split(path)
            return cls(parent or ".", (), name)
        if found:
            raise UsageError(f"{path!r} is neither a file nor a directory", hint="files reads regular files only")
        parts = Path(path).parts
        wild = next((at for at, part in enumerate(parts) if WILD.search(part)), None)
        if wild is None:
            raise UsageError(f"there is no file or directory {path!r}", hint="fix `path`; it may hold * ? [] and **")
        base = str(Path(*parts[:wild]))
        if not os.path.isdir(base):  # noqa: PTH112 a Path would raise where the name is too long
            raise UsageError(f"there is no directory {base!r}, where {path!r} begins", hint="fix `path`")
        return cls(base, pattern_of(parts[wild:]))

    def find(self, wanted: Callable[[str], bool] = lambda _table: True) -> list[File]:
        """See ``paths.Place``."""
        try:
            return in_order(self._find(wanted))
        except OSError as error:
            raise _unseen(error) from error

    def open(self, file: File) -> "LocalFile":
        """See ``paths.Place``."""
        return LocalFile(file)

    def soon(self, files: Iterable[File], size_bytes: int) -> Iterator[File]:
        """See ``paths.Place``."""
        del size_bytes
        return iter(files)

    def places(self) -> Sequence[str]:
        """The directory, with the pattern of the files in it."""
        pattern = "/".join(self.pattern) if self.name is None else self.name
        return [f"{name} {pattern}" for name in file_places(self.base)]

    def reaches(self, places: Sequence[str]) -> bool:
        """What is written below the directory may match the pattern."""
        return any(self._holds(Path(name.removeprefix("path "))) for name in places if name.startswith("path /"))

    def close(self) -> None:
        """Nothing is held."""

    @cached_property
    def _stem(self) -> str:
        return _utf_8(Path(self.base).resolve().name)

    def _find(self, wanted: Callable[[str], bool]) -> Iterator[File]:
        seen: set[tuple[int, int]] = set()
        real: list[Parts] = [(self.name,) if self.name is not None else ()]
        links: list[Parts] = []
        while real or links:
            # What is really there comes first, so that a link to it adds nothing.
            parts, linked = (real.pop(), False) if real else (links.pop(0), True)
            path = os.path.join(self.base, *parts)  # noqa: PTH118 a Path would be slow for 100 k files
            try:
                found = os.stat(path)  # noqa: PTH116 as above
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                continue
            identity = (found.st_dev, found.st_ino)
            if linked and identity in seen:
                continue
            if stat.S_ISREG(found.st_mode):
                seen.add(identity)
                yield file_of(self, self._stem, tuple(map(_utf_8, parts)), path, _look(found))
            elif stat.S_ISDIR(found.st_mode) and identity not in seen:
                seen.add(identity)
                new, new_links = self._listed(parts, path, wanted)
                real += new
                links = sorted([*links, *new_links])

    def _listed(self, parts: Parts, path: str, wanted: Callable[[str], bool]) -> tuple[list[Parts], list[Parts]]:
        """What is in a directory and may matter: what is really there, and the links."""
        real: list[Parts] = []
        links: list[Parts] = []
        try:
            entries = os.scandir(path)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return [], []
        with entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                below = (*parts, entry.name)
                names = tuple(map(_utf_8, below))
                folder = Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()
                matched = begins(names, self.pattern) if folder else matches(names, self.pattern)
                if matched and (parts or wanted(table_of(self._stem, names, folder=folder))):
                    (links if entry.is_symlink() else real).append(below)
        return real, links

    def _holds(self, path: Path) -> bool:
        """Whether ``path``, or what is written into a directory of that name, is among the files."""
        base = Path(self.base).resolve()
        pattern = self.pattern if self.name is None else (self.name,)
        if not path.is_relative_to(base):
            return False
        parts = path.relative_to(base).parts
        if any(map(is_hidden, parts)):
            return False
        if not path.is_dir() and (path.exists() or path.suffix):
            return matches(parts, pattern)
        return written_below(parts, pattern)


class LocalFile:
    """See ``paths.Opened``."""

    def __init__(self, file: File) -> None:
        self._name = shown(file.key)
        self._raw: BinaryIO = Path(file.path).open("rb", buffering=0)  # noqa: SIM115 closed by ``close``
        self._handles: list[BinaryIO] = []
        self.look = _look(os.fstat(self._raw.fileno()))
        self._before = b""
        """What was read last. A log that was truncated and has grown again has something else there."""

    def head(self, size_bytes: int) -> bytes:
        """See ``paths.Opened``."""
        return os.pread(self._raw.fileno(), size_bytes, 0)

    def blocks(self, offset: int, size_bytes: int) -> Iterator[bytes]:
        """See ``paths.Opened``."""
        self._raw.seek(offset)
        self._before = b""
        return iter(lambda: self._read(size_bytes), b"")

    def _read(self, size_bytes: int) -> bytes:
        """The next bytes.

        Raises:
            RetryableError: it was truncated, and perhaps written again.
        """
        at, before = self._raw.tell(), self._before
        data = self._raw.read(size_bytes)
        is_shorter = os.fstat(self._raw.fileno()).st_size < max(self.look.size, at + len(data))
        if is_shorter or os.pread(self._raw.fileno(), len(before), at - len(before)) != before:
            raise RetryableError(f"{self._name}: truncated while it was read", hint="the files are listed again")
        self._before = data[-_BEFORE_BYTES:]
        return data

    def for_arrow(self) -> "pa.NativeFile":
        """See ``paths.Opened``. Arrow closes what it is given, at times, so it gets a handle of its own."""
        self._raw.seek(0)
        handle = os.fdopen(os.dup(self._raw.fileno()), "rb", buffering=0)
        self._handles.append(handle)
        return pa.PythonFile(handle, "r")

    def expect(self, start: int, end: int) -> None:
        """See ``paths.Opened``: the system reads ahead."""

    def close(self) -> None:
        """See ``paths.Opened``."""
        for handle in (self._raw, *self._handles):
            handle.close()


def _look(found: os.stat_result) -> Look:
    return Look(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _unseen(error: OSError) -> UsageError:
    return UsageError(f"cannot look at {error.filename!r}: {error.strerror}", hint="fix `path`, or its permissions")


def _utf_8(name: str) -> str:
    """The name as its bytes say, whatever the locale takes them for."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")
