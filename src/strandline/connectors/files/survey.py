"""Which file is which: finds what a cursor remembers among the files that are there now, whatever they are called.

A position belongs to a file that begins with all that was read at it; of several such files, to the one with the same name
and inode, then the same inode, then the same name. A file has one position at most, the one that covers most of it, and a
position one file. Where no row was delivered there is nothing to find.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from strandline.connectors.files.content import Coding, Content, Prefix, UnfinishedError, digest
from strandline.connectors.files.paths import File, Look, hive_of, shown
from strandline.connectors.files.positions import AGAIN, PARTLY, SETTLED, Position, Work, quiet, young
from strandline.errors import StrandlineError, TaskError
from strandline.warned import Code

__all__ = ["Policies", "Survey"]

log = logging.getLogger(__name__)

_NAMED_MAX = 5
_SOON_BYTES = 1 << 20
_HEAD_BYTES = 64 << 10
"""Tells a copy from another file."""
_COPIED_NS = 5_000_000_000
"""A copy that has not been changed for so long before the run is there to stay."""
_Blocks = Callable[[Content], Iterator[bytes]]
_GENERATION = re.compile(r"(\.\d{1,3})?(\.(gz|zst))?$", re.IGNORECASE)
"""What the names of a rotated log end with: app.log, app.log.1, app.log.2.gz."""


@dataclass(frozen=True, slots=True)
class Policies:
    """What the user declared about files that change in other ways than by new ones."""

    on_grow: Literal["tail", "reread"]
    on_replace: Literal["reread", "fail"]
    on_vanish: Literal["ignore", "fail"]
    on_unfinished: Literal["wait", "fail"]


class _Match(NamedTuple):
    """A file begins with all that was read at a position."""

    key: str
    known: Position
    file: File
    prefix: Prefix
    """Before the position's end."""
    following: bytes
    """The byte after all that was read; empty at the end of the file."""
    whole: bool
    """Whether the file ended there already."""
    look: Look


def _rank(match: _Match) -> tuple[int, bool, bool, str, str]:
    """The smallest is the likeliest one."""
    known, key = match.known, match.file.key
    return -known.covered, known.inode != match.look.inode, match.key != key, match.key, key


def _log(key: str) -> str:
    """Of a rotated log, the name without its generation."""
    return _GENERATION.sub("", key)


def _ends(known: Position) -> set[int]:
    """At which lengths a file may end that is what was read. If that was not read to its end, it was as long on disk."""
    return {known.covered} if known.mark == SETTLED else {known.covered, known.size}


def _beginnings(key: str) -> set[str]:
    """What app.log-20240101.gz was called before, perhaps."""
    return {key[:length] for length in range(1, len(key))}


class _Index:
    """Positions by what was read at them. ``blocks`` says what a file holds."""

    def __init__(self, positions: Mapping[str, Position], blocks: "_Blocks") -> None:
        self._positions = positions
        self._blocks = blocks
        self._by_content: dict[tuple[int, str], list[str]] = defaultdict(list)
        self._lengths: dict[int, set[int]] = defaultdict(set)
        """Where to look at a content that may begin with so much."""
        for key, one in positions.items():
            self._by_content[one.covered, one.digest].append(key)
            self._lengths[one.covered] |= {one.end, *_ends(one)}

    def found(self, content: Content, covered: AbstractSet[int] | None = None) -> Iterator[_Match]:
        """The positions that cover so much, and with which a content begins. Reads as much of it as is needed, once."""
        covered = self._lengths.keys() if covered is None else covered
        size = content.look.size if content.plain else None
        lengths = {at for one in covered if size is None or one <= size for at in self._lengths[one]}
        found = {one.length: one for one in content.prefixes(sorted(lengths), self._blocks(content))} if lengths else {}
        for length in covered & found.keys():
            for key in self._by_content.get((length, digest(found[length].hasher)), ()):
                known = self._positions[key]
                whole = any(at in found and not found[at].following for at in _ends(known))
                following = found[length].following
                yield _Match(key, known, content.file, found[known.end], following, whole, content.look)


