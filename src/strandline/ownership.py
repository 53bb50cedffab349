"""Whose table is it: a destination keeps, beside the states, which source writes which table.

::

    ownership = Ownership(Owner("shop", "warehouse"))
    owners = claimed("orders", ownership, owners, exists=True, empty=False, recreates=False)   # or UsageError
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from strandline.errors import StateConflictError, UsageError

__all__ = ["Owner", "Ownership", "check_writer", "claimed", "followed", "refusal", "row_owners"]

_ELSEWHERE = "store it under another name (`name` in table_settings), or in another `schema` of the destination"


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """Who writes a table: a source, into a destination, by their names in the spec."""

    source: str
    destination: str
    shared: bool = False
    """Others may write it too, if they say the same: their keys are disjoint."""

    def is_same(self, other: "Owner") -> bool:
        """Whether they have the same names."""
        return (self.source, self.destination) == (other.source, other.destination)

    def __str__(self) -> str:
        return f"source {self.source!r} into {self.destination!r}"


@dataclass(frozen=True, slots=True)
class Ownership:
    """As whom a table is to be written. See ``refusal``."""

    owner: Owner
    adopt: bool = False
    """Take the table over, whoever made it. Those who do not share it are its owners no longer."""
    sharers: frozenset[Owner] = frozenset()
    """Others that share the table by the word of the same spec, though they may not be registered so yet."""

    def knows(self, other: Owner) -> Owner:
        """Another owner, as the spec has it."""
        return replace(other, shared=other.shared or any(one.is_same(other) for one in self.sharers))


def refusal(
    table: str, ownership: Ownership, owners: Sequence[Owner], *, exists: bool, empty: bool, recreates: bool
) -> UsageError | None:
    """Why a table may not be written; ``None``: it may.

    Nothing is written into a table that was not made for its owner, unless the spec says so.

    Args:
        table: its stored name.
        ownership: as whom it would be written.
        owners: who is registered.
        exists: there is a table of that name.
        empty: it has no rows.
        recreates: it would be created again, and its rows dropped.
    """
    if not exists:
        return None
    owner = ownership.owner
    mine = [one for one in owners if one.is_same(owner)]
    others = [ownership.knows(one) for one in owners if not one.is_same(owner)]
    if recreates and not empty and (others or not mine):
        whose = ", ".join(map(str, others)) or "somebody else"
        return UsageError(
            f"table {table!r} would be created again, empty (migrate_mode: forced), and has rows of {whose}",
            hint=_ELSEWHERE,
        )
    if ownership.adopt:
        return None
    if not others:
        if mine or empty:
            return None
        return UsageError(
            f"table {table!r} is there already, has rows, and was not made by {owner}",
            hint=f"{_ELSEWHERE}; or take it over with `adopt: true`: rows of equal keys are then overwritten",
        )
    # what was shared before there was a register goes on
    if all(one.shared for one in others) and (owner.shared or any(one.shared for one in mine)):
        return None
    return UsageError(
        f"table {table!r} is written by {', '.join(map(str, others))}, and would be by {owner}",
        hint=f"{_ELSEWHERE}; or, if their keys are disjoint, say `shared: true` for the table in both sources (it counts from the next "
        "sync of each)",
    )


def claimed(
    table: str, ownership: Ownership, owners: Sequence[Owner], *, exists: bool, empty: bool, recreates: bool
) -> tuple[Owner, ...]:
    """Who is to be registered, sorted, as the table is migrated. The arguments are those of ``refusal``.

    Raises:
        UsageError: the table may not be written.
    """
    refused = refusal(table, ownership, owners, exists=exists, empty=empty, recreates=recreates)
    if refused is not None:
        raise refused
    owner = ownership.owner
    others = [ownership.knows(one) for one in owners if exists and not one.is_same(owner)]
    if others and any(one.is_same(owner) and one.shared for one in owners):
        owner = replace(owner, shared=True)
    if ownership.adopt:
        others = [one for one in others if one.shared and owner.shared]
    return tuple(sorted([owner, *others]))


def followed(owners: Sequence[Owner], old: Owner, new: Owner) -> tuple[Owner, ...]:
    """Who is to be registered, sorted, where ``new`` was called ``old`` before."""
    both = [one for one in owners if one.is_same(old) or one.is_same(new)]
    return tuple(sorted([*(set(owners) - set(both)), replace(new, shared=any(one.shared for one in both))]))


def check_writer(table: str, writer: Owner, owners: Sequence[Owner]) -> None:
    """Inside the transaction of a window: whether ``table`` is still its writer's. ``owners``: who is registered.

    Raises:
        StateConflictError: another one has taken it over since the run looked.
    """
    if owners and not any(one.is_same(writer) for one in owners):
        raise StateConflictError(
            f"table {table!r} was taken over by {', '.join(map(str, owners))}; nothing of {writer} was written",
            hint=f"let one of them write it: {_ELSEWHERE}",
        )


def row_owners(source: str | None, partition: str | None) -> str:
    """Whose rows they are, by their lineage columns."""
    if source is None:
        return "rows that are not Strandline's"
    return f"rows of source {source!r}" + (f", partition {partition!r}" if partition is not None else "")
