"""Leases: the second run of a source into a destination waits or is refused, and nobody waits for the dead."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

import strandline.engine.lease as lease_module
from strandline.destination import WriteMode
from strandline.engine.administer import reset_states
from strandline.engine.clock import Clock
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lease import Claim, Lease, Process
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.engine.window import Stop
from strandline.errors import LockedError, StateError, TaskError, UnreachableError, UsageError
from strandline.plugins import load_plugin
from strandline.runs import EventKind, Status
from strandline.state import RUN_TASK, StateKey
from strandline.testing.faults import FaultyStates, Injector, Meanwhile, Outside, Point, faulty_destination

KEY = StateKey("made", RUN_TASK, "store")
GONE = Process("elsewhere", 1, "another boot", "1")
"""A process on another machine: nobody here can tell whether it runs."""


class At(Clock):
    """A machine whose clock of the day is wrong by so much; its monotonic clock may run faster."""

    def __init__(self, *, off_s=0.0, pace=1.0):
        self.off_s, self.pace = off_s, pace

    def now(self):
        return datetime.now(UTC) + timedelta(seconds=self.off_s)

    def monotonic_s(self):
        return super().monotonic_s() * self.pace


def plugin(kind, path, **settings):
    cls = load_plugin(kind, path)
    return cls(cls.Spec(**settings))


@pytest.fixture
def store(request):
    return plugin("destination", "memory", name=request.node.nodeid)


def job(store, *, claim=Claim(), source=None, rows=10):  # noqa: B008 -- frozen
    source = source or plugin("source", "test", rows=rows)
    return Job("made", source, [Into("store", store, WriteMode.OVERWRITE)], backend=None, claim=claim)


def held(store, *, process=None, ago_s=0.0, ttl_s=60.0):
    """As if another run held the lease since ``ago_s``."""
    assert sync(job(store)).exit_code == 0
    now_us = int((datetime.now(UTC).timestamp() - ago_s) * 1e6)
    lease = Lease("the other", now_us, now_us, ttl_s, process or GONE)
    before = store.states.load("made")[KEY]
    state = before.following(run_id="the other", epoch=before.epoch + 1, cursor=lease.cursor)
    store.states.save(KEY, state, expected=before.token)
    return lease


def holder(store):
    return Lease.of(store.states.load("made")[KEY])


def test_while_a_run_goes_on_the_second_one_is_told_who_holds_the_lease_and_reads_nothing(store):
    lease = held(store)
    report = sync(job(store))
    assert report.exit_code == 4
    (task,) = report.tasks
    assert task.rows_read == 0
    for told in (lease.run_id, "elsewhere", "pid 1", "last sign of life"):
        assert told in task.error.message
    assert "--wait-lock" in task.error.hint
    assert holder(store) == lease


def test_a_run_gives_its_lease_back_whether_it_completes_fails_or_is_stopped(store):
    assert sync(job(store)).exit_code == 0
    assert holder(store) is None
    failing = job(store)
    failing.source.read = lambda *_: (_ for _ in ()).throw(RuntimeError("broken"))
    assert sync(failing).exit_code != 0
    assert holder(store) is None
    assert sync(job(store)).exit_code == 0


def test_a_lease_without_a_sign_of_life_expires(store):
    held(store, ago_s=61)
    assert sync(job(store)).exit_code == 0


def test_a_lease_lasts_for_as_long_as_its_holder_said(store):
    held(store, ago_s=61, ttl_s=120)
    assert sync(job(store)).exit_code == 4


def test_nobody_waits_for_a_process_of_this_machine_that_has_ended(store):
    here = Process.current()
    held(store, process=replace(here, started="another process had this pid"))
    assert sync(job(store)).exit_code == 0


def test_a_process_of_this_machine_that_lives_is_not_taken_for_dead(store):
    held(store, process=Process.current())
    assert sync(job(store)).exit_code == 4


def test_takeover_fences_the_other_run_out(store):
    held(store)
    before = store.states.load("made")[KEY].epoch
    assert sync(job(store, claim=Claim(takeover=True))).exit_code == 0
    assert store.states.load("made")[KEY].epoch > before


def test_whoever_waits_goes_on_when_the_lease_is_given_back(store):
    held(store)
    said = []

    def give_back(event):
        if event.kind is EventKind.WAITING:
            said.append(event.text)
            before = store.states.load("made")[KEY]
            state = before.following(run_id="the other", epoch=before.epoch, cursor=None)
            store.states.save(KEY, state, expected=before.token)

    assert sync(job(store, claim=Claim(wait_s=60)), observer=give_back).exit_code == 0
    assert len(said) == 1
    assert "the other" in said[0]


def test_patience_ends(store):
    lease = held(store)
    assert sync(job(store, claim=Claim(wait_s=0.01))).exit_code == 4
    assert holder(store) == lease


@pytest.mark.parametrize("off_s", [-86_400, 86_400])
def test_a_clock_that_is_a_day_wrong_cannot_lock_a_source_for_a_day(store, off_s):
    """At worst a run that lives is fenced out."""
    held(store)
    assert sync(job(store), clock=At(off_s=off_s)).exit_code == 0


def test_whoever_waits_needs_no_clock_to_see_that_nobody_lives(store):
    """The holder's clock is ahead just so much that its last sign of life stays young; time runs for the waiting one."""
    held(store, ago_s=-59)
    assert sync(job(store, claim=Claim(wait_s=10_000)), clock=At(pace=200)).exit_code == 0


