"""What SQLite's errors mean, by their result codes and not by their words."""

import sqlite3

import pytest

from strandline.connectors.sqlite.errors import meaning, translated
from strandline.errors import (
    LockedError,
    RetryableError,
    StateError,
    StrandlineError,
    TaskError,
    UnreachableError,
    UsageError,
)


def raised(code, text="it did not work"):
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def read(error):
    with pytest.raises(StrandlineError) as caught, translated("shop.db", "orders"):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("code", "to_source", "to_destination"),
    [
        (sqlite3.SQLITE_BUSY, RetryableError, LockedError),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, RetryableError, LockedError),
        (sqlite3.SQLITE_LOCKED, RetryableError, LockedError),
        (sqlite3.SQLITE_NOTADB, UsageError, UsageError),
        (sqlite3.SQLITE_CANTOPEN, UnreachableError, UsageError),
        (sqlite3.SQLITE_READONLY_RECOVERY, UnreachableError, UsageError),
        (sqlite3.SQLITE_CORRUPT, TaskError, StateError),
        (sqlite3.SQLITE_FULL, UnreachableError, UnreachableError),
        (sqlite3.SQLITE_IOERR_READ, UnreachableError, UnreachableError),
        (sqlite3.SQLITE_NOMEM, RetryableError, RetryableError),
        (sqlite3.SQLITE_SCHEMA, RetryableError, RetryableError),
        (sqlite3.SQLITE_ERROR, TaskError, TaskError),
    ],
)
def test_a_code_has_one_meaning(code, to_source, to_destination):
    assert type(read(raised(code))) is to_source
    assert type(meaning(raised(code), "shop.db", "write to orders")) is to_destination


@pytest.mark.parametrize("text", ["malformed JSON", "no such column: locked", "database busy", "disk I/O error"])
def test_words_of_a_statement_are_not_taken_for_those_of_the_file(text):
    error = read(raised(sqlite3.SQLITE_ERROR, text))
    assert (type(error), error.message) == (TaskError, f"SQLite file 'shop.db', table 'orders': {text}")


def test_braces_in_a_path_or_a_text_are_what_they_are():
    error = meaning(raised(sqlite3.SQLITE_IOERR, "{failed}"), "{path}.db", "write")
    assert error.message == "SQLite {path}.db: cannot write: {failed}"
