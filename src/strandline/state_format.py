"""How a state is written down: one encoding for every backend.

A JSON object that names its format, its lineage and a checksum of the rest, so that a torn, flipped, foreign or newer state
is recognised wherever it was kept.

A backend that keeps parts (``strandline.parted``, ADR 50) writes ``encode_parted``, and beside it each part under its name, before or
with the state that names it. It removes those that no state of the history names any more. Any other writes ``encode_state``, in
which everything is in one piece.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

from strandline.errors import StateError, TaskError
from strandline.message import Cursor
from strandline.parted import Part, Parted, plain
from strandline.seen import lean, shared
from strandline.state import HISTORY_BYTES_MAX, HISTORY_MAX, Pass, Phase, State, StateKey, TableState, Token, is_run

__all__ = [
    "FORMAT_VERSION",
    "LARGE_BYTES",
    "Encoded",
    "PartOf",
    "check_cursor",
    "decode_state",
    "encode_parted",
    "encode_state",
    "history_with",
    "kept_of",
    "load_state",
    "parts_of",
    "renews",
    "sizes_of",
    "tables_in",
]

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
"""Made once: thousands of states are checked to list them."""
T = TypeVar("T")

FORMAT_VERSION = 2
_WHOLE_VERSION = 1
"""Of a state without parts, which older versions read."""
LARGE_BYTES = HISTORY_BYTES_MAX // HISTORY_MAX
"""A history has room for as many states as it may have if none is larger, encoded."""
_ALWAYS_KEPT = 2
"""The newest, and the one before it, which somebody may want back."""

PartOf: TypeAlias = Callable[[str], Part | None]
"""The part of a name; ``None``: it is not there. Raises ``ValueError`` if it is damaged."""


class Encoded(NamedTuple):
    """A state as it is kept."""

    body: dict[str, Any]
    parts: Mapping[str, Part]
    """By name, those that ``body`` names, which have to be there, too."""


def renews(key: StateKey, before: str, now: str) -> bool:
    """For a history: whether a commit says so little that is new that it takes the place of the newest one.

    A sign of life does: a save of ``@run`` that says only that the run goes on. So does a large state whose cursor is still the
    same, or a sync of a hundred thousand files that finds nothing new would leave megabytes each time.

    Args:
        key: whose state it is.
        before: the newest commit, encoded.
        now: what is saved, encoded.
    """
    if not is_run(key.task) and len(now) <= LARGE_BYTES:
        return False
    try:
        one, other = map(json.loads, (before, now))
        if is_run(key.task):
            return bool((one["epoch"], one["run_id"]) == (other["epoch"], other["run_id"]))
        return one["cursor"] is not None and not one["note"] and _is_still(one, other)
    except (ValueError, TypeError, LookupError, AttributeError):  # damaged, and given up
        return False


def _is_still(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two encoded states cover the same of the same tables."""
    bodies = [
        [body["cursor"], {name: {**table, "rows": 0} for name, table in body["tables"].items()}]
        for body in (one, other)
    ]
    return bodies[0] == bodies[1]


def kept_of(sizes: Iterable[int]) -> int:
    """How many commits of a history are kept, of which these are the encoded sizes in bytes, the newest first."""
    count, others_bytes = 0, 0
    for size in sizes:
        others_bytes += size * (count > 0)
        if count >= HISTORY_MAX or (count >= _ALWAYS_KEPT and others_bytes > HISTORY_BYTES_MAX):
            break
        count += 1
    return count


def sizes_of(texts: Iterable[str]) -> Iterator[int]:
    """For ``kept_of``: of encoded states, the newest first, with the parts that no newer one has."""
    seen = set[str]()
    for text in texts:
        named = parts_of(text)
        yield len(text) + sum(size for name, size in named.items() if name not in seen)
        seen |= named.keys()


def parts_of(text: str) -> dict[str, int]:
    """Which parts an encoded state names, and their sizes in bytes; of one that is damaged, none."""
    if '"parts"' not in text:
        return {}
    try:
        named = json.loads(text).get("parts", {})
        return {name: size for one in named.values() for name, size in one["names"]}
    except (ValueError, TypeError, LookupError, AttributeError):
        return {}


