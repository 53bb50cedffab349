"""What is asked of a table that keeps its versions: which there are, and which files came and went with each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from strandline.lazy import pa

__all__ = ["KIND", "Change", "History", "VersionFile"]

KIND = "_change_type"
"""The column of a feed that says what became of the row."""


@dataclass(frozen=True, slots=True)
class VersionFile:
    """A file with rows."""

    path: str
    """As it stands in the table's own log."""
    version: int
    """At which it is read: rows of it may be gone in a later one."""
    partition: Mapping[str, Any] = field(default_factory=dict)
    """Values that its rows have and that are not in it, by column."""
    detail: Any = None
    """What else its format needs to read it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one version changed. Versions that only move rows about, as compaction does, are none."""

    version: int
    what: str
    """The operation, as the table's log names it."""
    added: Sequence[VersionFile] = ()
    removed: Sequence[VersionFile] = ()
    """Some of their rows may be in ``added`` again."""
    feed: Sequence[VersionFile] = ()
    """Change data, of which ``added`` and ``removed`` are then the result."""
    exact: bool = False
    """Whether ``feed`` says all that has changed; without a feed: whether all rows of ``removed`` are gone, and those of ``added`` new."""


class History(Protocol):
    """One table up to one version. Used by one thread."""

    where: str
    """For people."""
    word: str
    """What a version is called."""
    identity: str
    """Another one for a table that was made again in its place."""
    version: int

    @property
    def mark(self) -> str:
        """What tells the version from one of the same number in another history; empty: nothing is known."""

    def mark_of(self, version: int) -> str:
        """Of an earlier version; empty: it is not known any more."""

    def files(self) -> Sequence[VersionFile]:
        """All files of this version, in an order that is the same at each look."""

    def changes(self, after: int) -> Sequence[Change]:
        """What came after a version, the oldest first.

        Raises:
            CursorExpiredError: it cannot be told any more.
        """

    def batches(
        self, file: VersionFile, schema: "pa.Schema", *, after: int, rows_max: int, bytes_max: int
    ) -> "Iterator[tuple[int, pa.RecordBatch]]":
        """The rows of a file, each batch with how many rows of the file are read then.

        Args:
            file: one of this history.
            schema: the columns that are wanted, which may be fewer than there are, or more; of a feed, ``KIND`` among them.
            after: how many rows of the file were read before.
            rows_max: of a batch.
            bytes_max: about, of a batch.

        Raises:
            CursorExpiredError: the file is gone.
        """
