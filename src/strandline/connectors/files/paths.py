"""What files are called, and what is asked of a place where they are: a directory of this machine, or an object store.

Hidden names and names of unfinished files (they begin with ``.`` or ``_``) are passed over, directories and files
alike, unless ``path`` itself names them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, Protocol

from strandline.logs import printable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SUFFIXES",
    "WILD",
    "File",
    "Look",
    "Opened",
    "Parts",
    "Place",
    "begins",
    "file_of",
    "hive_of",
    "in_order",
    "is_hidden",
    "matches",
    "pattern_of",
    "shown",
    "table_of",
    "written_below",
]

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
WILD = re.compile(r"[*?\[]")
_DIGITS = re.compile(r"([0-9]+)")
_HIVE = re.compile(r"[^=]+=.+")
Parts = tuple[str, ...]


class Look(NamedTuple):
    """How a file looks. Whatever changes it changes one of these."""

    size: int
    mtime_ns: int
    ctime_ns: int
    """Of an object a number below 0 that is made of its ETag and version, which says that it was changed, and not when."""
    inode: int
    """Of an object a number below 0 that is made of its key: what is there under another key is another object."""
    tag: str = ""
    """The ETag of an object: two contents never have the same one. Empty where there is none of that kind."""

    @property
    def changed_ns(self) -> int:
        """When it was changed, for all that is known."""
        return max(self.mtime_ns, self.ctime_ns)


class Opened(Protocol):
    """An opened file. For one thread.

    Raises:
        TaskError: it may not be read.
        RetryableError: it has vanished or was replaced, or its place does not answer.
        OSError: anything else.
    """

    look: Look
    """As it was before anything was read: a change after that is seen by the next sync."""

    def head(self, size_bytes: int) -> bytes:
        """What it begins with."""

    def blocks(self, offset: int, size_bytes: int) -> Iterator[bytes]:
        """What is in it from ``offset`` on, in blocks of at most ``size_bytes``, none of them empty. One at a time.

        Raises:
            RetryableError: what is there now does not go on with what was read.
        """

    def for_arrow(self) -> "pa.NativeFile":
        """The file from its beginning as Arrow reads it, in any order."""

    def expect(self, start: int, end: int) -> None:
        """These bytes are read next, in any order."""

    def close(self) -> None:
        """Give back what it holds."""


class Place(Protocol):
    """Where files are looked for. For many threads."""

    buffer_bytes: int
    """How much Arrow is to ask for at once, of all columns of a Parquet file together; 0: as it likes."""

    def find(self, wanted: Callable[[str], bool]) -> "list[File]":
        """The files that belong to a wanted table, sorted by key; numbers in it by value.

        Raises:
            UsageError: there is no such place, or it cannot be listed. What cannot be seen is never taken for gone.
            UnreachableError: it does not answer.
        """

    def open(self, file: "File") -> Opened:
        """One of them; the errors are those of ``Opened``."""

    def soon(self, files: "Iterable[File]", size_bytes: int) -> "Iterator[File]":
        """The same files. They are opened one after the other, and so many bytes of each are read at least."""

    def places(self) -> Sequence[str]:
        """Names of it; see ``strandline.place``."""

    def reaches(self, places: Sequence[str]) -> bool:
        """Whether what is written into something of these names may be found; see ``strandline.place``."""

    def close(self) -> None:
        """Give back what it holds."""


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
    hive: Parts
    """The directories above it that are parts of a table."""
    format: str | None
    """By its name: ``csv``, ``jsonl``, ``parquet``; ``None`` where the name does not say."""
    compression: str | None
    """``gzip``, ``zstd`` or none, by its name."""
    look: Look
    place: Place = field(repr=False, compare=False)


def file_of(place: Place, stem: str, names: Parts, path: str, look: Look) -> File:
    """The file that is called ``names`` below a place, of which the name is ``stem``."""
    key = _key("/".join(names))
    _, ending, compression = _split(names[-1])
    return File(
        key=key,
        path=path,
        table=table_of(stem, names[:1], folder=len(names) > 1),
        hive=hive_of(key),
        format=_FORMATS.get(ending),
        compression=compression,
        look=look,
        place=place,
    )


def in_order(files: Iterable[File]) -> list[File]:
    """Sorted by key, numbers in it by value."""
    return sorted(files, key=lambda file: _natural(file.key))


def is_hidden(name: str) -> bool:
    """Whether a name is passed over."""
    return name.startswith((".", "_"))


def pattern_of(parts: Parts) -> Parts:
    """The pattern that ``parts``, which are written so, mean."""
    return (*parts, "*") if parts[-1] == "**" else parts


def _natural(key: str) -> tuple[list[str | int], str]:
    """Sorts ``2024-9`` before ``2024-10``."""
    parts = _DIGITS.split(key)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], key


def matches(parts: Parts, pattern: Parts) -> bool:
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


def begins(parts: Parts, pattern: Parts) -> bool:
    """Whether something below the directory ``parts`` may match."""
    for at, part in enumerate(parts):
        if pattern[at : at + 1] == ("**",):
            return True
        if at >= len(pattern) or not fnmatchcase(part, pattern[at]):
            return False
    return len(pattern) > len(parts)


def _split(name: str) -> tuple[str, str, str | None]:
    """A file's name without its endings, the ending that says its format, and its compression."""
    stem, dot, ending = name.rpartition(".")
    compression = _COMPRESSIONS.get(f".{ending.lower()}") if stem else None
    if compression:
        stem, dot, ending = stem.rpartition(".")
    return stem or ending, f"{dot}{ending.lower()}", compression


def table_of(stem: str, names: Parts, *, folder: bool) -> str:
    """The table of what begins with ``names`` below a place, of which the name is ``stem``."""
    if folder and _HIVE.fullmatch(names[0]):
        return _key(stem) or "files"
    return _key(names[0] if folder else _split(names[0])[0])


def written_below(parts: Parts, pattern: Parts) -> bool:
    """Whether files that are written into a directory of that name may match a pattern."""
    # tables are directories, whose files have an ending; a partition is one more directory
    below = [(*parts, "t", *between, f"f{ending}") for between in ((), ("p",)) for ending in ("", *_FORMATS)]
    return any(matches(one, pattern) for one in below)


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
