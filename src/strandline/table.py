"""A table: a named set of rows. Arrow is the only type system."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from strandline.errors import TaskError, UsageError
from strandline.lazy import pa

__all__ = [
    "CLIENT_ID",
    "CQ_ID",
    "FULL_READ",
    "SOURCE_NAME",
    "SYNC_TIME",
    "Guarantee",
    "Table",
    "has_order",
    "sync_time_type",
]

SYNC_TIME = "_cq_sync_time"
"""Timestamp of the pass that delivered the row, µs, UTC."""
SOURCE_NAME = "_cq_source_name"
CLIENT_ID = "_cq_client_id"
"""The task's partition; only on tables of partitioned tasks. With the source name, the scope of delete-stale."""
CQ_ID = "_cq_id"
"""UUID of the content of a row without a primary key, and of its number among equal rows."""


def sync_time_type() -> "pa.DataType":
    """The Arrow type of ``_cq_sync_time``."""
    return pa.timestamp("us", tz="UTC")


def has_order(field: "pa.Field") -> bool:
    """Whether the values of a column come in one order in every destination, so that they can tell which row is newer."""
    types, kind = pa.types, field.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_date(kind) or types.is_timestamp(kind):
        return True
    return bool(types.is_string(kind) or types.is_large_string(kind)) and not (field.metadata or {})


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is promised about rows that appear late, and what is not. ``plan`` and the summary print both."""

    name: str
    """The class: ``full read``, ``settled (…)``, ``lag only`` or ``off``."""
    limits: str
    """In plain words, what the promise does not cover."""


FULL_READ = Guarantee("full read", "every row is read at every sync; a row changed while it is read comes next time")


@dataclass(frozen=True, slots=True)
class Table:
    """A named set of rows, as a source offers it or a destination stores it.

    ``Table`` is immutable and picklable. Names are used as they are; a destination quotes them, it never changes them.
    """

    name: str
    schema: "pa.Schema"
    primary_key: tuple[str, ...] = ()
    incremental_key: tuple[str, ...] = ()
    """Columns that order the rows for incremental reading. May be empty on an incremental table (files, xid)."""
    version_order: str = ""
    """Column that orders the versions of a row: in the overwrite modes, of two rows with the same primary key the one with the
    greater value here wins, whichever comes last. Null is less than any value; of equal values the last one wins. Empty: the
    last one always wins."""
    incremental: bool = False
    """Whether a sync fetches only what changed since the last one."""
    parent: str | None = None
    """The table to whose rows this one's belong. Some of its columns refer to the parent's key: see ``Replace``."""
    description: str = ""
    guarantee: Guarantee = FULL_READ
    access: str = ""
    """How the source finds what changed, in plain words: by which index, or by reading how much. `plan` prints it."""
    selection: str = ""
    """What restricts the rows (a filter, a start), canonical. State of another selection is refused: it has holes."""
    rows_about: int | None = field(default=None, compare=False)
    """About how many rows it has, as far as the source knows without looking at them; shown while a sync goes on."""
    refills: bool = True
    """Whether rows that were read before may have values in a column that is new now, so that reading them again fills it."""
    spec_name: str = ""
    """How the spec and the command line may call it, too: ``sales.orders`` for ``sales_orders``. Empty: by its name only."""
    former: "Mapping[str, pa.DataType]" = field(default_factory=dict, compare=False)
    """Columns that older versions of the source offered in another type, with that type; no keys, whose cursors depend on them.

    A destination that stores one so keeps it so until a full refresh, and the source is told to send it so: ``Reading.former``.
    """
    allow_cascade: bool = field(default=False, compare=False)
    """As stored: whether a row may be deleted to which a foreign key of somebody else's refers."""
    latest_view: bool = field(default=False, compare=False)
    """As stored, with versions appended: whether there is a view beside it, ``latest_name``, of the last version of each row. The
    newest is of the newest pass; there, by ``version_order``, or else the incremental key."""
    unreadable: TaskError | UsageError | None = field(default=None, compare=False)
    """Why the source cannot read it now, with a hint. It is then no part of a task.

    A ``TaskError``: a right is missing, a view does not work. Of a table that the spec asks for by name, or that was synced
    before, it is the error; of any other it is a warning, unless ``never_left_out``; so it is of a ``NothingYetError``. A ``UsageError``: its settings do not
    fit. Where it is chosen, the run is refused, with all that is wrong with other tables.
    """
    never_left_out: bool = field(default=False, compare=False)
    """Whether it fails where it is unreadable, though only a glob asks for it: there are rows that belong to the user."""

    def __post_init__(self) -> None:
        names = self.schema.names
        if not self.name:
            raise UsageError("a table needs a name")
        if not names:
            raise UsageError(f"table {self.name!r} has no columns")
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise UsageError(f"table {self.name!r} has column {twice[0]!r} twice", hint="rename one of the two")
        for kind, key in (("primary key", self.primary_key), ("incremental key", self.incremental_key)):
            for column in key:
                if column not in names:
                    raise UsageError(
                        f"table {self.name!r} has no column {column!r}, which its {kind} names",
                        hint=f"its columns are {', '.join(names)}",
                    )
        if keys := {*self.primary_key, *self.incremental_key, self.version_order} & self.former.keys():
            raise UsageError(f"table {self.name!r} has a former type of {', '.join(sorted(keys))}, which is a key")
        if self.version_order and not (
            self.version_order in names and has_order(self.schema.field(self.version_order))
        ):
            raise UsageError(
                f"table {self.name!r} cannot order the versions of its rows by {self.version_order!r}",
                hint="name a column of whole numbers, doubles, dates, timestamps or texts",
            )

    @property
    def latest_name(self) -> str:
        """What a view of the last versions is called."""
        return f"{self.name}_latest"

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns without which its rows could not be told apart, or ordered."""
        order = (self.version_order,) if self.version_order else ()
        return tuple(dict.fromkeys([*self.primary_key, *self.incremental_key, *order]))

    @property
    def basis(self) -> dict[str, str]:
        """What a cursor of this table depends on, by setting, in words; a ``selection`` that is a JSON object, part by part."""
        keys = {"primary_key": self.primary_key, "incremental_key": self.incremental_key}
        said = {
            setting: ", ".join(f"{name} ({self.schema.field(name).type})" for name in key)
            for setting, key in keys.items()
        }
        if self.version_order:
            said["version_order"] = self.version_order
        selected = {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in self.selected.items()
        }
        return said | {"reading": "incremental" if self.incremental else "in full"} | selected

    @property
    def selected(self) -> dict[str, Any]:
        """The ``selection``, part by part."""
        try:
            parts = json.loads(self.selection or "{}")
        except ValueError:
            parts = self.selection
        return parts if isinstance(parts, dict) else {"filter": self.selection}

    @property
    def fingerprint(self) -> str:
        """Of what a cursor of this table depends on: keys with their types, and the selection. Hex, 16 characters."""

        def typed(columns: Sequence[str]) -> list[list[str]]:
            return [[name, str(self.schema.field(name).type)] for name in columns]

        parts: list[Any] = [typed(self.primary_key), typed(self.incremental_key), self.incremental, self.selection]
        if self.version_order:
            parts.append(typed([self.version_order]))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def selection_fingerprint(self) -> str:
        """Of the selection alone. Hex, 16 characters."""
        return hashlib.sha256(self.selection.encode()).hexdigest()[:16]

    def keeping(self, kinds: "Mapping[str, pa.DataType]") -> "Table":
        """The same table with the types in which some columns stay stored: ``Migration.kept``."""
        if not kinds:
            return self
        return replace(self, schema=pa.schema([one.with_type(kinds.get(one.name, one.type)) for one in self.schema]))

    def formerly(self, columns: Collection[str]) -> "Table":
        """The same table with some columns as ``former`` says: ``Reading.former``."""
        return self.keeping({name: self.former[name] for name in columns})

    def kept_in(self, stored: "Table", names: Mapping[str, str]) -> tuple[str, ...]:
        """Its columns that are stored in their ``former`` type, in the stored table under other ``names``."""
        kinds = {one.name: one.type for one in stored.schema}
        return tuple(name for name, kind in self.former.items() if kinds.get(names.get(name, name)) == kind)

    def named(self, name: str) -> "Table":
        """The same table under another name, without a view beside it."""
        return replace(self, name=name, latest_view=False)