class _Loose:
    """Positions whose file is not the one that has its name, and where to look for them.

    Args:
        positions: by key; those with rows.
        known: all of the cursor.
        here: the keys of the files that are there.
        blocks: what a file holds.
    """

    def __init__(
        self,
        positions: Mapping[str, Position],
        known: Mapping[str, Position],
        here: AbstractSet[str],
        blocks: _Blocks,
    ) -> None:
        self._positions = positions
        self._known = known
        self._index = _Index(positions, blocks)
        self._moved = positions.keys() & here
        self._by_inode: dict[int, set[str]] = defaultdict(set)
        self._by_log: dict[str, set[str]] = defaultdict(set)
        self._by_end: dict[int, set[int]] = defaultdict(set)
        for key, one in positions.items():
            self._by_inode[one.inode].add(key)
            self._by_log[_log(key)].add(key)
            for end in _ends(one):
                self._by_end[end].add(one.covered)
        self._covered_moved = {positions[key].covered for key in self._moved}
        self._covered_vanished = {one.covered for key, one in positions.items() if key not in here}

    def matches(self, file: File, coding: Coding) -> Iterator[_Match]:
        """Of the positions, those that may be the file's."""
        grown = self._grown(file)
        with Content(file, coding) as content:
            for one in self._index.found(content, self._covered(content, grown)):
                may_be = one.whole or one.key in grown or (one.key in self._moved and file.key not in self._known)
                # in another part of the table its rows are other rows
                may_be = may_be and hive_of(one.key) == file.hive
                if may_be and not (one.following and file.format == "parquet"):
                    yield one

    def _grown(self, file: File) -> set[str]:
        """Of what the file may be, with more in it.

        What has another name is another file as a rule, even if it begins the same. It is the one that was read if that
        was renamed: it looks the same, or its old name has another content now, or the names are those of a rotated log:
        app.log, app.log.1, app.log-20240101.gz. An inode alone says little: a file system gives that of a removed file
        to the next one.
        """
        keys = {file.key} | _beginnings(file.key) | self._by_log.get(_log(file.key), set())
        for key in self._by_inode.get(file.look.inode, ()):
            one = self._positions[key]
            if key in self._moved or (one.size, one.mtime_ns) == (file.look.size, file.look.mtime_ns):
                keys.add(key)
        return keys & self._positions.keys()

    def _covered(self, content: Content, grown: AbstractSet[str]) -> set[int]:
        """How much may have been read of a file. It may also be something else to the last byte: moved, or compressed."""
        covered, is_new = {self._positions[key].covered for key in grown}, content.file.key not in self._known
        if content.plain:
            covered |= self._by_end.get(content.look.size, set())
        else:
            covered |= self._covered_vanished
        return covered | self._covered_moved if is_new else covered


