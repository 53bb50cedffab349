"""A series of syncs of one world, of which each may meet a fault; and what such a case is in the report."""

import json
import random
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from strandline.testing.campaign.processes import Ended, Nursery, Running

__all__ = [
    "Bench",
    "Call",
    "Case",
    "Chain",
    "Learned",
    "Spoiled",
    "World",
    "Wrong",
    "name_of",
    "pending",
    "struck_in",
]

Call: TypeAlias = tuple[str, int, bool]
"""Name, number from 1, and whether it is the other side of it: see ``strandline.testing.faults.Point``."""

_TRIES = 4
"""How many syncs may be needed after a fault."""
_SUMMARY = "summary.jsonl"


@dataclass
class Wrong:
    """What differs from the model."""

    missing: int = 0
    duplicates: int = 0
    wrong: int = 0
    problems: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.problems)


@dataclass(frozen=True, slots=True)
class Spoiled:
    """What is done to provoke a failure, and how it is fixed. A sync between the two ends with exit code 1."""

    what: str
    spoil: Callable[[], object]
    fix: Callable[[], object]


class World(Protocol):
    """A source and a destination in one directory, with a spec in it."""

    directory: Path
    steps: int
    """How many changes there are."""
    moves: bool
    """Whether the source changes by itself, so that no sync of it is quiet."""
    places: Sequence[str]
    """Parts of the paths of files in which states and rows are kept."""

    def change(self, step: int) -> None:
        """What happens at the source before the sync of a step."""

    def differences(self, step: int, *, ended: bool = True) -> Wrong:
        """What is wrong after a sync of ``step`` has come to its end; unless ``ended``, another one still goes on."""

    def uncovered(self) -> Mapping[str, tuple[Counter[Any], Counter[Any], Counter[Any]]]:
        """By table: the rows that a sync would read now, those that the newest state covers, and all that are stored.

        Empty where that cannot be looked at.
        """

    def spoils(self) -> Iterable[Spoiled]:
        """Ways in which rows are refused."""

    def close(self) -> None:
        """Remove it."""


@dataclass
class Case:
    """One sync that met a fault, and what came of it."""

    cell: str
    kind: str
    step: int
    point: str
    chain: int = 0
    exits: list[int] = field(default_factory=list)
    """Of all syncs, in order; -9 is one that was killed."""
    gaps: int = 0
    duplicates: int = 0
    wrong: int = 0
    problems: list[str] = field(default_factory=list)
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
    def bad(self) -> bool:
        """Whether anything was found."""
        return bool(self.problems)

    def record(self, seed: object) -> str:
        """A line of JSON."""
        return json.dumps({"seed": seed, **asdict(self)})


@dataclass(frozen=True, slots=True)
class Learned:
    """What an undisturbed sync of one step does."""

    points: tuple[Call, ...]
    """Every outside call; and after the last one."""
    seconds: float
    text: str
    """That it printed."""


class Bench(ABC):
    """What one worker has: a nursery and a directory. For one thread.

    Args:
        seed: decides what is done, and where it is struck.
        share: of the points of each cell.
        only: this point only, as the report names it.
        struck: (cell, point) of the kind `call` that need not be struck again.
        nursery: makes it, with a directory for what syncs print.
    """

    def __init__(
        self,
        seed: object,
        *,
        share: float = 1.0,
        only: str = "",
        struck: Collection[tuple[str, str]] = frozenset(),
        nursery: Callable[[Path], Nursery] = Nursery,
    ) -> None:
        self.again(seed, share=share, only=only)
        self.struck = struck
        self._stack = ExitStack()
        memory = Path("/dev/shm")  # noqa: S108 -- a directory of its own in it
        self.root = Path(tempfile.mkdtemp(prefix="strandline-crash-", dir=memory if memory.is_dir() else None))
        self._stack.callback(shutil.rmtree, self.root, ignore_errors=True)
        self.nursery = nursery(self.root)
        self._stack.callback(self.nursery.close)

    def again(self, seed: object, *, share: float = 1.0, only: str = "") -> None:
        """From now on with another seed."""
        self.seed, self.share, self.only = seed, share, only
        self._learned: dict[Hashable, tuple[list[Learned], list[Case]]] = {}

    def close(self) -> None:
        """End the nursery, remove the directory."""
        self._stack.close()

    def chance(self, *what: object) -> random.Random:
        """Randomness that depends on the seed and on what it is for."""
        return random.Random("/".join(map(str, (self.seed, *what))))

    @abstractmethod
    def world(self, cell: Any, **more: Any) -> World:
        """A new one; ``directory`` says where, if it is not a directory of the bench."""

    def learned(self, cell: Any) -> tuple[list[Learned], list[Case]]:
        """By step: what an undisturbed sync does. Also the cases that say what is wrong with it, if anything is."""
        if cell not in self._learned:
            self._learned[cell] = self._learn(cell)
        return self._learned[cell]

    def _learn(self, cell: Any) -> tuple[list[Learned], list[Case]]:
        chain, calls = Chain(self, cell, "call"), self.root / "calls"
        steps, cases = list[Learned](), list[Case]()
        for _ in range(chain.world.steps):
            chain.change()
            ended = chain.run(calls=str(calls))
            case = chain.case("undisturbed")
            case.exits = [ended.code]
            chain.compare(case)
            cases.append(case)
            if ended.code:
                case.problems.append(ended.text[-2000:])
            found: list[Call] = [(call, number, False) for call, number in json.loads(calls.read_text())]
            steps.append(Learned((*found, (*found[-1][:2], True)), ended.seconds, ended.text))
        chain.close()
        return steps, cases


