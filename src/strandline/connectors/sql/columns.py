"""The columns of one table as a SQL database stores them: batches in."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from strandline.connectors.arrow.casts import cast_back, cast_to
from strandline.connectors.sql.dialect import STAGE_PREFIX, VERSION, Dialect
from strandline.connectors.sql.types import SqlTypes, Stored
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.own_tables import OWN_TABLES
from strandline.table import Table

__all__ = ["StoredColumns"]


S = TypeVar("S", bound=Stored)
_TRIED: set[tuple[object, ...]] = set()
"""For which types there is a way to a database and back: a few, however many columns there are."""


class StoredColumns(Generic[S]):
    """How each column of ``table`` is stored.

    Raises:
        TaskError: one of them cannot be, or two have one name there.
    """

    dialect: ClassVar[Dialect]
    types: ClassVar[SqlTypes[Any]]

    def __init__(self, table: Table) -> None:
        self.table = table
        fold, name = self.dialect.fold, self.dialect.name
        if fold(table.name) in OWN_TABLES:
            raise TaskError(f"table {table.name!r} has the name of a table of Strandline's own", hint="rename it")
        self.dialect.quote(table.name)
        self.stored: dict[str, S] = {}
        folded: dict[str, str] = {}
        for field in table.schema:
            where = self._where(field.name)
            if fold(field.name).startswith(STAGE_PREFIX):
                raise TaskError(f"{where}: this name is Strandline's own", hint="rename the column")
            other = folded.setdefault(fold(field.name), field.name)
            if other != field.name:
                raise TaskError(
                    f"{where} and {other!r} are one column to {name}, which does not tell cases apart",
                    hint="rename one of the two at the source",
                )
            self.dialect.quote(field.name)
            stored = self.types.of(field, where)
            if field.name in table.primary_key and not stored.has_equality:
                raise TaskError(f"{where}: {field.type} cannot be in a primary key", hint="name another primary_key")
            self.stored[field.name] = stored
            if pa.types.is_nested(field.type):
                self._try(field)
            elif (tried := (type(self), field.type, stored)) not in _TRIED:
                self._try(field)
                _TRIED.add(tried)

    def _where(self, name: str) -> str:
        return f"{self.table.name}.{name}"

    def _try(self, field: "pa.Field") -> None:
        """Whether there is a way to the database and back, before the first row."""
        self._from_stored(self._to_stored(pa.nulls(1, field.type), field.name), field.name)

    def prepare(self, batch: "pa.RecordBatch", version: "pa.Array | None") -> "pa.RecordBatch":
        """A batch in the types that the database takes, with its versions as last column where they are given.

        Raises:
            TaskError: a column is not the table's, or a value cannot be stored.
        """
        arrays, names = [], []
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            where = self._where(name)
            if name not in self.stored:
                raise TaskError(f"{where}: the source sent a column that its table does not have")
            arrays.append(self._to_stored(cast_to(array, self.table.schema.field(name).type, where=where), name))
            names.append(name)
        if version is not None:
            arrays.append(cast_to(version, pa.binary(), where=f"{self.table.name}: version"))
            names.append(VERSION)
        return pa.record_batch(arrays, names=names)

    def _to_stored(self, array: "pa.Array", name: str) -> "pa.Array":
        return cast_to(array, self.stored[name].arrow, where=self._where(name))

    def _from_stored(self, array: "pa.Array", name: str) -> "pa.Array":
        return cast_back(array, self.table.schema.field(name).type, where=self._where(name))

    def reading(self, names: Sequence[str]) -> str:
        """The list of a SELECT of ``t`` that gives these columns as ``decoded`` takes them.

        Qualified: SQLite takes an unknown bare name in quotes for a text.
        """
        kinds: Mapping[str, str] = {self.dialect.quote(name): self.stored[name].read for name in names}
        return ", ".join(f"CAST(t.{name} AS {read}) AS {name}" if read else f"t.{name}" for name, read in kinds.items())

    def decoded(self, batch: "pa.RecordBatch", names: Sequence[str]) -> "pa.RecordBatch":
        """What was read of these columns, in the types of the table."""
        schema = pa.schema([self.table.schema.field(name) for name in names])
        arrays = [self._from_stored(array, name) for array, name in zip(batch.columns, names, strict=True)]
        return pa.record_batch(arrays, schema=schema)
