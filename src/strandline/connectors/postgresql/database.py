"""One PostgreSQL database: its connections, and its transactions."""

import math
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import cached_property
from typing import Any

from strandline.connection_string import HINT, understood
from strandline.connectors.postgresql import libpq
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.drivers import psycopg
from strandline.connectors.postgresql.errors import connecting, drivers, first_line, translated
from strandline.connectors.postgresql.session import PostgreSQLSession
from strandline.connectors.sql.database import UNKNOWN_HINT, SqlDatabase
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.tables import (
    DELIVERED,
    HISTORY,
    STATES,
    create_own_tables,
)
from strandline.errors import RetryableError, StateError, UsageError
from strandline.lazy import pa

__all__ = ["Database", "Limits"]

_MILLISECONDS_MAX = 2**31 - 1
_ANSWER_S = 1.0
_FORCED = {"client_encoding": "UTF8"}
_STORAGE = dict.fromkeys(
    ("synchronous_commit", "default_tablespace", "temp_tablespaces", "default_table_access_method"), "DEFAULT"
)
"""Where rows go, and when they are safe there, is for the role to say."""


class Limits:
    """How long a statement, or the wait for a lock, may take."""

    def __init__(self, *, statement_timeout_s: float, lock_timeout_s: float) -> None:
        self.statement_ms = min(math.ceil(statement_timeout_s * 1000), _MILLISECONDS_MAX)
        self.lock_ms = min(math.ceil(lock_timeout_s * 1000), _MILLISECONDS_MAX)
        self.answer_s = 1.1 * statement_timeout_s + _ANSWER_S
        """A server that has not even said by then that a statement took too long will say nothing more."""

    def begin(self, name: str, *, application: str, read_only: bool) -> bytes:
        """The beginning of a transaction that holds the lock ``name``. All settings end with it, as a pooler may want.

        What is acknowledged must be durable, so a ``synchronous_commit = off`` of the role is not accepted; and a
        connection whose client has vanished must not hold locks for ever.
        """
        statements = (
            self.only_begin(application=application, read_only=read_only),
            "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
            f"SELECT pg_advisory_xact_lock(hashtextextended('{name}', 0))",
        )
        return "; ".join(statements).encode()

    def only_begin(self, *, application: str, read_only: bool) -> str:
        """The beginning of a transaction that holds no lock of ours."""
        settings = {
            "application_name": literal(application),
            "statement_timeout": str(self.statement_ms),
            "lock_timeout": str(self.lock_ms),
            "idle_in_transaction_session_timeout": str(self.statement_ms),
        }
        return libpq.begin({**_STORAGE, **settings}, read_only=read_only)


