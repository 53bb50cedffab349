"""One window on its way into files: rows are written as they are pulled, and stay hidden until they are committed."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from strandline.connectors.arrow.casts import MEND_VALUE, cast_to
from strandline.connectors.arrow.delivered import DeliveredSet, fresh_rows
from strandline.connectors.files.delivered import mapped, write_set
from strandline.connectors.files.formats import Compression, DataFile, Form
from strandline.connectors.files.log import Log
from strandline.connectors.files.partition import HIDDEN, split
from strandline.connectors.files.store import Store
from strandline.connectors.files.stored_tables import Layout, folder_of, table_of
from strandline.destination import Window
from strandline.errors import StateConflictError, TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Adopt, Complete, Forget, Insert, Stale, Swap, WindowMessage
from strandline.ownership import Owner, check_writer
from strandline.paths import encode_part
from strandline.state import State, StateKey
from strandline.table import Table

__all__ = ["Settings", "StagedWindow"]

_BUFFER_BYTES_MAX = 64 << 20
"""How much of a table's rows waits in memory until it becomes row groups."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How files are written."""

    layout: Layout
    compression: Compression
    partitions_max: int


class StagedWindow:
    """Takes the messages of a window. Used by one thread."""

    def __init__(self, store: Store, log: Log, window: Window, settings: Settings) -> None:
        self.rows: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self.dropped: set[str] = set()
        """Tables that a ``Forget`` drops."""
        self._store, self._log, self._window, self._settings = store, log, window, settings
        self._outputs: dict[str, _Output] = {}
        self._delivered: dict[str, DeliveredSet] = {}
        self.followed: dict[tuple[StateKey, str], tuple[str, ...]] = {}
        """Delivered sets of other lineages that are this one's from now on. Their rows keep the old source's name."""
        self._sets: list[tuple[str, str]] = []
        """Staged files of delivered sets, and where they go."""

    def take(self, message: WindowMessage) -> None:
        """One more message.

        Raises:
            TaskError: a row cannot be stored.
            UsageError: files cannot do that.
        """
        match message:
            case Insert():
                if message.batch.num_rows:
                    self._insert(message, self._table(message.table))
            case Complete(table=name):
                self._of(self._table(name).name).complete()
            case Forget(table=name, drop=drop):
                self._of(name).forget()
                if drop:
                    self.dropped.add(name)
            case Adopt(table=name):
                former = StateKey(message.source, message.task, message.destination), self._table(name).name
                self.followed[former] = self._log.delivered.get(former, ())
            case Stale(table=name):
                raise UsageError(f"table {name!r}: no row is deleted from files", hint="write_mode must be append")
            case Swap(table=name):
                raise UsageError(
                    f"table {name!r}: files are only added to, so a full refresh cannot replace its rows",
                    hint="remove its directory, reset its state, and sync again",
                )

    def finish(self) -> None:
        """Make everything durable that was taken, hidden."""
        for output in self._outputs.values():
            output.finish()
        for name, delivered in self._delivered.items():
            table = delivered.settle()
            before = self._log.delivered.get((self._window.key, name), ())
            self._store.verified.difference_update(set(before) - set(delivered.files))
            if table is not None:
                staged = self._store.stage()
                target = self._store.place_delivered(write_set(self._store.root / staged, table))
                self._sets.append((staged, target))
                delivered.files.append(target)

    def discard(self) -> None:
        """Nothing of it will be committed."""
        for output in self._outputs.values():
            output.discard()
        self._store.discard([staged for staged, _ in self._sets])

    def check(self, log: Log) -> None:
        """Whether what this window builds upon is still so, in a later log.

        Raises:
            TaskError: a table was created again.
            StateConflictError: another run has changed what was delivered, or taken the table over.
        """
        for name in self._outputs:
            before, now = self._log.tables[name], log.tables.get(name)
            if now is None or now.mark != before.mark:
                raise TaskError(f"table {name!r} was dropped or created again while it was written")
            check_writer(name, Owner(self._window.key.source, self._window.key.destination), now.owners)
        for place in [*((self._window.key, name) for name in self._delivered), *self.followed]:
            if log.delivered.get(place) != self._log.delivered.get(place):
                raise StateConflictError(
                    f"{self._window.key}: another run has changed what was delivered into {place[1]!r}; nothing was written",
                    hint="let one run at a time sync this source",
                )

    def moves(self, key: StateKey, state: State) -> list[tuple[str, str]]:
        """From where to where its files go once they are committed."""
        moves = list(self._sets)
        for table, output in self._outputs.items():
            for part, (staged, below) in enumerate(output.staged):
                moves.append((staged, str(Path(folder_of(table), below, output.name(key, state, part, staged)))))
        return moves

    def delivered(self) -> dict[tuple[StateKey, str], tuple[str, ...]]:
        """The delivered sets that have changed."""
        followed: dict[tuple[StateKey, str], tuple[str, ...]] = dict.fromkeys(self.followed, ())
        followed |= {(self._window.key, table): files for (_, table), files in self.followed.items()}
        return followed | {
            (self._window.key, table): tuple(one.files) for table, one in self._delivered.items() if one.changed
        }

    def _table(self, name: str) -> Table:
        if name not in self._window.tables:
            raise TaskError(f"the source sent something about {name!r}, which is not a table of this task")
        return self._window.tables[name]

    def _of(self, table: str) -> DeliveredSet:
        """The delivered set of a stored table."""
        if table not in self._delivered:
            files = self._log.delivered.get((self._window.key, table), ())
            load = partial(mapped, self._store.root, self._store.verified)
            self._delivered[table] = DeliveredSet(files, load, self._window.pass_.sync_time_us)
        return self._delivered[table]

    def _insert(self, message: Insert, table: Table) -> None:
        output = self._output(table)
        batch = fresh_rows(message, table, lambda: self._of(table.name))
        self.rows[message.table] += message.batch.num_rows
        self.known[message.table] += message.batch.num_rows - batch.num_rows
        output.write(batch)

    def _output(self, table: Table) -> "_Output":
        if table.name not in self._outputs:
            record = self._log.tables.get(table.name)
            if record is None:
                raise TaskError(f"there is no table {table.name!r}", hint="it was dropped meanwhile, or never migrated")
            stored = table_of(table.name, record)
            self._outputs[table.name] = _Output(self._store, stored, self._settings)
        return self._outputs[table.name]


