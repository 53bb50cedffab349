"""The columns of one table as SQLite stores them: batches in, rows out, and back."""

from collections.abc import Iterable, Sequence
from typing import Any

from strandline.connectors.arrow.casts import MEND_VALUE
from strandline.connectors.sql.columns import StoredColumns
from strandline.connectors.sql.dialect import VERSION
from strandline.connectors.sqlite.dialect import folded
from strandline.connectors.sqlite.types_stored import SQLiteTypes, Stored
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["Columns"]


class Columns(StoredColumns[Stored]):
    """See ``StoredColumns``."""

    dialect, types = SQLiteTypes.dialect, SQLiteTypes()

    def __init__(self, table: Table) -> None:
        if folded(table.name).startswith("sqlite_"):
            raise TaskError(
                f"table {table.name!r}: SQLite keeps names that begin with sqlite_ to itself", hint="rename it"
            )
        super().__init__(table)

    def rows(self, batch: "pa.RecordBatch", start: int) -> Iterable[tuple[Any, ...]]:
        """The rows of a prepared batch, as SQLite takes them, each with its position from ``start`` as last column.

        Raises:
            TaskError: a value cannot be stored.
        """
        columns = [self._encoded(name, array) for name, array in zip(batch.schema.names, batch.columns, strict=True)]
        return zip(*columns, range(start, start + batch.num_rows), strict=True)

    def _encoded(self, name: str, array: "pa.Array") -> Sequence[Any]:
        where = self._where(name)
        try:
            return self.stored[name].encode(array) if name != VERSION else array.to_pylist()
        except (ValueError, OverflowError) as error:  # Arrow's own errors are among them, and text that is not UTF-8
            raise TaskError(f"{where}: a value cannot be stored ({error})", hint=MEND_VALUE) from error

    def decoded(self, batch: Sequence[Sequence[Any]], names: Sequence[str]) -> "pa.RecordBatch":
        """Stored rows of these columns, at least one, in the types of the table.

        Raises:
            TaskError: a stored value has no place in the type of its column.
        """
        arrays = [self._decoded(name, values) for name, values in zip(names, zip(*batch, strict=True), strict=True)]
        return super().decoded(pa.record_batch(arrays, names=list(names)), names)

    def _decoded(self, name: str, values: Sequence[Any]) -> "pa.Array":
        try:
            array: pa.Array = self.stored[name].decode(values)
        except (ValueError, TypeError, OverflowError) as error:
            kind = self.table.schema.field(name).type
            raise TaskError(f"{self._where(name)}: a stored value cannot be read as {kind} ({error})") from error
        return array
