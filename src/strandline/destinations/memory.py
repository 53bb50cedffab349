"""A destination in memory: the reference model of the contract, and what tests use in place of a mock.

Everything is one value, ``_Data``. A transaction changes a copy under the store's lock and puts the copy in place when
all of it succeeded, so that a reader, and whoever fails midway, sees all of a window or none of it.
"""

import json
import secrets
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, ConfigDict, Field

from strandline.destination import (
    RECREATE,
    Capabilities,
    Fence,
    KeyRange,
    MigrateMode,
    Migration,
    Receipt,
    Scope,
    Transactional,
    Window,
    WriteMode,
)
from strandline.destinations._memory_rows import (
    Key,
    Row,
    Stored,
    batch_of,
    bound_key,
    changes_to,
    is_stale,
    keys_of,
    merged,
)
from strandline.errors import StateConflictError, TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Complete, Delete, Forget, Insert, Message, Present, Swap, Truncate
from strandline.state import RUN_TASK, Anew, Pass, State, StateKey, Token, encode_state, history_with, load_state
from strandline.table import CQ_ID, Table

__all__ = ["MemoryDestination"]

_READ_ROWS = 65_536


@dataclass(slots=True)
class _Delivered:
    """What a lineage has delivered of a table: the delivered set, and what the pass has delivered so far."""

    sync_time_us: int
    versions: Counter[bytes] = field(default_factory=Counter)
    """The delivered set: how many rows of each version are stored."""
    seen: Counter[bytes] = field(default_factory=Counter)
    """The rows that this pass delivered and that may be read again, by version."""
    numbered: Counter[bytes] = field(default_factory=Counter)
    """All rows that this pass delivered without a primary key, by content."""

    def copy(self) -> "_Delivered":
        return _Delivered(self.sync_time_us, self.versions.copy(), self.seen.copy(), self.numbered.copy())


@dataclass(slots=True)
class _Data:
    """All that a store holds. What is in place is never changed; a transaction changes its copy."""

    tables: dict[str, Stored] = field(default_factory=dict)
    delivered: dict[tuple[StateKey, str], _Delivered] = field(default_factory=dict)
    commits: dict[StateKey, tuple[tuple[Token, str], ...]] = field(default_factory=dict)
    """By lineage: tokens and encoded states, the newest first."""

    def copy(self, *tables: str) -> "_Data":
        """A copy in which the ``tables`` may be changed, and anything else only be added or taken away."""
        data = _Data(dict(self.tables), dict(self.delivered), dict(self.commits))
        for name in tables:
            if name in data.tables:
                data.tables[name] = replace(data.tables[name], rows=dict(data.tables[name].rows))
        for place, delivered in self.delivered.items():
            if place[1] in tables:
                data.delivered[place] = delivered.copy()
        return data

    def stored(self, table: Table) -> Stored:
        if table.name not in self.tables:
            raise TaskError(f"there is no table {table.name!r}", hint="it was dropped meanwhile, or never migrated")
        return self.tables[table.name]

    def drop(self, name: str) -> None:
        """Drop a table, and what was known of its rows: what is no longer stored must be delivered again."""
        self.tables.pop(name, None)
        self.delivered = {place: delivered for place, delivered in self.delivered.items() if place[1] != name}

    def check(self, fence: Fence) -> None:
        token, text = self.commits.get(fence.key, (("", ""),))[0]
        stored = (
            load_state(fence.key, json.loads(text), where="memory", token=token, anew=lambda _: True) if text else None
        )
        if stored is not None and stored.epoch > fence.epoch:
            raise StateConflictError(
                f"run {fence.run_id} of {fence.source} is fenced: its epoch {fence.epoch} is over, "
                f"run {stored.run_id} has begun {stored.epoch}",
                hint="let one run at a time sync this source",
            )

    def states(self, source: str, anew: Anew | None = None) -> dict[StateKey, State]:
        newest = {key: commits[0] for key, commits in self.commits.items() if key.source == source}
        return {
            key: load_state(key, json.loads(text), where="memory", token=token, anew=anew)
            for key, (token, text) in newest.items()
        }

    def save(self, key: StateKey, state: State, expected: Token | None) -> Token:
        commit = (secrets.token_hex(16), json.dumps(encode_state(key, state)))
        _decode(key, *commit)  # what could not be read back is never kept
        commits = self.commits.get(key, ())
        if (commits[0][0] if commits else None) != expected:
            raise StateConflictError(
                f"{key}: the stored state is not the one this run saved last", hint="let the other run end first"
            )
        self.commits[key] = history_with(key, commit, commits, lambda one: one[1])
        return commit[0]


