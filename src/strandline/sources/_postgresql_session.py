"""Connections to PostgreSQL: ADBC for everything that is read, since it makes Arrow without a detour.

Every statement is a transaction of its own, but for the one that ``Session.transaction`` opens, and none is ever left
open: a slow destination holds at most the statement that is being read. Values stand in the text as literals, quoted by
``_postgresql_catalog.literal``: ADBC reads a statement with parameters without COPY, row by row.
"""

import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from strandline.errors import RetryableError, StrandlineError, TaskError, UnreachableError
from strandline.lazy import adbc, adbc_postgresql, pa
from strandline.sources._postgresql_catalog import literal

__all__ = ["Server", "Session"]

_SETTINGS = {
    "client_encoding": "UTF8",
    # texts of values, in cursors and versions, must not depend on who asks
    "datestyle": "ISO, YMD",
    "intervalstyle": "iso_8601",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "default_transaction_read_only": "on",
    # compiling a scan takes longer than it saves
    "jit": "off",
}
_UNREACHABLE = ("08", "57P", "53300")
"""Classes and codes of SQLSTATE: the connection is gone, or none is free."""
_PASSING = ("40", "42P01", "53", "55P03", "57014", "58")
"""A conflict, a partition that was dropped meanwhile, a lack of resources, a lock or a statement that took too long,
trouble of the server's machine."""
_CANCELED = ("canceling statement", "conflict with recovery")
_IDLE_S = 10.0
"""Whatever lies between us and the server may forget a connection that is idle for longer, without telling us."""
_STATE = re.compile(r"SQLSTATE: ([0-9A-Z]{5})")


class Server:
    """One database, as a role sees it. Safe to share between threads; ``connections_max`` sessions at once.

    A connection costs the driver some 60 ms, because it reads the catalogue of types, so the next session uses it again.
    """

    def __init__(self, uri: str, *, connections_max: int, settings: dict[str, str] | None = None) -> None:
        self.name = f"strandline {secrets.token_hex(4)}"
        """What our sessions call themselves: a number of a backend alone may be another's by now, or a pooler's."""
        self._uri, self._settings = uri, {**_SETTINGS, **(settings or {}), "application_name": self.name}
        self._free = threading.BoundedSemaphore(connections_max)
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self._idle: list[tuple[float, Session]] = []
        """When each was last used, and the session; the newest last."""

    @property
    def pids(self) -> frozenset[int]:
        """The backends of the sessions that are in use: they must not hold back our own horizon."""
        with self._lock:
            return frozenset(self._pids)

    @contextmanager
    def session(self) -> "Iterator[Session]":
        """A connection, for one thread at a time; after an error it is not used again.

        Raises:
            UnreachableError: there is no connection to be had.
        """
        with self._free:
            session = self._taken() or Session(self._uri, self._settings)
            try:
                with self._lock:
                    self._pids.add(session.pid)
                yield session
            except BaseException:
                session.close()
                self.close()  # they may have ended for the same reason
                raise
            finally:
                with self._lock:
                    self._pids.discard(session.pid)
            with self._lock:
                self._idle.append((time.monotonic(), session))

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

    def __init__(self, uri: str, settings: dict[str, str]) -> None:
        self._database, self._connection = None, None
        try:
            self._database = adbc_postgresql.connect(uri)
            self._connection = adbc.AdbcConnection(self._database)
            self._set(settings, is_local=False)
            self.pid = int(self.row("SELECT pg_backend_pid() AS pid")["pid"])
        except StrandlineError:
            self.close()
            raise
        except adbc_errors() as error:
            self.close()
            raise _no_connection(str(error)) from None

    def read(
        self, sql: str, *, batch_bytes: int = 1 << 20, where: str = "", copy: bool = True
    ) -> "Iterator[pa.RecordBatch]":
        """The rows of a query, as they come; without ``copy`` by another protocol, which takes any statement.

        The statement ends when the iterator is closed: the server is told to stop.
        """
        statement = adbc.AdbcStatement(self._connection)
        try:
            statement.set_sql_query(sql)
            statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(batch_bytes)})
            if not copy:
                statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            handle, _ = statement.execute_query()
            with pa.RecordBatchReader._import_from_c(handle.address) as reader:  # noqa: SLF001 -- its documented entry
                try:
                    yield from reader
                except GeneratorExit:
                    _stop(statement, reader)
                    raise
        except (*adbc_errors(), pa.ArrowException, OSError) as error:
            _raise(error, where)
        finally:
            with suppress(*adbc_errors()):
                statement.close()

    @contextmanager
    def transaction(self, *, lock: str, **settings: str) -> Iterator[None]:
        """Statements in one snapshot, with a lock that was taken before it, and settings that end with it.

        After an error in it the session must not be used again.
        """
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self.run(f"LOCK TABLE {lock} MODE")
        self._set(settings, is_local=True)
        yield
        self.run("ROLLBACK")

    def rows(self, sql: str, *, where: str = "") -> list[dict[str, Any]]:
        """All rows of a small query."""
        return [row for batch in self.read(sql, where=where) for row in batch.to_pylist()]

    def row(self, sql: str, *, where: str = "") -> dict[str, Any]:
        """The one row of a query."""
        (row,) = self.rows(sql, where=where)
        return row

    def plan(self, sql: str) -> dict[str, Any]:
        """How the server would run a query: the first node of its plan, as in ``EXPLAIN (FORMAT JSON)``."""
        ((explained,),) = [
            batch.column(0).to_pylist() for batch in self.read(f"EXPLAIN (FORMAT JSON) {sql}", copy=False)
        ]
        return dict(json.loads(explained)[0]["Plan"])

    def run(self, sql: str) -> None:
        """A statement whose rows do not matter."""
        self.rows(sql)

    def _set(self, settings: dict[str, str], *, is_local: bool) -> None:
        wanted = ", ".join(f"set_config({literal(n)}, {literal(v)}, {is_local})" for n, v in settings.items())
        self.run(f"SELECT {wanted}")

    def close(self) -> None:
        """Release it. A second call does nothing."""
        for one in (self._connection, self._database):
            if one is not None:
                with suppress(*adbc_errors()):
                    one.close()
        self._connection = self._database = None


