"""Cursors as they are kept: states, their keys and tokens, and the contract of a state backend.

How a state is written down: see ``strandline.state_format``.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, runtime_checkable

from strandline.errors import StateError
from strandline.message import Cursor

__all__ = [
    "HISTORY_BYTES_MAX",
    "HISTORY_MAX",
    "RUN_TASK",
    "KeepsState",
    "Pass",
    "Phase",
    "State",
    "StateBackend",
    "StateKey",
    "TableState",
    "Token",
    "is_newer",
    "is_run",
]

HISTORY_MAX = 20
"""How many commits of a state a backend keeps, the newest included."""
HISTORY_BYTES_MAX = 4 << 20
"""How many bytes of them a backend keeps, encoded, beside the newest; and the one before it, however large it is. A part
counts once, with the newest that has it."""
RUN_TASK = "@run"
"""The task name under which a source's fence is kept: one state for each source and destination. A run of a shard has another
one, which begins with it: see ``is_run`` and ``strandline.shard``."""

Token: TypeAlias = str
"""What a backend compares on save. Opaque; two saves never share one."""


@dataclass(frozen=True, slots=True, order=True)
class StateKey:
    """Whose cursor it is: one for each source, task and destination."""

    source: str
    task: str
    destination: str

    def __str__(self) -> str:
        return f"{self.source}/{self.task} → {self.destination}"


class Phase(StrEnum):
    """How far a pass has come."""

    READING = "reading"
    READ = "read"
    """Every row is durable; stale rows may still have to be deleted."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Pass:
    """One complete reading of a task. It begins once and survives crashes and restarts."""

    sync_time_us: int
    """Microseconds since 1970-01-01 UTC; on every row of the pass. A later pass has a larger one."""
    full: bool
    """Whether it began from nothing, so that what it did not deliver is stale."""
    phase: Phase = Phase.READING
    completed: tuple[str, ...] = ()
    """Tables that were read to their end in this pass."""
    windows: int = 0
    """How many windows of it were committed; what tells the next one from them."""
    expired: bool = False
    """The source could not go on from its cursor. The next pass is over everything, and spares what it does not find."""
    spares: bool = False
    """It deletes nothing: what it cannot see may only be hidden from it. See ``stale_us``."""
    stale_us: int = 0
    """The sync time of a pass that has spared its stale rows; they are deleted when this one is complete. 0: there is none."""


@dataclass(frozen=True, slots=True)
class TableState:
    """What the state knows of a table, to notice when it contradicts the destination."""

    fingerprint: str
    """Of the keys and the selection that the cursor depends on."""
    mark: str = ""
    """Identity of the stored table; a table dropped and created again has another. Empty: the destination has none."""
    rows: int = 0
    """Rows written since the table was created; 0 proves that an empty table is no loss."""
    selections: tuple[str, ...] = ()
    """Fingerprints of the selections under which these rows were read, sorted; several where a filter was changed."""
    basis: Mapping[str, str] = field(default_factory=dict)
    """What the fingerprint is of, by setting, in words: so that a change can be named. Empty: as older versions kept it."""
    doomed: bool = False
    """A forced migration was about to create the table again. Whether it did, the mark tells."""
    unfilled: tuple[str, ...] = ()
    """Columns that came when rows were stored already, which have no value in them until the table is read again."""
    lacks: bool = False
    """A sweep has found keys that are not stored, and whether their rows have come since is not known: the next pass has to sweep."""
    stored: str = ""
    """What the table is called at the destination, so that a change of names can be told. Empty: as older versions kept it."""
    also: str = ""
    """Another identity of the stored table. A table is the same one if it has either: each may be lost where the other one stays."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class State:
    """A saved cursor (or none yet) with what is needed to trust it."""

    cursor: Cursor | None
    epoch: int
    """Raised by taking over; a fenced run has a smaller one."""
    sequence: int
    """Raised by one at every save of a lineage."""
    run_id: str
    current: Pass | None = None
    """The pass that this cursor belongs to."""
    tables: Mapping[str, TableState] = field(default_factory=dict)
    versions_of: str = ""
    """By which source's name the contents of its rows are told apart, if the source was called so before; empty: by its own."""
    note: str = ""
    """Who changed it by hand, and why; empty for the engine's own commits."""
    saved_at: str = ""
    """ISO 8601, UTC. For people; nothing is decided by it."""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    """Fresh for every save, so that a lost reply can be resolved by reading back."""
    forms: Mapping[str, Any] | None = field(default_factory=dict)
    """By table and column, which parts of a value go into the version of a row as before there were forms (``engine/versions.py``);
    ``None``: an older version of the program has saved this, so all of them."""
    token: Token | None = field(default=None, compare=False)
    """Set by the backend that loaded it."""
    untrusted: StateError | None = field(default=None, compare=False)
    """Why what is kept cannot be trusted: it is damaged, foreign or newer. The state then knows nothing else but its token."""

    @property
    def version(self) -> tuple[int, int]:
        """(epoch, sequence): strictly increases in a lineage."""
        return (self.epoch, self.sequence)

    @property
    def is_blank(self) -> bool:
        """Whether it tells of nothing that was delivered: nothing was yet, or it was given up."""
        return self.cursor is None and not self.tables

    def given_up(self, *, run_id: str, epoch: int, note: str, now: datetime | None = None) -> "State":
        """The next state of a lineage that begins again: nothing is known of what was delivered, and no pass goes on."""
        return self.following(
            run_id=run_id,
            epoch=epoch,
            now=now,
            cursor=None,
            current=replace(self.current or Pass(0, full=True), phase=Phase.DONE),
            tables={},
            versions_of="",
            note=note,
        )

    def followed(self, by: StateKey) -> "State":
        """The next state of a lineage that goes on under another name."""
        return self.given_up(run_id=self.run_id, epoch=self.epoch, note=f"goes on as {by}")

    def following(self, *, run_id: str, epoch: int, now: datetime | None = None, **changes: Any) -> "State":
        """The next state of this lineage, with a fresh nonce."""
        saved_at = (now or datetime.now(UTC)).isoformat(timespec="microseconds")
        fresh: dict[str, Any] = {
            "run_id": run_id,
            "epoch": epoch,
            "sequence": self.sequence + 1,
            "saved_at": saved_at,
            "nonce": secrets.token_hex(8),
            "token": None,
            "untrusted": None,
            "note": "",
        }
        return replace(self, **(fresh | changes))


