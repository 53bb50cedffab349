"""The versions of a Delta table: its log, and the files that it names.

The driver says what the table is at a version, and which of the rows of a file are deleted; commits are read here, since it tells neither
which files came with one nor what its change data are.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from strandline.connectors.delta.columns import conformed, name_in_files
from strandline.connectors.delta.drivers import deltalake
from strandline.connectors.lake.store import Store
from strandline.connectors.stores.drivers import obstore_exceptions
from strandline.connectors.stores.opening import first_line
from strandline.connectors.versions.history import KIND, Change, VersionFile
from strandline.connectors.versions.parquet import batches_from, chosen
from strandline.errors import MACHINE, CursorExpiredError, RetryableError, TaskError, UnreachableError, UsageError
from strandline.lazy import pa, pc, pq

__all__ = ["DeltaHistory", "said"]

_FEED = "delta.enableChangeDataFeed"
_MASKS = "deletionVectors"
_MAPPING = "delta.columnMapping.mode"


class DeltaHistory:
    """See ``History``."""

    word = "version"

    def __init__(
        self, store: Store, folder: str, version: int | None = None, schema: "pa.Schema | None" = None
    ) -> None:
        """Look at a table.

        Args:
            store: where it is.
            folder: below the root of the store; empty: there.
            version: up to which; default: the last one.
            schema: its columns as they are offered, with their names in files, which last; default: those of the version.
        """
        self._store, self._above = store, f"{folder}/" if folder else ""
        uri = self.where = store.uri(folder).rstrip("/")
        self._masked = (-1, dict[str, pa.Array]())
        with said(uri):
            self._opened = self._at(version)
            self.version: int = self._opened.version()
            self._metadata = self._opened.metadata()
            self.schema = pa.schema(self._opened.schema().to_arrow()) if schema is None else schema
        self.identity = str(self._metadata.id)
        if self._metadata.configuration.get(_MAPPING) == "id":
            raise TaskError(
                f"{uri}: its columns are mapped by id, which cannot be read yet", hint=f"set {_MAPPING} to name"
            )
        for name in self._metadata.partition_columns:
            if name in self.schema.names and pa.types.is_binary(self.schema.field(name).type):
                raise TaskError(
                    f"{uri}: it is partitioned by {name!r}, which is binary, and readers do not agree on how that is written"
                )

    @property
    def feed(self) -> bool:
        """Whether it keeps change data now."""
        return _has_feed(self._metadata.configuration)

    @property
    def description(self) -> str:
        """What somebody has said of it."""
        return self._metadata.description or ""

    @property
    def mark(self) -> str:
        """See ``History``."""
        return self.mark_of(self.version)

    def mark_of(self, version: int) -> str:
        """See ``History``: of the commit's content, while it is there."""
        content = self._commit(version)
        return "" if content is None else hashlib.sha256(content).hexdigest()[:16]

    def files(self) -> Sequence[VersionFile]:
        """See ``History``."""
        with said(self.where):
            actions = pa.table(self._opened.get_add_actions())
        wanted = actions.select([name for name in ("path", "partition") if name in actions.schema.names])
        rows = sorted(wanted.to_pylist(), key=lambda row: row["path"])
        return [
            VersionFile(row["path"], self.version, row.get("partition") or {}, detail=self._masks_at_all)
            for row in rows
        ]

    @property
    def rows_about(self) -> int | None:
        """As its statistics say."""
        with said(self.where):
            actions = pa.table(self._opened.get_add_actions())
        counts = actions["num_records"]
        return None if counts.null_count else int(pc.sum(counts).as_py() or 0)

    def changes(self, after: int) -> Sequence[Change]:
        """See ``History``."""
        if after > self.version:
            raise CursorExpiredError(f"{self.where}: it is at version {self.version} now, and {after} was read")
        commits = [(version, self._actions(version)) for version in range(after + 1, self.version + 1)]
        feed = self._feed_at(after, commits)
        found = []
        for version, actions in commits:
            for metadata in actions.get("metaData", ()):
                if metadata.get("id") != self.identity:
                    raise CursorExpiredError(f"{self.where}: it was made again by version {version}")
                feed = _has_feed(metadata.get("configuration") or {})
            change = self._change(version, actions, exact=feed)
            if change.added or change.removed or change.feed:
                found.append(change)
        return found

    def batches(
        self, file: VersionFile, schema: "pa.Schema", *, after: int, rows_max: int, bytes_max: int
    ) -> "Iterator[tuple[int, pa.RecordBatch]]":
        """See ``History``."""
        path, where = unquote(file.path), f"{self.where}/{unquote(file.path)}"
        if "://" in path or path.startswith(("/", "file:")):
            raise TaskError(
                f"{self.where}: a file of it lies elsewhere ({path}), which cannot be read",
                hint="a shallow clone refers to files of another table: read that, or clone it deep",
            )
        wanted = self._in_files(schema)
        with said(where, gone=True):
            mask = self._masks(file.version).get(path) if file.detail else None
            with pq.ParquetFile(
                self._store.pieces(f"{self._above}{path}"), coerce_int96_timestamp_unit="us", pre_buffer=False
            ) as opened:
                inside = [name for one in wanted if (name := name_in_files(one)) in opened.schema_arrow.names]
                for start, batch in batches_from(opened, inside, after, rows_max, bytes_max):
                    left = batch if mask is None else batch.filter(chosen(mask, start, batch.num_rows))
                    yield start + batch.num_rows, conformed(left, wanted, file.partition, where)

    def _in_files(self, schema: "pa.Schema") -> "pa.Schema":
        """The columns that are wanted, with their names in files."""
        columns = []
        for one in schema:
            if one.name == KIND:
                columns.append(one)
            elif one.name not in self.schema.names or self.schema.field(one.name).type != one.type:
                raise TaskError(f"{self.where}: column {one.name!r} was changed meanwhile", hint="sync again")
            else:
                columns.append(self.schema.field(one.name))
        return pa.schema(columns)

    # the log ---------------------------------------------------------------------------------------------------------

    def _at(self, version: int | None) -> Any:
        """The table at a version."""
        try:
            return deltalake.DeltaTable(
                self.where, version=version, storage_options=dict(self._store.options or {}) or None
            )
        except deltalake.exceptions.TableNotFoundError:
            raise
        except deltalake.exceptions.DeltaError as error:
            if version is None:
                raise
            raise CursorExpiredError(
                f"{self.where}: version {version} cannot be read any more: {str(error)[:200]}"
            ) from error

    def _commit(self, version: int) -> bytes | None:
        """What a commit says; ``None``: it was cleaned up."""
        with said(self.where):
            return self._store.get(f"{self._above}_delta_log/{version:020d}.json")

    def _actions(self, version: int) -> Mapping[str, list[dict[str, Any]]]:
        """The actions of a commit, by their kinds."""
        content = self._commit(version)
        if content is None:
            raise CursorExpiredError(f"{self.where}: version {version} was cleaned up from its log before it was read")
        found: dict[str, list[dict[str, Any]]] = {}
        for line in content.splitlines():
            for kind, action in json.loads(line).items() if line.strip() else ():
                found.setdefault(kind, []).append(action)
        return found

    def _feed_at(self, after: int, commits: Sequence[tuple[int, Mapping[str, Any]]]) -> bool:
        """Whether it kept change data just after a version."""
        if not any("metaData" in actions for _, actions in commits):
            return self.feed
        try:
            with said(self.where):
                return _has_feed(self._at(after).metadata().configuration)
        except CursorExpiredError:
            return False

    def _change(self, version: int, actions: Mapping[str, list[dict[str, Any]]], *, exact: bool) -> Change:
        what = next((one["operation"] for one in actions.get("commitInfo", ()) if one.get("operation")), "")
        return Change(
            version,
            what,
            [_file(one, version) for one in actions.get("add", ()) if one.get("dataChange", True)],
            [_file(one, version - 1) for one in actions.get("remove", ()) if one.get("dataChange", True)],
            [_file(one, version) for one in actions.get("cdc", ())],
            exact=exact,
        )

    # rows that are deleted in files that stay ------------------------------------------------------------------------

    @property
    def _masks_at_all(self) -> bool:
        return _MASKS in (self._opened.protocol().reader_features or ())

    def _masks(self, version: int) -> "Mapping[str, pa.Array]":
        """By path, which rows of a file are there, of those of which some are not."""
        if self._masked[0] != version:
            opened = self._opened if version == self.version else self._at(version)
            root, masks = opened.table_uri.rstrip("/"), {}
            for batch in pa.RecordBatchReader.from_stream(opened.deletion_vectors()):
                for path, mask in zip(batch["filepath"].to_pylist(), batch["selection_vector"], strict=True):
                    masks[_below(path, root)] = mask.values
            self._masked = version, masks
        return self._masked[1]


