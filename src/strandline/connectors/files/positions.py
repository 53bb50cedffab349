"""What a cursor of files remembers.

The cursor of a table is a JSON object::

    {"version": 1, "files": {"2024/a.csv": [size, mtime_ns, ctime_ns, inode, digest, covered, end, skip, rows, mark]},
     "shown": "1 file, 90 rows"}

with one ``Position`` for each file that was read, or begun: some 150 bytes each. ``files`` is saved in parts (``strandline.parted``),
so that a commit writes the positions that have changed. Where files have gone, ``"gone": [3, 270]`` says how many, and how many
rows were read of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from strandline.connectors.files.paths import File, Look
from strandline.errors import StateError, StrandlineError
from strandline.message import Cursor
from strandline.parted import Parted

if TYPE_CHECKING:
    from hashlib import _Hash

    import pyarrow as pa

__all__ = [
    "AGAIN",
    "PARTLY",
    "SETTLED",
    "Gone",
    "Position",
    "Progress",
    "Step",
    "Work",
    "files_of",
    "gone_of",
    "positions_of",
    "quiet",
    "without",
    "young",
]

_VERSION = 1
SETTLED, AGAIN, PARTLY = 0, 1, 2
"""Marks. A file that looks unchanged is passed over, looked at again (it was young, or its last line unfinished), or
read on (it was not read to its end)."""
_RACY_NS = 2_000_000_000
"""A file changed so shortly before it was read may change again without showing it: clocks of file systems are coarse."""
_QUIET_NS = 5_000_000_000
"""A last line without a newline is taken for complete when its file has not changed for so long before the run."""


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
    def first(cls, look: Look, reached: str, *, covered: int = 0, rows: int = 0) -> "Position":
        """The beginning of a file, or of a Parquet file of which ``rows`` rows were delivered."""
        return cls(look.size, look.mtime_ns, look.ctime_ns, look.inode, reached, covered, 0, rows, rows, PARTLY)

    def unchanged(self, file: File) -> bool:
        """Whether the file looks as it did when it was read."""
        return self[:4] == file.look[:4]  # of a tag there is a number among these

    def seen(self, look: Look, mark: int) -> "Position":
        """The same rows of a file that looks otherwise."""
        return Position(look.size, look.mtime_ns, look.ctime_ns, look.inode, *self[4:-1], mark)


Step: TypeAlias = "tuple[pa.RecordBatch | None, Position]"
"""Rows, and what was delivered once they are."""

_ROWS = Position._fields.index("rows")


class Gone(NamedTuple):
    """Files of which rows were delivered and that are nowhere any more."""

    files: int = 0
    rows: int = 0

    def __str__(self) -> str:
        return f"{self.files:,} file{'s' * (self.files != 1)} with {self.rows:,} rows"

    def more(self, positions: Iterable[Position]) -> "Gone":
        """With those of these positions."""
        rows = [one.rows for one in positions if one.rows]
        return Gone(self.files + len(rows), self.rows + sum(rows))


class Progress:
    """What was read of the files of a table, as it grows. Used by one thread.

    Args:
        cursor: from where it goes on.
        positions: what is known of the files that are there, under their present names.
        gone: of which files nothing is there any more.
    """

    def __init__(self, cursor: Cursor | None, positions: Mapping[str, Position], gone: Gone) -> None:
        files = files_of(cursor)
        before = files.whole()
        changed = {key: list(one) for key, one in positions.items() if before.get(key) != list(one)}
        self.positions: dict[str, list[Any]] = {key: changed.get(key) or before[key] for key in positions}
        """Of each file, as the cursor has it."""
        self._files = files.changed(changed, before.keys() - positions.keys())
        self._gone, self._changed = gone, dict[str, list[Any]]()
        self._rows = sum(position[_ROWS] for position in self.positions.values())

    def go_to(self, key: str, position: Position) -> None:
        """A file was delivered up to there."""
        known = self.positions.get(key)
        self._rows += position.rows - (known[_ROWS] if known else 0)
        self.positions[key] = self._changed[key] = list(position)

    def cursor(self) -> Cursor:
        """As far as it has come."""
        self._files, self._changed = self._files.changed(self._changed), {}
        return _cursor(self._files, len(self.positions), self._rows, self._gone)


def _cursor(files: Parted, count: int, rows: int, gone: Gone) -> Cursor:
    shown = f"{count:,} file{'s' * (count != 1)}, {rows:,} rows"
    lost = {"gone": list(gone)} if gone.files else {}
    return {"version": _VERSION, "files": files, **lost, "shown": shown}


def without(cursor: Cursor, keys: Iterable[str]) -> Cursor:
    """As if these files had never been read."""
    files = files_of(cursor).changed({}, keys)
    left = files.whole().values()
    return _cursor(files, len(left), sum(position[_ROWS] for position in left), gone_of(cursor))


def gone_of(cursor: Cursor | None) -> Gone:
    """What was gone when the cursor was made. Versions before 0.2 did not keep it."""
    return Gone(*cursor.get("gone", ())) if cursor is not None else Gone()


def files_of(cursor: Cursor | None) -> Parted:
    """What a cursor has of each file.

    Raises:
        StateError: it is not one of this source, or of a newer version of it.
    """
    if cursor is None:
        return Parted()
    if cursor.get("version") != _VERSION:
        raise StateError(
            f"the cursor has version {cursor.get('version')!r}; this source knows version {_VERSION}",
            hint="upgrade Strandline, or restore an older state from its history",
        )
    files = cursor.get("files")
    if not isinstance(files, Mapping):
        raise StateError(f"the cursor is not one of files: it has {files!r}", hint="restore an older state")
    return Parted.of(files)


def positions_of(cursor: Cursor | None) -> dict[str, Position]:
    """The positions in a cursor.

    Raises:
        StateError: as ``files_of``.
    """
    try:
        return {key: Position(*position) for key, position in files_of(cursor).whole().items()}
    except TypeError as error:
        raise StateError(f"the cursor is not one of files: {error!r}", hint="restore an older state") from error


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


def young(look: Look, started_ns: int) -> bool:
    """Whether a later change of the file might not show."""
    return not look.tag and look.changed_ns > started_ns - _RACY_NS


def quiet(look: Look, started_ns: int) -> bool:
    """Whether nobody is writing the file, so that its end is its end."""
    return look.mtime_ns <= started_ns - _QUIET_NS
