"""Shards: together they do what one run does; where they meet, one goes on and the other is kept out, as two runs always are."""

import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from test_claims import meanwhile
from test_engine import Numbers, backend, destination, ids, job
from test_engine_borders import Plain
from test_partitions import Accounts

from strandline.destination import WriteMode
from strandline.engine.lease import Claim, Lease
from strandline.engine.ledger import ATTEMPTS_MAX
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.errors import StateConflictError, TaskError
from strandline.shard import Shard
from strandline.state import RUN_TASK, State, StateKey, is_run
from strandline.table import Table
from strandline.testing.crash import worth_striking
from strandline.testing.faults import FaultySource, FaultyStates, Killed, Killer, Outside, faulty_destination

NAMES = "abcdefgh"
OTHERS = Claim(takeover=True)


@pytest.fixture
def inner(request):
    return destination(request.node.nodeid)


@pytest.fixture(params=[True, False], ids=["keeps states", "keeps no states"])
def store(request, inner):
    return inner if request.param else Plain(inner)


def part(source, store, shard, **more):
    return job(source, store, shard=Shard.of(shard), **more)


def of_tasks(states):
    return {key: state for key, state in states.load("numbers").items() if not is_run(key.task)}


def cursors(states):
    return {key.task: state.cursor for key, state in of_tasks(states).items()}


def stored(inner):
    return {name: ids(inner, name) for name in NAMES}


@pytest.mark.parametrize("mode", WriteMode)
def test_all_shards_together_do_what_one_run_does_and_each_task_is_read_once(store, inner, mode):
    kept, read = backend(), []
    for count in (6, 9):
        for number in range(3):
            source = Numbers(*NAMES, count=count, trouble=lambda *row: read.append(row))
            report = sync(part(source, store, f"{number}/3", mode=mode, backend=kept))
            assert (report.exit_code, report.shard, report.record()["shard"]) == (0, f"{number}/3", f"{number}/3")
            assert {task.task for task in report.tasks} == {one for one in NAMES if Shard(number, 3).owns(one)}
        assert stored(inner) == {name: list(range(count)) for name in NAMES}
        assert cursors(kept) == {name: {"next": count} for name in NAMES}
    assert sorted(read) == [(name, number) for name in NAMES for number in range(9)]
    whole = sync(job(Numbers(*NAMES, count=9), store, mode=mode, backend=kept))
    assert (whole.exit_code, whole.shard, sum(task.rows_read for task in whole.tasks)) == (0, "", 0)


def test_another_number_of_shards_moves_no_cursor(store, inner):
    kept = backend()
    for count, shards in ((6, 2), (7, 5), (8, 1), (9, 3)):
        for number in range(shards):
            report = sync(part(Numbers(*NAMES, count=count), store, f"{number}/{shards}", backend=kept))
            assert report.exit_code == 0
            assert all(task.cursor_from in (None, {"next": max(6, count - 1)}) for task in report.tasks if count > 6)
    assert stored(inner) == {name: list(range(9)) for name in NAMES}


def test_shards_run_at_once_also_the_first_time_and_are_one_project(inner):
    """What tells the project is made by the first of them that gets so far."""
    kept, gate, reports, projects = backend(), threading.Barrier(4), {}, set()

    class Together(FaultyStates):
        waited = False

        def save(self, key, state, *, expected):
            if key.task == RUN_TASK:
                projects.add(state.cursor["project"])
            return super().save(key, state, expected=expected)

        def load(self, source):
            found = super().load(source)
            if not self.waited:
                self.waited = True
                gate.wait(60)
            return found

    def run(number):
        one = part(Numbers(*NAMES), inner, f"{number}/4", backend=Together(kept, Outside()), concurrency=1)
        reports[number] = sync(one)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [reports[number].exit_code for number in range(4)] == [0] * 4, [one.error for one in reports.values()]
    assert stored(inner) == {name: list(range(6)) for name in NAMES}
    root = StateKey("numbers", RUN_TASK, "d0")
    assert {one.load("numbers")[root].cursor["project"] for one in (inner.states, kept)} == projects
    assert len(projects) == 1
    assert sync(job(Numbers(*NAMES, count=7), inner, backend=kept)).exit_code == 0


def test_what_a_shard_does_not_own_it_does_not_touch_nor_speak_of(store, inner):
    kept = backend()
    assert sync(job(Numbers(*NAMES), store, backend=kept)).exit_code == 0
    before = of_tasks(kept)
    gone = [name for name in NAMES if name not in "bc"]
    whole = {str(one.left_out or one.error) for one in plan(job(Numbers(*gone), store, backend=kept)) if one.problem}
    said = []
    for number in range(2):
        one = part(Numbers(*gone, count=7), store, f"{number}/2", backend=kept)
        said += [str(it.left_out or it.error) for it in plan(one) if it.problem]
        report = sync(one)
        assert report.exit_code == 0
        assert len(report.warnings) == 1
        others = {key for key in before if not Shard(number, 2).owns(key.task)}
        if number == 0:
            assert {key: of_tasks(kept)[key] for key in others} == {key: before[key] for key in others}
    assert {*said} == whole
    assert len(said) == len(whole) == 2


