"""Connections to PostgreSQL, of sources and destinations: what libpq is told, and transactions that owe a session nothing.

Behind a transaction pooler a session of the server is ours for one transaction, and an application's before and after it.
So all that our values depend on is set by `SET LOCAL` when a transaction begins: nothing of ours is left for the
application, and nothing that it has left changes what we read or write. A statement outside of a transaction is sent only
where it stands alone: one that is prepared first may be executed by another process of the server.
"""

import re
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

from strandline.connectors.postgresql.drivers import adbc, adbc_postgresql, psycopg
from strandline.errors import UnreachableError
from strandline.lazy import pa

__all__ = [
    "PARAMETERS",
    "STYLES",
    "begin",
    "bound",
    "connect",
    "execute",
    "fetched",
    "pooler",
    "probing",
    "with_parameters",
]

PARAMETERS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""So that a server, or a network, that swallows everything is noticed; the connection string may say otherwise."""
STYLES = {
    # not told at the start: a pooler would tell others
    "application_name": "'strandline'",
    # rights, and which names are meant, are those of the role; DEFAULT: as they were when it logged in
    "role": "DEFAULT",
    "search_path": "DEFAULT",
    "row_security": "on",
    # texts of values, in cursors and versions, must not depend on who asks, nor on who was here before
    "client_encoding": "'UTF8'",
    "datestyle": "'ISO, YMD'",
    "intervalstyle": "'iso_8601'",
    "timezone": "'UTC'",
    "extra_float_digits": "1",
    "bytea_output": "'hex'",
    "xmlbinary": "'base64'",
    "lc_monetary": "DEFAULT",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    # a client that has vanished must not keep its locks; a connection by a Unix socket takes no notice
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "idle_in_transaction_session_timeout": "60000",
}
"""Settings, as SQL, that every transaction begins with."""
_URL = re.compile(r"(?s)(postgres(?:ql)?://(?:[^@/]*@)?[^?]*)(?:\?(.*))?")
"""As libpq reads it: a password may hold a question mark."""
_UNQUOTED = "-c quote_all_identifiers=off"
_PROBE_S = 5.0


def with_parameters(connection_string: str, parameters: Mapping[str, str]) -> str:
    """``connection_string`` with what it does not say."""
    found = _URL.fullmatch(connection_string)
    if found is None:
        return " ".join([*(f"{name}='{value}'" for name, value in parameters.items()), connection_string])
    # of two that are the same the last one counts
    said = "&".join(f"{name}={value.replace(' ', '%20').replace('=', '%3D')}" for name, value in parameters.items())
    return f"{found[1]}?{said}{'&' if found[2] else ''}{found[2] or ''}"


def begin(
    settings: Mapping[str, str],
    *,
    read_only: bool,
) -> str:
    """SQL, in one message, that begins a transaction with ``settings`` beside the common ones; values are SQL.

    Without ``read_only`` it is as the role has it: a role may be kept from writing, and a standby always is.
    """
    local = [f"SET LOCAL {name} TO {value}" for name, value in {**STYLES, **settings}.items()]
    return "; ".join([f"BEGIN ISOLATION LEVEL READ COMMITTED{' READ ONLY' if read_only else ''}", *local])


def connect(connection_string: str) -> "tuple[adbc.AdbcDatabase, adbc.AdbcConnection]":
    """A database and a connection of ADBC.

    Raises:
        UnreachableError: the driver does not know the server's types.
        adbc.Error: there is no connection to be had.
    """
    opened = _opened(with_parameters(connection_string, PARAMETERS))
    if opened is None:
        # the driver has read its types by name, before it can be told anything; a pooler forbids this, and says so
        with suppress(adbc.Error):
            opened = _opened(with_parameters(connection_string, {**PARAMETERS, "options": _UNQUOTED}))
    if opened is None:
        raise UnreachableError(
            "PostgreSQL: quote_all_identifiers is on, so that the driver does not know the server's types",
            hint="ALTER ROLE … SET quote_all_identifiers = off, for the role of `connection_string`",
        )
    return opened


def _opened(uri: str) -> "tuple[adbc.AdbcDatabase, adbc.AdbcConnection] | None":
    """Nothing, where the driver takes a number for something else."""
    database = adbc_postgresql.connect(uri)
    connection = None
    try:
        connection = adbc.AdbcConnection(database)
        execute(connection, "BEGIN READ ONLY")
        (batch,) = fetched(connection, "SELECT 1::int8 AS one")
        execute(connection, "COMMIT")
    except BaseException:
        _close(database, connection)
        raise
    if batch.schema.field(0).type != pa.int64():
        _close(database, connection)
        return None
    return database, connection


def _close(*handles: Any) -> None:
    for handle in reversed(handles):
        if handle is not None:
            with suppress(adbc.Error):
                handle.close()


def execute(connection: "adbc.AdbcConnection", sql: str) -> None:
    """Statements without rows, in one message, which no pooler takes apart."""
    with adbc.AdbcStatement(connection) as statement:
        statement.set_sql_query(sql)
        statement.execute_update()


def fetched(connection: "adbc.AdbcConnection", sql: str, **options: str) -> "Iterator[pa.RecordBatch]":
    """The rows of a query, as they come. When the iterator is closed, the server is told to stop.

    Raises:
        adbc.Error: what fails while rows come is one, too, and has no SQLSTATE.
    """
    with adbc.AdbcStatement(connection) as statement:
        statement.set_sql_query(sql)
        statement.set_options(**options)
        handle, _ = statement.execute_query()
        try:
            with pa.RecordBatchReader._import_from_c(handle.address) as reader:  # noqa: SLF001 -- its documented entry
                try:
                    yield from reader
                except GeneratorExit:
                    _stop(statement, reader)
                    raise
        except (pa.ArrowException, OSError) as error:
            raise adbc.Error(str(error), status_code=adbc.AdbcStatusCode.UNKNOWN) from None


def _stop(statement: Any, reader: "pa.RecordBatchReader") -> None:
    """End a query whose rows are not wanted any more; without a word the driver would read all the rest."""
    with suppress(adbc.Error, pa.ArrowException, OSError):
        statement.cancel()
        for _ in reader:
            pass


def bound(connection: "psycopg.Connection[Any]", answer_s: float) -> None:
    """From now on, what waits longer than ``answer_s`` for one answer raises; the connection is of no use after that.

    The timeouts of a server are worth nothing while it hangs.
    """
    wait = connection.wait

    def wait_until(gen: "Generator[Any, Any, Any]", *arguments: Any, **options: Any) -> Any:
        return wait(_bounded(gen, time.monotonic() + answer_s), *arguments, **options)

    connection.wait = wait_until  # type: ignore[method-assign]  # every statement of psycopg waits here


def _bounded(gen: "Generator[Any, Any, Any]", deadline_s: float) -> "Generator[Any, Any, Any]":
    """What ``gen`` does; psycopg resumes it a few times a second, whether or not there is an answer."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if time.monotonic() > deadline_s:
                raise psycopg.OperationalError("the server does not answer")
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


def pooler(connection_string: str) -> Literal["", "session", "transaction"]:
    """What hands out sessions of the server between here and there, for how long; nothing: we are connected to it.

    Raises:
        psycopg.Error: the server does not answer.
    """
    with probing(connection_string) as one:
        first = _backend(one)
        # a pooler tells a number of its own, by which it finds what is to be cancelled
        if first == one.info.backend_pid:
            return ""
        with probing(connection_string) as other, other.transaction():
            # the session that was used last is handed out first
            if _backend(other) == first:
                return "transaction"
            try:
                return "session" if _backend(one) == first else "transaction"
            except psycopg.OperationalError:
                return "transaction"  # they are all taken


def probing(connection_string: str, answer_s: float = _PROBE_S) -> "psycopg.Connection[Any]":
    """A connection by which a few things are asked.

    Raises:
        psycopg.Error: the server does not answer.
    """
    parameters = with_parameters(connection_string, PARAMETERS)
    connection = psycopg.connect(parameters, autocommit=True, prepare_threshold=None)
    bound(connection, answer_s)
    return connection


def _backend(connection: "psycopg.Connection[Any]") -> int:
    found = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(found[0]) if found else 0
