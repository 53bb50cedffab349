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
from collections.abc import Iterator, Sequence
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, model_validator

from strandline import describe
from strandline.connectors.delta.description import WRITTEN, place_of
from strandline.connectors.delta.lake import Lake, Opened, folder_of
from strandline.connectors.delta.migration import Wanted, looks_of, migrate
from strandline.connectors.delta.optimizing import optimize
from strandline.connectors.delta.probes import probe_lake
from strandline.connectors.delta.rows import in_scope
from strandline.connectors.delta.staged import Staged
from strandline.connectors.delta.states import LakeStates
from strandline.connectors.delta.store import explained, store_of
from strandline.connectors.delta.types import REFUSED
from strandline.connectors.delta.writing import Writing
from strandline.destination import (
    Capabilities,
    Delivery,
    Fence,
    Held,
    MigrateMode,
    Migration,
    Receipt,
    Scope,
    Window,
    WriteMode,
)
from strandline.errors import TaskError
from strandline.lazy import pa, pc
from strandline.optimize import Optimized
from strandline.ownership import Ownership
from strandline.probe import Probe
from strandline.state import StateBackend
from strandline.table import CLIENT_ID, SOURCE_NAME, Table

__all__ = ["DeltaDestination"]

_ESCAPED = re.compile("%[0-9A-Fa-f]{2}")
_WRITERS_MAX = 4
"""A window may be held in memory, and a file open for each partition."""


class DeltaDestination:
    """See ``strandline.destination.Destination``."""

    description = WRITTEN

    @classmethod
    def understand(cls, written: str) -> describe.Place | None:
        """A directory or an object store; see ``strandline.describe.Understands``."""
        return place_of(written)

    class Spec(BaseModel):
        """Where the lake is, and how its tables are laid out."""

        model_config = ConfigDict(extra="forbid")

        path: str = Field(
            min_length=1,
            description="A directory, made if it is missing; or `s3://bucket/prefix`, `gs://bucket/prefix` or "
            "`az://container/prefix`.",
        )
        schema_name: str | None = Field(
            None,
            alias="schema",
            min_length=1,
            description="A directory below `path` for the tables and their log, so that several destinations can share a "
            "`path` and nothing else. Default: none, the tables are directly below `path`.",
        )
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

    capabilities = Capabilities(
        write_modes=frozenset(WriteMode),
        delivery=Delivery.ATOMIC,
        writers_max=_WRITERS_MAX,
        types_refused=REFUSED,
    )

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        root = spec.path if spec.schema_name is None else f"{spec.path.rstrip('/')}/{folder_of(spec.schema_name)}"
        self._lake = Lake(store_of(root, spec.options))
        self._states = LakeStates(self._lake.journal)

    @property
    def states(self) -> StateBackend:
        """The states beside the rows."""
        return self._states

    def places(self) -> Sequence[str]:
        """The root; see ``strandline.place``."""
        return self._lake.store.places()

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
        """Make the stored table fit ``table``."""
        with explained(f"{self._lake.where}: cannot migrate {table.name}"):
            wanted = Wanted(table, self.spec.partition_by, mode, ownership, replaces)
            return migrate(self._lake, wanted, fence, apply=apply)

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``: data files first, then one entry of the log."""
        with explained(f"{self._lake.where}: cannot write"):
            staged = Staged(self._lake, self._lake.journal.look(), window, mode)
        writing = Writing(self._lake, staged, window, fence, looks_of)
        try:
            for message in window:
                with explained(f"{self._lake.where}: cannot write"):
                    staged.take(message)
            return writing.commit()
        except BaseException:
            if not writing.decided:
                staged.discard()
            raise

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there are rows of a scope: looks into the files until it finds one."""
        with explained(f"{self._lake.where}: cannot read {table.name}"):
            opened = self._opened(table.name)
            if opened is None:
                return Held(rows=False)
            for file in opened.found.files.values():
                for batch in opened.form.stored(opened.delta, file, [SOURCE_NAME, CLIENT_ID]):
                    if pc.any(in_scope(batch, scope)).as_py():
                        return Held(rows=True)
        return Held(rows=False)

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The stored rows, in the Arrow types of ``table``."""
        with explained(f"{self._lake.where}: cannot read {table.name}"):
            opened = self._opened(table.name)
        if opened is None:
            raise TaskError(f"there is no table {table.name!r} in {self._lake.where}")
        names = list(columns or table.schema.names)
        if strange := [name for name in names if name not in opened.form.table.schema.names]:
            raise TaskError(f"{table.name} has no column {strange[0]!r}")
        files = list(opened.found.files.values())
        return (batch for file in files for batch in opened.form.read(opened.delta, file, names, table.schema))

    def optimizable(self) -> Sequence[str]:
        """See ``strandline.optimize.Optimizable``."""
        with explained(f"{self._lake.where}: cannot be read"):
            return sorted(self._lake.journal.look().tables)

    def optimize(self, table: str, *, keep: timedelta) -> Optimized:
        """See ``strandline.optimize.Optimizable``."""
        with explained(f"{self._lake.where}: cannot optimize {table}"):
            return optimize(self._lake, table, keep)

    def probes(self) -> Iterator[Probe]:
        """Whether a lake can be kept there; see ``strandline.probe``."""
        yield from probe_lake(self._lake.store)

    def close(self) -> None:
        """Nothing is held."""

    def _opened(self, name: str) -> Opened | None:
        """A table as it is there; ``None``: there is none of ours."""
        with self._lake.alone([name]):
            record = self._lake.journal.look().tables.get(name)
            if record is None or not self._lake.is_intact(name, record):
                return None
            return self._lake.opened(name, record)