def _stop(statement: Any, reader: "pa.RecordBatchReader") -> None:
    """End a query whose rows are not wanted any more; without a word the driver would read all the rest."""
    with suppress(*adbc_errors(), pa.ArrowException, OSError):
        statement.cancel()
        for _ in reader:
            pass


def adbc_errors() -> tuple[type[Exception], ...]:
    """What the driver raises."""
    return (adbc.Error,)


def _no_connection(text: str) -> UnreachableError:
    # the driver's text may quote the connection string, and with it a password
    _, _, said = text.rpartition("Failed to connect:")
    lines = said.partition("Query was:")[0].replace("\\n", "\n").strip().splitlines()
    reason = lines[0] if lines else "no connection"
    if "FATAL:" in reason or "no password supplied" in reason:
        return UnreachableError(
            f"PostgreSQL: the server refuses the connection: {reason.split('FATAL:')[-1].strip()}",
            hint="see `connection_string`",
        )
    return UnreachableError(
        f"PostgreSQL does not answer: {reason}",
        hint="is the server running, and the host of `connection_string` right?",
    )


def _raise(error: Exception, where: str) -> NoReturn:
    """The driver's error as ours, by SQLSTATE; without the statement, which may hold values."""
    text = str(error).split("Query was:")[0]
    match = _STATE.search(str(error))
    state = getattr(error, "sqlstate", None) or (match[1] if match else None)
    reason = text.split("ERROR:")[-1].split("FATAL:")[-1].splitlines()
    said = " ".join(line.strip() for line in reason if line.strip())
    place = f"{where}: " if where else ""
    if state is None and "ERROR:" in text:
        # what fails while rows come, comes without its code
        state = "57014" if any(words in text for words in _CANCELED) else "XX000"
    if state is None or state.startswith(_UNREACHABLE):
        raise UnreachableError(f"{place}the connection to PostgreSQL was lost: {said}") from None
    if state.startswith(_PASSING):
        raise RetryableError(f"{place}PostgreSQL: {said}") from None
    if state == "42501":
        raise TaskError(f"{place}PostgreSQL: {said}", hint="grant the role SELECT on it, or leave it out") from None
    raise TaskError(f"{place}PostgreSQL: {said}") from None
