"""A sample of `make crash`: each pair of source and destination, so that it keeps working.

The seed is part of pytest-randomly's: `--randomly-seed` repeats it.
"""

import random
from itertools import product

import pytest
from campaign import calls
from campaign.chains import Bench
from campaign.origins import ORIGINS
from campaign.stores import STORES
from campaign.worlds import Cell

from services.postgresql import programs

MODES = ("append", "overwrite", "overwrite-delete-stale")
pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(programs() is None, reason="LOUD: no PostgreSQL server is installed"),
]


@pytest.fixture(scope="module")
def benches():
    """One bench for all tests of a process: what it costs is its start."""
    opened = []

    def make(seed, share):
        bench = opened[0] if opened else Bench(seed)
        opened[:] = [bench]
        bench.again(seed, share=share)
        return bench

    yield make
    for bench in opened:
        bench.close()


@pytest.mark.parametrize("pair", list(product(ORIGINS, STORES)), ids="-".join)
def test_a_sync_killed_at_any_call_leaves_neither_a_gap_nor_a_duplicate(benches, pair):
    seed = random.getrandbits(32)
    possible = [cell for mode in MODES if not (cell := Cell(*pair, mode)).impossible]
    cell = random.Random(seed).choice(possible)
    cases = list(calls.strike(benches(seed, share=0.01), cell))
    assert [case.record(seed) for case in cases if case.bad] == []
    assert sum(-9 in case.exits for case in cases) >= 2
