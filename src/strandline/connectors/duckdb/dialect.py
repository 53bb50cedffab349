"""DuckDB's spelling of the SQL that the destinations share."""

import json

from strandline.connectors.sql.dialect import Dialect
from strandline.connectors.sql.record import Record
from strandline.table import SYNC_TIME

__all__ = ["DuckDBDialect"]


class DuckDBDialect(Dialect):
    """DuckDB's spelling."""

    name = "DuckDB"
    text_type = "VARCHAR"
    blob_type = "BLOB"
    updates = False
    alters_before_deletes = True  # before 2.0, a commit fails where it is the other way round

    def fold(self, name: str) -> str:
        """See ``Dialect``."""
        return name.lower()

    def time_us(self, parameter: str) -> str:
        """See ``Dialect``."""
        return f"make_timestamptz({parameter})"

    def keep(self, into: str, text: str, mark: str) -> tuple[str, ...]:
        """See ``Dialect``. Who writes a comment on the table overwrites ours; so the mark is with a column of ours, too."""
        kept = super().keep(into, text, mark)
        if SYNC_TIME not in json.loads(text).get("columns", ()):
            return kept
        return (*kept, f"COMMENT ON COLUMN {into}.{self.quote(SYNC_TIME)} IS '{Record(mark=mark).text_of()}'")

    def numbered_id(self, version: str, number: str, column_type: str) -> str:
        """See ``Dialect``."""
        return f"CAST({version}[1:12] || unhex(printf('%08X', {number})) AS {column_type})"
