"""Who syncs a source into a destination just now: a lease that shows signs of life, and is given back at the end.

A lease saves work: the second run stops, or waits, before it reads anything. Nothing is proven by it. A run that lost
its lease without knowing (it was suspended, its machine was cut off) is kept out by the fence alone.

The lease is the cursor of the state ``@run``, where the epoch is kept, and is saved by the same compare-and-set.
"""

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from strandline.destination import Fence
from strandline.engine.clock import Clock
from strandline.engine.ledger import LEASE, Ledger
from strandline.engine.window import Stop, StoppedError
from strandline.errors import LockedError, StateConflictError, StrandlineError
from strandline.message import Cursor
from strandline.shard import Shard
from strandline.state import State, StateKey
from strandline.warned import Code, Warned

__all__ = ["Claim", "Heartbeat", "Lease", "await_lease", "live_lease", "take_over", "tells_of_run"]

_POLL_S = 0.5
_TRIES = 10
_END_S = 10.0
"""How long the end of a run waits for its leases to be given back."""
_PROC = Path("/proc")
_SYNCING = " has been syncing "
_log = logging.getLogger(__name__)


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
            if not (_PROC / "self/stat").read_text().startswith(f"{pid} "):
                return cls(host, pid)  # another namespace's
            boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
            return cls(host, pid, f"{boot} {(_PROC / 'self/ns/pid').readlink()}", _started(pid) or "")
        except OSError:
            return cls(host, pid)

    @property
    def ended(self) -> bool:
        """Whether it is certain that it runs no more. Of another machine or container nobody here can tell."""
        here = Process.current()
        if not self.place or not self.started or (self.place, self.host) != (here.place, here.host):
            return False
        try:
            os.kill(self.pid, 0)  # the kernel tells also where /proc hides what is another user's
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return _started(self.pid) not in {None, self.started}


def _started(pid: int) -> str | None:
    """Field 22 of ``/proc/PID/stat``, see proc(5); the name before it may hold blanks and brackets.

    Empty: it has ended, and nobody has asked for its exit code. ``None``: it is not to be seen.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]


def tells_of_run(text: str) -> bool:
    """Whether a warning of a plan says that a run holds the lease, which nobody has to fix."""
    return _SYNCING in text


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
        return {LEASE: asdict(self)}

    @classmethod
    def of(cls, state: State | None) -> "Lease | None":
        """The lease that a state ``@run`` tells of, if it is held."""
        kept = (state.cursor or {}).get(LEASE) if state is not None else None
        if not isinstance(kept, Mapping):
            return None
        try:
            return cls(**(dict(kept) | {"process": Process(**kept["process"])}))
        except (KeyError, TypeError):  # of a version that keeps another form: the fence holds without it
            return None

    def is_live(self, now: datetime) -> bool:
        """Whether its holder has to be taken for alive. A clock that differs by more than ``ttl_s`` makes it expired."""
        return not self.process.ended and abs(_us(now) - self.beat_us) < self.ttl_s * 1e6

    def refused(self, ledger: Ledger, key: StateKey, now: datetime) -> LockedError:
        """What a run is told that finds it under ``key``."""
        shard = Shard.of_run(key.task)
        of = f" (shard {shard})" if shard is not None else ""
        since = datetime.fromtimestamp(self.since_us / 1e6, UTC)
        heard_s = max(0.0, (_us(now) - self.beat_us) / 1e6)
        return LockedError(
            f"run {self.run_id}{of}{_SYNCING}{ledger.source} into {ledger.destination} since {since:%Y-%m-%d %H:%M:%S} "
            f"UTC (host {self.process.host}, pid {self.process.pid}, last sign of life {heard_s:.0f} s ago)",
            hint="let it end: --wait-lock 10m waits for it; --takeover fences it out, and nothing is lost",
        )


def _us(time: datetime) -> int:
    return int(time.timestamp() * 1e6)


def live_lease(ledger: Ledger, now: datetime) -> "tuple[Lease, LockedError] | None":
    """The lease of another run that can have one of these tasks, and lives; with what this one is told. The ledger is loaded."""
    holder = ledger.holder
    for key, state in [*([(ledger.run_key, holder)] if holder is not None else []), *ledger.rivals]:
        lease = Lease.of(state)
        if lease is not None and lease.is_live(now):
            return lease, lease.refused(ledger, key, now)
    return None


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

    With ``claim.takeover`` it waits for a lock of another process, but for no run.

    Whoever waits for as long as a lease holds, and sees no sign of life, needs no clock of the day to know that it has
    expired.

    Raises:
        LockedError: another run holds it, or another process the destination, for longer than ``claim.wait_s``.
        StoppedError: the run was asked to stop while it waited.
    """
    began_s = heard_s = clock.monotonic_s()
    heard: Lease | None = None
    waits = False
    while True:
        try:
            load()
            live = live_lease(ledger, clock.now())
            if live is None or claim.takeover:
                return
            lease, refused = live
            if lease != heard:
                heard, heard_s = lease, clock.monotonic_s()
            if clock.monotonic_s() - heard_s >= lease.ttl_s:
                return
        except LockedError as error:
            refused = _not_to_be_taken(error) if claim.takeover else error
        if clock.monotonic_s() - began_s >= claim.wait_s:
            raise refused
        if stop.requested:
            raise StoppedError(f"stopped while it was waiting: {refused.message}")
        if not waits:
            say(refused.message)
        waits = True
        stop.wait(_POLL_S)


