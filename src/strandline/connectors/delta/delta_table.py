"""A Delta table: what its log says, and how the log is made to say what was decided.

Commits are made here and not by the driver, whose own retries would not ask what we have to ask: of each version, whether it is
the next one after what was looked at. The driver reads logs, writes checkpoints, and cleans up.
"""

import json
import math
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from strandline.connectors.delta.drivers import deltalake
from strandline.connectors.delta.log import Intent
from strandline.connectors.delta.store import Store, explained
from strandline.errors import RetryableError, StateError, TaskError
from strandline.lazy import pa, pq

__all__ = ["APP", "DataFile", "DeltaTable", "Snapshot", "schema_fields"]

APP = "strandline"
"""Of the ``txn`` actions, before the id of the Delta table."""
_CHECKPOINT_EVERY = 20
_ATTEMPTS_MAX = 200
_FEATURES = {"timestampNtz", "appendOnly", "invariants", "v2Checkpoint", "vacuumProtocolCheck", "changeDataFeed"}
"""What may be said of a table to which we write: none of these asks anything of who does but what we do."""
_NAIVE = "timestampNtz"
_READER_FEATURES = {_NAIVE, "v2Checkpoint", "vacuumProtocolCheck"}
"""Those of them that are said of readers, too."""
_WRITER_MAX, _WRITER_FEATURES = 2, 7


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a table."""

    path: str
    """As the log has it: encoded as in a URL, which matters where others name files."""
    rows: int | None
    partition: Mapping[str, Any]
    low: Mapping[str, Any]
    high: Mapping[str, Any]
    """The least and the greatest value by column, of those of which they are known."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version of a table."""

    version: int
    id: str
    files: Mapping[str, DataFile]
    columns: Sequence[Mapping[str, Any]]
    """Delta's schema."""
    told: int
    """The newest entry of ours that its log tells of."""
    metadata: Mapping[str, Any]
    features: frozenset[str]
    """That it has, by name."""
    trouble: str
    """Why nothing can be written to it; empty: it can."""


