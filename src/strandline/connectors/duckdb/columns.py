"""The columns of one table as DuckDB stores them."""

from strandline.connectors.arrow.casts import cast_to, castable_inside, whole_micros
from strandline.connectors.duckdb.dialect import DuckDBDialect
from strandline.connectors.duckdb.types import Stored, stored_type
from strandline.connectors.sql.columns import StoredColumns
from strandline.errors import TaskError
from strandline.lazy import pa

__all__ = ["Columns"]


class Columns(StoredColumns[Stored]):
    """See ``StoredColumns``."""

    dialect = DuckDBDialect()

    def _column(self, field: "pa.Field", where: str) -> Stored:
        stored = stored_type(field, where=where, quote=self.dialect.quote)
        if not castable_inside(field.type):
            raise TaskError(
                f"{where}: {field.type} cannot be stored",
                hint="inside other types, send lists and plain values instead of views, runs and dictionaries",
            )
        return stored

    def _to_stored(self, array: "pa.Array", name: str) -> "pa.Array":
        stored, where = self.stored[name], self._where(name)
        if "INTERVAL" in stored.sql:
            whole_micros(array, where=where)
        return cast_to(array, stored.arrow, where=where)
