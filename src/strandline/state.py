"""Cursors as they are kept: states, their keys and tokens, and the contract of a state backend.

One encoding serves every backend: a JSON object that names its format, its lineage and a checksum of the rest, so that
a torn, flipped, foreign or newer state is recognised wherever it was kept.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from strandline.errors import StateConflictError, StateError, TaskError
from strandline.message import Cursor

__all__ = [
    "FORMAT_VERSION",
    "HISTORY_MAX",
    "RUN_TASK",
    "Anew",
    "KeepsState",
    "Pass",
    "Phase",
    "State",
    "StateBackend",
    "StateKey",
    "TableState",
    "Token",
    "check_epoch",
    "decode_state",
    "encode_state",
    "history_with",
    "is_newer",
    "is_sign_of_life",
    "load_state",
]

T = TypeVar("T")

FORMAT_VERSION = 1
HISTORY_MAX = 20
"""How many commits of a state a backend keeps, the newest included."""
RUN_TASK = "@run"
"""The task name under which a source's fence is kept: one state for each source and destination."""

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


Anew: TypeAlias = Callable[[StateKey], bool]
"""Whether a lineage begins anew, so that a state of it that cannot be trusted may be given up."""


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
    doomed: bool = False
    """A forced migration was about to create the table again. Whether it did, the mark tells."""


@dataclass(frozen=True, slots=True)
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
    note: str = ""
    """Who changed it by hand, and why; empty for the engine's own commits."""
    saved_at: str = ""
    """ISO 8601, UTC. For people; nothing is decided by it."""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    """Fresh for every save, so that a lost reply can be resolved by reading back."""
    token: Token | None = field(default=None, compare=False)
    """Set by the backend that loaded it."""

    @property
    def version(self) -> tuple[int, int]:
        """(epoch, sequence): strictly increases in a lineage."""
        return (self.epoch, self.sequence)

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
            "note": "",
        }
        return replace(self, **(fresh | changes))


def is_newer(one: State, other: State) -> bool:
    """Whether ``one`` was saved after ``other``, in one lineage."""
    return one.version > other.version


def check_epoch(key: StateKey, state: State, holder: State | None) -> None:
    """For ``StateBackend.save``: whether the run that saves ``state`` was taken over.

    Args:
        key: whose state it is.
        state: what is to be saved.
        holder: what is stored under ``@run`` of the same source and destination.

    Raises:
        StateConflictError: by a later one.
    """
    if key.task != RUN_TASK and holder is not None and holder.epoch > state.epoch:
        raise StateConflictError(
            f"{key}: run {holder.run_id} has taken over (epoch {holder.epoch}; this run has {state.epoch}); nothing was "
            "saved",
            hint="let that run end, then start again",
        )


def is_sign_of_life(key: StateKey, before: str, now: str) -> bool:
    """For a history: whether a save of ``@run`` says only that the run goes on; it then replaces the newest commit.

    Args:
        key: whose state it is.
        before: the newest commit, encoded.
        now: what is saved, encoded.
    """
    if key.task != RUN_TASK:
        return False
    try:
        one, other = ((body["epoch"], body["run_id"]) for body in map(json.loads, (before, now)))
    except (ValueError, TypeError, LookupError):  # damaged, and given up
        return False
    return bool(one == other)


def history_with(key: StateKey, newest: T, older: Sequence[T], text: Callable[[T], str]) -> tuple[T, ...]:
    """The commits that a backend keeps of ``key``, the newest first; ``text`` is a commit's encoded state."""
    renews = bool(older) and is_sign_of_life(key, text(older[0]), text(newest))
    return (newest, *older[renews:])[:HISTORY_MAX]


def encode_state(key: StateKey, state: State) -> dict[str, Any]:
    """The JSON object that every backend keeps. Deterministic but for the order of the cursor's own keys.

    Raises:
        TaskError: the cursor would not come back from JSON as it is: a fault of the source.
    """
    if not _is_json(state.cursor):
        raise TaskError(f"{key}: the cursor is not made of JSON values", hint="this is a fault of the source plugin")
    body = {
        "format_version": FORMAT_VERSION,
        "source": key.source,
        "task": key.task,
        "destination": key.destination,
        "epoch": state.epoch,
        "sequence": state.sequence,
        "run_id": state.run_id,
        "nonce": state.nonce,
        "saved_at": state.saved_at,
        "note": state.note,
        "pass": asdict(state.current) if state.current else None,
        "tables": {name: _encode_table(table) for name, table in state.tables.items()},
        "cursor": dict(state.cursor) if state.cursor is not None else None,
    }
    return body | {"checksum": _checksum(body)}


def load_state(
    key: StateKey, body: object, *, where: str, token: Token, epoch: int = 0, anew: Anew | None = None
) -> State:
    """As ``decode_state``, for ``StateBackend.load``.

    Args:
        key: as there.
        body: as there.
        where: as there.
        token: as there; also of a state that is given up.
        epoch: what else is known of the epoch, beside the body.
        anew: of ``load``.

    Raises:
        StateError: it cannot be trusted, and does not begin anew.
    """
    try:
        return decode_state(key, body, where=where, token=token)
    except StateError as error:
        if anew is None or not anew(key):
            raise
        return State(None, epoch, 0, run_id="", note=error.message, token=token)


