"""One DuckDB database: its connection, its sessions and transactions, and what its errors mean."""

import logging
import os
import re
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from strandline.connectors.duckdb.attached import attached_to
from strandline.connectors.duckdb.catalog import Catalogs, Relation, Sight
from strandline.connectors.duckdb.columns import Columns
from strandline.connectors.duckdb.dialect import DuckDBDialect
from strandline.connectors.duckdb.drivers import duckdb
from strandline.connectors.duckdb.name import FileName
from strandline.connectors.sql.attached import Attached
from strandline.connectors.sql.dialect import Dialect, Statement
from strandline.connectors.sql.file_probes import check_writable
from strandline.connectors.sql.session import Session
from strandline.connectors.sql.staging import Step
from strandline.connectors.sql.tables import create_own_tables, create_register, has_own_tables, has_register
from strandline.errors import (
    LockedError,
    RetryableError,
    StateError,
    StrandlineError,
    TaskError,
    UnreachableError,
    UsageError,
)
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["Database", "DuckDBSession"]

_log = logging.getLogger(__name__)
_MEMORY = ":memory:"
_NEW = ".duckdb-new"
_ROW_GROUP_ROWS = 122_880
"""DuckDB's own, by default."""
_PATH_HINT = "path must be a DuckDB file, or a new name in a directory that exists"


_REFERRED_HINT = (
    "remove what refers to it, or drop the foreign key; to update a row to which one refers, drop the indexes of other columns: "
    "where there is one, DuckDB deletes the row and inserts it again"
)


class _Gate:
    """Lets one transaction at a time into a file; DuckDB's own lock keeps other processes out altogether."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.catalogs = Catalogs()


_gates: "weakref.WeakValueDictionary[str, _Gate]" = weakref.WeakValueDictionary()
_gates_lock = threading.Lock()


class DuckDBSession(Session):
    """One cursor; its temporary tables go with it."""

    dialect: Dialect = DuckDBDialect()

    def __init__(self, cursor: Any, schema: str, database: "Database") -> None:
        super().__init__(schema)
        self.cursor = cursor
        self.sight = Sight(cursor, self.fetch, schema, database.catalogs)
        """What it sees of the catalog."""
        self.deleted = 0
        """How many rows it has deleted."""
        self._database = database
        self._spilled: dict[int, str] = {}
        """The temporary tables of steps; a step lives as long as its session."""
        self._names = 0

    def columns_of(self, table: Table) -> Columns:
        """How the columns of a table are stored."""
        return self._once(table, Columns)

    def run(self, statement: Statement) -> int:
        """How many rows it changed; 0 for DDL."""
        self.sight.about_to_run(statement.text)
        row = self.cursor.execute(statement.text, list(statement.values)).fetchone()
        count = int(row[0]) if row and isinstance(row[0], int) else 0
        if statement.text.startswith("DELETE"):
            self.deleted += count
        return count

    def attempt(self, action: Callable[[], bool]) -> bool:
        """Do ``action``: DuckDB has no savepoints."""
        return action()

    def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Its rows."""
        rows: list[tuple[Any, ...]] = self.cursor.execute(statement.text, list(statement.values)).fetchall()
        return rows

    def about(self, table: str) -> AbstractContextManager[None]:
        """Turns DuckDB's errors into ours, which name the table."""
        return self._database.meaning(f"write to {table}")

    def columns(self, table: str) -> Mapping[str, str]:
        """The types of a stored table's columns, in order."""
        found = self.found(table)
        return found.columns if found is not None and found.name == table else {}

    def arrow_type(self, kind: str) -> "pa.DataType":
        """What a type of the catalog is as Arrow."""
        return self.cursor.sql(f"SELECT NULL::{kind} AS v").to_arrow_table().schema.field("v").type

    def found(self, table: str) -> Relation | None:
        """What has this name, in any case, as of now."""
        return self.sight.of(table)

    def attached(self, table: str) -> Attached:
        """What people have attached to a stored table."""
        return attached_to(self, table)

    def stage(self, step: Step, *, sequence: bool = False) -> str:
        """The rows of a step: as they lie in memory, or in its temporary table."""
        if step.spilled:
            self.spill(step)
            return self._spilled[id(step)]
        return self.register(pa.Table.from_batches(step.placed()) if sequence else _in_row_groups(step))

    def register(self, table: "pa.Table") -> str:
        """An Arrow table as a relation of this session; DuckDB does not copy it."""
        name = self._fresh()
        self.cursor.register(name, table)
        return f'temp."{name}"'

    def spill(self, step: Step) -> None:
        """Move the batches of a step into its temporary table, with their position in the stream."""
        if step.batches:
            with self._database.meaning(f"stage rows of {step.table.name}"):
                self._spill(step)

    def _spill(self, step: Step) -> None:
        name = self._fresh()
        self.cursor.register(name, pa.Table.from_batches(step.placed()))
        target = self._spilled.get(id(step))
        if target is None:
            self._spilled[id(step)] = self.scratch(Statement(f'SELECT * FROM temp."{name}"'))
        else:
            self.run(Statement(f'INSERT INTO {target} SELECT * FROM temp."{name}"'))
        self.cursor.unregister(name)
        step.moved()

    def scratch(self, query: Statement) -> str:
        """A temporary table of a query's rows."""
        relation = f'temp."{self._fresh()}"'
        self.run(Statement(f"CREATE TEMP TABLE {relation} AS {query.text}", query.values))
        return relation

    def _fresh(self) -> str:
        self._names += 1
        return f"_cq_stage_{self._names}"


