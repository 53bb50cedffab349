"""Makes a stored DuckDB table fit: how DuckDB tells what is there."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from strandline.connectors.arrow.widening import Fit, grows
from strandline.connectors.duckdb.session import DuckDBSession
from strandline.connectors.sql.migration import Found, Migrator
from strandline.connectors.sql.record import Record
from strandline.connectors.sql.types import Stored
from strandline.table import SYNC_TIME

__all__ = ["DuckDBMigrator"]

_EXACT = {"binary", "c", "posix"}
"""Collations to which texts are equal that have the same bytes."""


class DuckDBMigrator(Migrator):
    """DuckDB does not tell cases apart, and keeps no identity of a table: the comment does."""

    _session: DuckDBSession

    def _find(self) -> Found | None:
        """See ``Migrator``; without a mark where the table is not one of ours."""
        found = self._session.found(self._table.name)
        if found is None:
            return None
        self._session.dialect.check_name(self._table.name, found.name, is_view=found.is_view)
        # the mark is with a column, too; versions before 0.2 kept it with the table only
        record, also = Record.parse(found.comment), Record.parse(found.comments.get(SYNC_TIME, "")).mark
        if not record.ours and also:  # its comment is somebody's now
            record = replace(record, mark=also)
        return Found(record, record.mark, also)

    def _folding(self) -> Mapping[str, str]:
        """See ``Migrator``. DuckDB tells a collation nowhere but in the text that would create the table."""
        found = self._session.found(self._table.name)
        folding = {}
        for key in self._table.primary_key:
            name = f"(?:{re.escape(key)}|{re.escape(self._quote(key))})"
            collation = re.search(
                rf"[(,]\s*{name} VARCHAR COLLATE (\S+?)[ ,)]", found.sql if found else "", re.IGNORECASE
            )
            if collation is not None and collation[1].lower() not in _EXACT:
                folding[key] = collation[1]
        return folding

    def _dropped_with(self) -> Sequence[str]:
        """See ``Migrator``. Views stay: they know the table by its name."""
        found = self._session.found(self._table.name)
        return [f"index {name}" for name in found.indexes] if found else []

    def _spelled(self, columns: Mapping[str, Stored]) -> Mapping[str, str]:
        """See ``Migrator``."""
        return {name: self._session.spelled(stored.sql) for name, stored in columns.items()}

    def _fit(self, column: str, before: tuple[str, str], after: tuple[str, str]) -> Fit:
        """See ``Migrator``. What is in a struct DuckDB says itself, as Arrow."""
        verdict = super()._fit(column, before, after)
        if verdict is not Fit.NOT or before[1] or after[1] or "STRUCT" not in before[0]:
            return verdict
        stored, wanted = (self._session.arrow_type(kind) for kind, _ in (before, after))
        return Fit.WIDEN if grows(stored, wanted) else Fit.NOT

    def _tied(self, columns: Collection[str], *, key: bool) -> Sequence[str]:  # noqa: ARG002 -- whichever they are
        """See ``Migrator``. DuckDB alters no column of a table that has an index, or a constraint that makes one."""
        found, minds = (
            self._session.found(self._table.name),
            self._session.attached(self._table.name).minds(self._table),
        )
        # where rows are exchanged one by one, they are there while their columns change
        constraints = self._session.ask(
            "SELECT constraint_text FROM duckdb_constraints() WHERE database_name = current_database() "
            "AND schema_name = ? AND table_name = ? AND (? OR constraint_type <> 'NOT NULL') ORDER BY 1",
            self._session.schema,
            self._table.name,
            minds,
        )
        indexes = [f"index {name}" for name in found.indexes] if found else []
        return [*indexes, *(f"constraint {text}" for (text,) in constraints)]
