"""The destination ``jsondir``: a directory with a JSON file for each table, that holds its rows and what is known of them.

There are no transactions, and no states. A window is folded into the rows that are there (``strandline.fold``), and each table's
file is written beside and renamed, so that a table is there as a whole or not at all. Rows know their window, so what an
interrupted run wrote is taken back when its window comes again. A table knows the epoch of the run that wrote it last: an older
run that wakes up writes nothing. Every window writes its tables anew, so this is for tables that fit into memory.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.arrow.changes import changes_of, left_as_stored
from strandline.destination import (
    RECREATE,
    Capabilities,
    Delivery,
    Fence,
    Held,
    MigrateMode,
    Migration,
    Receipt,
    Scope,
    Window,
    WriteMode,
)
from strandline.errors import StateConflictError, TaskError, UsageError
from strandline.fold import Delivered, Fold, Rows, batch_of
from strandline.lazy import pa
from strandline.message import Forget, Swap
from strandline.ownership import Ownership
from strandline.paths import FOLDER, encode_part, locked, make_directory, opened, replace_file
from strandline.place import file_places
from strandline.state import StateKey
from strandline.table import Table

_REFUSED = (
    *("list", "large_list", "fixed_size_list", "list_view", "large_list_view", "struct", "map", "dictionary"),
    *("run_end_encoded", "month_day_nano_interval", "dense_union", "sparse_union", "string_view", "binary_view"),
)
_WINDOW = "_jsondir_window"
"""Column of a file: the window that a row came with."""
_LOCK_WAIT_S = 10.0


@dataclass
class _Kept:
    """What is in a file."""

    rows: Rows
    epochs: dict[str, int] = field(default_factory=dict)
    """By lineage: of the latest run that wrote."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """By lineage; see ``Delivered.numbers``."""


class JSONDirectory:
    """See ``strandline.destination.Destination``."""

    class Spec(BaseModel):
        """Where the files are."""

        model_config = ConfigDict(extra="forbid")
        path: str = Field(min_length=1, description="The directory; made if it is missing.")

    def __init__(self, spec: Spec) -> None:
        self._root = Path(spec.path)

    @property
    def capabilities(self) -> Capabilities:
        """A window that comes again replaces itself."""
        return Capabilities(
            write_modes=frozenset(WriteMode),
            delivery=Delivery.IDEMPOTENT,
            orders_versions=True,
            writers_max=1,
            types_refused=dict.fromkeys(_REFUSED, "jsondir stores no nested values"),
        )

    def places(self) -> Sequence[str]:
        """The directory, so that two destinations that are one are noticed."""
        return file_places(self._root)

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
        """Columns are added and widened; another type or key is refused, or the table begins again, empty, where that is forced."""
        del ownership  # there is no register
        _check_types(table)
        with self._locked():
            kept = self._load(table.name)
            changes, stays, users = changes_of(kept.rows if kept else None, table, mode, replaces)
            if apply:
                if kept is not None and any(change.kind == RECREATE for change in changes):
                    _check(kept, fence, _ours(kept, fence.source, fence.destination))
                stored = replace(table.keeping(stays), schema=table.keeping(stays).schema.append(_window_field()))
                if kept is None or any(change.kind == RECREATE for change in changes):
                    kept = _Kept(Rows(stored))
                    self._save(kept)
                elif changes:
                    kept.rows.table = left_as_stored(kept.rows.table, stored, changes)
                    self._save(kept)
        mark, empty = (kept.rows.mark, not kept.rows.rows) if kept else (None, True)
        return Migration(tuple(changes), mark, empty=empty, kept=stays, users=users)

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """All messages; the tables become durable one after the other, and are written again where that was interrupted."""
        messages = list(window)
        others = [
            one.hidden if isinstance(one, Swap) else one.table for one in messages if isinstance(one, Swap | Forget)
        ]
        names, lineage = {*(table.name for table in window.tables.values()), *others}, str(window.key)
        with self._locked():
            kept = {name: one for name in sorted(names) if (one := self._load(name)) is not None}
            for one in kept.values():
                _check(one, fence, [_name(window.key)])
            rows = {name: one.rows for name, one in kept.items()}
            before = {name: dict(one.rows) for name, one in rows.items()}
            numbers = {name: one.numbers[lineage] for name, one in kept.items() if lineage in one.numbers}
            delivered = {(window.key, name): Delivered.of_numbers(one) for name, one in numbers.items()}

            def fits(stored: Rows, table: Table) -> None:
                changes_of(stored, table, MigrateMode.SAFE, window.scope)

            fold = Fold(window, mode, rows, delivered, before_swap=fits, stamp=_WINDOW)
            fold.take(messages)
            for name, one in kept.items():
                if name in rows and rows[name].rows != before[name]:
                    one.epochs[_name(window.key)] = fence.epoch
                    if (window.key, name) in delivered:
                        one.numbers[lineage] = delivered[window.key, name].numbers()
                    self._save(one)
            for name in kept.keys() - rows.keys():  # last: until now a full refresh can be ended again
                self._path(name).unlink()
        return fold.receipt()

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there is a row of the source and partition, and the latest epoch of such a run."""
        kept = self._load(table.name)
        if kept is None:
            return Held(rows=False)
        epochs = [kept.epochs[lineage] for lineage in _ours(kept, scope.source_name)]
        return Held(kept.rows.in_scope(scope) > 0, max(epochs, default=None))

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """What is stored, for tests and comparisons: see ``strandline.destination.Readable``."""
        kept = self._load(table.name)
        if kept is None:
            raise TaskError(f"there is no table {table.name!r} in {self._root}")
        schema = pa.schema([table.schema.field(name) for name in columns or table.schema.names])
        return iter([batch_of(list(kept.rows), schema)])

    def close(self) -> None:
        """Nothing is held."""

    def _path(self, table: str) -> Path:
        return self._root / f"{encode_part(table)}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_directory(self._root)
        # a run that is suspended keeps the lock: who waits for it is told so, and may try again
        with opened(self._root, FOLDER) as directory, locked(directory, self._root, wait_s=_LOCK_WAIT_S):
            yield

    def _load(self, name: str) -> _Kept | None:
        try:
            found: dict[str, Any] = json.loads(self._path(name).read_text("utf-8"))
        except FileNotFoundError:
            return None
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(found["schema"])))
        rows = Rows(Table(name, schema, tuple(found["key"])), mark=found["mark"])
        arrays = [_typed([row.get(one.name) for row in found["rows"]], one.type) for one in schema]
        rows.add(pa.record_batch(arrays, schema=schema))
        return _Kept(rows, found["epochs"], found["numbers"])

    def _save(self, kept: _Kept) -> None:
        """Durable before it returns, and all of it or nothing."""
        table = kept.rows.table
        content = {
            "schema": base64.b64encode(table.schema.serialize()).decode(),
            "key": table.primary_key,
            "mark": kept.rows.mark,
            "rows": _as_json(batch_of(list(kept.rows), table.schema)),
            "epochs": kept.epochs,
            "numbers": kept.numbers,
        }
        with opened(self._root, FOLDER) as directory:
            replace_file(directory, self._path(table.name).name, json.dumps(content).encode())


