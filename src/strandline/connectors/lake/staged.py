"""One window on its way into a lake: what its messages say of each table, until it is decided what becomes of the tables."""

from collections import Counter
from dataclasses import dataclass

from strandline.connectors.arrow.delivered import DeliveredSet, fresh_rows
from strandline.connectors.lake.lake import Lake
from strandline.connectors.lake.log import Log
from strandline.connectors.lake.overlay import Overlay
from strandline.connectors.lake.rows import Form, Writer
from strandline.destination import Window, WriteMode
from strandline.errors import TaskError, UsageError
from strandline.message import (
    Adopt,
    Complete,
    Delete,
    Forget,
    Insert,
    Present,
    Replace,
    Stale,
    Swap,
    Truncate,
    WindowMessage,
)
from strandline.state import StateKey
from strandline.table import Table

__all__ = ["Staged", "StagedTable"]


@dataclass
class StagedTable:
    """One stored table in the window."""

    name: str
    """As messages call it."""
    table: Table
    form: Form
    mark: str
    overlay: Overlay
    writer: Writer | None = None
    """Of rows that are appended."""


class Staged:
    """Takes the messages of a window. Used by one thread."""

    def __init__(self, lake: Lake, log: Log, window: Window, mode: WriteMode) -> None:
        self.rows: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self.tables: dict[str, StagedTable] = {}
        """By their stored names; those of which something was said."""
        self.forgotten: dict[str, bool] = {}
        """By stored name: whether the table is dropped, too."""
        self.former: list[tuple[StateKey, str]] = []
        """Lineages that are this one's from now on, each with a stored table."""
        self.sets: dict[str, DeliveredSet] = {}
        self._lake, self._log, self._window = lake, log, window
        self.appends = mode is WriteMode.APPEND

    def take(self, message: WindowMessage) -> None:
        """One more message.

        Raises:
            TaskError: a row cannot be stored.
            UsageError: the table has no key by which rows could be overwritten.
        """
        match message:
            case Insert():
                self._insert(message)
            case Complete(table=name):
                staged = self._of(name)
                staged.overlay.complete()
                if self.appends:
                    self._set(staged.table.name).complete()
            case Swap(table=name, hidden=hidden):
                self._rewritten(name).overlay.swap(hidden)
            case Adopt(table=name):
                staged = self._of(name)
                if staged.form.rewrites:  # else the rows keep the former source's name
                    staged.overlay.former = message.source
                self.former.append((StateKey(message.source, message.task, message.destination), staged.table.name))
            case Forget(table=name, drop=drop):
                self.forgotten[name] = drop or self.forgotten.get(name, False)
                self.sets.pop(name, None)
            case Stale(table=name):
                self._rewritten(name).overlay.stale = not self.appends
            case _ if not self.appends:
                self._remove(message)

    def _remove(self, message: WindowMessage) -> None:
        match message:
            case Delete(table=name, keys=keys):
                self._of(name).overlay.delete(keys)
            case Truncate(table=name):
                self._of(name).overlay.truncate()
            case Replace(table=name, keys=keys):
                self._of(name).overlay.replace(keys)
            case Present(table=name, keys=keys):
                self._of(name).overlay.appear(keys)

    def _rewritten(self, name: str) -> StagedTable:
        """A table of which rows go."""
        staged = self._of(name)
        if not staged.form.rewrites:
            raise UsageError(
                f"table {name!r}: files are only added to, so none of its rows is replaced or deleted",
                hint="write_mode must be append; to read it again, remove its directory, reset its state, and sync again",
            )
        return staged

    def discard(self) -> None:
        """Nothing of it will be committed."""
        for staged in self.tables.values():
            if staged.writer is not None:
                staged.writer.discard()

    def _insert(self, message: Insert) -> None:
        staged = self._of(message.table)
        if not self.appends and not staged.table.primary_key:
            raise UsageError(f"table {staged.table.name!r} has no primary key, so its rows cannot be overwritten")
        batch = fresh_rows(
            message if self.appends else _once(message), staged.table, lambda: self._set(staged.table.name)
        )
        self.rows[message.table] += message.batch.num_rows
        self.known[message.table] += message.batch.num_rows - batch.num_rows
        if not self.appends:
            staged.overlay.insert(batch)
            return
        if staged.writer is None:
            staged.writer = Writer(self._lake.table(staged.table.name), staged.form)
        staged.writer.write(staged.form.whole(staged.form.encoded(batch)))

    def _of(self, name: str) -> StagedTable:
        if name not in self._window.tables:
            raise TaskError(f"{name!r} is not a table of the task {self._window.key}")
        table = self._window.tables[name]
        if table.name not in self.tables:
            record = self._log.tables.get(table.name)
            if record is None:
                raise TaskError(f"there is no table {table.name!r}", hint="it was dropped meanwhile, or never migrated")
            form = self._lake.form_of(table.name, record)
            self.tables[table.name] = StagedTable(name, table, form, record.mark, Overlay(form))
            if not self.appends and (self._window.key, table.name) in self._log.delivered:
                self._set(table.name).numbers_only()
        return self.tables[table.name]

    def _set(self, table: str) -> DeliveredSet:
        """The delivered set of a stored table."""
        if table not in self.sets:
            files = self._log.delivered.get((self._window.key, table), ())
            self.sets[table] = DeliveredSet(files, self._lake.load_delivered, self._window.pass_.sync_time_us)
        return self.sets[table]


def _once(message: Insert) -> Insert:
    """Of rows that are overwritten, none is left out because it was delivered."""
    return Insert(message.table, message.batch, reread=False, version=message.version)
