"""What PostgreSQL's errors mean, for the source and the destination.

Only their first line is said: the rest may quote values, a statement, or a connection string.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from strandline.connection_string import HINT, NOT_UNDERSTOOD, understood
from strandline.connectors.postgresql.drivers import adbc, psycopg
from strandline.connectors.sql.dialect import KEY_PREFIX
from strandline.errors import (
    RetryableError,
    StateConflictError,
    StrandlineError,
    TaskError,
    UnreachableError,
    UsageError,
)

__all__ = ["MISSING", "POOLED_HINT", "connecting", "drivers", "first_line", "meaning", "translated"]

MISSING = "pip install 'strandline[postgresql]'"
POOLED_HINT = "connect to the server itself, or set pool_mode = session for this database"

_Meanings = Mapping[str, tuple[type[StrandlineError], str]]
_MEANINGS: _Meanings = {
    "08": (UnreachableError, ""),
    "08P01": (RetryableError, ""),  # so says a pooler, too, of its timeouts
    "25P03": (UnreachableError, ""),
    "57P": (UnreachableError, ""),
    "40": (RetryableError, ""),
    "53": (RetryableError, "the server lacks something; see its log"),
    "55P03": (RetryableError, "another connection holds a lock; end it, or raise lock_timeout"),
    "57014": (RetryableError, "raise statement_timeout, or make batch_size_bytes smaller"),
    "58": (RetryableError, "trouble of the server's machine; see its log"),
}
"""SQLSTATE or its beginning: what the engine does, and what would help. Where it is none of these, the task fails."""
_LEGACY_TEXT = (
    "the database's encoding checks nothing (SQL_ASCII), so the text cannot be read as UTF-8: fix the value, as by "
    "convert_from(v::bytea, 'LATIN1') for what was Latin-1; or leave the column out by `columns`"
)
_READING: _Meanings = {
    "22021": (TaskError, _LEGACY_TEXT),
    "22P05": (TaskError, _LEGACY_TEXT),
    "42501": (TaskError, "grant the role SELECT on it, or leave it out"),
    "42P01": (RetryableError, ""),  # a partition was dropped meanwhile
}
_WRITING: _Meanings = {
    "22003": (
        TaskError,
        "jsonb and numeric hold no such number: ALTER the stored column to json or text; nothing of this window was written",
    ),
    "22021": (
        TaskError,
        "PostgreSQL's texts hold no U+0000 and nothing but UTF-8; nothing of this window was written",
    ),
    "22P05": (TaskError, "PostgreSQL's texts hold no U+0000; nothing of this window was written"),
    "23503": (
        TaskError,
        "a foreign key refers to rows that would be deleted, and forbids it: remove what refers to them, or say ON DELETE",
    ),
    "25006": (
        RetryableError,
        "this server takes no writes now: is it a standby? target_session_attrs=read-write finds the primary",
    ),
    "42501": (TaskError, "grant the role what it needs, or choose another schema"),
    "42P01": (TaskError, "the table was dropped or renamed while it was written; the next sync looks again"),
    "54000": (
        TaskError,
        "nothing of this window was written; a primary key must fit into an index: name a shorter one",
    ),
    **dict.fromkeys(("0A000", "2BP01"), (TaskError, "drop what depends on it, for example a view")),
}
_UNIQUE = "23505"
_SAID = {"conflict with recovery": "40001", "canceling statement": "57014", "invalid byte sequence": "22021"}
"""What fails while rows come, comes from ADBC without its SQLSTATE."""
_STATE = re.compile(r"SQLSTATE: ([0-9A-Z]{5})")
_PREFIX = re.compile(r"^(?:.*?\b(?:ERROR|FATAL): +|[A-Z_]+: (?:\[libpq\] )?(?:Failed to .*?: )?)")
"""What drivers put before the server's own words, or libpq's."""
_COLUMN = re.compile(r"^COPY .*?, column (.*?)(?:: |$)", re.MULTILINE)

# Why there is no connection has no SQLSTATE: libpq tells it in words only.
_SETTINGS_WRONG = re.compile(r"invalid .*connection option|root certificate file|invalid (port|integer|sslmode)")
"""What libpq says before it has asked anybody."""
_ROLE_REFUSED = re.compile(
    r"authentication failed|does not exist|no pg_hba\.conf entry|no password supplied|certificate|not permitted to log in"
    r"|permission denied for database"
)
_REFUSED = re.compile(rf"FATAL:|{_ROLE_REFUSED.pattern}")
_SILENT = re.compile(r"timeout expired")


@contextmanager
def drivers() -> Iterator[None]:
    """Says how to get a driver that is not installed."""
    try:
        yield
    except ImportError as error:
        raise UsageError(f"a driver of PostgreSQL is not installed ({error})", hint=MISSING) from error


@contextmanager
def connecting(connection_string: str, place: str = "PostgreSQL") -> Iterator[None]:
    """Says why there is no connection, in words that hold nothing of a string that is not understood.

    Raises:
        UsageError: there could be none, with such a connection string.
        UnreachableError: the server does not want us, or does not answer.
    """
    try:
        yield
    except (psycopg.Error, adbc.Error) as error:
        # what a driver says may quote the connection string, and with it a password
        raise _no_connection(error, connection_string, place) from None


def _no_connection(error: Exception, connection_string: str, place: str) -> StrandlineError:
    if understood(connection_string) is None:
        return UsageError(f"PostgreSQL cannot be reached: {NOT_UNDERSTOOD}", hint=HINT)
    line, text = _line(error), first_line(error)
    if _SETTINGS_WRONG.search(line):
        return UsageError(f"{place}: {text}", hint="see connection_string")
    if _REFUSED.search(line):
        hint = "see connection_string" if _ROLE_REFUSED.search(line) else ""
        return UnreachableError(f"{place}: the server refuses the connection: {text}", hint=hint)
    how = "does not answer" if _SILENT.search(line) else "cannot be reached"
    return UnreachableError(f"{place} {how}: {text}", hint="is the server running, and the host right?")


@contextmanager
def translated(place: str, what: str, *, table: str = "", own: bool = False) -> Iterator[None]:
    """Turns errors of both drivers into ours, for who writes.

    Args:
        place: the database.
        what: what was to be done.
        table: names the table of a column that is to blame.
        own: whether only tables of Strandline's own are touched, so that a duplicate is another run's.
    """
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate == _UNIQUE and own:
            raise StateConflictError(
                f"{place}: another run has saved a state at the same time; nothing was written",
                hint="let the other run end, then start again",
            ) from error
        column = _COLUMN.search(error.diag.context or "") if table else None
        blamed = f"{table}.{column[1]}: a value cannot be stored" if column else ""
        raise meaning(error, f"{place}: cannot {what}", blamed=blamed) from error
    except adbc.Error as error:
        raise meaning(error, f"{place}: cannot {what}") from error


def meaning(error: Exception, failed: str, *, reading: bool = False, blamed: str = "") -> StrandlineError:
    """A driver's error as ours, by its SQLSTATE.

    Args:
        error: of either driver, or of Arrow, which reads for ADBC.
        failed: what has failed.
        reading: whether a source has read, which may try again where a destination cannot.
        blamed: instead of ``failed``, where a value is to blame and not the server.
    """
    state, text = _state(error), first_line(error)
    if not state:
        return UnreachableError(f"{failed}: the connection was lost: {text}")
    if state == _UNIQUE and _constraint(error).startswith(KEY_PREFIX):
        return RetryableError(f"{failed}: another connection has stored the same key at the same time")
    known = {**_MEANINGS, **(_READING if reading else _WRITING)}
    kind, hint = next((known[state[:size]] for size in (5, 3, 2) if state[:size] in known), (TaskError, ""))
    if kind is UnreachableError:
        return UnreachableError(f"{failed}: the connection was lost: {text}")
    return kind(f"{blamed if blamed and kind is TaskError else failed}: {text}", hint=hint)


def _state(error: Exception) -> str:
    """Its SQLSTATE; none: the server has not said a word."""
    state, text = getattr(error, "sqlstate", None), str(error)
    if state:
        return str(state)
    if found := _STATE.search(text):
        return found[1]
    return next((code for words, code in _SAID.items() if words in text), "XX000") if "ERROR:" in text else ""


def _constraint(error: Exception) -> str:
    return getattr(getattr(error, "diag", None), "constraint_name", None) or ""


def first_line(error: Exception) -> str:
    """What an error says, without details."""
    return _PREFIX.sub("", _line(error))


def _line(error: Exception) -> str:
    diagnosed = getattr(getattr(error, "diag", None), "message_primary", None)
    text = str(error).partition("Query was:")[0].replace("\\n", "\n").strip()
    return str(diagnosed or (text or type(error).__name__).split("\n")[0])
