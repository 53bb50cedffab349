"""The kind `pause`: a run is suspended, another one takes over, and the first one goes on."""

import signal
from collections.abc import Collection, Iterator
from typing import Any

from strandline.testing.campaign.chains import Bench, Call, Case, Chain, name_of

__all__ = ["strike"]

_CHAINS = 4
_LOCKED = 4
_REFUSED = {1, 4, 5}
"""How the later run may end: what the suspended one holds, it cannot take."""
_READERS = {"source.read", "source.message"}
"""Where they are called, the thread that writes may be in the middle of a transaction, for which the other run would wait."""


def strike(bench: Bench, cell: Any, *, loose: bool = False) -> Iterator[Case]:
    """Of both runs, one completes; and if it is the later one, the earlier one changes nothing any more.

    Args:
        bench: where.
        cell: what.
        loose: nobody but the state backend keeps the earlier run out, so that what it has in its hands may still be stored. It is
            suspended when a write has returned, and its next save has to be refused.
    """
    learned, _ = bench.learned(cell)
    for number in range(1, max(1, round(_CHAINS * bench.share)) + 1):
        chance, chain = bench.chance(cell, "pause", number), Chain(bench, cell, "pause", number)
        for one in learned:
            chain.change()
            points = [point for point in one.points if point[0] not in _READERS]
            if loose:
                points = [(call, number, True) for call, number, _ in points if call == "destination.write"]
            if not points:
                chain.run()
                continue
            yield (case := _overtake(chain, chance.choice(points), {_LOCKED} if loose else {0, _LOCKED}))
            if case.bad:
                break
        chain.close()


def _overtake(chain: Chain, point: Call, fair: Collection[int]) -> Case:
    case = chain.case(name_of(chain.step, point))
    first = chain.start(point=point, act="stop")
    case.reached = first.wait_until_stopped()
    later = chain.run("--takeover")
    if later.code == 0:
        case.exits.append(0)
        chain.compare(case, ended=False)
    first.send(signal.SIGCONT)
    earlier = first.wait()
    case.exits = [earlier.code, later.code]
    # the later one is refused where the suspended run holds a file, or is in the middle of a transaction or of a save
    if (
        earlier.code not in (fair if later.code == 0 else {0, _LOCKED})
        or later.code not in {0, *_REFUSED}
        or "Traceback" in earlier.text + later.text
    ):
        case.problems.append(
            f"the earlier run ended with {earlier.code}, the later one with {later.code}: "
            f"{earlier.text[-400:]} {later.text[-400:]}"
        )
    chain.recover(case)
    return case
