"""A slice of an SQLite table: what one short statement reads, as one Arrow batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sqlite.drivers import sqlite3
from strandline.connectors.sqlite.errors import undecodable
from strandline.connectors.sqlite.high_water import Condition
from strandline.connectors.sqlite.plan import Plan
from strandline.connectors.sqlite.types_read import Misfit, storage_class, to_array
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.reading import Reading

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["Slice", "Slicer"]

_CHUNK_ROWS_FIRST, _CHUNK_ROWS_MAX = 64, 2_048
"""Rows that become Python objects at once. Few at first: they may be megabytes each."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows."""

    batch: "pa.RecordBatch | None"
    """Their columns; none when there are no rows."""
    keys: Sequence[Any]
    """The incremental key of each as SQLite gave it; empty for a table without one."""
    last: tuple[Any, ...]
    """What was selected beside the columns, of the last row."""
    is_last: bool
    """Whether there was nothing more to read."""


class Slicer:
    """Turns rows of one table into batches."""

    def __init__(self, connection: "Connection", plan: Plan, reading: Reading, columns: Sequence[str]) -> None:
        self._connection, self._plan, self._reading = connection, plan, reading
        self._columns = list(columns)
        self._schema = pa.schema([plan.table.schema.field(name) for name in columns])
        self._row_bytes: float | None = None
        key = plan.table.incremental_key
        self._key = self._columns.index(key[0]) if key and key[0] in self._columns else None

    @property
    def select(self) -> list[str]:
        """The columns in SQL."""
        types = self._plan.settings.types
        return [
            f"CAST(t.{quote(name)} AS BLOB)" if name in types and types[name] == "binary" else f"t.{quote(name)}"
            for name in self._columns
        ]

    def read(self, queries: Sequence[Condition]) -> Slice:
        """As many rows of ``queries``, one after the other, as a batch may hold.

        Args:
            queries: each with the columns of ``select`` first, without a limit.
        """
        parts: list[pa.RecordBatch] = []
        keys: list[Any] = []
        last: tuple[Any, ...] = ()
        rows_left, bytes_left = self._reading.batch_rows, self._reading.batch_bytes
        for sql, values in queries:
            for rows in self._chunks(f"{sql} LIMIT {rows_left}", values, bytes_left):
                part, columns = self._batch(rows)
                parts.append(part)
                if self._key is not None:
                    keys.extend(columns[self._key])
                last = tuple(rows[-1][len(self._columns) :])
                rows_left, bytes_left = rows_left - len(rows), bytes_left - part.nbytes
                self._row_bytes = part.nbytes / len(rows)
                if bytes_left <= 0:
                    break
            if rows_left <= 0 or bytes_left <= 0:
                break
        batch = parts[0] if len(parts) == 1 else pa.concat_batches(parts) if parts else None
        return Slice(batch, keys, last, is_last=rows_left > 0 and bytes_left > 0)

    def _chunks(self, sql: str, values: Sequence[Any], size_bytes: int) -> Iterator[list[Any]]:
        try:
            with self._reading.statement():
                found = self._connection.execute(sql, values)
                while rows := found.fetchmany(self._chunk_rows(size_bytes)):
                    yield rows
        except sqlite3.OperationalError as error:
            if not undecodable(error):
                raise
            raise self._undecodable(sql, values) from error

    def _chunk_rows(self, size_bytes: int) -> int:
        if self._row_bytes is None:
            return _CHUNK_ROWS_FIRST
        return max(1, min(_CHUNK_ROWS_MAX, int(size_bytes / 4 / max(1.0, self._row_bytes))))

    def _batch(self, rows: Sequence[Any]) -> "tuple[pa.RecordBatch, list[Any]]":
        columns = list(zip(*rows, strict=True))
        arrays = []
        for place, field in enumerate(self._schema):
            try:
                asked = field.name in self._plan.settings.types
                arrays.append(to_array(columns[place], field.type, asked=asked, zone=self._plan.zone))
            except Misfit as misfit:
                raise self._unfit(field.name, rows[misfit.index], place) from misfit
        return pa.record_batch(arrays, schema=self._schema), columns

    def _unfit(self, name: str, row: Sequence[Any], place: int) -> TaskError:
        found, type_ = storage_class(row[place]), self._schema.field(name).type
        wanted = {"real": "double", "blob": "binary"}.get(found, "string")
        return TaskError(
            f"table {self._plan.table.name!r}, column {name!r}, row {self._named(row)}: "
            f"the stored value, of class {found}, does not fit the type {type_}; nothing of it was delivered",
            hint=f"fix the row, or set `types: {{{name}: {wanted}}}` for this table; where rows of it are stored already, "
            "--full-refresh reads them again",
        )

    def _named(self, row: Sequence[Any]) -> str:
        key = [f"{name}={row[self._columns.index(name)]!r}" for name in self._plan.table.primary_key]
        return ", ".join(key) or "of unknown key"

    def _undecodable(self, sql: str, values: Sequence[Any]) -> TaskError:
        """Which row holds text that is not UTF-8; the driver says only the column."""
        factory, self._connection.text_factory = self._connection.text_factory, bytes
        try:
            for row in self._connection.execute(sql, values):
                broken = [place for place, value in enumerate(row) if _is_broken(value)]
                if broken and broken[0] < len(self._columns):
                    name = self._columns[broken[0]]
                    return TaskError(
                        f"table {self._plan.table.name!r}, column {name!r}, row {self._named(row)}: "
                        "the stored text is not UTF-8; nothing of it was delivered",
                        hint=f"fix the row, or set `types: {{{name}: binary}}` for this table",
                    )
        finally:
            self._connection.text_factory = factory
        return TaskError(f"table {self._plan.table.name!r}: a text is not UTF-8", hint="fix the row")


def _is_broken(value: object) -> bool:
    return isinstance(value, bytes) and value.decode("utf-8", "replace").encode() != value
