"""The snapshots of an Iceberg table: what its manifests say, and the files that they name.

The driver reads manifests, and puts a file's columns in order by their ids. Which files came with a snapshot is read from its manifests,
and rows are read here, one batch at a time. Files of deletes by position, and deletion vectors, are applied; those by values are
refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from strandline.connectors.iceberg.drivers import ice_arrow, ice_manifest, ice_schema, ice_types
from strandline.connectors.versions.history import Change, VersionFile
from strandline.connectors.versions.parquet import batches_from, chosen
from strandline.connectors.versions.types import plain_schema
from strandline.errors import MACHINE, CursorExpiredError, RetryableError, StrandlineError, TaskError, UnreachableError
from strandline.lazy import pa, pc, pq

__all__ = ["NOTHING", "IcebergHistory", "offered"]

NOTHING = 0
"""In the place of a snapshot, where there is none yet."""
_MOVED = "replace"
"""The operation of a snapshot in which no row has changed."""


class IcebergHistory:
    """See ``History``.

    Args:
        table: the driver's, just loaded.
        version: the snapshot up to which it is read.
        schema: the columns as they are offered, as Iceberg describes them; default: those it has now.
    """

    word, mark = "snapshot", ""

    def __init__(self, table: Any, version: int | None = None, schema: Any = None) -> None:
        self._table, self.where = table, ".".join(table.name())
        self.schema = table.schema() if schema is None else schema
        newest = table.metadata.current_snapshot_id
        self.version: int = version if version is not None else newest or NOTHING
        self.identity = str(table.metadata.table_uuid)
        self._snapshots = {one.snapshot_id: one for one in table.metadata.snapshots}
        if self.version != NOTHING and self.version not in self._snapshots:
            raise CursorExpiredError(f"{self.where}: snapshot {self.version} has expired before it was read")
        self._hidden: dict[str, tuple[Any, ...]] | None = None

    def mark_of(self, version: int) -> str:
        """See ``History``: the number of a snapshot is never given again."""
        del version
        return ""

    @property
    def rows_about(self) -> int | None:
        """As the snapshot says."""
        summary = self._snapshots[self.version].summary if self.version != NOTHING else None
        count = None if summary is None else summary.additional_properties.get("total-records")
        return None if count is None else int(count)

    def files(self) -> Sequence[VersionFile]:
        """See ``History``."""
        if self.version == NOTHING:
            return []
        return [self._file(one.file) for one in self._planned()]

    def changes(self, after: int) -> Sequence[Change]:
        """See ``History``."""
        found, at = [], self.version
        while at != after:
            snapshot = self._snapshots.get(at)
            if snapshot is None:
                raise CursorExpiredError(
                    f"{self.where}: snapshot {after}, which was read, has expired, or the table was put back to one before it"
                )
            found.append(self._change(snapshot))
            at = snapshot.parent_snapshot_id or NOTHING
        return [one for one in reversed(found) if one.added or one.removed]

    def batches(
        self, file: VersionFile, schema: "pa.Schema", *, after: int, rows_max: int, bytes_max: int
    ) -> "Iterator[tuple[int, pa.RecordBatch]]":
        """See ``History``."""
        wanted = self._selected(schema)
        with self._said(file.path), self._table.io.new_input(file.path).open() as source:
            hidden = self._deletes_of(file.path)
            with pq.ParquetFile(source, pre_buffer=False) as opened:
                described = self._described(opened.schema_arrow)
                inside = ice_schema.prune_columns(described, _leaves(wanted), select_full_types=False)
                missing = self._partition_of(file, wanted, described)
                names = [one.name for one in inside.columns]
                for start, batch in batches_from(opened, names, after, rows_max, bytes_max):
                    read = start + batch.num_rows
                    left = batch if hidden is None else batch.filter(chosen(hidden, start, batch.num_rows))
                    yield read, self._conformed(left, wanted, inside, missing).cast(schema)

    # snapshots -------------------------------------------------------------------------------------------------------

    def _change(self, snapshot: Any) -> Change:
        """What a snapshot did. One whose operation is not known is looked at as any that may have changed rows."""
        what = str(snapshot.summary.operation.value) if snapshot.summary is not None else ""
        if what == _MOVED:
            return Change(snapshot.snapshot_id, what)
        added: list[VersionFile] = []
        removed: list[VersionFile] = []
        with self._said(snapshot.manifest_list):
            for manifest in snapshot.manifests(self._table.io):
                if manifest.added_snapshot_id != snapshot.snapshot_id:
                    continue
                for entry in manifest.fetch_manifest_entry(self._table.io, discard_deleted=False):
                    if (
                        entry.snapshot_id != snapshot.snapshot_id
                        or entry.status == ice_manifest.ManifestEntryStatus.EXISTING
                    ):
                        continue
                    is_rows = entry.data_file.content == ice_manifest.DataFileContent.DATA
                    is_new = entry.status == ice_manifest.ManifestEntryStatus.ADDED
                    (added if is_rows and is_new else removed).append(self._file(entry.data_file))
        return Change(snapshot.snapshot_id, what, added, removed)

    def _file(self, data: Any) -> VersionFile:
        return VersionFile(data.file_path, self.version, detail=data)

    def _planned(self) -> list[Any]:
        """The files of the snapshot, each with what deletes rows of it."""
        with self._said(self.where):
            try:
                tasks = list(self._table.scan(snapshot_id=self.version).plan_files())
            except (NotImplementedError, ValueError) as error:
                if "equality delete" not in str(error):
                    raise
                raise TaskError(
                    f"{self.where}: it has files that delete rows by their values, which cannot be applied yet",
                    hint="compact it (rewrite_data_files), and sync again",
                ) from error
        return sorted(tasks, key=lambda task: str(task.file.file_path))

    def _deletes_of(self, path: str) -> "pa.Array | None":
        """Which rows of a file are there; ``None``: all."""
        if self._hidden is None:
            self._hidden = {}
            if self.version != NOTHING and self._has_deletes():
                self._hidden = {
                    one.file.file_path: tuple(one.delete_files) for one in self._planned() if one.delete_files
                }
        places = [
            found[path]
            for deletes in self._hidden.get(path, ())
            if path in (found := ice_arrow._read_deletes(self._table.io, deletes))  # noqa: SLF001 -- pinned, see pyproject.toml
        ]
        if not places:
            return None
        gone = pc.unique(pa.chunked_array([chunk for one in places for chunk in one.chunks], pa.int64()))
        there = pa.arange(0, pc.max(gone).as_py() + 1)
        return pc.invert(pc.is_in(there, value_set=gone))

    def _has_deletes(self) -> bool:
        snapshot = self._snapshots[self.version]
        with self._said(snapshot.manifest_list):
            return any(
                one.content == ice_manifest.ManifestContent.DELETES for one in snapshot.manifests(self._table.io)
            )

    # columns ---------------------------------------------------------------------------------------------------------

    def _selected(self, schema: "pa.Schema") -> Any:
        """The columns that are wanted, as Iceberg describes them."""
        now = offered(self.schema)
        for one in schema:
            if one.name not in now.names or now.field(one.name).type != one.type:
                raise TaskError(f"{self.where}: column {one.name!r} was changed meanwhile", hint="sync again")
        return self.schema.select(*schema.names) if schema.names else self.schema

    def _described(self, inside: "pa.Schema") -> Any:
        """The columns of a file as Iceberg describes them."""
        return ice_arrow.pyarrow_to_schema(
            inside,
            self._table.name_mapping(),
            downcast_ns_timestamp_to_us=True,
            format_version=self._table.format_version,
        )

    def _partition_of(self, file: VersionFile, wanted: Any, described: Any) -> Mapping[int, Any]:
        """Values that stand in no file, but in the manifest."""
        spec = self._table.specs().get(file.detail.spec_id)
        found: Mapping[int, Any] = ice_arrow._get_column_projection_values(  # noqa: SLF001 -- see above
            file.detail, wanted, self._table.schema(), spec, described.field_ids
        )
        return found

    @staticmethod
    def _conformed(batch: "pa.RecordBatch", wanted: Any, inside: Any, missing: Mapping[int, Any]) -> "pa.RecordBatch":
        return ice_arrow._to_requested_schema(  # noqa: SLF001 -- see above
            wanted,
            inside,
            batch,
            downcast_ns_timestamp_to_us=True,
            projected_missing_fields=missing,
            allow_timestamp_tz_mismatch=True,
        )

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """Turn an error of the driver into ours."""
        try:
            yield
        except StrandlineError:
            raise
        except FileNotFoundError as error:
            raise CursorExpiredError(f"{self.where}: {what} was removed before it was read") from error
        except OSError as error:
            if error.errno in MACHINE:
                raise RetryableError(f"{what}: {error}", hint=MACHINE[error.errno]) from error
            raise UnreachableError(
                f"{what}: {str(error)[:300]}", hint="is the store up, and may this user read there?"
            ) from error
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            raise TaskError(f"{self.where}: {what} cannot be read: {str(error)[:300]}") from error


def _leaves(schema: Any) -> set[int]:
    """The numbers of all that holds values in a file, or is a struct."""
    containers = (ice_types.ListType, ice_types.MapType)
    return {number for number in schema.field_ids if not isinstance(schema.find_type(number), containers)}


def offered(schema: Any) -> "pa.Schema":
    """The columns of a table as they are offered."""
    return plain_schema(ice_arrow.schema_to_pyarrow(schema, include_field_ids=False))
