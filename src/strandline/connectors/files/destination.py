"""The destination ``files``: Parquet, CSV or JSON lines for each table, to which rows are appended, on a disk or in an object store.

Every commit is one file in a numbered log, `<path>/.strandline/log` (in a store `_strandline/log`), which names its data files
and holds the cursor. Data files are hidden until they are committed, and nothing but whole commits is ever in sight: read them with a glob, at any time,
as `SELECT * FROM read_parquet('lake/orders/*.parquet', union_by_name = true)`. Without `partition_by` a commit is one file of
a table, so that it comes into sight at once. With a `schema`, tables and log are in a directory of that name below `path`.

Older files lack the columns that were added since: a reader must take columns by name. Files may be removed (retention), but
not all of a table's: that stops the next sync, as a table that was emptied does. Append is the only write mode; to read a
table again from nothing, remove its directory, then `strandline state reset`.

Parquet: every type comes back exactly, but for unions, which are refused; an interval is a struct of months, days and
nanoseconds. CSV: numbers are bare, all else is quoted; nothing between two commas is a null, `""` is an empty text (in DuckDB:
`allow_quoted_nulls = false`). In CSV and JSON lines times are ISO 8601, bytes hexadecimal, and what is nested is JSON.
"""

from collections.abc import Iterator, Sequence

from strandline import describe
from strandline.connectors.files.description import WRITTEN, directory
from strandline.connectors.files.formats import FORMATS
from strandline.connectors.files.in_objects import FilesInObjects
from strandline.connectors.files.on_disk import FilesOnDisk
from strandline.connectors.files.written_settings import FilesSpec
from strandline.destination import (
    Capabilities,
    Delivery,
    Fence,
    Held,
    MigrateMode,
    Migration,
    Reach,
    Receipt,
    Scope,
    Window,
    WriteMode,
)
from strandline.errors import UsageError
from strandline.lazy import pa
from strandline.ownership import Ownership
from strandline.probe import Probe
from strandline.state import StateBackend
from strandline.table import Table

__all__ = ["FilesDestination"]

_WRITERS_MAX = 4
"""A window may have a file open for each partition."""


class FilesDestination:
    """See ``strandline.destination.Destination``."""

    description = WRITTEN
    Spec = FilesSpec

    @classmethod
    def understand(cls, written: str) -> describe.Place:
        """A directory, or a prefix of an object store; see ``strandline.describe.Understands``."""
        return directory(written)

    def __init__(self, spec: FilesSpec) -> None:
        self.spec = spec
        self._files: FilesOnDisk | FilesInObjects = (FilesInObjects if spec.in_objects else FilesOnDisk)(spec)

    @property
    def capabilities(self) -> Capabilities:
        """What files can do."""
        return Capabilities(
            write_modes=frozenset({WriteMode.APPEND}),
            delivery=Delivery.ATOMIC,
            deletes=False,
            replace=False,
            writers_max=_WRITERS_MAX,
            reach=Reach.ANYWHERE if self.spec.in_objects else Reach.HOST,
            types_refused=FORMATS[self.spec.format].refused,
        )

    @property
    def states(self) -> StateBackend:
        """The states beside the rows."""
        return self._files.states

    def places(self) -> Sequence[str]:
        """The directory with the log; see ``strandline.place``."""
        return self._files.places()

    def migrate(
        self,
        table: Table,
        *,
        mode: MigrateMode,
        fence: Fence,
        apply: bool = True,
        ownership: Ownership | None = None,
        replaces: Scope | None = None,  # noqa: ARG002 -- there is no Swap
    ) -> Migration:
        """Make the stored table fit ``table``."""
        return self._files.migrate(table, mode=mode, fence=fence, apply=apply, ownership=ownership)

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``: files that are not in sight first, then one entry of the log."""
        if mode is not WriteMode.APPEND:
            raise UsageError(f"files cannot {mode}", hint="write_mode must be append")
        return self._files.write(window, mode=mode, fence=fence)

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there are rows of a scope: looks into the files until it finds one."""
        return self._files.holds(table, scope=scope)

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The stored rows, in the Arrow types of ``table``."""
        return self._files.read(table, columns=columns)

    def probes(self) -> Iterator[Probe]:
        """Whether files can be committed and kept; see ``strandline.probe``."""
        return self._files.probes()

    def close(self) -> None:
        """Release what is held. A second call does nothing."""
        self._files.close()