def history_with(key: StateKey, newest: T, older: Sequence[T], text: Callable[[T], str]) -> tuple[T, ...]:
    """The commits that a backend keeps of ``key``, the newest first; ``text`` is a commit's encoded state."""
    again = bool(older) and renews(key, text(older[0]), text(newest))
    commits = (newest, *older[again:])
    return commits[: kept_of(sizes_of(map(text, commits)))]


def encode_state(key: StateKey, state: State) -> dict[str, Any]:
    """The JSON object that a backend keeps, all in one. Deterministic but for the order of the cursor's own keys.

    Raises:
        TaskError: see ``check_cursor``.
    """
    check_cursor(key, state.cursor)
    return _sealed(key, state, plain(state.cursor), {})


def encode_parted(key: StateKey, state: State) -> Encoded:
    """The JSON object that a backend keeps, with the parts that it has to keep beside it.

    Raises:
        TaskError: see ``check_cursor``.
    """
    check_cursor(key, state.cursor)
    cursor, kept, named = dict(state.cursor or {}), dict[str, Part](), dict[str, Any]()
    for field, value in cursor.items():
        if isinstance(value, Parted):
            parts, tail = value.split()
            cursor[field] = dict(tail.values)
            kept |= {part.name: part for part in parts}
            if parts:
                sizes = [[part.name, part.size_bytes] for part in parts]
                named[field] = {"names": sizes, "gone": sorted(tail.gone)}
    return Encoded(_sealed(key, state, None if state.cursor is None else cursor, named), kept)


def _sealed(key: StateKey, state: State, cursor: Mapping[str, Any] | None, parts: Mapping[str, Any]) -> dict[str, Any]:
    body = {
        "format_version": FORMAT_VERSION if parts else _WHOLE_VERSION,
        "source": key.source,
        "task": key.task,
        "destination": key.destination,
        "epoch": state.epoch,
        "sequence": state.sequence,
        "run_id": state.run_id,
        "nonce": state.nonce,
        "saved_at": state.saved_at,
        "note": state.note,
        "pass": _encode_pass(state.current) if state.current else None,
        "tables": {name: _encode_table(table) for name, table in state.tables.items()},
        "cursor": cursor,
    }
    if parts:
        body["parts"] = parts
    if state.versions_of:
        body["versions_of"] = state.versions_of
    if state.forms != _forms_unsaid(body):
        body["forms"] = state.forms
    return body | {"checksum": _checksum(body)}


def _no_part(name: str) -> None:
    """Where none are kept."""
    del name


def load_state(
    key: StateKey, body: object, *, where: Path | str, token: Token, epoch: int = 0, part: PartOf = _no_part
) -> State:
    """As ``decode_state``, for ``StateBackend.load``: what cannot be trusted says so, and is no error.

    Args:
        key: as there.
        body: as there.
        where: as there.
        token: as there; also of a state that cannot be trusted.
        epoch: what else is known of the epoch, beside the body.
        part: as there.
    """
    try:
        return decode_state(key, body, where=where, token=token, part=part)
    except StateError as error:
        return State(None, epoch, 0, run_id="", note=error.message, token=token, untrusted=error)


def tables_in(task: str, text: str) -> set[str]:
    """The tables of a task's encoded state, for whom looks whose a table is; of one that is damaged, or was reset, its name tells."""
    if task.startswith("@"):
        return set()
    try:
        return {task, *json.loads(text)["tables"]}
    except (ValueError, TypeError, KeyError):
        return {task}


