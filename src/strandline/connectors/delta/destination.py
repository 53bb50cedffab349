"""The destination ``delta``: a Delta table for each table, in a directory or in an object store, that any reader of Delta reads.

::

    lake/                             ``path``, and below it ``schema`` if there is one
    ├── _strandline/log/              the log of the lake: states, owners, and what is decided of each table
    ├── _strandline/delivered/        which versions of rows that are read again are stored, in append mode
    └── orders/                       a Delta table
        ├── _delta_log/
        └── part-….parquet

Delta commits one table at a time, and has no place in such a commit that others leave alone and that is large enough for a state.
So a window is decided in a log of our own. First its rows are made durable, in data files that no table names yet. Then one entry
of the log, which one of two writers can create, holds the state, the epoch and the owners, and says for each table which files
come and which go. Then every table's own log is made to say the same, under a ``txn`` with the entry's number: whoever finds that it
does not yet, be it the next look of any run, does it, once. So rows and cursor are one commit, of any number of tables; readers of
Delta see whole windows, one table after the other, and after a crash the last one at the next look at its table.

What is decided stays right whatever others do with a table meanwhile. The ``txn`` survives checkpoints and the clean-up of Delta's log.
Where a file that was to go has been rewritten by somebody's ``OPTIMIZE``, its rows are found again by their keys. A ``VACUUM`` removes
what no table names: with less than its default retention, it may remove the files of a window that is being written, or was
interrupted, which the next look then says; nothing is skipped.

Rows that are overwritten: only files that have such a row are rewritten, one batch at a time; they are found by the key's
bounds in Delta's statistics, then by reading the key's columns. What somebody has added to a table, columns, properties and rows,
stays. A folder that holds what was not made here is refused.
"""

import re
from collections.abc import Sequence
from datetime import timedelta

from pydantic import Field, model_validator

from strandline import describe
from strandline.connectors.delta.delta_table import DeltaFormat
from strandline.connectors.delta.description import WRITTEN, place_of
from strandline.connectors.delta.form import TYPES
from strandline.connectors.delta.optimizing import optimize
from strandline.connectors.lake.destination import LakeDestination, capabilities_of
from strandline.connectors.lake.lake import Lake, folder_of
from strandline.connectors.lake.settings import LakeSpec
from strandline.connectors.lake.store import explained, store_of
from strandline.optimize import Optimized

__all__ = ["DeltaDestination"]

_ESCAPED = re.compile("%[0-9A-Fa-f]{2}")


class DeltaDestination(LakeDestination):
    """See ``strandline.destination.Destination``."""

    description = WRITTEN

    @classmethod
    def understand(cls, written: str) -> describe.Place | None:
        """A directory or an object store; see ``strandline.describe.Understands``."""
        return place_of(written)

    class Spec(LakeSpec):
        """Where the lake is, and how its tables are laid out."""

        partition_by: tuple[str, ...] = Field(
            (),
            description="Columns by which the files of every table are apart. Texts, whole numbers, dates and booleans.",
        )
        options: dict[str, str] = Field(
            default={},
            repr=False,
            description="Settings of the object store, as obstore and delta-rs name them: `endpoint`, `region`, `access_key_id`, "
            "`secret_access_key` and so on. What is not there is taken from the environment, as usual.",
        )

        @model_validator(mode="after")
        def _fits(self) -> "DeltaDestination.Spec":
            if len(set(self.partition_by)) < len(self.partition_by):
                raise ValueError("partition_by names a column twice")
            if _ESCAPED.search(self.path):
                raise ValueError("path has a % before two digits, which the driver would take for another character")
            return self

    capabilities = capabilities_of(TYPES)

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        root = spec.path if spec.schema_name is None else f"{spec.path.rstrip('/')}/{folder_of(spec.schema_name)}"
        store = store_of(root, spec.options)
        super().__init__(Lake(store, DeltaFormat(store)), spec.partition_by)

    def optimizable(self) -> Sequence[str]:
        """See ``strandline.optimize.Optimizable``."""
        with explained(f"{self._lake.where}: cannot be read"):
            return sorted(self._lake.journal.look().tables)

    def optimize(self, table: str, *, keep: timedelta) -> Optimized:
        """See ``strandline.optimize.Optimizable``."""
        with explained(f"{self._lake.where}: cannot optimize {table}"):
            return optimize(self._lake, table, keep)
