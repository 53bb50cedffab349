"""The crash campaign: kill the engine at every outside call, restart it until it is done, and compare with a model.

A ``World`` is everything that outlives a process, and a model of what should be in it. A campaign takes it through its
steps (a step is a source as it stands, and a sync of it) and explores from there::

    report = Campaign(world, seed=7).kill_everywhere(kills=2)
    assert not report.findings, report

What a killed process leaves is a world again. Two worlds between which no later run can tell are explored once, so that
"killed anywhere, and anywhere again while it recovers" is a few dozen worlds, and not the square of the calls.

Every campaign is a function of its seed, but for one thing: a kill in the reader's thread (``source.…``) falls wherever
the writer happens to be, as in life.
"""

import random
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from strandline.errors import StateConflictError, StrandlineError
from strandline.runs import RunReport
from strandline.testing.faults import Killed, Killer, Meanwhile, Outside, Point

__all__ = ["CHANGING", "Campaign", "CrashReport", "Finding", "World", "worth_striking"]

CHANGING = frozenset(
    {
        "destination.migrate",
        "destination.write",
        "window.message",
        "states.save",
        "backend.save",
        "source.acknowledge",
    }
)
"""The calls after which the outside may be another: when an observer looks."""

_READERS = frozenset({"source.read", "source.message"})
"""The calls that a thread of its own makes."""


