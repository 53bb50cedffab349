"""The kind `worker`: tasks are done by workers, of which one is killed, or taken for lost while it goes on; or the run itself is killed."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from strandline.testing.campaign.chains import Bench, Call, Case, Chain, name_of
from strandline.testing.campaign.processes import DEADLINE_S, Ended
from strandline.testing.campaign.workforce import Fault

__all__ = ["strike"]

_Calls: TypeAlias = Mapping[str, Sequence[Call]]
"""By task: what a worker that does it does to the outside."""


@dataclass(frozen=True, slots=True)
class _Way:
    """What happens to the worker that has a task first, and how the run may end."""

    about: str
    acts: tuple[str, ...]
    codes: frozenset[int]
    """Of the run. One that is held up by what a suspended worker holds ends as any other that is locked out."""


_SOUND = frozenset({0})
_HELD = frozenset({0, 1, 4, 5})
_KILLED = frozenset({-signal.SIGKILL})
_WAYS = (
    _Way("the worker is killed", ("kill",), _SOUND),
    _Way("the worker is taken for lost, and goes on", ("lose",), _HELD),
    _Way("the worker is taken for lost, suspended, and goes on later", ("lose", "stop"), _HELD),
    _Way("the run is killed, and the worker goes on", ("orphan",), _KILLED),
    _Way("the run is killed, the worker is suspended, and goes on later", ("orphan", "lose", "stop"), _KILLED),
)
_CHAINS = 2 * len(_WAYS)
_AGAIN = 0.4
"""Share of the cases in which something happens to the next worker, too: it is killed, or the one before is woken up."""
_READERS = {"source.read", "source.message"}
"""Where they are called, the thread that writes may be in the middle of a transaction, for which all others would wait."""
_EXECUTOR = ("--executor", "processes")


def strike(bench: Bench, cell: Any) -> Iterator[Case]:
    """In each step of a chain, one way at one call of one task. Of each way, as many."""
    learned = list[_Calls]()
    yield from _learn(bench, cell, learned)
    first = bench.chance(cell, "worker").randrange(len(_WAYS))
    for number in range(1, max(1, round(_CHAINS * bench.share)) + 1):
        chance, chain = bench.chance(cell, "worker", number), Chain(bench, cell, "worker", number)
        for step, calls in enumerate(learned):
            chain.change()
            way = _WAYS[(first + number + step) % len(_WAYS)]
            task = chance.choice(sorted(calls))
            points = [one for one in calls[task] if "stop" not in way.acts or one[0] not in _READERS]
            yield (case := _strike(chain, way, task, chance.choice(points), chance))
            if case.bad:
                break
        chain.close()


class _Notes:
    """What the workers of one sync have noted."""

    def __init__(self, bench: Bench) -> None:
        self.folder = bench.root / "notes"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def of(self, kind: str) -> list[tuple[int, str]]:
        """Process and text, in order."""
        found = sorted(self.folder.glob(f"{kind}-*"))
        return [(int(path.name.rpartition("-")[2]), path.read_text("utf-8")) for path in found]

    def wake(self) -> None:
        """Whoever is suspended goes on."""
        for pid, _ in self.of("stopped"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def wait(self) -> None:
        """Until all workers have ended."""
        deadline_s = time.monotonic() + DEADLINE_S
        while left := [pid for pid, _ in self.of("worker") if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < deadline_s, f"workers do not end: {left}"
            time.sleep(0.002)


def _run(chain: Chain, notes: _Notes, *faults: Fault) -> Ended:
    return chain.run(*_EXECUTOR, workers={"notes": str(notes.folder), "faults": faults})


def _learn(bench: Bench, cell: Any, learned: list[_Calls]) -> Iterator[Case]:
    """What workers do that nothing happens to."""
    chain = Chain(bench, cell, "worker")
    for _ in range(chain.world.steps):
        chain.change()
        case, notes = chain.case("undisturbed"), _Notes(bench)
        ended = _run(chain, notes)
        notes.wait()
        case.exits = [ended.code]
        chain.compare(case)
        if ended.code:
            case.problems.append(ended.text[-2000:])
        calls = dict[str, Sequence[Call]]()
        for _, text in notes.of("done.*"):
            task, found = json.loads(text)
            calls[task] = [(call, number, after) for call, number in found for after in (False, True)]
        learned.append(calls)
        assert calls or ended.code, "the tasks are not done by workers"
        yield case
    chain.close()


def _strike(chain: Chain, way: _Way, task: str, point: Call, chance: random.Random) -> Case:
    case = chain.case(f"{name_of(chain.step, point)} of {task}, {way.about}")
    faults, notes = [Fault(task=task, attempt=0, point=point, acts=way.acts)], _Notes(chain.bench)
    if chance.random() < _AGAIN and "orphan" not in way.acts:
        act = "wake" if "stop" in way.acts else "kill"
        faults.append(Fault(task=task, attempt=1, point=point, acts=[act]))
        case.point += f", {act} by the next worker"
    ended = _run(chain, notes, *faults)
    case.exits.append(ended.code)
    case.reached = bool(notes.of("struck"))
    if ended.code not in (way.codes if case.reached else _SOUND) or "Traceback" in ended.text:
        case.problems.append(f"the run ended with {ended.code}: {ended.text[-800:]}")
    _compare(chain, case, ended)
    if "stop" in way.acts:  # the next run comes while one is suspended, and may be held up by it
        _compare(chain, case, chain.run(), _HELD)
        notes.wake()
    elif "orphan" in way.acts:  # ... or is still at work
        _compare(chain, case, chain.run(), _HELD)
    notes.wait()
    chain.recover(case)
    return case


def _compare(chain: Chain, case: Case, ended: Ended, codes: frozenset[int] | None = None) -> None:
    """What is stored, if the sync has completed, though somebody else may still be at work."""
    if codes is not None:
        case.exits.append(ended.code)
        if ended.code not in codes or "Traceback" in ended.text:
            case.problems.append(f"the sync after it ended with {ended.code}: {ended.text[-800:]}")
    if ended.code == 0:
        chain.compare(case, ended=False)
