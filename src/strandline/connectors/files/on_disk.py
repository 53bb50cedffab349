"""The destination ``files`` in a directory of a local disk, with a commit log of its own (ADR 18)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from strandline.connectors.arrow.changes import kept_of
from strandline.connectors.files.formats import FORMATS
from strandline.connectors.files.log import Entry, Log
from strandline.connectors.files.parts import StagedState
from strandline.connectors.files.probes import probe_root
from strandline.connectors.files.states import LogStates, adopted, check_fence, token_of
from strandline.connectors.files.store import Store, explained
from strandline.connectors.files.stored_schema import Place
from strandline.connectors.files.stored_tables import Layout, folder_of, owners_of, record_of, table_of
from strandline.connectors.files.window import Settings, StagedWindow
from strandline.connectors.files.written_settings import FilesSpec
from strandline.destination import (
    RECREATE,
    Fence,
    Held,
    MigrateMode,
    Migration,
    Receipt,
    Scope,
    Window,
    WriteMode,
    check_token,
)
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.ownership import Owner, Ownership, claimed, refusal
from strandline.place import file_places
from strandline.probe import Probe
from strandline.state import StateBackend
from strandline.table import Table

__all__ = ["FilesOnDisk"]


class FilesOnDisk:
    """See ``strandline.destination.Destination``."""

    def __init__(self, spec: FilesSpec) -> None:
        self.spec = spec
        form = FORMATS[spec.format]
        self._place = Place(Path(spec.path).absolute(), spec.schema_name)
        self._store = Store(self._place.root, allow_network=spec.allow_network, claim=self._place.claim)
        self._layout = Layout(self._store.root, form, spec.partition_by)
        self._settings = Settings(self._layout, spec.compression or form.compressions[0], spec.partitions_max)
        self._states = LogStates(self._store)

    @property
    def states(self) -> StateBackend:
        """The states beside the rows."""
        return self._states

    def places(self) -> Sequence[str]:
        """The directory with the log; see ``strandline.place``."""
        return file_places(self._store.root)

    def migrate(
        self,
        table: Table,
        *,
        mode: MigrateMode,
        fence: Fence,
        apply: bool,
        ownership: Ownership | None,
    ) -> Migration:
        """Make the stored table fit ``table``."""
        with explained(f"{self._store.where}: cannot migrate {table.name}"):
            self._layout.check(table)
            if not apply:
                log = self._store.look()
                if not log.number:
                    self._place.check()
                return self._found(table, log, mode, ownership)
            with self._store.transaction() as transaction:
                check_fence(transaction.log, fence)
                found = self._found(table, transaction.log, mode, ownership)
                before = transaction.log.tables.get(table.name)
                owners = self._owners(table, found, ownership) or (before.owners if before is not None else ())
                if found.changes or (before is not None and before.owners != owners):
                    transaction.commit(self._migration(table, transaction.log, found, owners))
                    record = transaction.log.tables[table.name]
                    found = replace(found, mark=record.mark, empty=self._layout.is_empty(table.name, record))
                return found

    def _found(self, table: Table, log: Log, mode: MigrateMode, ownership: Ownership | None) -> Migration:
        """What there is of a table, and what it needs. Files that are in no log are somebody's."""
        record, name, owners = log.tables.get(table.name), table.name, owners_of(log, table.name)
        there = Migration((), None, empty=True, owners=owners)
        if record is not None:
            there = replace(there, mark=record.mark, empty=self._layout.is_empty(name, record))
        elif next(self._layout.files(name, any_format=True), None) is not None:
            there = replace(there, mark="", empty=False)
        exists = there.mark is not None
        if ownership and refusal(name, ownership, owners, exists=exists, empty=there.empty, recreates=False):
            return there
        kept = kept_of(None if record is None else table_of(name, record), table)
        changes = self._layout.changes(record, table.keeping(kept), mode)
        return replace(there, changes=tuple(changes), kept=kept)

    def _owners(self, table: Table, found: Migration, ownership: Ownership | None) -> tuple[Owner, ...]:
        """Who is to be registered; nobody, where no ownership is given."""
        if ownership is None:
            return ()
        exists, recreates = found.mark is not None, any(change.kind == RECREATE for change in found.changes)
        return claimed(table.name, ownership, found.owners or (), exists=exists, empty=found.empty, recreates=recreates)

    def _migration(self, table: Table, log: Log, found: Migration, owners: tuple[Owner, ...]) -> Entry:
        """What makes the stored table fit."""
        record, layout = log.tables.get(table.name), self._layout
        recreated = any(change.kind == RECREATE for change in found.changes)
        if record is not None and not recreated:
            fitting = layout.changed(record, table.keeping(found.kept)) if found.changes else record
            return Entry(tables={table.name: replace(fitting, owners=owners)})
        files = list(layout.files(table.name, any_format=True))
        if files and not recreated:
            raise TaskError(
                f"table {table.name!r}: there is {self._store.root / files[0]}, of which the log knows nothing",
                hint=f"move {self._store.root / folder_of(table.name)} away, or choose another `path`",
            )
        forgotten = log.without_delivered(table.name)
        sets = [file for place in forgotten for file in log.delivered[place]]
        record = replace(record_of(table, layout), owners=owners)
        return Entry(tables={table.name: record}, delivered=forgotten, removes=[*files, *sets])

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``: hidden files first, then one entry of the log."""
        del mode  # there is one
        problem = f"{self._store.where}: cannot write"
        with explained(problem):
            log = self._store.look()
        staged = StagedWindow(self._store, log, window, self._settings)
        try:
            for message in window:
                with explained(problem):
                    staged.take(message)
            with explained(problem):
                staged.finish()
                state = StagedState(self._store, log, window.key, window.state)
                self._store.seal(old for old, _ in [*staged.moves(window.key, window.state), *state.moves])
        except BaseException:
            staged.discard()
            raise
        with explained(problem), self._store.transaction() as transaction:
            try:
                check_fence(transaction.log, fence)
                check_token(window.key, token_of(transaction.log, window.key), window.expected)
                entry = self._entry(staged, transaction.log, window, state)
            except BaseException:
                staged.discard()
                state.discard()
                raise
            # from here on the files may be committed, whatever is raised: what is not is swept by the next run
            transaction.commit(entry)
        return Receipt(replace(window.state, token=state.commit.token), dict(staged.rows), dict(staged.known))

    def _entry(self, staged: StagedWindow, log: Log, window: Window, state: StagedState) -> Entry:
        """What a window changes, if nothing that it builds upon has changed meanwhile."""
        staged.check(log)
        delivered = {**staged.delivered()}
        tables, removes = dict[str, None](), list[str]()
        for name in staged.dropped & log.tables.keys():
            tables[name] = None
            delivered |= log.without_delivered(name)
            removes += self._layout.files(name, any_format=True)
        kept = {file for files in delivered.values() for file in files}
        for place in delivered:
            removes += [file for file in log.delivered.get(place, ()) if file not in kept]
        moves = [*staged.moves(window.key, window.state), *state.moves]
        adoption = adopted(self._store, log, staged.followed, window.key)
        states = [*adoption.states, (window.key, state.commit)]
        return Entry({**tables, **adoption.tables}, delivered, moves, [*removes, *state.removes], states)

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether there are rows of a scope: looks into the files until it finds one."""
        with explained(f"{self._store.where}: cannot read {table.name}"):
            record = self._store.look().tables.get(table.name)
            return Held(record is not None and self._layout.holds(table.name, record, scope))

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The stored rows, in the Arrow types of ``table``."""
        with explained(f"{self._store.where}: cannot read {table.name}"):
            record = self._store.look().tables.get(table.name)
            if record is None:
                raise TaskError(f"there is no table {table.name!r} in {self._store.root}")
            return self._layout.read(table, record, columns or table.schema.names)

    def probes(self) -> Iterator[Probe]:
        """Whether files can be committed and kept; see ``strandline.probe``."""
        yield from probe_root(self._store.root, allow_network=self.spec.allow_network)

    def close(self) -> None:
        """Release what is held. A second call does nothing."""
        self._store.close()
