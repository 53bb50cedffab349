"""One SQLite file: its connections and transactions, and what its errors mean."""

import os
import threading
import urllib.parse
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.tables import (
    DELIVERED,
    HISTORY,
    STATES,
    create_own_tables,
    create_register,
    has_own_tables,
    has_register,
)
from strandline.connectors.sqlite.dialect import MAIN
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.connectors.sqlite.errors import is_busy, meaning
from strandline.connectors.sqlite.session import SQLiteSession
from strandline.errors import StateError, UsageError

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["VERSION_MIN", "Database"]

VERSION_MIN = (3, 35, 0)
"""It can drop a column."""

_INDEXES = (
    f'"{STATES}_key" ON "{STATES}" ("source", "destination", "task")',
    f'"{HISTORY}_key" ON "{HISTORY}" ("source", "task", "destination", "number")',
    f'"{DELIVERED}_key" ON "{DELIVERED}" ("source", "task", "destination", "table", "version")',
    f'"{DELIVERED}_stored" ON "{DELIVERED}" ("source", "task", "destination") WHERE "delivered" > 0',
)
"""By which our own tables are searched."""
_PRAGMAS = (
    "synchronous = EXTRA",  # what is committed survives a loss of power, in any journal mode
    "cache_size = -32768",
    "temp_store = FILE",
    "temp.cache_size = -16384",
    "journal_size_limit = 67108864",
)
_Identity = tuple[int, int]


