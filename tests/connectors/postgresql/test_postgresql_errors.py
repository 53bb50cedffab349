"""What PostgreSQL's errors mean: the same, whichever driver says it, to a source and a destination."""

import adbc_driver_manager as adbc
import psycopg
import pytest

from strandline.connectors.postgresql.errors import connecting, meaning
from strandline.errors import RetryableError, TaskError, UnreachableError, UsageError


def by_psycopg(state, text="that did not work"):
    return psycopg.errors.lookup(state)(text)


def by_adbc(state, text="that did not work"):
    said = f'INVALID_ARGUMENT: [libpq] Failed to execute query: ERROR:  {text}\nDETAIL:  Key (id)=(7)\n\nQuery was:SELECT "x"'
    return adbc.ProgrammingError(said, status_code=adbc.AdbcStatusCode.INVALID_ARGUMENT, sqlstate=state)


@pytest.mark.parametrize("made", [by_psycopg, by_adbc])
@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", UnreachableError),
        ("25P03", UnreachableError),
        ("57P01", UnreachableError),
        ("08P01", RetryableError),
        ("40001", RetryableError),
        ("53200", RetryableError),
        ("55P03", RetryableError),
        ("57014", RetryableError),
        ("58030", RetryableError),
        ("22012", TaskError),
        ("42703", TaskError),
    ],
)
def test_a_state_means_the_same_to_who_reads_and_who_writes(made, reading, state, kind):
    error = meaning(made(state), "shop.orders", reading=reading)
    assert type(error) is kind
    assert error.message.startswith("shop.orders: ")
    assert error.message.endswith("that did not work")


def test_a_table_that_is_gone_may_have_been_a_partition_to_who_reads():
    assert type(meaning(by_adbc("42P01"), "t", reading=True)) is RetryableError
    assert type(meaning(by_psycopg("42P01"), "t")) is TaskError


def test_hints_are_for_what_was_done():
    assert "drop what depends on it" in meaning(by_psycopg("0A000"), "t").hint
    assert meaning(by_adbc("0A000"), "t", reading=True).hint == ""
    assert "SELECT" in meaning(by_adbc("42501"), "t", reading=True).hint
    assert "another schema" in meaning(by_psycopg("42501"), "t").hint


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("canceling statement due to statement timeout", RetryableError),
        ("canceling statement due to conflict with recovery", RetryableError),
        ('invalid byte sequence for encoding "UTF8": 0xff', TaskError),
    ],
)
def test_what_fails_while_rows_come_has_no_state_and_is_known_by_its_words(text, kind):
    assert type(meaning(OSError(f"[libpq] Fetch failed: ERROR:  {text}\nCONTEXT:  COPY"), "t", reading=True)) is kind


def connected(said, connection_string="postgresql://me@db/shop"):
    with pytest.raises((UsageError, UnreachableError)) as raised, connecting(connection_string):
        raise psycopg.OperationalError(said)
    return raised.value


@pytest.mark.parametrize(
    ("said", "kind", "message", "hint"),
    [
        (
            'connection to server at "db", port 5432 failed: FATAL:  password authentication failed for user "me"',
            UnreachableError,
            'PostgreSQL: the server refuses the connection: password authentication failed for user "me"',
            "see connection_string",
        ),
        (
            'connection to server at "db", port 5432 failed: FATAL:  sorry, too many clients already',
            UnreachableError,
            "PostgreSQL: the server refuses the connection: sorry, too many clients already",
            "",
        ),
        (
            'invalid sslmode value: "yes"',
            UsageError,
            'PostgreSQL: invalid sslmode value: "yes"',
            "see connection_string",
        ),
        (
            'connection to server at "db", port 5432 failed: timeout expired',
            UnreachableError,
            'PostgreSQL does not answer: connection to server at "db", port 5432 failed: timeout expired',
            "is the server running, and the host right?",
        ),
    ],
)
def test_why_there_is_no_connection(said, kind, message, hint):
    error = connected(said)
    assert (type(error), error.message, error.hint) == (kind, message, hint)


def test_a_string_that_is_not_understood_is_not_quoted():
    error = connected('invalid connection option "sEcreT"', "host=h sEcreT")
    assert type(error) is UsageError
    assert "sEcreT" not in error.message + error.hint
