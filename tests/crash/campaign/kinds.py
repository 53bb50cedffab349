"""All kinds of faults, and where each of them is possible."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from campaign import outages, power
from campaign.origins import ORIGINS
from campaign.stores import STORES
from campaign.worlds import Cell
from strandline.testing.campaign import calls, disks, pauses, rejects, syscalls, tracing

MODES = ("append", "overwrite", "overwrite-delete-stale")
CELLS = [Cell(*one) for one in product(ORIGINS, STORES, MODES)]
POWER = ("ext4", "xfs")


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    strike: Callable[[Any, Any], Any]
    about: str
    """What it does, for the report."""
    refused: Callable[[Any], str] = lambda _: ""
    """Why it is not tried, of a cell or on this machine; nothing where it is. A dash where it has no meaning."""

    def places(self, cells):
        """What it is tried on, with the reason where it is not."""
        return [(cell, cell.impossible or self.refused(cell)) for cell in cells]


class Power(Kind):
    """Of file systems, and not of cells."""

    def places(self, cells):
        del cells
        return [(one, self.refused(one)) for one in POWER]


def _traced(_cell):
    return "" if tracing.AVAILABLE else "strace is not installed"


def _served(cell):
    return "" if outages.roles(cell) else "–"


def _committed(cell):
    return "" if cell.destination == "postgresql" else "–"


def _fenced(cell):
    if cell.destination == "idempotent":
        return "a run that is suspended keeps the lock of its directory, for which the next one waits"
    return "a run that was overtaken is kept out by nobody" if cell.destination == "plain" else ""


def _spoiled(cell):
    return "–" if cell.source == "test" else ""


KINDS = {
    "call": Kind(calls.strike, "SIGKILL at every call that the engine makes to a source, destination or state backend"),
    "syscall": Kind(syscalls.strike, "SIGKILL at system calls that write, sync, rename, send or receive", _traced),
    "disk": Kind(disks.strike, "ENOSPC, or EIO of an fsync, at the destination's file or the state directory", _traced),
    "full": Kind(disks.fill, "no space left for anything, until some is made", lambda _cell: disks.refused()),
    "server": Kind(outages.stop_server, "PostgreSQL stopped immediately in the middle of a sync, and started", _served),
    "network": Kind(outages.cut_connection, "a COMMIT to PostgreSQL lost, or the reply to it", _committed),
    "reject": Kind(rejects.strike, "a row that cannot be read, or is not taken: exit 1; then it is fixed", _spoiled),
    "pause": Kind(pauses.strike, "a run suspended and overtaken by another one (`--takeover`), then going on", _fenced),
    "power": Power(power.strike, "the power cut while states are saved: an image of the disk, copied", power.refused),
}