class _Output:
    """The files of one table in one window: one, or one for each partition."""

    def __init__(self, store: Store, table: Table, settings: Settings) -> None:
        self.staged: list[tuple[str, str]] = []
        """Files that are complete, and the directory where each belongs, below the table's."""
        self._store, self._table, self._settings = store, table, settings
        form = settings.layout.form
        kinds = {one.name: form.file_type(one.type) for one in table.schema}
        self._kinds = kinds
        self._schema = pa.schema([one for one in kinds.items() if one[0] not in settings.layout.partition_by])
        self._waiting: dict[str, list[pa.Table]] = {}
        self._bytes = 0
        self._open: dict[str, tuple[str, DataFile]] = {}

    @property
    def _form(self) -> Form:
        return self._settings.layout.form

    def write(self, batch: "pa.RecordBatch") -> None:
        """More rows."""
        if not batch.num_rows:
            return
        rows = self._prepared(batch)
        for below, part in split(self._table, self._settings.layout.partition_by, rows):
            self._waiting.setdefault(below, []).append(part)
            self._bytes += part.nbytes
        places = self._waiting.keys() | self._open.keys()
        if len(places) > self._settings.partitions_max:
            raise TaskError(
                f"table {self._table.name!r}: the rows of one window have more than {self._settings.partitions_max} "
                f"different values of {', '.join(self._settings.layout.partition_by)}, each a file of its own",
                hint="partition by a column with fewer values, make windows smaller (batch_size), or raise "
                "partitions_max",
            )
        if self._bytes > _BUFFER_BYTES_MAX:
            self._flush()

    def finish(self) -> None:
        """Close all files; they are durable then."""
        for below in [*self._waiting.keys(), *(self._open.keys() - self._waiting.keys())]:
            self._flush_one(below)
            staged, file = self._open[below]
            file.close()
            del self._open[below]
            self.staged.append((staged, below))
        self._waiting.clear()

    def discard(self) -> None:
        """Remove all files."""
        for _, file in self._open.values():
            file.abort()
        self._store.discard([one for one, _ in [*self._open.values(), *self.staged]])

    def name(self, key: StateKey, state: State, part: int, staged: str) -> str:
        """Of a file: the task, epoch and sequence of the commit, the part; and what makes it the only one."""
        unique = Path(staged).stem[:8]
        suffix = self._form.suffix(self._settings.compression)
        task = encode_part(key.task)
        if task.startswith(HIDDEN):
            task = f"%{ord(task[0]):02x}{task[1:]}"
        return f"{task}-{state.epoch}-{state.sequence}-{part}-{unique}{suffix}"

    def _writer(self, file: IO[bytes], opened: ExitStack) -> Any:
        return self._form.writer(file, self._schema, self._settings.compression, opened)

    def _prepared(self, batch: "pa.RecordBatch") -> "pa.Table":
        names = batch.schema.names
        for name in names:
            if name not in self._kinds:
                raise TaskError(f"{self._table.name} has no column {name!r}")
        arrays = []
        for name, kind in self._kinds.items():
            where = f"{self._table.name}.{name}"
            if name not in names:
                arrays.append(pa.nulls(batch.num_rows, kind))
                continue
            in_table = cast_to(batch.column(name), self._table.schema.field(name).type, where=where)
            arrays.append(self._form.to_file(in_table, where=where))
        return pa.table(arrays, names=list(self._kinds))

    def _flush(self) -> None:
        for below in self._waiting:
            self._flush_one(below)
        self._waiting.clear()
        self._bytes = 0

    def _flush_one(self, below: str) -> None:
        waiting = self._waiting.get(below, [])
        if not waiting:
            return
        if below not in self._open:
            staged = self._store.stage()
            self._open[below] = staged, DataFile(self._store.root / staged, self._writer)
        try:
            self._open[below][1].write(pa.concat_tables(waiting))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TaskError(f"{self._table.name}: a row cannot be stored ({error})", hint=MEND_VALUE) from error
