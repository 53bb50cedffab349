"""What the engine adds to a row: the lineage columns, and the version of its content."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from strandline.destination import WriteMode
from strandline.engine.casts import as_stored
from strandline.engine.versions import Form, content_versions
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Delete, Insert, Present, Replace
from strandline.selection import chosen_columns, columns_said
from strandline.settings import parse_type
from strandline.table import CLIENT_ID, CQ_ID, SOURCE_NAME, SYNC_TIME, Table, sync_time_type

__all__ = ["Decorator", "former_of", "renamed", "sent", "stored_table", "typed"]

_RENAMED = "source"
"""In front of the name of a source's own column that is called like one of ours: ``_cq_sync_time`` becomes
``source_cq_sync_time``, as where the source is itself a destination of a sync."""


def renamed(table: Table) -> dict[str, str]:
    """The columns of a source's table that are stored under another name, with that name. Usually there are none.

    ``_cq_id`` is the source's to say where it is the primary key of the table.
    """
    ours = {SYNC_TIME, SOURCE_NAME, CLIENT_ID}
    ours |= set() if table.primary_key == (CQ_ID,) else {CQ_ID}
    taken, names = set(table.schema.names), dict[str, str]()
    if ours.isdisjoint(taken):
        return names
    for column in table.schema.names:
        if column in ours:
            name = _RENAMED + column
            while name in taken:
                name = f"{_RENAMED}_{name}"
            taken.add(name)
            names[column] = name
    return names


def former_of(tables: Mapping[str, Table], stored: Mapping[str, Table]) -> dict[str, tuple[str, ...]]:
    """For ``Reading.former``: by table, the source's columns that are stored as they were offered before."""
    return {name: table.kept_in(stored[name], renamed(table)) for name, table in tables.items()}


def sent(tables: Mapping[str, Table], stored: Mapping[str, Table]) -> dict[str, Table]:
    """The source's tables with the types in which it sends them; see ``former_of``."""
    former = former_of(tables, stored)
    return {name: one.formerly(former[name]) for name, one in tables.items()}


def stored_table(table: Table, *, mode: WriteMode, partitioned: bool, cq_id_only: bool = False) -> Table:
    """The table as a destination stores it: lineage columns in front, and a primary key where rows need one.

    A table without a primary key gets ``_cq_id``; with ``cq_id_only`` every table does.
    """
    names = renamed(table)
    front = [pa.field(SYNC_TIME, sync_time_type()), pa.field(SOURCE_NAME, pa.string())]
    if partitioned:
        front.append(pa.field(CLIENT_ID, pa.string()))
    key = tuple(names.get(column, column) for column in table.primary_key)
    given = [field.with_name(names.get(field.name, field.name)) for field in table.schema]
    if not key or cq_id_only:
        key = (CQ_ID,)
        if CQ_ID not in {field.name for field in given}:
            front.append(pa.field(CQ_ID, pa.uuid()))
    if mode is WriteMode.APPEND and not table.primary_key:
        key = (CQ_ID,)
    # rows whose key is their content have no versions
    order = "" if key == (CQ_ID,) else names.get(table.version_order, table.version_order)
    former = {names.get(name, name): kind for name, kind in table.former.items()}
    return replace(table, schema=pa.schema([*front, *given]), primary_key=key, version_order=order, former=former)


def narrowed(stored: Table, table: Table, columns: Sequence[str] | None) -> Table:
    """The stored table with those columns only that the spec chooses of the source's ``table``; its keys come along.

    Raises:
        UsageError: see ``chosen_columns``.
    """
    if columns is None:
        return stored
    chosen = chosen_columns(columns, table.schema.names, table.keys, where=f"table {table.name!r}")
    names = renamed(table)
    dropped = {names.get(name, name) for name in set(table.schema.names) - set(chosen)}
    return replace(stored, schema=pa.schema([one for one in stored.schema if one.name not in dropped]))


