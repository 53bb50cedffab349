"""One window folded into rows by key, message by message: what ``Destination.write`` says of each of them."""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from strandline.destination import LACKING_MAX, Receipt, Window, WriteMode
from strandline.errors import TaskError, UsageError
from strandline.fold.rows import Key, Row, Rows, is_in, is_stale, keys_of, order_of, value_of
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
from strandline.state import State, StateKey
from strandline.table import CQ_ID, SOURCE_NAME, SYNC_TIME, Table, sync_time_type

__all__ = ["Delivered", "Fold"]


@dataclass(slots=True)
class Delivered:
    """What a lineage has delivered of a table: the delivered set, and what its pass has delivered so far."""

    sync_time_us: int = 0
    """Of the pass."""
    versions: Counter[bytes] = field(default_factory=Counter)
    """The delivered set: how many rows of each version are stored. Of atomic destinations only."""
    seen: Counter[bytes] = field(default_factory=Counter)
    """The rows that this pass delivered and that may be read again, by version."""
    numbered: Counter[bytes] = field(default_factory=Counter)
    """All rows that this pass delivered without a key of their own, by content."""
    window: str = ""
    """The window that came last."""
    before: Counter[bytes] = field(default_factory=Counter)
    """``numbered`` when it began: from there on it is counted where it comes again."""

    def begin(self, window: Window) -> None:
        """Another window, or the same one once more."""
        if self.sync_time_us != window.pass_.sync_time_us:
            self.sync_time_us, self.window = window.pass_.sync_time_us, ""
            self.seen, self.numbered = Counter(), Counter()
        if self.window == window.id:
            self.numbered = self.before.copy()
        else:
            self.window, self.before = window.id, self.numbered.copy()

    def copy(self) -> "Delivered":
        """One that may be changed."""
        return replace(self, versions=self.versions.copy(), seen=self.seen.copy(), numbered=self.numbered.copy())

    def numbers(self) -> dict[str, Any]:
        """As JSON, for a store that keeps no delivered set: by what it numbers the rows of the next window."""
        counts = {name: {content.hex(): n for content, n in getattr(self, name).items()} for name in _NUMBERS}
        return {"pass": self.sync_time_us, "window": self.window, **counts}

    @classmethod
    def of_numbers(cls, kept: Mapping[str, Any]) -> "Delivered":
        """The inverse of ``numbers``."""
        counts = {name: Counter({bytes.fromhex(one): n for one, n in kept[name].items()}) for name in _NUMBERS}
        return cls(kept["pass"], window=kept["window"], **counts)


_NUMBERS = ("numbered", "before")


