"""What a cursor of files remembers, and what it says about the files that are there now.

The cursor of a table is a JSON object::

    {"version": 1, "files": {"2024/a.csv": [size, mtime_ns, ctime_ns, inode, digest, covered, end, skip, rows, mark]},
     "shown": "1 file, 90 rows"}

with one ``Position`` for each file that was read, or begun: some 150 bytes each.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from strandline.errors import StateError, StrandlineError, TaskError
from strandline.message import Cursor
from strandline.sources._file_content import UTF_8, Content, Prefix, digest, prefixes
from strandline.sources._file_paths import File, shown

if TYPE_CHECKING:
    import os
    from hashlib import _Hash

__all__ = ["AGAIN", "PARTLY", "SETTLED", "Policies", "Position", "Survey", "Work", "cursor_of", "positions_of", "young"]

log = logging.getLogger(__name__)

_VERSION = 1
SETTLED, AGAIN, PARTLY = 0, 1, 2
"""Marks. A file that looks unchanged is passed over, looked at again (it was young, or its last line unfinished), or
read on (it was not read to its end)."""
_RACY_NS = 2_000_000_000
"""A file changed so shortly before it was read may change again without showing it: clocks of file systems are coarse."""
_NAMED_MAX = 5


class Position(NamedTuple):
    """What of a file was delivered. Offsets are in bytes of its content.

    The first ``covered`` bytes have this ``digest``. All records before ``end``, and ``skip`` rows after it, were
    delivered; those begin and end before ``covered``. A settled file has ``end == covered``, unless its last record
    had no newline: that one is delivered, and begins at ``end``. A Parquet file that is being read has ``end == 0``.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: str
    covered: int
    end: int
    skip: int
    rows: int
    """How many in all."""
    mark: int

    @classmethod
    def first(cls, stat: "os.stat_result", reached: str, *, covered: int = 0, rows: int = 0) -> "Position":
        """The beginning of a file, or of a Parquet file of which ``rows`` rows were delivered."""
        return cls(
            stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, reached, covered, 0, rows, rows, PARTLY
        )

    def unchanged(self, file: File) -> bool:
        """Whether the file looks as it did when it was read."""
        return self[:4] == (file.size, file.mtime_ns, file.ctime_ns, file.inode)

    def seen(self, stat: "os.stat_result", mark: int) -> "Position":
        """The same rows of a file that looks otherwise."""
        return Position(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, *self[4:-1], mark)


_ROWS = Position._fields.index("rows")


def cursor_of(files: Mapping[str, list[Any]]) -> Cursor:
    """The cursor with a position, as a list, for each file. The mapping may change later, the lists may not."""
    count, rows = len(files), sum(position[_ROWS] for position in files.values())
    shown = f"{count:,} file{'s' * (count != 1)}, {rows:,} rows"
    return {"version": _VERSION, "files": dict(files), "shown": shown}


