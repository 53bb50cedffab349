"""All kinds of faults, and where each of them is possible."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from campaign import outages, power
from campaign.keepers import KEEPERS
from campaign.origins import ORIGINS
from campaign.stores import STORES
from campaign.worlds import Cell
from strandline.testing.campaign import calls, disks, pauses, rejects, syscalls, tracing, workers

MODES = ("append", "overwrite", "overwrite-delete-stale")
CELLS = [Cell(*one) for one in product(ORIGINS, STORES, MODES)]
BACKED = [
    Cell("sqlite", store, mode, backend)
    for backend in KEEPERS
    for store, mode in (
        *((store, "append") for store in ("duckdb", "postgresql", "files", "plain")),
        ("plain", "overwrite"),
    )
    if backend != "local"
]
"""The other state backends; `local` is that of all other cells."""
CELLS += BACKED
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


def _on_disk(cell):
    if cell.backend == "objects":
        return "its driver wakes its threads by writes, which strace cannot tell from those of files"
    has_files = KEEPERS[cell.backend].places or STORES[cell.destination].places
    return _traced(cell) if has_files else "–"


def _served(cell):
    return "" if outages.servers(cell) else "–"


def _committed(cell):
    return "" if cell.destination == "postgresql" else "–"


def _crewed(cell):
    return "–" if STORES[cell.destination].one_process else ""


def _paused(bench, cell):
    """Where the destination keeps no states, between a write and the save of its state."""
    yield from pauses.strike(bench, cell, loose=cell.destination in {"plain", "idempotent"})


def _spoiled(cell):
    return "–" if cell.source == "test" else ""


KINDS = {
    "call": Kind(calls.strike, "SIGKILL at every call that the engine makes to a source, destination or state backend"),
    "syscall": Kind(syscalls.strike, "SIGKILL at system calls that write, sync, rename, send or receive", _traced),
    "disk": Kind(disks.strike, "ENOSPC, or EIO of an fsync, at the destination's file or that of the states", _on_disk),
    "full": Kind(disks.fill, "no space left for anything, until some is made", lambda _cell: disks.refused()),
    "server": Kind(
        outages.stop_server,
        "a server stopped immediately in the middle of a sync, and started: PostgreSQL, the API, or what keeps the states",
        _served,
    ),
    "network": Kind(outages.cut_connection, "a COMMIT to PostgreSQL lost, or the reply to it", _committed),
    "reject": Kind(rejects.strike, "a row that cannot be read, or is not taken: exit 1; then it is fixed", _spoiled),
    "pause": Kind(_paused, "a run suspended and overtaken by another one (`--takeover`), then going on"),
    "worker": Kind(
        workers.strike,
        "tasks done by workers, of which one is killed, or taken for lost and goes on at once or later; or the run is killed",
        _crewed,
    ),
    "power": Power(power.strike, "the power cut while states are saved: an image of the disk, copied", power.refused),
}
