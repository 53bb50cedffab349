"""A destination in memory: the reference model of the contract, and what tests use in place of a mock.

Everything is one value, ``Data``. A transaction changes a copy under the store's lock and puts the copy in place when
all of it succeeded, so that a reader, and whoever fails midway, sees all of a window or none of it.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.arrow.changes import changes_of, left_as_stored
from strandline.connectors.memory.data import Data, States, Store
from strandline.destination import (
    RECREATE,
    Capabilities,
    Change,
    Delivery,
    Fence,
    Held,
    MigrateMode,
    Migration,
    Reach,
    Receipt,
    Scope,
    Window,
    WriteMode,
)
from strandline.errors import TaskError
from strandline.fold import Fold, Rows, batch_of
from strandline.lazy import pa
from strandline.ownership import Owner, Ownership, check_writer, claimed, followed, refusal
from strandline.state import StateKey
from strandline.table import Table

__all__ = ["MemoryDestination"]

_READ_ROWS = 65_536


_STORES: dict[tuple[str, str], Store] = {}
_STORES_LOCK = threading.Lock()


class MemoryDestination:
    """Stores tables in the process, and the states with them in one transaction.

    Every instance of one ``name`` and ``schema`` shares one store, so that closing one and constructing another is a restart.
    """

    class Spec(BaseModel):
        """The settings of the destination ``memory``."""

        model_config = ConfigDict(extra="forbid")

        name: str = Field("default", description="Which store of this process to use; it lives as long as the process.")
        schema_name: str = Field("main", alias="schema", min_length=1, description="Part of the store's name.")

    capabilities = Capabilities(
        write_modes=frozenset(WriteMode), delivery=Delivery.ATOMIC, orders_versions=True, reach=Reach.PROCESS
    )

    def __init__(self, spec: Spec) -> None:
        self._place = spec.name, spec.schema_name
        with _STORES_LOCK:
            self._store = _STORES.setdefault(self._place, Store())

    @staticmethod
    def reset(name: str = "default") -> None:
        """Forget the stores of that name; handles that are open keep the old ones."""
        with _STORES_LOCK:
            for place in [place for place in _STORES if place[0] == name]:
                del _STORES[place]

    def drop_table(self, name: str) -> None:
        """Drop a table behind the engine's back, as a user might."""
        with self._store.lock:
            data = self._store.data.copy()
            data.drop(name)
            self._store.data = data

    @property
    def states(self) -> States:
        """The states kept beside the rows."""
        return States(self._store)

    def places(self) -> Sequence[str]:
        """The store; see ``strandline.place``."""
        return [f"memory destination {self._place[0]}/{self._place[1]}"]

    def migrate(
        self,
        table: Table,
        *,
        mode: MigrateMode,
        fence: Fence,
        apply: bool = True,
        ownership: Ownership | None = None,
        replaces: Scope | None = None,
    ) -> Migration:
        """Make the stored table fit ``table``."""
        with self._store.lock:
            data = self._store.data.copy(table.name)
            stored, owners = data.tables.get(table.name), data.owners.get(table.name, ())
            found = _found((), stored, owners)
            exists = stored is not None
            refused = ownership and refusal(
                table.name, ownership, owners, exists=exists, empty=found.empty, recreates=False
            )
            others = [str(one) for one in owners if ownership and not one.is_same(ownership.owner)]
            changes, kept, users = changes_of(stored, table, mode, replaces, others) if not refused else ([], {}, ())
            found, table = replace(found, changes=tuple(changes)), table.keeping(kept)
            if apply:
                data.check(fence)
                recreates = any(change.kind == RECREATE for change in changes)
                if ownership is not None:
                    owners = claimed(
                        table.name, ownership, owners, exists=exists, empty=found.empty, recreates=recreates
                    )
                if stored is None or recreates:
                    data.drop(table.name)
                    stored = data.tables[table.name] = Rows(table)
                else:
                    stored.table = left_as_stored(stored.table, table, changes)
                if ownership is not None:
                    data.owners[table.name] = owners
                self._store.data = data
        return replace(_found(changes, stored, found.owners), kept=kept, users=users)

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``, or nothing."""
        messages = list(window)
        with self._store.lock:
            data = self._store.data.copy(*(table.name for table in window.tables.values()))
            data.check(fence)
            fold = _Fold(data, window, mode)
            fold.take(messages)
            for table in fold.written:
                check_writer(table, Owner(fence.source, fence.destination), data.owners.get(table, ()))
            window.emptied(fold.emptied(), fold.lacking)
            token = data.commits.save(window.key, window.state, window.expected)
            self._store.data = data
        return fold.receipt(replace(window.state, token=token))

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there are rows of a scope."""
        stored = self._store.data.tables.get(table.name)
        return Held(stored is not None and stored.in_scope(scope) > 0)

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The rows as they are stored now; what is committed later is not among them."""
        schema = pa.schema([table.schema.field(name) for name in columns or table.schema.names])
        if table.name not in self._store.data.tables:
            raise TaskError(f"there is no table {table.name!r}", hint="it was dropped meanwhile, or never migrated")
        rows = list(self._store.data.tables[table.name])
        return (batch_of(rows[at : at + _READ_ROWS], schema) for at in range(0, len(rows), _READ_ROWS))

    def close(self) -> None:
        """Nothing is held."""


class _Fold(Fold):
    """With the owners and the states beside the rows."""

    def __init__(self, data: Data, window: Window, mode: WriteMode) -> None:
        super().__init__(
            window,
            mode,
            data.tables,
            data.delivered,
            before_swap=lambda stored, table: changes_of(stored, table, MigrateMode.SAFE, window.scope),
        )
        self._data = data

    def _adopt(self, table: Table, former: StateKey) -> None:
        super()._adopt(table, former)
        old, new = (Owner(key.source, key.destination) for key in (former, self._key))
        self._data.owners[table.name] = followed(self._data.owners.get(table.name, ()), old, new)
        self._data.give_up(former, follower=self._key)

    def _drop(self, name: str) -> None:
        self._data.drop(name)


def _found(changes: Sequence[Change], stored: Rows | None, owners: tuple[Owner, ...] | None) -> Migration:
    mark, empty = (stored.mark, not stored.rows) if stored is not None else (None, True)
    return Migration(tuple(changes), mark, empty, owners)