class Fold:
    """Takes the messages of one window into ``tables``, in stream order. What it is given it changes.

    Args:
        window: iterated by the caller, before: what fails in the middle leaves half a window behind here.
        mode: how rows are written.
        tables: the stored ones, by name; those of the window have to be there, and any hidden one that it names.
        delivered: by lineage and stored table; what is not there begins empty.
        before_swap: looks, with the stored rows and the table as it is to be, whether a full refresh may change the table:
            ``strandline.connectors.arrow.changes.changes_of`` with these, safe, and the window's scope.
        stamp: for a store that is not atomic: the column that keeps the window of a row, which ``tables`` have beside
            those of the window's. All rows are taken then, whether they were delivered or not.
        replaces: whether rows of a window that comes again are taken back first (an idempotent store).
    """

    def __init__(
        self,
        window: Window,
        mode: WriteMode,
        tables: MutableMapping[str, Rows],
        delivered: MutableMapping[tuple[StateKey, str], Delivered],
        *,
        before_swap: Callable[[Rows, Table], object],
        stamp: str = "",
        replaces: bool = True,
    ) -> None:
        self.rows: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self.lacking: dict[str, tuple[int, ...]] = {}
        self.written: set[str] = set()
        """Stored tables that a message was about."""
        self._window, self._tables, self._stored, self._lineages = window, window.tables, tables, delivered
        self._scope, self._key, self._pass = window.scope, window.key, window.pass_
        self._stamp, self._before_swap = stamp, before_swap
        self._appends, self._mirrors = mode is WriteMode.APPEND, mode is WriteMode.OVERWRITE_DELETE_STALE
        self._present: dict[str, list[Key]] = {}
        self._swept = 0
        self._replaced: dict[str, set[Key]] = {}
        """Children that were replaced, and that no row has taken the place of."""
        self._begun: set[str] = set()
        for table in self._tables.values():
            if not self._appends:
                # rows will change and go without the delivered set, which would then claim what is not there
                delivered_ = self._delivered(table)
                delivered_.versions, delivered_.seen = Counter(), Counter()
            elif stamp and replaces and table.name in tables:
                tables[table.name].remove(self._scope, of=lambda _key, row: value_of(row, stamp) == window.id)

    def take(self, messages: Iterable[WindowMessage]) -> None:
        """Apply messages.

        Raises:
            TaskError, UsageError, MassDeleteError: see ``Destination.write``. What was given is half changed then.
        """
        for message in messages:
            self._take(message)

    def receipt(self, state: State | None = None) -> Receipt:
        """What was done, with the state that was committed with it."""
        removed = self._swept + sum(map(len, self._replaced.values()))
        return Receipt(state, dict(self.rows), dict(self.known), removed, self.lacking)

    def emptied(self) -> list[str]:
        """Tables without a row of the scope."""
        stored = {name: self._stored.get(table.name) for name, table in self._tables.items()}
        return [name for name, one in stored.items() if one is not None and not one.in_scope(self._scope)]

    def _take(self, message: WindowMessage) -> None:
        match message:
            case Insert():
                self._insert(message)
            case Complete(table=name):
                self._complete(name)
            case Delete(table=name, keys=keys) if not self._appends:
                stored = self._rows(self._table(name))
                stored.remove_keys(self._scope, keys_of(stored.table, keys))
            case Truncate(table=name) if not self._appends:
                self._rows(self._table(name)).remove(self._scope)
            case Replace(table=name, keys=keys) if not self._appends:
                stored = self._rows(self._table(name))
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
                stored = self._rows(self._table(name))
                self._swept += stored.remove_guarded(self._scope, of=lambda _key, row: is_stale(row, self._scope))
            case Adopt(table=name):
                former = StateKey(message.source, message.task, message.destination)
                self._adopt(self._table(name), former)
            case Forget(table=name, drop=drop):
                self._lineages.pop((self._key, name), None)
                if drop:
                    self._drop(name)

    def _insert(self, message: Insert) -> None:
        table, batch = self._table(message.table), message.batch
        stored = self._rows(table)
        self._check(table, stored, batch.schema.names)
        known: set[int] = set()
        if self._appends and message.reread and not self._stamp:
            known = _known(self._delivered(table), _versions(message), once=not _without_key(table, batch))
        if table.primary_key == (CQ_ID,) and _without_key(table, batch):
            batch = _with_ids(batch, table, _versions(message), self._delivered(table).numbered)
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        if self._stamp:
            columns[self._stamp] = pa.repeat(self._window.id, batch.num_rows)
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

    def _check(self, table: Table, stored: Rows, names: Sequence[str]) -> None:
        """Whether rows of these columns can be stored."""
        strange = [name for name in names if name not in stored.table.schema.names]
        if strange:
            raise TaskError(f"{table.name} has no column {strange[0]!r}")
        if not self._appends and not table.primary_key:
            raise UsageError(f"table {table.name!r} has no primary key, so its rows cannot be overwritten")
        if not self._appends and table.version_order and table.version_order not in names:
            raise TaskError(f"{table.name}: rows came without {table.version_order!r}, which orders their versions")

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
            stored, keys = self._rows(table), set(present)
            self._swept += stored.remove_guarded(self._scope, of=lambda key, _row: key not in keys)
            lacking = tuple(place for place, key in enumerate(present) if key not in stored.rows)
            self.lacking |= {name: lacking[: LACKING_MAX + 1]} if lacking else {}
        delivered = self._delivered(table)
        delivered.versions = delivered.seen.copy()

    def _swap(self, table: Table, hidden: str) -> None:
        stored, new = self._rows(table), self._rows(table.named(hidden))
        stored.guard(self._scope, stored.in_scope(self._scope) - sum(len(rows) for rows in new.rows.values()))
        self._before_swap(stored, table)
        stored.remove(self._scope)
        stored.fit(table)
        for key, rows in new.rows.items():
            stored.rows[key] = (*stored.rows.get(key, ()), *rows) if self._appends else rows
        inherited = [delivered for place, delivered in self._lineages.items() if place[1] == hidden]
        self._lineages.pop((self._key, table.name), None)
        self._drop(hidden)
        for delivered in inherited:  # one: a hidden table is written by one lineage
            self._lineages[self._key, table.name] = delivered.copy()

    def _adopt(self, table: Table, former: StateKey) -> None:
        """See ``strandline.message.Adopt``. The owner's name, and the former state, are the caller's."""
        theirs, column = replace(self._scope, source_name=former.source), pa.array([self._scope.source_name])
        stored = self._rows(table)
        stored.rows = {
            key: tuple(row | {SOURCE_NAME: (column, 0)} if is_in(row, theirs) else row for row in rows)
            for key, rows in stored.rows.items()
        }
        delivered = self._lineages.pop((former, table.name), None)
        if delivered is not None:
            self._lineages[self._key, table.name] = delivered

    def _drop(self, name: str) -> None:
        """A stored table, and what was known of its rows: what is no longer stored must be delivered again."""
        self._stored.pop(name, None)
        for place in [place for place in self._lineages if place[1] == name]:
            del self._lineages[place]

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            raise TaskError(f"{name!r} is not a table of the task {self._key}")
        self.written.add(self._tables[name].name)
        return self._tables[name]

    def _rows(self, table: Table) -> Rows:
        if table.name not in self._stored:
            raise TaskError(f"there is no table {table.name!r}", hint="it was dropped meanwhile, or never migrated")
        return self._stored[table.name]

    def _delivered(self, table: Table) -> Delivered:
        """What this lineage has delivered of the table, with the counts of this pass."""
        delivered = self._lineages.setdefault((self._key, table.name), Delivered())
        if table.name not in self._begun:
            self._begun.add(table.name)
            delivered.begin(self._window)
        return delivered


def _without_key(table: Table, batch: "pa.RecordBatch") -> bool:
    """Whether equal rows are several rows, told apart by counting them."""
    return table.primary_key in {(), (CQ_ID,)} and CQ_ID not in batch.schema.names


def _versions(message: Insert) -> list[bytes]:
    if message.version is None:
        raise TaskError(f"{message.table}: rows came without their versions")
    versions: list[bytes] = message.version.to_pylist()
    return versions


def _known(delivered: Delivered, versions: list[bytes], *, once: bool) -> set[int]:
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
