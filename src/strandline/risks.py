"""Ways in which a server can lose a cursor that it has acknowledged. They are refused, unless a spec accepts them by name."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from strandline.errors import UsageError
from strandline.probe import Probe, Verdict

__all__ = ["Risk", "check_risks", "probe_risks"]


@dataclass(frozen=True, slots=True)
class Risk:
    """One of them, as it was found."""

    name: str
    """Under which `accept` of `backend_spec` takes it."""
    found: str
    fix: str

    @property
    def ways_out(self) -> str:
        """What can be done about it."""
        return f"{self.fix}; or `accept: [{self.name}]` in backend_spec"


def check_risks(place: str, risks: Sequence[Risk], accepted: Collection[str]) -> None:
    """Before anything is trusted to a server.

    Raises:
        UsageError: it has a risk that nobody has accepted.
    """
    for risk in risks:
        if risk.name not in accepted:
            raise UsageError(f"{place}: {risk.found}", hint=risk.ways_out)


def probe_risks(risks: Sequence[Risk], accepted: Collection[str]) -> Iterator[Probe]:
    """What `doctor` says of them."""
    for risk in risks:
        verdict = Verdict.WARNING if risk.name in accepted else Verdict.PROBLEM
        yield Probe("durability", verdict, risk.found, risk.ways_out)
    if not risks:
        yield Probe("durability", Verdict.OK, "what was acknowledged survives a crash, and is not dropped")
