"""Which files there are: a directory, a pattern or one file, as a sorted list of regular files.

Hidden names and names of unfinished files (they begin with ``.`` or ``_``) are passed over, directories and files
alike, unless ``path`` itself names them. So is whatever is neither a file nor a directory. Links are followed, but
never to what was found already, so neither a loop nor a link ``latest`` yields a row twice.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from strandline.errors import UsageError
from strandline.logs import printable

__all__ = ["SUFFIXES", "File", "Place", "find_files", "hive_of", "holds", "shown"]

_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".psv": "csv",
    ".tab": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
SUFFIXES = tuple(_FORMATS)
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Removed meanwhile, or a link to nowhere."""
_WILD = re.compile(r"[*?\[]")
_DIGITS = re.compile(r"([0-9]+)")
_HIVE = re.compile(r"[^=]+=.+")
_Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class File:
    """A file that was found, as it was then."""

    key: str
    """Its path below the place, with ``/``; reversible text, see ``_key``."""
    path: str
    """What opens it."""
    table: str
    """By default: the first directory below the place, or the file's name without its endings; the name of the place where
    the first directory is a part of a table, ``year=2024``."""
    hive: _Parts
    """The directories above it that are parts of a table."""
    format: str | None
    """By its name: ``csv``, ``jsonl``, ``parquet``; ``None`` where the name does not say."""
    compression: str | None
    """``gzip``, ``zstd`` or none, by its name."""
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where files are looked for: a directory, and one name in it or what a path below it has to match."""

    base: str
    pattern: _Parts
    name: str | None = None

    @classmethod
    def of(cls, path: str) -> "Place":
        """The place that ``path`` names. What exists is taken as it is, even with wildcards in its name.

        Raises:
            UsageError: there is no such directory or file.
        """
        path = str(Path(path).expanduser())
        try:
            found = Path(path).stat().st_mode
        except OSError as error:
            long = error.errno == errno.ENAMETOOLONG and _WILD.search(path)  # what it matches may be shorter
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
        wild = next((at for at, part in enumerate(parts) if _WILD.search(part)), None)
        if wild is None:
            raise UsageError(f"there is no file or directory {path!r}", hint="fix `path`; it may hold * ? [] and **")
        base = str(Path(*parts[:wild]))
        if not os.path.isdir(base):  # noqa: PTH112 a Path would raise where the name is too long
            raise UsageError(f"there is no directory {base!r}, where {path!r} begins", hint="fix `path`")
        pattern = parts[wild:]
        return cls(base, (*pattern, "*") if pattern[-1] == "**" else pattern)


def find_files(place: Place, wanted: Callable[[str], bool] = lambda _table: True) -> list[File]:
    """The files at ``place`` that belong to a wanted table, sorted by key; numbers in it by value.

    Raises:
        UsageError: a directory cannot be listed. What cannot be seen is never taken for gone.
    """
    try:
        return sorted(_find(place, wanted), key=lambda file: _natural(file.key))
    except OSError as error:
        raise _unseen(error) from error


def _natural(key: str) -> tuple[list[str | int], str]:
    """Sorts ``2024-9`` before ``2024-10``."""
    parts = _DIGITS.split(key)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], key


def _unseen(error: OSError) -> UsageError:
    return UsageError(f"cannot look at {error.filename!r}: {error.strerror}", hint="fix `path`, or its permissions")


def _find(place: Place, wanted: Callable[[str], bool]) -> Iterator[File]:
    seen: set[tuple[int, int]] = set()
    real: list[_Parts] = [(place.name,) if place.name is not None else ()]
    links: list[_Parts] = []
    while real or links:
        # What is really there comes first, so that a link to it adds nothing.
        parts, linked = (real.pop(), False) if real else (links.pop(0), True)
        path = os.path.join(place.base, *parts)  # noqa: PTH118 a Path would be slow for 100 k files
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
            yield _file(place, parts, found)
        elif stat.S_ISDIR(found.st_mode) and identity not in seen:
            seen.add(identity)
            new, new_links = _listed(place, parts, path, wanted)
            real += new
            links = sorted([*links, *new_links])


def _listed(place: Place, parts: _Parts, path: str, wanted: Callable[[str], bool]) -> tuple[list[_Parts], list[_Parts]]:
    """What is in a directory and may matter: what is really there, and the links."""
    real: list[_Parts] = []
    links: list[_Parts] = []
    try:
        entries = os.scandir(path)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return [], []
    with entries:
        for entry in entries:
            if entry.name.startswith((".", "_")):
                continue
            below = (*parts, entry.name)
            names = tuple(map(_utf_8, below))
            folder = Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()
            matched = _begins(names, place.pattern) if folder else _matches(names, place.pattern)
            if matched and (parts or wanted(_table(place, names, folder=folder))):
                (links if entry.is_symlink() else real).append(below)
    return real, links


def _matches(parts: _Parts, pattern: _Parts) -> bool:
    """Whether a path fits. Only the last ``**`` that was met is tried again, so that steps are at most a product of lengths."""
    at = step = begun = 0
    any_at = -1
    while at < len(parts):
        if step < len(pattern) and pattern[step] == "**":
            any_at, begun, step = step, at, step + 1
        elif step < len(pattern) and fnmatchcase(parts[at], pattern[step]):
            at, step = at + 1, step + 1
        elif any_at >= 0:
            begun += 1
            at, step = begun, any_at + 1
        else:
            return False
    return all(part == "**" for part in pattern[step:])


def _begins(parts: _Parts, pattern: _Parts) -> bool:
    """Whether something below the directory ``parts`` may match."""
    for at, part in enumerate(parts):
        if pattern[at : at + 1] == ("**",):
            return True
        if at >= len(pattern) or not fnmatchcase(part, pattern[at]):
            return False
    return len(pattern) > len(parts)


def holds(place: Place, path: Path) -> bool:
    """Whether ``path``, or what is written into a directory of that name, is among the files of a place."""
    base = Path(place.base).resolve()
    pattern = place.pattern if place.name is None else (place.name,)
    if not path.is_relative_to(base):
        return False
    parts = path.relative_to(base).parts
    if any(part.startswith((".", "_")) for part in parts):
        return False
    if not path.is_dir() and (path.exists() or path.suffix):
        return _matches(parts, pattern)
    # tables are directories, whose files have an ending; a partition is one more directory
    below = [(*parts, "t", *between, f"f{ending}") for between in ((), ("p",)) for ending in ("", *_FORMATS)]
    return any(_matches(one, pattern) for one in below)


def _file(place: Place, parts: _Parts, found: os.stat_result) -> File:
    names = tuple(map(_utf_8, parts))
    _, ending, compression = _split(names[-1])
    return File(
        key=_key("/".join(names)),
        path=os.path.join(place.base, *parts),  # noqa: PTH118 a Path would be slow for 100 k files
        table=_table(place, names[:1], folder=len(parts) > 1),
        hive=hive_of(_key("/".join(names))),
        format=_FORMATS.get(ending),
        compression=compression,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=found.st_ino,
    )


def _split(name: str) -> tuple[str, str, str | None]:
    """A file's name without its endings, the ending that says its format, and its compression."""
    stem, dot, ending = name.rpartition(".")
    compression = _COMPRESSIONS.get(f".{ending.lower()}") if stem else None
    if compression:
        stem, dot, ending = stem.rpartition(".")
    return stem or ending, f"{dot}{ending.lower()}", compression


def _table(place: Place, names: _Parts, *, folder: bool) -> str:
    """The table of what begins with ``names`` below a place."""
    if folder and _HIVE.fullmatch(names[0]):
        return _key(_utf_8(Path(place.base).resolve().name)) or "files"
    return _key(names[0] if folder else _split(names[0])[0])


def _utf_8(name: str) -> str:
    """The name as its bytes say, whatever the locale takes them for."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")


def _key(relative: str) -> str:
    """The name as text that every store can hold, and that belongs to this name only.

    A byte that is not UTF-8 becomes ``%XX``; a ``%`` that could be mistaken for the beginning of one becomes ``%25``.
    """
    if relative.isascii() and "%" not in relative:
        return relative
    text = re.sub(r"%(?=[0-9A-Fa-f]{2})", "%25", relative)
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)


def hive_of(key: str) -> tuple[str, ...]:
    """The directories above a file that are parts of its table, ``year=2024``."""
    return tuple(part for part in key.split("/")[:-1] if _HIVE.fullmatch(part)) if "=" in key else ()


def shown(key: str) -> str:
    """A key for a message: as it is, or escaped where it would break the line."""
    return printable(key)
