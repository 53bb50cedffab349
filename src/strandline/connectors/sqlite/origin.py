"""Whether an SQLite file is the one that a cursor was made of, further on; otherwise the cursor has expired.

A file has no name of its own, and a source may write none into it. It may have been copied elsewhere, which changes nothing; or
replaced by another one, or put back from a backup, and then rows below the cursor are others, or older, and are never read. So a
cursor keeps what tells: the file's change counter and inode, the schema's version, the greatest id of AUTOINCREMENT, what the
rows depend on (``definition``), and witnesses (``witness``). In doubt it expires.

| what is found | then |
|---|---|
| a view or a column is another one; AUTOINCREMENT went back | expired |
| a witness has another height than it had, below what will be read | expired |
| a new root page and more than one change of the schema | expired, where reading again stores no row twice |
| another inode; a smaller change counter or schema version | expired, unless the newest witness is there as it was, or later |
| the same, or any change of the schema | expired if all witnesses that are there have other values; by time, if one has |
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from strandline.connectors.sqlite.catalog import last_id
from strandline.connectors.sqlite.cursor import Origin, Saved, Seen, decoded
from strandline.connectors.sqlite.definition import definition, difference
from strandline.connectors.sqlite.high_water import Height, Key
from strandline.connectors.sqlite.plan import Plan
from strandline.connectors.sqlite.witness import Found, columns_of, is_quick, looked_at
from strandline.errors import CursorExpiredError
from strandline.reading import Reading

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["check", "later", "origin_of"]

_HEADER_BYTES, _COUNTER = 100, slice(24, 28)
_MAGIC = b"SQLite format 3\0"
_REBUILT_CHANGES = 2
"""A table is created again by at least so many changes of the schema, but vacuumed by one."""


def origin_of(connection: "Connection", plan: Plan) -> Origin:
    """The file as it is now; within the caller's transaction."""
    ((_, _, path),) = [row for row in connection.execute("PRAGMA database_list") if row[1] == "main"]
    found = None
    with suppress(OSError):  # somebody may just be exchanging it
        found = Path(path).stat()
    ((version,),) = connection.execute("PRAGMA schema_version")
    return Origin(
        file="" if found is None else f"{found.st_dev}:{found.st_ino}",
        writes=None if found is None else _writes(found),
        schema_version=version,
        sequence=last_id(connection, plan.entry.name) if not plan.entry.query else None,
        definition=definition(connection, plan.entry),
    )


def later(old: Origin | None, new: Origin) -> Origin:
    """The one of two looks in the same pass from which the next pass is judged: of a file put back in between, the first."""
    return old if old is not None and _was_put_back(old, new) else new


def check(connection: "Connection", plan: Plan, saved: Saved, now: Origin, key: Key | None, reading: Reading) -> Seen:
    """Compare what a cursor tells with what is there now; within the caller's transaction.

    Args:
        connection: that reads.
        plan: of the table.
        saved: with the bounds of the pass.
        now: of the same transaction.
        key: the incremental key, if there is one.
        reading: of the pass.

    Returns:
        The witnesses, as they are now.

    Raises:
        CursorExpiredError: it is another file, or an older one, or what the rows depend on has changed.
    """
    was, bound = saved.origin, _bound(saved)
    if was is None:
        return saved.witnesses
    _check_definition(plan, was, now)
    if key is None or bound is None:
        return saved.witnesses
    put_back, altered = _was_put_back(was, now), was.schema_version != now.schema_version
    if reading.absorbs and _was_rebuilt(was, now):
        raise _expired(
            plan, "it seems to have been created again, so that rows that are not new may not have been read"
        )
    if not (put_back or altered or is_quick(plan)):
        return saved.witnesses
    found = looked_at(connection, plan, key, saved.witnesses, reading)
    _check_rows(plan, key, found, bound)
    if put_back:
        _check_newest(plan, found)
    if put_back or altered:
        _check_values(plan, key, found, bound)
    there = [row for one in found for row in one.rows if row.height is not None]
    return Seen(columns=columns_of(plan), rows=there) if there else saved.witnesses