def _not_to_be_taken(error: LockedError) -> LockedError:
    """What whoever asked for ``--takeover`` is told: the lock is a process's, and no run's that could be fenced out."""
    hint = f"--takeover cannot help, since a process has to let it go; {error.hint}"
    return type(error)(error.message, hint=hint)


def take_over(
    ledger: Ledger, claim: Claim, run_id: str, *, clock: Clock, stop: Stop, say: Callable[[str], None] = lambda _: None
) -> Fence:
    """Raise the epoch and take the lease. Of several runs that try at once, one succeeds; see ``Ledger.take_over``.

    A sign of life of the run that is to be fenced out may come in between, which is no reason to give up.

    Raises:
        StateConflictError: another run was first, and this one is not to wait for it.
        StoppedError: see ``await_lease``.
    """
    began_s, tries = clock.monotonic_s(), 0
    while True:
        now_us, epoch = _us(clock.now()), _epoch(ledger)
        try:
            for _ in range(_TRIES if claim.takeover else 1):
                fence = ledger.take_over(run_id, clock.now(), Lease(run_id, now_us, now_us, claim.ttl_s).cursor)
                if not ledger.rivals:
                    return fence
            raise _met(ledger, clock)
        except StrandlineError as error:
            left_s = claim.wait_s - (clock.monotonic_s() - began_s)
            _give_up(ledger, run_id, clock)
            if not isinstance(error, StateConflictError):
                raise
            if not isinstance(error, LockedError):
                tries += 1
            elif (
                left_s <= 0
            ):  # a transaction that does not end (the destination has waited already), or a run that began
                raise
            elif stop.wait(_POLL_S * random.uniform(0.5, 1.5)):  # noqa: S311 -- or two would find each other again and again
                raise StoppedError(f"stopped while it was waiting: {error.message}") from error
        await_lease(ledger, replace(claim, wait_s=left_s), ledger.load, clock=clock, stop=stop, say=say)
        if tries >= _TRIES or (_epoch(ledger) > epoch and left_s <= 0):
            raise _overtaken(ledger)


def _met(ledger: Ledger, clock: Clock) -> LockedError:
    """Of a run of other shards, or of all tasks, that has begun at the same moment."""
    key, state = ledger.rivals[0]
    lease = Lease.of(state)
    if lease is not None:
        return lease.refused(ledger, key, clock.now())
    return LockedError(f"{key}: run {state.run_id} has just begun", hint="start again once it has ended")


def _overtaken(ledger: Ledger) -> StateConflictError:
    """Of a run that was faster, and may have ended since."""
    run_id = ledger.holder.run_id if ledger.holder is not None else "another"
    return StateConflictError(
        f"run {run_id} has taken over {ledger.source} into {ledger.destination}",
        hint="let one run at a time sync this source",
    )


