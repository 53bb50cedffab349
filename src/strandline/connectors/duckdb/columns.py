"""The columns of one table as DuckDB stores them: batches in, batches out."""

from collections.abc import Sequence

from strandline.connectors.arrow.casts import cast_back, cast_to, castable_inside, whole_micros
from strandline.connectors.duckdb.dialect import DuckDBDialect
from strandline.connectors.duckdb.types import Stored, stored_type
from strandline.connectors.sql.dialect import STAGE_PREFIX, VERSION
from strandline.connectors.sql.tables import OWN_TABLES
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["Columns"]


class Columns:
    """How each column of ``table`` is stored.

    Raises:
        TaskError: one of them cannot be stored in DuckDB, or two have one name there.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        quote = DuckDBDialect().quote
        if table.name.lower() in OWN_TABLES:
            raise TaskError(f"table {table.name!r} has the name of a table of Strandline's own", hint="rename it")
        quote(table.name)
        self.stored: dict[str, Stored] = {}
        folded: dict[str, str] = {}
        for field in table.schema:
            where = f"{table.name}.{field.name}"
            if field.name.lower().startswith(STAGE_PREFIX):
                raise TaskError(f"{where}: this name is Strandline's own", hint="rename the column")
            other = folded.setdefault(field.name.lower(), field.name)
            if other != field.name:
                raise TaskError(
                    f"{where} and {other!r} are one column to DuckDB, which does not tell cases apart",
                    hint="rename one of the two at the source",
                )
            quote(field.name)
            stored = stored_type(field, where=where, quote=quote)
            if field.name in table.primary_key and not stored.has_equality:
                raise TaskError(f"{where}: {field.type} cannot be in a primary key", hint="name another primary_key")
            if not castable_inside(field.type):
                raise TaskError(
                    f"{where}: {field.type} cannot be stored",
                    hint="inside other types, send lists and plain values instead of views, runs and dictionaries",
                )
            nothing = cast_to(pa.nulls(1, field.type), stored.arrow, where=where)
            cast_back(nothing, field.type, where=where)
            self.stored[field.name] = stored

    def prepare(self, batch: "pa.RecordBatch", version: "pa.Array | None") -> "pa.RecordBatch":
        """A batch as DuckDB takes it, with its versions as last column where they are given.

        Raises:
            TaskError: a column is not the table's, or a value cannot be stored.
        """
        arrays, names = [], []
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            where = f"{self.table.name}.{name}"
            if name not in self.stored:
                raise TaskError(f"{where}: the source sent a column that its table does not have")
            stored = self.stored[name]
            in_table = cast_to(array, self.table.schema.field(name).type, where=where)
            if "INTERVAL" in stored.sql:
                whole_micros(in_table, where=where)
            arrays.append(cast_to(in_table, stored.arrow, where=where))
            names.append(name)
        if version is not None:
            arrays.append(cast_to(version, pa.binary(), where=f"{self.table.name}: version"))
            names.append(VERSION)
        return pa.record_batch(arrays, names=names)

    def reading(self, names: Sequence[str]) -> str:
        """The list of a SELECT that gives these columns as Arrow can cast them."""
        quote = DuckDBDialect().quote
        parts = []
        for name in names:
            read = self.stored[name].read
            parts.append(f"CAST(t.{quote(name)} AS {read})" if read else f"t.{quote(name)}")
        return ", ".join(parts)
