"""The state backend ``mysql``: all states of a project in two tables of a database of MySQL or MariaDB (InnoDB)."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.mysql.errors import meaning
from strandline.connectors.mysql.server import Server, risks
from strandline.connectors.sql.state_database import TableName, state_tables
from strandline.connectors.sql.states import SqlStates
from strandline.describe import Description
from strandline.errors import UsageError
from strandline.own_tables import CURSORS
from strandline.probe import Probe, Verdict, clock_probe
from strandline.risks import probe_risks
from strandline.settings import Seconds

__all__ = ["MySQLState"]


class MySQLState(SqlStates):
    """See ``strandline.state.StateBackend``. A server that can lose what it has acknowledged is refused, unless told so."""

    description = Description(drivers=("pymysql",), installs="strandline[mysql]")

    class Spec(BaseModel):
        """Settings of the backend ``mysql``."""

        model_config = ConfigDict(extra="forbid")

        connection_string: str = Field(
            min_length=1,
            description="`mysql://user:password@host:3306/database`; with TLS `?ssl_ca=/path`, or `?ssl=verify`.",
        )
        table: TableName = CURSORS
        timeout: Seconds = Field(30, description="How long to wait for an answer. A duration, as 30s.")
        accept: frozenset[Literal["innodb_flush_log_at_trx_commit", "sync_binlog"]] = Field(
            frozenset(), description="Ways of losing cursors that are put up with; without, such a server is refused."
        )

    def __init__(self, spec: Spec) -> None:
        tables = state_tables(spec.table)
        self._accepted = frozenset(spec.accept)
        self._server = Server(spec.connection_string, tables, timeout_s=spec.timeout, accepted=self._accepted)
        super().__init__(self._server, f"{self._server.place}, table {spec.table}", tables, fenced=False)

    def probes(self) -> Iterator[Probe]:
        """Whether states can be written and kept; see ``strandline.probe``."""
        with meaning(self._server.place, "look at the server"):
            connection, server = self._server.connected()
        with closing(connection):
            yield Probe("connection", Verdict.OK, f"{self._server.place}, version {server['version']}")
            yield clock_probe(float(server["now_s"]) - time.time(), whose="the server's clock")
            try:
                found = risks(server, self._server.place)
            except UsageError as error:
                yield Probe("writes", Verdict.PROBLEM, error.message, error.hint)
                return
            yield from probe_risks(found, self._accepted)
            yield from self._server.rights(connection)

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        self._server.close()
