"""The kind `call`: a SIGKILL at every call that the engine makes to the outside."""

import random
from collections.abc import Iterator
from typing import Any

from strandline.testing.campaign.chains import Bench, Call, Case, Chain, Learned, name_of, pending

__all__ = ["strike"]

_LOOKED, _QUIET, _TWICE = 0.2, 0.1, 0.25
"""Shares of the cases that are looked into before they recover, synced once more, and killed again while they recover."""


def strike(bench: Bench, cell: Any) -> Iterator[Case]:
    """The cases, one after the other. A chain of syncs is struck once in each of its steps."""
    learned, cases = bench.learned(cell)
    yield from cases
    points, number = pending(bench, cell, "call"), 0
    while any(points.values()):
        number += 1
        chance, chain = bench.chance(cell, "call", number), Chain(bench, cell, "call", number)
        for step in range(max(step for step, left in points.items() if left) + 1):
            chain.change()
            if not points[step]:
                chain.run()
                continue
            case = _kill(chain, points[step].pop(), learned[step], chance)
            case.points = sum(len(one.points) for one in learned)
            yield case
            if case.bad:
                break
        chain.close()


def _kill(chain: Chain, point: Call, learned: Learned, chance: random.Random) -> Case:
    case = chain.case(name_of(chain.step, point))
    looks, quiet, twice = (chance.random() < share for share in (_LOOKED, _QUIET, _TWICE))
    again = chance.choice(learned.points)
    ended = chain.run(point=point, act="kill")
    case.exits.append(ended.code)
    case.reached = ended.killed
    if looks:
        chain.look(case)
    if twice:
        ended = chain.run(point=again, act="kill")
        case.point += f", and {name_of(chain.step, again)}" if ended.killed else ""
        case.exits.append(ended.code)
    if not ended.killed and ended.code:
        case.problems.append(f"a sync ended with {ended.code}: {ended.text[-600:]}")
    chain.recover(case)
    if quiet and not case.bad:
        chain.quiet(case)
    return case
