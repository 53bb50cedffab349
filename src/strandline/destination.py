"""The contract of a destination: what stores tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from strandline.lazy import pa
from strandline.message import Cursor, Message
from strandline.state import RUN_TASK, Pass, State, StateKey, Token
from strandline.table import Table

__all__ = [
    "ADD_COLUMN",
    "RECREATE",
    "Capabilities",
    "Change",
    "Destination",
    "Fence",
    "KeyRange",
    "MigrateMode",
    "Migration",
    "Receipt",
    "Scope",
    "Transactional",
    "Window",
    "WriteMode",
]


RECREATE = "recreate"
"""The kind of a ``Change`` that drops a table's rows."""
ADD_COLUMN = "add_column"
"""The kind of a ``Change`` that leaves rows without a value in a new column."""


class WriteMode(StrEnum):
    """How rows meet the rows that are already there."""

    APPEND = "append"
    OVERWRITE = "overwrite"
    OVERWRITE_DELETE_STALE = "overwrite-delete-stale"


class MigrateMode(StrEnum):
    """What may be done to a table whose columns changed."""

    SAFE = "safe"
    FORCED = "forced"


class Transactional(StrEnum):
    """What is committed as one."""

    WINDOW = "window"
    """All tables of a window together with the state."""
    TABLE = "table"
    """One table at a time."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a destination can do. What it declares unsupported is checked by the suite too."""

    write_modes: frozenset[WriteMode]
    transactional: Transactional
    deletes: bool = True
    """``Delete``, ``Truncate``, ``Present`` and ``delete_stale``."""
    replace: bool = True
    """``Swap``, the end of a full refresh."""
    writers_max: int = 8
    """How many windows may be written at once."""
    types_refused: Mapping[str, str] = field(default_factory=dict)
    """Arrow type families (``str(type)`` up to the first bracket) that are refused by ``migrate``, with the reason."""
    remote: bool = False


@dataclass(frozen=True, slots=True)
class Fence:
    """Under which epoch a run may write. A destination that keeps states accepts nothing of an older epoch."""

    source: str
    destination: str
    epoch: int
    run_id: str

    @property
    def key(self) -> StateKey:
        """Where the epoch is kept: the state of the task ``@run``."""
        return StateKey(self.source, RUN_TASK, self.destination)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between a table as it is wanted and as it is stored."""

    kind: str
    """``create``, ``add_column``, ``widen_column``, ``recreate``, ``drop_not_null`` …; words, for ``plan``."""
    table: str
    column: str = ""
    detail: str = ""
    ddl: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Migration:
    """What ``migrate`` found or did."""

    changes: tuple[Change, ...]
    mark: str | None
    """Identity of the stored table (a table created again has another); ``None``: there is no table."""
    empty: bool
    """The stored table has no rows, or there is none."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows a pass may delete."""

    source_name: str
    partition: str | None
    sync_time_us: int
    """Rows of an older pass than this are stale."""
    share_max: float | None = 0.5
    """Refuse to delete more than this share of the scope's rows; ``None``: no limit."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Rows with ``lower <= key < upper``, compared as tuples of the primary key; ``None`` is open."""

    lower: tuple[Any, ...] | None = None
    upper: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination has made durable in one window."""

    state: State | None
    """The state it committed with the rows; ``None``: it keeps none, and the engine saves to the backend."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """By the names that the messages use: the inserted rows that it took, stored, merged, or known already."""
    known: Mapping[str, int] = field(default_factory=dict)
    """How many of these were in the delivered set, so that they were not stored again."""
    removed: int = 0
    """Rows that sweeps of keys (``Present``) removed."""


class Window(Protocol):
    """The messages between two commits, pulled by the destination; ends at a checkpoint. Iterated once."""

    key: StateKey
    expected: Token | None
    """The token of the lineage's state before this window; a destination that keeps states compares it."""
    tables: Mapping[str, Table]
    """The tables as stored, lineage columns included, by the name that the messages use."""
    scope: Scope
    """Of the task: for ``Delete``, ``Truncate``, ``Present`` and ``Swap``."""
    pass_: Pass
    """The pass to which the rows belong."""

    def __iter__(self) -> Iterator[Message]:
        """Every message but ``Schema``, ``Failure`` and ``Notice``, which the engine handles."""

    @property
    def checkpoint(self) -> Cursor | None:
        """The cursor that covers the window. Raises ``RuntimeError`` until the iteration is exhausted."""

    @property
    def state(self) -> State:
        """The state to commit with the rows. Raises ``RuntimeError`` until the iteration is exhausted."""


