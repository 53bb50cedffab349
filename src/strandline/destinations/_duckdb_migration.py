"""Makes a stored DuckDB table fit: how DuckDB tells what is there."""

import re
from collections.abc import Mapping

from strandline.destination import MigrateMode
from strandline.destinations._duckdb_columns import Columns
from strandline.destinations._duckdb_session import DuckDBSession
from strandline.destinations._sql import Statement
from strandline.destinations._sql_migration import Found, Migrator, Record
from strandline.errors import TaskError

__all__ = ["DuckDBMigrator"]

_EXACT = {"binary", "c", "posix"}
"""Collations to which texts are equal that have the same bytes."""


class DuckDBMigrator(Migrator):
    """DuckDB does not tell cases apart, and keeps no identity of a table: the comment does."""

    def __init__(self, session: DuckDBSession, columns: Columns, mode: MigrateMode) -> None:
        super().__init__(session, columns.table, columns.stored, mode)
        self._schema = session.schema

    def _find(self) -> Found | None:
        """See ``Migrator``; without a mark where the table is not one of ours."""
        name, session = self._table.name, self._session
        where = "database_name = current_database() AND schema_name = ? AND lower({0}) = lower(?)"
        views = session.fetch(
            Statement(f"SELECT view_name FROM duckdb_views() WHERE {where.format('view_name')}", (self._schema, name))
        )
        if views:
            raise TaskError(f"{name!r} is a view in the database", hint="rename the view, or the table")
        found = session.fetch(
            Statement(
                f"SELECT table_name, comment FROM duckdb_tables() WHERE {where.format('table_name')}",
                (self._schema, name),
            )
        )
        for stored, text in found:
            if stored != name:
                raise TaskError(
                    f"table {name!r} and the stored {stored!r} are one table to DuckDB, which does not tell cases apart",
                    hint="rename one of the two",
                )
            record = Record.parse(text or "")
            return Found(record, record.mark)
        return None

    def _twin(self, column: str, actual: Mapping[str, str]) -> str:
        """See ``Migrator``."""
        return {stored.lower(): stored for stored in actual}.get(column.lower(), "")

    def _folding(self) -> Mapping[str, str]:
        """See ``Migrator``. DuckDB tells a collation nowhere but in the text that would create the table."""
        found = self._session.fetch(
            Statement(
                "SELECT sql FROM duckdb_tables() "
                "WHERE database_name = current_database() AND schema_name = ? AND table_name = ?",
                (self._schema, self._table.name),
            )
        )
        folding = {}
        for key in self._table.primary_key:
            name = f"(?:{re.escape(key)}|{re.escape(self._quote(key))})"
            collation = re.search(rf"[(,]\s*{name} VARCHAR COLLATE (\S+?)[ ,)]", found[0][0], re.IGNORECASE)
            if collation is not None and collation[1].lower() not in _EXACT:
                folding[key] = collation[1]
        return folding

    def _wanted(self) -> Mapping[str, str]:
        """See ``Migrator``."""
        kinds = ", ".join(f"typeof(NULL::{stored.sql})" for stored in self._stored.values())
        (row,) = self._session.fetch(Statement(f"SELECT {kinds}"))
        return dict(zip(self._stored, map(str, row), strict=True))