class Database(SqlDatabase[PostgreSQLSession]):
    """Connections are opened at need and kept for the next one."""

    def __init__(self, connection_string: str, schema: str, limits: Limits) -> None:
        super().__init__()
        self._connection_string, self._schema, self._limits = connection_string, schema, limits
        self._idle: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._own_tables = f"strandline tables of {schema}"
        self._doubtful: set[str] = set()
        """Transactions of which it is not known whether they have ended, by the locks that they hold."""

    @cached_property
    def _parameters(self) -> Mapping[str, Any]:
        with drivers():
            parse, wrong = psycopg.conninfo.conninfo_to_dict, psycopg.Error
        try:
            return {**libpq.PARAMETERS, **parse(self._connection_string), **_FORCED}
        except wrong:
            # the error quotes what it cannot read, which may be a password
            raise UsageError(
                "`connection_string` is neither a URL of PostgreSQL nor a list of settings",
                hint=HINT,
            ) from None

    @property
    def _application(self) -> str:
        return str(self._parameters.get("application_name") or "strandline")

    @property
    def conninfo(self) -> str:
        """The connection string, with what it does not say."""
        return psycopg.conninfo.make_conninfo(**self._parameters)

    @cached_property
    def place(self) -> str:  # type: ignore[override]  # it is known when a driver has read the string
        """The database, as it may be said."""
        if understood(self._connection_string) is None:
            return "PostgreSQL"  # its host may be a part of a password
        found = self._parameters
        host, port = found.get("host") or found.get("hostaddr") or "local", found.get("port") or "5432"
        return f"PostgreSQL {host}:{port}/{found.get('dbname') or found.get('user') or ''}"

    # connections -----------------------------------------------------------------------------------------------------

    def _take(self) -> "psycopg.Connection[Any]":
        """An idle connection that still answers, or a new one."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            try:
                connection.execute("SELECT 1")
            except psycopg.Error:
                connection.close()
            else:
                return connection

    def _connect(self) -> "psycopg.Connection[Any]":
        with self.reached():
            connection = psycopg.connect(self.conninfo, autocommit=True, prepare_threshold=None)
        libpq.bound(connection, self._limits.answer_s)
        return connection

    def reached(self) -> AbstractContextManager[None]:
        """Says why there is no connection."""
        return connecting(self._connection_string, self.place)

    def _give_back(self, session: PostgreSQLSession) -> None:
        """Keep the connection if nothing of this session is left on it."""
        connection = session.connection
        try:
            for relation in session.spilled.values():
                connection.execute(f"DROP TABLE IF EXISTS {relation}".encode())
        except psycopg.Error:
            connection.close()
        if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    # sessions --------------------------------------------------------------------------------------------------------

    @contextmanager
    def session(self, *, cascades: bool = False) -> Iterator[PostgreSQLSession]:  # noqa: ARG002 -- foreign keys always do
        """Outside a transaction."""
        with drivers():
            session = PostgreSQLSession(self._take, self._schema, self.place)
            try:
                yield session
            finally:
                if session.connected:
                    self._give_back(session)

    @contextmanager
    def looking(self, table: str = "") -> Iterator[PostgreSQLSession]:
        """A transaction that only looks, at ``table`` perhaps."""
        what = f"look at {table}" if table else "read it"
        with self.session() as session, translated(self.place, what), self._begun(session, read_only=True):
            yield session
            session.connection.execute(b"ROLLBACK")

    def meaning(self, what: str) -> AbstractContextManager[None]:
        """See ``SqlDatabase``."""
        return translated(self.place, what)

    @contextmanager
    def reading(self) -> Iterator[PostgreSQLSession | None]:
        """A transaction that only looks; ``None``: our tables are not there."""
        with self.looking() as session:
            session.lock(self._own_tables, shared=True)  # they may just be made
            yield session if self._is_ours(session) else None

    def fetched(self, query: str, table: str) -> "Iterator[pa.RecordBatch]":
        """See ``SqlDatabase``. By ADBC, which makes Arrow without a detour."""
        begin = self._limits.only_begin(application=self._application, read_only=True)
        with ExitStack() as stack, drivers(), translated(self.place, f"read {table}"):
            with self.reached():
                database, connection = libpq.connect(self.conninfo)
            stack.enter_context(closing(database))
            stack.enter_context(closing(connection))
            libpq.execute(connection, begin)
            yield from libpq.fetched(connection, query)
            libpq.execute(connection, "COMMIT")

    @contextmanager
    def transaction(self, session: PostgreSQLSession, *, repeatable: bool = False) -> Iterator[None]:
        """One transaction of ``session``; our tables are there.

        Args:
            session: the only one of its thread.
            repeatable: whether doing the same again would change nothing.

        Raises:
            StateError: whether it was committed is not known, and it is not repeatable.
        """
        with translated(self.place, "write to it", own=True), self._begun(session):
            if not self._prepared:
                self._prepare(session)
            yield
        self._commit(session, repeatable=repeatable)
        self._prepared = True

    @contextmanager
    def _begun(self, session: PostgreSQLSession, *, read_only: bool = False) -> Iterator[None]:
        session.transaction = f"strandline {secrets.token_hex(8)}"
        session.connection.execute(
            self._limits.begin(session.transaction, application=self._application, read_only=read_only)
        )
        try:
            self._settle(session)
            yield
        except BaseException:
            with suppress(psycopg.Error):
                session.connection.execute(b"ROLLBACK")
            raise

    def _prepare(self, session: PostgreSQLSession) -> None:
        session.lock(self._own_tables)
        super()._prepare(session)

    def _create(self, session: PostgreSQLSession) -> None:
        """With what keeps two runs from making two states of one lineage."""
        sql = session.dialect
        self._create_schema(session)
        create_own_tables(session)
        lineage = sql.quoted(("source", "task", "destination"))
        states, history, delivered = (session.relation(name) for name in (STATES, HISTORY, DELIVERED))
        session.run(Statement(f"ALTER TABLE {states} ADD PRIMARY KEY ({lineage})"))
        session.run(Statement(f"ALTER TABLE {history} ADD PRIMARY KEY ({lineage}, number)"))
        session.run(Statement(f"CREATE INDEX ON {delivered} ({lineage}, {sql.quoted(('table', 'version'))})"))

    def _create_schema(self, session: PostgreSQLSession) -> None:
        sql, schema = session.dialect, self._schema
        found = Statement(f"SELECT 1 FROM pg_namespace WHERE nspname = {sql.parameter}", (schema,))
        if not session.fetch(found):
            session.run(Statement(f"CREATE SCHEMA {sql.quote(schema)}"))

    def _commit(self, session: PostgreSQLSession, *, repeatable: bool) -> None:
        connection = session.connection
        try:
            done = connection.execute(b"COMMIT").statusmessage
        except psycopg.Error as error:
            if error.sqlstate and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                with translated(self.place, "commit"):
                    raise
            connection.close()
            with self._lock:
                self._doubtful.add(session.transaction)
            kind = RetryableError if repeatable else StateError
            raise kind(
                f"{self.place}: it is not known whether a commit happened: {first_line(error)}",
                hint=UNKNOWN_HINT,
            ) from error
        if done != "COMMIT":
            # so says the server, without an error, where a statement of the transaction had failed
            raise RetryableError(f"{self.place}: the server has answered a commit with {done}; nothing was written")

    def _settle(self, session: PostgreSQLSession) -> None:
        """Wait until transactions have ended whose end was not heard of: a commit may arrive late."""
        with self._lock:
            doubtful = list(self._doubtful)
        for name in doubtful:
            session.lock(name)
        with self._lock:
            self._doubtful.difference_update(doubtful)

    def close(self) -> None:
        """Close what is idle. A second call does nothing."""
        with self._lock:
            idle, self._idle, self._prepared = self._idle, [], False
        for connection in idle:
            connection.close()
