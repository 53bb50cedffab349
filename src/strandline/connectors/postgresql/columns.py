"""The columns of one table as PostgreSQL stores them."""

import array as machine
import sys
from typing import Any

from strandline.connectors.arrow.casts import whole_micros
from strandline.connectors.arrow.json_text import decode_json, encode_json
from strandline.connectors.postgresql.drivers import pgpq, pgpq_encoders, pgpq_schema
from strandline.connectors.postgresql.types_stored import PostgreSQLTypes, Stored
from strandline.connectors.sql.columns import StoredColumns
from strandline.lazy import pa, pc

__all__ = ["Columns"]

_MICRO_NS = 1000


class Columns(StoredColumns[Stored]):
    """See ``StoredColumns``."""

    dialect, types = PostgreSQLTypes.dialect, PostgreSQLTypes()

    def _try(self, field: "pa.Field") -> None:
        if self.stored[field.name].sql != "interval":  # which comes back as it is
            super()._try(field)

    def _to_stored(self, array: "pa.Array", name: str) -> "pa.Array":
        stored, where = self.stored[name], self._where(name)
        if stored.is_nested:
            return encode_json(array, where=where)
        if stored.sql == "interval":
            return _interval(array, where=where)
        return super()._to_stored(array, name)

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

    def _from_stored(self, array: "pa.Array", name: str) -> "pa.Array":
        kind = self.table.schema.field(name).type
        if self.stored[name].is_nested:
            return decode_json(array, kind, where=self._where(name))
        if isinstance(array, pa.ExtensionArray) and array.type != kind:
            array = array.storage
        return super()._from_stored(array, name)


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
