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
from strandline.connectors.delta.form import DeltaForm, partition_text
from strandline.connectors.delta.stats import json_stats
from strandline.connectors.lake.lake import folder_of
from strandline.connectors.lake.lake_table import DataFile, LakeTable, Snapshot, batches_of
from strandline.connectors.lake.log import Intent
from strandline.connectors.lake.rows import Form
from strandline.connectors.lake.store import Store, explained
from strandline.errors import RetryableError, TaskError
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["APP", "DeltaFormat", "DeltaTable", "schema_fields"]

APP = "strandline"
"""Of the ``txn`` actions, before the id of the Delta table."""
_CHECKPOINT_EVERY = 20
_FEATURES = {"timestampNtz", "appendOnly", "invariants", "v2Checkpoint", "vacuumProtocolCheck", "changeDataFeed"}
"""What may be said of a table to which we write: none of these asks anything of who does but what we do."""
_NAIVE = "timestampNtz"
_READER_FEATURES = {_NAIVE, "v2Checkpoint", "vacuumProtocolCheck"}
"""Those of them that are said of readers, too."""
_WRITER_MAX, _WRITER_FEATURES = 2, 7


@dataclass(frozen=True, slots=True)
class _Detail:
    """What a commit says again."""

    metadata: Mapping[str, Any]
    features: frozenset[str]
    """That the table has, by name."""


class DeltaFormat:
    """See ``Format``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def table(self, name: str) -> "DeltaTable":
        """See ``Format``."""
        return DeltaTable(self._store, folder_of(name))

    def form(self, table: Table, partition_by: tuple[str, ...]) -> DeltaForm:
        """See ``Format``."""
        return DeltaForm(table, partition_by)


class DeltaTable(LakeTable):
    """One folder of a lake."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self.folder, self.where = store, folder, store.uri(folder)
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

    def columns(self, form: Form) -> list[Mapping[str, Any]]:
        """See ``LakeTable``."""
        return schema_fields(pa.schema(list(form.written.items())))

    def clear(self, identity: str) -> None:
        """See ``LakeTable``."""
        found = self.snapshot()
        if found is not None and found.id == identity:
            self._store.remove(self.folder)

    def _say(
        self, intent: Intent, found: Snapshot | None, adds: Sequence[Mapping[str, Any]], removes: Sequence[str]
    ) -> None:
        self._commit(found.version + 1 if found is not None else 0, _actions(intent, found, adds, removes))

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

    def added(self, path: str, size: int, partition: Mapping[str, Any], described: Any) -> Mapping[str, Any]:
        """Delta's action ``add``."""
        return {
            "path": path,
            "partitionValues": {name: partition_text(name, value) for name, value in partition.items()},
            "size": size,
            "dataChange": True,
            "stats": json_stats(described),
        }

    def settle(self) -> None:
        """See ``LakeTable``."""
        self._store.settle(self.folder)

    def delete(self, paths: Sequence[str]) -> None:
        """See ``LakeTable``."""
        self._store.delete(f"{self.folder}/{path}" for path in paths)

    def batches(self, file: DataFile, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """See ``LakeTable``; without the columns by which it is partitioned."""

        def chosen(schema: "pa.Schema") -> dict[str, str]:
            names = schema.names if columns is None else [name for name in columns if name in schema.names]
            return {name: name for name in names}

        path = f"{self.folder}/{unquote(file.path)}"
        return batches_of(lambda: self._store.readable(path), self._store.uri(path), chosen)


def schema_fields(schema: "pa.Schema") -> list[Mapping[str, Any]]:
    """Columns as Delta writes them down."""
    fields: list[Mapping[str, Any]] = json.loads(deltalake.Schema.from_arrow(schema).to_json())["fields"]
    return fields


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
        trouble,
        _Detail(
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
        ),
    )


def _actions(
    intent: Intent, found: Snapshot | None, adds: Sequence[Mapping[str, Any]], removes: Sequence[str]
) -> list[Mapping[str, Any]]:
    """The lines of a commit after ``found``."""
    now_ms = int(time.time() * 1000)
    operation = "CREATE TABLE" if found is None else "WRITE" if not intent.rewrites else "MERGE"
    actions: list[Mapping[str, Any]] = [
        {"commitInfo": {"timestamp": now_ms, "operation": operation, "engineInfo": "strandline"}},
        {"txn": {"appId": f"{APP}/{intent.id}", "version": intent.number, "lastUpdated": now_ms}},
    ]
    if intent.columns:
        actions += _described(intent, found, now_ms)
    actions += [{"remove": {"path": path, "deletionTimestamp": now_ms, "dataChange": True}} for path in removes]
    return [*actions, *({"add": {**add, "modificationTime": now_ms}} for add in adds)]


def _described(intent: Intent, found: Snapshot | None, now_ms: int) -> list[Mapping[str, Any]]:
    """The actions that say which columns there are; those that somebody has added stay."""
    columns = list(intent.columns)
    if found is not None and not intent.creates:
        ours = {column["name"] for column in columns}
        columns += [column for column in found.columns if column["name"] not in ours]
    base = found.detail.metadata if found is not None else {"id": intent.id, "configuration": {}, "createdTime": now_ms}
    metadata = {
        **base,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": columns}),
        "partitionColumns": list(intent.partition_by),
    }
    actions: list[Mapping[str, Any]] = [{"metaData": {k: v for k, v in metadata.items() if v is not None}}]
    has: frozenset[str] = found.detail.features if found is not None else frozenset()
    naive = _NAIVE not in has and "timestamp_ntz" in json.dumps([column["type"] for column in columns])
    if naive:
        writer = sorted({*has, _NAIVE, *(() if has else ("appendOnly", "invariants"))})
        reader = sorted(has & _READER_FEATURES | {_NAIVE})
        protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer}
        actions.insert(0, {"protocol": protocol})
    elif found is None:
        actions.insert(0, {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})
    return actions