def _check_definition(plan: Plan, was: Origin, now: Origin) -> None:
    changed = difference(was.definition, now.definition)
    if changed:
        raise _expired(plan, changed)
    if was.sequence is not None and (now.sequence is None or now.sequence < was.sequence):
        raise _expired(
            plan,
            f"AUTOINCREMENT had come to {was.sequence}, and is at {now.sequence or 0} now: the file was put back from a backup, or "
            "ids are handed out again",
        )


def _check_rows(plan: Plan, key: Key, found: Sequence[Found], bound: Height) -> None:
    for one in found:
        if one.is_out_of_reach(bound):
            name, before = (
                ", ".join(str(decoded(value)) for value in one.witness.key),
                key.shown(decoded(one.witness.height)),
            )
            after = key.shown(max(decoded(row.height) for row in one.rows))
            raise _expired(
                plan,
                f"row {name} was delivered with {key.column!r} = {before} and has {after} now, which was read past: the file was put "
                "back from a backup or is another one, or the row was set back",
            )


def _check_newest(plan: Plan, found: Sequence[Found]) -> None:
    """The newest row is what a backup, or another copy, lacks or has otherwise, or its id was handed out again."""
    top = max((decoded(one.witness.height) for one in found), default=None)
    if not any(one.is_as_it_was() or one.is_later() for one in found if decoded(one.witness.height) == top):
        raise _expired(
            plan,
            "the file is another one, or was put back from a backup: the rows that were read last are not there as they were",
        )


def _check_values(plan: Plan, key: Key, found: Sequence[Found], bound: Height) -> None:
    """A table may have been created again, or a column filled, without a word in the incremental key."""
    there = [one for one in found if one.rows and one.is_by_primary_key]
    others = [one for one in there if one.is_other(bound)]
    if others and (not key.is_sequence or len(others) == len(there)):
        raise _expired(
            plan, f"the schema or the file was changed, and rows have other values, though the same {key.column!r}"
        )


def _was_put_back(was: Origin, now: Origin) -> bool:
    """Whether it may have been: it is another file, or one that was written less often."""
    fewer = was.writes is not None and now.writes is not None and now.writes < was.writes
    return was.file != now.file or fewer or now.schema_version < was.schema_version


def _was_rebuilt(was: Origin, now: Origin) -> bool:
    roots = now.definition.roots
    moved = any(roots.get(name, root) != root for name, root in was.definition.roots.items())
    return moved and now.schema_version - was.schema_version >= _REBUILT_CHANGES


def _bound(saved: Saved) -> Height | None:
    """Rows from there on are read by this pass, or the next. ``None``: all are."""
    current = saved.current
    assert current is not None
    began = current.stage == 0 and current.after is None
    height: Height | None = decoded(current.lower if began else current.next)
    return height


def _writes(found: os.stat_result) -> int | None:
    """The change counter of the file, by a handle that SQLite has of it.

    To open and close the file would drop all locks that this process has on it, as POSIX wants it; so a handle is looked for.
    """
    with suppress(OSError):
        for handle in Path("/dev/fd").iterdir():
            header = _header(int(handle.name), found)
            if header.startswith(_MAGIC):
                return int.from_bytes(header[_COUNTER], "big")
    return None


def _header(handle: int, found: os.stat_result) -> bytes:
    """Empty: it is of another file, or was closed meanwhile."""
    with suppress(OSError):
        if os.path.samestat(os.fstat(handle), found):
            header = os.pread(handle, _HEADER_BYTES, 0)
            return header if os.path.samestat(os.fstat(handle), found) else b""
    return b""


def _expired(plan: Plan, text: str) -> CursorExpiredError:
    return CursorExpiredError(f"table {plan.table.name!r}: {text}")