def selecting(table: Table, columns: Sequence[str] | None) -> Table:
    """The source's ``table``, whose cursor depends on the columns that the spec chooses, where it is incremental.

    Rows that were read before would lack a new one, and versions of a row that is read again be others.
    """
    said = columns_said(columns)
    if said is None or not table.incremental:
        return table
    return replace(table, selection=json.dumps(table.selected | {"columns": said}, sort_keys=True))


def typed(stored: Table, table: Table, types: Mapping[str, str]) -> Table:
    """The stored table with the types that the spec names for columns of the source's ``table``.

    Raises:
        UsageError: there is no such column, or it is a key.
    """
    if not types:
        return stored
    names, keys = renamed(table), {*table.primary_key, *table.incremental_key, table.version_order}
    for column in types:
        if column not in table.schema.names or column in keys:
            what = f"{column!r} is a key" if column in keys else f"there is no column {column!r}"
            raise UsageError(
                f"table {table.name!r}: `types`: {what}",
                hint="a key keeps the type of its source"
                if column in keys
                else f"its columns are {', '.join(table.schema.names)}",
            )
    kinds = {names.get(column, column): parse_type(name) for column, name in types.items()}
    fields = [pa.field(one.name, kinds[one.name], one.nullable) if one.name in kinds else one for one in stored.schema]
    return replace(stored, schema=pa.schema(fields))