@contextmanager
def said(where: str, *, gone: bool = False) -> Iterator[None]:
    """Turn an error of the driver into ours.

    Args:
        where: what was read, for people.
        gone: whether a file that is not there was there.
    """
    try:
        yield
    except (FileNotFoundError, obstore_exceptions.NotFoundError) as error:
        if not gone:
            raise UsageError(f"{where}: there is no such place", hint="fix `path`") from error
        raise CursorExpiredError(f"{where}: it was removed (VACUUM) before it was read") from error
    except deltalake.exceptions.TableNotFoundError as error:
        raise TaskError(f"{where}: there is no Delta table", hint="fix `path`") from error
    except deltalake.exceptions.DeltaError as error:
        raise TaskError(f"{where}: it cannot be read: {str(error)[:300]}") from error
    except pa.ArrowException as error:
        raise TaskError(f"{where}: it cannot be read: {str(error)[:300]}", hint="is the file damaged?") from error
    except (OSError, obstore_exceptions.BaseError) as error:
        if isinstance(error, OSError) and error.errno in MACHINE:
            raise RetryableError(f"{where}: {error}", hint=MACHINE[error.errno]) from error
        raise UnreachableError(
            f"{where}: {first_line(error)}", hint="is the store up, and may this user read there?"
        ) from error


def _file(action: Mapping[str, Any], version: int) -> VersionFile:
    return VersionFile(
        action["path"], version, action.get("partitionValues") or {}, detail=bool(action.get("deletionVector"))
    )


def _has_feed(configuration: Mapping[str, Any]) -> bool:
    return str(configuration.get(_FEED)).lower() == "true"


def _below(path: str, root: str) -> str:
    """A path relative to the table."""
    return unquote(path.removeprefix(root).lstrip("/"))
