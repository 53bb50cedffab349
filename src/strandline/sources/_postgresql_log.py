"""How far the server's write-ahead log has come: what a standby has to show, and what a crash cannot take back.

The end of a transaction that was rolled back, or committed with `synchronous_commit = off`, is not on the disk when
others see it. If the server crashes then, nothing of that transaction is left, and its id is given to another one, whose
rows would lie below a cursor that has passed this id. So a cursor that takes a bound from a snapshot is saved only
when the log, as it was after that snapshot, is on the server's disk.
"""

import time

from strandline.errors import RetryableError
from strandline.sources._postgresql_session import Session

__all__ = ["POSITION", "push", "wait_for_disk"]

_WAIT_S = 30
_POLL_S = 0.02

_INSERTED = (
    # at the start of a page, the place of insertion has the page's header behind it, where no record can end
    "(SELECT (at - CASE WHEN at % segment = 40 THEN 40 WHEN at % block = 24 THEN 24 ELSE 0 END)::int8 FROM "
    "(SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS at, current_setting('wal_block_size')::int8 AS block, "
    "pg_size_bytes(current_setting('wal_segment_size')) AS segment) AS log)"
)
POSITION = (
    "CASE WHEN pg_is_in_recovery() THEN (coalesce(pg_last_wal_replay_lsn(), '0/0') - '0/0'::pg_lsn)::int8 "
    f"ELSE {_INSERTED} END"
)
"""SQL: every transaction that a snapshot taken before has seen to end, has ended before this position, in bytes."""
_ON_DISK = "SELECT pg_is_in_recovery() OR pg_current_wal_flush_lsn() - '0/0'::pg_lsn >= {} AS done"


def push(session: Session, position: int) -> None:
    """See to it that the log comes to the disk soon. Does not wait.

    What others have written without an end is written out only with a full page, unless a transaction ends behind it.
    Ours does: it takes an id and writes nothing, which the server allows in a transaction that only reads.
    """
    if not _is_on_disk(session, position):
        session.run("SELECT pg_current_xact_id()")


def wait_for_disk(session: Session, position: int) -> None:
    """Until the log up to ``position`` is on the disk; three times `wal_writer_delay` after ``push`` at most.

    Raises:
        RetryableError: it is not, after half a minute.
    """
    deadline = time.monotonic() + _WAIT_S
    while not _is_on_disk(session, position):
        if time.monotonic() > deadline:
            raise RetryableError(
                f"PostgreSQL has not written its log to the disk for {_WAIT_S} s",
                hint="look after its disk, and after `wal_writer_delay`",
            )
        time.sleep(_POLL_S)


def _is_on_disk(session: Session, position: int) -> bool:
    """A standby gets nothing else."""
    return bool(session.row(_ON_DISK.format(int(position)))["done"])