class Destination(Protocol):
    """Stores tables. Constructed as ``cls(cls.Spec(...))`` with its pydantic settings; that must not touch the outside.

    A transactional destination also has ``states`` (see ``strandline.state.KeepsState``).

    Raises from every method: ``UsageError`` (a setting or a table cannot be), ``UnreachableError`` and
    ``RetryableError`` (the engine resumes from the last checkpoint), ``LockedError`` (another process holds it),
    ``StateConflictError`` (the fence is older than the stored one: nothing was done; the run stops), ``TaskError``.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Constant, known without touching the outside."""

    def migrate(self, table: Table, *, mode: MigrateMode, fence: Fence, apply: bool = True) -> Migration:
        """Make the stored table fit ``table``, or only say what would be done (``apply=False`` changes nothing).

        Without ``apply`` the fence does not matter: looking is free to anyone. Called before the first write of a run
        for each table, and again after a ``Schema`` message; from any thread, not for one table at the same time. A
        second identical call finds no changes. Additive changes are applied; incompatible ones raise ``TaskError``,
        unless ``mode`` is forced: then the table is created again, empty. A column the table no longer has stays, and is
        null in rows that come from then on.
        """

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``; durable once it returns, all of it or nothing.

        Pulls into staging first, then one short transaction: compare the epoch stored under ``fence.key`` and the token
        of the lineage's state with ``window.expected``, merge, save ``window.state`` (and its history). Called from one
        thread per task, ``writers_max`` at once.

        Order is stream order: the last message about a key wins, whatever its values say. In append mode rows are
        only added, but for ``Swap``. Of an ``Insert`` that is ``reread`` only rows whose ``version`` is not in the
        delivered set are added in append mode: with a primary key a version is stored once; without one, its n-th
        occurrence in this pass (``window.pass_``) is stored if fewer than n were delivered. ``Complete`` trims the
        delivered set of that table to what this pass has seen. A version belongs to ``window.key`` and the table.

        A table whose primary key is ``_cq_id`` may come without that column: the destination makes it from the first
        12 bytes of ``version`` and, in the last 4, the row's number (from 0, big endian) among the rows of that content
        that this pass has delivered, in this window or before it. So equal rows are several rows, and replaying them in
        a later pass changes nothing.

        ``Swap``: unless the hidden table has too few rows for ``scope.share_max``, delete the scope's rows of the table,
        insert all of the hidden one, drop it, and give the delivered set and lineage of the hidden table to this one; in
        the same transaction. ``Forget``: see there.

        Raises:
            TaskError: a row cannot be stored (a null in the primary key, a value out of range), or was not: the number that
                the database says it has stored is compared with the number of rows. Nothing was written.
            MassDeleteError: ``Present`` or ``Swap`` would remove more than ``scope.share_max``. Nothing was written.
            StateConflictError: fenced, or the lineage's state is not ``window.expected``. Nothing was written.
            StateError: the reply to the commit was lost. The engine reads back before it decides.
        """

    def delete_stale(self, table: Table, *, scope: Scope, fence: Fence) -> int:
        """Delete the scope's rows that are older than its pass; how many. A second identical call deletes none.

        Raises:
            MassDeleteError: more than ``scope.share_max`` of the scope's rows. Nothing was deleted.
        """

    def read(
        self, table: Table, *, columns: Sequence[str] | None = None, key_range: KeyRange | None = None
    ) -> "Iterator[pa.RecordBatch]":
        """The stored rows, in no order, in the Arrow types of ``table``. Sees only what is committed.

        Raises:
            TaskError: there is no such table.
        """

    def close(self) -> None:
        """Release what is held. A second call does nothing."""
