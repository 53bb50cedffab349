"""The database of the memory source: tables of dicts, changed by transactions, with a clock that a test sets."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, ClassVar, Self

from strandline.errors import RetryableError, StrandlineError, UsageError
from strandline.lazy import pa
from strandline.message import Cursor
from strandline.table import FULL_READ, Guarantee, Table

__all__ = ["MemoryStore", "MemoryTransaction", "Row", "Stored"]

_BY_KEY = Guarantee(
    "settled (server clock)", "stamps older than the transaction that writes them; deletes, unless swept"
)
_BY_CHANGE = Guarantee("settled (xid)", "deletes, unless swept or fed")


@dataclass(slots=True)
class Row:
    """A row as it was changed last."""

    values: Mapping[str, Any]
    number: int
    """Its place among all rows, which it keeps."""
    change: int
    """The number of its last change, in the order of commits."""


@dataclass(slots=True)
class Stored:
    """A table of a store."""

    table: Table
    rows: dict[object, Row] = field(default_factory=dict)
    """By primary key, or by number where the table has none."""
    deletes: dict[int, Mapping[str, Any] | None] = field(default_factory=dict)
    """Deleted keys by the number of the change; ``None``: all rows were deleted."""

    def key(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of the primary key."""
        return tuple(values.get(column) for column in self.table.primary_key)


class MemoryStore:
    """A database in memory, shared by all sources that name it. Safe to change from any thread, at any time.

    ::

        store = MemoryStore.named("shop")
        store.create(Table("orders", schema, primary_key=("id",), incremental_key=("updated_at",), incremental=True))
        store.now = 10
        store.upsert("orders", {"id": 1, "updated_at": 10})
        with store.begin() as late:                # its stamp is 10, however late it commits
            late.upsert("orders", {"id": 2, "updated_at": 10})
            store.now = 20
    """

    _named: ClassVar[dict[str, "MemoryStore"]] = {}

    def __init__(self) -> None:
        self.now: Any = None
        """What the clock shows, in the type of the incremental keys. ``None``: every row is stamped as it commits."""
        self.on_message: Callable[[str, int], None] = lambda _task, _number: None
        """Called before each message with the task's id and the message's number in its read; may change or raise."""
        self.failures: dict[str, StrandlineError] = {}
        """Tables that cannot be read, with what the source then reports."""
        self.acknowledged: dict[str, Mapping[str, Cursor]] = {}
        """By task, the cursors that were acknowledged last, by destination."""
        self.stored: dict[str, Stored] = {}
        self.lock = threading.RLock()
        self._open: list[MemoryTransaction] = []
        self._last_change = 0

    @classmethod
    def named(cls, name: str) -> "MemoryStore":
        """The store of that name, an empty one at first."""
        return cls._named.setdefault(name, cls())

    @classmethod
    def forget(cls, name: str) -> None:
        """Drop the store of that name, if there is one."""
        cls._named.pop(name, None)

    @property
    def horizon(self) -> Any:
        """No row that commits from now on has an older stamp; ``None`` without a clock."""
        with self.lock:
            stamps = [self.now, *(transaction.stamp for transaction in self._open)]
        return min((stamp for stamp in stamps if stamp is not None), default=None)

    def create(self, table: Table) -> None:
        """Create a table, or give the one of that name another definition. Its guarantee follows from its keys."""
        if len(table.incremental_key) > 1:
            raise UsageError(
                f"table {table.name!r} has {len(table.incremental_key)} incremental keys",
                hint="the memory source reads by one",
            )
        if table.incremental:
            table = replace(table, guarantee=_BY_KEY if table.incremental_key else _BY_CHANGE)
        else:
            table = replace(table, guarantee=FULL_READ)
        with self.lock:
            self.stored.setdefault(table.name, Stored(table)).table = table

    def begin(self) -> "MemoryTransaction":
        """A transaction, stamped now. Commits at the end of a ``with``."""
        transaction = MemoryTransaction(self)
        with self.lock:
            self._open.append(transaction)
        return transaction

    def upsert(self, name: str, *rows: Mapping[str, Any]) -> None:
        """Insert rows, or replace those of the same primary key, in a transaction of its own."""
        with self.begin() as transaction:
            transaction.upsert(name, *rows)

    def delete(self, name: str, *keys: Mapping[str, Any]) -> None:
        """Delete the rows of these primary keys, in a transaction of its own."""
        with self.begin() as transaction:
            transaction.delete(name, *keys)

    def truncate(self, name: str) -> None:
        """Delete all rows, in a transaction of its own."""
        with self.begin() as transaction:
            transaction.truncate(name)

    def rows(self, name: str) -> "pa.Table":
        """All rows as they are, in the order in which they were first inserted."""
        with self.lock:
            stored = self.stored[name]
            rows = sorted(stored.rows.values(), key=lambda row: row.number)
            return pa.Table.from_pylist([dict(row.values) for row in rows], schema=stored.table.schema)

    def fail_at(self, number: int, error: StrandlineError | None = None, *, times: int = 1) -> None:
        """Let reads raise in place of their message ``number`` (from 0), once, ``times``, or for ever (-1)."""
        left = times

        def fail(_task: str, at: int) -> None:
            nonlocal left
            if at == number and left:
                left -= 1
                raise error or RetryableError(f"the memory source was told to fail at message {number}")

        self.on_message = fail

    def commit(self, transaction: "MemoryTransaction") -> None:
        """Make what a transaction did visible, all at once."""
        with self.lock:
            for name, values, present in transaction.changes:
                self._last_change += 1
                _apply(self.stored[name], values, change=self._last_change, present=present)
            self.abandon(transaction)

    def abandon(self, transaction: "MemoryTransaction") -> None:
        """End a transaction; what it did and did not commit was never there."""
        with self.lock:
            if transaction in self._open:
                self._open.remove(transaction)