def decode_state(
    key: StateKey,
    body: object,
    *,
    where: Path | str,
    token: Token | None = None,
    intact: bool = False,
    part: PartOf = _no_part,
) -> State:
    """The state in ``body``, checked.

    Args:
        key: the lineage that was asked for.
        body: what was kept.
        where: names the place in an error: a path, a table.
        token: carried by the state.
        intact: whether a checksum of something larger that it lies in has been compared already.
        part: what is kept beside it.

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
    if not intact and not _intact(body):
        raise StateError(f"{where}: damaged, its checksum does not match", hint=_repair(key))
    found = StateKey(body.get("source", ""), body.get("task", ""), body.get("destination", ""))
    if found != key:
        raise StateError(
            f"{where}: belongs to {found}, not to {key}", hint=f"put it back where it came from; or {_repair(key)}"
        )
    try:
        state = State(
            cursor=_decode_cursor(key, body, where, part) if "parts" in body else lean(body["cursor"]),
            epoch=body["epoch"],
            sequence=body["sequence"],
            run_id=body["run_id"],
            nonce=body["nonce"],
            saved_at=body["saved_at"],
            note=body["note"],
            current=body["pass"] and _decode_pass(body["pass"]),
            tables={name: _decode_table(**lean(table)) for name, table in body["tables"].items()},
            versions_of=body.get("versions_of", ""),
            forms=body.get("forms", _forms_unsaid(body)),
            token=token,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"{where}: a field is missing or wrong ({error!r})", hint=_repair(key)) from error
    return state if "parts" in body else shared(state)


def _forms_unsaid(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """``State.forms`` where a body does not say: as older versions wrote one. Of no table there is nothing to know."""
    return None if body["tables"] else {}


def _decode_cursor(key: StateKey, body: Mapping[str, Any], where: Path | str, part: PartOf) -> Cursor:
    """A cursor of which something is kept in parts."""
    cursor = dict(body["cursor"])
    for field, named in body["parts"].items():
        parts = list[Part]()
        for name, _ in named["names"]:
            try:
                found = part(name)
            except ValueError as error:
                raise StateError(f"{where}: a part of the state is damaged: {error}", hint=_repair(key)) from error
            if found is None:
                raise StateError(f"{where}: a part of the state is gone ({name[:12]}…)", hint=_repair(key))
            parts.append(found)
        tail = Part(cursor[field], named["gone"])
        cursor[field] = Parted([*parts, tail] if tail else parts)
    return cursor


def _decode_pass(current: Mapping[str, Any]) -> Pass:
    return Pass(
        sync_time_us=current["sync_time_us"],
        full=current["full"],
        phase=Phase(current["phase"]),
        completed=tuple(current["completed"]),
        windows=current.get("windows", 0),
        expired=current.get("expired", False),
        spares=current.get("spares", False),
        stale_us=current.get("stale_us", 0),
    )


def _encode_pass(current: Pass) -> dict[str, Any]:
    """Without what is not there, as before it was kept."""
    seldom = {"windows", "expired", "spares", "stale_us"}
    return {name: value for name, value in asdict(current).items() if name not in seldom or value}


def _encode_table(table: TableState) -> dict[str, Any]:
    """Without what is seldom there, as before it was kept."""
    return {
        name: value
        for name, value in asdict(table).items()
        if name not in {"also", "basis", "selections", "doomed", "lacks", "stored", "unfilled"} or value
    }


def _decode_table(*, selections: Sequence[str] = (), unfilled: Sequence[str] = (), **rest: Any) -> TableState:
    return TableState(**rest, selections=tuple(selections), unfilled=tuple(unfilled))


def check_cursor(key: StateKey, cursor: Cursor | None) -> None:
    """Refuse a cursor of ``key`` that JSON would change: tuples, sets, keys that are no texts, NaN.

    Of one that has parts, each part is looked at once.

    Raises:
        TaskError: it would not come back as it is: a fault of the source.
    """
    try:
        parted = {name: value for name, value in (cursor or {}).items() if isinstance(value, Parted)}
        rest = cursor and {name: value for name, value in cursor.items() if name not in parted}
        same = bool(json.loads(json.dumps(rest, allow_nan=False)) == rest)
        for part in (part for value in parted.values() for part in value.parts):
            _ = part.name
    except (TypeError, ValueError, AttributeError):
        same = False
    if not same:
        raise TaskError(
            f"{key}: the cursor is not made of JSON values, or JSON would change it",
            hint="this is a fault of the source plugin: a cursor holds texts, numbers, booleans, null, lists and mappings of texts",
        )


def _intact(body: Mapping[str, Any]) -> bool:
    rest = {name: value for name, value in body.items() if name != "checksum"}
    try:
        return _checksum(rest) == body.get("checksum")
    except (TypeError, ValueError):  # NaN, or something that JSON cannot hold
        return False


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_CANONICAL.encode(body).encode()).hexdigest()


def _repair(key: StateKey) -> str:
    reset = f"strandline state reset {key.source!r} {key.task!r} discards it"
    if key.task.startswith("@"):
        return reset
    return f"strandline sync --full-refresh {key.task!r} replaces the rows and the state; or {reset}, and the rows stay"