def _give_up(ledger: Ledger, run_id: str, clock: Clock) -> None:
    """What was taken only in part (the mirror failed): it must not hold anybody up, this run least of all."""
    lease, holder = Lease.of(ledger.holder), ledger.holder
    if lease is not None and holder is not None and lease.run_id == run_id:
        with suppress(StrandlineError):
            ledger.save(
                ledger.run_key,
                holder.following(run_id=run_id, epoch=holder.epoch, now=clock.now(), cursor=ledger.of_run(None)),
            )


def _epoch(ledger: Ledger) -> int:
    return ledger.holder.epoch if ledger.holder is not None else 0


class Heartbeat:
    """Shows signs of life for the leases of a run while it goes on, and gives them back at its end.

    Used as a context manager. Each lease has a thread, so that a destination that hangs costs no other its lease, and
    the end of the run no more than ``_END_S``. A sign that cannot be given is no matter; one that conflicts because
    another run has taken over stops this one at once.
    """

    def __init__(self, *, clock: Clock, stop: Stop, warn: Callable[[Warned], None] = lambda _: None) -> None:
        self.lost: StateConflictError | None = None
        """Why the run holds a lease no longer."""
        self._clock, self._stop, self._warn = clock, stop, warn
        self._ended = threading.Event()
        self._threads: dict[threading.Thread, Ledger] = {}
        self._returned: set[threading.Thread] = set()
        self._raised: BaseException | None = None

    def begin(self, ledger: Ledger, fence: Fence) -> None:
        """For a lease that was taken."""
        thread = threading.Thread(target=self._beat, args=(ledger, fence), name="heartbeat", daemon=True)
        self._threads[thread] = ledger
        thread.start()

    def __enter__(self) -> Self:
        """Nothing is held yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the leases back, but for those that another run has taken."""
        self._ended.set()
        deadline_s = time.monotonic() + _END_S
        for thread, ledger in self._threads.items():
            thread.join(max(0.0, deadline_s - time.monotonic()))
            if thread not in self._returned:
                text = (
                    f"the lease of {ledger.source} into {ledger.destination} may not have been given back; from other "
                    "machines the next run may be refused until it expires"
                )
                self._warn(Warned(Code.LEASE_KEPT, text))
        if self._raised is not None:
            raise self._raised

    def _beat(self, ledger: Ledger, fence: Fence) -> None:
        try:
            if self._until_ended(ledger, fence):
                self._returned.add(threading.current_thread())
        except BaseException as error:  # noqa: BLE001 -- raised where the run ends, as it would be without a thread
            self._raised = error

    def _until_ended(self, ledger: Ledger, fence: Fence) -> bool:
        """Whether the lease was given back, or is another run's."""
        lease = Lease.of(ledger.holder)
        if lease is None:
            return True
        while not self._ended.wait(lease.ttl_s / 4):
            self._say(ledger, fence, replace(lease, beat_us=_us(self._clock.now())))
        return self._say(ledger, fence, None)

    def _say(self, ledger: Ledger, fence: Fence, lease: Lease | None) -> bool:
        """Whether there is nothing more to say."""
        for _ in range(2):
            try:
                self._save(ledger, fence, lease)
            except LockedError:
                return False
            except StateConflictError as error:
                # the reply to our own last save may have been lost
                if not self._holds(ledger, fence):
                    self.lost = error
                    self._stop.fence()
                    return True
            except Exception as error:  # noqa: BLE001 -- a lease only saves work; the run goes on without it
                _log.debug("the lease of %s into %s: %s", ledger.source, ledger.destination, error)
                return False
            else:
                return True
        return False

    def _save(self, ledger: Ledger, fence: Fence, lease: Lease | None) -> None:
        before = ledger.holder
        if before is not None:
            cursor, now = ledger.of_run(lease.cursor if lease else None), self._clock.now()
            ledger.save(fence.key, before.following(run_id=fence.run_id, epoch=fence.epoch, now=now, cursor=cursor))

    def _holds(self, ledger: Ledger, fence: Fence) -> bool:
        try:
            return ledger.still_held(fence)
        except Exception as error:  # noqa: BLE001 -- see above: the next sign, or the fence, will tell
            _log.debug("the lease of %s into %s: %s", ledger.source, ledger.destination, error)
            return True
