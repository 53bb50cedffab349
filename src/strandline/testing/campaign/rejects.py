"""The kind `reject`: a row that the destination does not take, or that the source cannot read; then it is fixed."""

from collections.abc import Iterator
from typing import Any

from strandline.testing.campaign.chains import Bench, Case, Chain, Spoiled

__all__ = ["strike"]


def strike(bench: Bench, cell: Any) -> Iterator[Case]:
    """After the first step, each way to fail: exit 1, and the state's cursor covers nothing that is not stored."""
    number, ways = 0, 1
    while number < ways:
        chain = Chain(bench, cell, "reject", number)
        possible = list(chain.world.spoils())
        ways = len(possible)
        if possible:
            chain.change()
            ended = chain.run()
            assert ended.code == 0, ended.text
            yield _reject(chain, possible[number])
        chain.close()
        number += 1


def _reject(chain: Chain, way: Spoiled) -> Case:
    way.spoil()
    if chain.step + 1 < chain.world.steps:
        chain.change()
    case = chain.case(f"step {chain.step} {way.what}")
    for _ in range(2):
        ended = chain.run()
        case.exits.append(ended.code)
        if ended.code != 1 or "Traceback" in ended.text:
            case.problems.append(f"a sync ended with {ended.code}: {ended.text[-600:]}")
    way.fix()
    chain.look(case)
    chain.recover(case)
    return case