def test_signs_of_life_are_given_while_a_run_goes_on(store):
    beats, enough = set(), threading.Event()

    class Slow:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def read(self, *arguments):
            while len(beats) < 3:
                beats.add(holder(store).beat_us)
            enough.set()
            return self._inner.read(*arguments)

    slow = Slow(plugin("source", "test", rows=10))
    assert sync(job(store, claim=Claim(ttl_s=0.2), source=slow)).exit_code == 0
    assert enough.is_set()


def test_a_run_that_was_fenced_out_stops_at_its_next_sign_of_life(store):
    """It need not come to a write: a source that yields nothing for hours is left too."""

    class Endless:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def read(self, *_):
            assert sync(job(store, claim=Claim(takeover=True))).exit_code == 0
            while True:
                yield from ()
                if stopped.wait(0.01):
                    return

    stopped = threading.Event()
    endless = Endless(plugin("source", "test", rows=10))
    reports = []
    run = threading.Thread(
        target=lambda: reports.append(sync(job(store, claim=Claim(ttl_s=0.2), source=endless))), daemon=True
    )
    run.start()
    run.join(20)
    stopped.set()
    assert reports[0].exit_code == 4
    assert holder(store) is None


def test_of_many_runs_at_once_one_holds_the_lease(store):
    assert sync(job(store)).exit_code == 0
    go, reports = threading.Barrier(4), []

    def run():
        go.wait()
        reports.append(sync(job(store)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    codes = sorted(report.exit_code for report in reports)
    assert set(codes) <= {0, 4}
    assert codes[0] == 0
    assert holder(store) is None


def test_a_plan_tells_of_a_run_that_goes_on(store):
    held(store)
    (planned,) = plan(job(store))
    assert "the other" in " ".join(planned.warnings)


def test_a_lease_of_a_form_that_is_not_known_locks_nobody_out(store):
    assert sync(job(store)).exit_code == 0
    before = store.states.load("made")[KEY]
    state = before.following(run_id="later", epoch=before.epoch, cursor={"lease": {"of": "a later version"}})
    store.states.save(KEY, state, expected=before.token)
    assert sync(job(store)).exit_code == 0


@pytest.mark.parametrize("claim", [Claim(), Claim(takeover=True)], ids=["plain", "takeover"])
def test_a_destination_that_somebody_keeps_locked_is_waited_for_once(store, claim):
    """By its own timeout; a run that is suspended inside a transaction may hold the lock for ever."""
    assert sync(job(store)).exit_code == 0
    locked = Injector(Point("states.save", 1), lambda: LockedError("another process writes"), forever=True)
    report = sync(job(faulty_destination(store, locked), claim=claim))
    assert report.exit_code == 4
    assert locked.struck == 1


class Around:
    """A source that does something before it yields."""

    def __init__(self, before):
        self._inner, self._before = plugin("source", "test", rows=10), before

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def read(self, *arguments):
        self._before()
        return self._inner.read(*arguments)


class Trouble(Outside):
    """Raises at each call of ``states.save`` that is in ``numbers``, after it was done; and at some look-ups behind it."""

    def __init__(self, numbers, error, *, blind=False):
        super().__init__()
        self.numbers, self.error, self.blind, self.saves = numbers, error, blind, 0
        self.hidden = False

    def strike(self, point):
        if point.call == "states.load" and self.hidden:
            self.hidden = False
            raise UnreachableError("no route")
        if point.call == "states.save" and point.after:
            self.saves += 1
            if self.saves in self.numbers:
                self.hidden = self.blind
                raise self.error()


def beats(trouble, count):
    """Waits until so many saves were made, of which the first takes the lease."""
    deadline_s = time.monotonic() + 20
    while trouble.saves < count:
        assert time.monotonic() < deadline_s, trouble.saves
        time.sleep(0.005)


def test_a_run_whose_sign_of_life_got_no_reply_is_not_fenced_by_itself(store):
    assert sync(job(store)).exit_code == 0
    trouble = Trouble({2}, lambda: StateError("no reply"), blind=True)
    source = Around(lambda: beats(trouble, 4))
    report = sync(job(faulty_destination(store, trouble), claim=Claim(ttl_s=0.2), source=source))
    assert report.exit_code == 0, report
    assert holder(store) is None


@pytest.mark.parametrize("error", [UsageError, TaskError, OSError], ids=lambda one: one.__name__)
def test_whatever_becomes_of_its_signs_of_life_a_complete_run_is_complete(store, error):
    assert sync(job(store)).exit_code == 0
    trouble = Trouble(range(2, 1000), lambda: error("broken"))
    source = Around(lambda: beats(trouble, 3))
    report = sync(job(faulty_destination(store, trouble), claim=Claim(ttl_s=0.2), source=source))
    assert report.tasks[0].status is Status.COMPLETED
    assert report.exit_code == 0, report


@pytest.mark.parametrize("why", ["lease", "lock"])
def test_a_signal_ends_the_waiting(store, why):
    held(store)
    stop, into = Stop(), store
    if why == "lock":
        sync(job(store, claim=Claim(takeover=True)))
        into = faulty_destination(store, Injector(Point("states.save", 1), lambda: LockedError("held"), forever=True))
        threading.Timer(0.3, stop.set, [15]).start()

    def signalled(event):
        if event.kind is EventKind.WAITING:
            stop.set(15)

    report = sync(job(into, claim=Claim(wait_s=1000)), stop=stop, observer=signalled)
    assert report.exit_code == 128 + 15


def test_a_lease_that_was_taken_only_in_part_holds_nobody_up(store):
    assert sync(job(store)).exit_code == 0
    backend = plugin("state_backend", "memory")
    mirrored = replace(job(store), backend=backend)
    assert sync(mirrored).exit_code == 0
    locked = FaultyStates(backend, Injector(Point("backend.save", 1), lambda: LockedError("held"), forever=True))
    assert sync(replace(job(store), backend=locked)).exit_code == 4
    assert holder(store) is None


def test_a_destination_that_hangs_does_not_hold_up_the_end_of_a_run(store, monkeypatch):
    assert sync(job(store)).exit_code == 0
    monkeypatch.setattr(lease_module, "_END_S", 0.2)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang():
        hangs.set()
        goes_on.wait(60)

    giving_back = Meanwhile({Point("states.save", 2): hang})
    events = []
    report = sync(job(faulty_destination(store, giving_back)), observer=events.append)
    assert hangs.is_set()
    assert report.exit_code == 0
    assert any("may not have been given back" in event.text for event in events)
    goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "heartbeat":
            thread.join(60)


def test_a_reset_that_one_destination_refuses_changes_none(store, request):
    other = plugin("destination", "memory", name=f"{request.node.nodeid} of others")
    both = replace(job(store), into=[Into("other", other, WriteMode.OVERWRITE), *job(store).into])
    assert sync(both).exit_code == 0
    held(store)
    before = other.states.load("made")
    with pytest.raises(LockedError, match="the other"):
        reset_states(both, [], [], actor="ann", now=datetime.now(UTC))
    assert other.states.load("made") == before


def test_a_reset_of_what_one_destination_does_not_know_changes_none(store, request):
    other = plugin("destination", "memory", name=f"{request.node.nodeid} of others")
    both = replace(job(store), into=[Into("other", other, WriteMode.OVERWRITE), *job(store).into])
    assert sync(replace(both, into=both.into[:1])).exit_code == 0
    before = other.states.load("made")
    (task,) = {key.task for key in before} - {RUN_TASK}
    with pytest.raises(UsageError, match=f"no state of '{task}' in 'store'"):
        reset_states(both, [task], [], actor="ann", now=datetime.now(UTC))
    assert other.states.load("made") == before


def test_a_process_that_proc_does_not_show_is_not_taken_for_dead(monkeypatch):
    here = Process.current()
    monkeypatch.setattr(lease_module, "_started", lambda pid: None)
    monkeypatch.setattr(lease_module.Process, "current", classmethod(lambda cls: here))
    assert not here.ended
