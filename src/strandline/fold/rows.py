"""Rows by key: values kept as they arrived, under keys that compare as the values do."""

import math
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from strandline.destination import Scope
from strandline.errors import MassDeleteError, TaskError
from strandline.lazy import pa
from strandline.ownership import row_owners
from strandline.table import CLIENT_ID, SOURCE_NAME, SYNC_TIME, Table

__all__ = [
    "Cell",
    "Key",
    "Row",
    "Rows",
    "batch_of",
    "is_in",
    "is_stale",
    "keys_of",
    "order_of",
    "value_of",
]

Cell: TypeAlias = "tuple[pa.Array, int]"
"""A value where it arrived: no type is ever converted, so every value of every type comes back as it was."""
Row: TypeAlias = dict[str, Cell]
"""By column; a column that is not there is null."""
Key: TypeAlias = tuple[Any, ...]


@dataclass(slots=True)
class Rows:
    """A stored table with its rows. A key has several rows where they were appended."""

    table: Table
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    """Identity of the table; one that is created again has another."""
    rows: dict[Key, tuple[Row, ...]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Row]:
        return (row for rows in self.rows.values() for row in rows)

    def add(self, batch: "pa.RecordBatch") -> None:
        """Rows as they were stored, beside those of the same key."""
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for index, key in enumerate(keys_of(self.table, batch)):
            row: Row = {name: (values, index) for name, values in columns.items()}
            self.rows[key] = (*self.rows.get(key, ()), row)

    def fit(self, table: Table) -> None:
        """Have the columns and the key of ``table``; columns that it has no more stay."""
        left = [one for one in self.table.schema if one.name not in table.schema.names]
        self.table = replace(table, schema=pa.schema([*table.schema, *left]))

    def values(self, column: str) -> Iterator[Any]:
        """A column, row by row, as Python has its values."""
        return (value_of(row, column) for row in self)

    def in_scope(self, scope: Scope, *, of: Callable[[Key, Row], bool] = lambda _key, _row: True) -> int:
        """How many rows of a scope satisfy ``of``."""
        return sum(is_in(row, scope) and of(key, row) for key, rows in self.rows.items() for row in rows)

    def strangers(self, scope: Scope) -> set[str]:
        """Whose rows are not of a scope, in words."""
        return {
            row_owners(value_of(row, SOURCE_NAME), value_of(row, CLIENT_ID)) for row in self if not is_in(row, scope)
        }

    def remove(self, scope: Scope, *, of: Callable[[Key, Row], bool] = lambda _key, _row: True) -> None:
        """Remove the rows of a scope that satisfy ``of``."""
        left = {
            key: tuple(row for row in rows if not (is_in(row, scope) and of(key, row)))
            for key, rows in self.rows.items()
        }
        self.rows = {key: rows for key, rows in left.items() if rows}

    def remove_keys(self, scope: Scope, keys: Iterable[Key]) -> None:
        """Remove the rows of a scope that have one of these keys."""
        for key in keys:
            rows = self.rows.pop(key, ())
            left = tuple(row for row in rows if not is_in(row, scope))
            if left:
                self.rows[key] = left

    def remove_children(self, scope: Scope, parents: "pa.RecordBatch") -> list[Key]:
        """Remove the rows of a scope that have the values of one of these rows; their keys."""
        names, table = parents.schema.names, self.table
        if strange := [name for name in names if name not in table.schema.names]:
            raise TaskError(f"{table.name} has no column {strange[0]!r}, by which children are to be replaced")
        doomed = set(keys_of(replace(table, primary_key=tuple(names)), parents))
        kinds = {name: table.schema.field(name).type for name in names}

        def is_child(_key: Key, row: Row) -> bool:
            return tuple(order_of(row, name, kind) for name, kind in kinds.items()) in doomed

        gone = [key for key, rows in self.rows.items() if any(is_in(row, scope) and is_child(key, row) for row in rows)]
        self.remove(scope, of=is_child)
        return gone

    def remove_guarded(self, scope: Scope, *, of: Callable[[Key, Row], bool]) -> int:
        """Remove the rows of a scope that satisfy ``of``, unless they are too many; how many they were."""
        doomed = self.in_scope(scope, of=of)
        self.guard(scope, doomed)
        self.remove(scope, of=of)
        return doomed

    def guard(self, scope: Scope, doomed: int) -> None:
        """Refuse to remove so many rows of a scope if they are too many."""
        whole = self.in_scope(scope)
        if scope.share_max is not None and doomed > scope.share_max * whole:
            raise MassDeleteError(
                f"{self.table.name}: {doomed} of {whole} rows of {scope.source_name} would be deleted, more than a "
                f"share of {scope.share_max}",
                hint="if that is right: strandline sync --allow-mass-delete",
            )


