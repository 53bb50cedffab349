"""One window into tables in memory, message by message."""

import struct
from collections import Counter
from dataclasses import replace

from strandline.connectors.arrow.changes import merged
from strandline.connectors.memory.data import Data, DeliveredRows
from strandline.connectors.memory.rows import Key, Row, changes_of, is_in, is_stale, keys_of, order_of
from strandline.destination import LACKING_MAX, MigrateMode, Window, WriteMode
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.message import (
    Adopt,
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
from strandline.ownership import Owner, followed
from strandline.state import Pass, StateKey
from strandline.table import CQ_ID, SOURCE_NAME, SYNC_TIME, Table, sync_time_type

__all__ = ["Merge"]


class Merge:
    """Takes the messages of one window into a copy of the data, in stream order."""

    def __init__(self, data: Data, window: Window, mode: WriteMode) -> None:
        self.rows: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self._data, self._tables, self._scope, self._key = data, window.tables, window.scope, window.key
        self._pass: Pass = window.pass_
        self._appends, self._mirrors = mode is WriteMode.APPEND, mode is WriteMode.OVERWRITE_DELETE_STALE
        self._present: dict[str, list[Key]] = {}
        self._swept = 0
        self._replaced: dict[str, set[Key]] = {}
        """Children that were replaced, and that no row has taken the place of."""
        self.lacking: dict[str, tuple[int, ...]] = {}
        self.written: set[str] = set()
        """Tables that a message was about."""
        if not self._appends:
            # rows will change and go without the delivered set, which would then claim what is not there
            for table in self._tables.values():
                delivered = self._delivered(table)
                delivered.versions, delivered.seen = Counter(), Counter()

    def take(self, message: WindowMessage) -> None:
        """Apply one message."""
        match message:
            case Insert():
                self._insert(message)
            case Complete(table=name):
                self._complete(name)
            case Delete(table=name, keys=keys) if not self._appends:
                stored = self._data.stored(self._table(name))
                stored.remove_keys(self._scope, keys_of(stored.table, keys))
            case Truncate(table=name) if not self._appends:
                self._data.stored(self._table(name)).remove(self._scope)
            case Replace(table=name, keys=keys) if not self._appends:
                stored = self._data.stored(self._table(name))
                self._replaced.setdefault(name, set()).update(stored.remove_children(self._scope, keys))
            case Present(table=name, keys=keys) if not self._appends:
                self._present.setdefault(name, []).extend(keys_of(self._table(name), keys))
            case _:
                self._settle(message)

    def _settle(self, message: WindowMessage) -> None:
        """What only the engine sends."""
        match message:
            case Swap(table=name, hidden=hidden):
                self._swap(self._table(name), hidden)
            case Stale(table=name):
                stored = self._data.stored(self._table(name))
                self._swept += stored.remove_guarded(self._scope, of=lambda _key, row: is_stale(row, self._scope))
            case Adopt(table=name):
                self._adopt(self._table(name), message)
            case Forget(table=name, drop=drop):
                self._data.delivered.pop((self._key, name), None)
                if drop:
                    self._data.drop(name)

    @property
    def removed(self) -> int:
        """See ``strandline.destination.Receipt``."""
        return self._swept + sum(map(len, self._replaced.values()))

    def emptied(self) -> list[str]:
        """Tables without a row of the scope."""
        stored = {name: self._data.tables.get(table.name) for name, table in self._tables.items()}
        return [name for name, one in stored.items() if one is not None and not one.in_scope(self._scope)]

    def _insert(self, message: Insert) -> None:
        table, batch = self._table(message.table), message.batch
        stored, delivered = self._data.stored(table), self._delivered(table)
        strange = [name for name in batch.schema.names if name not in stored.table.schema.names]
        if strange:
            raise TaskError(f"{table.name} has no column {strange[0]!r}")
        if not self._appends and not table.primary_key:
            raise UsageError(f"table {table.name!r} has no primary key, so its rows cannot be overwritten")
        if not self._appends and table.version_order and table.version_order not in batch.schema.names:
            raise TaskError(f"{table.name}: rows came without {table.version_order!r}, which orders their versions")
        known: set[int] = set()
        if self._appends and message.reread:
            known = _known(delivered, _versions(message), once=not _without_key(table, batch))
        if table.primary_key == (CQ_ID,) and _without_key(table, batch):
            batch = _with_ids(batch, table, _versions(message), delivered.numbered)
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        replaced = self._replaced.get(message.table, set())
        for index, key in enumerate(keys_of(table, batch)):
            if index in known:
                continue
            replaced.discard(key)
            row: Row = {name: (column, index) for name, column in columns.items()}
            before = stored.rows.get(key, ())
            if not self._appends and table.version_order and before and self._is_older(row, before[-1], table):
                if self._tells_stale and is_in(before[-1], self._scope):
                    time = pa.array([self._pass.sync_time_us], sync_time_type())
                    stored.rows[key] = (before[-1] | {SYNC_TIME: (time, 0)},)
                continue
            stored.rows[key] = (*before, row) if self._appends else ({**(before[-1] if before else {}), **row},)
        self.rows[message.table] += batch.num_rows
        self.known[message.table] += len(known)

    @property
    def _tells_stale(self) -> bool:
        """Whether rows are stale that this pass has not delivered."""
        return self._pass.full or bool(self._pass.stale_us)

    def _is_older(self, row: Row, stored: Row, table: Table) -> bool:
        """Whether it does not take the place of a stored one: see ``Table.version_order``."""
        name = table.version_order
        if self._mirrors and self._tells_stale and is_in(stored, self._scope) and is_stale(stored, self._scope):
            return False
        kind = table.schema.field(name).type
        new, old = order_of(row, name, kind), order_of(stored, name, kind)
        return old is not None and (new is None or new < old)

    def _complete(self, name: str) -> None:
        table, present = self._table(name), self._present.pop(name, None)
        if present is not None:
            stored, keys = self._data.stored(table), set(present)
            self._swept += stored.remove_guarded(self._scope, of=lambda key, _row: key not in keys)
            lacking = tuple(place for place, key in enumerate(present) if key not in stored.rows)
            self.lacking |= {name: lacking[: LACKING_MAX + 1]} if lacking else {}
        delivered = self._delivered(table)
        delivered.versions = delivered.seen.copy()

    def _swap(self, table: Table, hidden: str) -> None:
        stored, new = self._data.stored(table), self._data.stored(table.named(hidden))
        stored.guard(self._scope, stored.in_scope(self._scope) - sum(len(rows) for rows in new.rows.values()))
        changes, _, _ = changes_of(stored, table, MigrateMode.SAFE, self._scope)
        stored.remove(self._scope)
        stored.table = replace(table, schema=merged(stored.table.schema, table.schema)) if changes else stored.table
        for key, rows in new.rows.items():
            stored.rows[key] = (*stored.rows.get(key, ()), *rows) if self._appends else rows
        inherited = [delivered for place, delivered in self._data.delivered.items() if place[1] == hidden]
        self._data.delivered.pop((self._key, table.name), None)
        self._data.drop(hidden)
        for delivered in inherited:  # one: a hidden table is written by one lineage
            self._data.delivered[self._key, table.name] = delivered.copy()

    def _adopt(self, table: Table, before: Adopt) -> None:
        theirs, column = replace(self._scope, source_name=before.source), pa.array([self._scope.source_name])
        stored = self._data.stored(table)
        stored.rows = {
            key: tuple(row | {SOURCE_NAME: (column, 0)} if is_in(row, theirs) else row for row in rows)
            for key, rows in stored.rows.items()
        }
        former = StateKey(before.source, before.task, before.destination)
        delivered = self._data.delivered.pop((former, table.name), None)
        if delivered is not None:
            self._data.delivered[self._key, table.name] = delivered
        old, new = (Owner(key.source, key.destination) for key in (former, self._key))
        self._data.owners[table.name] = followed(self._data.owners.get(table.name, ()), old, new)
        self._data.give_up(former, follower=self._key)

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            raise TaskError(f"{name!r} is not a table of the task {self._key}")
        self.written.add(self._tables[name].name)
        return self._tables[name]

    def _delivered(self, table: Table) -> DeliveredRows:
        """What this lineage has delivered of the table, with the counts of this pass."""
        fresh = DeliveredRows(self._pass.sync_time_us)
        delivered = self._data.delivered.setdefault((self._key, table.name), fresh)
        if delivered.sync_time_us != self._pass.sync_time_us:
            delivered.sync_time_us, delivered.seen, delivered.numbered = fresh.sync_time_us, Counter(), Counter()
        return delivered


def _without_key(table: Table, batch: "pa.RecordBatch") -> bool:
    """Whether equal rows are several rows, told apart by counting them."""
    return table.primary_key in {(), (CQ_ID,)} and CQ_ID not in batch.schema.names


def _versions(message: Insert) -> list[bytes]:
    if message.version is None:
        raise TaskError(f"{message.table}: rows came without their versions")
    versions: list[bytes] = message.version.to_pylist()
    return versions


def _known(delivered: DeliveredRows, versions: list[bytes], *, once: bool) -> set[int]:
    """Which rows are stored already; the others count as stored from here on."""
    known = set()
    for index, version in enumerate(versions):
        delivered.seen[version] = 1 if once else delivered.seen[version] + 1
        if delivered.seen[version] <= delivered.versions[version]:
            known.add(index)
        else:
            delivered.versions[version] = delivered.seen[version]
    return known


def _with_ids(
    batch: "pa.RecordBatch", table: Table, versions: list[bytes], numbered: Counter[bytes]
) -> "pa.RecordBatch":
    """The batch with ``_cq_id``: 12 bytes of content, 4 bytes of its number in the pass."""
    ids = []
    for content in (version[:12] for version in versions):
        ids.append(content + struct.pack(">I", numbered[content]))
        numbered[content] += 1
    wanted, values = table.schema.field(CQ_ID), pa.array(ids, pa.binary(16))
    if isinstance(wanted.type, pa.BaseExtensionType):
        values = pa.ExtensionArray.from_storage(wanted.type, values)
    return batch.append_column(wanted, values)