@dataclass(slots=True)
class Survey:
    """Compares what a cursor remembers with the files that are there: what to read, what to keep, what is gone.

    Args:
        known: from the cursor.
        policies: what the user declared.
        coding: of the files.
        started_ns: when the run started, since 1970.
    """

    known: Mapping[str, Position]
    policies: Policies
    coding: Coding
    started_ns: int
    positions: dict[str, Position] = field(default_factory=dict)
    """What is known once the survey is made: of each file that is still there, under its present name."""
    works: list[Work] = field(default_factory=list)
    """What to read, in the order of the files."""
    replaced: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    """Keys of what is nowhere any more; in the first list, of those whose name has another content now."""
    _left: dict[str, Position] = field(default_factory=dict)
    """With rows, and not found so far."""
    _here: dict[str, File] = field(default_factory=dict)
    _by_log: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _by_inode: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    def make(self, files: Sequence[File]) -> None:
        """Look at every file that has changed since it was read. Reads what was read of it before.

        Raises:
            TaskError: a last line has changed, which the policies forbid.
        """
        self._here = {file.key: file for file in files}
        changed = []
        for file in files:
            known = self.known.get(file.key)
            if known is not None and known.mark == SETTLED and known.unchanged(file):
                self.positions[file.key] = known
            else:
                changed.append(file)
        self._left = {key: one for key, one in self.known.items() if one.rows and key not in self.positions}
        own = [file for file in changed if file.key in self._left]
        # a Parquet object is known without a look into it
        soon = own[0].place.soon(own, _SOON_BYTES) if own and own[0].format != "parquet" else own
        fresh = [file for file in changed if file.key not in self._left]
        unclaimed = self._claim([*fresh, *(file for file in soon if not self._is_still(file))])
        problems = [work for work in self.works if work.problem is not None]
        if self._left and problems:
            # What is not found may be in what cannot be read. Nothing is forgotten before that is known.
            self.works = problems
        else:
            self.works += [Work(file) for file in unclaimed if not self._is_being_copied(file)]
            self._give_up({file.key for file in unclaimed})
        order = {file.key: at for at, file in enumerate(files)}
        self.works.sort(key=lambda work: order[work.file.key])

    def judge(self) -> None:
        """Apply the policies to files whose content is nowhere any more.

        Raises:
            TaskError: they forbid it.
        """
        for keys, what, setting, policy, then in (
            (self.replaced, "been replaced", "on_replace", self.policies.on_replace, "read again, all of them"),
            (self.vanished, "vanished", "on_vanish", self.policies.on_vanish, "passed over; their rows stay"),
        ):
            if not keys:
                continue
            more = f" and {len(keys) - _NAMED_MAX} more" if len(keys) > _NAMED_MAX else ""
            message = f"files that were read have {what}: {', '.join(map(shown, keys[:_NAMED_MAX]))}{more}"
            if policy == "fail":
                raise TaskError(message, hint=f"put them back, or set `{setting}` to accept it")
            log.warning("%s; they are %s", message, then, extra=Code.FILE_CHANGED.extra)

    def _blocks(self, content: Content) -> Iterator[bytes]:
        """What a file holds. A document that is still being written is compared as far as it goes, as it is read."""
        try:
            yield from content.blocks()
        except UnfinishedError:
            if self.policies.on_unfinished == "fail" or quiet(content.look, self.started_ns):
                raise

    def _is_still(self, file: File) -> bool:
        """Whether the file is what had its name, without a look at others; if so, go on there."""
        own = self._left.get(file.key)
        if own is None or not (own.inode == file.look.inode or own.size == file.look.size):
            return False
        try:
            with Content(file, self.coding) as content:
                match = next(_Index({file.key: own}, self._blocks).found(content), None)
        except StrandlineError as error:
            self._fail(file, error)
            return True
        if match is None or (match.following and (own.inode != match.look.inode or file.format == "parquet")):
            return False
        self._go_on(match)
        return True

    def _fail(self, file: File, error: StrandlineError) -> None:
        """A file cannot be compared. What was read of it stays known, and reading says why."""
        self.works.append(Work(file, problem=error))
        if file.key in self._left:
            self.positions[file.key] = self._left.pop(file.key)

    def _claim(self, files: Sequence[File]) -> list[File]:
        """Find the positions of files; which have none."""
        if not self._left:
            return list(files)
        loose = _Loose(self._left, self.known, self._here.keys(), self._blocks)
        found: list[_Match] = []
        problems: dict[str, tuple[File, StrandlineError]] = {}
        for file in files:
            try:
                found += loose.matches(file, self.coding)
            except StrandlineError as error:
                problems[file.key] = file, error
        taken = {*problems}
        for match in sorted(found, key=_rank):
            if match.key in self._left and match.file.key not in taken:
                taken.add(match.file.key)
                self._go_on(match)
        for file, problem in problems.values():
            self._fail(file, problem)
        return [file for file in files if file.key not in taken]

    def _go_on(self, match: _Match) -> None:
        """The file has what was read; what is new in it is to be read."""
        file, following, look = match.file, match.following, match.look
        known = self.positions[file.key] = self._left.pop(match.key)
        if match.key != file.key:
            text = "%s is %s under a new name: not read again"
            log.warning(text, shown(file.key), shown(match.key), extra=Code.FILE_RENAMED.extra)
        if known.mark != PARTLY:
            if not following:
                self.positions[file.key] = known.seen(look, AGAIN if young(look, self.started_ns) else SETTLED)
                return
            if self.policies.on_grow == "reread" and look.size != known.size:
                text = "%s has grown, and is read again from its beginning"
                log.warning(text, shown(file.key), extra=Code.FILE_AGAIN.extra)
                del self.positions[file.key]
                self.works.append(Work(file))
                return
            if known.skip and following not in b"\r\n":
                # The record without a newline was not complete after all.
                if self.policies.on_replace == "fail":
                    raise TaskError(
                        f"{shown(file.key)}: its last line has changed, which was delivered already",
                        hint="set `on_replace: reread` to deliver it again",
                    )
                text = "%s: its last line has changed, and is delivered again"
                log.warning(text, shown(file.key), extra=Code.FILE_AGAIN.extra)
                known = known._replace(covered=known.end, skip=0, digest=digest(match.prefix.hasher))
        self.works.append(Work(file, known, match.prefix.hasher))

    def _give_up(self, unclaimed: set[str]) -> None:
        """What was not found is replaced or has vanished; an empty file has vanished if it is there under no name."""
        inodes = {file.look.inode for file in self._here.values()}
        empty = {key for key, one in self.known.items() if not one.rows and one.inode not in inodes} - self._here.keys()
        self.replaced = sorted(self._left.keys() & unclaimed)
        self.vanished = sorted(self._left.keys() - unclaimed | empty)

    def moved(self, content: Content, positions: Mapping[str, Sequence[Any]]) -> bool:
        """Whether a file that has changed since it was listed is another one by now, of which rows were delivered.

        Args:
            content: of the file, for which there was no position.
            positions: of each file, as far as it was read.
        """
        file, inode = content.file, content.look.inode
        if not self._by_log:
            for key, one in self._here.items():
                self._by_log[_log(key)].add(key)
                self._by_inode[one.look.inode].add(key)
        keys = _beginnings(file.key) | self._by_log[_log(file.key)] | self._by_inode[inode]
        near = {
            key: Position(*positions[key])
            for key in (keys & positions.keys()) - {file.key}
            if hive_of(key) == file.hive
        }
        found = _Index({key: one for key, one in near.items() if one.rows}, self._blocks).found(content)
        return any(found) or self._copied_from(content) is not None

    def _is_being_copied(self, file: File) -> bool:
        """Whether a log is just now copied before it is truncated, or compressed before it is removed.

        Then its rows are in two files for a moment. The next sync knows which of them stays.
        """
        if file.key in self.known or file.look.changed_ns <= self.started_ns - _COPIED_NS:
            return False
        try:
            with Content(file, self.coding) as content:
                key = self._copied_from(content)
        except StrandlineError:
            return False  # reading will say so
        if key is not None:
            text = "%s may be a copy of %s, not ready: left for the next sync"
            log.warning(text, shown(file.key), shown(key), extra=Code.FILE_UNFINISHED.extra)
        return key is not None

    def _copied_from(self, copy: Content) -> str | None:
        """The key of the log of which a file may be the copy: it begins with all of the file, as far as one can see."""
        for key in _beginnings(copy.file.key) & self._here.keys():
            other = self._here[key]
            if other.look.inode == copy.look.inode:
                continue
            head = next(copy.blocks(0, _HEAD_BYTES), b"")
            try:
                with Content(other, self.coding) as content:
                    fits = not copy.plain or copy.look.size <= content.look.size
                    if head and fits and next(content.blocks(0, _HEAD_BYTES), b"").startswith(head):
                        return key
            except StrandlineError:
                continue  # reading will say so
        return None