def is_in(row: Row, scope: Scope) -> bool:
    """Whether the row is of the scope."""
    same: bool = value_of(row, SOURCE_NAME) == scope.source_name and value_of(row, CLIENT_ID) == scope.partition
    return same


def is_stale(row: Row, scope: Scope) -> bool:
    """Whether the row is of an older pass than the scope's."""
    if SYNC_TIME not in row:
        return False
    column, index = row[SYNC_TIME]
    time_us: int | None = column[index].value
    return time_us is not None and time_us < scope.sync_time_us


def value_of(row: Row, name: str) -> Any:
    """One value; ``None`` also where the row has no such column."""
    if name not in row:
        return None
    column, index = row[name]
    return column[index].as_py()


def order_of(row: Row, name: str, kind: "pa.DataType") -> Any:
    """One value of a type, comparable to others of it; ``None`` where there is none."""
    array, index = row.get(name, (pa.nulls(1, kind), 0))
    value = array.slice(index, 1).cast(kind)
    return None if value.null_count else _plain(value)[0]


def keys_of(table: Table, batch: "pa.RecordBatch") -> list[Key]:
    """The key of each row; rows of a table without a primary key get one that no other row has.

    Raises:
        TaskError: a key is null.
    """
    if not table.primary_key:
        return [(object(),) for _ in range(batch.num_rows)]
    columns = []
    for name in table.primary_key:
        if name not in batch.schema.names or batch.column(name).null_count:
            raise TaskError(
                f"{table.name}: column {name!r} of the primary key is null",
                hint="choose a primary key that has no nulls, or exclude these rows",
            )
        columns.append(_plain(batch.column(name)))
    return list(zip(*columns, strict=True))


def _plain(values: "pa.Array") -> list[Any]:
    """The values as Python objects that are exact, hashable, and ordered as the values are; NaN is the greatest."""
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(values.storage)
    if pa.types.is_dictionary(kind):
        return _plain(values.dictionary_decode())
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        plain: list[Any] = values.view(pa.int32() if kind.bit_width == pa.int32().bit_width else pa.int64()).to_pylist()
        return plain
    if pa.types.is_floating(kind):
        return [(math.isnan(value), 0.0 if math.isnan(value) else value) for value in values.to_pylist()]
    return [repr(value) if isinstance(value, list | dict) else value for value in values.to_pylist()]


def batch_of(rows: list[Row], schema: "pa.Schema") -> "pa.RecordBatch":
    """The rows as a batch, their values cast where a column was widened since."""
    return pa.record_batch([_column(rows, one.name, one.type) for one in schema], schema=schema)


def _column(rows: list[Row], name: str, kind: "pa.DataType") -> "pa.Array":
    """One column of the rows, from the pieces that lie together where they arrived."""
    pieces: list[tuple[pa.Array | None, int, int]] = []
    """Array (none: nulls), begin, end."""
    for row in rows:
        array, index = row.get(name, (None, 0))
        if pieces and pieces[-1][0] is array and (array is None or pieces[-1][2] == index):
            pieces[-1] = (array, pieces[-1][1], pieces[-1][2] + 1)
        else:
            pieces.append((array, index, index + 1))
    arrays = [
        pa.nulls(end - begin, kind) if array is None else array.slice(begin, end - begin)
        for array, begin, end in pieces
    ]
    if not arrays:
        return pa.nulls(0, kind)
    return pa.concat_arrays([array if array.type == kind else array.cast(kind) for array in arrays])
