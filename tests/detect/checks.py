"""What notices a broken engine: each check says what is wrong, or nothing."""

import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, TypeAlias

import pyarrow as pa
import pytest
import test_engine
import test_errors
import test_window
from changed import Changed
from scenarios import KINDS
from worlds import MemoryWorld

from strandline.connectors.memory.destination import MemoryDestination
from strandline.connectors.memory.source import MemorySource, MemoryStore
from strandline.destination import MigrateMode, WriteMode
from strandline.engine.feed import Feed
from strandline.engine.ledger import Ledger
from strandline.engine.window import Bounds
from strandline.errors import (
    RetryableError,
    StateConflictError,
    StateError,
    StrandlineError,
    TaskError,
    UnreachableError,
)
from strandline.message import Checkpoint, Complete, Insert
from strandline.runs import EXIT_BUG
from strandline.table import Table
from strandline.testing.crash import Campaign
from strandline.testing.faults import Injector, Killed, Killer, Outside

APPEND, OVERWRITE, DELETE_STALE = WriteMode

Breaks: TypeAlias = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, eq=False)
class Check:
    """Compared by identity, so that several broken engines share the look at the sound one."""

    name: str
    run: Callable[[], Iterable[object]]

    def findings(self) -> list[str]:
        try:
            found = list(map(str, self.run() or ()))
        except (AssertionError, pytest.fail.Exception, StrandlineError) as error:
            found = [str(error)]
        # what is broken must be plausible: an engine that crashes at once proves nothing
        crashed = (f"exit code {EXIT_BUG}", f"assert {EXIT_BUG} ==")
        assert not [one for one in found if any(text in one for text in crashed)]
        return found

    @cache  # noqa: B019 -- as many as there are checks
    def passes(self) -> bool:
        """Whether the sound engine is fine. Asked before anything is broken."""
        return not self.findings()


class Broken(list[Any]):
    """What a module breaks, as parameters of its test."""

    def __call__(self, promise: str, what: str, check: Check) -> Callable[[Breaks], Breaks]:
        """Registers a function that breaks something, by a patch, and the check that has to notice it."""

        def register(breaks: Breaks) -> Breaks:
            marks = pytest.mark.detects(promise, what, by=check.name)
            self.append(pytest.param(check, breaks, marks=marks, id=breaks.__name__))
            return breaks

        return register


def the_test(function: Callable[..., None], **fixtures: Callable[[], Any]) -> Check:
    """A test of the suite, with what it asks for."""
    return Check(function.__name__, lambda: function(**{name: make() for name, make in fixtures.items()}))


# campaigns -------------------------------------------------------------------------------------------------------------


def syncs(kind: str, mode: WriteMode, **world: Any) -> Check:
    """All steps, undisturbed, but looked at after every call."""
    return Check(
        f"syncs of {kind!r}, {mode}",
        lambda: Campaign(MemoryWorld(kind, mode, **world), steps=()).kill_everywhere().findings,
    )


def kills(kind: str, mode: WriteMode, *, share: float, steps: tuple[int, ...] = (1,), **world: Any) -> Check:
    return Check(
        f"the kill campaign of {kind!r}, {mode}",
        lambda: Campaign(MemoryWorld(kind, mode, **world), seed=7, share=share, steps=steps).kill_everywhere().findings,
    )


def zombies(kind: str, mode: WriteMode, *, share: float = 0.2, steps: tuple[int, ...] = (1,)) -> Check:
    return Check(
        f"the zombie campaign of {kind!r}, {mode}",
        lambda: Campaign(MemoryWorld(kind, mode), seed=7, share=share, steps=steps).interfere_everywhere().findings,
    )


# faults ----------------------------------------------------------------------------------------------------------------


def _lost_replies():
    world = MemoryWorld("keyed", APPEND, attempts_max=3)
    for point in test_errors.struck(world, 0, after=True, calls={"destination.write"}):
        _, report, wrong = test_errors.meet(world, 0, point, lambda: StateError("no reply"), forever=False)
        assert report.exit_code == 0, report
        yield from wrong


def _killed_refresh():
    """At every save that stands for itself; then it is gone on with."""
    world = MemoryWorld("log", APPEND, refresh_at=2)
    for point in test_errors.struck(world, 2, calls={"states.save"}):
        with suppress(Killed):
            world.run(2, Killer(point))
        world.refresh_at = None  # nobody asks for it again
        for step in (2, 3):
            assert world.run(step, Outside()).exit_code == 0
        world.refresh_at = 2
        yield from (f"killed {point}: {wrong}" for wrong in world.settled(3, kills=1, skipped=False))


class LosesACommit(MemoryDestination):
    """Has pulled a window when it loses its connection: nothing was committed, and nobody says so."""

    def write(self, window, *, mode, fence):
        self.writes = getattr(self, "writes", 0) + 1
        if self.writes == 2:
            list(window)
            raise StateError("no reply")
        return super().write(window, mode=mode, fence=fence)


def _lost_commit():
    world = MemoryWorld("keyed", APPEND, attempts_max=3, destination=LosesACommit)
    watch = world.watcher(0)
    assert world.run(0, Outside()).exit_code == 0
    yield from watch()
    yield from world.settled(0, kills=0, skipped=False)


