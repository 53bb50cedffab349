"""A probe: one look at whether a place can do what the promises need of it. `strandline doctor` prints them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

__all__ = ["Probe", "Probes", "Verdict", "clock_probe"]

_CLOCKS_APART_S = 5.0


class Verdict(StrEnum):
    """What a probe means for the promises."""

    OK = "ok"
    WARNING = "warning"
    """They hold, but something costs time, or will be a problem."""
    PROBLEM = "problem"
    """A sync would fail, or a promise does not hold."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What was looked at, and what was found."""

    subject: str
    """In a word or two: ``rights``, ``free space``."""
    verdict: Verdict
    found: str
    fix: str = ""
    """What to do about it: a command, a setting, a statement of SQL. Empty where nothing is wrong."""
    table: str = ""
    """The source's table that it is about; it is left out where the spec does not choose that table."""


@runtime_checkable
class Probes(Protocol):
    """A source, destination or state backend that can be probed. Optional: without, only its errors are seen.

    Nothing that lasts is changed: files and tables that a probe makes are gone afterwards.
    """

    def probes(self) -> Iterator[Probe]:
        """Look, one thing after the other. Every wait is bounded; what raises is shown as a problem.

        Raises:
            StrandlineError: it cannot be reached, so that there is nothing more to look at.
        """


def clock_probe(apart_s: float, *, whose: str) -> Probe:
    """How far a clock is from this machine's, which dates every pass; positive: it is ahead."""
    how = "ahead of" if apart_s > 0 else "behind"
    if abs(apart_s) <= _CLOCKS_APART_S:
        return Probe("clock", Verdict.OK, f"{whose} agrees with this machine's within {_CLOCKS_APART_S:.0f} s")
    return Probe(
        "clock",
        Verdict.WARNING,
        f"{whose} is {abs(apart_s):,.0f} s {how} this machine's",
        "set both by NTP: timedatectl set-ntp true",
    )
