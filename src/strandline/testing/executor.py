"""What every executor must do, as a class to subclass.

::

    class TestOurExecutor(ExecutorConformance):
        @pytest.fixture
        def executor(self) -> Executor:
            cls = load_plugin("executor", "ours")
            return cls(cls.Spec(workers=2))

It needs two workers that run Python, import what this process imports, see its files, and can be killed. An executor without a crew
(``is_elsewhere = False``) is not for this suite: the engine does everything then.
"""

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from strandline.executor import Crew, Done, Executor, Happening, Lost, Parcel, Said

__all__ = ["ExecutorConformance"]

_POLL_S = 0.05


@dataclass(frozen=True)
class _Deed:
    """What a parcel of the suite does, in files of a directory that both sides see."""

    directory: str
    name: str
    says: tuple[bytes, ...] = ()
    awaits: tuple[str, ...] = ()
    """Others that have to have begun."""
    until_asked: bool = False
    dies: bool = False
    fails: bool = False

    def __call__(self, say: Callable[[bytes], None], asked: Callable[[], bool]) -> bytes:
        root = Path(self.directory)
        (root / self.name).write_text(str(os.getpid()), "utf-8")
        for one in self.says:
            say(one)
        while not all((root / one).exists() for one in self.awaits) or (self.until_asked and not asked()):
            time.sleep(_POLL_S)
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails:
            raise ValueError("it cannot be done")
        return f"{self.name} is done".encode()


class ExecutorConformance:
    """Subclass it, and give it the fixture ``executor``."""

    DEADLINE_S: ClassVar[float] = 120.0
    """How long anything may take; nothing waits for it that goes well."""
    BEGINS_WORKERS: ClassVar[bool] = True
    """Whether workers are begun by the crew, so that they end with it; otherwise they are there before."""

    @pytest.fixture
    def executor(self) -> Executor:
        """An executor of two workers."""
        raise NotImplementedError

    @pytest.fixture
    def crew(self, executor: Executor) -> Iterator[Crew]:
        """Its workers."""
        found = executor.crew(2)
        assert found is not None
        with closing(found):
            yield found

    def _until_ended(
        self, crew: Crew, parcels: int, heard: list[Happening] | None = None
    ) -> dict[str, list[Happening]]:
        """All that happens until so many parcels have ended."""
        events, deadline_s = heard if heard is not None else [], time.monotonic() + self.DEADLINE_S
        while sum(not isinstance(one, Said) for one in events) < parcels:
            assert time.monotonic() < deadline_s, f"only this has happened: {events}"
            events += crew.events(1.0)
        return {name: [one for one in events if one.parcel == name] for name in {one.parcel for one in events}}

    def test_a_parcel_is_done_and_what_it_says_comes_before_in_order(self, crew: Crew, tmp_path: Path) -> None:
        """Also where there are more parcels than workers, and one of them is large."""
        said = (b"one", b"two", bytes(1_000_000))
        for number in range(5):
            crew.submit(_parcel(tmp_path, f"p{number}", says=said))
        for name, events in self._until_ended(crew, 5).items():
            assert events == [*(Said(name, one) for one in said), Done(name, f"{name} is done".encode())]
        assert crew.events(0.0) == []

    def test_workers_are_other_processes_and_work_at_once(self, crew: Crew, tmp_path: Path) -> None:
        """Each of two waits until the other has begun."""
        for name, other in (("a", "b"), ("b", "a")):
            crew.submit(_parcel(tmp_path, name, awaits=(other,)))
        assert {type(events[-1]) for events in self._until_ended(crew, 2).values()} == {Done}
        processes = {(tmp_path / name).read_text("utf-8") for name in "ab"}
        assert len(processes) == 2
        assert str(os.getpid()) not in processes

    def test_the_parcel_of_a_worker_that_dies_is_lost_and_the_others_are_done(self, crew: Crew, tmp_path: Path) -> None:
        """Also those that come later: the crew is complete again."""
        crew.submit(_parcel(tmp_path, "dies", dies=True))
        for number in range(4):
            crew.submit(_parcel(tmp_path, f"p{number}"))
        found = self._until_ended(crew, 5)
        (lost,) = found.pop("dies")
        assert isinstance(lost, Lost)
        assert lost.why
        assert {type(events[-1]) for events in found.values()} == {Done}
        for name, other in (("a", "b"), ("b", "a")):
            crew.submit(_parcel(tmp_path, name, awaits=(other,)))
        assert {type(events[-1]) for events in self._until_ended(crew, 2).values()} == {Done}

    def test_a_parcel_that_raises_is_lost_with_the_reason(self, crew: Crew, tmp_path: Path) -> None:
        """What the engine sends never raises but for a bug."""
        crew.submit(_parcel(tmp_path, "fails", fails=True))
        ((lost,),) = self._until_ended(crew, 1).values()
        assert isinstance(lost, Lost)
        assert "it cannot be done" in lost.why

    def test_whoever_works_is_told_to_stop_and_whoever_comes_later_too(self, crew: Crew, tmp_path: Path) -> None:
        """What waits for a worker is done as well: the engine's parcels look first."""
        heard = list[Happening]()
        for number in range(4):
            crew.submit(_parcel(tmp_path, f"p{number}", says=(b"begun",), until_asked=True))
        deadline_s = time.monotonic() + self.DEADLINE_S
        while not any(isinstance(one, Said) for one in heard):
            assert time.monotonic() < deadline_s
            heard += crew.events(1.0)
        for _ in range(2):
            crew.ask_to_stop()
        assert {type(events[-1]) for events in self._until_ended(crew, 4, heard).values()} == {Done}

    def test_signals_are_still_heard_by_the_run(self, executor: Executor) -> None:
        """Which stops at a commit then, and so do its workers."""
        numbers = signal.SIGINT, signal.SIGTERM
        before = [signal.getsignal(one) for one in numbers]
        crew = executor.crew(2)
        assert crew is not None
        with closing(crew):
            assert [signal.getsignal(one) for one in numbers] == before

    def test_a_crew_is_closed_in_the_middle_of_its_work(self, executor: Executor, tmp_path: Path) -> None:
        """Its workers end; those that were there before are free for the next run."""
        crew, heard = executor.crew(2), list[Happening]()
        assert crew is not None
        crew.submit(_parcel(tmp_path, "endless", says=(b"begun",), until_asked=True))
        deadline_s = time.monotonic() + self.DEADLINE_S
        while not heard:
            assert time.monotonic() < deadline_s
            heard += crew.events(1.0)
        for _ in range(2):
            crew.close()
        worker = int((tmp_path / "endless").read_text("utf-8"))
        while self.BEGINS_WORKERS and _runs(worker):
            assert time.monotonic() < deadline_s
            time.sleep(_POLL_S)
        again = executor.crew(2)
        assert again is not None
        with closing(again):
            for name, other in (("a", "b"), ("b", "a")):
                again.submit(_parcel(tmp_path, name, awaits=(other,)))
            assert {type(events[-1]) for events in self._until_ended(again, 2).values()} == {Done}


def _parcel(directory: Path, name: str, **deed: object) -> Parcel:
    return Parcel(name, pickle.dumps(_Deed(str(directory), name, **deed)))  # type: ignore[arg-type]  # as the tests above give them


def _runs(pid: int) -> bool:
    try:
        fields: Sequence[str] = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX"