class Chain:
    """One world, and the syncs of it."""

    def __init__(self, bench: Bench, cell: Any, kind: str, number: int = 0, **world: Any) -> None:
        self.bench, self.cell, self.kind, self.number = bench, cell, kind, number
        self.world = bench.world(cell, **world)
        self.step = -1

    def change(self) -> None:
        """On to the next step."""
        self.step += 1
        self.world.change(self.step)

    def case(self, point: str) -> Case:
        """A sync of this step."""
        return Case(str(self.cell), self.kind, self.step, point, self.number)

    def start(self, *arguments: str, **request: Any) -> Running:
        """Begin a sync; see ``Nursery.start``."""
        (self.world.directory / _SUMMARY).unlink(missing_ok=True)  # a full disk may have torn its last line
        return self.bench.nursery.start(self.world.directory, ("--summary-location", _SUMMARY, *arguments), **request)

    def run(self, *arguments: str, **request: Any) -> Ended:
        """The same to its end."""
        return self.start(*arguments, **request).wait()

    def recover(self, case: Case, *, clean: Collection[int] = (), tries: int = _TRIES) -> None:
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

    def compare(self, case: Case, *, ended: bool = True) -> None:
        """With the model; a sync has completed. Only while none goes on, files may not be left over."""
        if case.exits[-1] != 0:
            case.problems.append(f"no sync completed, the last ended with {case.exits[-1]}")
            return
        found = self.world.differences(self.step, ended=ended)
        case.gaps += found.missing
        case.duplicates += found.duplicates
        case.wrong += found.wrong
        case.problems += found.problems
        case.read_rows = sum(one["rows_read"] for one in self.summary().values())

    def look(self, case: Case) -> None:
        """Between the kill and the next sync: what a state covers is stored; and how much will be read again."""
        looked = self.world.uncovered()
        case.reread_rows = 0 if looked else None
        for name, (left, covered, stored) in looked.items():
            case.reread_rows = (case.reread_rows or 0) + (left & stored).total()
            if missing := covered - stored:
                case.gaps += missing.total()
                case.problems.append(f"{name}: its state covers rows that are not stored: {sorted(missing)[:3]}")

    def quiet(self, case: Case) -> None:
        """Another sync when nothing has changed: it reads only what is always read again, and stores nothing new."""
        ended = self.run()
        case.exits.append(ended.code)
        self.compare(case)
        for name, one in self.summary().items():
            if not self.world.moves and not one["full"] and one["rows_read"] != one["rows_reread"]:
                case.problems.append(f"{name}: a quiet sync read {one['rows_read'] - one['rows_reread']} rows again")

    def summary(self) -> dict[str, Any]:
        """What the last sync said of itself: a report by task."""
        lines = (self.world.directory / _SUMMARY).read_text().splitlines()
        return {one["task"]: one for one in json.loads(lines[-1])["tasks"]}

    def close(self) -> None:
        """Remove the world."""
        self.world.close()


def pending(bench: Bench, cell: Any, kind: str) -> dict[int, list[Call]]:
    """By step: the points to strike, in an order that the seed gives; the share that was asked for."""
    learned, _ = bench.learned(cell)
    chance, points = bench.chance(cell, kind), defaultdict[int, list[Call]](list)
    for step, one in enumerate(learned):
        chosen = chance.sample(one.points, max(1, round(len(one.points) * bench.share)))
        named = {name_of(step, point): point for point in chosen}
        points[step] = [
            point for name, point in named.items() if bench.only in ("", name) and (str(cell), name) not in bench.struck
        ]
    return points


def name_of(step: int, point: Call) -> str:
    """As it stands in the report."""
    call, number, after = point
    return f"step {step} {'after' if after else 'before'} {call} {number}"


def struck_in(records: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Of what a campaign has left: (cell, point) of each call at which a process was killed."""
    calls = [one for one in records if one["kind"] == "call" and one["reached"] and one["point"] != "undisturbed"]
    return {(one["cell"], one["point"].partition(", and ")[0]) for one in calls}
