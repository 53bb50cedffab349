"""An Iceberg table: what its metadata says, and how it is made to say what was decided.

Commits are made of the driver's pieces and tried once: its own retries would not ask what we have to ask, whether what is there now
has it already (the property ``strandline.entry``, which is changed in the same commit). That one was made after what we looked
at, the catalog compares: by the current snapshot, the current schema and the table's UUID.
"""

import io
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from strandline.connectors.iceberg.catalog import Catalog
from strandline.connectors.iceberg.data_file import described, of_entry, to_iceberg
from strandline.connectors.iceberg.drivers import ice_manifest, ice_snapshots, ice_table, ice_update, producers
from strandline.connectors.iceberg.form import IcebergForm
from strandline.connectors.iceberg.partition import apart_of, said_of, spec_of
from strandline.connectors.iceberg.schema import (
    ID,
    field_from_json,
    field_to_json,
    fields_of,
    is_same,
    promotes,
    schema_of,
    with_numbers,
)
from strandline.connectors.lake.lake import folder_of
from strandline.connectors.lake.lake_table import DataFile, LakeTable, Snapshot, batches_of
from strandline.connectors.lake.log import Intent
from strandline.connectors.lake.rows import Form
from strandline.connectors.lake.store import LocalStore, Store, explained
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["ENTRY", "IDENTITY", "IcebergFormat", "IcebergTable"]

IDENTITY, ENTRY = "strandline.id", "strandline.entry"
"""Properties of a table: which one it is, and the newest entry of the lake's log that its metadata tells of."""
_OWN = {"write.metadata.delete-after-commit.enabled": "true"}
"""Properties of new tables, unless the spec says otherwise: each commit leaves a file of metadata."""
_VERSION = 2
_FIRST_PARTITION = 1000
_FILES = LocalStore(Path("/"))


class IcebergFormat:
    """See ``Format``."""

    def __init__(self, store: Store, catalog: Catalog, properties: Mapping[str, str]) -> None:
        self._store, self._catalog, self._properties = store, catalog, properties

    def table(self, name: str) -> "IcebergTable":
        """See ``Format``."""
        return IcebergTable(self._store, self._catalog, self._properties, name)

    def form(self, table: Table, partition_by: tuple[str, ...]) -> IcebergForm:
        """See ``Format``."""
        return IcebergForm(table, partition_by)


@dataclass(frozen=True, slots=True)
class _Detail:
    """What a commit is made after."""

    table: Any
    """The driver's."""
    files: Mapping[str, Any]
    """The driver's description of each, by path."""


