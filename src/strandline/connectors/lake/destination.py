"""A destination that is a lake, whatever the format of its tables."""

from collections.abc import Iterator, Sequence

from strandline.connectors.lake.lake import Lake, Opened
from strandline.connectors.lake.migration import Wanted, looks_of, migrate
from strandline.connectors.lake.probes import probe_lake
from strandline.connectors.lake.rows import in_scope
from strandline.connectors.lake.staged import Staged
from strandline.connectors.lake.states import LakeStates
from strandline.connectors.lake.store import explained
from strandline.connectors.lake.types import Types
from strandline.connectors.lake.writing import Writing
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
from strandline.ownership import Ownership
from strandline.probe import Probe
from strandline.state import StateBackend
from strandline.table import CLIENT_ID, SOURCE_NAME, Table

__all__ = ["LakeDestination", "capabilities_of"]

_WRITERS_MAX = 4
"""A window may be held in memory, and a file open for each partition."""


def capabilities_of(types: Types) -> Capabilities:
    """What a lake can do whose format has these types."""
    return Capabilities(
        write_modes=frozenset(WriteMode),
        delivery=Delivery.ATOMIC,
        writers_max=_WRITERS_MAX,
        types_refused=types.refused,
    )


class LakeDestination:
    """See ``strandline.destination.Destination``.

    Args:
        lake: where and what.
        partition_by: of every table, as the format says it.
    """

    def __init__(self, lake: Lake, partition_by: tuple[str, ...]) -> None:
        self._lake, self._partition_by = lake, partition_by
        self._states = LakeStates(lake.journal)

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
            wanted = Wanted(table, self._partition_by, mode, ownership, replaces)
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
                for batch in opened.form.stored(opened.stored, file, [SOURCE_NAME, CLIENT_ID]):
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
        return (batch for file in files for batch in opened.form.read(opened.stored, file, names, table.schema))

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
