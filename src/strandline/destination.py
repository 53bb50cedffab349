"""The contract of a destination: what stores tables."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from strandline.errors import StateConflictError
from strandline.lazy import pa
from strandline.message import Cursor, WindowMessage
from strandline.ownership import Owner, Ownership
from strandline.state import RUN_TASK, Pass, State, StateKey, Token
from strandline.table import Table

__all__ = [
    "ADD_COLUMN",
    "BY_REFRESH",
    "CHANGE_COLUMN",
    "CHANGE_KEY",
    "LACKING_MAX",
    "RECREATE",
    "Capabilities",
    "Change",
    "Delivery",
    "Destination",
    "Fence",
    "Held",
    "MigrateMode",
    "Migration",
    "Reach",
    "Readable",
    "Receipt",
    "Scope",
    "Window",
    "WriteMode",
    "check_token",
]


RECREATE = "recreate"
"""The kind of a ``Change`` that drops a table's rows."""
LACKING_MAX = 1_000_000
"""How many rows that the destination lacks are read by their keys after one sweep."""
ADD_COLUMN = "add_column"
"""The kind of a ``Change`` that leaves rows without a value in a new column."""
CHANGE_COLUMN, CHANGE_KEY = "change_column", "change_key"
BY_REFRESH = frozenset({CHANGE_COLUMN, CHANGE_KEY})
"""The kinds of a ``Change`` that only the ``Swap`` of a full refresh makes: a column takes any other type, a table another
primary key."""


class WriteMode(StrEnum):
    """How rows meet the rows that are already there."""

    APPEND = "append"
    OVERWRITE = "overwrite"
    OVERWRITE_DELETE_STALE = "overwrite-delete-stale"


class MigrateMode(StrEnum):
    """What may be done to a table whose columns changed."""

    SAFE = "safe"
    FORCED = "forced"


class Delivery(StrEnum):
    """What a destination can promise of rows that come again after an interruption."""

    ATOMIC = "atomic"
    """The rows of a window and its state are committed as one. It keeps the states: see ``strandline.state.KeepsState``."""
    IDEMPOTENT = "idempotent"
    """A window whose ``id`` it has seen replaces what that one wrote. The states are kept elsewhere."""
    PLAIN = "plain"
    """Rows that are written again may be stored again. The states are kept elsewhere."""


class Reach(StrEnum):
    """From where the rows can be written at once."""

    ANYWHERE = "anywhere"
    """By any number of processes, wherever they are."""
    HOST = "host"
    """By the processes of one machine, where the rows lie; they take turns, a commit each."""
    FILE = "file"
    """As ``HOST``, and all rows lie in one file: several processes gain nothing."""
    PROCESS = "process"
    """One process: as long as it has them open, no other one can even look."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a destination can do. What it declares unsupported is checked by the suite too."""

    write_modes: frozenset[WriteMode]
    delivery: Delivery
    deletes: bool = True
    """``Delete``, ``Truncate``, ``Replace``, ``Present`` and ``Stale``; without them there is no ``overwrite-delete-stale``."""
    replace: bool = True
    """``Swap``, the end of a full refresh. (``Replace`` is one of ``deletes``.)"""
    orders_versions: bool = False
    """``Table.version_order``, in the overwrite modes."""
    latest_views: bool = False
    """``Table.latest_view``."""
    writers_max: int = 8
    """How many windows may be written at once."""
    reach: Reach = Reach.ANYWHERE
    """Which processes may write at once; what ``plan`` says of shards and workers."""
    types_refused: Mapping[str, str] = field(default_factory=dict)
    """Arrow type families (``str(type)`` up to the first bracket) that are refused by ``migrate``, with the reason. Nanoseconds
    with a zone may be refused alone, as ``timestamp[ns, tz]``."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Under which epoch a run may write. A destination that keeps states accepts nothing of an older epoch."""

    source: str
    destination: str
    epoch: int
    run_id: str
    run: str = RUN_TASK
    """The name of the task under which the epoch is kept; a run of a shard has one of its own."""

    @property
    def key(self) -> StateKey:
        """Where the epoch is kept: the state of the task ``@run``, or of that of a shard."""
        return StateKey(self.source, self.run, self.destination)

    def check(self, stored: int) -> None:
        """Compare with the epoch that is stored, for a destination that keeps states.

        Raises:
            StateConflictError: another run has taken over.
        """
        if stored > self.epoch:
            raise StateConflictError(
                f"{self.source} → {self.destination}: another run has taken over (epoch {stored}; this run has "
                f"{self.epoch}); nothing was written",
                hint="let the other run end, then start again",
            )


