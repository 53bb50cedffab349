"""What SQLite's result codes mean, for the source and the destination. Words are looked into only where there is no code."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strandline.connectors.sql.file_probes import check_writable
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.errors import (
    LockedError,
    RetryableError,
    StateError,
    StrandlineError,
    TaskError,
    UnreachableError,
    UsageError,
)

if TYPE_CHECKING:
    from sqlite3 import OperationalError

__all__ = ["is_busy", "is_duplicate", "meaning", "of_the_statement", "translated", "undecodable"]

_Meaning = tuple[type[StrandlineError], str, str]
"""The error, its text and its hint, of which ``{path}``, ``{failed}`` and ``{error}`` are filled in."""
_PATH_HINT = "path must be an SQLite file, or a new name in a directory that exists"


@cache
def _meanings() -> Mapping[int, _Meaning]:
    """By primary result code; where it is none of these, the task fails."""
    passing = (RetryableError, "{failed}: {error}", "")
    disk = (UnreachableError, "{failed}: {error}", "look at the disk, also at that of temporary files")
    foreign = (UsageError, "{path} is not an SQLite database, or an encrypted one", "check `path`")
    return {
        **dict.fromkeys((sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_SCHEMA), passing),
        **dict.fromkeys((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR), disk),
        sqlite3.SQLITE_NOTADB: foreign,
    }


@cache
def _reading() -> Mapping[int, _Meaning]:
    busy = (RetryableError, "{failed}: a writer held the file longer than `busy_timeout`", "sync again later")
    return {
        **dict.fromkeys((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED), busy),
        sqlite3.SQLITE_CANTOPEN: (
            UnreachableError,
            "{failed}: it cannot be opened ({error})",
            "its file and, in WAL mode, its directory must be readable; the -shm file beside it writable",
        ),
        sqlite3.SQLITE_READONLY: (
            UnreachableError,
            "{failed}: a crashed writer left a journal that a reader may not roll back",
            "open it once with write permission: sqlite3 {path!r} .tables",
        ),
        sqlite3.SQLITE_CORRUPT: (
            TaskError,
            "{failed}: the file is damaged ({error})",
            "`sqlite3 FILE .recover` saves what is left",
        ),
    }


@cache
def _writing() -> Mapping[int, _Meaning]:
    busy = (
        LockedError,
        "SQLite {path}: another process writes to it, for longer than busy_timeout",
        "let it end: --wait-lock 10m waits for it, or raise busy_timeout",
    )
    closed = (UsageError, "{failed}: {error}", f"{_PATH_HINT}; both must be writable")
    return {
        **dict.fromkeys((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED), busy),
        **dict.fromkeys(_closed(), closed),
        sqlite3.SQLITE_CORRUPT: (StateError, "{failed}: {error}", "the file is damaged: restore it from a backup"),
    }


def _closed() -> set[int]:
    """The file, or its directory, lets nobody in."""
    return {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH}


@contextmanager
def translated(path: str, table: str | None = None) -> Iterator[None]:
    """Turns the driver's errors into ours, for who reads the file."""
    try:
        yield
    except sqlite3.Error as error:
        failed = f"SQLite file {path!r}" + (f", table {table!r}" if table else "")
        hint = "run the sync again if the table was being altered; else check `where`"
        raise _said(error, path, failed, _reading(), hint) from error


def meaning(error: Exception, path: str, what: str) -> StrandlineError:
    """An error as ours, for who writes to the file and could not do ``what``.

    Raises:
        UsageError: the file, or its directory, is not writable.
    """
    if _code(error) in _closed():
        check_writable(Path(path))
    return _said(error, path, f"SQLite {path}: cannot {what}", _writing(), "")


def _said(error: Exception, path: str, failed: str, known: Mapping[int, _Meaning], hint: str) -> StrandlineError:
    kind, text, hint = {**_meanings(), **known}.get(_code(error), (TaskError, "{failed}: {error}", hint))
    return kind(text.format(path=path, failed=failed, error=error), hint=hint.format(path=path))


def is_busy(error: Exception) -> bool:
    """Whether another connection has the file, so that nothing was done."""
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def is_duplicate(error: "sqlite3.IntegrityError") -> bool:
    """Whether a unique index has refused a row."""
    return error.sqlite_errorcode in {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}


def of_the_statement(error: "OperationalError") -> bool:
    """Whether the statement cannot be executed, so that it would fail at every attempt."""
    return error.sqlite_errorcode == sqlite3.SQLITE_ERROR


def undecodable(error: Exception) -> bool:
    """Whether a text is not UTF-8; the driver says so in words only."""
    return _code(error) is None and "decode" in str(error)


def _code(error: Exception) -> Any:
    """SQLite's primary result code; none where the driver itself refused."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
