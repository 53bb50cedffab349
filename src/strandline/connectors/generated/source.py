"""Rows made from a seed: of every Arrow type, as many as asked, and changing from sync to sync.

A row's content is a function of the seed, the table, its id and its version, and which rows a sync changes is a function
of the seed, the table and the sync's number. So the source needs no memory, a cursor is a sync's number with the number
of its next row, and what a destination must hold after n syncs can be computed (``expected``, ``delivered``).
"""

import fnmatch
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from strandline.connectors.generated.values import BASIC, TYPES, arrow_type, column, mixed, seeded
from strandline.describe import Description, Place
from strandline.errors import StateError
from strandline.lazy import pa, pc
from strandline.message import Checkpoint, Complete, Cursor, Insert, SourceMessage
from strandline.reading import Reading
from strandline.source import Task
from strandline.table import FULL_READ, Guarantee, Table

__all__ = ["GeneratedSource"]

_ROWS_MAX = 1 << 31
"""Products of two row numbers have to fit into 63 bits."""
_FIRST_UPDATE_US = 1_704_067_200_000_000  # 2024-01-01, and a day further with each sync
_DAY_US = 86_400_000_000
_SETTLED = Guarantee("settled (generated)", "a full refresh sees the table as it was at its first sync")


class GeneratedSource:
    """Reads tables ``test_1``, ``test_2`` … that exist nowhere."""

    description = Description(schemes=("test",), examples=("test://",))

    @classmethod
    def understand(cls, written: str) -> Place | None:
        """``test://``; see ``strandline.describe.Understands``."""
        return Place({}, "test", "generated rows") if written == "test://" else None

    class Spec(BaseModel):
        """Settings of the ``test`` source."""

        model_config = ConfigDict(extra="forbid")

        rows: int = Field(1000, ge=0, le=_ROWS_MAX, description="rows of each table at its first sync")
        tables: int = Field(1, ge=1, le=1000, description="how many tables")
        types: str | list[str] = Field(
            "basic", description="columns beside id, version and updated_at: basic, all, or globs such as timestamp_*"
        )
        seed: int = Field(0, ge=0, lt=1 << 63, description="another seed makes other rows")
        changed: float = Field(0, ge=0, le=1, description="share of the rows that each later sync finds changed")
        added: int = Field(0, ge=0, le=_ROWS_MAX, description="rows that each later sync finds new")
        incremental: bool = Field(True, description="read only what changed; else all of the table at every sync")

        @model_validator(mode="after")
        def _consistent(self) -> Self:
            if not self.incremental and (self.changed or self.added):
                raise ValueError("rows change only in incremental tables: leave out `changed` and `added`")
            self.columns()
            return self

        def columns(self) -> list[str]:
            """The chosen columns, in the order of ``TYPES``."""
            patterns = [self.types] if isinstance(self.types, str) else self.types
            chosen: set[str] = set()
            for pattern in patterns:
                names = {"basic": BASIC, "all": TYPES}.get(pattern) or fnmatch.filter(TYPES, pattern)
                if not names:
                    raise ValueError(f"no type matches {pattern!r}; the types are basic, all, {', '.join(TYPES)}")
                chosen.update(names)
            return [name for name in TYPES if name in chosen]

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def tables(self) -> Sequence[Table]:
        """``test_1`` and so on."""
        spec = self.spec
        fields = [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("version", pa.int64(), nullable=False),
            pa.field("updated_at", pa.timestamp("us", tz="UTC"), nullable=False),
            *(pa.field(name, arrow_type(TYPES[name])) for name in spec.columns()),
        ]
        selection = f"seed={spec.seed} rows={spec.rows} changed={spec.changed!r} added={spec.added}"
        return [
            Table(
                f"test_{number}",
                pa.schema(fields),
                primary_key=("id",),
                incremental_key=("updated_at",) if spec.incremental else (),
                incremental=spec.incremental,
                description="Rows made from a seed.",
                guarantee=_SETTLED if spec.incremental else FULL_READ,
                selection=selection,
                rows_about=spec.rows,
            )
            for number in range(1, spec.tables + 1)
        ]

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task]:
        """One for each table."""
        return [Task(table.name, (table,)) for table in tables]

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """The rows of the sync that ``cursor`` names, from the row that it names."""
        [table] = task.tables
        generator = _Generator(self.spec, table)
        sync, row = _place(reading.cursor)
        end = generator.rows_of(sync)
        step = generator.batch_rows(reading)
        while row < end:
            stop = min(row + step, end)
            yield Insert(table.name, generator.delivery(sync, row, stop))
            row = stop
            yield Checkpoint({"sync": sync, "row": row})
        yield Complete(table.name)
        yield Checkpoint({"sync": sync + 1, "row": 0} if self.spec.incremental else None)

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """Nothing is kept, so nothing is let go."""

    def close(self) -> None:
        """Nothing is held."""

    def expected(self, name: str, syncs: int) -> "pa.Table":
        """All rows of a table as they are after so many syncs (1: after the first), by id. In memory."""
        generator = self._generator(name)
        ids = pa.arange(0, generator.total(syncs - 1))
        return pa.Table.from_batches([generator.batch(ids, generator.versions(ids, syncs - 1))])

    def delivered(self, name: str, syncs: int) -> "pa.Table":
        """All row versions that so many syncs deliver, in the order of delivery: what appending them makes. In memory."""
        generator = self._generator(name)
        return pa.Table.from_batches(
            [generator.delivery(sync, 0, generator.rows_of(sync)) for sync in range(syncs)], generator.table.schema
        )

    def _generator(self, name: str) -> "_Generator":
        return next(_Generator(self.spec, table) for table in self.tables() if table.name == name)


