"""What a window wants done, in stream order: pulled out of it before the transaction begins.

Consecutive messages of one kind about one table become one ``Step``. Steps stand in the order in which they began;
a step takes no more messages once another one about its table has begun.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from strandline.connectors.sql.dialect import SEQUENCE
from strandline.destination import Window, WriteMode
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa, pc
from strandline.message import (
    Adopt,
    Checkpoint,
    Complete,
    Delete,
    Forget,
    Insert,
    Present,
    Replace,
    Stale,
    Swap,
    Truncate,
    WindowMessage,
)
from strandline.state import StateKey
from strandline.table import CQ_ID, Table

__all__ = ["STAGED_BYTES_MAX", "Op", "Staging", "Step"]

STAGED_BYTES_MAX = 128 << 20
"""How much of a window stays in memory as Arrow; beyond that it goes into temporary tables. Windows are usually
smaller, so that their rows are copied once: into the table."""


class Op(StrEnum):
    """What a step does."""

    INSERT = "insert"
    DELETE = "delete"
    TRUNCATE = "truncate"
    REPLACE = "replace"
    PRESENT = "present"
    COMPLETE = "complete"
    STALE = "stale"
    SWAP = "swap"
    FORGET = "forget"
    ADOPT = "adopt"


@dataclass(slots=True, eq=False)
class Step:
    """One thing to do with one table."""

    op: Op
    name: str
    """The table's name as the messages use it."""
    table: Table
    """As it is stored."""
    columns: tuple[str, ...] = ()
    reread: bool = False
    """Rows to be looked up in the delivered set."""
    numbered: bool = False
    """The rows come without their ``_cq_id``."""
    batches: "list[pa.RecordBatch]" = field(default_factory=list)
    """Of ``columns``, in types that the database takes; with the version as last column where it is needed."""
    starts: list[int] = field(default_factory=list)
    """For each batch, the position of its first row in the step."""
    rows: int = 0
    spilled: int = 0
    """How many of the rows, the first ones, are in the temporary table of this step."""
    keys: "Step | None" = None
    """For ``COMPLETE``: the keys that exist at the source, if it sent them. For ``INSERT``: keys that are deleted among
    the rows, or parents whose rows are replaced, by position, so that a stream of changes does not fall into a step for each
    of them."""
    hidden: str = ""
    """For ``SWAP``: the stored name of the hidden table. For ``FORGET``: of the one to drop, if it is there."""
    former: StateKey | None = None
    """For ``ADOPT``: the lineage whose rows are this one's from now on."""

    @property
    def size(self) -> int:
        """How many positions are taken."""
        return self.rows + (self.keys.rows if self.keys else 0)

    @property
    def versioned(self) -> bool:
        """Whether the rows have their version as last column."""
        return self.reread or self.numbered

    def ascends(self, keys: Sequence[str]) -> bool:
        """Whether all keys are different since each is greater than the one before; False: they may be, too."""
        return self.key_range(keys) is not None

    def key_range(self, keys: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The first and the last key, if each is greater than the one before; ``None``: that is not known."""
        if self.spilled or not self.batches or not keys:
            return None
        columns = [pa.chunked_array([batch.column(key) for batch in self.batches]) for key in keys]
        if any(not pa.types.is_integer(column.type) or column.null_count for column in columns):
            return None
        if not pc.all(_rises(columns), min_count=0).as_py():
            return None
        return tuple(column[0].as_py() for column in columns), tuple(column[-1].as_py() for column in columns)

    def placed(self) -> "list[pa.RecordBatch]":
        """The batches with the position of each row in the stream."""
        return [
            batch.append_column(SEQUENCE, pa.arange(start, start + batch.num_rows))
            for start, batch in zip(self.starts, self.batches, strict=True)
        ]

    def moved(self) -> None:
        """The batches are in the temporary table now."""
        self.spilled = self.rows
        self.batches.clear()
        self.starts.clear()

    def absent(self, columns: Sequence[str]) -> list[str]:
        """The table's columns that are not among these: they are null, whatever default the stored ones have."""
        return [name for name in self.table.schema.names if name not in columns]


Prepare = Callable[[Table, "pa.RecordBatch", "pa.Array | None"], "pa.RecordBatch"]
"""A batch, with its versions as last column where they are given, in the types that the database takes."""
Spill = Callable[[Step], None]
"""Moves the batches of a step into its temporary table, and counts them as spilled."""


class Staging:
    """Collects the steps of one window. Used by one thread."""

    def __init__(self, mode: WriteMode, *, prepare: Prepare, spill: Spill, bytes_max: int = STAGED_BYTES_MAX) -> None:
        self.steps: list[Step] = []
        self._mode, self._prepare, self._spill, self._bytes_max = mode, prepare, spill, bytes_max
        self._open: dict[str, Step] = {}
        """For each table, the step that can still grow."""
        self._present: dict[str, Step] = {}
        self._bytes = 0

    def take(self, window: Window) -> None:
        """Everything of ``window``.

        Raises:
            TaskError: rows that cannot be stored.
        """
        for message in window:
            self._add(message, window)

    def spill(self) -> None:
        """Move everything into temporary tables."""
        for one in [*self.steps, *(step.keys for step in self.steps if step.keys), *self._present.values()]:
            if one.batches:
                self._spill(one)
        self._bytes = 0

    def _add(self, message: WindowMessage, window: Window) -> None:
        appends = self._mode is WriteMode.APPEND
        match message:
            case Insert():
                self._insert(message, self._table(message.table, window))
            case Complete():
                table = self._table(message.table, window)
                step = self._begin(Step(Op.COMPLETE, message.table, table))
                step.keys = self._present.pop(message.table, None)
            case Checkpoint():
                pass
            case Delete() | Present() | Replace() | Truncate() if appends:
                pass
            case Delete():
                table = self._table(message.table, window)
                self._gone(Op.DELETE, message, table, table.primary_key)
            case Replace(keys=keys):
                self._gone(Op.REPLACE, message, self._table(message.table, window), keys.schema.names)
            case Present():
                table = self._table(message.table, window)
                fresh = Step(Op.PRESENT, message.table, table, table.primary_key)
                step = self._present.setdefault(message.table, fresh)
                self._keys(step, message.keys, start=step.rows)
            case Truncate():
                self._begin(Step(Op.TRUNCATE, message.table, self._table(message.table, window)))
            case _:
                self._settle(message, window)

    def _settle(self, message: WindowMessage, window: Window) -> None:
        """What only the engine sends."""
        match message:
            case Stale():
                self._begin(Step(Op.STALE, message.table, self._table(message.table, window)))
            case Swap():
                hidden = window.tables.get(message.hidden)
                step = self._begin(Step(Op.SWAP, message.table, self._table(message.table, window)))
                step.hidden = hidden.name if hidden else message.hidden
                self._open.clear()
            case Forget(table=name, drop=drop):
                step = self._begin(Step(Op.FORGET, name, Table(name, pa.schema([(CQ_ID, pa.binary(16))]))))
                step.hidden = name if drop else ""
            case Adopt():
                step = self._begin(Step(Op.ADOPT, message.table, self._table(message.table, window)))
                step.former = StateKey(message.source, message.task, message.destination)
            case _:
                raise TypeError(f"a window holds no {type(message).__name__}")

    def _table(self, name: str, window: Window) -> Table:
        if name not in window.tables:
            raise TaskError(f"the source sent something about {name!r}, which is not a table of this task")
        return window.tables[name]

    def _begin(self, step: Step) -> Step:
        self.steps.append(step)
        self._open[step.name] = step
        return step

    def _growing(self, step: Step) -> Step:
        """The open step of this table if it is of the same kind, else ``step``, begun."""
        open_step = self._open.get(step.name)
        if open_step is not None and _alike(open_step, step):
            return open_step
        return self._begin(step)

    def _insert(self, message: Insert, table: Table) -> None:
        batch, key = message.batch, table.primary_key
        if not batch.num_rows:
            return
        appends = self._mode is WriteMode.APPEND
        numbered = key == (CQ_ID,) and CQ_ID not in batch.schema.names
        if not key and not appends:
            raise UsageError(
                f"table {table.name!r} has no primary key, so it cannot be overwritten",
                hint="name its primary_key, or use write_mode: append",
            )
        step = Step(Op.INSERT, message.table, table, tuple(batch.schema.names))
        step.reread, step.numbered = message.reread and appends, numbered
        if step.versioned and (message.version is None or message.version.null_count):
            raise TaskError(f"{table.name}: rows that may be read again came without their versions")
        prepared = self._prepare(table, batch, message.version if step.versioned else None)
        if not numbered:
            _check_keys(table, prepared, table.primary_key)
        step = self._growing(step)
        self._grow(step, prepared, step.size)

    def _gone(self, op: Op, message: Delete | Replace, table: Table, columns: Sequence[str]) -> None:
        """Keys that are deleted, or parents whose rows are replaced; among whole rows, where that can be."""
        fresh, rows = Step(op, message.table, table, tuple(columns)), self._open.get(message.table)
        if strange := [name for name in columns if name not in table.schema.names]:
            raise TaskError(f"{table.name} has no column {strange[0]!r}, by which rows are to be replaced")
        if not message.keys.num_rows:
            return
        if rows is None or not _takes(rows, fresh):
            # of the rows that replace others some are often stored already, and are updated: they are to join the step
            rows = Step(Op.INSERT, message.table, table, tuple(table.schema.names))
            if op is Op.DELETE or not _takes(rows, fresh):
                self._keys(self._growing(fresh), message.keys)
                return
            self._begin(rows)
        rows.keys = rows.keys or fresh
        self._keys(rows.keys, message.keys, start=rows.size)

    def _keys(self, step: Step, keys: "pa.RecordBatch", *, start: int = 0) -> None:
        table = step.table
        if not step.columns or set(keys.schema.names) != set(step.columns):
            raise TaskError(
                f"{table.name}: keys have the columns {', '.join(keys.schema.names)}, "
                f"but its primary key is {', '.join(table.primary_key) or 'empty'}"
            )
        if keys.num_rows:
            prepared = self._prepare(table, keys.select(list(step.columns)), None)
            _check_keys(table, prepared, step.columns)
            self._grow(step, prepared, start)

    def _grow(self, step: Step, batch: "pa.RecordBatch", start: int) -> None:
        step.batches.append(batch)
        step.starts.append(start)
        step.rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._bytes > self._bytes_max:
            self.spill()


def _rises(columns: "Sequence[pa.ChunkedArray]") -> "pa.ChunkedArray":
    """For each row but the first, whether it is greater than the one before; the first column decides first."""
    first, *others = columns
    before, after = first[:-1], first[1:]
    rises = pc.less(before, after)
    return pc.or_(rises, pc.and_(pc.equal(before, after), _rises(others))) if others else rises


def _takes(step: Step, keys: Step) -> bool:
    """Whether keys can be merged with the rows of a step: they are whole rows, so what was stored does not matter."""
    whole = set(step.columns) >= set(step.table.schema.names) and not step.versioned and not step.table.version_order
    fits = step.keys is None or _alike(step.keys, keys)
    return step.op is Op.INSERT and whole and fits and step.table is keys.table


def _alike(one: Step, other: Step) -> bool:
    return (
        one.op is other.op
        and one.table is other.table
        and one.columns == other.columns
        and one.reread == other.reread
        and one.numbered == other.numbered
    )


def _check_keys(table: Table, batch: "pa.RecordBatch", key: Sequence[str]) -> None:
    what = "primary key" if tuple(key) == table.primary_key else "parent's key"
    for column in key:
        index = batch.schema.get_field_index(column)
        if index < 0:
            raise TaskError(f"{table.name}.{column}: rows came without this column of the {what}")
        if batch.column(index).null_count:
            raise TaskError(
                f"{table.name}.{column}: a row has a null in its {what}",
                hint="nothing of this window was written; name another primary_key, or fix the row at the source",
            )