def positions_of(cursor: Cursor | None) -> dict[str, Position]:
    """The positions in a cursor.

    Raises:
        StateError: it is not one of this source, or of a newer version of it.
    """
    if cursor is None:
        return {}
    if cursor.get("version") != _VERSION:
        raise StateError(
            f"the cursor has version {cursor.get('version')!r}; this source knows version {_VERSION}",
            hint="upgrade Strandline, or restore an older state from its history",
        )
    try:
        return {key: Position(*position) for key, position in cursor["files"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise StateError(f"the cursor is not one of files: {error!r}", hint="restore an older state") from error


@dataclass(frozen=True, slots=True)
class Policies:
    """What the user declared about files that change in other ways than by new ones."""

    on_grow: Literal["tail", "reread"]
    on_replace: Literal["reread", "fail"]
    on_vanish: Literal["ignore", "fail"]


@dataclass(frozen=True, slots=True)
class Work:
    """A file of which something has to be read."""

    file: File
    start: Position | None = None
    """Where it goes on; ``None``: from the beginning."""
    hasher: "_Hash | None" = None
    """Of the content before ``start.end``."""
    problem: StrandlineError | None = None
    """Why what was read of it before cannot be compared."""


def young(stat: "os.stat_result", started_ns: int) -> bool:
    """Whether a later change of the file might not show."""
    return max(stat.st_mtime_ns, stat.st_ctime_ns) > started_ns - _RACY_NS


class _Orphans:
    """Positions of files that are gone, or whose names belong to another content now."""

    def __init__(self, positions: dict[str, Position], here: set[str]) -> None:
        self.positions = positions
        self._here = here
        # Where nothing was delivered nothing can be delivered twice.
        worth = [(key, known) for key, known in positions.items() if known.rows]
        self._by_inode = {known.inode: key for key, known in worth}
        self._by_content = {(known.covered, known.digest): key for key, known in worth}
        self._lengths = sorted({known.covered for _, known in worth})

    def by_inode(self, file: File) -> str | None:
        """The key of one that had the same inode, and was renamed, or rotated and perhaps written to before.

        The same inode alone says little: a file system gives the inode of a removed file to the next one.
        """
        key = self._by_inode.get(file.inode)
        if key is None or key not in self.positions:
            return None
        renamed = self.positions[key][:2] == (file.size, file.mtime_ns)
        return key if renamed or key in self._here or file.key.startswith(key) else None

    def by_content(self, file: File, encoding: str) -> str | None:
        """The key of one with the same content to the last byte. Reads the file if there may be one."""
        as_it_is = file.compression is None and encoding == UTF_8
        lengths = [size for size in self._lengths if size == file.size] if as_it_is else self._lengths
        if not lengths:
            return None
        try:
            with Content(file, encoding) as content:
                *_, last = [None, *prefixes(content.blocks(), lengths)]
        except StrandlineError:
            return None
        key = self._by_content.get((last.length, digest(last.hasher))) if last and not last.following else None
        return key if key in self.positions else None


class Survey:
    """Compares what a cursor remembers with the files that are there: what to read, what to keep, what is gone.

    Args:
        known: from the cursor.
        policies: what the user declared.
        encoding: of the files.
        started_ns: when the run started, since 1970.
    """

    def __init__(self, known: Mapping[str, Position], policies: Policies, encoding: str, started_ns: int) -> None:
        self.positions = dict(known)
        """What is known once the survey is done: of each file that is still there, under its present name."""
        self.works: list[Work] = []
        """What to read, in the order of keys."""
        self._policies = policies
        self._encoding = encoding
        self._started_ns = started_ns

    def make(self, files: Sequence[File]) -> None:
        """Look at every file that has changed since it was read. Reads what was read of it before.

        Raises:
            TaskError: something happened that the policies forbid.
        """
        here = {file.key for file in files}
        orphans = {key: self.positions.pop(key) for key in self.positions.keys() - here}
        unclaimed = []
        for file in files:
            known = self.positions.get(file.key)
            if known is None:
                unclaimed.append(file)
            elif (known.mark != SETTLED or not known.unchanged(file)) and not self._continues(file, known, own=True):
                orphans[file.key] = self.positions.pop(file.key)
                unclaimed.append(file)
        nameless = _Orphans(orphans, here)
        for file in unclaimed:
            if not self._moved(file, nameless):
                self.works.append(Work(file))
        self._judge({key for key in orphans if key in here}, orphans.keys() - here)
        self.works.sort(key=lambda work: work.file.key)

    def _judge(self, replaced: Iterable[str], vanished: Iterable[str]) -> None:
        """Apply the policies to files whose content is nowhere any more."""
        for keys, what, setting, policy, then in (
            (sorted(replaced), "been replaced", "on_replace", self._policies.on_replace, "read again, all of them"),
            (sorted(vanished), "vanished", "on_vanish", self._policies.on_vanish, "forgotten; their rows stay"),
        ):
            if not keys:
                continue
            more = f" and {len(keys) - _NAMED_MAX} more" if len(keys) > _NAMED_MAX else ""
            message = f"files that were read have {what}: {', '.join(map(shown, keys[:_NAMED_MAX]))}{more}"
            if policy == "fail":
                raise TaskError(message, hint=f"put them back, or set `{setting}` to accept it")
            log.warning("%s; they are %s", message, then)

    def _continues(self, file: File, known: Position, *, whole: bool = False, own: bool = False) -> bool:
        """Whether the file begins with (or, if ``whole``, is) what was read before; if so, go on there."""
        try:
            with Content(file, self._encoding) as content:
                found = list(prefixes(content.blocks(), sorted({known.end, known.covered})))
                stat = content.stat
        except StrandlineError as error:
            if not own:
                return False
            self.works.append(Work(file, problem=error))
            return True
        if not found or found[-1].length != known.covered or digest(found[-1].hasher) != known.digest:
            return False
        following = found[-1].following
        if following and (whole or file.format == "parquet"):
            return False
        self.positions[file.key] = known
        self._go_on(file, known, found[0], following, stat)
        return True

    def _go_on(self, file: File, known: Position, prefix: Prefix, following: bytes, stat: "os.stat_result") -> None:
        if known.mark != PARTLY:
            if not following:
                self.positions[file.key] = known.seen(stat, AGAIN if young(stat, self._started_ns) else SETTLED)
                return
            if self._policies.on_grow == "reread" and stat.st_size != known.size:
                log.warning("%s has grown, and is read again from its beginning", shown(file.key))
                del self.positions[file.key]
                self.works.append(Work(file))
                return
            if known.skip and following not in b"\r\n":
                # The record without a newline was not complete after all.
                if self._policies.on_replace == "fail":
                    raise TaskError(
                        f"{shown(file.key)}: its last line has changed, which was delivered already",
                        hint="set `on_replace: reread` to deliver it again",
                    )
                log.warning("%s: its last line has changed, and is delivered again", shown(file.key))
                known = known._replace(covered=known.end, skip=0, digest=digest(prefix.hasher))
        self.works.append(Work(file, known, prefix.hasher))

    def _moved(self, file: File, orphans: "_Orphans") -> bool:
        """Whether the content of a file that is gone is found in this one; then only what is new in it is read."""
        key = orphans.by_inode(file)
        if key is None or not self._continues(file, orphans.positions[key]):
            key = orphans.by_content(file, self._encoding)
            if key is None or not self._continues(file, orphans.positions[key], whole=True):
                return False
        del orphans.positions[key]
        log.warning("%s is %s under a new name: not read again", shown(file.key), shown(key))
        return True