def _in_row_groups(step: Step) -> "pa.Table":
    """The batches of a step, cut as DuckDB stores them: of others it makes row groups in one thread."""
    rows = pa.Table.from_batches(step.batches)
    if step.rows < 2 * _ROW_GROUP_ROWS:
        return rows
    return pa.Table.from_batches(rows.combine_chunks().to_batches(max_chunksize=_ROW_GROUP_ROWS))


class Database:
    """One file (or memory), opened at first use. Safe to share between threads; each session is one thread's."""

    def __init__(self, path: str, schema: str, settings: Mapping[str, str]) -> None:
        self.path, self._schema, self._settings = path, schema, settings
        self._place = f"DuckDB {path}"
        self._name = FileName(path)
        self._connection: Any = None
        self._opening = threading.Lock()
        self._prepared = False
        with _gates_lock:
            key = f"{_MEMORY}{id(self)}" if path == _MEMORY else self._name.real
            self._gate = _gates.setdefault(key, _Gate())
        self.catalogs = self._gate.catalogs

    @property
    def exists(self) -> bool:
        """Whether there is anything to look at; looking must not create a file."""
        return self._connection is not None or (self.path != _MEMORY and Path(self.path).exists())

    @contextmanager
    def session(self, *, cascades: bool = False) -> Iterator[DuckDBSession]:  # noqa: ARG002 -- DuckDB's never do
        """A cursor of its own, outside a transaction."""
        with self.meaning("open it"):
            cursor = self.catalogs.opened(self._open().cursor)
            cursor.execute("SET TimeZone = 'UTC'")
        session = DuckDBSession(cursor, self._schema, self)
        try:
            yield session
        finally:
            session.sight.close()
            with suppress(duckdb.Error):
                self.catalogs.close(cursor)

    @contextmanager
    def reading(self) -> Iterator[DuckDBSession | None]:
        """A consistent view; ``None``: there is no database, or our tables are not in it."""
        if not self.exists:
            yield None
            return
        with self.session() as session, self.meaning("read it"):
            session.cursor.execute("BEGIN TRANSACTION")
            yield session if self._prepared or has_own_tables(session, self._place) else None

    @contextmanager
    def looking(self, table: str = "") -> Iterator[DuckDBSession | None]:
        """To look at ``table``; ``None``: there is no database."""
        if not self.exists:
            yield None
            return
        with self.session() as session, self.meaning(f"look at {table}"):
            yield session

    @contextmanager
    def writing(self, *, cascades: bool = False, repeatable: bool = False) -> Iterator[DuckDBSession]:  # noqa: ARG002 -- see ``SqlDatabase``
        """A transaction that commits unless something is raised."""
        with self.session() as session, self.transaction(session):
            yield session

    @contextmanager
    def transaction(self, session: DuckDBSession) -> Iterator[None]:
        """One transaction of ``session``, alone in the file; our tables are there.

        Raises:
            StateError: whether it was committed is not known.
        """
        cursor = session.cursor
        with self._gate.lock:
            with self.meaning("write to it"):
                cursor.execute("BEGIN TRANSACTION")
                session.sight.begin()
                try:
                    if not self._prepared:
                        self._prepare(session)
                    yield
                    session.sight.settle()
                except BaseException:
                    with suppress(duckdb.Error):
                        cursor.execute("ROLLBACK")
                    session.sight.end(committed=False)
                    raise
            self._commit(cursor)
            session.sight.end(committed=True)
            self._prepared = True

    def _prepare(self, session: DuckDBSession) -> None:
        """Our own tables, in a file of this version or of an older one."""
        if not has_own_tables(session, self._place):
            session.run(Statement(f"CREATE SCHEMA IF NOT EXISTS {session.dialect.quote(self._schema)}"))
            create_own_tables(session)
        elif not has_register(session):
            create_register(session)

    def close(self) -> None:
        """Release the file. A second call does nothing."""
        with self._opening:
            connection, self._connection, self._prepared = self._connection, None, False
        if connection is not None:
            self.catalogs.forget()
            self.catalogs.close(connection)
            self._name.release()

    @contextmanager
    def meaning(self, what: str) -> Iterator[None]:
        """Turns DuckDB's errors into ours."""
        try:
            yield
        except duckdb.Error as error:
            raise self._translated(error, what) from error

    def _open(self) -> Any:
        with self._opening:
            if self._connection is None:
                try:
                    connection = self._connect()
                    # nothing may be fetched from the net because a query mentions a type
                    for name in ("autoinstall_known_extensions", "autoload_known_extensions"):
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
            self._create()
            self._name.claim()  # before it is opened: closing it again would give up the lock of the other name
            connection = self.catalogs.opened(lambda: duckdb.connect(self._name.real))
        except (duckdb.IOException, duckdb.ConnectionException):
            raise
        except duckdb.Error as error:
            raise UsageError(f"{self._place}: cannot open it: {_first_line(error)}", hint=_PATH_HINT) from error
        self._name.claim()  # where it was made just now
        return connection

    def _create(self) -> None:
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

    def _commit(self, cursor: Any) -> None:
        try:
            cursor.execute("COMMIT")
        except duckdb.Error as error:
            if _is_conflict(error):
                raise self._translated(error, "commit") from error
            # what failed may have been the last thing to do (fsync, a checkpoint), or the first
            self.close()
            raise StateError(
                f"{self._place}: it is not known whether a commit happened: {_first_line(error)}",
                hint="the next run reads what was stored and goes on from there",
            ) from error

    def _translated(self, error: Exception, what: str) -> StrandlineError:
        text = _first_line(error)
        place = f"{self._place}: cannot {what}: {text}"
        if isinstance(error, duckdb.TransactionException):
            return RetryableError(place)
        if isinstance(error, duckdb.FatalException | duckdb.InternalException):
            self.close()
            return RetryableError(place)
        if isinstance(error, duckdb.IOException):
            return self._io_error(text, place)
        if isinstance(error, duckdb.OutOfMemoryException):
            return RetryableError(place, hint="raise memory_limit, or make batch_size_bytes smaller")
        if isinstance(error, duckdb.ConnectionException):
            return LockedError(place, hint="close the other connection of this process")
        return TaskError(place, hint=_REFERRED_HINT if "foreign key constraint" in text else "")

    def _io_error(self, text: str, place: str) -> StrandlineError:
        if "set lock on file" in text or "used by another process" in text:
            holder = re.search(r"PID (\d+)", text)
            who = f"process {holder[1]}" if holder else "another process"
            return LockedError(
                f"{self._place}: {who} has the file open, and only one can write to it",
                hint=f"wait for it with --wait-lock 10m, or end {who if holder else 'that process'}",
            )
        if "Permission denied" in text or "read-only" in text.lower():
            check_writable(Path(self.path))
        if "No such file" in text or "not a valid DuckDB" in text or "Is a directory" in text:
            return UsageError(place, hint=_PATH_HINT)
        return UnreachableError(place)


def _is_conflict(error: Exception) -> bool:
    """Whether another transaction was faster, so that nothing of this one is there."""
    return isinstance(error, duckdb.TransactionException) and "conflict" in str(error).lower()


def _set(connection: Any, name: str, value: str) -> None:
    try:
        connection.execute(f"SET GLOBAL {name} = ?", [value])
    except duckdb.Error as error:
        raise UsageError(f"DuckDB does not take {name}: {value!r}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