def _place(cursor: Cursor | None) -> tuple[int, int]:
    """The number of a sync, and of its next row."""
    match cursor:
        case None:
            return 0, 0
        case {"sync": int(sync), "row": int(row)} if sync >= 0 and row >= 0:
            return sync, row
    raise StateError(
        f"the cursor {cursor!r} is not one of the test source",
        hint="restore an older state, or read the table again: strandline sync --full-refresh TABLE",
    )


class _Generator:
    """The rows of one table.

    Sync 0 delivers the first rows. A later one finds a share of the rows that were there changed, those whose ids are
    start, start + stride, start + 2 stride … (modulo their number, to which the stride has no common divisor, so that
    no id comes twice), and then new ones. A row's version is the number of the sync that changed it last.
    """

    def __init__(self, spec: GeneratedSource.Spec, table: Table) -> None:
        self.spec = spec
        self.table = table
        self._salt = zlib.crc32(f"{spec.seed} {table.name}".encode()) << 32 ^ spec.seed

    def total(self, sync: int) -> int:
        """How many rows there are at a sync."""
        return self.spec.rows + sync * self.spec.added

    def rows_of(self, sync: int) -> int:
        """How many rows a sync delivers."""
        return self._changed(sync) + self.spec.added if sync else self.spec.rows

    def _changed(self, sync: int) -> int:
        return round(self.spec.changed * self.total(sync - 1))

    def _walk(self, sync: int) -> tuple[int, int, int]:
        """Start, stride and modulus of the ids that a sync changes."""
        modulus = max(self.total(sync - 1), 1)
        stride = max(int(modulus * 0.618), 1)
        while math.gcd(stride, modulus) != 1:
            stride += 1
        return zlib.crc32(f"{self._salt} {sync}".encode()) % modulus, stride, modulus

    def delivery(self, sync: int, start: int, stop: int) -> "pa.RecordBatch":
        """The rows ``start`` to ``stop`` of those that a sync delivers."""
        if sync == 0:
            ids = pa.arange(start, stop)
        else:
            first, stride, modulus = self._walk(sync)
            changed = self._changed(sync)
            steps = pa.arange(min(start, changed), min(stop, changed))
            old = _modulo(pc.add(pc.multiply(steps, pa.scalar(stride)), pa.scalar(first)), modulus)
            new = self.total(sync - 1) - changed
            ids = pa.concat_arrays([old, pa.arange(new + max(start, changed), new + max(stop, changed))])
        return self.batch(ids, pa.repeat(pa.scalar(sync, pa.int64()), len(ids)))

    def versions(self, ids: "pa.Array", sync: int) -> "pa.Array":
        """The number of the sync that changed each row last, up to and with ``sync``."""
        versions = pc.multiply(ids, pa.scalar(0))
        for number in range(1, sync + 1):
            first, stride, modulus = self._walk(number)
            steps = pc.multiply(
                _modulo(pc.subtract(ids, pa.scalar(first)), modulus), pa.scalar(pow(stride, -1, modulus))
            )
            changed = pc.less(_modulo(steps, modulus), pa.scalar(self._changed(number)))
            known = pc.less(ids, pa.scalar(self.total(number - 1)))
            new = pc.and_not(pc.less(ids, pa.scalar(self.total(number))), known)
            versions = pc.if_else(pc.or_(pc.and_(known, changed), new), pa.scalar(number), versions)
        return versions

    def batch(self, ids: "pa.Array", versions: "pa.Array") -> "pa.RecordBatch":
        """The rows of these ids in these versions."""
        bits = pc.add(ids.cast(pa.uint64()), pa.scalar(self._salt, pa.uint64()))
        bits = pc.add(mixed(bits), versions.cast(pa.uint64()))
        bits = mixed(bits)
        updated = pc.add(pc.multiply(versions, pa.scalar(_DAY_US)), pa.scalar(_FIRST_UPDATE_US))
        columns = [ids, versions, updated.view(pa.timestamp("us", tz="UTC"))]
        made = list(self.table.schema)[len(columns) :]
        columns += [column(field.type, seeded(bits, zlib.crc32(field.name.encode()))) for field in made]
        return pa.RecordBatch.from_arrays(columns, schema=self.table.schema)

    def batch_rows(self, reading: Reading) -> int:
        """How many rows fit into a batch, by the size of a few, with room for larger ones."""
        ids = pa.arange(0, 256)
        row_bytes = self.batch(ids, ids).nbytes / len(ids)
        return max(1, min(reading.batch_rows, int(reading.batch_bytes / (1.25 * row_bytes))))


def _modulo(numbers: "pa.Array", modulus: int) -> "pa.Array":
    """Remainders from 0, for numbers above ``-modulus``."""
    numbers = pc.add(numbers, pa.scalar(modulus))
    whole = pc.divide(numbers, pa.scalar(modulus))
    return pc.subtract(numbers, pc.multiply(whole, pa.scalar(modulus)))
