"""The source ``delta``: Delta tables, read by the versions of their logs.

::

    lake/                ``path`` is a table, or a directory of tables
    ├── orders/          a table
    └── customers/

A first pass reads the files of one version, later ones what each version after it has added, changed or removed; see
``strandline.connectors.versions`` for what is promised. Files are read here, one batch at a time. Columns that were renamed, rows
that deletion vectors hide and columns by which a table is partitioned are as any reader of Delta shows them.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from strandline import describe
from strandline.connectors.delta.description import READ, place_of
from strandline.connectors.delta.history import DeltaHistory, said
from strandline.connectors.lake.journal import keys_of
from strandline.connectors.lake.lake import folder_of
from strandline.connectors.lake.store import store_of
from strandline.connectors.versions.settings import VersionedTable
from strandline.connectors.versions.source import Found, VersionsSource
from strandline.connectors.versions.types import plain_schema
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.table_settings import PerTable

__all__ = ["DeltaSource"]


class DeltaSource(VersionsSource):
    """See ``strandline.source.Source``."""

    description = READ
    word = "version"

    @classmethod
    def understand(cls, written: str) -> describe.Place | None:
        """A directory or an object store; see ``strandline.describe.Understands``."""
        return place_of(written)

    class Spec(BaseModel):
        """Where the tables are, and how they are read."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(
            min_length=1,
            description="A Delta table, or a directory of them; or `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.",
        )
        tables: PerTable[VersionedTable] = Field(
            default_factory=partial(PerTable, VersionedTable), description="How tables are read, by name or glob."
        )
        options: dict[str, str] = Field(
            default={},
            repr=False,
            description="Settings of the object store, as delta-rs names them: `endpoint`, `region`, `access_key_id`, "
            "`secret_access_key` and so on. What is not there is taken from the environment, as usual.",
        )

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path, spec.tables)
        self._store = store_of(spec.path.rstrip("/") or "/", spec.options)
        self._given = spec.options
        self._root = self._store.uri("").rstrip("/")
        self._looked: dict[str, tuple[str, pa.Schema]] = {}
        """By table, where it is below the root, and its columns with their names in files."""

    def places(self) -> Sequence[str]:
        """The directory; see ``strandline.place``."""
        return self._store.places()

    def reaches(self, places: Sequence[str]) -> bool:
        """A lake of which this is a table, or which is a directory in this one; see ``strandline.place``."""
        own = self.places()[0]
        return any(place in {own, own.rpartition("/")[0]} or place.startswith(f"{own}/") for place in places)

    def found(self) -> Mapping[str, Found | TaskError]:
        """See ``VersionsSource``."""
        folders, keys = self._look()
        found: dict[str, Found | TaskError] = {}
        for name, folder in folders.items():
            try:
                history = DeltaHistory(self._store, folder)
            except TaskError as error:
                found[name] = error
                continue
            self._looked[name] = folder, history.schema
            found[name] = Found(
                plain_schema(history.schema),
                history.version,
                keys.get(name, ()),
                history.feed,
                history.description,
                history.rows_about,
            )
        return found

    def history(self, name: str, version: int) -> DeltaHistory:
        """See ``VersionsSource``."""
        if name not in self._looked:
            self.found()
        if name not in self._looked:
            raise TaskError(f"{self._root}: there is no table {name!r} that can be read any more")
        folder, schema = self._looked[name]
        return DeltaHistory(self._store, folder, version, schema)

    def _look(self) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
        """Where each table is; and the keys of those that Strandline has written."""
        with said(self._root):
            if self._is_table(""):
                above, _, folder = self._root.rpartition("/")
                keys = keys_of(store_of(above, self._given))
                return {next((name for name in keys if folder_of(name) == folder), folder): ""}, keys
            keys = keys_of(self._store)
            names = {folder_of(name): name for name in keys}
            folders = sorted(name for name in self._store.folders() if not name.startswith(("_", ".")))
            return {names.get(folder, folder): folder for folder in folders if self._is_table(folder)}, keys

    def _is_table(self, folder: str) -> bool:
        return bool(self._store.listed(f"{folder}/_delta_log" if folder else "_delta_log"))
