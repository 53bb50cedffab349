"""How far the server's write-ahead log has come: what a standby has to show, and what a crash cannot take back.

The end of a transaction that was rolled back, or committed with `synchronous_commit = off`, is not on the disk when
others see it. If the server crashes then, nothing of that transaction is left: a destination would have a row that the
source has lost, and lack one whose deletion was lost; and its id is given to another one, whose rows would lie below a
cursor that has passed this id. So nothing is stored, no row and no cursor, before the log is on the server's disk as it was
after the last row was read.
"""

import time

from strandline.connectors.postgresql.server import Session
from strandline.errors import RetryableError

__all__ = ["FLUSHED", "POSITION", "Log"]

_WAIT_S = 60.0
"""The server writes what nobody waits for after three times `wal_writer_delay` at most, of 10 s at most."""
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
FLUSHED = f"CASE WHEN pg_is_in_recovery() THEN {POSITION} ELSE (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::int8 END"
"""SQL: up to which position the log is on the disk. A standby gets nothing else."""


class Log:
    """The log as one reading needs it: up to where the disk must have it before anything is stored."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._needed = self._flushed = 0

    def saw(self, position: int, flushed: int) -> None:
        """Rows or bounds were read that ``position`` covers, and the disk had the log up to ``flushed``."""
        self._needed, self._flushed = max(self._needed, position), max(self._flushed, flushed)

    def wait(self) -> None:
        """Until what was seen cannot be taken back; not inside of a transaction.

        Raises:
            RetryableError: it still can, after a minute.
        """
        if self._is_on_disk(self._needed):
            return
        # What others have written without an end is written out only with a full page, unless a transaction ends behind
        # it. Ours does: it takes an id and writes nothing, which the server allows in a transaction that only reads.
        self._session.run("SELECT pg_current_xact_id()")
        if not self._comes(self._needed, _WAIT_S):
            raise RetryableError(
                f"PostgreSQL has not written its log to the disk for {_WAIT_S:.0f} s",
                hint="look after its disk, and after `wal_writer_delay`",
            )

    def _comes(self, position: int, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while not self._is_on_disk(position):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def _is_on_disk(self, position: int) -> bool:
        if self._flushed < position:
            self._flushed = self._session.row(f"SELECT {FLUSHED} AS flushed")["flushed"]
        return self._flushed >= position