def test_a_partition_that_cannot_be_read_fails_its_own_shard_only(inner):
    source, kept = Accounts(), backend()
    source.failing = {"y": TaskError("the key of account y was withdrawn", hint="give it a new one")}
    owner = next(number for number in range(3) if Shard(number, 3).owns("a/y"))
    codes = [sync(part(source, inner, f"{number}/3", backend=kept)).exit_code for number in range(3)]
    assert codes == [int(number == owner) for number in range(3)]
    assert ids(inner) == [*range(6), *range(200, 206)]


def test_a_shard_that_deletes_stale_rows_spares_those_of_the_others(inner):
    kept, mode = backend(), WriteMode.OVERWRITE_DELETE_STALE
    whole = [Accounts() for _ in range(3)]
    for number, source in enumerate(whole):
        source.offered = [replace(table, incremental=False, incremental_key=()) for table in source.offered]
        assert sync(part(source, inner, f"{number}/3", mode=mode, backend=kept)).exit_code == 0
    assert ids(inner) == [*range(6), *range(100, 106), *range(200, 206)]
    for source in whole:
        source.count = 4
    owner = next(number for number in range(3) if Shard(number, 3).owns("a/x"))
    one = part(whole[owner], inner, f"{owner}/3", mode=mode, backend=kept)
    owned = [task.id for task in source.tasks(source.tables()) if Shard(owner, 3).owns(task.id)]
    report = sync(one)
    assert report.exit_code == 0
    counts = {name: 4 if f"a/{name}" in owned else 6 for name in "xyz"}
    assert ids(inner) == [100 * n + i for n, name in enumerate("xyz") for i in range(counts[name])]


# where shards meet


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ("0/2", "0/2", True),
        ("0/2", "1/2", False),
        ("0/2", "1/3", True),
        ("0/2", "", True),
        ("", "0/2", True),
        ("1/2", "2/4", False),
    ],
)
def test_a_run_that_meets_another_is_told_whose_lease_it_is(store, inner, first, second, refused):
    kept, told = backend(), []

    def one(shard, **more):
        made = job(Numbers(*NAMES, **more), store, backend=kept, concurrency=1)
        made.shard = Shard.of(shard) if shard else None
        return made

    def start():
        told.append(sync(one(second)))
        told.append(plan(one(second)))

    started = [start]
    holder = one(first, trouble=lambda *_: started.pop()() if started else None)
    assert sync(holder).exit_code == 0
    report, plans = told
    assert report.exit_code == (4 if refused else 0)
    errors = [task.error.message for task in report.tasks if task.error is not None]
    about = f" (shard {first})" if first else ""
    assert all(f"{about} has been syncing numbers into d0" in text for text in errors)
    assert bool(errors) is refused
    assert bool([one for one in plans for text in one.warnings if "has been syncing" in text]) is refused
    if not refused:
        assert sync(one("")).exit_code == 0
        assert stored(inner) == {name: list(range(6)) for name in NAMES}


@pytest.mark.parametrize(
    ("first", "later"),
    [("0/2", ["0/2"]), ("0/2", ["0/3", "1/3", "2/3"]), ("1/3", ["0/2", "1/2"]), ("0/2", [""]), ("", ["0/2", "1/2"])],
    ids=lambda one: "+".join(one) if isinstance(one, list) else one or "all",
)
@pytest.mark.parametrize("mode", WriteMode)
def test_a_run_that_was_overtaken_by_other_shards_leaves_neither_gap_nor_duplicate(store, inner, mode, first, later):
    """It is suspended in the middle of a task, and wakes up when the others have done its work with newer rows."""
    kept = backend()

    def one(shard, source, **more):
        made = job(source, store, mode=mode, backend=kept, concurrency=1, **more)
        made.shard = Shard.of(shard) if shard else None
        return made

    assert sync(job(Numbers(*NAMES, count=2), store, mode=mode, backend=kept)).exit_code == 0
    saved = []

    def overtake():
        for shard in later:
            assert sync(one(shard, Numbers(*NAMES, count=9), claim=OTHERS)).exit_code == 0
        saved.append(cursors(kept))

    report = sync(one(first, Numbers(*NAMES, count=5, trouble=meanwhile(4, overtake)), rows_max=1))
    assert report.exit_code == 4
    owned = {name for name in NAMES if not first or Shard.of(first).owns(name)}
    assert {name: cursors(kept)[name] for name in owned} == {name: {"next": 9} for name in owned}
    assert saved == [cursors(kept)]
    final = sync(one("", Numbers(*NAMES, count=9)))
    assert final.exit_code == 0
    assert {name: {*there} for name, there in stored(inner).items()} == {name: {*range(9)} for name in NAMES}
    if not isinstance(store, Plain) or mode is not WriteMode.APPEND:
        assert stored(inner) == {name: list(range(9)) for name in NAMES}


