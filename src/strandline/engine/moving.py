"""A person moves a cursor, on purpose: back to where it was, or to one that is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from strandline.engine.administer import leased, loaded
from strandline.engine.clock import Clock
from strandline.engine.job import Job
from strandline.engine.ledger import Ledger
from strandline.engine.plan import is_unfinished, refresh_task
from strandline.engine.rewinding import Asked, Move, foreseen
from strandline.errors import StateConflictError, UsageError
from strandline.message import Cursor
from strandline.state import Phase, State, StateKey
from strandline.state_format import check_cursor

__all__ = ["Standing", "move_cursors", "version_at", "version_of"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a lineage stands, for who chooses another cursor of it."""

    key: StateKey
    before: State
    history: Sequence[State]
    """The newest first."""
    asked: Asked


def move_cursors(
    job: Job,
    task: str,
    destinations: Sequence[str],
    wanted: Callable[[Standing], Cursor],
    *,
    may: Callable[[Sequence[Move]], bool],
    note: str,
    now: datetime,
) -> list[Move]:
    """Save another cursor of a task, under a raised epoch and recorded in the history; what was moved.

    Rows, and what is known of them, stay. The next sync begins a pass at the cursor. The destination's own state comes first,
    then the backend's: what a crash leaves between the two, the next run brings together.

    Args:
        job: the source with its destinations and backend.
        task: its id.
        destinations: names; none means all.
        wanted: chooses a cursor.
        may: whether it is to be done, once everything is known.
        note: who did it, and why.
        now: for people.

    Raises:
        UsageError: there is no such state, or a full refresh of it is not finished.
        LockedError: a run holds the lease.
        StateConflictError: a run has saved something meanwhile.
    """
    asked, found = Asked(job), list[tuple[Ledger, Move]]()
    for into, ledger in loaded(job, destinations):
        key = ledger.key(task)
        before = _stored(ledger, key)
        cursor = wanted(Standing(key, before, ledger.history(key), asked))
        check_cursor(key, cursor)
        found.append((ledger, foreseen(asked, into, key, before, cursor)))
    moves = [move for _, move in found]
    if not moves or not may(moves):
        return []
    for ledger, move in found:
        with leased(job, ledger, note, Clock()) as fence:
            before = _stored(ledger, move.key)
            if before.nonce != move.before.nonce:
                raise StateConflictError(
                    f"{move.key}: a run has saved a state meanwhile; nothing was moved",
                    hint="look again, and repeat it",
                )
            done = replace(before.current, phase=Phase.DONE, expired=False) if before.current is not None else None
            following = before.following(
                run_id=note, epoch=fence.epoch, now=now, cursor=move.cursor, current=done, note=note
            )
            ledger.save(move.key, following)
    return moves


def _stored(ledger: Ledger, key: StateKey) -> State:
    state = ledger.stored(key)
    if state is None:
        raise UsageError(f"{key}: there is no state", hint="`strandline state list` shows them all")
    if state.untrusted is not None:
        raise state.untrusted
    if is_unfinished(ledger.stored(ledger.key(refresh_task(key.task)))):
        raise UsageError(
            f"{key}: a full refresh of it is not finished",
            hint=f"strandline sync finishes it; strandline state reset {key.source!r} {key.task!r} drops it",
        )
    return state


def version_of(version: str, history: Sequence[State]) -> Cursor:
    """The cursor of a version (``3000.41``) in the history.

    Raises:
        UsageError: it is not there; or it is no place to begin a pass.
    """
    for state in history:
        if f"{state.epoch}.{state.sequence}" == version:
            return _checked(state)
    known = ", ".join(f"{one.epoch}.{one.sequence}" for one in history if _is_place(one))
    raise UsageError(f"the history has no version {version}", hint=f"it has {known or 'none that can be gone back to'}")


def version_at(time: datetime, history: Sequence[State]) -> Cursor:
    """The cursor as it was at a time.

    Raises:
        UsageError: the history does not reach back so far.
    """
    for state in history:
        if state.saved_at and datetime.fromisoformat(state.saved_at) <= time and _is_place(state):
            return _checked(state)
    raise UsageError(
        f"the history does not reach back to {time:%Y-%m-%d %H:%M:%S %Z}",
        hint="`strandline state history` shows how far it does",
    )


def _is_place(state: State) -> bool:
    """Whether a pass may begin there: within a pass, a cursor may mean something to that pass only."""
    return state.cursor is not None and state.current is not None and state.current.phase is Phase.DONE


def _checked(state: State) -> Cursor:
    if state.cursor is None or not _is_place(state):
        raise UsageError(
            f"version {state.epoch}.{state.sequence} is from the middle of a pass, or has no cursor",
            hint="choose one whose pass was done, as `strandline state history` shows",
        )
    return state.cursor
