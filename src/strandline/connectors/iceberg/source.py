"""The source ``iceberg``: Iceberg tables of a catalog, read by their snapshots.

A first pass reads the files of one snapshot, later ones what each snapshot after it has added, changed or removed, along the parents
of the current one; see ``strandline.connectors.versions`` for what is promised. Columns are known by their ids, so that one that was
renamed or widened is as any reader of Iceberg shows it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from strandline import describe
from strandline.connectors.iceberg.catalog import FILE, Catalog
from strandline.connectors.iceberg.description import READ, place_of, texts
from strandline.connectors.iceberg.history import IcebergHistory, offered
from strandline.connectors.lake.journal import keys_of
from strandline.connectors.lake.lake import folder_of
from strandline.connectors.lake.store import store_of
from strandline.connectors.versions.settings import VersionedTable
from strandline.connectors.versions.source import Found, VersionsSource
from strandline.errors import TaskError, UsageError
from strandline.place import file_places
from strandline.table_settings import PerTable

__all__ = ["IcebergSource"]


class IcebergSource(VersionsSource):
    """See ``strandline.source.Source``."""

    description = READ
    word = "snapshot"

    @classmethod
    def understand(cls, written: str) -> describe.Place | None:
        """A directory; see ``strandline.describe.Understands``."""
        return place_of(written)

    class Spec(BaseModel):
        """Where the tables are, and how they are read."""

        model_config = ConfigDict(extra="forbid")

        path: str | None = Field(
            None,
            min_length=1,
            description="A directory with a catalog in the file `catalog.db`, as Strandline writes it.",
        )
        catalog: dict[str, str] = Field(
            default={},
            repr=False,
            description="Any other catalog, as pyiceberg names its settings: `type` (`sql`, `rest`, `glue`, `hive`), `uri`, `warehouse`, "
            "`credential`, `s3.endpoint` and so on.",
        )
        namespace: str = Field(
            "default", min_length=1, description="Of the tables in the catalog. A dot begins one within another."
        )
        tables: PerTable[VersionedTable] = Field(
            default_factory=partial(PerTable, VersionedTable), description="How tables are read, by name or glob."
        )

        @field_validator("catalog", mode="before")
        @classmethod
        def _texts(cls, given: Any) -> Any:
            """What YAML takes for a number or a boolean is written as Iceberg writes it."""
            return texts(given)

        @model_validator(mode="after")
        def _fits(self) -> "IcebergSource.Spec":
            if (self.path is None) == (not self.catalog):
                raise ValueError("either a `path` or a `catalog` is needed")
            if self.path is not None and "://" in self.path:
                raise ValueError("path is no directory: name the `catalog`")
            if not all(self.namespace.split(".")):
                raise ValueError("namespace has a part without a name")
            return self

    def __init__(self, spec: Spec) -> None:
        self._root = spec.path.rstrip("/") if spec.path is not None else ""
        self._namespace = tuple(spec.namespace.split("."))
        self._log = "/".join([self._root, *map(folder_of, self._namespace)])
        """Where the log of the lake is, if Strandline writes it."""
        where = self._root or f"the catalog {spec.catalog.get('uri') or spec.catalog.get('type') or ''}".rstrip()
        super().__init__(f"namespace {spec.namespace} of {where}", spec.tables)
        base = str(Path(self._root).absolute()) if self._root else where
        self._catalog = Catalog(base, spec.catalog, self._namespace)
        self._schemas: dict[str, Any] = {}
        """By table, its columns as Iceberg describes them."""

    def places(self) -> Sequence[str]:
        """The directory, or the catalog; see ``strandline.place``."""
        return file_places(self._log) if self._root else [f"iceberg {self._where}"]

    def found(self) -> Mapping[str, Found | TaskError]:
        """See ``VersionsSource``."""
        if self._root and not (Path(self._root) / FILE).is_file():
            raise UsageError(f"{self._root}: there is no {FILE}", hint="fix `path`; or name the `catalog`")
        with self._catalog.explained("cannot list its tables"):
            names = [one[-1] for one in self._catalog.opened().list_tables(self._namespace)]
        keys = keys_of(store_of(self._log, {})) if self._root else {}
        found: dict[str, Found | TaskError] = {}
        for name in names:
            try:
                history = self._opened(name, None)
            except TaskError as error:
                found[name] = error
                continue
            self._schemas[name] = history.schema
            key = keys.get(name) or tuple(sorted(history.schema.identifier_field_names()))
            found[name] = Found(offered(history.schema), history.version, key, rows_about=history.rows_about)
        return found

    def history(self, name: str, version: int) -> IcebergHistory:
        """See ``VersionsSource``."""
        if name not in self._schemas:
            self.found()
        return self._opened(name, version)

    def _opened(self, name: str, version: int | None) -> IcebergHistory:
        table = self._catalog.load(name)
        if table is None:
            raise TaskError(f"{self._where}: there is no table {name!r} any more")
        return IcebergHistory(table, version, self._schemas.get(name) if version is not None else None)
