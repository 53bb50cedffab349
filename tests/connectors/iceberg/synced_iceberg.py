"""Iceberg tables that are changed and synced."""

import itertools
import secrets
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record
from synced_table import SyncedTable

from strandline.plugins import load_plugin

MARKS = {"file_path": "2147483546", "pos": "2147483545"}


class _Deletes(ManifestWriterV2):
    """Of files that say which rows are gone."""

    def content(self):
        return ManifestContent.DELETES

    @property
    def _meta(self):
        return super()._meta | {"content": "deletes"}


class SyncedIceberg(SyncedTable):
    """In a directory with a catalog, as Strandline has it."""

    @property
    def catalog(self):
        return SqlCatalog("strandline", uri=f"sqlite:///{self.place}/catalog.db", warehouse=f"file://{self.place}")

    @property
    def ice(self):
        return self.catalog.load_table("default.orders")

    def create(self, schema, **settings):
        with suppress(NamespaceAlreadyExistsError):
            self.catalog.create_namespace("default")
        return self.catalog.create_table("default.orders", schema, **settings)

    def write(self, table):
        if not self.catalog.table_exists("default.orders"):
            self.create(table.schema)
        self.ice.append(table)

    def merge(self, table):
        self.ice.upsert(table, join_cols=["id"])

    def compact(self):
        """All files become one, and no row is changed."""
        table = self.ice
        rows = table.scan().to_arrow()
        name = f"{table.location()}/data/{secrets.token_hex(8)}.parquet"
        numbered = pa.schema(
            [
                one.with_metadata({"PARQUET:field_id": str(table.schema().find_field(one.name).field_id)})
                for one in rows.schema
            ]
        )
        pq.write_table(rows.cast(numbered), name.removeprefix("file://"))
        added = self.described(name, rows.num_rows)
        manifest = self.manifest(
            table, ManifestWriterV2, ManifestEntryStatus.ADDED, [added], number := secrets.randbelow(1 << 62)
        )
        self.commit(table, number, [manifest], Operation.REPLACE)

    def delete_places(self, *places, content=DataFileContent.POSITION_DELETES, **more):
        """As engines do that merge on read: a file that names a data file, and the places of rows in it."""
        table = self.ice
        (path,) = (task.file.file_path for task in itertools.islice(table.scan().plan_files(), 1))
        schema = pa.schema(
            [
                pa.field(name, kind, nullable=False, metadata={"PARQUET:field_id": MARKS[name]})
                for name, kind in (("file_path", pa.string()), ("pos", pa.int64()))
            ]
        )
        name = f"{table.location()}/data/{secrets.token_hex(8)}.parquet"
        gone = pa.table({"file_path": [path] * len(places), "pos": pa.array(places, pa.int64())}, schema)
        pq.write_table(gone, name.removeprefix("file://"))
        added, number = self.described(name, len(places), content=content, **more), secrets.randbelow(1 << 62)
        manifest = self.manifest(table, _Deletes, ManifestEntryStatus.ADDED, [added], number)
        before = table.current_snapshot().manifests(table.io)
        self.commit(table, number, [manifest, *before], Operation.DELETE)

    def add_file(self, rows, **more):
        """A file that another tool has written, as one that was taken over from Hive."""
        table, number = self.ice, secrets.randbelow(1 << 62)
        name = f"{table.location()}/data/{secrets.token_hex(8)}.parquet"
        pq.write_table(rows, name.removeprefix("file://"))
        added = self.described(name, rows.num_rows, **more)
        manifest = self.manifest(table, ManifestWriterV2, ManifestEntryStatus.ADDED, [added], number)
        self.commit(table, number, [manifest, *table.current_snapshot().manifests(table.io)], Operation.APPEND)

    @staticmethod
    def described(name, count, content=DataFileContent.DATA, **more):
        return DataFile.from_args(
            content=content,
            file_path=name,
            file_format=FileFormat.PARQUET,
            record_count=count,
            file_size_in_bytes=1,
            **{"partition": Record(), "spec_id": 0} | more,
        )

    @staticmethod
    def manifest(table, writer_of, status, files, number):
        output = table.io.new_output(f"{table.location()}/metadata/{secrets.token_hex(8)}-m0.avro")
        with writer_of(table.spec(), table.schema(), output, number, "null") as writer:
            for file in files:
                writer.add_entry(ManifestEntry.from_args(status=status, snapshot_id=number, data_file=file))
        return writer.to_manifest_file()

    @staticmethod
    def commit(table, number, manifests, operation):
        parent, sequence = table.current_snapshot().snapshot_id, table.metadata.last_sequence_number + 1
        place = f"{table.location()}/metadata/snap-{number}.avro"
        with write_manifest_list(2, table.io.new_output(place), number, parent, sequence, "null") as writer:
            writer.add_manifests(manifests)
        snapshot = Snapshot(
            snapshot_id=number,
            parent_snapshot_id=parent,
            sequence_number=sequence,
            manifest_list=place,
            summary=Summary(operation),
            schema_id=table.metadata.current_schema_id,
        )
        updates = (
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=number),
        )
        table.catalog.commit_table(table, (), updates)

    def source(self):
        cls = load_plugin("source", "iceberg")
        return cls(cls.Spec(path=self.place, tables={"*": self.settings}))

    def found(self):
        return self.ice.scan().to_arrow()
