"""Tables that a query of the spec makes: what its columns are, told by the server without running it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from strandline.connectors.postgresql import libpq
from strandline.connectors.postgresql.catalog import Relation, Rows, column_of
from strandline.connectors.postgresql.drivers import psycopg
from strandline.connectors.postgresql.errors import connecting
from strandline.connectors.postgresql.plan import Plan, PostgreSQLTable
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.table import Table

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

__all__ = ["Describer", "columns_of", "describing", "unread"]

_HINT = "it has to be one SELECT, without parameters, whose columns have names of their own"
_TYPES = (
    "SELECT a.place::int8 AS place, format_type(t.oid, a.typmod) AS type_name, t.typcategory::text AS category, t.typtype::text AS type_kind, "
    "current_user::text AS role FROM unnest(ARRAY[{oids}]::oid[], ARRAY[{typmods}]::int4[]) WITH ORDINALITY AS a (oid, typmod, place) "
    "JOIN pg_type AS t ON t.oid = a.oid ORDER BY a.place"
)


class Describer:
    """A transaction in which queries are understood, and none is run."""

    def __init__(self, connection: "PGconn") -> None:
        self._connection = connection

    def columns(self, query: str, where: str) -> list[tuple[str, int, int]]:
        """Name, oid of the (base) type and its modifier of each column.

        Raises:
            UsageError: it is no query, several, or it does not work.
        """
        self._connection.exec_(b"SAVEPOINT cq_query")
        # alone, so that it is one statement and closes no bracket of ours; then in brackets, where nothing can write
        for sql in (query, f"SELECT * FROM ({query}\n) AS t"):
            prepared = self._connection.prepare(b"", sql.encode())
            if prepared.status == psycopg.pq.ExecStatus.COMMAND_OK:
                continue
            primary = prepared.error_field(psycopg.pq.DiagnosticField.MESSAGE_PRIMARY) or b"?"
            at = prepared.error_field(psycopg.pq.DiagnosticField.STATEMENT_POSITION)
            self._connection.exec_(b"ROLLBACK TO SAVEPOINT cq_query")
            place = f" (character {at.decode()} of it)" if at and sql == query else ""
            raise UsageError(f"{where}: its `query` does not work: {primary.decode()}{place}", hint=_HINT)
        found = self._connection.describe_prepared(b"")
        names = [(found.fname(at) or b"").decode() for at in range(found.nfields)]
        if not names or found.nparams:
            raise UsageError(f"{where}: its `query` has no rows, or parameters", hint=_HINT)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(
                f"{where}: its `query` has column {twice[0]!r} twice", hint="give one of them a name with AS"
            )
        return [(name, found.ftype(at), found.fmod(at)) for at, name in enumerate(names)]


@contextmanager
def describing(uri: str, settings: Mapping[str, str]) -> "Iterator[Describer]":
    """A connection that is used for nothing else.

    Raises:
        UnreachableError: there is no connection to be had.
    """
    with connecting(uri):
        connection = libpq.probing(uri)
    with connection:
        begun = connection.pgconn.exec_(libpq.begin(settings, read_only=True).encode())
        with connecting(uri):
            if begun.status != psycopg.pq.ExecStatus.COMMAND_OK:
                raise psycopg.OperationalError(begun.get_error_message())
        yield Describer(connection.pgconn)
        connection.pgconn.exec_(b"ROLLBACK")


def columns_of(session: Rows, described: Sequence[tuple[str, int, int]]) -> dict[str, Any]:
    """Fields of the ``Relation`` of a query, by what is known of its columns."""
    oids, typmods = (", ".join(str(column[at]) for column in described) for at in (1, 2))
    types = session.rows(_TYPES.format(oids=oids, typmods=typmods))
    columns = tuple(
        column_of({**of_type, "name": name, "type_oid": oid, "typmod": typmod, "readable": True}, nullable=True)
        for (name, oid, typmod), of_type in zip(described, types, strict=True)
    )
    return {"columns": columns, "role": types[0]["role"]}


def unread(relation: Relation, name: str, error: TaskError | UsageError) -> Plan:
    """Of a table of which nobody knows more than why it cannot be read."""
    table = Table(
        name, pa.schema([("unreadable", pa.null())]), spec_name=f"{relation.schema}.{relation.name}", unreadable=error
    )
    return Plan(table, relation, (), PostgreSQLTable(), None)