@dataclass(slots=True)
class Decorator:
    """Turns a source's batches into stored ones. One for each attempt at a task; used by its reader thread only."""

    source_name: str
    partition: str | None
    sync_time_us: int
    mode: WriteMode
    tables: dict[str, Table]
    """As the source offers them, by name."""
    stored: dict[str, Table]
    versions_of: str = ""
    """See ``State.versions_of``."""
    forms: Mapping[str, Mapping[str, Form]] = field(default_factory=dict)
    """See ``State.forms``."""
    _renamed: dict[str, dict[str, str]] = field(default_factory=dict)
    _replaced: set[str] = field(default_factory=set)
    """Tables of which rows of some parents were replaced."""

    def change(self, table: Table, stored: Table) -> None:
        """From here on the table is another one; what is sent in its former type still is."""
        before, text = self.tables.get(table.name, table), pa.string()
        kinds, names = {name: before.former[name] for name in before.kept_in(before, {})}, renamed(table)
        texts = {one.name: text for one in self.stored.get(table.name, stored).schema if one.type == text}
        self.tables[table.name] = table.keeping(kinds)
        self.stored[table.name] = stored.keeping(
            {**texts, **{names.get(one, one): kind for one, kind in kinds.items()}}
        )
        self._renamed.pop(table.name, None)

    def _names(self, table: Table) -> dict[str, str]:
        if table.name not in self._renamed:
            self._renamed[table.name] = renamed(table)
        return self._renamed[table.name]

    def _forms(self, table: Table) -> dict[str, Form]:
        names = self._names(table)
        return {names.get(column, column): form for column, form in self.forms.get(table.name, {}).items()}

    def insert(self, message: Insert) -> Insert:
        """The message with lineage columns, and with versions where the destination needs them.

        Raises:
            TaskError: the batch does not fit the table.
        """
        table, batch, stored = self.tables.get(message.table), message.batch, self.stored.get(message.table)
        if table is None or stored is None:
            raise TaskError(f"the source sent rows of {message.table!r}, which is not a table of this task")
        self._check(table, batch)
        if table.name in self._replaced and (absent := set(table.schema.names) - set(batch.schema.names)):
            raise TaskError(
                f"{table.name}: the source replaced rows of some parents, and sent rows without {min(absent)!r}",
                hint="this is a fault of the source plugin",
            )
        names = self._names(table)
        if names:
            batch = batch.rename_columns([names.get(name, name) for name in batch.schema.names])
        if left := [name for name in batch.schema.names if name not in stored.schema.names]:
            batch = batch.drop_columns(left)  # before versions are made of the rows
        version, forms = message.version, self._forms(table)
        needs_id = stored.primary_key == (CQ_ID,) and CQ_ID not in batch.schema.names
        identity: pa.Array | None = None
        if needs_id and table.primary_key:
            identity = content_versions(batch, [names.get(name, name) for name in table.primary_key], forms=forms)
        elif version is None and (needs_id or (message.reread and self.mode is WriteMode.APPEND)):
            scope = (self.versions_of or self.source_name, self.partition or "")
            version = content_versions(batch, batch.schema.names, scope, forms)
        return Insert(message.table, self._with_lineage(batch, stored, identity), message.reread, version)

    def keys(self, message: Delete | Present | Replace) -> "pa.RecordBatch":
        """Keys of the source, or of parents, as those of the stored table.

        Raises:
            TaskError: those of parents do not fit the table.
        """
        if isinstance(message, Replace):
            return self._parents(message)
        keys, stored = message.keys, self.stored.get(message.table)
        if stored is None:
            return keys
        names = self._names(self.tables[message.table])
        if names:
            keys = keys.rename_columns([names.get(name, name) for name in keys.schema.names])
        if stored.primary_key != (CQ_ID,) or CQ_ID in keys.schema.names:
            return keys
        field = stored.schema.field(CQ_ID)
        identity = content_versions(keys, keys.schema.names, forms=self._forms(self.tables[message.table]))
        return pa.record_batch([pa.ExtensionArray.from_storage(field.type, identity)], schema=pa.schema([field]))

    def _parents(self, message: Replace) -> "pa.RecordBatch":
        table, keys, stored = self.tables.get(message.table), message.keys, self.stored.get(message.table)
        if table is None or stored is None:
            raise TaskError(f"the source replaced rows of {message.table!r}, which is not a table of this task")
        self._check(table, keys)
        if not keys.num_columns or any(column.null_count for column in keys.columns):
            raise TaskError(f"{table.name}: the source replaced rows of a parent without a key")
        self._replaced.add(table.name)
        names = [self._names(table).get(name, name) for name in keys.schema.names]
        if left := set(names) - set(stored.schema.names):
            raise TaskError(
                f"{table.name}: `columns` leaves out {min(left)!r}, by which rows belong to those of {table.parent!r}",
                hint="choose it, too",
            )
        fields = [stored.schema.field(name) for name in names]
        arrays = [as_stored(keys.column(at), one.type, f"{stored.name}.{one.name}") for at, one in enumerate(fields)]
        return pa.record_batch(arrays, schema=pa.schema(fields))

    def _with_lineage(self, batch: "pa.RecordBatch", stored: Table, identity: "pa.Array | None") -> "pa.RecordBatch":
        count = batch.num_rows
        constants = {
            SYNC_TIME: pa.scalar(self.sync_time_us, sync_time_type()),
            SOURCE_NAME: pa.scalar(self.source_name, pa.string()),
        }
        if self.partition is not None:
            constants[CLIENT_ID] = pa.scalar(self.partition, pa.string())
        columns = {name: pa.repeat(value, count) for name, value in constants.items()}
        if identity is not None:
            columns[CQ_ID] = pa.ExtensionArray.from_storage(pa.uuid(), identity)
        for name in batch.schema.names:
            columns.setdefault(name, batch.column(name))
        order = [field for field in stored.schema if field.name in columns]
        arrays = [as_stored(columns[field.name], field.type, f"{stored.name}.{field.name}") for field in order]
        return pa.record_batch(arrays, schema=pa.schema(order))

    def _check(self, table: Table, batch: "pa.RecordBatch") -> None:
        for sent in batch.schema:
            index = table.schema.get_field_index(sent.name)
            if index < 0:
                raise TaskError(f"{table.name}: the source sent a column {sent.name!r} that its table does not have")
            wanted = table.schema.field(index).type
            if sent.type != wanted:
                raise TaskError(f"{table.name}.{sent.name}: the source sent {sent.type}, its table says {wanted}")