class _Store:
    """What every handle of one name shares."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.data = _Data()


_STORES: dict[str, _Store] = {}
_STORES_LOCK = threading.Lock()


class _States:
    """The states kept beside the rows: see ``strandline.state.StateBackend``."""

    def __init__(self, store: _Store) -> None:
        self._store = store

    def load(self, source: str, *, anew: Anew | None = None) -> Mapping[StateKey, State]:
        return self._store.data.states(source, anew)

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        with self._store.lock:
            data = self._store.data.copy()
            if key.task != RUN_TASK:
                data.check(Fence(key.source, key.destination, state.epoch, state.run_id))
            token = data.save(key, state, expected)
            self._store.data = data
        return token

    def history(self, key: StateKey) -> Sequence[State]:
        return [_decode(key, *commit) for commit in self._store.data.commits.get(key, ())]

    def close(self) -> None:
        """Nothing is held."""


class MemoryDestination:
    """Stores tables in the process, and the states with them in one transaction.

    Every instance of one ``name`` shares one store, so that closing one and constructing another is a restart.
    """

    class Spec(BaseModel):
        """The settings of the destination ``memory``."""

        model_config = ConfigDict(extra="forbid")

        name: str = Field("default", description="Which store of this process to use; it lives as long as the process.")

    capabilities = Capabilities(write_modes=frozenset(WriteMode), transactional=Transactional.WINDOW)

    def __init__(self, spec: Spec) -> None:
        with _STORES_LOCK:
            self._store = _STORES.setdefault(spec.name, _Store())

    @staticmethod
    def reset(name: str = "default") -> None:
        """Forget the store of that name; handles that are open keep the old one."""
        with _STORES_LOCK:
            _STORES.pop(name, None)

    def drop_table(self, name: str) -> None:
        """Drop a table behind the engine's back, as a user might."""
        with self._store.lock:
            data = self._store.data.copy()
            data.drop(name)
            self._store.data = data

    @property
    def states(self) -> _States:
        """The states kept beside the rows."""
        return _States(self._store)

    def migrate(self, table: Table, *, mode: MigrateMode, fence: Fence, apply: bool = True) -> Migration:
        """Make the stored table fit ``table``."""
        with self._store.lock:
            data = self._store.data.copy(table.name)
            stored = data.tables.get(table.name)
            changes = changes_to(stored.table if stored else None, table, mode)
            if apply:
                data.check(fence)
                if stored is None or any(change.kind == RECREATE for change in changes):
                    data.drop(table.name)
                    stored = data.tables[table.name] = Stored(table)
                else:
                    stored.table = replace(table, schema=merged(stored.table.schema, table.schema))
                self._store.data = data
        return Migration(tuple(changes), stored.mark if stored else None, empty=stored is None or not stored.rows)

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``, or nothing."""
        messages = list(window)
        with self._store.lock:
            data = self._store.data.copy(*(table.name for table in window.tables.values()))
            data.check(fence)
            token = data.save(window.key, window.state, window.expected)
            merge = _Merge(data, window, mode)
            for message in messages:
                merge.take(message)
            self._store.data = data
        return Receipt(replace(window.state, token=token), dict(merge.rows), dict(merge.known), merge.removed)

    def delete_stale(self, table: Table, *, scope: Scope, fence: Fence) -> int:
        """Delete the scope's rows that are older than its pass."""
        with self._store.lock:
            data = self._store.data.copy(table.name)
            data.check(fence)
            count = data.stored(table).remove_guarded(scope, of=lambda _key, row: is_stale(row, scope))
            self._store.data = data
        return count

    def read(
        self, table: Table, *, columns: Sequence[str] | None = None, key_range: KeyRange | None = None
    ) -> "Iterator[pa.RecordBatch]":
        """The rows as they are stored now; what is committed later is not among them."""
        schema = pa.schema([table.schema.field(name) for name in columns or table.schema.names])
        stored = self._store.data.stored(table)
        lower, upper = (
            None if bound is None else bound_key(table, bound)
            for bound in (key_range.lower if key_range else None, key_range.upper if key_range else None)
        )
        rows = [
            row
            for key, some in stored.rows.items()
            if (lower is None or key >= lower) and (upper is None or key < upper)
            for row in some
        ]
        return (batch_of(rows[at : at + _READ_ROWS], schema) for at in range(0, len(rows), _READ_ROWS))

    def close(self) -> None:
        """Nothing is held."""


