"""The contract of a source: what reads tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from strandline.errors import StrandlineError
from strandline.lazy import pa
from strandline.message import Cursor, Insert, SourceMessage
from strandline.reading import Reading
from strandline.table import Table

__all__ = [
    "Continues",
    "KnowsGone",
    "KnowsIdle",
    "MissesTasks",
    "ReadsKeys",
    "Remembers",
    "Rewinds",
    "RunContext",
    "Source",
    "Task",
    "TaskFailure",
]


@dataclass(frozen=True, slots=True)
class Task:
    """What one ``read`` covers: one or more root tables with their child tables, in one partition.

    The unit of state, retry, failure, parallelism and distribution. Picklable.
    """

    id: str
    """Stable across runs: the table's name for a database table. Never starts with ``@``."""
    tables: tuple[Table, ...]
    partition: str | None = None
    """An account, a region; becomes ``_cq_client_id``. Usually none."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """What ``tasks`` decided once for the whole run (a horizon, a page size). JSON values; not part of the state."""


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """A task that is there, and cannot be read this time: an account whose access was withdrawn, a region that is down.

    It fails alone. Its rows and its state stay, it is not taken for gone, and the run ends with exit code 1.
    """

    id: str
    """Of the task, as if it could be read."""
    error: StrandlineError
    """Why: a ``TaskError``, or a ``RetryableError``, which is not tried again in this run."""
    tables: tuple[str, ...] = ()
    """The names of its tables, as far as they are known."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What must be the same for all tasks and hosts of a run; decided once. Picklable."""

    run_id: str
    source_name: str
    started_at: datetime
    """UTC, by the clock of the machine that started the run."""
    batch_rows: int = 65_536
    """See ``Reading``."""
    batch_bytes: int = 16 << 20


class Source(Protocol):
    """Reads tables. Constructed as ``cls(cls.Spec(...))`` with its pydantic settings; that must not touch the outside.

    Raises from every method: ``UsageError`` (a setting is wrong), ``UnreachableError`` and ``RetryableError`` (the
    engine resumes from the last checkpoint, with back-off), ``TaskError`` (this task fails, the run goes on).
    """

    def tables(self) -> Sequence[Table]:
        """Every table this source offers, children after their parents. Called once a run; stable between calls."""

    def tasks(self, tables: Sequence[Table]) -> Iterable[Task | TaskFailure]:
        """How the chosen tables are read. Called once a run, before anything is read or written; takes minutes at most.

        What has to be decided once for all tasks, a horizon above all, is decided here and travels in ``payload``. Of partitions,
        those that cannot be read now are a ``TaskFailure`` each, and the others are synced. A partition that is left out is taken
        for gone; what is raised ends the run.
        """

    def read(self, task: Task, reading: Reading) -> Iterator[SourceMessage]:
        """Everything of ``task`` that changed since ``reading.cursor``, or all of it where that is ``None``.

        Called from one thread per task, several at once. The engine may close the iterator at any message. A read that is
        ``resumed`` from the cursor of any checkpoint yields the rest of the pass: rows before that checkpoint are never needed
        again, rows after it are never missing. Ends with a ``Complete`` for each table and a last ``Checkpoint``.

        A cursor is honest: it covers no row that was not yielded, and never passes the source's clock. It consists of JSON
        values that JSON does not change, and is checked before a row that it covers is committed.

        A resumed read gets on: from one cursor to the next it needs no more messages than an uninterrupted one, and it never
        comes back to a cursor that the pass had before. Otherwise a pass that is interrupted at the same place each time, by a
        limit of requests, say, would never end. So nothing is repeated when a read is resumed: no upper bound is taken again, no
        look-back window read again. The engine gives up a pass that does not get on (see ``RetryableError``).

        Args:
            task: one of ``tasks``.
            reading: from where, in which pass, within which bounds; see there for what it does for a source.
        """

    def acknowledge(self, task: Task, cursors: Mapping[str, Cursor]) -> None:
        """Every destination of this source has saved a cursor of ``task``. May never be called (a crash), or again.

        For sources that must be told (a replication slot, a queue); others do nothing. Nothing may be dropped that one of
        the destinations still has to read: each resumes from its own cursor. Called from any thread, one call at a time.

        Args:
            task: the task that was read.
            cursors: the cursor that each destination has saved last, by the destination's name; of all of them.
        """

    def close(self) -> None:
        """Release what is held. A second call does nothing."""