class _Gate:
    """Lets one transaction at a time into a file: SQLite's own lock is not fair, and may starve a thread."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


_gates: "weakref.WeakValueDictionary[str, _Gate]" = weakref.WeakValueDictionary()
_gates_lock = threading.Lock()


class Database:
    """One file. Safe to share between threads; each session has a connection of its own."""

    def __init__(self, path: str, *, busy_timeout_s: float) -> None:
        self.path, self._busy_timeout_s = path, busy_timeout_s
        self._place = f"SQLite {path}"
        self._holder: Connection | None = None
        """Does nothing but stay open: whenever the last connection closes, SQLite removes the log, which is slow."""
        self._spare: list[tuple[_Identity, Connection]] = []
        """To be used again, each with the file that it has open: a new one parses the whole schema first,
        which takes longer the more tables there are."""
        self._opening = threading.Lock()
        self._prepared = False
        with _gates_lock:
            self._gate = _gates.setdefault(os.path.realpath(path), _Gate())

    @property
    def exists(self) -> bool:
        """Whether there is anything to look at; looking must not create a file."""
        return Path(self.path).exists()

    @contextmanager
    def session(self, *, create: bool = True, cascades: bool = False) -> Iterator[SQLiteSession]:
        """A connection of its own, outside a transaction.

        Args:
            create: also to a file that is not there.
            cascades: whether foreign keys decide what becomes of rows that refer to a deleted one. Otherwise they are
                not looked at, and nobody may delete such a row.
        """
        with self.meaning("open it"):
            with self._opening:
                if self._holder is None:
                    self._holder = self._connect(create=create)
            identity, connection = self._taken() or (self._identity(), self._connect(create=create))
        try:
            connection.execute(f"PRAGMA foreign_keys = {'ON' if cascades else 'OFF'}")
            yield SQLiteSession(connection, self.meaning)
        finally:
            self._give_back(identity, connection)

    def _identity(self) -> _Identity | None:
        """Of the file that has the name now."""
        try:
            found = Path(self.path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _taken(self) -> "tuple[_Identity, Connection] | None":
        """A connection that is spare, to the file that has the name now."""
        now = self._identity()
        while True:
            with self._opening:
                if not self._spare:
                    return None
                identity, connection = self._spare.pop()
            if identity == now:
                return identity, connection
            connection.close()

    def _give_back(self, identity: _Identity | None, connection: "Connection") -> None:
        """Keep a connection, if nothing of its session stays in it."""
        try:
            connection.rollback()
            for (table,) in connection.execute("SELECT name FROM temp.sqlite_master WHERE type = 'table'").fetchall():
                connection.execute(f'DROP TABLE temp."{table}"')
            connection.execute("PRAGMA shrink_memory")
        except sqlite3.Error:  # something is still being read
            identity = None
        with self._opening:
            if identity is not None and self._holder is not None:
                self._spare.append((identity, connection))
                return
        connection.close()

    @contextmanager
    def reading(self) -> Iterator[SQLiteSession | None]:
        """A consistent view; ``None``: there is no database, or our tables are not in it."""
        if not self.exists:
            yield None
            return
        with self.session(create=False) as session, self.meaning("read it"):
            session.connection.execute("BEGIN")
            yield session if has_own_tables(session, self._place) else None

    @contextmanager
    def looking(self, table: str = "") -> Iterator[SQLiteSession | None]:
        """To look at ``table``; ``None``: there is no database."""
        if not self.exists:
            yield None
            return
        with self.session(create=False) as session, self.meaning(f"look at {table}"):
            yield session

    @contextmanager
    def writing(self, *, cascades: bool = False, repeatable: bool = False) -> Iterator[SQLiteSession]:  # noqa: ARG002 -- see ``SqlDatabase``
        """A transaction that commits unless something is raised."""
        with self.session(cascades=cascades) as session, self.transaction(session):
            yield session

    @contextmanager
    def transaction(self, session: SQLiteSession) -> Iterator[None]:
        """One transaction of ``session``, alone in the file; our tables are there.

        Raises:
            LockedError: another process writes, longer than ``busy_timeout``.
            StateError: whether it was committed is not known.
        """
        connection = session.connection
        with self._gate.lock:
            with self.meaning("write to it"):
                # readers and the writer do not wait for each other; where that cannot be (a network drive), they do
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    if not self._prepared:
                        self._prepare(session)
                    yield
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
            self._commit(connection)
            self._prepared = True

    def _prepare(self, session: SQLiteSession) -> None:
        """Our own tables, in a file of this version or of an older one."""
        if not has_own_tables(session, self._place):
            create_own_tables(session)
            for index in _INDEXES:
                session.run(Statement(f"CREATE INDEX {MAIN}.{index}"))
        elif not has_register(session):
            create_register(session)

    def close(self) -> None:
        """Release the file. A second call does nothing."""
        with self._opening:
            holder, self._holder, self._prepared = self._holder, None, False
            spare, self._spare = self._spare, []
        for _, connection in spare:
            connection.close()
        if holder is not None:
            holder.close()

    @contextmanager
    def meaning(self, what: str) -> Iterator[None]:
        """Turns SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise meaning(error, self.path, what) from error

    def _connect(self, *, create: bool) -> "Connection":
        if sqlite3.sqlite_version_info < VERSION_MIN:
            raise UsageError(
                f"SQLite {sqlite3.sqlite_version} is too old to write to {self.path}",
                hint="use a Python that comes with SQLite 3.35 or newer",
            )
        path = Path(self.path).absolute()
        if not path.parent.is_dir():
            raise UsageError(f"{self._place}: there is no directory {path.parent}", hint="create it, or fix `path`")
        connection = sqlite3.connect(
            f"file:{urllib.parse.quote(str(path))}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: "Connection") -> None:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        ((encoding,),) = connection.execute("PRAGMA encoding")
        if encoding != "UTF-8":
            raise UsageError(
                f"{self._place} keeps its texts in {encoding}", hint="use a file whose encoding is UTF-8, or a new one"
            )

    def _commit(self, connection: "Connection") -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if is_busy(error):
                raise meaning(error, self.path, "commit") from error
            # what failed may have been the last thing to do (fsync), or the first
            raise StateError(
                f"{self._place}: it is not known whether a commit happened: {error}",
                hint="the next run reads what was stored and goes on from there",
            ) from error
