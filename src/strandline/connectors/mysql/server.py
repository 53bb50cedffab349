"""One database of MySQL or MariaDB: its connections, its transactions, and whether it can lose what it has acknowledged."""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from strandline.connectors.mysql.address import address, place
from strandline.connectors.mysql.dialect import MySQLDialect, marked
from strandline.connectors.mysql.drivers import pymysql
from strandline.connectors.mysql.errors import meaning, refused
from strandline.connectors.sql.database import UNKNOWN_HINT
from strandline.connectors.sql.dialect import Statement
from strandline.connectors.sql.session import OwnSession
from strandline.connectors.sql.states import StateTables
from strandline.connectors.sql.tables import create_state_tables, has_state_tables
from strandline.errors import StateConflictError, StateError, UsageError
from strandline.probe import Probe, Verdict
from strandline.risks import Risk, check_risks

__all__ = ["Server", "risks"]

_ASKED = (
    "SELECT version() AS version, @@global.read_only AS read_only, @@global.innodb_flush_log_at_trx_commit AS flush, "
    "@@global.log_bin AS logs, @@global.sync_binlog AS sync, unix_timestamp(now(6)) AS now_s"
)


class _Session(OwnSession):
    """Used by one thread."""

    dialect = MySQLDialect()

    def __init__(self, connection: Any, database: str) -> None:
        super().__init__(database)
        self.connection = connection

    def run(self, statement: Statement) -> int:
        return max(int(self._execute(statement).rowcount), 0)

    def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        rows = self._execute(statement).fetchall()
        return [[one.decode() if isinstance(one, bytes) else one for one in row] for row in rows]

    def columns(self, table: str) -> Mapping[str, str]:
        found = self.ask(
            f"SELECT column_name, column_type FROM information_schema.columns WHERE table_schema = {self.dialect.parameter} "
            f"AND table_name = {self.dialect.parameter} ORDER BY ordinal_position",
            self.schema,
            table,
        )
        return {str(name): str(kind) for name, kind in found}

    def _execute(self, statement: Statement) -> Any:
        cursor = self.connection.cursor()
        cursor.execute(marked(statement), statement.values)
        return cursor


