"""The destination ``iceberg``: an Iceberg table for each table, in a catalog, that any reader of Iceberg reads.

::

    lake/                                ``path``
    ├── catalog.db                       the catalog, where the spec names no other
    └── default/                         ``namespace``
        ├── _strandline/log/             the log of the lake: states, owners, and what is decided of each table
        ├── _strandline/delivered/       which versions of rows that are read again are stored, in append mode
        └── orders/                      an Iceberg table
            ├── metadata/
            └── data/….parquet

A catalog commits one table at a time, and of the properties of a table, where a state would survive, it compares nothing: of two runs
that set them, both succeed. So a window is decided in a log of our own, as in ``delta`` (ADR 52): its data files are made durable,
then one entry of the log, which one of two writers can create, holds the state, the epoch, the owners, and which files come
and go in each table. Then each table's own commit says the same: one snapshot, with the number of the entry in a property of the
table, under the condition that its snapshot, schema and spec are those that were looked at. Whoever finds that a table does not say it
yet, makes it so, once. So rows and cursor are one commit, of any number of tables.

The property survives expiry of snapshots, compaction and commits of others. Where a file that was to go has been rewritten by
somebody's compaction, its rows are found again by their keys.
"""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from strandline import describe
from strandline.connectors.iceberg.catalog import Catalog
from strandline.connectors.iceberg.description import WRITTEN, place_of, texts
from strandline.connectors.iceberg.form import TYPES
from strandline.connectors.iceberg.iceberg_table import IcebergFormat
from strandline.connectors.iceberg.partition import apart_of
from strandline.connectors.lake.destination import LakeDestination, capabilities_of
from strandline.connectors.lake.lake import Lake, folder_of
from strandline.connectors.lake.store import LocalStore, store_of

__all__ = ["IcebergDestination"]

_STRANGE = re.compile("[?#]|%[0-9A-Fa-f]{2}")
_RESERVED, _FORMAT = "strandline.", "format-version"


class IcebergDestination(LakeDestination):
    """See ``strandline.destination.Destination``."""

    description = WRITTEN

    @classmethod
    def understand(cls, written: str) -> describe.Place | None:
        """A directory; see ``strandline.describe.Understands``."""
        return place_of(written)

    class Spec(BaseModel):
        """Where the lake is, and how its tables are laid out."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(
            min_length=1,
            description="Where the log of the lake is kept, and the tables where the catalog does not say it: a directory, made if it is "
            "missing; or `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`, with a `catalog`.",
        )
        catalog: dict[str, str] = Field(
            default={},
            repr=False,
            description="The catalog, as pyiceberg names its settings: `type` (`sql`, `rest`, `glue`, `hive`), `uri`, `warehouse`, "
            "`credential`, `s3.endpoint` and so on. Default: an SQLite file `catalog.db` in `path`.",
        )
        namespace: str = Field(
            "default", min_length=1, description="Of the tables in the catalog. A dot begins one within another."
        )
        partition_by: tuple[str, ...] = Field(
            (),
            description="By what the files of every table are apart: columns, or `year(ts)`, `month(ts)`, `day(ts)`, `hour(ts)`, "
            "`bucket(16, id)`, `truncate(4, name)`.",
        )
        properties: dict[str, str] = Field(
            default={}, description="Properties of new tables, such as `write.metadata.previous-versions-max`."
        )
        options: dict[str, str] = Field(
            default={},
            repr=False,
            description="Settings of the object store in which the log is kept, as obstore names them: `endpoint`, `region`, "
            "`access_key_id`, `secret_access_key` and so on. What is not there is taken from the environment.",
        )

        @field_validator("catalog", "properties", mode="before")
        @classmethod
        def _texts(cls, given: Any) -> Any:
            """What YAML takes for a number or a boolean is written as Iceberg writes it."""
            return texts(given)

        @model_validator(mode="after")
        def _fits(self) -> "IcebergDestination.Spec":
            if len(set(self.partition_by)) < len(self.partition_by):
                raise ValueError("partition_by names a column twice")
            for one in self.partition_by:
                apart_of(one)
            if _STRANGE.search(self.path):
                raise ValueError(
                    "path has a ?, a # or a % before two digits, which the driver would take for something else"
                )
            if "://" in self.path and not self.catalog:
                raise ValueError("path is no directory, so there has to be a `catalog`")
            if not all(self.namespace.split(".")):
                raise ValueError("namespace has a part without a name")
            if own := [name for name in self.properties if name.startswith(_RESERVED) or name == _FORMAT]:
                raise ValueError(f"properties: {own[0]!r} is set by Strandline")
            return self

    capabilities = capabilities_of(TYPES)

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        namespace = tuple(spec.namespace.split("."))
        folder = "/".join(folder_of(one) for one in namespace)
        store = store_of(f"{spec.path.rstrip('/')}/{folder}", spec.options)
        base = str(store_of(spec.path, {}).where) if isinstance(store, LocalStore) else spec.path
        catalog = Catalog(base, spec.catalog, namespace)
        super().__init__(Lake(store, IcebergFormat(store, catalog, spec.properties)), spec.partition_by)