@pytest.mark.parametrize("lost", [0, 1, ATTEMPTS_MAX - 1])
@pytest.mark.parametrize("later", ["0/2", "0/3"], ids=["by the same shard", "by one that meets it"])
def test_a_run_that_was_overtaken_changes_no_table_either(inner, later, lost):
    """Nor does who goes on for as many workers of it as may be lost."""
    kept, fences = backend(), []
    sound = inner.write
    inner.write = lambda window, *, mode, fence: fences.append(fence) or sound(window, mode=mode, fence=fence)

    def overtake():
        assert sync(part(Numbers(*NAMES), inner, later, backend=kept, claim=OTHERS)).exit_code == 0

    sync(part(Numbers(*NAMES, trouble=meanwhile(4, overtake)), inner, "0/2", backend=kept, concurrency=1, rows_max=1))
    overtaken = fences[0]
    assert overtaken.key == StateKey("numbers", "@run 0/2", "d0")
    table = Table("new", Numbers("new").offered[0].schema, ("id",))
    with pytest.raises(StateConflictError):
        inner.migrate(table, mode="safe", fence=replace(overtaken, epoch=overtaken.epoch + lost))


def test_shards_that_both_take_over_a_dead_run_do_not_fence_each_other_out(store, inner):
    kept = backend()
    states = inner.states if store is inner else kept

    assert sync(job(Numbers(*NAMES, count=2), store, backend=kept)).exit_code == 0
    hold(states)
    inside = []

    def sibling():
        inside.append(sync(part(Numbers(*NAMES), store, "1/2", backend=kept, claim=OTHERS)).exit_code)

    one = part(Numbers(*NAMES, trouble=meanwhile(3, sibling)), store, "0/2", backend=kept, claim=OTHERS, concurrency=1)
    assert sync(one).exit_code == 0
    assert inside == [0]
    assert stored(inner) == {name: list(range(6)) for name in NAMES}


def hold(states):
    """As if a run of all tasks had died without giving back its lease."""
    key = StateKey("numbers", RUN_TASK, "d0")
    before = states.load("numbers")[key]
    cursor = {**(before.cursor or {}), **Lease("dead", 0, 0, 60.0).cursor}
    states.save(key, before.following(run_id="dead", epoch=before.epoch, cursor=cursor), expected=before.token)


@pytest.mark.parametrize("later", ["0/3 1/3 2/3", "all"])
def test_a_shard_that_is_killed_anywhere_is_gone_on_with_by_whoever_has_its_tasks_next(request, later):
    """In append mode, where a row that comes twice would be seen."""
    names, points = "ac", None

    def run(store, kept, shard, outside, count):
        source = FaultySource(Numbers(*names, count=count), outside)
        made = job(
            source, faulty_destination(store, outside), backend=FaultyStates(kept, outside), claim=OTHERS, concurrency=1
        )
        made.shard = Shard.of(shard) if shard != "all" else None
        return sync(made)

    def world(number):
        store, kept = destination(f"{request.node.nodeid} {number}"), backend()
        assert run(store, kept, "all", Outside(), 2).exit_code == 0
        return store, kept

    outside = Outside()
    assert run(*world("undisturbed"), "0/2", outside, 5).exit_code == 0
    points = worth_striking(outside)
    assert any(point.call == "destination.write" for point in points)
    points = points[later == "all" :: 2]  # every other one each
    kills = 0
    for number, point in enumerate(points):
        store, kept = world(number)
        killer = Killer(point)
        with suppress(Killed):
            run(store, kept, "0/2", killer, 5)
        kills += killer.dead
        for _ in range(2):
            for shard in later.split():
                assert run(store, kept, shard, Outside(), 6).exit_code == 0, point
        assert {name: ids(store, name) for name in names} == {name: list(range(6)) for name in names}, point
    assert kills > len(points) // 2


@pytest.mark.parametrize("takeover", [False, True])
def test_of_two_that_begin_at_the_same_moment_one_finds_the_other(inner, takeover):
    """Neither had seen the other's lease when it looked; each has saved its own before it looks again."""
    kept, states, begun = backend(), inner.states, []
    assert sync(job(Numbers(*NAMES, count=2), inner, backend=kept)).exit_code == 0
    other, mine = (StateKey("numbers", Shard.of(shard).run, "d0") for shard in ("0/3", "0/2"))

    class AtOnce(FaultyStates):
        def save(self, key, state, *, expected):
            if key == mine and not begun:
                now_us = int(time.time() * 1e6)
                lease = Lease("the other", now_us, now_us, 60.0)
                begun.append(states.save(other, State(lease.cursor, state.epoch, 1, "the other"), expected=None))
            return super().save(key, state, expected=expected)

    class Store(type(inner)):
        states = AtOnce(inner.states, Outside())

    inner.__class__ = Store
    one = part(Numbers(*NAMES), inner, "0/2", backend=kept, claim=Claim(takeover=takeover))
    report = sync(one)
    assert begun
    found = states.load("numbers")
    assert report.exit_code == (0 if takeover else 4)
    assert Lease.of(found[mine]) is None
    assert (Lease.of(found[other]) is None) is takeover
    assert {task.rows_read for task in report.tasks} == {4 if takeover else 0}