class World(Protocol):
    """Everything that outlives a process: a source, a destination, a backend; and what should be in them."""

    steps: int
    """How many states of the source there are."""

    def run(self, step: int, outside: Outside) -> RunReport:
        """One process: sync the source as it stands at ``step``. All that it does outside goes through ``outside``."""

    def snapshot(self) -> Any:
        """The world as it is."""

    def restore(self, snapshot: Any) -> None:
        """Make the world what it was. A snapshot may be restored any number of times."""

    def digest(self) -> Hashable:
        """All that a later run can depend on: worlds of equal digests have equal futures."""

    def watcher(self, step: int) -> Callable[[], Iterable[str]]:
        """For one process: what no observer may ever see, at any instant. Yields what is wrong now."""

    def settled(self, step: int, *, kills: int, skipped: bool) -> Iterable[str]:
        """What is wrong after a sync of ``step`` came to its end.

        Args:
            step: of the source.
            kills: how many processes were killed on the way.
            skipped: a killed sync of an earlier step was not repeated before the source changed.
        """


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was broken, and the way there."""

    path: tuple[str, ...]
    problem: str

    def __str__(self) -> str:
        return f"{'; '.join(self.path) or 'undisturbed'}: {self.problem}"


@dataclass(slots=True)
class CrashReport:
    """What a campaign did and found."""

    seed: int
    runs: int = 0
    kills: int = 0
    worlds: int = 0
    """How many different ones the kills left."""
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.runs} runs, {self.kills} kills, {self.worlds} worlds"]
        return "\n".join([*lines, *map(str, self.findings[:20])])


def worth_striking(outside: Outside, calls: Collection[str] | None = None) -> list[Point]:
    """Where to strike a process that would do what this one did; in an order that does not depend on threads.

    Before every call, and after the last one: nothing lies between one call and the next, so that a kill after the one
    is the kill before the other. Where only some calls change anything, as ``CHANGING``, it is enough to name those.
    """
    struck = [one for one in outside.calls if calls is None or one.call in calls]
    return sorted([*struck, *(Point(one.call, one.number, after=True) for one in struck[-1:])])


class Campaign:
    """Explores one world. Used once, or several times one after the other.

    Args:
        world: at its beginning.
        seed: of the sample, where ``share`` is not 1.
        share: which part of the points is struck; the first kill of a path is sampled like the second.
        steps: where kills happen; by default in all steps.
    """

    def __init__(self, world: World, *, seed: int = 0, share: float = 1.0, steps: Sequence[int] | None = None) -> None:
        self.report = CrashReport(seed)
        self._world, self._share = world, share
        self._steps = range(world.steps) if steps is None else steps
        self._random = random.Random(seed)
        self._seen: set[Hashable] = set()

    def kill_everywhere(self, *, kills: int = 1, moving: bool = False) -> CrashReport:
        """Kill each step's sync at every point, restart it until it is done, then go on to the last step.

        Args:
            kills: how many kills deep: 2 also kills at every point of the recovery from every first kill.
            moving: also go on to the next step without repeating the killed sync: the source changed meanwhile.
        """
        return self._each_step(lambda step: self._explore(step, (), kills=kills, moving=moving))

    def interfere_everywhere(self, *, fenced: bool = True) -> CrashReport:
        """At every point of each step's sync let another run begin and end; then the first one goes on, a zombie.

        The points are those where all of the first run waits, not only its reader. The other run must succeed.

        Args:
            fenced: the destination keeps a fence, so that the earlier run has come to its end or is fenced out (exit
                code 4). Elsewhere it may also fail on what the later one took away.
        """
        return self._each_step(partial(self._interfere, fenced=fenced))

    def _each_step(self, explore: Callable[[int], None]) -> CrashReport:
        world, beginning = self._world, self._world.snapshot()
        for step in range(world.steps):
            before = world.snapshot()
            if step in self._steps:
                explore(step)
            world.restore(before)
            self._sync(step, (), skipped=False)
        world.restore(beginning)
        return self.report

    def _explore(self, step: int, path: tuple[str, ...], *, kills: int, moving: bool) -> None:
        """From the world as it is: let a process end, then kill it at each point and explore what it leaves."""
        world = self._world
        before = world.snapshot()
        outside = self._sync(step, path, skipped=False)
        self._go_on(step, path, skipped=False)
        if not kills:
            return
        for point in self._sample(worth_striking(outside)):
            world.restore(before)
            if not self._kill(step, path, point):
                continue
            deeper = (*path, f"step {step} killed {point}")
            killed = world.snapshot()
            if self._is_new(step, len(deeper), world.digest()):
                self.report.worlds += 1
                self._explore(step, deeper, kills=kills - 1, moving=False)
                world.restore(killed)
                if moving and step + 1 < world.steps:
                    # the next process goes on with the pass that it finds; what changed behind it is for the one after
                    self._sync(step + 1, deeper, skipped=True, settles=False)
                    self._go_on(step, deeper, skipped=True)

    def _kill(self, step: int, path: tuple[str, ...], point: Point) -> bool:
        """Whether the process died of it; a point in another thread may not be reached this time."""
        killer = Killer(point)
        watch = self._world.watcher(step)
        self.report.runs += 1
        try:
            self._world.run(step, killer)
        except Killed:
            self.report.kills += 1
        if killer.dead:
            self._find((*path, f"step {step} killed {point}"), watch())
        return killer.dead

    def _interfere(self, step: int, *, fenced: bool) -> None:
        world = self._world
        before = world.snapshot()
        outside = self._sync(step, (), skipped=False)
        endings = {0, StateConflictError.exit_code} | (set() if fenced else {StrandlineError.exit_code})
        waiting = [point for point in worth_striking(outside) if point.call not in _READERS]
        for point in self._sample(waiting):
            world.restore(before)
            path = (f"step {step}: another run came {point}",)
            report = world.run(step, Meanwhile({point: partial(self._sync, step, path, skipped=False)}))
            self.report.runs += 1
            if report.exit_code not in endings:
                self._find(path, [f"the earlier run ended with {_ending(report)}"])
            self._find(path, world.settled(step, kills=1, skipped=False))
            if self._is_new(step, world.digest()):
                self.report.worlds += 1
                self._go_on(step, path, skipped=False)

    def _go_on(self, step: int, path: tuple[str, ...], *, skipped: bool) -> None:
        """All later steps, undisturbed; until the world is one from which they were done before."""
        for later in range(step + 1, self._world.steps):
            if not self._is_new(later, skipped, len(path), self._world.digest()):
                return
            self._sync(later, path, skipped=skipped)

    def _sync(self, step: int, path: tuple[str, ...], *, skipped: bool, settles: bool = True) -> Outside:
        """One process that meets no fault, watched at every change."""
        outside, watch = Outside(), self._world.watcher(step)
        wrong: dict[str, None] = dict.fromkeys(watch())

        def look(point: Point) -> None:
            if point.call in CHANGING:
                wrong.update(dict.fromkeys(f"{problem}, after {point.call} {point.number}" for problem in watch()))

        outside.watch = look
        report = self._world.run(step, outside)
        self.report.runs += 1
        place = (*path, f"step {step}")
        self._find(place, wrong)
        if report.exit_code:
            self._find(place, [f"it ended with {_ending(report)}"])
        if settles:
            self._find(place, self._world.settled(step, kills=len(path), skipped=skipped))
        return outside

    def _sample(self, points: Sequence[Point]) -> Sequence[Point]:
        if self._share >= 1:
            return points
        return self._random.sample(points, max(1, round(len(points) * self._share)))

    def _is_new(self, *world: Hashable) -> bool:
        known = world in self._seen
        self._seen.add(world)
        return not known

    def _find(self, path: tuple[str, ...], problems: Iterable[str]) -> None:
        self.report.findings += [Finding(path, problem) for problem in problems]


def _ending(report: RunReport) -> str:
    errors = [report.error, *(task.error for task in report.tasks)]
    texts = [f"{type(error).__name__}: {error}" for error in errors if error is not None]
    return f"exit code {report.exit_code} ({'; '.join(texts) or 'no error'})"
