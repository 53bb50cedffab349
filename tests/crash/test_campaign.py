"""A sample of `make crash`: each pair of source and destination, and each kind of fault, so that it keeps working.

The seed is part of pytest-randomly's: `--randomly-seed` repeats it.
"""

import json
import random
import signal
from itertools import product

import pytest
from campaign import page, power
from campaign.bench import Bench
from campaign.keepers import KEEPERS
from campaign.kinds import BACKED, CELLS, KINDS, MODES, POWER
from campaign.origins import APIS, ORIGINS
from campaign.stores import STORES
from campaign.worlds import Cell

from services.postgresql import programs
from strandline.testing.campaign import tracing
from strandline.testing.campaign.chains import Case, Chain, struck_in

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(programs() is None, reason="LOUD: no PostgreSQL server is installed"),
]
CELLS_OF_KINDS = [name for name in KINDS if name not in {"call", "power"}]


@pytest.fixture(scope="module")
def bench():
    """One for all tests of a process: what it costs is its start."""
    one = Bench(seed=0)
    yield one
    one.close()


@pytest.fixture
def strike(bench):
    """Strikes a cell with a new seed."""

    def struck(kind, place, share):
        bench.again(seed := random.getrandbits(32), share=share)
        cases = list(KINDS[kind].strike(bench, place))
        assert [case.record(seed) for case in cases if case.bad] == []
        return [case for case in cases if case.reached]

    return struck


OWN = [one for one in ORIGINS if one not in APIS]
LAKES = ("delta", "iceberg")
PAIRS = [pair for pair in product(OWN, STORES) if pair[1] not in {*LAKES, "bucket"}]
"""Of a bucket, `make crash` has all calls; `make test` kills at those of the store (tests/connectors/files)."""


@pytest.mark.parametrize("pair", [*PAIRS, *(("", lake) for lake in LAKES)], ids="-".join)
def test_a_sync_killed_at_any_call_leaves_neither_a_gap_nor_a_duplicate(strike, pair):
    """Of every source, but into a lake, where a sync takes long: of any."""
    pair = (pair[0] or random.choice(OWN), pair[1])
    cell = random.choice([one for mode in MODES if not (one := Cell(*pair, mode)).impossible])
    # a destination that keeps no states has few calls
    cases = strike("call", cell, share=0.03 if cell.destination in {"plain", "idempotent"} else 0.01)
    assert sum(-9 in case.exits for case in cases) >= 2


def test_a_sync_of_an_api_killed_at_any_call_leaves_neither_a_gap_nor_a_duplicate(strike):
    """One of them into one store; `make crash` has all."""
    cell = random.choice([one for one in CELLS if one.source in APIS and not one.impossible])
    assert sum(-9 in case.exits for case in strike("call", cell, share=0.01)) >= 1


@pytest.mark.parametrize("keeps", [True, False], ids=["destination keeps states, too", "backend alone"])
def test_so_it_is_with_any_other_state_backend(strike, keeps):
    cell = random.choice([one for one in BACKED if (one.destination != "plain") is keeps])
    share = 0.01 if keeps else 0.02
    assert sum(-9 in case.exits for case in strike("call", cell, share=share)) >= 2


@pytest.mark.parametrize("backend", KEEPERS)
def test_the_commit_of_a_run_that_was_suspended_and_overtaken_is_refused(bench, backend):
    """Where nobody else keeps it out. Its rows are stored, and its state is about to be."""
    bench.again(random.getrandbits(32))
    chain = Chain(bench, Cell("sqlite", "plain", "overwrite", backend), "pause")
    chain.change()
    earlier = chain.start(point=("destination.write", random.choice([1, 3]), True), act="stop")
    assert earlier.wait_until_stopped()
    later = chain.run("--takeover")
    assert later.code == 0, later.text
    kept = dict(chain.world.keeper.load())
    earlier.send(signal.SIGCONT)
    ended = earlier.wait()
    assert ended.code == 4, ended.text
    assert chain.world.keeper.load() == kept
    case = chain.case("overtaken")
    case.exits = [later.code]
    chain.compare(case)
    assert not case.bad, case


