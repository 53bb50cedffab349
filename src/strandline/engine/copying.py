"""The states of a source, with their history, from one backend into another, or into a file and back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from strandline.engine.lease import Lease
from strandline.errors import LockedError, StateError, UsageError
from strandline.state import State, StateBackend, StateKey, is_run
from strandline.state_format import decode_state, encode_state

__all__ = ["copy_states", "exported", "histories", "imported"]

_FORMAT = "cursors of Strandline"

Histories = Mapping[StateKey, Sequence[State]]
"""The commits of each lineage, the newest first; those of ``@run`` and of shards, which have the epochs, among them."""


def histories(source: str, backend: StateBackend, now: datetime) -> Histories:
    """Everything that a backend has of a source, but former commits that cannot be trusted.

    Raises:
        LockedError: a run goes on, so that what is copied would be old at once.
        StateError: a state cannot be trusted.
    """
    states = backend.load(source)
    for key, state in states.items():
        if state.untrusted is not None:
            raise state.untrusted
        lease = Lease.of(state) if is_run(key.task) else None
        if lease is not None and lease.is_live(now):
            raise LockedError(f"{key}: run {lease.run_id} goes on", hint="let it end, then copy")
    return {key: [one for one in backend.history(key) if one.untrusted is None] for key in sorted(states)}


def copy_states(found: Histories, backend: StateBackend) -> Iterator[tuple[StateKey, int]]:
    """Save them in another backend, the oldest first; how many of each were new there. Goes on where a copy was interrupted.

    Raises:
        UsageError: the backend has other states of a lineage. Nothing of any was saved.
    """
    begun: dict[StateKey, tuple[str | None, int]] = {}
    there = {key: state for source in {key.source for key in found} for key, state in backend.load(source).items()}
    for key, states in found.items():
        newest = there.get(key)
        places = [number for number, one in enumerate(states) if newest is not None and one.nonce == newest.nonce]
        if newest is not None and not places:
            raise UsageError(
                f"{key}: there is another state already", hint="copy into a backend that has no states of this source"
            )
        begun[key] = (newest.token, places[0]) if newest is not None else (None, len(states))
    for key, states in found.items():
        token, count = begun[key]
        for state in reversed(states[:count]):
            token = backend.save(key, state, expected=token)
        yield key, count


def exported(found: Histories) -> dict[str, Any]:
    """As JSON, each state as every backend keeps it, with its checksum."""
    return {
        "format": _FORMAT,
        "version": 1,
        "states": [[encode_state(key, state) for state in states] for key, states in found.items()],
    }


def imported(body: Any, where: str) -> Histories:
    """What ``exported`` has made.

    Raises:
        StateError: it is something else, or damaged.
    """
    try:
        if (body["format"], body["version"]) != (_FORMAT, 1):
            raise StateError(f"{where}: not written by this version's `state export`")
        return dict(_lineage(bodies, where) for bodies in body["states"])
    except (KeyError, TypeError, IndexError) as error:
        raise StateError(f"{where}: not written by `state export` ({error!r})") from error


def _lineage(bodies: Iterable[Any], where: str) -> tuple[StateKey, Sequence[State]]:
    bodies = list(bodies)
    key = StateKey(*(bodies[0][name] for name in ("source", "task", "destination")))
    return key, [decode_state(key, body, where=where) for body in bodies]
