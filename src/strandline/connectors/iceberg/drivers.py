"""The driver, imported at its first use; see ``strandline.lazy``. Untyped: what is used of it is partly not for users."""

from typing import Any

from strandline.lazy import Lazy

__all__ = [
    "conversions",
    "ice_arrow",
    "ice_catalog",
    "ice_exceptions",
    "ice_manifest",
    "ice_partitioning",
    "ice_schema",
    "ice_snapshots",
    "ice_table",
    "ice_transforms",
    "ice_typedef",
    "ice_types",
    "ice_update",
    "producers",
]

conversions: Any = Lazy("pyiceberg.conversions")
ice_arrow: Any = Lazy("pyiceberg.io.pyarrow")
ice_catalog: Any = Lazy("pyiceberg.catalog")
ice_exceptions: Any = Lazy("pyiceberg.exceptions")
ice_manifest: Any = Lazy("pyiceberg.manifest")
ice_partitioning: Any = Lazy("pyiceberg.partitioning")
ice_schema: Any = Lazy("pyiceberg.schema")
ice_snapshots: Any = Lazy("pyiceberg.table.snapshots")
ice_table: Any = Lazy("pyiceberg.table")
ice_transforms: Any = Lazy("pyiceberg.transforms")
ice_typedef: Any = Lazy("pyiceberg.typedef")
ice_types: Any = Lazy("pyiceberg.types")
ice_update: Any = Lazy("pyiceberg.table.update")
producers: Any = Lazy("pyiceberg.table.update.snapshot")