class IcebergTable(LakeTable):
    """One table of a catalog."""

    def __init__(self, store: Store, catalog: Catalog, properties: Mapping[str, str], name: str) -> None:
        self._store, self._catalog, self._properties, self._name = store, catalog, properties, name
        self.where = ".".join(catalog.identifier(name))
        self._seen: Snapshot | None = None
        self._manifests: dict[str, list[Any]] = {}

    def snapshot(self) -> Snapshot | None:
        """See ``LakeTable``."""
        with explained(f"{self.where}: cannot be read"):
            table = self._catalog.load(self._name)
            if table is None:
                self._seen = None
                return None
            seen = self._seen
            if seen is None or seen.version != table.metadata_location:
                with self._catalog.explained(f"cannot read {self._name}"):
                    self._seen = seen = self._snapshot_of(table)
            return seen

    def _snapshot_of(self, table: Any) -> Snapshot:
        metadata = table.metadata
        trouble = "" if metadata.format_version == _VERSION else f"it is of format version {metadata.format_version}"
        files: dict[str, Any] = {}
        manifests: dict[str, list[Any]] = {}
        current = metadata.current_snapshot()
        for manifest in current.manifests(table.io) if current is not None else ():
            path = manifest.manifest_path
            if manifest.content != ice_manifest.ManifestContent.DATA:
                trouble = trouble or "it has files of deletes, which would have to be compacted first"
                continue
            manifests[path] = self._manifests.get(path) or [
                one.data_file for one in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            ]
            files |= {one.file_path: one for one in manifests[path]}
        self._manifests = manifests
        if any(one.spec_id != metadata.default_spec_id for one in files.values()):
            trouble = trouble or "some of its files are partitioned in another way"
        if any(one.file_format != ice_manifest.FileFormat.PARQUET for one in files.values()):
            trouble = trouble or "it has files that are not Parquet"
        schema = table.schema()
        properties = metadata.properties
        return Snapshot(
            table.metadata_location,
            properties.get(IDENTITY, ""),
            {path: of_entry(one, schema) for path, one in files.items()},
            [field_to_json(one) for one in schema.fields],
            int(properties.get(ENTRY, "0")),
            trouble,
            _Detail(table, files),
        )

    def trouble(self, form: Form, found: Snapshot) -> str:
        """See ``LakeTable``."""
        table = found.detail.table
        there = {one.name: one.field_type for one in table.schema().fields}
        for name, kind in form.written.items():
            if name not in there or not (is_same(kind, there[name]) or promotes(there[name], kind)):
                return f"its column {name!r} was changed, renamed or dropped"
        aparts = tuple(apart_of(one) for one in form.partition_by)
        return "" if said_of(table.spec(), table.schema()) == aparts else "it is partitioned in another way now"

    def anything(self) -> bool:
        """See ``LakeTable``."""
        return self.snapshot() is not None

    def columns(self, form: Form) -> list[Mapping[str, Any]]:
        """See ``LakeTable``."""
        return [field_to_json(one) for one in self._fields(form)]

    def _fields(self, form: Form) -> list[Any]:
        seen = self._seen
        if seen is None:
            return fields_of(form.written, None, 0)
        metadata = seen.detail.table.metadata
        return fields_of(form.written, metadata.schema(), metadata.last_column_id)

    def clear(self, identity: str) -> None:
        """See ``LakeTable``."""
        found = self.snapshot()
        if found is None or found.id != identity:
            return
        self._catalog.drop(self._name)
        location = _local(found.detail.table.location())
        if location is not None:
            _FILES.remove(location)

    # its log ---------------------------------------------------------------------------------------------------------

    def _say(
        self, intent: Intent, found: Snapshot | None, adds: Sequence[Mapping[str, Any]], removes: Sequence[str]
    ) -> None:
        with explained(f"{self.where}: what is committed does not come into sight yet"):
            if found is None:
                self._create(intent)
                return
            with self._catalog.explained(f"cannot commit to {self._name}"):
                table = found.detail.table
                metadata, updates = self._described(table.metadata, intent)
                if adds or removes:
                    updates += _exchange(table, metadata, found.detail.files, adds, removes)
                said = {IDENTITY: intent.id, ENTRY: str(intent.number)}
                updates.append(ice_update.SetPropertiesUpdate(updates=said))
                made = self._catalog.commit(table, _after(table.metadata), tuple(updates))
                if made is not None:
                    with suppress(Exception):  # the table is the same with them
                        self._catalog.opened()._delete_old_metadata(table.io, table.metadata, made.metadata)  # noqa: SLF001 -- as its `commit` does

    def _create(self, intent: Intent) -> None:
        fields = [field_from_json(one) for one in intent.columns]
        aparts = [apart_of(one) for one in intent.partition_by]
        described: dict[str, Any] = {}
        if not self._catalog.places_tables:
            described["location"] = self._location(intent.id)
        self._catalog.create(
            self._name,
            schema=schema_of(fields, 0),
            partition_spec=spec_of(aparts, {one.name: one.field_id for one in fields}),
            properties={**_OWN, **self._properties, IDENTITY: intent.id, ENTRY: str(intent.number)},
            **described,
        )

    def _location(self, identity: str) -> str:
        """A folder of its own name, unless something is there."""
        folder = folder_of(self._name)
        if self._store.listed(folder):
            folder = f"{folder}-{identity[:8]}"
        uri = self._store.uri(folder)
        return uri if "://" in uri else f"file://{uri}"

    def _described(self, metadata: Any, intent: Intent) -> tuple[Any, list[Any]]:
        """Columns, and by what the files are apart, where they change: the metadata with them, and the updates."""
        aparts, updates = [apart_of(one) for one in intent.partition_by], list[Any]()
        before = said_of(metadata.spec(), metadata.schema())
        if intent.columns:
            ours = [field_from_json(one) for one in intent.columns]
            names = {one.name for one in ours}
            others = [] if intent.creates else [one for one in metadata.schema().fields if one.name not in names]
            number = max(one.schema_id for one in metadata.schemas) + 1
            updates += [
                ice_update.AddSchemaUpdate(schema=schema_of([*ours, *others], number)),
                ice_update.SetCurrentSchemaUpdate(schema_id=-1),
            ]
            metadata = ice_update.update_table_metadata(metadata, tuple(updates))
        if before != tuple(aparts):
            if not intent.creates:
                raise TaskError(
                    f"{self.where}: it is partitioned in another way now", hint="change it back, then sync again"
                )
            numbers = {one.name: one.field_id for one in metadata.schema().fields}
            last = metadata.last_partition_id if metadata.last_partition_id is not None else _FIRST_PARTITION - 1
            made = spec_of(aparts, numbers, max(metadata.specs()) + 1, last + 1)
            more = [ice_update.AddPartitionSpecUpdate(spec=made), ice_update.SetDefaultSpecUpdate(spec_id=-1)]
            metadata, updates = ice_update.update_table_metadata(metadata, tuple(more)), [*updates, *more]
        return metadata, updates

    # files -----------------------------------------------------------------------------------------------------------

    def new_name(self) -> str:
        """See ``LakeTable``."""
        return f"{self._folder()}/{secrets.token_hex(16)}.parquet"

    def _folder(self) -> str:
        """Where data files lie."""
        seen = self._seen or self.snapshot()
        if seen is None:
            raise TaskError(f"{self.where}: the table is gone")
        table = seen.detail.table
        said: str = table.metadata.properties.get("write.data.path", f"{table.location().rstrip('/')}/data")
        return said

    def sink(self, path: str) -> Any:
        """See ``LakeTable``."""
        local = _local(path)
        return _FILES.sink(local) if local is not None else _Object(self._io(), path)

    def _io(self) -> Any:
        seen = self._seen or self.snapshot()
        if seen is None:
            raise TaskError(f"{self.where}: the table is gone")
        return seen.detail.table.io

    def schema_of(self, schema: "pa.Schema", form: Form) -> "pa.Schema":
        """See ``LakeTable``: each column has its number."""
        seen = self._seen or self.snapshot()
        if seen is None:
            raise TaskError(f"{self.where}: the table is gone")
        fields = {one.name: one for one in seen.detail.table.schema().fields}
        return with_numbers(schema, fields | {one.name: one for one in self._fields(form)})

    def added(self, path: str, size: int, partition: Mapping[str, Any], found: Any) -> Mapping[str, Any]:
        """See ``LakeTable``."""
        return described(path, size, partition, found)

    def settle(self) -> None:
        """See ``LakeTable``."""
        local = _local(self._folder())
        if local is not None:
            _FILES.settle(local)

    def delete(self, paths: Sequence[str]) -> None:
        """See ``LakeTable``."""
        for path in paths:
            local = _local(path)
            if local is not None:
                _FILES.delete([local])
            else:
                self._io().delete(path)

    def batches(self, file: DataFile, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """See ``LakeTable``; a column is known by its number, whatever it was called when the file was written."""
        found = self._seen or self.snapshot()
        names = {one.field_id: one.name for one in found.detail.table.schema().fields} if found is not None else {}

        def chosen(schema: "pa.Schema") -> dict[str, str]:
            there = {}
            for one in schema:
                number = (one.metadata or {}).get(ID)
                name = one.name if number is None else names.get(int(number))
                if name is not None:
                    there[name] = one.name
            wanted = list(there) if columns is None else [name for name in columns if name in there]
            return {there[name]: name for name in wanted}

        local = _local(file.path)
        return batches_of(lambda: local or self._io().new_input(file.path).open(), file.path, chosen)


class _Object(io.BytesIO):
    """A file of an object store, made when it is kept."""

    def __init__(self, store: Any, path: str) -> None:
        super().__init__()
        self._store, self._path, self._kept = store, path, False

    def keep(self) -> None:
        """Make it."""
        with self._store.new_output(self._path).create() as out:
            out.write(self.getvalue())
        self.close()
        self._kept = True

    def discard(self) -> None:
        """Leave nothing."""
        self.close()
        if self._kept:
            with suppress(OSError):
                self._store.delete(self._path)


class _Transaction:
    """What the driver's producers ask of its transaction, which would copy all metadata each time."""

    def __init__(self, table: Any, metadata: Any) -> None:
        self._table, self.table_metadata = table, metadata
        self._build_partition_predicate = ice_table.Transaction(table)._build_partition_predicate  # noqa: SLF001 -- asked by it


def _exchange(
    table: Any, metadata: Any, files: Mapping[str, Any], adds: Sequence[Mapping[str, Any]], removes: Sequence[str]
) -> list[Any]:
    """Updates: files come and go, as one snapshot."""
    fast = not removes
    producer: Any = (producers._MergeAppendFiles if fast else producers._OverwriteFiles)(  # noqa: SLF001 -- there is no other way without retries
        ice_snapshots.Operation.APPEND if fast else ice_snapshots.Operation.OVERWRITE,
        _Transaction(table, metadata),
        table.io,
    )
    for one in adds:
        producer.append_data_file(to_iceberg(one, metadata.default_spec_id))
    for path in removes:
        producer.delete_data_file(files[path])
    updates, _ = producer._commit()  # noqa: SLF001 -- its `commit` would try again by itself
    return list(updates)


def _after(metadata: Any) -> tuple[Any, ...]:
    """That a commit is made after this and nothing else."""
    current = metadata.current_snapshot()
    return (
        ice_update.AssertTableUUID(uuid=metadata.table_uuid),
        ice_update.AssertCurrentSchemaId(current_schema_id=metadata.current_schema_id),
        ice_update.AssertDefaultSpecId(default_spec_id=metadata.default_spec_id),
        ice_update.AssertRefSnapshotId(ref="main", snapshot_id=current.snapshot_id if current is not None else None),
    )


def _local(location: str) -> str | None:
    """The path of a location on this machine; ``None``: it is somewhere else."""
    if "://" not in location and not location.startswith("file:"):
        return location
    return urlparse(location).path if location.startswith("file:") else None
