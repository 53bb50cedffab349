"""The kind `disk`: a write of the destination's file or of the state directory finds no space, or an fsync of it fails.

And the kind `full`: there is no space at all any more, for the destination's file, states, and whatever else, until it is
made.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from strandline.testing.campaign import tracing
from strandline.testing.campaign.chains import Bench, Call, Case, Chain, name_of

__all__ = ["fill", "refused", "strike"]

_FAULTS = {"ENOSPC": ("write", "pwrite64"), "EIO": ("fsync", "fdatasync")}
_WAKES = "[eventfd]"
"""How the threads of some drivers wake each other: by a ``write``, which no disk makes fail, and without which they wait for ever."""
_ROUNDS = 3
_ENDINGS = {0, 1, 3, 5}
"""Not an error of the program, nor a crash. The engine may try again, and get over a single fault."""
_SMALL_MB = 32
_CHANGING = {"destination.migrate", "destination.write", "states.save", "backend.save"}


def strike(bench: Bench, cell: Any) -> Iterator[Case]:
    """In each step of a chain one call fails, once; each round begins with another place and fault.

    What is shared memory and no file (``-shm``) does not count. A call is made to fail in every thread, by its number; so no
    ``write`` is, where threads wake each other so.
    """
    learned = list(_learn(bench, cell))
    wakes = {name for calls in learned for name, _, line in calls if _WAKES in line}
    errors = [error for error, names in _FAULTS.items() if wakes.isdisjoint(names)]
    for number in range(1, max(1, round(_ROUNDS * bench.share)) + 1):
        chance, chain = bench.chance(cell, "disk", number), Chain(bench, cell, "disk", number)
        faults = [(place, error) for error in errors for place in chain.world.places]
        for step, calls in enumerate(learned):
            chain.change()
            place, error = faults[(number + step) % len(faults)]
            chosen = [
                (name, nth)
                for name, nth, line in calls
                if name in _FAULTS[error] and place in line and "-shm>" not in line
            ]
            if not chosen:
                chain.run()
                continue
            case = _fail(chain, place, error, *chance.choice(chosen))
            yield case
            if case.bad:
                break
        chain.close()


def _learn(bench: Bench, cell: Any) -> Iterator[list[tracing.Traced]]:
    chain = Chain(bench, cell, "disk")
    names = ",".join(name for one in _FAULTS.values() for name in one)
    for _ in range(chain.world.steps):
        chain.change()
        ended, calls = tracing.run(chain, "-e", f"trace={names}")
        assert ended.code == 0, ended.text
        yield calls
    chain.close()


def _fail(chain: Chain, place: str, error: str, name: str, nth: int) -> Case:
    case = chain.case(f"step {chain.step} {error} of {name} {nth} in {place}")
    ended, calls = tracing.run(chain, "-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={nth}")
    case.exits.append(ended.code)
    struck = [line for *_, line in calls if "(INJECTED)" in line]
    case.reached = any(place in line for line in struck)
    if ended.code not in _ENDINGS or "Traceback" in ended.text:
        case.problems.append(f"the sync ended with {ended.code}: {ended.text[-600:]}")
    chain.recover(case)
    return case


@cache
def refused() -> str:
    """Why there can be no small file system here; nothing where there can."""
    if os.geteuid():
        return "it needs root, to mount"
    done = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "no file system can be mounted"


def fill(bench: Bench, cell: Any) -> Iterator[Case]:
    """In each step of a chain the file system is filled when the sync is about to change something."""
    learned, _ = bench.learned(cell)
    for number in range(1, max(1, round(_ROUNDS * bench.share)) + 1):
        chance = bench.chance(cell, "full", number)
        with _small(bench.root / "small") as small:
            chain = Chain(bench, cell, "full", number, directory=small / "world")
            for one in learned:
                chain.change()
                point = chance.choice([point for point in one.points if point[0] in _CHANGING])
                yield (case := _fill(chain, point, small / "filler"))
                if case.bad:
                    break
            chain.close()


def _fill(chain: Chain, point: Call, filler: Path) -> Case:
    case = chain.case(f"{name_of(chain.step, point)}, the disk full from there on")
    running = chain.start(point=point, act="stop")
    case.reached = running.wait_until_stopped()
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    running.send(signal.SIGCONT)
    ended = running.wait()
    filler.unlink()
    case.exits.append(ended.code)
    if ended.code not in _ENDINGS or "Traceback" in ended.text:
        case.problems.append(f"the sync ended with {ended.code}: {ended.text[-600:]}")
    chain.recover(case)
    return case


@contextmanager
def _small(place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SMALL_MB}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
