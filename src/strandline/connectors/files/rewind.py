"""A cursor of files that is put back by a person: what was read of some files is forgotten; and what lies between two."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from strandline.connectors.files.paths import File
from strandline.connectors.files.positions import Position, positions_of, without
from strandline.errors import UsageError
from strandline.message import Cursor

__all__ = ["rewound", "rows_between"]


def rewound(table: str, cursor: Cursor, to: str | timedelta, files: Collection[File]) -> Cursor:
    """See ``strandline.source.Rewinds``: the files that were changed after a time are read again, from their beginning.

    What is known of files that are not there any more stays known.
    """
    positions = positions_of(cursor)
    if not positions:
        raise UsageError(f"table {table!r}: nothing was read yet")
    newest = max(one.mtime_ns for one in positions.values())
    if isinstance(to, timedelta):
        after_ns = newest - int(to.total_seconds() * 1e9)
    else:
        try:
            moment = datetime.fromisoformat(to)
        except ValueError:
            raise UsageError(
                f"table {table!r}: {to!r} is no time",
                hint="files that were changed after it are read again: 2026-01-31T12:00",
            ) from None
        after_ns = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e9)
        if after_ns > newest:
            raise UsageError(f"table {table!r}: no file was changed after {to}, of those that were read")
    there = {file.key for file in files} | {file.look.inode for file in files}

    def again(key: str, position: Position) -> bool:
        return position.mtime_ns > after_ns and bool({key, position.inode} & there)

    return without(cursor, [key for key, one in positions.items() if again(key, one)])


def rows_between(earlier: Cursor, later: Cursor) -> int:
    """See ``strandline.source.Rewinds``. A file is the same one under another name."""
    known = positions_of(earlier)
    rows = {one.inode: one.rows for one in known.values()} | {key: one.rows for key, one in known.items()}
    found = positions_of(later).items()
    return sum(max(one.rows - rows.get(one.inode, rows.get(key, 0)), 0) for key, one in found)
