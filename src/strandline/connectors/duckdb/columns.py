"""The columns of one table as DuckDB stores them."""

from strandline.connectors.arrow.casts import cast_to, whole_micros
from strandline.connectors.duckdb.types import DuckDBTypes, Stored
from strandline.connectors.sql.columns import StoredColumns
from strandline.lazy import pa

__all__ = ["Columns"]


class Columns(StoredColumns[Stored]):
    """See ``StoredColumns``."""

    dialect, types = DuckDBTypes.dialect, DuckDBTypes()

    def _to_stored(self, array: "pa.Array", name: str) -> "pa.Array":
        stored, where = self.stored[name], self._where(name)
        if "INTERVAL" in stored.sql:
            whole_micros(array, where=where)
        return cast_to(array, stored.arrow, where=where)
