"""The columns of one table as PostgreSQL stores them: batches in, batches out."""

import array as machine
import sys
from collections.abc import Sequence
from typing import Any

from strandline.connectors.arrow.casts import cast_back, cast_to, whole_micros
from strandline.connectors.arrow.json_text import decode_json, encode_json
from strandline.connectors.postgresql.dialect import PostgreSQLDialect
from strandline.connectors.postgresql.drivers import pgpq, pgpq_encoders, pgpq_schema
from strandline.connectors.postgresql.types_stored import Stored, stored_type
from strandline.connectors.sql.dialect import STAGE_PREFIX, VERSION
from strandline.connectors.sql.tables import OWN_TABLES
from strandline.errors import TaskError
from strandline.lazy import pa, pc
from strandline.table import Table

__all__ = ["Columns"]

_MICRO_NS = 1000


class Columns:
    """How each column of ``table`` is stored.

    Raises:
        TaskError: one of them cannot be stored in PostgreSQL.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        quote = PostgreSQLDialect().quote
        if table.name in OWN_TABLES:
            raise TaskError(f"table {table.name!r} has the name of a table of Strandline's own", hint="rename it")
        quote(table.name)
        self.stored: dict[str, Stored] = {}
        for field in table.schema:
            where = f"{table.name}.{field.name}"
            if field.name.startswith(STAGE_PREFIX):
                raise TaskError(f"{where}: this name is Strandline's own", hint="rename the column")
            quote(field.name)
            stored = stored_type(field, where=where)
            if field.name in table.primary_key and not stored.has_equality:
                raise TaskError(f"{where}: {field.type} cannot be in a primary key", hint="name another primary_key")
            self.stored[field.name] = stored
            if stored.sql != "interval":  # which comes back as it is
                self._from_stored(self._to_stored(pa.nulls(1, field.type), field.name), field.name)

    def prepare(self, batch: "pa.RecordBatch", version: "pa.Array | None") -> "pa.RecordBatch":
        """A batch as it is encoded, with its versions as last column where they are given.

        Raises:
            TaskError: a column is not the table's, or a value cannot be stored.
        """
        arrays, names = [], []
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            where = f"{self.table.name}.{name}"
            if name not in self.stored:
                raise TaskError(f"{where}: the source sent a column that its table does not have")
            arrays.append(self._to_stored(cast_to(array, self.table.schema.field(name).type, where=where), name))
            names.append(name)
        if version is not None:
            arrays.append(cast_to(version, pa.binary(), where=f"{self.table.name}: version"))
            names.append(VERSION)
        return pa.record_batch(arrays, names=names)

    def _to_stored(self, array: "pa.Array", name: str) -> "pa.Array":
        stored, where = self.stored[name], f"{self.table.name}.{name}"
        if stored.is_nested:
            return encode_json(array, where=where)
        if stored.sql == "interval":
            return _interval(array, where=where)
        return cast_to(array, stored.arrow, where=where)

    def encoder(self, schema: "pa.Schema") -> "pgpq.ArrowToPostgresBinaryEncoder":
        """What writes batches of this schema in PostgreSQL's format."""
        builders: dict[str, Any] = {}
        for field in schema:
            stored = self.stored.get(field.name)
            if stored is not None and stored.sql == "jsonb":
                builder = pgpq_encoders.StringEncoderBuilder
                builders[field.name] = builder.new_with_output(field, pgpq_schema.Jsonb())
            else:
                builders[field.name] = pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
        return pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(schema, builders)

    def reading(self, names: Sequence[str]) -> str:
        """The list of a SELECT that gives these columns as ``decoded`` takes them."""
        quote = PostgreSQLDialect().quote
        parts = []
        for name in names:
            read = self.stored[name].read
            parts.append(f"CAST(t.{quote(name)} AS {read}) AS {quote(name)}" if read else f"t.{quote(name)}")
        return ", ".join(parts)

    def decoded(self, batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
        """What was read of these columns, in their types."""
        arrays = [self._from_stored(array, field.name) for array, field in zip(batch.columns, schema, strict=True)]
        return pa.record_batch(arrays, schema=schema)

    def _from_stored(self, array: "pa.Array", name: str) -> "pa.Array":
        kind, where = self.table.schema.field(name).type, f"{self.table.name}.{name}"
        if self.stored[name].is_nested:
            return decode_json(array, kind, where=where)
        if isinstance(array, pa.ExtensionArray) and array.type != kind:
            array = array.storage
        return cast_back(array, kind, where=where)


def _interval(array: "pa.Array", *, where: str) -> "pa.Array":
    """Intervals as PostgreSQL sends them: microseconds, days and months, big endian, in 16 bytes.

    Raises:
        TaskError: one of them has nanoseconds.
    """
    whole_micros(array, where=where)
    size = len(array)
    raw = memoryview(array.buffers()[1])[16 * array.offset : 16 * (array.offset + size)]
    wire = memoryview(bytearray(16 * size))
    micros = pc.divide(pa.array(raw.cast("q")[1::2].tolist(), pa.int64()), _MICRO_NS).to_pylist()
    wire.cast("q")[0::2] = _swapped("q", micros)
    wire.cast("i")[2::4] = _swapped("i", raw.cast("i")[1::4].tolist())
    wire.cast("i")[3::4] = _swapped("i", raw.cast("i")[0::4].tolist())
    values = pa.Array.from_buffers(pa.binary(16), size, [None, pa.py_buffer(wire)])
    return pc.if_else(array.is_valid(), values, pa.scalar(None, pa.binary(16)))


def _swapped(code: str, values: list[int]) -> "machine.array[int]":
    """As they stand on the wire."""
    swapped = machine.array(code, values)
    if sys.byteorder == "little":
        swapped.byteswap()
    return swapped