class DeltaTable:
    """One folder of a lake. Used by one thread at a time."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self.folder = store, folder
        self._opened: Any = None

    def snapshot(self) -> Snapshot | None:
        """What is there now; ``None``: no Delta table.

        Raises:
            TaskError: the log cannot be read.
        """
        if self._opened is not None:
            try:
                self._opened.update_incremental()
                return _snapshot_of(self._opened)
            except (deltalake.exceptions.DeltaError, OSError):  # it may be another table now, or none
                self._opened = None
        with explained(f"{self._store.uri(self.folder)}: cannot be read"):
            try:
                self._opened = deltalake.DeltaTable(self._store.uri(self.folder), storage_options=self._options)
                return _snapshot_of(self._opened)
            except deltalake.exceptions.TableNotFoundError:
                return None
            except deltalake.exceptions.DeltaError as error:
                raise TaskError(
                    f"{self._store.uri(self.folder)}: its log cannot be read: {str(error)[:300]}"
                ) from error

    @property
    def _options(self) -> dict[str, str] | None:
        return dict(self._store.options) if self._store.options else None

    def anything(self) -> bool:
        """Whether there is anything in the folder."""
        return bool(self._store.listed(self.folder))

    def settled(self, intent: Intent, replan: "Replan") -> Snapshot:
        """Make the log say what was decided, unless it does; then, what is there.

        Raises:
            TaskError: the table is gone, or another one is there.
            StateError: a file that was decided on is gone.
        """
        for attempt in range(_ATTEMPTS_MAX):
            if attempt:
                time.sleep(0.001 * min(attempt, 50))
            found = self.snapshot()
            if found is not None and found.id != intent.id:
                raise TaskError(
                    f"{self._store.uri(self.folder)}: another table is there than the one that was written",
                    hint="move it away, and put the table back; or `strandline sync --full-refresh`",
                )
            if found is not None and found.told >= intent.number:
                return found
            if found is None and not intent.creates:
                raise TaskError(
                    f"{self._store.uri(self.folder)}: the table is gone",
                    hint="put it back; or `strandline state reset`, and sync again",
                )
            if found is not None and attempt == 0 and found.trouble:
                raise TaskError(
                    f"{self._store.uri(self.folder)}: {found.trouble}",
                    hint="nothing is lost: what was decided is done at the next sync that can",
                )
            actions = _actions(intent, found, replan)
            self._commit(found.version + 1 if found is not None else 0, actions)
        raise TaskError(f"{self._store.uri(self.folder)}: others commit so often that we never could")

    def _commit(self, version: int, actions: Sequence[Mapping[str, Any]]) -> None:
        """One version of the log; whether it is ours, the next look tells."""
        lines = "\n".join(json.dumps(action) for action in actions)
        name = f"{self.folder}/_delta_log/{version:020d}.json"
        with explained(f"{self._store.uri(self.folder)}: what is committed does not come into sight yet"):
            made = self._store.create(name, lines.encode())
        if made and version and version % _CHECKPOINT_EVERY == 0:
            with suppress(deltalake.exceptions.DeltaError, OSError):  # the log says the same without
                opened = deltalake.DeltaTable(self._store.uri(self.folder), storage_options=self._options)
                opened.create_checkpoint()
                opened.cleanup_metadata()

    def compact(self) -> None:
        """Join small files, partition by partition. It commits by itself, as anybody's ``OPTIMIZE``.

        Raises:
            RetryableError: others have removed what it joined.
        """
        with explained(f"{self._store.uri(self.folder)}: cannot be compacted"):
            try:
                opened = deltalake.DeltaTable(self._store.uri(self.folder), storage_options=self._options)
                opened.optimize.compact()
            except deltalake.exceptions.CommitFailedError as error:
                raise RetryableError(
                    f"{self._store.uri(self.folder)}: others write to it while it is compacted",
                    hint="do it again later",
                ) from error
            except deltalake.exceptions.DeltaError as error:
                raise TaskError(f"{self._store.uri(self.folder)}: cannot be compacted: {str(error)[:300]}") from error

    def vacuum(self, keep: timedelta) -> int:
        """Remove the files that the log has not named for so long; how many."""
        with explained(f"{self._store.uri(self.folder)}: cannot be cleaned up"):
            try:
                opened = deltalake.DeltaTable(self._store.uri(self.folder), storage_options=self._options)
                hours = math.ceil(keep / timedelta(hours=1))
                gone = opened.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
            except deltalake.exceptions.DeltaError as error:
                raise TaskError(f"{self._store.uri(self.folder)}: cannot be cleaned up: {str(error)[:300]}") from error
        return len(gone)

    # files -----------------------------------------------------------------------------------------------------------

    def new_name(self) -> str:
        """Of a file, relative to the folder."""
        return f"part-{secrets.token_hex(16)}.parquet"

    def sink(self, path: str) -> Any:
        """See ``Store.sink``."""
        return self._store.sink(f"{self.folder}/{path}")

    def batches(self, file: DataFile, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The rows of a file as they lie there, without the columns by which it is partitioned.

        Args:
            file: one of a snapshot.
            columns: which of those that are there; default all.

        Raises:
            StateError: the file is gone.
        """
        try:
            with pq.ParquetFile(self._store.readable(f"{self.folder}/{unquote(file.path)}")) as opened:
                there = opened.schema_arrow.names
                wanted = there if columns is None else [name for name in columns if name in there]
                count = opened.metadata.num_rows
                if not wanted:
                    if count:
                        yield pa.RecordBatch.from_struct_array(pa.array([{}] * count, pa.struct([])))
                    return
                for batch in opened.iter_batches(columns=wanted, batch_size=1 << 16):
                    yield _plain(batch.select(wanted))
        except FileNotFoundError as error:
            raise StateError(
                f"{self._store.uri(self.folder)}/{file.path}: gone, and rows with it",
                hint="a `vacuum` that keeps less than its default may have removed it: restore it, or `strandline sync --full-refresh`",
            ) from error


class Replan:
    """How stored rows that are to go are found again where somebody has moved them since it was decided."""

    def rewritten(self, intent: Intent, file: DataFile) -> "list[dict[str, Any]] | None":
        """The actions ``add`` of what stays of a file; ``None``: all of it."""
        raise NotImplementedError


def schema_fields(schema: "pa.Schema") -> list[Mapping[str, Any]]:
    """Columns as Delta writes them down."""
    fields: list[Mapping[str, Any]] = json.loads(deltalake.Schema.from_arrow(schema).to_json())["fields"]
    return fields


def _plain(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """As we write it: other writers leave views and dictionaries in a file's schema, of which Arrow cannot take every row."""
    schema = pa.schema([one.with_type(_plain_type(one.type)) for one in batch.schema])
    return batch if schema.equals(batch.schema) else batch.cast(schema)


def _plain_type(kind: "pa.DataType") -> "pa.DataType":
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([one.with_type(_plain_type(one.type)) for one in kind])
    if types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind):
        return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)))
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    return pa.binary() if types.is_large_binary(kind) or types.is_binary_view(kind) else kind