def _apply(stored: Stored, values: Mapping[str, Any] | None, *, change: int, present: bool) -> None:
    if values is None:
        stored.rows.clear()
        stored.deletes[change] = None
    elif present:
        key = stored.key(values) if stored.table.primary_key else change
        known = stored.rows.get(key)
        stored.rows[key] = Row(values, known.number if known else change, change)
    elif stored.rows.pop(stored.key(values), None):
        stored.deletes[change] = values


class MemoryTransaction:
    """Changes that become visible together, at ``commit``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.stamp = store.now
        """What the clock showed when it began."""
        self.changes: list[tuple[str, Mapping[str, Any] | None, bool]] = []
        """Table; the row, the deleted key, or ``None`` for all rows; whether the row is there afterwards."""

    def upsert(self, name: str, *rows: Mapping[str, Any]) -> None:
        """Insert rows, or replace those of the same primary key. A column that is left out is null."""
        for row in rows:
            self._check(name, row)
            self.changes.append((name, dict(row), True))

    def delete(self, name: str, *keys: Mapping[str, Any]) -> None:
        """Delete the rows of these primary keys; none there is no error."""
        columns = self._store.stored[name].table.primary_key
        for key in keys:
            if set(key) != set(columns) or not columns:
                raise UsageError(
                    f"a row of {name!r} is deleted by its primary key, which is {columns}, not by {set(key)}"
                )
            self.changes.append((name, dict(key), False))

    def truncate(self, name: str) -> None:
        """Delete all rows."""
        self._check(name, {})
        self.changes.append((name, None, False))

    def commit(self) -> None:
        """Make the changes visible."""
        self._store.commit(self)

    def rollback(self) -> None:
        """Forget the changes."""
        self._store.abandon(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()

    def _check(self, name: str, row: Mapping[str, Any]) -> None:
        if name not in self._store.stored:
            raise UsageError(f"there is no table {name!r} in the store", hint="create it first")
        unknown = sorted(set(row) - set(self._store.stored[name].table.schema.names))
        if unknown:
            raise UsageError(f"table {name!r} has no column {unknown[0]!r}")