def test_a_campaign_that_goes_on_strikes_only_what_was_not_struck(bench, monkeypatch):
    bench.again(seed := random.getrandbits(32), share=0.05)
    cell = Cell("test", "sqlite", "append")
    (*_, last) = first = [case for case in KINDS["call"].strike(bench, cell) if case.point != "undisturbed"]
    left = struck_in(json.loads(case.record(seed)) for case in first if case is not last)
    monkeypatch.setattr(bench, "struck", left)
    again = [case.point.partition(", and ")[0] for case in KINDS["call"].strike(bench, cell)]
    assert [point for point in again if point != "undisturbed"] == [last.point.partition(", and ")[0]]


def test_the_report_counts_each_point_once_and_says_the_most_that_there_were():
    """What else happens on a PostgreSQL server decides whether a table is read, and so how many calls there are."""
    cases = [
        Case("test/sqlite/append", "call", 0, f"step 0 before source.read {number}", points=points)
        for number, points in [(1, 5), (2, 6), (2, 6)]
    ]
    assert "\n| test/sqlite/append | 2 of 6 |" in page.written(case.record(0) for case in cases)


@pytest.mark.parametrize("kind", CELLS_OF_KINDS)
def test_after_any_other_fault_the_next_sync_is_exact(strike, kind):
    possible = [cell for cell, why in KINDS[kind].places(CELLS) if not why]
    if not possible:
        pytest.skip(f"LOUD: {kind} cannot be tried here")
    assert strike(kind, random.choice(possible), share=0.15)


def test_a_power_cut_leaves_the_last_state_that_was_saved_or_the_next(strike, monkeypatch):
    """Where file systems can be mounted. A backend that does not sync its files is noticed there."""
    for system in [one for one in POWER if not power.refused(one)]:
        assert len(strike("power", system, share=0.2)) >= 8
        with monkeypatch.context() as broken:
            broken.setattr(power, "WRITER", "import os; os.fsync = lambda _: None" + power.WRITER)
            with pytest.raises(AssertionError, match="saved"):
                strike("power", system, share=0.5)


@pytest.mark.skipif(not tracing.AVAILABLE, reason="strace is not installed: no kill points were tried")
@pytest.mark.parametrize("fault", ["signal=KILL", "error=ENOSPC"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_duckdb_file_that_was_torn_when_it_was_made_stops_nobody(bench, fault, nth):
    bench.again(nth)
    chain = Chain(bench, Cell("test", "duckdb", "append"), "syscall")
    chain.change()
    torn, _ = tracing.run(chain, "-e", "trace=pwrite64", "-e", f"inject=pwrite64:{fault}:when={nth}")
    assert torn.code
    chain.recover(case := chain.case(fault))
    assert not case.bad, case


@pytest.mark.parametrize(
    ("damage", "counts"),
    [
        ("DELETE FROM t WHERE id = 1", (1, 0, 0)),
        ("INSERT INTO t SELECT * FROM t WHERE id = 2", (0, 1, 0)),
        ("UPDATE t SET v = 'another' WHERE id = 3", (0, 0, 1)),
        ("CREATE TABLE left_over (_cq_sync_time, id, v)", (0, 0, 0)),
    ],
)
def test_what_is_wrong_in_the_destination_is_counted(bench, damage, counts):
    bench.again(1)
    chain = Chain(bench, Cell("sqlite", "sqlite", "append"), "call")
    chain.change()
    chain.recover(case := chain.case("nothing yet"))
    assert not case.bad
    chain.world.store.execute(damage)
    chain.compare(case)
    assert (case.gaps, case.duplicates, case.wrong) == counts
    assert case.bad


def test_a_state_that_covers_rows_that_are_not_stored_is_noticed(bench):
    bench.again(1)
    chain = Chain(bench, Cell("sqlite", "sqlite", "append"), "call")
    chain.change()
    chain.recover(case := chain.case("nothing yet"))
    chain.look(case)
    assert not case.bad
    chain.world.origin.execute([("DELETE FROM t", ()), *chain.world.origin.upserts("t", {1: (0, "1"), 2: (600, "2")})])
    chain.recover(chain.case("nothing more"))
    chain.world.store.execute("DELETE FROM t WHERE id = 1")
    chain.look(case)
    assert case.gaps == 1
