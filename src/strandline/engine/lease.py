"""Who syncs a source into a destination just now: a lease that shows signs of life, and is given back at the end.

A lease saves work: the second run stops, or waits, before it reads anything. Nothing is proven by it. A run that lost
its lease without knowing (it was suspended, its machine was cut off) is kept out by the fence alone.

The lease is the cursor of the state ``@run``, where the epoch is kept, and is saved by the same compare-and-set.
"""

import itertools
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from strandline.destination import Fence
from strandline.engine.clock import Clock
from strandline.engine.ledger import Ledger
from strandline.engine.window import Stop
from strandline.errors import LockedError, RetryableError, StateConflictError, StateError
from strandline.message import Cursor
from strandline.state import State

__all__ = ["Claim", "Heartbeat", "Lease", "await_lease", "take_over"]

_POLL_S = 0.5
_TRIES = 10
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Claim:
    """How a run behaves where another one holds the lease."""

    wait_s: float = 0.0
    """How long it waits for the other run to end."""
    takeover: bool = False
    """It does not care: the other run is fenced out."""
    ttl_s: float = 60.0
    """For how long its own lease holds after a sign of life, of which it gives four in that time."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process as another one can find it."""

    host: str
    pid: int
    place: str = ""
    """Boot and pid namespace, within which ``pid`` means something; empty: nobody can tell."""
    started: str = ""
    """Clock ticks from the boot to its start: a pid is used again."""

    @classmethod
    def current(cls) -> Self:
        """This one."""
        pid, host = os.getpid(), socket.gethostname()
        try:
            boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
            return cls(host, pid, f"{boot} {(_PROC / 'self/ns/pid').readlink()}", _started(pid) or "")
        except OSError:
            return cls(host, pid)

    @property
    def ended(self) -> bool:
        """Whether it is certain that it runs no more. Of another machine or container nobody here can tell."""
        here = Process.current()
        return bool(self.place) and self.place == here.place and _started(self.pid) != self.started


def _started(pid: int) -> str | None:
    """Field 22 of ``/proc/PID/stat``, see proc(5); the name before it may hold blanks and brackets."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True, slots=True)
class Lease:
    """That a run syncs a source into a destination, and when it last showed a sign of life."""

    run_id: str
    since_us: int
    beat_us: int
    """Microseconds since 1970-01-01 UTC, by the clock of the holder."""
    ttl_s: float
    process: Process = field(default_factory=Process.current)

    @property
    def cursor(self) -> Cursor:
        """As it is kept in the state ``@run``."""
        return {"lease": asdict(self)}

    @classmethod
    def of(cls, state: State | None) -> "Lease | None":
        """The lease that a state ``@run`` tells of, if it is held."""
        kept = (state.cursor or {}).get("lease") if state is not None else None
        if not isinstance(kept, Mapping):
            return None
        try:
            return cls(**(dict(kept) | {"process": Process(**kept["process"])}))
        except (KeyError, TypeError):  # of a version that keeps another form: the fence holds without it
            return None

    def is_live(self, now: datetime) -> bool:
        """Whether its holder has to be taken for alive. A clock that differs by more than ``ttl_s`` makes it expired."""
        return not self.process.ended and abs(_us(now) - self.beat_us) < self.ttl_s * 1e6

    def refused(self, ledger: Ledger, now: datetime) -> LockedError:
        """What a run is told that finds it."""
        since = datetime.fromtimestamp(self.since_us / 1e6, UTC)
        heard_s = max(0.0, (_us(now) - self.beat_us) / 1e6)
        return LockedError(
            f"run {self.run_id} has been syncing {ledger.source} into {ledger.destination} since {since:%Y-%m-%d %H:%M:%S} "
            f"UTC (host {self.process.host}, pid {self.process.pid}, last sign of life {heard_s:.0f} s ago)",
            hint="let it end: --wait-lock 10m waits for it; --takeover fences it out, and nothing is lost",
        )


def _us(time: datetime) -> int:
    return int(time.timestamp() * 1e6)


def await_lease(
    ledger: Ledger,
    claim: Claim,
    load: Callable[[], None],
    *,
    clock: Clock,
    stop: Stop,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Load the states once no other run holds the lease.

    Whoever waits for as long as a lease holds, and sees no sign of life, needs no clock of the day to know that it has
    expired.

    Raises:
        LockedError: another run holds it, or another process the destination, for longer than ``claim.wait_s``.
    """
    began_s = heard_s = clock.monotonic_s()
    heard: Lease | None = None
    waits = False
    while True:
        try:
            load()
            lease = Lease.of(ledger.holder)
            if lease is None or claim.takeover or not lease.is_live(clock.now()):
                return
            if lease != heard:
                heard, heard_s = lease, clock.monotonic_s()
            if clock.monotonic_s() - heard_s >= lease.ttl_s:
                return
            refused: LockedError = lease.refused(ledger, clock.now())
        except LockedError as error:
            refused = error
        if clock.monotonic_s() - began_s >= claim.wait_s or stop.requested:
            raise refused
        if not waits:
            say(f"waiting: {refused.message}")
        waits = True
        stop.wait(_POLL_S)


