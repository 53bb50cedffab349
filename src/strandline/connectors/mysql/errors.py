"""What the errors of MySQL and MariaDB mean."""

from collections.abc import Iterator
from contextlib import contextmanager

from strandline.connectors.mysql.drivers import pymysql
from strandline.errors import (
    RetryableError,
    StateConflictError,
    StateError,
    StrandlineError,
    TaskError,
    UnreachableError,
    UsageError,
)

__all__ = ["meaning", "refused"]

_DUPLICATE = 1062
_WAIT = "another connection holds a lock; end it"
_ROOM = "the server lacks something; see its log"
_MEANINGS: dict[int, tuple[type[StrandlineError], str]] = {
    **dict.fromkeys((1205, 1213), (RetryableError, _WAIT)),
    **dict.fromkeys((1021, 1030, 1037, 1038, 1041, 1114), (RetryableError, _ROOM)),
    **dict.fromkeys((1290, 1792, 1836), (RetryableError, "this server takes no writes now: is it a replica?")),
    **dict.fromkeys((1044, 1142, 1143), (TaskError, "grant the user what it needs; the documentation has the rights")),
    **dict.fromkeys((1053, 1077, 1152, 1317, 1927), (UnreachableError, "is the server up?")),
    1146: (StateError, "restore both tables from a backup"),
    1071: (UsageError, "the server is too old; MySQL 5.7 or MariaDB 10.2 at least"),
    1153: (TaskError, "raise max_allowed_packet of the server"),
    1406: (TaskError, "a name may have 1,000 bytes"),
    1665: (UsageError, "binlog_format = ROW or MIXED"),
}
"""Numbers of the server's errors: what the engine does, and what would help."""
_SERVER_S = range(1000, 2000)
"""Numbers below and above are the driver's own: there is no connection any more."""


@contextmanager
def meaning(place: str, what: str) -> Iterator[None]:
    """Turns the driver's errors into ours, if ``what`` cannot be done. Nothing of it was."""
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"the driver of MySQL is not installed ({error})", hint="pip install 'strandline[mysql]'"
        ) from error
    except pymysql.Error as error:
        number, said = error.args[0] if error.args else 0, str(error.args[-1] if error.args else error)
        if number == _DUPLICATE:
            raise StateConflictError(
                f"{place}: another run has saved a state at the same time; nothing was written",
                hint="let the other run end, then start again",
            ) from error
        if number not in _SERVER_S and number not in range(3000, 6000):
            raise UnreachableError(f"{place}: cannot {what}: the connection was lost: {said}") from error
        kind, hint = _MEANINGS.get(number, (TaskError, ""))
        raise kind(f"{place}: cannot {what}: {said}", hint=hint) from error


@contextmanager
def refused(place: str) -> Iterator[None]:
    """Says why there is no connection.

    Raises:
        UsageError: there could be none, with such settings.
        UnreachableError: the server does not want us, or does not answer.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:  # a package that a kind of password needs; a port
        raise UsageError(
            f"{place}: {error}", hint="see connection_string; with TLS no further package is needed"
        ) from error
    except FileNotFoundError as error:
        raise UsageError(f"{place}: {error}", hint="see ssl_ca, ssl_cert and ssl_key of connection_string") from error
    except (pymysql.Error, OSError) as error:
        number, said = error.args[0] if error.args else 0, error.args[-1] if error.args else error
        if number in _SERVER_S:
            raise UnreachableError(
                f"{place}: the server refuses the connection: {said}", hint="see connection_string"
            ) from error
        raise UnreachableError(
            f"{place} cannot be reached: {said}", hint="is the server running, and the host right?"
        ) from error