def check_token(key: StateKey, stored: Token | None, expected: Token | None) -> None:
    """Compare the stored state of a lineage with the one that a run saved last, for a destination that keeps states.

    Raises:
        StateConflictError: it is another one.
    """
    if stored != expected:
        raise StateConflictError(
            f"{key}: the stored state is not the one this run saved last; nothing was written",
            hint="another run writes the same table; let it end, then start again",
        )


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
    owners: tuple[Owner, ...] | None = None
    """Who is registered as writing the stored table, before this call; ``None``: the destination keeps no register.

    Nobody, where a full table is not the one that was registered, but one that somebody has made in its place."""
    theirs: tuple[str, ...] = ()
    """The columns that somebody else has added to the stored table."""
    references: tuple[str, ...] = ()
    """The foreign keys of tables that refer to the stored one, in words."""
    attached: tuple[str, ...] = ()
    """What people have attached to the stored table and ``changes`` lose, in words: a table is created again without it."""
    kept: "Mapping[str, pa.DataType]" = field(default_factory=dict)
    """Columns that stay as they are stored, though ``table`` has another type: as ``Table.former`` says, or as text; with the type in
    which their values are to come."""
    users: tuple[str, ...] = ()
    """Because of whom ``kept`` stay as they are at a full refresh too, in words."""
    also: str = ""
    """Another identity of the stored table, by which it is known where the mark was lost, or was not kept yet."""


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
class Receipt:
    """What a destination has made durable in one window."""

    state: State | None
    """The state it committed with the rows; ``None``: it keeps none, and the engine saves to the backend."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """By the names that the messages use: the inserted rows that it took, stored, merged, or known already."""
    known: Mapping[str, int] = field(default_factory=dict)
    """How many of these were in the delivered set, so that they were not stored again."""
    removed: int = 0
    """Rows that were deleted because they are gone at the source: by sweeps of keys (``Present``), children that their parents
    have no more (``Replace``; rows of which the window has a newer one need not be counted), and stale ones."""
    lacking: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Keys that a sweep has shown to exist at the source and that are not stored after this window: for each table their
    places, from 0, among all keys that ``Present`` messages had of it, ascending; the first ``LACKING_MAX`` and one more."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a destination has of a scope, as evidence beside the states."""

    rows: bool
    """Whether there is a row."""
    epoch: int | None = None
    """The latest epoch under which such rows were written; ``None``: it keeps no epochs with them."""