def _snapshot_of(opened: Any) -> Snapshot:
    said, metadata = opened.protocol(), opened.metadata()
    features = set(said.writer_features or ()) | set(said.reader_features or ())
    trouble = ""
    if _WRITER_MAX < said.min_writer_version < _WRITER_FEATURES or said.min_writer_version > _WRITER_FEATURES:
        trouble = f"it is of writer version {said.min_writer_version}, which asks more than we do"
    elif strange := sorted(features - _FEATURES):
        trouble = f"it has the table feature {strange[0]}, which asks more than we do"
    elif metadata.configuration.get("delta.appendOnly") == "true":
        trouble = "it is append-only (delta.appendOnly)"
    columns = json.loads(opened.schema().to_json())["fields"]
    if asks := [key for column in columns for key in column["metadata"] if key.startswith("delta.")]:
        trouble = trouble or f"a column has {asks[0]}, which asks more than we do"
    files = {}
    for row in pa.table(opened.get_add_actions()).to_pylist():
        file = DataFile(
            row["path"], row["num_records"], row.get("partition") or {}, row.get("min") or {}, row.get("max") or {}
        )
        files[file.path] = file
    return Snapshot(
        opened.version(),
        str(metadata.id),
        files,
        columns,
        opened.transaction_version(f"{APP}/{metadata.id}") or 0,
        {
            "id": str(metadata.id),
            "name": metadata.name,
            "description": metadata.description,
            "format": {"provider": "parquet", "options": {}},
            "partitionColumns": metadata.partition_columns,
            "configuration": metadata.configuration,
            "createdTime": metadata.created_time,
        },
        frozenset(features),
        trouble,
    )


def _actions(intent: Intent, found: Snapshot | None, replan: Replan) -> list[Mapping[str, Any]]:
    """The lines of a commit after ``found``."""
    now_ms = int(time.time() * 1000)
    operation = "CREATE TABLE" if found is None else "WRITE" if not intent.rewrites else "MERGE"
    actions: list[Mapping[str, Any]] = [
        {"commitInfo": {"timestamp": now_ms, "operation": operation, "engineInfo": "strandline"}},
        {"txn": {"appId": f"{APP}/{intent.id}", "version": intent.number, "lastUpdated": now_ms}},
    ]
    if intent.columns:
        actions += _described(intent, found, now_ms)
    active = found.files if found is not None else {}
    adds, removes = list(intent.adds), []
    if intent.creates:
        removes = list(active)
    else:
        missing = False
        for path, rewritten in intent.rewrites.items():
            if path in active:
                removes.append(path)
                adds += rewritten
            else:
                missing = True
        if missing:
            for path in active.keys() - intent.rewrites.keys():
                left = replan.rewritten(intent, active[path])
                if left is not None:
                    removes.append(path)
                    adds += left
    actions += [{"remove": {"path": path, "deletionTimestamp": now_ms, "dataChange": True}} for path in removes]
    return [*actions, *({"add": {**add, "modificationTime": now_ms}} for add in adds)]


def _described(intent: Intent, found: Snapshot | None, now_ms: int) -> list[Mapping[str, Any]]:
    """The actions that say which columns there are; those that somebody has added stay."""
    columns = list(intent.columns)
    if found is not None and not intent.creates:
        ours = {column["name"] for column in columns}
        columns += [column for column in found.columns if column["name"] not in ours]
    base = found.metadata if found is not None else {"id": intent.id, "configuration": {}, "createdTime": now_ms}
    metadata = {
        **base,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": columns}),
        "partitionColumns": list(intent.partition_by),
    }
    actions: list[Mapping[str, Any]] = [{"metaData": {k: v for k, v in metadata.items() if v is not None}}]
    has = found.features if found is not None else frozenset[str]()
    naive = _NAIVE not in has and "timestamp_ntz" in json.dumps([column["type"] for column in columns])
    if naive:
        writer = sorted({*has, _NAIVE, *(() if has else ("appendOnly", "invariants"))})
        reader = sorted(has & _READER_FEATURES | {_NAIVE})
        protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer}
        actions.insert(0, {"protocol": protocol})
    elif found is None:
        actions.insert(0, {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})
    return actions
