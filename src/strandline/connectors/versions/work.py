"""What a pass has to do: pure, of what has changed.

A version that removes files has deleted rows, or changed some: files are never changed, so those that have such a row are written
again, with all rows that stay. Whether it says itself which rows those are decides what can be promised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from strandline.connectors.versions.history import Change, VersionFile
from strandline.errors import CursorExpiredError

__all__ = ["Agenda", "Kind", "Work", "agenda"]


class Kind(StrEnum):
    """What is done with a file."""

    ROWS = "rows"
    """All its rows are delivered."""
    GONE = "gone"
    """The keys of all its rows are deleted."""
    CHANGED = "changed"
    """Of a feed: rows as they are now."""
    CHANGED_GONE = "changed_gone"
    """Of a feed: keys of rows as they were."""


@dataclass(frozen=True, slots=True)
class Work:
    """One file."""

    kind: Kind
    file: VersionFile


@dataclass(frozen=True, slots=True)
class Agenda:
    """All that a pass has to do, in its order."""

    works: Sequence[Work]
    sweep: bool = False
    """Whether the keys have to be compared, since rows may be gone of which no version says which."""
    unsaid: str = ""
    """The versions that may have removed rows which stay stored, for people."""


def agenda(changes: Sequence[Change], *, where: str, absorbs: bool, mirror: bool) -> Agenda:
    """How the rows of these versions come.

    Args:
        changes: the oldest first.
        where: the table, and what a version of it is called, for people.
        absorbs: see ``Reading``.
        mirror: see ``Reading``.

    Raises:
        CursorExpiredError: they can only be had by reading the whole table.
    """
    removing = [one for one in changes if one.removed or one.feed]
    if all(one.exact for one in removing):
        return Agenda([work for one in changes for work in _exact(one, deletes=absorbs)])
    if not absorbs:
        for one in removing:
            if one.added and not one.exact:
                raise CursorExpiredError(
                    f"{where} {one.version} ({one.what}) has written rows again beside those that it changed, and does not say "
                    "which they are, so that `append` would store them twice",
                    hint="--full-refresh begins again; for what comes then, write_mode overwrite, or the table's change data feed",
                )
        return Agenda([work for one in changes for work in _exact(one, deletes=False)])
    last = {file.path: at for at, one in enumerate(changes) for file in one.removed}
    works = [
        Work(Kind.ROWS, file)
        for at, one in enumerate(changes)
        for file in one.added
        if last.get(file.path, -1) <= at  # else what is left of it comes with a later version
    ]
    named = ", ".join(f"{one.version} ({one.what})" for one in removing if not one.exact)
    return Agenda(works, sweep=mirror, unsaid="" if mirror else named)


def _exact(change: Change, *, deletes: bool) -> list[Work]:
    """Keys that are gone come first: a row that is in both was changed."""
    if change.feed:
        gone = [Work(Kind.CHANGED_GONE, file) for file in change.feed if deletes]
        return [*gone, *(Work(Kind.CHANGED, file) for file in change.feed)]
    gone = [Work(Kind.GONE, file) for file in change.removed if deletes]
    return [*gone, *(Work(Kind.ROWS, file) for file in change.added)]
