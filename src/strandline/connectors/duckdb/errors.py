"""What DuckDB's errors mean. They have classes and no codes, so that of an error of the file only its words tell more."""

import re
from pathlib import Path

from strandline.connectors.duckdb.drivers import duckdb
from strandline.connectors.sql.file_probes import check_writable
from strandline.errors import LockedError, RetryableError, StrandlineError, TaskError, UnreachableError, UsageError

__all__ = ["PATH_HINT", "breaks", "first_line", "is_conflict", "meaning"]

PATH_HINT = "path must be a DuckDB file, or a new name in a directory that exists"
_REFERRED_HINT = (
    "remove what refers to it, or drop the foreign key; to update a row to which one refers, drop the indexes of other columns: "
    "where there is one, DuckDB deletes the row and inserts it again"
)


def meaning(error: Exception, path: str, what: str) -> StrandlineError:
    """An error as ours, if ``what`` cannot be done.

    Raises:
        UsageError: the file, or its directory, is not writable.
    """
    text = first_line(error)
    failed = f"DuckDB {path}: cannot {what}: {text}"
    if isinstance(error, duckdb.TransactionException) or breaks(error):
        return RetryableError(failed)
    if isinstance(error, duckdb.IOException):
        return _of_the_file(path, text, failed)
    if isinstance(error, duckdb.OutOfMemoryException):
        return RetryableError(failed, hint="raise memory_limit, or make batch_size_bytes smaller")
    if isinstance(error, duckdb.ConnectionException):
        return LockedError(failed, hint="close the other connection of this process")
    return TaskError(failed, hint=_REFERRED_HINT if "foreign key constraint" in text else "")


def _of_the_file(path: str, text: str, failed: str) -> StrandlineError:
    if "set lock on file" in text or "used by another process" in text:
        holder = re.search(r"PID (\d+)", text)
        who = f"process {holder[1]}" if holder else "another process"
        return LockedError(
            f"DuckDB {path}: {who} has the file open, and only one can write to it",
            hint=f"wait for it with --wait-lock 10m, or end {who if holder else 'that process'}",
        )
    if "Permission denied" in text or "read-only" in text.lower():
        check_writable(Path(path))
    if "No such file" in text or "not a valid DuckDB" in text or "Is a directory" in text:
        return UsageError(failed, hint=PATH_HINT)
    return UnreachableError(failed)


def breaks(error: Exception) -> bool:
    """Whether nothing can be done with the database any more, until it is opened again."""
    return isinstance(error, duckdb.FatalException | duckdb.InternalException)


def is_conflict(error: Exception) -> bool:
    """Whether another transaction was faster, so that nothing of this one is there."""
    return isinstance(error, duckdb.TransactionException) and "conflict" in str(error).lower()


def first_line(error: Exception) -> str:
    """What an error says, without details."""
    return str(error).strip().split("\n")[0]
