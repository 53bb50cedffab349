"""One DuckDB database: its connection, and its sessions."""

import logging
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from strandline.connectors.duckdb.catalog import Catalogs
from strandline.connectors.duckdb.drivers import duckdb
from strandline.connectors.duckdb.errors import PATH_HINT, breaks, first_line, is_conflict, meaning
from strandline.connectors.duckdb.name import FileName
from strandline.connectors.duckdb.session import DuckDBSession
from strandline.connectors.sql.database import FileDatabase, Gate
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.tables import create_own_tables
from strandline.errors import StrandlineError, UsageError

__all__ = ["Database"]

_log = logging.getLogger(__name__)
_MEMORY = ":memory:"
_NEW = ".duckdb-new"
_FALSE = ("autoinstall_known_extensions", "autoload_known_extensions", "python_enable_replacements")
"""Nothing may be fetched from the net because a query mentions a type, and no variable of ours be read where a table is missing."""


class _Gate(Gate):
    """DuckDB's own lock keeps other processes out altogether, so what is known of the catalog is known for all of us."""

    def __init__(self) -> None:
        super().__init__()
        self.catalogs = Catalogs()


class Database(FileDatabase[DuckDBSession]):
    """One file, or memory, opened at first use."""

    system = "DuckDB"
    _gate: _Gate
    _gate_type = _Gate

    def __init__(self, path: str, schema: str, settings: Mapping[str, str]) -> None:
        self._name = FileName(path)
        super().__init__(path, f"{_MEMORY}{id(self)}" if path == _MEMORY else self._name.real)
        self._schema, self._settings = schema, settings
        self._connection: Any = None
        self._opening = threading.Lock()
        self.catalogs = self._gate.catalogs

    @property
    def exists(self) -> bool:
        """Whether there is anything to look at; looking must not create a file."""
        return self._connection is not None or (self.path != _MEMORY and super().exists)

    @contextmanager
    def session(self, *, cascades: bool = False) -> Iterator[DuckDBSession]:  # noqa: ARG002 -- DuckDB's never do
        """A cursor of its own, outside a transaction."""
        with self.meaning("open it"):
            cursor = self.catalogs.opened(self._open().cursor)
            cursor.execute("SET TimeZone = 'UTC'")
        session = DuckDBSession(cursor, self._schema, self.catalogs, self.meaning)
        try:
            yield session
        finally:
            session.sight.close()
            with suppress(duckdb.Error):
                self.catalogs.close(cursor)

    def _is_ours(self, session: DuckDBSession) -> bool:
        return self._prepared or super()._is_ours(session)

    def _create(self, session: DuckDBSession) -> None:
        session.run(Statement(f"CREATE SCHEMA IF NOT EXISTS {session.dialect.quote(self._schema)}"))
        create_own_tables(session)

    def close(self) -> None:
        """Release the file. A second call does nothing."""
        with self._opening:
            connection, self._connection, self._prepared = self._connection, None, False
        if connection is not None:
            self.catalogs.forget()
            self.catalogs.close(connection)
            self._name.release()

    def _open(self) -> Any:
        with self._opening:
            if self._connection is None:
                try:
                    connection = self._connect()
                    for name in _FALSE:
                        connection.execute(f"SET GLOBAL {name} = false")
                    for name, value in self._settings.items():
                        _set(connection, name, value)
                except BaseException:
                    self._name.release()
                    raise
                self._connection = connection
            return self._connection

    def _connect(self) -> Any:
        try:
            self.catalogs.forget()
            if self.path == _MEMORY:
                return self.catalogs.opened(lambda: duckdb.connect(_MEMORY))
            self._make_file()
            self._name.claim()  # before it is opened: closing it again would give up the lock of the other name
            connection = self.catalogs.opened(lambda: duckdb.connect(self._name.real))
        except (duckdb.IOException, duckdb.ConnectionException, duckdb.FatalException):
            raise
        except duckdb.Error as error:
            raise UsageError(f"{self.place}: cannot open it: {first_line(error)}", hint=PATH_HINT) from error
        self._name.claim()  # where it was made just now
        return connection

    def _make_file(self) -> None:
        """Make the file under another name: one that was torn while DuckDB made it could never be opened again."""
        path = Path(self._name.real)
        new = path.with_name(f".{secrets.token_hex(8)}{_NEW}")
        try:
            if path.parent.is_dir() and not path.exists():
                duckdb.connect(str(new)).close()
                with new.open("rb") as file:
                    os.fsync(file.fileno())
                path.hardlink_to(new)
        except duckdb.IOException as error:
            raise duckdb.IOException(str(error).replace(new.name, path.name)) from error
        except OSError as error:
            _log.debug("another process made %s first, or there are no links here: %s", path, error)
        finally:
            with suppress(OSError):  # what another process is making is not needed any more, or made without it
                for left in path.parent.glob(f".{'[0-9a-f]' * 16}{_NEW}"):
                    left.unlink(missing_ok=True)

    def _has_done_nothing(self, session: DuckDBSession, error: Exception) -> bool:  # noqa: ARG002 -- it is closed
        if is_conflict(error):
            return True
        self.close()
        return False

    def _errors(self) -> type[Exception]:
        return duckdb.Error

    def _translated(self, error: Exception, what: str) -> StrandlineError:
        if breaks(error):
            self.close()
        return meaning(error, self.path, what)


def _set(connection: Any, name: str, value: str) -> None:
    try:
        connection.execute(f"SET GLOBAL {name} = ?", [value])
    except duckdb.Error as error:
        raise UsageError(f"DuckDB does not take {name}: {value!r}: {first_line(error)}") from error
