"""The destination ``files`` in an object store: a lake whose tables are objects of Parquet, CSV or JSON lines (ADR 52, 68)."""

from strandline.connectors.files.stored_objects import ObjectsFormat, marks_of
from strandline.connectors.files.written_settings import FilesSpec
from strandline.connectors.lake.destination import LakeDestination
from strandline.connectors.lake.lake import Lake, folder_of
from strandline.connectors.lake.store import ObjectStore, explained
from strandline.destination import Fence, MigrateMode, Migration, Scope
from strandline.errors import UsageError
from strandline.ownership import Ownership
from strandline.table import Table

__all__ = ["FilesInObjects"]


class FilesInObjects(LakeDestination):
    """See ``strandline.destination.Destination``. Rows are only added to it."""

    def __init__(self, spec: FilesSpec) -> None:
        self._base, self._schema = ObjectStore(spec.path, spec.options), spec.schema_name
        store = self._base
        if self._schema is not None:
            store = ObjectStore(f"{spec.path.rstrip('/')}/{folder_of(self._schema)}", spec.options)
        form = ObjectsFormat(store, spec.compression, spec.partitions_max)
        super().__init__(Lake(store, form), (spec.format, *spec.partition_by))

    def migrate(
        self,
        table: Table,
        *,
        mode: MigrateMode,
        fence: Fence,
        apply: bool = True,
        ownership: Ownership | None = None,
        replaces: Scope | None = None,
    ) -> Migration:
        """Make the stored table fit ``table``.

        Raises:
            UsageError: the schema has the prefix of a table of another destination.
        """
        if self._schema is not None:
            self._check_schema(self._schema)
        return super().migrate(table, mode=mode, fence=fence, apply=apply, ownership=ownership, replaces=replaces)

    def _check_schema(self, schema: str) -> None:
        with explained(f"{self._lake.where}: cannot be read"):
            taken = not self._lake.journal.look().number and self._base.listed(marks_of(folder_of(schema)))
        if taken:
            raise UsageError(
                f"{self._lake.where} has the files of a table, so it cannot be that of the schema {schema!r}",
                hint="choose another `schema`, or another `path`",
            )