@runtime_checkable
class Remembers(Protocol):
    """A source that cannot see all of its tables and columns before it reads. Optional: without, tables are as offered.

    An API shows the columns of its records only. What a look at the first of them has shown may be less than what was stored, and
    no stored table is made smaller; nor is one left as it was because nothing of it was seen this time.
    """

    def remembered(self, task: Task, cursor: Cursor | None, stored: Mapping[str, int]) -> Task:
        """The same task, with its tables as they were when a pass came to ``cursor``, and what was found since.

        Called before anything is read or written, for each destination, and not for a full refresh. Looks only. A cursor that is
        none of this source changes nothing: ``read`` says so.

        Args:
            task: one of ``tasks``.
            cursor: where it goes on; ``None``: it is read from nothing, though it was synced before.
            stored: how many rows of its tables were stored, by name; those that are selected, also where it has them no more.
        """


@runtime_checkable
class MissesTasks(Protocol):
    """A source that may insist on tasks that it offered once. Optional: without, they are let go with a warning."""

    def missing(self, task: str) -> None:
        """A task of this id was synced, is selected, and is not among ``tasks`` any more. Its rows stay in any case.

        Raises:
            TaskError: it should be there, so the task fails.
        """


@runtime_checkable
class KnowsGone(Protocol):
    """A source that may not have any more what it had, as files that are removed. Optional: any other can read all of it again.

    Rows of it are in the destination only, so the engine drops them only for who says so: it asks before a full refresh, and
    before a table is created again.
    """

    def gone(self, task: Task, reading: Reading) -> str:
        """What the rows came from that ``reading.cursor`` covers and that cannot be read any more, in words; empty: nothing.

        Also what was gone when the cursor was made, since the first row that led to it. Looks only.
        """


@runtime_checkable
class KnowsIdle(Protocol):
    """A source that can tell of many tasks at once that they have nothing new. Optional: without, each of them is read to know it.

    What ``read`` asks for each task, it asks for hundreds in one question. A task that is named is not read in this run, so
    what is said of it has to be proved, not likely: a row that is not seen now may never be.
    """

    def idle(self, asked: Sequence[tuple[Task, Reading]]) -> Mapping[str, str]:
        """The tasks whose ``read`` would yield nothing but its end, by id, each with the evidence in words for a person.

        No row is new or changed since the cursor; with ``Reading.mirror``, none is gone either, if ``read`` would tell. A task of
        which that is not known is left out; so is every one where the question fails. It takes little: seconds, not minutes, and
        nothing that grows with the rows of a large table.

        Args:
            asked: tasks, each with the reading that would begin a pass. Their tables may have changed since ``tables``.
        """


@runtime_checkable
class ReadsKeys(Protocol):
    """A source that can look rows up by their primary key. Optional, for sources that send ``Present``.

    A key sweep shows both sides: keys that only the destination has are deleted there, and keys that only the source has
    are rows that were lost on the way, whoever lost them. The engine reads those with this method; of a source without
    it, the table fails.
    """

    def read_keys(self, task: Task, table: str, keys: "pa.RecordBatch", reading: Reading) -> Iterator[Insert]:
        """The rows that have these primary keys now. Those that are gone are left out.

        Called from the task's thread, after ``read`` has sent ``Complete`` for the table, with keys that it has sent as
        ``Present`` in the same pass. Moves no cursor.

        Args:
            task: the task that is read.
            table: the name of one of its tables.
            keys: the columns of the primary key, as ``Present`` had them; a few thousand rows.
            reading: of the pass; its cursor is the one that ``read`` sent last.

        Raises:
            As ``read``.
        """


@runtime_checkable
class Continues(Protocol):
    """A source that can go on from the cursor of another tool's source of its name. Optional: ``state import`` asks it."""

    def continued(self, task: Task, value: str) -> Cursor:
        """The cursor that covers no row which the other tool may not have read.

        Args:
            task: one of ``tasks``.
            value: as the other tool has saved it.

        Raises:
            UsageError: it is none of this source.
        """


@runtime_checkable
class Rewinds(Protocol):
    """A source that can put a cursor back, and tell what lies between two.

    Optional: without, a person goes back to a cursor that the history has, and is not told how much is read again. Both methods
    look only, answer within seconds, and are asked for a person who is about to move a cursor, never by a sync.
    """

    def rewound(self, task: Task, cursor: Cursor, to: str | timedelta) -> Cursor:
        """``cursor`` as if this source had come no further than ``to``, where a pass may begin.

        That pass delivers every row from there on, whatever was delivered before.

        Args:
            task: one of ``tasks``.
            cursor: where a pass has ended.
            to: what people know as the place, as they write it: a value of the key, a time. Or how long before ``cursor`` it is.

        Raises:
            UsageError: this task has no such place, or it lies behind ``cursor``; the hint says what can be done.
            TaskError: ``cursor`` is none of this task.
        """

    def rows_between(self, task: Task, earlier: Cursor, later: Cursor) -> int | None:
        """About how many rows that ``later`` covers a pass from ``earlier`` reads again. ``None``: to know it, one would read them.

        Raises:
            TaskError: a cursor is none of this task.
        """