def _failing_source():
    world = MemoryWorld("full", DELETE_STALE, share_max=None)
    kept = world.contents[0] & world.contents[1]
    for point in test_errors.struck(world, 1, calls={"source.message"}):
        report = world.run(1, Injector(point, lambda: UnreachableError("no route")))
        gone = kept - world.content()
        if gone:
            yield f"{point}: exit code {report.exit_code}, and {sorted(gone)} are deleted"


class DropsARow(MemoryDestination):
    """The last one of each batch; its receipt tells."""

    def write(self, window, *, mode, fence):
        def shorter(message):
            return replace(message, batch=message.batch[:-1]) if isinstance(message, Insert) else message

        return super().write(Changed(window, shorter), mode=mode, fence=fence)


def _dropped_row():
    report = MemoryWorld("full", OVERWRITE, destination=DropsARow).run(0, Outside())
    assert report.exit_code == 1, report
    assert "took" in report.tasks[0].error.message


def _dropped_table():
    world = MemoryWorld("keyed", OVERWRITE)
    assert world.run(0, Outside()).exit_code == 0
    world.inner.drop_table("t")
    assert world.run(1, Outside()).exit_code == StateError.exit_code


def _another_filter():
    world = MemoryWorld("keyed", OVERWRITE)
    assert world.run(0, Outside()).exit_code == 0
    MemoryStore.named(f"{world.name} 1").create(replace(KINDS["keyed"][1], selection="v > 'a'"))
    assert world.run(1, Outside()).exit_code == StateError.exit_code


lost_replies = Check("a lost reply at every commit", _lost_replies)
lost_commit = Check("a commit that is lost", _lost_commit)
killed_refresh = Check("a full refresh that is killed at every save", _killed_refresh)
failing_source = Check("a source that fails at every message", _failing_source)
dropped_row = Check("a destination that drops a row", _dropped_row)
dropped_table = Check("a table that is dropped between two syncs", _dropped_table)
another_filter = Check("a filter that is changed between two syncs", _another_filter)


# syncs of numbers ------------------------------------------------------------------------------------------------------


def new_store():
    return test_engine.destination(uuid.uuid4().hex)


def new_request():
    return SimpleNamespace(node=SimpleNamespace(nodeid=uuid.uuid4().hex))


def _failed_table():
    name = uuid.uuid4().hex
    database, store = MemoryStore.named(name), new_store()
    for table in ("a", "b"):
        database.create(Table(table, pa.schema({"id": pa.int64()}), ("id",)))
        database.upsert(table, *({"id": number} for number in range(4)))
    source = MemorySource(MemorySource.Spec(store=name, one_task=True))
    job = test_engine.job(source, store, mode=DELETE_STALE)
    job.into = [replace(one, share_max=None) for one in job.into]
    assert test_engine.sync(job).exit_code == 0
    database.failures["a"] = TaskError("permission denied")
    assert test_engine.sync(job).exit_code == 1
    assert test_engine.ids(store, "a") == test_engine.ids(store, "b") == [0, 1, 2, 3]


class Sends(test_engine.Numbers):
    """One batch, whatever its table says."""

    def __init__(self, batch):
        super().__init__("a", incremental=False)
        self.batch = batch

    def read(self, task, reading):
        yield from [Insert("a", self.batch), Complete("a"), Checkpoint(None)]


def _unfit(batch):
    report = test_engine.sync(test_engine.job(Sends(batch), new_store()))
    assert report.exit_code == 1, report


def _greedy_reader():
    """It may read ahead as far as its bytes go, and then waits."""
    batches, finished = [test_window.rows(number) for number in range(100)], threading.Event()

    def messages():
        yield from batches
        finished.set()

    with Feed(messages, bytes_max=80, name="test"):
        assert not finished.wait(1)


def _silent_source():
    speaks = threading.Event()

    def messages():
        speaks.wait(3)
        yield from [test_window.rows(1), Checkpoint({"n": 1})]

    with Feed(messages, bytes_max=1 << 20, name="test") as feed:
        with pytest.raises(RetryableError, match="nothing for"):
            list(test_window.window(feed, clock=test_window.SteppingClock(), bounds=Bounds(stall_s=1)))
        speaks.set()


def _two_runs():
    """The earlier one changes a table when the later one has taken over."""
    store, now = new_store(), datetime(2026, 1, 1, tzinfo=UTC)
    table = Table("a", pa.schema({"id": pa.int64()}), ("id",))
    fences = []
    for run in ("earlier", "later"):
        ledger = Ledger("numbers", "d", own=store.states, backend=store.states)
        ledger.load()
        fences.append(ledger.take_over(run, now))
    with pytest.raises(StateConflictError):
        store.migrate(table, mode=MigrateMode.SAFE, fence=fences[0])
    store.migrate(table, mode=MigrateMode.SAFE, fence=fences[1])


two_runs = Check("two runs that take over one after the other", _two_runs)
failed_table = Check("a table that cannot be read", _failed_table)
a_strange_column = Check(
    "a column that the table does not have",
    partial(_unfit, pa.record_batch({"id": pa.array([1], pa.int64()), "new": pa.array(["x"])})),
)
a_strange_type = Check("a column of another type", partial(_unfit, pa.record_batch({"id": pa.array([1.5])})))
greedy_reader = Check("a destination that takes nothing", _greedy_reader)
silent_source = Check("a source that is silent for long", _silent_source)
