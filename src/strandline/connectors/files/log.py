"""The commit log of a directory of files, as values: entries, what they add up to, and how they are written. Pure.

An entry is a text of lines. The first is a JSON object: what the commit changed, the checksum of the entry before, and a
checksum of its own. Each other line is a state as ``strandline.state`` encodes it, with a checksum of its own, so that a
state that is damaged spoils nothing but its lineage. A snapshot is an entry that makes everything out of nothing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from strandline.errors import StateError
from strandline.ownership import Owner
from strandline.state import StateKey, Token
from strandline.state_format import history_with

__all__ = ["Commit", "Delivered", "Entry", "Log", "Record", "decode_entry", "encode_entry", "next_of"]

_FORMAT = 2
"""1: without owners."""
_REPAIR = "restore the directory from a backup; or move all of it away, reset the states, and sync again"


@dataclass(frozen=True, slots=True)
class Record:
    """A stored table."""

    schema: str
    """Arrow's own serialisation, in base 64."""
    primary_key: tuple[str, ...]
    partition_by: tuple[str, ...]
    format: str
    mark: str
    owners: tuple[Owner, ...] = ()
    """Who writes it, sorted. None: a version that knew no owners has made it, and the states tell."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One save of a lineage."""

    token: Token
    text: str
    """The encoded state; damaged it spoils nothing here."""


Delivered: TypeAlias = Mapping[tuple[StateKey, str], tuple[str, ...]]
"""By lineage and table: the files of a delivered set, relative to the root, the oldest first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one commit changed."""

    tables: Mapping[str, Record | None] = field(default_factory=dict)
    """``None``: dropped."""
    delivered: Delivered = field(default_factory=dict)
    """No files: forgotten."""
    moves: Sequence[tuple[str, str]] = ()
    """Files that are to be renamed into sight: from, to; relative to the root."""
    removes: Sequence[str] = ()
    """Files that are to be removed."""
    states: Sequence[tuple[StateKey, Commit]] = ()
    """The oldest first."""


@dataclass(frozen=True, slots=True)
class Log:
    """All that is known after an entry."""

    number: int = 0
    checksum: str = ""
    """Of the newest entry's first line."""
    tables: Mapping[str, Record] = field(default_factory=dict)
    delivered: Delivered = field(default_factory=dict)
    states: Mapping[StateKey, tuple[Commit, ...]] = field(default_factory=dict)
    """The newest first."""
    moves: Sequence[tuple[str, str]] = ()
    """Of the newest entry: those of all others are done."""
    removes: Sequence[str] = ()

    def after(self, entry: Entry, *, number: int, checksum: str) -> "Log":
        """With one more entry."""
        tables, delivered, states = dict(self.tables), dict(self.delivered), dict(self.states)
        for name, record in entry.tables.items():
            if record is None:
                tables.pop(name, None)
            else:
                tables[name] = record
        for place, files in entry.delivered.items():
            delivered.pop(place, None)
            if files:
                delivered[place] = files
        for key, commit in entry.states:
            states[key] = history_with(key, commit, states.get(key, ()), lambda one: one.text)
        return Log(number, checksum, tables, delivered, states, entry.moves, entry.removes)

    def snapshot(self) -> Entry:
        """Everything, as one entry."""
        states = [(key, commit) for key, commits in self.states.items() for commit in reversed(commits)]
        return Entry(self.tables, self.delivered, self.moves, self.removes, states)

    def without_delivered(self, table: str) -> dict[tuple[StateKey, str], tuple[str, ...]]:
        """What forgets all delivered sets of a table: what is no longer stored must be delivered again."""
        return {place: () for place in self.delivered if place[1] == table}


def encode_entry(entry: Entry, *, number: int, previous: str) -> tuple[bytes, str]:
    """The content of its file, and its checksum.

    Args:
        entry: what is to be kept.
        number: its number.
        previous: the checksum of the entry before; of a snapshot: of the entry that it includes.
    """
    head: dict[str, Any] = {
        "format": _FORMAT,
        "number": number,
        "previous": previous,
        "tables": {name: record and _plain(record) for name, record in entry.tables.items()},
        "delivered": [[*_parts(key), table, list(files)] for (key, table), files in entry.delivered.items()],
        "moves": [list(move) for move in entry.moves],
        "removes": list(entry.removes),
        "states": [[*_parts(key), commit.token] for key, commit in entry.states],
    }
    checksum = _checksum(head)
    lines = [json.dumps(head | {"checksum": checksum}), *(commit.text for _, commit in entry.states)]
    return ("\n".join(lines) + "\n").encode(), checksum


def decode_entry(content: bytes, *, number: int, where: str) -> tuple[Entry, str, str]:
    """An entry with the checksum of the one before, and its own.

    Raises:
        StateError: it is damaged, of another number, or written by a newer version.
    """
    first, *texts = content.decode("utf-8", "replace").split("\n")
    try:
        head = json.loads(first)
        checksum = head.pop("checksum")
        form, found = head["format"], head["number"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StateError(f"{where}: not an entry of a commit log ({error})", hint=_REPAIR) from error
    if isinstance(form, int) and form > _FORMAT:
        raise StateError(f"{where}: written by a newer Strandline (log format {form})", hint="upgrade Strandline")
    if form not in range(1, _FORMAT + 1) or found != number or checksum != _checksum(head):
        raise StateError(f"{where}: damaged, its checksum does not match", hint=_REPAIR)
    texts += [""] * len(head["states"])  # a state that was cut off is a state that is damaged
    entry = Entry(
        tables={name: record and _record(**record) for name, record in head["tables"].items()},
        delivered={
            (StateKey(source, task, destination), table): tuple(files)
            for source, task, destination, table, files in head["delivered"]
        },
        moves=tuple((old, new) for old, new in head["moves"]),
        removes=tuple(head["removes"]),
        states=tuple(
            (StateKey(source, task, destination), Commit(token, text))
            for (source, task, destination, token), text in zip(head["states"], texts, strict=False)
        ),
    )
    return entry, head["previous"], checksum


def next_of(log: Log, content: bytes, *, number: int, where: str) -> Log:
    """The log with the entry of the next file.

    Raises:
        StateError: it does not follow.
    """
    entry, previous, checksum = decode_entry(content, number=number, where=where)
    if (log.number, log.checksum) != (number - 1, previous):
        raise StateError(
            f"{where}: does not follow on the entry before it; one of them is of another log", hint=_REPAIR
        )
    return log.after(entry, number=number, checksum=checksum)


def _parts(key: StateKey) -> tuple[str, str, str]:
    return key.source, key.task, key.destination


def _plain(record: Record) -> dict[str, Any]:
    return {
        "schema": record.schema,
        "primary_key": list(record.primary_key),
        "partition_by": list(record.partition_by),
        "format": record.format,
        "mark": record.mark,
        "owners": [[owner.source, owner.destination, owner.shared] for owner in record.owners],
    }


def _record(
    *, primary_key: Sequence[str], partition_by: Sequence[str], owners: Sequence[Sequence[Any]] = (), **rest: str
) -> Record:
    named = tuple(Owner(*owner) for owner in owners)
    return Record(primary_key=tuple(primary_key), partition_by=tuple(partition_by), owners=named, **rest)


def _checksum(head: Mapping[str, Any]) -> str:
    canonical = json.dumps(head, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
