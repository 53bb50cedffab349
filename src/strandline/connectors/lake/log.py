"""The log of a lake, as values: entries, what they add up to, and how they are written. Pure.

An entry is a JSON object: what one commit changed, with a checksum of all but the texts of states, which have checksums of their
own; so a state that is damaged spoils nothing but its lineage. A snapshot is an entry that makes everything out of nothing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from strandline.errors import StateError
from strandline.ownership import Owner
from strandline.state import StateKey, Token
from strandline.state_format import history_with

__all__ = ["Commit", "Delivered", "Entry", "Intent", "Log", "Record", "decode_entry", "encode_entry"]

_FORMAT = 1
_IDS_MAX = 256
_REPAIR = (
    "restore the directory `_strandline` from a backup; or move all of the lake away, reset the states, and sync again"
)


@dataclass(frozen=True, slots=True)
class Intent:
    """What a commit changes in one table. It is decided; the table's own log is made to say so afterwards."""

    number: int
    """Of the entry; what the table's own log has of us once it says so."""
    id: str
    """Of the table, in its own log."""
    adds: Sequence[Mapping[str, Any]] = ()
    """Files with rows that are new, as the format describes them (``LakeTable.added``)."""
    rewrites: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By a file that is removed: the files with the rows of it that stay."""
    gone: str = ""
    """A file with the keys of all stored rows that go, by which they are found again where somebody has moved them meanwhile."""
    scopes: Sequence[tuple[str, str | None]] = ()
    """Sources and partitions of which all stored rows go."""
    columns: Sequence[Mapping[str, Any]] = ()
    """As the format describes them, where they change."""
    partition_by: Sequence[str] = ()
    creates: bool = False
    """All of what was there before goes, columns included."""


@dataclass(frozen=True, slots=True)
class Record:
    """A stored table."""

    schema: str
    """Arrow's own serialisation, in base 64."""
    primary_key: tuple[str, ...]
    partition_by: tuple[str, ...]
    mark: str
    owners: tuple[Owner, ...]
    intent: Intent
    """The last one."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One save of a lineage."""

    token: Token
    text: str
    """The encoded state; damaged it spoils nothing here."""


Delivered: TypeAlias = Mapping[tuple[StateKey, str], tuple[str, ...]]
"""By lineage and table: the files of a delivered set, the oldest first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one commit changed."""

    tables: Mapping[str, Record | None] = field(default_factory=dict)
    """``None``: dropped."""
    delivered: Delivered = field(default_factory=dict)
    """No files: forgotten."""
    states: Sequence[tuple[StateKey, Commit]] = ()
    """The oldest first."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Tables that are no more and may still lie there: their ids, by name. Empty: nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Log:
    """All that is known after an entry."""

    number: int = 0
    ids: tuple[str, ...] = ()
    """Of the last entries."""
    tables: Mapping[str, Record] = field(default_factory=dict)
    delivered: Delivered = field(default_factory=dict)
    states: Mapping[StateKey, tuple[Commit, ...]] = field(default_factory=dict)
    """The newest first."""
    dropped: Mapping[str, str] = field(default_factory=dict)

    def after(self, entry: Entry, *, number: int, ids: Sequence[str]) -> "Log":
        """With one more entry."""
        tables = {**self.tables, **entry.tables}
        delivered, dropped = {**self.delivered, **entry.delivered}, {**self.dropped, **entry.dropped}
        states = dict(self.states)
        for key, commit in entry.states:
            states[key] = history_with(key, commit, states.get(key, ()), lambda one: one.text)
        return Log(
            number,
            (*self.ids, *ids)[-_IDS_MAX:],
            {name: record for name, record in tables.items() if record is not None},
            {place: files for place, files in delivered.items() if files},
            states,
            {name: identity for name, identity in dropped.items() if identity},
        )

    def snapshot(self) -> Entry:
        """Everything, as one entry."""
        states = [(key, commit) for key, commits in self.states.items() for commit in reversed(commits)]
        return Entry(self.tables, self.delivered, states, self.dropped)

    def without_delivered(self, table: str) -> dict[tuple[StateKey, str], tuple[str, ...]]:
        """What forgets all delivered sets of a table: what is no longer stored must be delivered again."""
        return {place: () for place in self.delivered if place[1] == table}


def encode_entry(entry: Entry, *, number: int, ids: Sequence[str]) -> bytes:
    """The content of its file. ``ids``: its own; of a snapshot, those of the last entries."""
    head: dict[str, Any] = {
        "format": _FORMAT,
        "number": number,
        "ids": list(ids),
        "tables": {name: record and asdict(record) for name, record in entry.tables.items()},
        "delivered": [[*_parts(key), table, list(files)] for (key, table), files in entry.delivered.items()],
        "states": [[*_parts(key), commit.token] for key, commit in entry.states],
        "dropped": dict(entry.dropped),
    }
    texts = [commit.text for _, commit in entry.states]
    return json.dumps({"checksum": _checksum(head), "head": head, "texts": texts}).encode()


def decode_entry(content: bytes, *, number: int, where: str) -> tuple[Entry, Sequence[str]]:
    """An entry with its ids.

    Raises:
        StateError: it is damaged, of another number, or written by a newer version.
    """
    try:
        whole = json.loads(content)
        head, texts, checksum = whole["head"], whole["texts"], whole["checksum"]
        form, found = head["format"], head["number"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise StateError(f"{where}: not an entry of a lake's log ({error})", hint=_REPAIR) from error
    if isinstance(form, int) and form > _FORMAT:
        raise StateError(f"{where}: written by a newer Strandline (log format {form})", hint="upgrade Strandline")
    fits = isinstance(texts, list) and [type(text) for text in texts] == [str] * len(head.get("states", ()))
    if form != _FORMAT or found != number or checksum != _checksum(head) or not fits:
        raise StateError(f"{where}: damaged, its checksum does not match", hint=_REPAIR)
    entry = Entry(
        tables={name: record and _record(**record) for name, record in head["tables"].items()},
        delivered={
            (StateKey(source, task, destination), table): tuple(files)
            for source, task, destination, table, files in head["delivered"]
        },
        states=[
            (StateKey(source, task, destination), Commit(token, text))
            for (source, task, destination, token), text in zip(head["states"], texts, strict=True)
        ],
        dropped=head["dropped"],
    )
    return entry, head["ids"]


def _record(
    *,
    primary_key: Sequence[str],
    partition_by: Sequence[str],
    owners: Sequence[Mapping[str, Any]],
    intent: Mapping[str, Any],
    **rest: str,
) -> Record:
    return Record(
        primary_key=tuple(primary_key),
        partition_by=tuple(partition_by),
        owners=tuple(Owner(**owner) for owner in owners),
        intent=Intent(**{**intent, "scopes": [(source, partition) for source, partition in intent["scopes"]]}),
        **rest,
    )


def _parts(key: StateKey) -> tuple[str, str, str]:
    return key.source, key.task, key.destination


def _checksum(head: Mapping[str, Any]) -> str:
    canonical = json.dumps(head, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
