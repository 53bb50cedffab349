"""How PostgreSQL spells what all databases can do."""

from strandline.connectors.sql.dialect import Dialect, Statement
from strandline.errors import TaskError

__all__ = ["PostgreSQLDialect", "literal", "numbered"]

_NAME_BYTES_MAX = 63


class PostgreSQLDialect(Dialect):
    """PostgreSQL's spelling. A bound value stands as NUL, which no name and no SQL can hold; see ``numbered``."""

    name = "PostgreSQL"
    row_order = "ctid"
    replaces_views = True
    parameter = "\0"
    blob_type = "bytea"
    overriding = " OVERRIDING SYSTEM VALUE"

    def quote(self, name: str) -> str:
        """See ``Dialect``. A longer name would be cut by the server, and might then mean another table."""
        try:
            size = len(name.encode())
        except UnicodeEncodeError as error:
            raise TaskError(f"{name!r} cannot be a name in {self.name}", hint="rename the column or table") from error
        if size > _NAME_BYTES_MAX:
            raise TaskError(
                f"the name {name!r} is {size} bytes long; PostgreSQL keeps {_NAME_BYTES_MAX}",
                hint="rename the column or table at the source, or in a view of it",
            )
        return super().quote(name)

    def lock(self, name: str, *, shared: bool) -> Statement:
        """See ``Dialect``. An advisory lock of the transaction: it goes with it, whatever becomes of this process."""
        kind = "_shared" if shared else ""
        return Statement(f"SELECT pg_advisory_xact_lock{kind}(hashtextextended({self.parameter}, 0))", (name,))

    def time_us(self, parameter: str) -> str:
        """See ``Dialect``."""
        return f"(timestamptz 'epoch' + CAST({parameter} AS bigint) * interval '1 microsecond')"

    def numbered_id(self, version: str, number: str, column_type: str) -> str:
        """See ``Dialect``."""
        digits = f"encode(substring({version} FROM 1 FOR 12), 'hex') || lpad(to_hex({number}), 8, '0')"
        return f"decode({digits}, 'hex')" if column_type == "bytea" else f"CAST({digits} AS {column_type})"


def literal(text: str) -> str:
    """``text`` as a constant, whatever ``standard_conforming_strings`` says; where no value can be bound.

    Raises:
        TaskError: no text of PostgreSQL can hold it.
    """
    if "\0" in text:
        raise TaskError(f"{text!r} cannot be a text in PostgreSQL")
    quoted = text.replace("'", "''")
    return f"'{quoted}'" if "\\" not in text else " E'" + quoted.replace("\\", "\\\\") + "'"


def numbered(statement: Statement) -> str:
    """The text with ``$1``, ``$2`` … where values are bound."""
    first, *rest = statement.text.split(PostgreSQLDialect.parameter)
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))