def decode_state(key: StateKey, body: object, *, where: str, token: Token | None = None) -> State:
    """The state in ``body``, checked.

    Args:
        key: the lineage that was asked for.
        body: what was kept.
        where: names the place in an error: a path, a table.
        token: carried by the state.

    Raises:
        StateError: it is not a state, damaged, of another lineage, or written by a newer version.
    """
    if not isinstance(body, dict) or "format_version" not in body:
        raise StateError(f"{where}: not a Strandline state", hint=_repair(key))
    version = body["format_version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise StateError(f"{where}: format version {version!r} is unknown", hint=_repair(key))
    if version > FORMAT_VERSION:
        raise StateError(
            f"{where}: written by a newer Strandline (state format {version}; this one reads up to {FORMAT_VERSION})",
            hint=f"upgrade Strandline; or {_repair(key)}",
        )
    rest = {name: value for name, value in body.items() if name != "checksum"}
    if not _intact(rest, body.get("checksum")):
        raise StateError(f"{where}: damaged, its checksum does not match", hint=_repair(key))
    found = StateKey(body.get("source", ""), body.get("task", ""), body.get("destination", ""))
    if found != key:
        raise StateError(
            f"{where}: belongs to {found}, not to {key}", hint=f"put it back where it came from; or {_repair(key)}"
        )
    try:
        current = body["pass"]
        return State(
            cursor=body["cursor"],
            epoch=body["epoch"],
            sequence=body["sequence"],
            run_id=body["run_id"],
            nonce=body["nonce"],
            saved_at=body["saved_at"],
            note=body["note"],
            current=current
            and Pass(
                sync_time_us=current["sync_time_us"],
                full=current["full"],
                phase=Phase(current["phase"]),
                completed=tuple(current["completed"]),
            ),
            tables={name: _decode_table(**table) for name, table in body["tables"].items()},
            token=token,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"{where}: a field is missing or wrong ({error!r})", hint=_repair(key)) from error


def _encode_table(table: TableState) -> dict[str, Any]:
    """Without what is seldom there, as before it was kept."""
    return {name: value for name, value in asdict(table).items() if name not in {"selections", "doomed"} or value}


def _decode_table(*, selections: Sequence[str] = (), **rest: Any) -> TableState:
    return TableState(**rest, selections=tuple(selections))


def _is_json(cursor: Cursor | None) -> bool:
    try:
        return bool(json.loads(json.dumps(cursor, allow_nan=False)) == cursor)
    except (TypeError, ValueError):
        return False


def _intact(body: Mapping[str, Any], checksum: object) -> bool:
    try:
        return _checksum(body) == checksum
    except (TypeError, ValueError):  # NaN, or something that JSON cannot hold
        return False


def _checksum(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _repair(key: StateKey) -> str:
    reset = f"strandline state reset {key.source!r} {key.task!r} forgets it"
    if key.task.startswith("@"):
        return reset
    return f"strandline sync --full-refresh {key.task!r} replaces the rows and the state; or {reset}, and the rows stay"


class StateBackend(Protocol):
    """Keeps one state per (source, task, destination). Safe to share between threads and processes.

    Unknown is not empty: what cannot be read, or cannot be trusted, is an error and never "no state".
    """

    def load(self, source: str, *, anew: Anew | None = None) -> Mapping[StateKey, State]:
        """Every state of ``source``, each with the token to save over it.

        Called when a run opens a source, and again while it waits for another run, or looks whether it holds its lease.

        Args:
            source: its name.
            anew: given only where somebody has asked to begin anew (``state reset``, a full refresh). In the place of a
                state that cannot be trusted, and whose key it holds for, comes one that knows nothing: no run, no cursor,
                no pass, the reason as its note, and a token to save over what is there. Looking changes nothing.

        Raises:
            StateError: one of them is unreadable, damaged, foreign or newer.
            UnreachableError: the backend does not answer.
        """

    def save(self, key: StateKey, state: State, *, expected: Token | None) -> Token:
        """Save ``state`` durably if the stored token is still ``expected`` (``None``: nothing is stored).

        Any state but ``@run`` is refused, too, if the epoch stored under ``@run`` of its source and destination is a later
        one than its own: both are compared in one step with the save, so that nothing comes between. A mirror may have an
        earlier epoch there, or none.

        Called from one thread per task, after the destination has made the rows durable, and from another for signs of
        life; a state may replace any other, forwards only by the engine's choice. A second identical call conflicts. Keeps the last
        ``HISTORY_MAX`` commits; of a run's commits of ``@run`` only the last, see ``is_sign_of_life``.

        Raises:
            StateConflictError: the stored token is another one, or there is none any more; or the epoch is over. Nothing
                was changed; the run stops, for it has been fenced out.
            StateError: the backend could not say whether it was saved. The engine reads back before it decides.
        """

    def history(self, key: StateKey) -> Sequence[State]:
        """The last commits, the newest (the stored one) first; empty when nothing is stored."""

    def close(self) -> None:
        """Release what is held. A second call does nothing."""


@runtime_checkable
class KeepsState(Protocol):
    """A transactional destination: it keeps states in the same transaction as the rows, and so knows best."""

    @property
    def states(self) -> StateBackend:
        """The states kept beside the rows. Closed with the destination."""
