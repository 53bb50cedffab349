"""A destination as one sync uses it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from strandline.destination import Destination, Fence, Held, MigrateMode, Migration, Scope, WriteMode
from strandline.engine.lineage import narrowed, selecting, stored_table, typed
from strandline.engine.window import Bounds
from strandline.errors import TaskError, UsageError
from strandline.looking import LooksAtMany
from strandline.ownership import Owner, Ownership
from strandline.rules import TableRules
from strandline.source import Task
from strandline.state import Pass, StateKey
from strandline.table import Table

__all__ = ["AsStored", "Into"]


@dataclass(frozen=True, slots=True)
class Into:
    """A destination with how it is to be written."""

    name: str
    destination: Destination
    mode: WriteMode
    migrate_mode: MigrateMode = MigrateMode.SAFE
    cq_id_only: bool = False
    bounds: Bounds = field(default_factory=Bounds)
    may_migrate: bool = True
    share_max: float | None = 0.5
    """See ``Scope.share_max``."""
    rules: Callable[[Table], TableRules] = lambda _: TableRules()
    """What the spec says of a table."""
    sharers: Callable[[str], frozenset[Owner]] = lambda _: frozenset()
    """Who else shares a stored table, as the spec says."""
    known: frozenset[Owner] = frozenset()
    """Every source and destination of the spec."""

    def of(self, task: Task) -> "Into":
        """As a task is written: with the write mode that the spec gives its tables.

        Raises:
            UsageError: it gives several, and the rows of a task are committed together.
        """
        modes = dict[str, WriteMode]()
        for table in task.tables:  # parents come before their children, which are written as they are
            inherited = modes.get(table.parent or "", self.mode)
            modes[table.name] = self.rules(table).write_mode or inherited
        if len(set(modes.values())) > 1:
            said = ", ".join(f"{name}: {mode}" for name, mode in modes.items())
            raise UsageError(
                f"the tables of {task.id!r} are read and committed together, and have several write modes: {said}",
                hint="give all of them one `write_mode` in table_settings",
            )
        mode = next(iter(modes.values()), self.mode)
        return self if mode is self.mode else replace(self, mode=mode)

    def stored_name(self, table: Table) -> str:
        """What the table is called here."""
        return self.rules(table).stored_name(table)

    def selecting(self, table: Table) -> Table:
        """The table as its source offers it, with what the spec selects of it."""
        return selecting(table, self.rules(table).columns)

    def stored(self, table: Table, task: Task) -> Table:
        """The table as it is stored here."""
        partitioned = task.partition is not None
        stored = stored_table(table, mode=self.mode, partitioned=partitioned, cq_id_only=self.cq_id_only)
        rules = self.rules(table)
        stored = typed(narrowed(stored, table, rules.columns), table, rules.types)
        name, cascades, latest = rules.stored_name(table), rules.allow_cascade, rules.latest_view
        return replace(stored, name=name, allow_cascade=cascades, latest_view=latest)

    def ownership(self, table: Table, source: str) -> Ownership:
        """As whom a table is written."""
        rules = self.rules(table)
        owner = Owner(source, self.name, rules.shared)
        return Ownership(owner, rules.adopt, self.sharers(rules.stored_name(table)) - {owner})

    def scope(self, key: StateKey, task: Task, current: Pass) -> Scope:
        """Which rows here are the task's, and which of them are stale after a pass."""
        return Scope(key.source, task.partition, current.stale_us or current.sync_time_us, self.share_max)

    def find(self, table: Table, task: Task, fence: Fence, *, refresh: bool = False) -> Migration:
        """What is there of a table, and what it needs; by a full ``refresh`` too. Changes nothing."""
        ownership = self.ownership(table, fence.source)
        return self.destination.migrate(
            self.stored(table, task),
            mode=self.migrate_mode,
            fence=fence,
            apply=False,
            ownership=ownership,
            replaces=self.replaced(task, fence) if refresh else None,
        )

    def looking_at(self, tasks: Sequence[Task]) -> AbstractContextManager[None]:
        """Before many of ``find``: all of them are looked at once, where the destination can do so."""
        destination = self.destination
        if not isinstance(destination, LooksAtMany):
            return nullcontext()
        return destination.looking_at([self.stored_name(table) for task in tasks for table in task.tables])

    def replaced(self, task: Task, fence: Fence) -> Scope:
        """Whose rows a full refresh of a task replaces."""
        return Scope(fence.source, task.partition, 0, self.share_max)

    def holds(self, table: Table, task: Task, key: StateKey) -> Held:
        """Whether there are rows of the task in a table, whoever says so."""
        return self.destination.holds(self.stored(table, task), scope=Scope(key.source, task.partition, 0))

    def migrate(
        self, stored: Table, fence: Fence, ownership: Ownership | None, replaces: Scope | None = None
    ) -> Migration:
        """Apply what a table needs, if the user lets us."""
        found = self.destination.migrate(
            stored,
            mode=self.migrate_mode,
            fence=fence,
            apply=self.may_migrate,
            ownership=ownership,
            replaces=replaces,
        )
        if found.changes and not self.may_migrate:
            wanted = "; ".join(f"{change.kind} {change.column}".strip() for change in found.changes)
            raise TaskError(
                f"table {stored.name!r} needs a migration ({wanted}), which --no-migrate forbids",
                hint="run strandline migrate",
            )
        return found


class AsStored(Mapping[str, Table]):
    """The tables of a task as they are stored, by name; each is made when somebody asks, which of idle ones hardly anybody does."""

    __slots__ = ("_into", "_task")

    def __init__(self, into: Into, task: Task) -> None:
        self._into, self._task = into, task

    def __getitem__(self, name: str) -> Table:
        """As ``Into.stored``."""
        for table in self._task.tables:
            if table.name == name:
                return self._into.stored(table, self._task)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """In the order of the task."""
        return (table.name for table in self._task.tables)

    def __len__(self) -> int:
        """How many tables."""
        return len(self._task.tables)

    def __reduce__(self) -> tuple[type[dict[str, Table]], tuple[dict[str, Table]]]:
        """Another process has no ``Into``."""
        return dict, (dict(self),)
