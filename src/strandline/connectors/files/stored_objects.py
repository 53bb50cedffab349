"""A table of ``files`` in an object store: objects below one prefix, which come into sight after a commit of the log.

::

    _strandline/staged/orders/….                what is written, and not committed; no glob for data finds it
    _strandline/tables/orders/41-<id>           the newest entry of the log of which all is in sight
    orders/000000000041-0-<id>.parquet          a data file: the number of its entry, which of its files, the table's id

The name of a data file follows from the entry, and its content never changes. So it does not matter how often it is copied to its
place, nor by whom: the copy of a run that comes late is the same object again. Once all are there, the mark of the entry is created,
and only then the staged objects go: one that is missing before was lost.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePath
from typing import Any

from strandline.connectors.files.formats import FORMATS, Compression, Content
from strandline.connectors.files.partition import HIDDEN
from strandline.connectors.files.stored_form import StoredForm
from strandline.connectors.lake.journal import OWN
from strandline.connectors.lake.lake import folder_of
from strandline.connectors.lake.lake_table import DataFile, LakeTable, Replan, Snapshot
from strandline.connectors.lake.log import Intent
from strandline.connectors.lake.rows import Form
from strandline.connectors.lake.store import ObjectStore, explained
from strandline.errors import RetryableError, StateError
from strandline.lazy import pa
from strandline.table import Table

__all__ = ["ObjectsFormat", "StoredObjects", "marks_of"]

_STAGED, _TABLES = f"{OWN}/staged", f"{OWN}/tables"
_LEFT = timedelta(days=7)
"""What was staged so long ago is a dead run's."""
_ID_CHARS = 8


def marks_of(folder: str) -> str:
    """Where it is said what is in sight of a table."""
    return f"{_TABLES}/{folder}"


@dataclass(frozen=True, slots=True)
class ObjectsFormat:
    """See ``Format``."""

    store: ObjectStore
    compression: Compression | None
    files_max: int

    def table(self, name: str) -> "StoredObjects":
        """See ``Format``."""
        return StoredObjects(self.store, folder_of(name))

    def form(self, table: Table, partition_by: tuple[str, ...]) -> StoredForm:
        """See ``Format``."""
        return StoredForm(table, partition_by, self.compression, self.files_max)


class StoredObjects(LakeTable):
    """One prefix of a store."""

    def __init__(self, store: ObjectStore, folder: str) -> None:
        self._store, self._folder, self.where = store, folder, f"{store.where}/{folder}"
        self._marks, self._staged = marks_of(folder), f"{_STAGED}/{folder}"
        self._shown: tuple[str, int] | None = None
        """The table's id, and the entry of which this process knows that it is in sight."""

    def snapshot(self) -> Snapshot | None:
        """What is in sight; ``None``: no table."""
        with explained(f"{self.where}: cannot be read"):
            marks = [_parsed(name) for name in self._store.listed(self._marks)]
        return self._snapshot(*max(marks)) if marks else None

    def _snapshot(self, number: int, identity: str) -> Snapshot:
        return Snapshot(number, identity, _Listed(self._store, self._folder), (), number, "")

    def settled(self, intent: Intent, replan: Replan) -> Snapshot:
        """See ``LakeTable``. Removes what dead runs have staged, once in a process."""
        if self._shown != (intent.id, intent.number):
            super().settled(intent, replan)
            if self._shown is None:
                self._store.delete(self._store.older(self._staged, _LEFT))
            self._shown = intent.id, intent.number
        return self._snapshot(intent.number, intent.id)

    def anything(self) -> bool:
        """Whether there is an object below its prefix."""
        return next(self._store.names(self._folder), None) is not None

    def columns(self, form: Form) -> list[Mapping[str, Any]]:
        """Nothing says them but the files."""
        del form
        return []

    def clear(self, identity: str) -> None:
        """See ``LakeTable``."""
        found = self.snapshot()
        if found is not None and found.id == identity:
            self._store.delete(f"{self._folder}/{path}" for path in list(found.files))
            self._store.remove(self._staged)
            self._store.remove(self._marks)

    def _say(
        self, intent: Intent, found: Snapshot | None, adds: Sequence[Mapping[str, Any]], removes: Sequence[str]
    ) -> None:
        del found
        with explained(f"{self.where}: what is committed does not come into sight yet"):
            self._store.delete(f"{self._folder}/{path}" for path in removes)
            for at, add in enumerate(adds):
                if not self._show(intent, at, add):
                    return
            self._store.create(f"{self._marks}/{intent.number:012d}-{intent.id}", b"")
            self._store.delete(add["path"] for add in adds)
            for name in self._store.listed(self._marks):
                if _parsed(name)[0] < intent.number:
                    self._store.delete([f"{self._marks}/{name}"])

    def _show(self, intent: Intent, at: int, add: Mapping[str, Any]) -> bool:
        """Put a file in its place; ``False``: somebody else has done all of it meanwhile.

        Raises:
            StateError: it is lost.
        """
        name = "-".join([f"{intent.number:012d}", str(at), intent.id[:_ID_CHARS]]) + add["suffix"]
        place = "/".join(filter(None, [self._folder, add["below"], name]))
        if self._store.copy(add["path"], place, add["size"]) or self._store.size(place) == add["size"]:
            return True
        again = self.snapshot()
        if again is None or again.id != intent.id or again.told >= intent.number:
            return False
        raise StateError(
            f"{self._store.where}/{place}: a commit has it, and it is gone, nor is it in {add['path']}: its rows are lost",
            hint="restore it, if the store keeps versions; let nothing clean up below `_strandline`",
        )

    # files -----------------------------------------------------------------------------------------------------------

    def new_name(self) -> str:
        """Of a staged object."""
        return f"{self._staged}/{secrets.token_hex(16)}"

    def sink(self, path: str) -> Any:
        """See ``Store.sink``."""
        return self._store.sink(path)

    def added(self, path: str, size: int, partition: Mapping[str, Any], described: Any) -> Mapping[str, Any]:
        """See ``LakeTable``."""
        del described
        return {"path": path, "size": size, **partition}

    def settle(self) -> None:
        """An object is durable once it is acknowledged."""

    def delete(self, paths: Sequence[str]) -> None:
        """Remove staged objects."""
        self._store.delete(paths)

    def content(self, file: DataFile) -> tuple[Content, str]:
        """All of a data file, and where it lies."""
        where = f"{self.where}/{file.path}"
        with explained(where):
            content = self._store.get(f"{self._folder}/{file.path}")
        if content is None:
            raise RetryableError(f"{where}: it vanished while the table was read")
        return pa.py_buffer(content), where

    def batches(self, file: DataFile, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """Nothing is written again of what is there."""
        raise NotImplementedError


class _Listed(Mapping[str, DataFile]):
    """The data files that are there when they are asked for, of any format; a list is paid for when it is read."""

    def __init__(self, store: ObjectStore, folder: str) -> None:
        self._store, self._folder = store, folder

    def __iter__(self) -> Iterator[str]:
        for name in self._store.names(self._folder):
            last = PurePath(name).name
            if not last.startswith(HIDDEN) and any(form.is_one(last) for form in FORMATS.values()):
                yield name

    def __getitem__(self, name: str) -> DataFile:
        return DataFile(name, None, {}, {}, {})

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _parsed(mark: str) -> tuple[int, str]:
    """The number of an entry, and the id of a table."""
    number, _, identity = mark.partition("-")
    return int(number), identity