class Window(Protocol):
    """The messages between two commits, pulled by the destination; ends at a checkpoint. Iterated once."""

    id: str
    """Which window it is: 32 hexadecimal digits, known before the iteration, in every process the same.

    A window that begins again from the same saved cursor in the same pass has the same id, whatever it then holds; no
    other window has. So a store without transactions knows a repetition, and replaces what the first attempt left; under
    a condition (what it replaces is absent, or is what it was when the run began), for a run that was overtaken may
    wake up and must fail, not replace what its successor wrote. An epoch that such a store keeps for that belongs to ``key``:
    runs of other shards write other lineages of a table at the same time, and one of an earlier epoch is no less right.
    """
    key: StateKey
    expected: Token | None
    """The token of the lineage's state before this window; a destination that keeps states compares it."""
    tables: Mapping[str, Table]
    """The tables as stored, lineage columns included, by the name that the messages use."""
    scope: Scope
    """Of the task: for ``Delete``, ``Truncate``, ``Replace``, ``Present``, ``Stale`` and ``Swap``."""
    pass_: Pass
    """The pass to which the rows belong."""

    def __iter__(self) -> Iterator[WindowMessage]:
        """Every message but ``Schema``, ``Failure`` and ``Notice``, which the engine handles."""

    def emptied(self, tables: Collection[str], lacking: Collection[str] = ()) -> None:
        """Note in ``state`` that the scope has no rows of these tables any more, and which it is ``lacking`` keys of (see ``Receipt``).

        By the names that the messages use. A destination that commits the state with the rows calls it once it has removed rows or
        swept, before it asks for ``state``; otherwise the next run would take the empty table for one that was lost, or a
        table that a sweep has found incomplete for a complete one. Tables of which nothing was removed need not be looked at.
        """

    @property
    def checkpoint(self) -> Cursor | None:
        """The cursor that covers the window. Raises ``RuntimeError`` until the iteration is exhausted."""

    @property
    def state(self) -> State:
        """The state to commit with the rows. Raises ``RuntimeError`` until the iteration is exhausted."""