def take_over(ledger: Ledger, claim: Claim, run_id: str, *, clock: Clock, stop: Stop) -> Fence:
    """Raise the epoch and take the lease. Of several runs that try at once, one succeeds; see ``Ledger.take_over``.

    A sign of life of the run that is to be fenced out may come in between, which is no reason to give up.

    Raises:
        StateConflictError: another run was first, and this one is not to wait for it.
    """
    began_s = clock.monotonic_s()
    for tries in itertools.count(1):
        now_us, epoch = _us(clock.now()), _epoch(ledger)
        try:
            return ledger.take_over(run_id, clock.now(), Lease(run_id, now_us, now_us, claim.ttl_s).cursor)
        except LockedError:  # by a transaction that does not end; the destination has waited for it already
            if clock.monotonic_s() - began_s >= claim.wait_s:
                raise
        except StateConflictError:
            await_lease(ledger, claim, ledger.reload, clock=clock, stop=stop)
            if tries >= _TRIES or (_epoch(ledger) > epoch and not claim.wait_s):
                raise
    raise AssertionError


def _epoch(ledger: Ledger) -> int:
    return ledger.holder.epoch if ledger.holder is not None else 0


class Heartbeat:
    """Shows signs of life for the leases of a run while it goes on, and gives them back at its end.

    Used as a context manager. A sign that cannot be given is no matter; one that conflicts means that another run has
    taken over, so that this one stops at once.
    """

    def __init__(
        self,
        ledgers: Sequence[Ledger],
        fences: Mapping[str, Fence],
        *,
        clock: Clock,
        stop: Stop,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.lost: StateConflictError | None = None
        """Why the run holds a lease no longer."""
        self._ledgers, self._fences, self._clock, self._stop, self._warn = ledgers, fences, clock, stop, warn
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the leases back, but for those that another run has taken."""
        self._ended.set()
        self._thread.join()
        for ledger in self._ledgers:
            lease = self._mine(ledger)
            if lease is not None and not self._say(ledger, None):
                self._warn(
                    f"the lease of {ledger.source} into {ledger.destination} could not be given back; from other machines "
                    f"the next run is refused for {lease.ttl_s:.0f} s"
                )

    def _beat(self) -> None:
        leases = [lease for lease in map(self._mine, self._ledgers) if lease is not None]
        while leases and not self._ended.wait(min(lease.ttl_s for lease in leases) / 4):
            for ledger in self._ledgers:
                lease = self._mine(ledger)
                if lease is not None:
                    self._say(ledger, replace(lease, beat_us=_us(self._clock.now())))

    def _mine(self, ledger: Ledger) -> Lease | None:
        lease = Lease.of(ledger.holder)
        return lease if lease is not None and lease.run_id == self._fences[ledger.destination].run_id else None

    def _say(self, ledger: Ledger, lease: Lease | None) -> bool:
        """Whether there is nothing more to say."""
        fence, before = self._fences[ledger.destination], ledger.holder
        if before is None:
            return True
        cursor, now = lease.cursor if lease else None, self._clock.now()
        try:
            ledger.save(fence.key, before.following(run_id=fence.run_id, epoch=fence.epoch, now=now, cursor=cursor))
        except LockedError:
            return False
        except StateConflictError as error:
            self.lost = error
            self._stop.fence()
        except (RetryableError, StateError):
            return False
        return True
