"""What PostgreSQL's errors mean. Only their first line is said: the rest may quote values, or a connection string."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from strandline.errors import (
    RetryableError,
    StateConflictError,
    StrandlineError,
    TaskError,
    UnreachableError,
    UsageError,
)
from strandline.lazy import adbc, psycopg

__all__ = ["MISSING", "POOLED_HINT", "drivers", "refused_connection", "translated"]

MISSING = "pip install 'strandline[postgresql]'"
POOLED_HINT = "connect to the server itself, or set pool_mode = session for this database"

_PASSING = {
    "40": "",
    "53": "the server lacks something; see its log",
    "55P03": "another connection holds a lock; end it, or raise lock_timeout",
    "57014": "raise statement_timeout, or make batch_size_bytes smaller",
    "25006": "this server takes no writes now: is it a standby? target_session_attrs=read-write finds the primary",
    "58": "trouble of the server's machine; see its log",
}
"""SQLSTATE, or its class: the same may succeed later; and what would help."""
_GONE = ("080", "57P", "25P03")
"""SQLSTATE or its beginning: this connection has ended."""
_HINTS = {
    "22021": "PostgreSQL's texts hold no U+0000 and nothing but UTF-8; nothing of this window was written",
    "22P05": "PostgreSQL's texts hold no U+0000; nothing of this window was written",
    "22003": "jsonb and numeric hold no such number: ALTER the stored column to json or text; nothing of this window was written",
    "54000": "nothing of this window was written; a primary key must fit into an index: name a shorter one",
    "42501": "grant the role what it needs, or choose another schema",
    "23503": "a foreign key refers to rows that would be deleted, and forbids it: remove what refers to them, or say ON DELETE",
    "2BP01": "drop what depends on it, for example a view",
    "0A000": "drop what depends on it, for example a view",
    "42P01": "the table was dropped or renamed while it was written; the next sync looks again",
}
_SETTINGS_WRONG = re.compile(r"invalid .*connection option|root certificate file|invalid (port|integer|sslmode)")
"""What libpq says before it has asked anybody."""
_REFUSED = re.compile(
    r"authentication failed|does not exist|no pg_hba\.conf entry|no password supplied|certificate|not permitted to log in"
    r"|permission denied for database"
)
_COLUMN = re.compile(r"^COPY .*?, column (.*?)(?:: |$)", re.MULTILINE)
_UNIQUE = "23505"


@contextmanager
def drivers() -> Iterator[None]:
    """Says how to get a driver that is not installed."""
    try:
        yield
    except ImportError as error:
        raise UsageError(f"a driver of PostgreSQL is not installed ({error})", hint=MISSING) from error


@contextmanager
def translated(place: str, what: str, *, table: str = "", own: bool = False) -> Iterator[None]:
    """Turns errors of both drivers into ours.

    Args:
        place: the database.
        what: what was to be done.
        table: names the table of a column that is to blame.
        own: whether only tables of Strandline's own are touched, so that a duplicate is another run's.
    """
    try:
        yield
    except psycopg.Error as error:
        column = _COLUMN.search(error.diag.context or "")
        blamed = f"{table}.{column[1]}" if column and table else ""
        if error.sqlstate == _UNIQUE and own:
            raise StateConflictError(
                f"{place}: another run has saved a state at the same time; nothing was written",
                hint="let the other run end, then start again",
            ) from error
        raise _translated(error, f"{place}: cannot {what}", blamed) from error
    except adbc.Error as error:
        raise _translated(error, f"{place}: cannot {what}", "") from error


def _translated(error: "psycopg.Error | adbc.Error", failed: str, blamed: str) -> StrandlineError:
    """An error by its SQLSTATE; ``blamed`` is the column whose value cannot be stored."""
    state, text = error.sqlstate or "", first_line(error)
    if state == _UNIQUE and "cq_key_" in text:
        return RetryableError(f"{failed}: another connection has stored the same key at the same time")
    if not state or state.startswith(_GONE):
        return RetryableError(f"{failed}: the connection was lost: {text}")
    for passing, hint in _PASSING.items():
        if state.startswith(passing):
            return RetryableError(f"{failed}: {text}", hint=hint)
    what = f"{blamed}: a value cannot be stored" if blamed else failed
    return TaskError(f"{what}: {text}", hint=_HINTS.get(state, ""))


def refused_connection(place: str, error: Exception) -> StrandlineError:
    """Why there is no connection: a wrong setting, a server that does not want us, or one that does not answer."""
    text = first_line(error)
    if _SETTINGS_WRONG.search(text):
        return UsageError(f"{place}: {text}", hint="see connection_string")
    if _REFUSED.search(text):
        return UnreachableError(f"{place}: the server refuses the connection: {text}", hint="see connection_string")
    return UnreachableError(f"{place} cannot be reached: {text}", hint="is the server running, and the host right?")


def first_line(error: Exception) -> str:
    """What an error says, without details."""
    diagnosed = getattr(getattr(error, "diag", None), "message_primary", None)
    text = diagnosed or (str(error).strip() or type(error).__name__).split("\n")[0]
    return str(re.sub(r"^[A-Z_]+: (\[libpq\] )?(Failed to .*?: )?(ERROR: +)?", "", text))
