"""A series of syncs of one world, of which each may meet a fault; and what such a case is in the report."""

import json
import random
import shutil
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from campaign.processes import Nursery
from campaign.worlds import Databases, World
from services.postgresql import PostgreSQLServer

TRIES = 4
"""How many syncs may be needed after a fault."""
SYNC = ("--summary-location", "summary.jsonl")


@dataclass
class Case:
    """One sync that met a fault, and what came of it."""

    cell: str
    kind: str
    step: int
    point: str
    chain: int = 0
    exits: list = field(default_factory=list)
    """Of all syncs, in order; -9 is one that was killed."""
    gaps: int = 0
    duplicates: int = 0
    wrong: int = 0
    problems: list = field(default_factory=list)
    recovery_s: float = 0.0
    """From the start of the first sync after the fault to the end of the one that completed."""
    read_rows: int | None = None
    """By the sync that completed."""
    reread_rows: int | None = None
    """Rows that the killed sync had stored, and that its state did not cover; where it was looked."""
    reached: bool = True
    """Whether the fault struck at all."""
    points: int = 0
    """How many the cell has, in all steps; of the kind `call`."""

    @property
    def bad(self):
        return bool(self.problems)

    def record(self, seed):
        return json.dumps({"seed": seed, **asdict(self)})


@dataclass(frozen=True)
class Learned:
    """What an undisturbed sync of one step does."""

    points: tuple
    """(call, number, after) of every outside call; and after the last one."""
    seconds: float
    text: str
    """That it printed."""


class Bench:
    """What one worker has: a nursery, a directory, and a PostgreSQL server if it needs one. For one thread."""

    def __init__(self, seed, *, share=1.0, only="", struck=frozenset()):
        self.again(seed, share=share, only=only)
        self.struck = struck
        """(cell, point) of the kind `call` that need not be struck again."""
        self._stack = ExitStack()
        memory = Path("/dev/shm")
        self.root = Path(tempfile.mkdtemp(prefix="strandline-crash-", dir=memory if memory.is_dir() else None))
        self._stack.callback(shutil.rmtree, self.root, ignore_errors=True)
        self.nursery = Nursery(self.root)
        self._stack.callback(self.nursery.close)

    def again(self, seed, *, share=1.0, only=""):
        """From now on with another seed."""
        self.seed, self.share, self.only = seed, share, only
        self._learned = {}

    @cached_property
    def databases(self):
        server = PostgreSQLServer()
        self._stack.callback(server.remove)
        return Databases(server.create())

    def close(self):
        self._stack.close()

    def chance(self, *what):
        """Randomness that depends on the seed and on what it is for."""
        return random.Random("/".join(map(str, (self.seed, *what))))

    def world(self, cell, *, directory=None, **more):
        needs = "postgresql" in (cell.source, cell.destination)
        return World(cell, directory or self.root / "world", self.seed, self.databases if needs else None, **more)

    def learned(self, cell):
        """By step: what an undisturbed sync does. Also the case that says what is wrong with it, if anything is."""
        if cell not in self._learned:
            self._learned[cell] = self._learn(cell)
        return self._learned[cell]

    def _learn(self, cell):
        chain, steps, calls = Chain(self, cell, "call"), [], self.root / "calls"
        cases = []
        for _ in range(chain.world.origin.steps):
            chain.change()
            ended = chain.run(calls=str(calls))
            case = chain.case("undisturbed")
            case.exits = [ended.code]
            chain.compare(case)
            cases.append(case)
            found = [(call, number, False) for call, number in json.loads(calls.read_text())]
            steps.append(Learned((*found, (*found[-1][:2], True)), ended.seconds, ended.text))
        chain.close()
        return steps, cases


class Chain:
    """One world, and the syncs of it."""

    def __init__(self, bench, cell, kind, number=0, **world):
        self.bench, self.cell, self.kind, self.number = bench, cell, kind, number
        self.world = bench.world(cell, **world)
        self.step = -1

    def change(self):
        """On to the next step."""
        self.step += 1
        self.world.origin.change(self.step)

    def case(self, point):
        return Case(str(self.cell), self.kind, self.step, point, self.number)

    def start(self, *arguments, **request):
        (self.world.directory / "summary.jsonl").unlink(missing_ok=True)  # a full disk may have torn its last line
        return self.bench.nursery.start(self.world.directory, *SYNC, *arguments, **request)

    def run(self, *arguments, **request):
        return self.start(*arguments, **request).wait()

    def recover(self, case, *, clean=(), tries=TRIES):
        """Sync until it completes, and compare. Exit codes of ``clean`` are not wrong on the way there."""
        began_s = time.monotonic()
        for _ in range(tries):
            ended = self.run()
            case.exits.append(ended.code)
            if ended.code == 0:
                break
            if ended.code not in clean:
                case.problems.append(f"a sync after the fault ended with {ended.code}: {ended.text[-600:]}")
        case.recovery_s = round(time.monotonic() - began_s, 3)
        self.compare(case)

    def compare(self, case, *, ended=True):
        """With the model; a sync has completed. Only while none goes on, files may not be left over."""
        if case.exits[-1] != 0:
            case.problems.append(f"no sync completed, the last ended with {case.exits[-1]}")
            return
        found = self.world.differences(self.step, ended=ended)
        case.gaps += found.missing
        case.duplicates += found.duplicates
        case.wrong += found.wrong
        case.problems += found.problems
        case.read_rows = sum(one["rows_read"] for one in self.world.summary().values())

    def look(self, case):
        """Between the kill and the next sync: what a state covers is stored; and how much will be read again."""
        case.reread_rows = 0
        for name, (left, covered, stored) in self.world.uncovered().items():
            case.reread_rows += (left & stored).total()
            if missing := covered - stored:
                case.gaps += missing.total()
                case.problems.append(f"{name}: its state covers rows that are not stored: {sorted(missing)[:3]}")

    def quiet(self, case):
        """Another sync when nothing has changed: it reads only what is always read again, and stores nothing new."""
        ended = self.run()
        case.exits.append(ended.code)
        self.compare(case)
        for name, one in self.world.summary().items():
            moves = self.cell.source == "test" or one["full"]
            if not moves and one["rows_read"] != one["rows_reread"]:
                case.problems.append(f"{name}: a quiet sync read {one['rows_read'] - one['rows_reread']} rows again")

    def close(self):
        self.world.close()


def pending(bench, cell, kind):
    """By step: the points to strike, in an order that the seed gives; the share that was asked for."""
    learned, _ = bench.learned(cell)
    chance, points = bench.chance(cell, kind), defaultdict(list)
    for step, one in enumerate(learned):
        chosen = chance.sample(one.points, max(1, round(len(one.points) * bench.share)))
        named = {name_of(step, point): point for point in chosen}
        points[step] = [
            point for name, point in named.items() if bench.only in ("", name) and (str(cell), name) not in bench.struck
        ]
    return points


def name_of(step, point):
    """As it stands in the report."""
    call, number, after = point
    return f"step {step} {'after' if after else 'before'} {call} {number}"


def struck_in(records):
    """Of what a campaign has left: (cell, point) of each call at which a process was killed."""
    calls = [one for one in records if one["kind"] == "call" and one["reached"] and one["point"] != "undisturbed"]
    return {(one["cell"], one["point"].partition(", and ")[0]) for one in calls}
