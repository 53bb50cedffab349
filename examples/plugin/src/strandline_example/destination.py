"""The destination ``jsondir``: a directory in which every window is one JSON file; rows are appended.

There are no transactions, and no states. A window is written beside and renamed, so it is there as a whole or not at all; its
file is named by the window's id, so what an interrupted run wrote is replaced when its window comes again. ``index.json`` has
the tables and, for each source, the epoch of the run that wrote last: an older run that wakes up writes nothing.
"""

import base64
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from strandline.connectors.arrow.changes import kept_of
from strandline.destination import (
    Capabilities,
    Change,
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
from strandline.lazy import pa
from strandline.message import Insert, Stale, Swap
from strandline.ownership import Ownership
from strandline.paths import FOLDER, locked, make_directory, opened, replace_file
from strandline.place import file_places
from strandline.table import CLIENT_ID, CQ_ID, SOURCE_NAME, Table

_REFUSED = (
    *(
        "list",
        "large_list",
        "fixed_size_list",
        "list_view",
        "large_list_view",
        "struct",
        "map",
        "dictionary",
        "run_end_encoded",
    ),
    *("month_day_nano_interval", "dense_union", "sparse_union", "string_view", "binary_view"),
)


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
        """Rows are appended, and a window that comes again replaces itself."""
        return Capabilities(
            write_modes=frozenset({WriteMode.APPEND}),
            delivery=Delivery.IDEMPOTENT,
            deletes=False,
            replace=False,
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
        """Columns are added; another type or key is refused, or the table begins again, empty, where that is forced."""
        del ownership, replaces  # there is no register, and no full refresh
        _check_types(table)
        with self._locked():
            index = self._index()
            known = index["tables"].get(table.name)
            kept = kept_of(Table(table.name, _schema(known)) if known else None, table)
            table = table.keeping(kept)
            changes = _changes(known, table, mode)
            if apply:
                self._check(index, fence)
                if changes:
                    again = known is None or changes[0].kind == "recreate"
                    mark = secrets.token_hex(8) if again else known["mark"]
                    columns = table.schema if again else _merged(_schema(known), table.schema)
                    index["tables"][table.name] = {"mark": mark, "schema": _text(columns), "key": [*table.primary_key]}
                    self._save(self._root / "index.json", index)
                known = index["tables"].get(table.name)
            empty = known is None or not any(self._rows(known["mark"]))
        return Migration(tuple(changes), known["mark"] if known else None, empty=empty, kept=kept)

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """All of a window in one file."""
        if mode is not WriteMode.APPEND:
            raise UsageError(f"jsondir only appends, and {mode} was asked for", hint="write_mode: append")
        inserts = []
        for message in window:
            if isinstance(message, Stale | Swap):
                raise UsageError("jsondir deletes nothing")
            if isinstance(message, Insert):
                inserts.append(message)
        with self._locked():
            index = self._index()
            self._check(index, fence)
            index["epochs"][_run(fence)] = fence.epoch
            self._save(self._root / "index.json", index)
            of_pass = self._root / "windows" / _name(str(window.key)) / str(window.pass_.sync_time_us)
            before = _counted(of_pass, window.id)
            taken, rows, numbers = Counter[str](), dict[str, list[Any]](), dict[str, Counter[str]]()
            for one in inserts:
                table = window.tables[one.table]
                mark = index["tables"][table.name]["mark"]
                counts = numbers.setdefault(mark, Counter(before.get(mark, {})))
                rows.setdefault(mark, []).extend(_as_json(_with_ids(one, table, counts), table))
                taken[one.table] += one.batch.num_rows
            delivered = {mark: counts - Counter(before.get(mark, {})) for mark, counts in numbers.items()}
            self._save(of_pass / f"{window.id}.json", {"rows": rows, "numbers": delivered})
        return Receipt(None, dict(taken))

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there is a row of the source and partition."""
        index = self._index()
        known = index["tables"].get(table.name)
        mine = (scope.source_name, scope.partition)
        rows = self._rows(known["mark"]) if known else iter(())
        epochs = [epoch for run, epoch in index["epochs"].items() if json.loads(run)[0] == scope.source_name]
        return Held(
            any((row[SOURCE_NAME], row.get(CLIENT_ID)) == mine for row in rows), max(epochs) if epochs else None
        )

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """What is stored, for tests and comparisons: see ``strandline.destination.Readable``."""
        known = self._index()["tables"].get(table.name)
        if known is None:
            raise TaskError(f"there is no table {table.name!r} in {self._root}")
        rows = [*self._rows(known["mark"])]
        names = columns if columns is not None else table.schema.names
        schema = pa.schema([table.schema.field(name) for name in names])
        arrays = [_typed([row.get(field.name) for row in rows], field.type) for field in schema]
        return iter([pa.record_batch(arrays, schema=schema)])

    def close(self) -> None:
        """Nothing is held."""

    def _index(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._root / "index.json").read_text("utf-8"))
        except FileNotFoundError:
            return {"tables": {}, "epochs": {}}
        return found

    def _rows(self, mark: str) -> Iterator[dict[str, Any]]:
        for path in sorted(self._root.glob("windows/*/*/*.json")):
            yield from json.loads(path.read_text("utf-8"))["rows"].get(mark, ())

    def _check(self, index: Mapping[str, Any], fence: Fence) -> None:
        if index["epochs"].get(_run(fence), 0) > fence.epoch:
            raise StateConflictError(f"{fence.source}: a later run has written", hint="let one run at a time sync it")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_directory(self._root)
        with opened(self._root, FOLDER) as directory, locked(directory, self._root, wait_s=600):
            yield

    def _save(self, path: Path, content: Any) -> None:
        """Durable, the directories too, before it returns."""
        make_directory(path.parent)
        with opened(path.parent, FOLDER) as directory:
            replace_file(directory, path.name, json.dumps(content).encode())


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _run(fence: Fence) -> str:
    return json.dumps([fence.source, fence.destination])


# tables


def _check_types(table: Table) -> None:
    for field in table.schema:
        refused = _families(field.type) & {*_REFUSED}
        if refused:
            raise UsageError(
                f"{table.name}.{field.name}: jsondir stores no {refused.pop()}", hint="skip_columns leaves it out"
            )


def _families(kind: "pa.DataType") -> set[str]:
    if isinstance(kind, pa.BaseExtensionType):
        return _families(kind.storage_type)
    return {str(kind).partition("<")[0].partition("[")[0].partition("(")[0]}


def _text(schema: "pa.Schema") -> str:
    return base64.b64encode(schema.serialize()).decode()


def _schema(known: Mapping[str, Any]) -> "pa.Schema":
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(known["schema"])))


def _merged(stored: "pa.Schema", wanted: "pa.Schema") -> "pa.Schema":
    """What is wanted, and what stays though nobody writes it any more."""
    return pa.schema([*wanted, *(field for field in stored if field.name not in wanted.names)])


def _changes(known: Mapping[str, Any] | None, table: Table, mode: MigrateMode) -> list[Change]:
    if known is None:
        return [Change("create", table.name)]
    stored = {field.name: field.type for field in _schema(known)}
    wrong = [
        f"column {one.name!r} is {stored[one.name]}"
        for one in table.schema
        if stored.get(one.name, one.type) != one.type
    ]
    if known["key"] != [*table.primary_key]:
        wrong.append(f"the primary key is {known['key']}")
    if wrong and mode is MigrateMode.SAFE:
        raise TaskError(f"{table.name}: {'; '.join(wrong)}", hint="migrate_mode: forced begins the table again, empty")
    if wrong:
        return [Change("recreate", table.name, detail="; ".join(wrong))]
    return [Change("add_column", table.name, one.name) for one in table.schema if one.name not in stored]


# rows


def _counted(of_pass: Path, window: str) -> dict[str, Counter[str]]:
    """How often the other windows of the pass have delivered each content, by table."""
    found: dict[str, Counter[str]] = {}
    for path in of_pass.glob("*.json"):
        if path.stem != window:
            for mark, counts in json.loads(path.read_text("utf-8"))["numbers"].items():
                found.setdefault(mark, Counter()).update(counts)
    return found


def _with_ids(message: Insert, table: Table, counts: Counter[str]) -> "pa.RecordBatch":
    """With the ``_cq_id`` that ``Destination.write`` describes, where rows have no key of their own."""
    batch = message.batch
    if table.primary_key != (CQ_ID,) or CQ_ID in batch.schema.names or message.version is None:
        return batch
    ids = []
    for version in message.version.cast(pa.binary()).to_pylist():
        content = version[:12]
        ids.append(content + counts[content.hex()].to_bytes(4, "big"))
        counts[content.hex()] += 1
    field = table.schema.field(CQ_ID)
    return batch.append_column(field, pa.ExtensionArray.from_storage(field.type, pa.array(ids, pa.binary(16))))


def _as_json(batch: "pa.RecordBatch", table: Table) -> list[dict[str, Any]]:
    for key in table.primary_key:
        if key not in batch.schema.names or batch.column(key).null_count:
            raise TaskError(
                f"{table.name}.{key}: a row has a null in its primary key", hint="nothing of the window is stored"
            )
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
