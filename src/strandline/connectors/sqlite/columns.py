"""The columns of one table as SQLite stores them: batches in, rows out, and back."""

import string
from collections.abc import Iterable, Sequence
from typing import Any

from strandline.connectors.arrow.casts import MEND_VALUE, cast_back, cast_to
from strandline.connectors.sql.dialect import STAGE_PREFIX, VERSION
from strandline.connectors.sql.tables import OWN_TABLES
from strandline.connectors.sqlite.dialect import SQLiteDialect
from strandline.connectors.sqlite.types_stored import Stored, stored_type
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["Columns", "folded"]

_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def folded(name: str) -> str:
    """What SQLite takes for the same name: it does not tell cases apart, in ASCII."""
    return name.translate(_FOLD)


class Columns:
    """How each column of ``table`` is stored.

    Raises:
        TaskError: one of them cannot be stored in SQLite, or two have one name there.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        quote = SQLiteDialect().quote
        if folded(table.name) in OWN_TABLES:
            raise TaskError(f"table {table.name!r} has the name of a table of Strandline's own", hint="rename it")
        if folded(table.name).startswith("sqlite_"):
            raise TaskError(
                f"table {table.name!r}: SQLite keeps names that begin with sqlite_ to itself", hint="rename it"
            )
        quote(table.name)
        self.stored: dict[str, Stored] = {}
        names: dict[str, str] = {}
        for field in table.schema:
            where = f"{table.name}.{field.name}"
            if folded(field.name).startswith(STAGE_PREFIX):
                raise TaskError(f"{where}: this name is Strandline's own", hint="rename the column")
            other = names.setdefault(folded(field.name), field.name)
            if other != field.name:
                raise TaskError(
                    f"{where} and {other!r} are one column to SQLite, which does not tell cases apart",
                    hint="rename one of the two at the source",
                )
            quote(field.name)
            stored = stored_type(field, where=where)
            nothing = cast_to(pa.nulls(1, field.type), stored.arrow, where=where)
            cast_back(nothing, field.type, where=where)
            self.stored[field.name] = stored

    def prepare(self, batch: "pa.RecordBatch", version: "pa.Array | None") -> "pa.RecordBatch":
        """A batch in the types of which rows are made, with its versions as last column where they are given.

        Raises:
            TaskError: a column is not the table's, or a value cannot be stored.
        """
        arrays, names = [], []
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            where = f"{self.table.name}.{name}"
            if name not in self.stored:
                raise TaskError(f"{where}: the source sent a column that its table does not have")
            in_table = cast_to(array, self.table.schema.field(name).type, where=where)
            arrays.append(cast_to(in_table, self.stored[name].arrow, where=where))
            names.append(name)
        if version is not None:
            arrays.append(cast_to(version, pa.binary(), where=f"{self.table.name}: version"))
            names.append(VERSION)
        return pa.record_batch(arrays, names=names)

    def rows(self, batch: "pa.RecordBatch", start: int) -> Iterable[tuple[Any, ...]]:
        """The rows of a prepared batch, as SQLite takes them, each with its position from ``start`` as last column.

        Raises:
            TaskError: a value cannot be stored.
        """
        columns = [self._encoded(name, array) for name, array in zip(batch.schema.names, batch.columns, strict=True)]
        return zip(*columns, range(start, start + batch.num_rows), strict=True)

    def _encoded(self, name: str, array: "pa.Array") -> Sequence[Any]:
        where = f"{self.table.name}.{name}"
        try:
            return self.stored[name].encode(array) if name != VERSION else array.to_pylist()
        except (ValueError, OverflowError) as error:  # Arrow's own errors are among them, and text that is not UTF-8
            raise TaskError(f"{where}: a value cannot be stored ({error})", hint=MEND_VALUE) from error

    def batch(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> "pa.RecordBatch":
        """Stored rows of these columns, at least one, in the types of the table.

        Raises:
            TaskError: a stored value has no place in the type of its column.
        """
        schema = pa.schema([self.table.schema.field(name) for name in names])
        arrays = [self._decoded(name, values) for name, values in zip(names, zip(*rows, strict=True), strict=True)]
        return pa.record_batch(arrays, schema=schema)

    def _decoded(self, name: str, values: Sequence[Any]) -> "pa.Array":
        where, kind = f"{self.table.name}.{name}", self.table.schema.field(name).type
        try:
            array = self.stored[name].decode(values)
        except (ValueError, TypeError, OverflowError) as error:
            raise TaskError(f"{where}: a stored value cannot be read as {kind} ({error})") from error
        return cast_back(array, kind, where=where)