class Destination(Protocol):
    """Stores tables. Constructed as ``cls(cls.Spec(...))`` with its pydantic settings; that must not touch the outside.

    One whose delivery is atomic also has ``states`` (see ``strandline.state.KeepsState``).

    Raises from every method: ``UsageError`` (a setting or a table cannot be), ``UnreachableError`` and
    ``RetryableError`` (the engine resumes from the last checkpoint), ``LockedError`` (another process holds it),
    ``StateConflictError`` (the fence is older than the stored one: nothing was done; the run stops), ``TaskError``.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Constant, known without touching the outside."""

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
        """Make the stored table fit ``table``, or only say what would be done (``apply=False`` changes nothing).

        A destination that keeps states keeps, beside them, who writes which table. With ``apply`` and an ``ownership`` it
        looks, in the transaction that changes the table, whether it may be written (``strandline.ownership``), and registers
        its owner; without one (hidden tables of a full refresh) nobody is registered.

        Without ``apply`` the fence does not matter: looking is free to anyone; whether a table that may not be written under
        the ``ownership`` would fit is not asked, and no change is told. Called before the first write of a run
        for each table, and again after a ``Schema`` message; from any thread, not for one table at the same time. A
        second identical call finds no changes. Additive changes are applied; incompatible ones raise ``TaskError``,
        unless ``mode`` is forced: then the table is created again, empty. A column the table no longer has stays, and is
        null in rows that come from then on. A column that is stored as text, is no key, and now has a plain type stays text,
        and one that is stored as ``Table.former`` says stays so: ``Migration.kept``.

        ``replaces`` says whose rows a full refresh is about to replace, by a ``Swap``. Then nothing is created again, whatever
        the ``mode``, and what could not be altered with its rows does not raise: that a column has another type, or the table
        another primary key, is told as a change of one of the kinds ``BY_REFRESH``, which the ``Swap`` makes and this method
        never does; so is a column that would otherwise stay as it is. Whatever else is needed, a new column, is
        done by ``apply`` as ever. Where somebody else uses what would be changed (rows that are not of that scope, another
        owner, a view or a foreign key that the database does not let change with it) a text stays text, and anything else is
        refused. Who has no ``Swap`` is never asked.

        Where the table has a ``latest_view``, that is made with it, and shows its columns as they are then, after a ``Swap`` too.

        What people attach to a stored table is not ours: columns that they have added, foreign keys that refer to it,
        triggers, views, grants. ``Migration`` names what would be lost.

        Raises:
            TaskError: among others, the table has a column that somebody else has added to the stored one, and the
                ``ownership`` does not ``adopt`` it.
            UsageError: the table is not ours to write, or somebody else uses what a full refresh would change: it is named; or
                something else has the name of its ``latest_view``.
                Nothing was changed.
        """

    def write(self, window: Window, *, mode: WriteMode, fence: Fence) -> Receipt:
        """Take all messages of ``window``; durable once it returns, all of it or nothing.

        Pulls into staging first, then one short transaction: compare the epoch stored under ``fence.key`` and the token
        of the lineage's state with ``window.expected``, merge, save ``window.state`` (and its history). Called from one
        thread per task, ``writers_max`` at once.

        Order is stream order: the last message about a key wins, whatever its values say; unless ``Table.version_order`` names
        a column. Then a row does not replace one with a greater value there, stored or in the window; batches have the
        column. A stored row stays then, and in a pass from nothing has its sync time from there on, for the pass has delivered
        its key. In ``overwrite-delete-stale`` a stored row that ``Stale`` would delete after this pass is none that wins: what
        is stored after the pass is the newest of what it has delivered. In append mode rows are only added, but for ``Swap``. Of an ``Insert`` that is ``reread`` only rows whose ``version`` is not in the
        delivered set are added in append mode: with a primary key a version is stored once; without one, its n-th
        occurrence in this pass (``window.pass_``) is stored if fewer than n were delivered. ``Complete`` trims the
        delivered set of that table to what this pass has seen. A version belongs to ``window.key`` and the table.

        A table whose primary key is ``_cq_id`` may come without that column: the destination makes it from the first
        12 bytes of ``version`` and, in the last 4, the row's number (from 0, big endian) among the rows of that content
        that this pass has delivered, in this window or before it. So equal rows are several rows, and replaying them in
        a later pass changes nothing.

        A row whose key is stored already is updated, or replaced so that nobody can tell: columns that somebody has added
        keep their values, foreign keys that refer to it and triggers of a delete do not take it for a deleted one. That
        holds for ``Swap`` too, where the table has a primary key and the mode is not append. A row to which a foreign
        key of another table refers is deleted only if ``Table.allow_cascade`` says so.

        ``Swap``: unless the hidden table has too few rows for ``scope.share_max``, delete the scope's rows of the table,
        insert all of the hidden one, drop it, and give the delivered set and lineage of the hidden table to this one; in
        the same transaction. Where ``window.tables`` has other types or another key than the stored table (see ``replaces`` of
        ``migrate``), that is altered between the two, and stays the same table: its mark, and what people have attached to it.
        A reader sees the old rows in the old columns, or the new ones in the new. ``Stale``, ``Forget``: see there. Of tables of which rows were removed and that now have none in
        the scope, ``window.emptied`` is told.

        Raises:
            UsageError: somebody else uses what a ``Swap`` would change of its table. Nothing was written.
            TaskError: a row is to be deleted to which somebody's foreign key refers; or a row cannot be stored (a null in the
                primary key, a value out of range), or was not: the number that the database says it has stored is compared
                with the number of rows. Nothing was written.
            MassDeleteError: ``Present``, ``Stale`` or ``Swap`` would remove more than ``scope.share_max``. Nothing was written.
            StateConflictError: fenced, or the lineage's state is not ``window.expected``. Nothing was written.
            StateError: the reply to the commit was lost. The engine reads back before it decides.
        """

    def holds(self, table: Table, *, scope: Scope) -> Held:
        """Whether rows of ``scope`` are stored in the stored ``table``; of a table that is not there, none are.

        Evidence beside the states: rows of a task of which there is no state mean that the state was lost. Looks only.
        """

    def close(self) -> None:
        """Release what is held. A second call does nothing."""


@runtime_checkable
class Readable(Protocol):
    """A destination that can show what it has stored. Optional: the engine never asks; tests and comparisons do."""

    def read(self, table: Table, *, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The stored rows, in no order, in the Arrow types of ``table``. Sees only what is committed.

        Raises:
            TaskError: there is no such table.
        """