def _name(key: StateKey) -> str:
    return json.dumps([key.source, key.destination, key.task])


def _ours(kept: _Kept, *begins: str) -> list[str]:
    return [one for one in kept.epochs if json.loads(one)[: len(begins)] == list(begins)]


def _check(kept: _Kept, fence: Fence, lineages: Iterable[str]) -> None:
    if max((kept.epochs.get(one, 0) for one in lineages), default=0) > fence.epoch:
        raise StateConflictError(f"{fence.source}: a later run has written", hint="let one run at a time sync it")


# values


def _window_field() -> "pa.Field":
    return pa.field(_WINDOW, pa.string())


def _check_types(table: Table) -> None:
    for one in table.schema:
        family = _family(one.type)
        if family in _REFUSED:
            raise UsageError(f"{table.name}.{one.name}: jsondir stores no {family}", hint="skip_columns leaves it out")


def _family(kind: "pa.DataType") -> str:
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return str(kind).partition("<")[0].partition("[")[0].partition("(")[0]


def _as_json(batch: "pa.RecordBatch") -> list[Mapping[str, Any]]:
    columns = {name: _plain(array) for name, array in zip(batch.schema.names, batch.columns, strict=True)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(array: "pa.Array") -> list[Any]:
    """Values that JSON has, without loss: times and durations as whole numbers, bytes in hexadecimal, decimals as text."""
    array = array.storage if isinstance(array.type, pa.BaseExtensionType) else array
    if pa.types.is_temporal(array.type):
        array = array.cast(_whole(array.type))
    values = array.to_pylist()
    return [
        value.hex() if isinstance(value, bytes) else str(value) if isinstance(value, Decimal) else value
        for value in values
    ]


def _typed(values: list[Any], kind: "pa.DataType") -> "pa.Array":
    """The inverse of ``_plain``."""
    storage, is_ = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind, pa.types
    if is_.is_binary(storage) or is_.is_large_binary(storage) or is_.is_fixed_size_binary(storage):
        values = [None if value is None else bytes.fromhex(value) for value in values]
    elif is_.is_decimal(storage):
        values = [None if value is None else Decimal(value) for value in values]
    array = pa.array(values, _whole(storage) if is_.is_temporal(storage) else storage).cast(storage)
    return pa.ExtensionArray.from_storage(kind, array) if isinstance(kind, pa.BaseExtensionType) else array


def _whole(kind: "pa.DataType") -> "pa.DataType":
    """Whole numbers of the size of a time."""
    return pa.int32() if kind.bit_width == pa.int32().bit_width else pa.int64()