class _Merge:
    """Takes the messages of one window into a copy of the data, in stream order."""

    def __init__(self, data: _Data, window: Window, mode: WriteMode) -> None:
        self.rows: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self._data, self._tables, self._scope, self._key = data, window.tables, window.scope, window.key
        self._pass: Pass = window.pass_
        self._appends = mode is WriteMode.APPEND
        self._present: dict[str, set[Key]] = {}
        self.removed = 0
        if not self._appends:
            # rows will change and go without the delivered set, which would then claim what is not there
            for table in self._tables.values():
                delivered = self._delivered(table)
                delivered.versions, delivered.seen = Counter(), Counter()

    def take(self, message: Message) -> None:
        """Apply one message."""
        match message:
            case Insert():
                self._insert(message)
            case Complete(table=name):
                self._complete(name)
            case Swap(table=name, hidden=hidden):
                self._swap(self._table(name), hidden)
            case Forget(table=name, drop=drop):
                self._data.delivered.pop((self._key, name), None)
                if drop:
                    self._data.drop(name)
            case Delete(table=name, keys=keys) if not self._appends:
                stored = self._data.stored(self._table(name))
                stored.remove_keys(self._scope, keys_of(stored.table, keys))
            case Truncate(table=name) if not self._appends:
                self._data.stored(self._table(name)).remove(self._scope)
            case Present(table=name, keys=keys) if not self._appends:
                self._present.setdefault(name, set()).update(keys_of(self._table(name), keys))

    def _insert(self, message: Insert) -> None:
        table, batch = self._table(message.table), message.batch
        stored, delivered = self._data.stored(table), self._delivered(table)
        strange = [name for name in batch.schema.names if name not in stored.table.schema.names]
        if strange:
            raise TaskError(f"{table.name} has no column {strange[0]!r}")
        if not self._appends and not table.primary_key:
            raise UsageError(f"table {table.name!r} has no primary key, so its rows cannot be overwritten")
        known: set[int] = set()
        if self._appends and message.reread:
            known = _known(delivered, _versions(message), once=not _without_key(table, batch))
        if table.primary_key == (CQ_ID,) and _without_key(table, batch):
            batch = _with_ids(batch, table, _versions(message), delivered.numbered)
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for index, key in enumerate(keys_of(table, batch)):
            if index in known:
                continue
            row: Row = {name: (column, index) for name, column in columns.items()}
            before = stored.rows.get(key, ())
            stored.rows[key] = (*before, row) if self._appends else ({**(before[-1] if before else {}), **row},)
        self.rows[message.table] += batch.num_rows
        self.known[message.table] += len(known)

    def _complete(self, name: str) -> None:
        table, present = self._table(name), self._present.pop(name, None)
        if present is not None:
            self.removed += self._data.stored(table).remove_guarded(
                self._scope, of=lambda key, _row: key not in present
            )
        delivered = self._delivered(table)
        delivered.versions = delivered.seen.copy()

    def _swap(self, table: Table, hidden: str) -> None:
        stored, new = self._data.stored(table), self._data.stored(table.named(hidden))
        stored.guard(self._scope, stored.in_scope(self._scope) - sum(len(rows) for rows in new.rows.values()))
        stored.remove(self._scope)
        for key, rows in new.rows.items():
            stored.rows[key] = (*stored.rows.get(key, ()), *rows) if self._appends else rows
        inherited = [delivered for place, delivered in self._data.delivered.items() if place[1] == hidden]
        self._data.delivered.pop((self._key, table.name), None)
        self._data.drop(hidden)
        for delivered in inherited:  # one: a hidden table is written by one lineage
            self._data.delivered[self._key, table.name] = delivered.copy()

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            raise TaskError(f"{name!r} is not a table of the task {self._key}")
        return self._tables[name]

    def _delivered(self, table: Table) -> _Delivered:
        """What this lineage has delivered of the table, with the counts of this pass."""
        fresh = _Delivered(self._pass.sync_time_us)
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


def _known(delivered: _Delivered, versions: list[bytes], *, once: bool) -> set[int]:
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


def _decode(key: StateKey, token: Token, text: str) -> State:
    return load_state(key, json.loads(text), where="memory", token=token)