def is_run(task: str) -> bool:
    """Whether a state of this task name keeps the epoch of runs, of all tasks or of a shard, and no cursor of a task."""
    return task.partition(" ")[0] == RUN_TASK


def is_newer(one: State, other: State) -> bool:
    """Whether ``one`` was saved after ``other``, in one lineage."""
    return one.version > other.version


class StateBackend(Protocol):
    """Keeps one state per (source, task, destination). Safe to share between threads and processes.

    Unknown is not empty: what cannot be read, or cannot be trusted, is an error and never "no state".
    """

    def load(self, source: str) -> Mapping[StateKey, State]:
        """Every state of ``source``, each with the token to save over it.

        Called when a run opens a source, and again while it waits for another run, or looks whether it holds its lease.
        A state that cannot be trusted is among them, and says why (``State.untrusted``); only a full refresh or a reset of
        its task may save over it, with its token. Looking changes nothing.

        Raises:
            StateError: nothing can be told of any of them, or of which task a damaged one is.
            UnreachableError: the backend does not answer.
        """

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` durably if the stored token is still ``expected`` (``None``: nothing is stored).

        Only this key is compared, in one step with the save, so that nothing comes between. It is enough to keep a run out
        that was overtaken: the later run *claims* each lineage before it writes rows of it, by saving what it found under its
        own epoch. From then on the token that the earlier run knows is not the stored one any more.

        Called from one thread per task, after the destination has made the rows durable, and from another for signs of
        life; a state may replace any other, forwards only by the engine's choice. A second identical call conflicts.
        A cursor may have mappings with parts (``strandline.parted``). Whoever encodes states by ``strandline.state_format`` need not
        know: ``encode_state`` writes them in one piece. A backend that keeps the parts by themselves makes them durable before the
        state that names them, or with it, and removes none that a version of the history names.

        Keeps the last ``HISTORY_MAX`` commits, or fewer where these are large; of a run's commits of ``@run`` (``is_run``), and of large ones
        of one cursor, only the last: see ``strandline.state_format.history_with``.

        Raises:
            StateConflictError: the stored token is another one, or there is none any more. Nothing was changed; the run
                stops, for it has been fenced out.
            StateError: the backend could not say whether it was saved. The engine reads back before it decides.
        """

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits, the newest (the stored one) first; empty when nothing is stored.

        One that cannot be trusted is among them, and says why, unless nothing can be told of any.

        Raises:
            StateError: nothing can be told of any of them.
            UnreachableError: the backend does not answer.
        """

    def close(self) -> None:
        """Release what is held. A second call does nothing."""


@runtime_checkable
class KeepsState(Protocol):
    """An atomic destination: it keeps states in the same transaction as the rows, and so knows best.

    It needs no claim: as ``Destination.write`` does, ``states.save`` compares the epoch that is stored under ``@run`` of the
    source and destination, too, and refuses any other state of an earlier epoch (``StateConflictError``).
    """

    @property
    def states(self) -> StateBackend:
        """The states kept beside the rows. Closed with the destination."""
