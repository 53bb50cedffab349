"""What the cases of the destination suite share: fixtures, tables, and what a declared inability comes to."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from strandline.destination import Delivery, Destination, WriteMode
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Delete, Present, Replace, Stale, Swap, Truncate
from strandline.state import KeepsState
from strandline.table import CLIENT_ID, CQ_ID, SOURCE_NAME, SYNC_TIME, Table, sync_time_type
from strandline.testing.data import families, random_columns
from strandline.testing.exact import assert_same_rows
from strandline.testing.windows import Lineage, batch_of

__all__ = [
    "REFUSALS",
    "DestinationFixtures",
    "Reopen",
    "Stranger",
    "all_types_rows",
    "keys",
    "needs",
    "orders",
    "refuses",
    "same",
    "unkeyed",
]

Reopen = Callable[[], Destination]
Stranger = Callable[[str, str], list[tuple[Any, ...]]]
"""Somebody else at the same database: runs a statement of SQL, in which ``{table}`` is the stored table of the name that comes
first, commits it, and returns its rows."""
Case = TypeVar("Case", bound=Callable[..., None])

REFUSALS = (UsageError, TaskError)
"""What a destination raises for what it cannot do."""

_PROBE = "probe"


class DestinationFixtures:
    """Subclass the suite, and provide the fixtures ``destination`` and ``reopen``."""

    @pytest.fixture
    def destination(self) -> Iterator[Destination]:
        """A destination that holds nothing; closed after the test, perhaps for the second time."""
        raise NotImplementedError

    @pytest.fixture
    def reopen(self) -> Reopen:
        """Opens what ``destination`` stored, as after a restart.

        The suite has closed ``destination`` before it calls, and closes what it gets.
        """
        raise NotImplementedError

    @pytest.fixture
    def stranger(self) -> Stranger | None:
        """Somebody else at the same database; ``None``: nobody can attach anything to a table of this destination.

        The suite has closed ``destination`` before it calls, and goes on with it afterwards.
        """
        return None

    @pytest.fixture
    def lineage(self, destination: Destination) -> Lineage:
        """What most tests write with: a task that overwrites, or appends if that is all there is."""
        modes = destination.capabilities.write_modes
        return Lineage(destination, WriteMode.OVERWRITE if WriteMode.OVERWRITE in modes else WriteMode.APPEND)


def orders(name: str = "orders", /, *, partitioned: bool = False, **columns: "pa.DataType") -> Table:
    """A table with the primary key ``id``, and the columns ``name`` and ``note``; or with other columns than these."""
    others = columns or {"name": pa.string(), "note": pa.string()}
    fields = [pa.field(SYNC_TIME, sync_time_type()), pa.field(SOURCE_NAME, pa.string())]
    if partitioned:
        fields.append(pa.field(CLIENT_ID, pa.string()))
    fields += [pa.field("id", pa.int64()), *(pa.field(column, kind) for column, kind in others.items())]
    return Table(name, pa.schema(fields), ("id",))


def unkeyed(name: str = "events") -> Table:
    """A table without a primary key of its own: its key is ``_cq_id``, which the destination makes."""
    fields = [
        pa.field(SYNC_TIME, sync_time_type()),
        pa.field(SOURCE_NAME, pa.string()),
        pa.field(CQ_ID, pa.uuid()),
        pa.field("id", pa.int64()),
        pa.field("name", pa.string()),
    ]
    return Table(name, pa.schema(fields), (CQ_ID,))


def keys(table: Table, *ids: Any) -> "pa.RecordBatch":
    """Keys of a table with a simple primary key, as ``Delete`` and ``Present`` carry them."""
    return batch_of(table, {table.primary_key[0]: list(ids)})


def all_types_rows(lineage: Lineage, table: Table, *, nulls: bool = False) -> "pa.RecordBatch":
    """Ten rows of all columns."""
    key = {} if table.primary_key == (CQ_ID,) else {"id": list(range(10))}
    return lineage.batch(table, **key, **random_columns(table, 10, nulls=nulls))


def same(lineage: Lineage, table: Table, *expected: "pa.RecordBatch") -> None:
    """Fail unless the table holds exactly these rows. A ``_cq_id`` that is not expected is not compared."""
    columns = [name for name in table.schema.names if name != CQ_ID]
    if table.primary_key != (CQ_ID,) or any(CQ_ID in batch.schema.names for batch in expected):
        columns = table.schema.names
    assert_same_rows(expected, lineage.read(table), table, *columns)


def needs(
    mode: WriteMode | None = None, *, deletes: bool = False, replace: bool = False, states: bool = False
) -> Callable[[Case], Case]:
    """Run a case in ``mode`` (or the lineage's own) where the destination declares what the case needs.

    Elsewhere check that the destination refuses it. The case takes the fixture ``lineage``.
    """

    def decorate(case: Case) -> Case:
        @functools.wraps(case)
        def run(*args: Any, lineage: Lineage, **fixtures: Any) -> None:
            lineage.mode = mode or lineage.mode
            if not refuses(lineage, deletes=deletes, replace=replace, states=states):
                case(*args, lineage=lineage, **fixtures)

        return run  # type: ignore[return-value]

    return decorate


def refuses(lineage: Lineage, *, deletes: bool = False, replace: bool = False, states: bool = False) -> bool:
    """Whether the destination declares that it cannot do what is asked for; if so, that it keeps to it."""
    able, table = lineage.destination.capabilities, orders(_PROBE)
    if lineage.mode not in able.write_modes:
        lineage.migrate(table)
        with pytest.raises(REFUSALS):
            lineage.write(lineage.insert(table, id=[1], name=["a"], note=["b"]))
        return True
    if deletes and not able.deletes:
        lineage.migrate(table)
        one = keys(table, 1)
        gone = (
            Delete(table.name, one),
            Truncate(table.name),
            Present(table.name, one),
            Replace(table.name, one),
            Stale(table.name),
        )
        for message in gone if lineage.mode is not WriteMode.APPEND else ():
            with pytest.raises(REFUSALS):
                lineage.write(message)
        return True
    if replace and not able.replace:
        lineage.migrate(table, table.named("hidden"))
        with pytest.raises(REFUSALS):
            lineage.write(Swap(table.name, "hidden"))
        return True
    if states and able.delivery is not Delivery.ATOMIC:
        assert not isinstance(lineage.destination, KeepsState)
        lineage.migrate(table)
        assert lineage.write(lineage.insert(table, id=[1], name=["a"], note=["b"])).state is None
        return True
    return False


def refuses_type(lineage: Lineage, kind: "pa.DataType") -> bool:
    """Whether the destination declares that it cannot store a type; then that it does not create such a table."""
    refused = families(kind) & set(lineage.destination.capabilities.types_refused)
    if refused:
        with pytest.raises(REFUSALS):
            lineage.migrate(orders(value=kind))
        assert lineage.migrate(orders(), apply=False).mark is None
        assert all(lineage.destination.capabilities.types_refused[family] for family in refused)
    return bool(refused)
