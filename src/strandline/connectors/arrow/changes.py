"""What makes a stored table fit a wanted one, by their Arrow schemas: for stores that keep values as they arrived."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from strandline.connectors.arrow.widening import EXACT_MAX, grows, is_plain
from strandline.destination import CHANGE_COLUMN, CHANGE_KEY, RECREATE, Change, MigrateMode, Scope
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.table import Table

if TYPE_CHECKING:  # a store of SQL needs nothing of it but its name
    from strandline.fold import Rows

__all__ = [
    "Looks",
    "changes_of",
    "changes_to",
    "changes_with",
    "compared",
    "in_words",
    "kept_of",
    "left_as_stored",
    "merged",
    "refused_change",
]

_EXACT_BITS = 32
"""Whole numbers of so many bits are doubles."""


def kept_of(stored: Table | None, table: Table) -> "dict[str, pa.DataType]":
    """See ``Migration.kept``."""
    if stored is None:
        return {}
    before = {one.name: one.type for one in stored.schema if one.name not in table.primary_key}
    return {
        one.name: kind
        for one in table.schema
        if (kind := before.get(one.name)) is not None
        and kind != one.type
        and (kind == table.former.get(one.name) or (pa.types.is_string(kind) and is_plain(one.type)))
    }


def changes_of(
    stored: "Rows | None", table: Table, mode: MigrateMode, replaces: Scope | None = None, others: Sequence[str] = ()
) -> "tuple[list[Change], dict[str, pa.DataType], tuple[str, ...]]":
    """``changes_with`` the rows of ``strandline.fold``."""

    def are_doubles(column: str) -> bool:
        values = stored.values(column) if stored is not None else ()
        return all(value is None or abs(value) <= EXACT_MAX for value in values)

    def strangers(scope: Scope) -> Iterable[str]:
        return stored.strangers(scope) if stored is not None else ()

    looks = Looks(are_doubles, strangers)
    return changes_with(stored.table if stored is not None else None, table, mode, replaces, others, looks)


@dataclass(frozen=True, slots=True)
class Looks:
    """What has to be known of rows that are stored."""

    are_doubles: Callable[[str], bool]
    """Whether all whole numbers of a column are doubles, too."""
    strangers: Callable[[Scope], Iterable[str]]
    """Whose rows are not of a scope, in words."""


def changes_with(
    stored: Table | None, table: Table, mode: MigrateMode, replaces: Scope | None, others: Sequence[str], looks: Looks
) -> "tuple[list[Change], dict[str, pa.DataType], tuple[str, ...]]":
    """``changes_to`` what is stored, with ``Migration.kept`` and ``users``; see ``Destination.migrate``.

    Args:
        stored: the table, if there is one.
        table: as it is wanted.
        mode: what may be done.
        replaces: whose rows a full refresh replaces.
        others: who else writes the table, in words.
        looks: asked where it is needed.

    Raises:
        TaskError: as ``changes_to``.
        UsageError: others use what a full refresh would change.
    """
    if stored is None:
        return changes_to(None, table, mode), {}, ()
    kept = kept_of(stored, table)
    if replaces is None:
        return changes_to(stored, table.keeping(kept), mode, are_doubles=looks.are_doubles), kept, ()
    users = tuple(sorted({*others, *looks.strangers(replaces)}))
    kept = kept if users else {}
    fitting, misfits = compared(stored, table.keeping(kept), looks.are_doubles)
    if misfits and users:
        raise refused_change(table.name, misfits, users)
    return [*misfits, *fitting], kept, users if kept else ()


def changes_to(
    stored: Table | None,
    table: Table,
    mode: MigrateMode,
    *,
    are_doubles: Callable[[str], bool] = lambda _column: True,
    hint: str = "--full-refresh changes it with its rows; migrate_mode: forced creates it again, empty",
) -> list[Change]:
    """What makes the stored table fit ``table``; ``are_doubles`` looks whether all whole numbers of a column are doubles.

    Raises:
        TaskError: only creating it again would, and ``mode`` is safe.
    """
    if stored is None:
        return [Change("create", table.name)]
    changes, misfits = compared(stored, table, are_doubles)
    if not misfits:
        return changes
    problems = "; ".join(map(in_words, misfits))
    if mode is MigrateMode.SAFE:
        raise TaskError(f"table {table.name!r} cannot be changed in place: {problems}", hint=hint)
    return [Change(RECREATE, table.name, detail=problems)]


def compared(stored: Table, table: Table, are_doubles: Callable[[str], bool]) -> tuple[list[Change], list[Change]]:
    """What can be changed with the rows that are stored, and what only with others."""
    changes, misfits = [], []
    if stored.primary_key != table.primary_key:
        misfits.append(Change(CHANGE_KEY, table.name, detail=f"{stored.primary_key} to {table.primary_key}"))
    for column in table.schema:
        index = stored.schema.get_field_index(column.name)
        before = None if index < 0 else stored.schema.field(index).type
        if before is None:
            changes.append(Change("add_column", table.name, column.name, str(column.type)))
        elif before != column.type and _holds(column.type, before, partial(are_doubles, column.name)):
            changes.append(Change("widen_column", table.name, column.name, f"{before} -> {column.type}"))
        elif before != column.type:
            misfits.append(Change(CHANGE_COLUMN, table.name, column.name, f"{before} to {column.type}"))
    return changes, misfits


def left_as_stored(stored: Table, table: Table, changes: Sequence[Change]) -> Table:
    """The stored table once ``changes`` are made, but for those that are left to the ``Swap`` of a full refresh."""
    left = {change.column for change in changes if change.kind == CHANGE_COLUMN}
    fields = [stored.schema.field(one.name) if one.name in left else one for one in table.schema]
    key = stored.primary_key if any(change.kind == CHANGE_KEY for change in changes) else table.primary_key
    return replace(table, schema=merged(stored.schema, pa.schema(fields)), primary_key=key)


def _holds(wide: "pa.DataType", narrow: "pa.DataType", are_doubles: Callable[[], bool]) -> bool:
    """Whether ``wide`` has a place for every stored value of ``narrow``."""
    is_ = pa.types
    if is_.is_integer(narrow) and is_.is_integer(wide):
        bits = wide.bit_width - is_.is_signed_integer(wide), narrow.bit_width - is_.is_signed_integer(narrow)
        return bool(bits[0] >= bits[1]) and (is_.is_signed_integer(wide) or is_.is_unsigned_integer(narrow))
    if is_.is_integer(narrow) and is_.is_float64(wide):
        return bool(narrow.bit_width <= _EXACT_BITS) or are_doubles()
    days, texts, bytes_ = is_.is_date(narrow), is_.is_string(narrow), is_.is_binary(narrow)
    return bool(
        (is_.is_float32(narrow) and is_.is_float64(wide))
        or (days and is_.is_timestamp(wide) and wide.tz is None)
        or (texts and is_.is_large_string(wide))
        or (bytes_ and is_.is_large_binary(wide))
        or (not wide.equals(narrow) and grows(narrow, wide))
    )


def merged(stored: "pa.Schema", wanted: "pa.Schema") -> "pa.Schema":
    """The wanted columns, and the ones that stay though nothing writes them any more."""
    return pa.schema([*wanted, *(one for one in stored if one.name not in wanted.names)])


def in_words(change: Change) -> str:
    """What becomes of a column, or of the key."""
    what = f"column {change.column!r}" if change.kind == CHANGE_COLUMN else "its primary key"
    return f"{what} from {change.detail}"


def refused_change(table: str, changes: Sequence[Change], users: Sequence[str]) -> UsageError:
    """A full refresh would change what others use."""
    return UsageError(
        f"table {table!r}: a full refresh would change it ({'; '.join(map(in_words, changes))}), and it is used by {', '.join(users)}; nothing "
        "was touched",
        hint="remove what uses it, and make it again afterwards; where those are rows of others, store this table under another "
        "name (`name` in table_settings), or remove their rows too",
    )
