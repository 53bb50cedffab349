"""How a source proposes that its tables are read, for `strandline init`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

__all__ = ["Proposal", "Proposals", "Proposes", "Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of one table, and why it is proposed."""

    name: str
    value: Any
    why: str = ""
    overwrites_only: bool = False
    """It means nothing where rows are only appended, and is left out there."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """How one table is read best, as far as the database shows it."""

    table: str
    """Its name at the destination."""
    name: str
    """Its name in the source's spec."""
    rows: str
    """How many it has, for people: ``1,204``, ``about 2,000,000``; empty where that is not known."""
    guarantee: str
    """The class of what is promised about rows that appear late."""
    settings: tuple[Setting, ...] = ()
    """Empty: the defaults suit it."""
    options: tuple[Setting, ...] = ()
    """Settings that may suit it better, which the source does not show: written as comments, ready to be used."""
    notes: tuple[str, ...] = ()
    """What else could be chosen, and what that costs."""

    @property
    def key(self) -> str:
        """The incremental key that is proposed, if one is."""
        return next((str(one.value) for one in self.settings if one.name == "incremental_key"), "")


@dataclass(frozen=True, slots=True)
class Proposals:
    """For a whole source."""

    tables: tuple[Proposal, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the source itself."""
    notes: tuple[str, ...] = ()
    only_these: bool = False
    """The source has no table but for those that are proposed, with their settings."""


@runtime_checkable
class Proposes(Protocol):
    """A source that knows more of its tables than ``tables`` says. Optional."""

    def proposals(self) -> Proposals:
        """Look at every table. A key is proposed only where nothing speaks against it: one that misses changes loses them."""
