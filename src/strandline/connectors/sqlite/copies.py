"""Rows of an SQLite table that are copied aside in one transaction and read after it.

For rows that no address finds again, and for what has to be seen at one moment. The copy lies in a file of SQLite's own, which
is deleted with the connection.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from strandline.connectors.sql.dialect import quote
from strandline.connectors.sqlite.bound import filtered
from strandline.connectors.sqlite.catalog import transaction
from strandline.connectors.sqlite.high_water import Condition
from strandline.connectors.sqlite.plan import Plan
from strandline.connectors.sqlite.slices import Slice, Slicer
from strandline.lazy import pa
from strandline.message import Insert
from strandline.reading import Reading, within_bounds

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["copied", "copy", "looked_up"]

_COPY, _KEYS = "temp.strandline_copy", "temp.strandline_keys"


def copy(connection: "Connection", slicer: Slicer, plan: Plan, condition: Condition) -> None:
    """Copy rows aside, within the caller's transaction; what was copied before is gone."""
    where, values = condition
    columns = _columns(slicer)
    connection.execute(f"DROP TABLE IF EXISTS {_COPY}")
    connection.execute(f"CREATE TEMP TABLE strandline_copy (place INTEGER PRIMARY KEY, {columns})")
    connection.execute(
        f"INSERT INTO {_COPY} ({columns}) SELECT {', '.join(slicer.select)} FROM {plan.relation} WHERE {where}", values
    )


def copied(slicer: Slicer) -> Iterator[Slice]:
    """What was copied last, by this slicer, in slices."""
    sql = f"SELECT {_columns(slicer)}, place FROM {_COPY} WHERE place > ? ORDER BY place"
    place = 0
    while True:
        piece = slicer.read([(sql, [place])])
        if piece.batch is not None:
            yield piece
            place = piece.last[0]
        if piece.is_last:
            return


def looked_up(connection: "Connection", plan: Plan, keys: "pa.RecordBatch", reading: Reading) -> Iterator[Insert]:
    """The rows of these primary keys as they are now; see ``strandline.source.ReadsKeys``."""
    slicer = Slicer(connection, plan, reading, plan.table.schema.names)
    where, values = filtered(plan)
    stored = _are_stored_so(plan)
    with transaction(connection):
        if stored:
            _bring(connection, keys)
            columns = ", ".join(f"t.{quote(name)}" for name in keys.schema.names)
            names = ", ".join(f"k{place}" for place in range(keys.num_columns))
            where += f" AND ({columns}) IN (SELECT {names} FROM {_KEYS})"
        copy(connection, slicer, plan, (where, values))
    for piece in copied(slicer):
        if piece.batch is None:
            continue
        batch = piece.batch if stored else _those(piece.batch, keys)
        for part in within_bounds(batch, reading.batch_bytes):
            if part.num_rows:
                yield Insert(plan.table.name, part, reread=True)


def _columns(slicer: Slicer) -> str:
    return ", ".join(f"c{place}" for place in range(len(slicer.select)))


def _are_stored_so(plan: Plan) -> bool:
    """Whether SQLite has the keys as Arrow has them; otherwise all rows are read, and compared here."""
    types = [plan.table.schema.field(name).type for name in plan.table.primary_key]
    return not set(plan.table.primary_key) & set(plan.settings.types) and all(
        pa.types.is_integer(one) or pa.types.is_string(one) or pa.types.is_binary(one) or pa.types.is_boolean(one)
        for one in types
    )


def _bring(connection: "Connection", keys: "pa.RecordBatch") -> None:
    names = ", ".join(f"k{place}" for place in range(keys.num_columns))
    connection.execute(f"DROP TABLE IF EXISTS {_KEYS}")
    connection.execute(f"CREATE TEMP TABLE strandline_keys ({names})")
    rows = zip(*(column.to_pylist() for column in keys.columns), strict=True)
    marks = ", ".join("?" for _ in range(keys.num_columns))
    connection.executemany(f"INSERT INTO {_KEYS} VALUES ({marks})", rows)


def _those(batch: "pa.RecordBatch", keys: "pa.RecordBatch") -> "pa.RecordBatch":
    wanted = set(zip(*(column.to_pylist() for column in keys.columns), strict=True))
    found = zip(*(batch.column(name).to_pylist() for name in keys.schema.names), strict=True)
    return batch.filter(pa.array([key in wanted for key in found], pa.bool_()))
