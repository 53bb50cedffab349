"""One SQLite file: its connections and transactions, and what its errors mean."""

import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from strandline.connectors.sql.database import FileDatabase
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.tables import (
    DELIVERED,
    HISTORY,
    STATES,
    create_own_tables,
)
from strandline.connectors.sqlite.dialect import MAIN
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.connectors.sqlite.errors import is_busy, meaning
from strandline.connectors.sqlite.session import SQLiteSession
from strandline.errors import StrandlineError, UsageError

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


class Database(FileDatabase[SQLiteSession]):
    """Each session has a connection of its own. SQLite's own lock is not fair, and may starve a thread."""

    system = "SQLite"

    def __init__(self, path: str, *, busy_timeout_s: float) -> None:
        super().__init__(path)
        self._busy_timeout_s = busy_timeout_s
        self._holder: Connection | None = None
        """Does nothing but stay open: whenever the last connection closes, SQLite removes the log, which is slow."""
        self._spare: list[tuple[_Identity, Connection]] = []
        """To be used again, each with the file that it has open: a new one parses the whole schema first,
        which takes longer the more tables there are."""
        self._opening = threading.Lock()

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

    def _session_to_look(self) -> AbstractContextManager[SQLiteSession]:
        return self.session(create=False)

    def _create(self, session: SQLiteSession) -> None:
        create_own_tables(session)
        for index in _INDEXES:
            session.run(Statement(f"CREATE INDEX {MAIN}.{index}"))

    def close(self) -> None:
        """Release the file. A second call does nothing."""
        with self._opening:
            holder, self._holder, self._prepared = self._holder, None, False
            spare, self._spare = self._spare, []
        for _, connection in spare:
            connection.close()
        if holder is not None:
            holder.close()

    def _connect(self, *, create: bool) -> "Connection":
        if sqlite3.sqlite_version_info < VERSION_MIN:
            raise UsageError(
                f"SQLite {sqlite3.sqlite_version} is too old to write to {self.path}",
                hint="use a Python that comes with SQLite 3.35 or newer",
            )
        path = Path(self.path).absolute()
        if not path.parent.is_dir():
            raise UsageError(f"{self.place}: there is no directory {path.parent}", hint="create it, or fix `path`")
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
                f"{self.place} keeps its texts in {encoding}", hint="use a file whose encoding is UTF-8, or a new one"
            )

    def _has_done_nothing(self, session: SQLiteSession, error: Exception) -> bool:
        with suppress(sqlite3.Error):
            session.roll_back()
        return is_busy(error)

    def _errors(self) -> type[Exception]:
        return sqlite3.Error

    def _translated(self, error: Exception, what: str) -> StrandlineError:
        return meaning(error, self.path, what)
