"""Connections to PostgreSQL: ADBC for everything that is read, since it makes Arrow without a detour.

Every statement is a transaction of its own, which begins with all settings that its answer depends on (see ``libpq``);
and none is ever left open: a slow destination holds at most the statements that are being read. Values stand in the text as literals, quoted by ``dialect.literal``: ADBC reads a statement
with parameters without COPY, row by row.
"""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from strandline.connectors.postgresql import libpq
from strandline.connectors.postgresql.dialect import literal
from strandline.connectors.postgresql.drivers import adbc, psycopg
from strandline.connectors.postgresql.errors import connecting, meaning
from strandline.connectors.postgresql.query import Describer, describing
from strandline.errors import StrandlineError
from strandline.lazy import pa

__all__ = ["Server", "Session"]

_LOOK_S = 60.0
"""How long a statement may take whose answer is small, as one that asks the catalogue."""
_LONGEST_S = 2_000_000
_IDLE_S = 10.0
"""Whatever lies between us and the server may forget a connection that is idle for longer, without telling us."""


class Server:
    """One database, as a role sees it. Safe to share between threads; ``connections_max`` sessions at once.

    A connection costs the driver some 60 ms, because it reads the catalogue of types, so the next session uses it again.
    """

    def __init__(self, uri: str, *, connections_max: int, statement_s: float = 0, lock_s: float = 0) -> None:
        self.name = f"strandline {secrets.token_hex(4)}"
        """What our transactions call themselves: the number of a backend may be another's by now, or a pooler's. They
        must not hold back our own horizon."""
        self._uri = uri
        # compiling a scan takes longer than it saves
        self._settings = {"jit": "off", "application_name": literal(self.name), "lock_timeout": f"'{lock_s}s'"}
        self._statement_s = statement_s
        self._free = threading.BoundedSemaphore(connections_max)
        self._waiting = 0
        """How many wait for one that is free."""
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Session]] = []
        """When each was last used, and the session; the newest last."""

    @contextmanager
    def session(self) -> "Iterator[Session]":
        """A connection, for one thread at a time; after an error it is not used again.

        Raises:
            UnreachableError: there is no connection to be had.
            UsageError: nor could there be, with such a connection string.
        """
        with self._lock:
            self._waiting += 1
        try:
            self._free.acquire()
        finally:
            with self._lock:
                self._waiting -= 1
        with self._lent() as session:
            yield session

    def spare(self) -> "AbstractContextManager[Session] | None":
        """As ``session``, if one may be open that nobody else waits for. It is taken at once, and has to be entered."""
        if self._waiting or not self._free.acquire(blocking=False):
            return None
        return self._lent()

    @contextmanager
    def _lent(self) -> "Iterator[Session]":
        """Of the budget it is taken already."""
        try:
            session = self._taken() or Session(self._uri, self._settings, self._statement_s)
            try:
                yield session
            except BaseException:
                session.close()
                self.close()  # they may have ended for the same reason
                raise
            with self._lock:
                self._idle.append((time.monotonic(), session))
        finally:
            self._free.release()

    @contextmanager
    def probing(self) -> "Iterator[tuple[psycopg.Connection[Any], str]]":
        """A connection by libpq, and what hands it out; see ``libpq.pooler``."""
        with connecting(self._uri):
            pooled, connection = libpq.pooler(self._uri), libpq.probing(self._uri)
        with connection:
            yield connection, pooled

    @contextmanager
    def describing(self) -> "Iterator[Describer]":
        """A connection by which queries are understood; see ``query``."""
        with describing(self._uri, {**self._settings, "statement_timeout": f"'{_LOOK_S}s'"}) as describer:
            yield describer

    def close(self) -> None:
        """Release the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, session in idle:
            session.close()

    def _taken(self) -> "Session | None":
        with self._lock:
            used, session = self._idle.pop() if self._idle else (0.0, None)
        if session is not None and time.monotonic() - used > _IDLE_S:
            session.close()
            self.close()
            return None
        return session


class Session:
    """One connection; used by one thread."""

    def __init__(self, uri: str, settings: dict[str, str], statement_s: float) -> None:
        self._settings = {**settings, "statement_timeout": f"'{min(statement_s, _LONGEST_S)}s'"}
        self._look = {"statement_timeout": f"'{min(statement_s or _LOOK_S, _LOOK_S)}s'"}
        with connecting(uri):
            self._database, self._connection = libpq.connect(uri)

    def read(
        self, sql: str, *, batch_bytes: int = 1 << 20, where: str = "", copy: bool = True, look: bool = False
    ) -> "Iterator[pa.RecordBatch]":
        """The rows of a query, as they come; without ``copy`` by another protocol, which takes any statement.

        The statement ends when the iterator is closed: the server is told to stop. ``look``: it should not take long.
        """
        options = {"adbc.postgresql.batch_size_hint_bytes": str(batch_bytes)}
        if not copy:
            options["adbc.postgresql.use_copy"] = "false"
        self._execute(libpq.begin({**self._settings, **(self._look if look else {})}, read_only=True), where)
        try:
            yield from libpq.fetched(self._connection, sql, **options)
        except BaseException as error:
            with suppress(adbc.Error):
                libpq.execute(self._connection, "ROLLBACK")
            if isinstance(error, adbc.Error):
                raise _meaning(error, where) from None
            raise
        self._execute("COMMIT", where)

    def _execute(self, sql: str, where: str) -> None:
        try:
            libpq.execute(self._connection, sql)
        except adbc.Error as error:
            with suppress(adbc.Error):
                libpq.execute(self._connection, "ROLLBACK")
            raise _meaning(error, where) from None

    def rows(self, sql: str, *, where: str = "") -> list[dict[str, Any]]:
        """All rows of a query that has few. Only one that names a table may take long: it may read many for them."""
        return [row for batch in self.read(sql, where=where, look=not where) for row in batch.to_pylist()]

    def each(self, sql: str) -> Iterator[dict[str, Any]]:
        """The rows of a look into the catalogue, some of them at a time."""
        for batch in self.read(sql, look=True):
            yield from batch.to_pylist()

    def row(self, sql: str, *, where: str = "") -> dict[str, Any]:
        """The one row of a query."""
        (row,) = self.rows(sql, where=where)
        return row

    def plan(self, sql: str) -> dict[str, Any]:
        """How the server would run a query: the first node of its plan, as in ``EXPLAIN (FORMAT JSON)``."""
        ((explained,),) = [
            batch.column(0).to_pylist() for batch in self.read(f"EXPLAIN (FORMAT JSON) {sql}", copy=False, look=True)
        ]
        return dict(json.loads(explained)[0]["Plan"])

    def run(self, sql: str) -> None:
        """A statement whose rows do not matter."""
        self.rows(sql)

    def close(self) -> None:
        """Release it. A second call does nothing."""
        for one in (self._connection, self._database):
            with suppress(adbc.Error):
                one.close()


def _meaning(error: Exception, where: str) -> StrandlineError:
    return meaning(error, f"{where}: PostgreSQL" if where else "PostgreSQL", reading=True)