class Server:
    """Connections are opened at need and kept for the next one. Safe to share between threads.

    Raises:
        UsageError: the connection string is none.
    """

    def __init__(
        self, connection_string: str, tables: StateTables, *, timeout_s: float, accepted: frozenset[str]
    ) -> None:
        self._address = address(connection_string)
        self.place, self.tables, self._timeout_s = place(self._address), tables, timeout_s
        self._accepted = accepted
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._prepared = False
        self._doubts = self._settled = 0
        """Commits whose end was not heard of; and how many of them have ended since."""

    @contextmanager
    def reading(self) -> Iterator[_Session | None]:
        """See ``strandline.connectors.sql.states.Sessions``: each query sees what is committed when it begins."""
        with self._session("read the states") as session:
            self._prepared = self._prepared or self._is_there(session)
            yield session if self._prepared else None

    @contextmanager
    def writing(self) -> Iterator[_Session]:
        """See ``strandline.connectors.sql.states.Sessions``.

        Raises:
            StateError: whether it was committed is not known.
        """
        with self._session("save a state") as session:
            if not self._prepared:
                if not self._is_there(session):
                    create_state_tables(session, self.tables.states, self.tables.history)
                    self._is_there(session)
                self._prepared = True
            session.connection.begin()
            yield session
            self._commit(session.connection)

    def _commit(self, connection: Any) -> None:
        try:
            connection.commit()
        except pymysql.Error as error:
            with self._lock:
                self._doubts += 1
            said = f"{self.place}: it is not known whether a commit happened: {error.args[-1]}"
            raise StateError(said, hint=UNKNOWN_HINT) from error

    @contextmanager
    def _session(self, what: str) -> Iterator[_Session]:
        with meaning(self.place, what):
            connection = self._take()
            try:
                session = _Session(connection, self._address["database"])
                self._settle(session)
                yield session
            except StateConflictError:
                connection.rollback()
                raise
            except BaseException:
                # with it the server drops what was not committed
                with suppress(pymysql.Error):
                    connection.close()
                raise
            finally:
                if connection.open:
                    with self._lock:
                        self._idle.append(connection)

    def _settle(self, session: _Session) -> None:
        """Wait until a transaction has ended whose end was not heard of: it holds the lock of its rows."""
        doubts = self._doubts
        if self._settled >= doubts:
            return
        session.connection.begin()
        session.ask(f"SELECT token FROM {session.relation(self.tables.states)} FOR UPDATE")
        session.connection.rollback()
        self._settled = max(self._settled, doubts)

    def _take(self) -> Any:
        """An idle connection that still answers, or a new one."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            try:
                connection.ping(reconnect=False)
            except pymysql.Error:
                with suppress(pymysql.Error):
                    connection.close()
            else:
                return connection

    def _connect(self) -> Any:
        """A new one, if the server can be trusted: another one may answer under this name since.

        Raises:
            UsageError: it takes no writes, or it can lose a cursor.
        """
        connection, server = self.connected()
        try:
            check_risks(self.place, risks(server, self.place), self._accepted)
        except UsageError:
            connection.close()
            raise
        return connection

    def connected(self) -> tuple[Any, Mapping[str, Any]]:
        """A connection, and what its server says of itself.

        A connection that the server has lost sight of is ended by it, and its locks with it, before who waits for them gives up.
        """
        idle_s = max(math.floor(self._timeout_s / 3), 1)
        with refused(self.place):
            connection = pymysql.connect(
                **self._address,
                charset="utf8mb4",
                sql_mode="STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
                init_command=f"SET SESSION wait_timeout = {idle_s}, innodb_lock_wait_timeout = {2 * idle_s}, default_storage_engine = InnoDB",
                connect_timeout=self._timeout_s,
                read_timeout=self._timeout_s,
                write_timeout=self._timeout_s,
                autocommit=True,
                client_flag=pymysql.constants.CLIENT.FOUND_ROWS,
            )
            with connection.cursor(pymysql.cursors.DictCursor) as cursor:
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")
                cursor.execute(_ASKED)
                return connection, cursor.fetchone()

    def _is_there(self, session: _Session) -> bool:
        """Whether our tables are.

        Raises:
            UsageError: they are of a kind that has no transactions.
        """
        names = (self.tables.states, self.tables.history)
        if not has_state_tables(session, *names, self.place):
            return False
        one = session.dialect.parameter
        wrong = session.ask(
            "SELECT table_name, engine FROM information_schema.tables "
            f"WHERE table_schema = {one} AND table_name IN ({one}, {one}) AND coalesce(engine, '') <> 'InnoDB'",
            session.schema,
            *names,
        )
        for name, engine in wrong:
            raise UsageError(
                f"{self.place}: table {name} is kept by {engine}, which commits nothing",
                hint=f"ALTER TABLE {session.relation(name)} ENGINE = InnoDB",
            )
        return True

    def rights(self, connection: Any) -> Iterator[Probe]:
        """Whether the tables can be read and written; changes nothing."""
        session = _Session(connection, self._address["database"])
        with meaning(self.place, "write to the tables of the states"):
            if not self._is_there(session):
                yield Probe("rights", Verdict.OK, "its tables are made at the first save, which needs CREATE")
                return
            connection.begin()
            for name in map(session.relation, (self.tables.states, self.tables.history)):
                session.run(Statement(f"INSERT INTO {name} SELECT * FROM {name} WHERE false"))
                session.run(Statement(f"UPDATE {name} SET state = state WHERE false"))
                session.run(Statement(f"DELETE FROM {name} WHERE false"))
            connection.rollback()
        yield Probe("rights", Verdict.OK, "the tables of the states can be read and written")

    def close(self) -> None:
        """Close what is idle. A second call does nothing."""
        with self._lock:
            idle, self._idle, self._prepared = self._idle, [], False
        for connection in idle:
            with suppress(pymysql.Error):
                connection.close()


def risks(server: Mapping[str, Any], where: str) -> list[Risk]:
    """All of them.

    Raises:
        UsageError: the server takes no writes.
    """
    if str(server["read_only"]) not in {"0", "OFF"}:
        raise UsageError(f"{where} is read-only: is it a replica?", hint="name the primary in connection_string")
    found = []
    if str(server["flush"]) != "1":
        name = "innodb_flush_log_at_trx_commit"
        said = f"{name} is {server['flush']}: a crash loses what was saved in the last second"
        found.append(Risk(name, said, f"SET GLOBAL {name} = 1, and in its configuration file"))
    if str(server["logs"]) not in {"0", "OFF"} and str(server["sync"]) != "1":
        said = f"sync_binlog is {server['sync']}: a crash of the machine takes back commits that its binary log has not"
        found.append(Risk("sync_binlog", said, "SET GLOBAL sync_binlog = 1, and in its configuration file"))
    return found
