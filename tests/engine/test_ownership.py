"""Whose table is it: what a sync, a plan and a migration refuse, and the ways out."""

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from test_engine import Numbers, backend, destination, ids, job

from strandline.destination import Fence, MigrateMode, WriteMode
from strandline.engine.administer import migrate, reset_states
from strandline.engine.adoption import adopt
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.errors import StateError, UsageError
from strandline.message import Checkpoint, Complete, Insert
from strandline.ownership import Owner
from strandline.rules import TableRules
from strandline.runs import Status
from strandline.table import SOURCE_NAME, SYNC_TIME, Table, sync_time_type
from strandline.testing.plain import PlainDestination
from strandline.testing.windows import Lineage, batch_of

ALL_MODES = [WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.OVERWRITE_DELETE_STALE]


@pytest.fixture
def store(request):
    return destination(request.node.nodeid)


def ruled(one, **rules):
    """The job with rules of all its tables."""
    return replace(one, into=[replace(into, rules=lambda _: TableRules(**rules)) for into in one.into])


def named(one, source="numbers", into="d0", known=()):
    """The job under other names."""
    owners = frozenset([Owner(source, into), *known])
    return replace(one, name=source, into=[replace(each, name=into, known=owners) for each in one.into])


def foreign(store, name="a", *, full=True):
    """A table that somebody made, with rows."""
    fields = [pa.field(SYNC_TIME, sync_time_type()), pa.field(SOURCE_NAME, pa.string()), pa.field("id", pa.int64())]
    table = Table(name, pa.schema(fields), ("id",))
    lineage = Lineage(store, source="somebody", task=name)
    lineage.migrate(table)
    if full:
        lineage.write(Insert(name, batch_of(table, {"id": [100]})))
    return table


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("refresh", [False, True])
def test_full_tables_of_others_are_refused_before_anything_is_touched(store, mode, refresh):
    for name in ("b", "c"):
        foreign(store, name)
    one = job(Numbers("a", "b", "c"), store, mode=mode, refresh=lambda _: refresh)
    report = sync(one)
    assert report.exit_code == 2
    assert [problem.message.split("'")[1] for problem in report.error.problems] == ["b", "c"]
    assert all("`adopt: true`" in problem.hint and "drop" not in problem.hint for problem in report.error.problems)
    assert [found.problem != "" for found in plan(one)] == [False, True, True]
    assert {found.exit_code for found in plan(one)} == {0, 2}
    with pytest.raises(UsageError) as refused:
        migrate(one, run_id="r")
    assert len(refused.value.problems) == 2
    assert (
        store.migrate(Numbers("a").tables()[0], mode=MigrateMode.SAFE, fence=Fence("s", "d", 0, ""), apply=False).mark
        is None
    )
    assert ids(store, "b") == [100]


def test_an_empty_table_of_others_is_taken_over_and_said_so(store):
    foreign(store, full=False)
    one = job(Numbers("a"), store)
    assert "taken over" in plan(one)[0].warnings[0]
    report = sync(one)
    assert "taken over" in report.tasks[0].warnings[0]
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    assert not sync(one).tasks[0].warnings


def test_a_full_table_is_taken_over_by_who_adopts_it(store):
    foreign(store)
    report = sync(ruled(job(Numbers("a"), store), adopt=True))
    assert report.exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5, 100]
    assert sync(job(Numbers("a"), store)).exit_code == 0


def test_a_table_has_the_name_that_the_spec_gives_it(store):
    foreign(store)
    assert sync(ruled(job(Numbers("a"), store), name="mine")).exit_code == 0
    assert ids(store, "mine") == [0, 1, 2, 3, 4, 5]
    assert ids(store, "a") == [100]
    assert sync(ruled(job(Numbers("a"), store), name="mine")).tasks[0].rows_read == 0


class Unmarked(PlainDestination):
    """Nor does it know its tables again."""

    def migrate(self, *arguments, **more):
        found = super().migrate(*arguments, **more)
        return replace(found, mark=found.mark and "")


@pytest.mark.parametrize("kind", [PlainDestination, Unmarked])
@pytest.mark.parametrize("count", [0, 6])
def test_without_a_register_another_name_does_not_lead_into_a_table_of_others(tmp_path, kind, count):
    store, source = kind(kind.Spec(path=str(tmp_path))), Numbers("a", count=count)
    foreign(store, "theirs")
    before = job(source, store, mode=WriteMode.OVERWRITE)
    for _ in range(2):
        assert sync(before).exit_code == 0
    source.count += 1
    report = sync(ruled(before, name="theirs"))
    assert report.exit_code == 2
    assert plan(ruled(before, name="theirs"))[0].exit_code == 2
    assert ids(store, "theirs") == [100]
    assert sync(before).exit_code == 0


def test_without_a_register_a_table_that_was_adopted_stays_ours_without_a_row(tmp_path):
    store, source = PlainDestination(PlainDestination.Spec(path=str(tmp_path))), Numbers("a", count=0)
    foreign(store)
    one = job(source, store, mode=WriteMode.OVERWRITE)
    assert sync(one).exit_code == 2
    assert sync(ruled(one, adopt=True)).exit_code == 0
    source.count = 2
    assert sync(one).exit_code == 0
    assert ids(store) == [0, 1, 100]


class Later(Numbers):
    """Other keys."""

    def read(self, task, reading):
        for message in super().read(task, reading):
            if isinstance(message, Insert):
                yield replace(message, batch=pa.record_batch({"id": pc.add(message.batch.column("id"), 100)}))
            else:
                yield message


@pytest.mark.parametrize("mode", ALL_MODES)
def test_two_sources_do_not_write_one_table_unless_both_say_so(store, mode):
    first, second = (
        named(job(one, store, mode=mode), name) for one, name in ((Numbers("a"), "one"), (Later("a"), "two"))
    )
    assert sync(first).exit_code == 0
    assert sync(second).exit_code == 2
    assert sync(ruled(second, shared=True)).exit_code == 2
    assert sync(ruled(first, shared=True)).exit_code == 0
    assert sync(ruled(second, shared=True)).exit_code == 0
    assert sync(ruled(first, shared=True)).exit_code == 0


def test_two_sources_of_a_spec_share_a_table_though_the_other_has_not_said_so_to_the_destination(store):
    first, second = (named(job(Numbers("a"), store), name) for name in ("one", "two"))
    assert sync(first).exit_code == 0
    both = frozenset([Owner("one", "d0", shared=True), Owner("two", "d0", shared=True)])
    second = ruled(replace(second, into=[replace(into, sharers=lambda _: both) for into in second.into]), shared=True)
    assert sync(second).exit_code == 0


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("what", ["source", "destination"])
def test_another_name_is_no_first_sync(store, mode, outside, what):
    states = backend() if outside else None
    before, source = job(Numbers("a"), store, mode=mode, backend=states), Numbers("a")
    assert sync(before).exit_code == 0
    after = named(replace(before, source=source), "counted") if what == "source" else named(before, into="lake")
    report = sync(after)
    assert report.exit_code == 3
    assert isinstance(report.tasks[0].error, StateError)
    assert "'numbers' into 'd0'" in report.tasks[0].error.message
    assert "old name" in report.tasks[0].error.hint
    assert "`adopt: true`" in report.tasks[0].error.hint
    assert plan(after)[0].exit_code == 3
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    assert sync(before).exit_code == 0, "the old name goes on"


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("what", ["source", "destination"])
def test_who_adopts_goes_on_under_the_new_name(store, mode, outside, what):
    states, source = backend() if outside else None, Numbers("a")
    before = job(source, store, mode=mode, backend=states)
    assert sync(before).exit_code == 0
    source.count += 2
    after = named(before, "counted") if what == "source" else named(before, into="lake")
    adopting = ruled(after, adopt=True)
    assert plan(adopting)[0].cursor == {"next": 6}
    report = sync(adopting)
    assert (report.exit_code, report.tasks[0].rows_read) == (0, 2)
    assert any("adopt" in text for text in report.tasks[0].warnings)
    assert ids(store) == [0, 1, 2, 3, 4, 5, 6, 7]
    rows = [row for batch in store.read(_stored(store)) for row in batch.to_pylist()]
    assert {row[SOURCE_NAME] for row in rows} == {"counted" if what == "source" else "numbers"}
    assert sync(after).tasks[0].rows_read == 0
    assert sync(before).exit_code != 0, "the old name is over"


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("what", ["source", "destination"])
def test_who_goes_back_to_the_old_name_has_no_row_twice_and_none_too_many(store, mode, outside, what):
    source = Numbers("a")
    before = named(job(source, store, mode=mode, backend=backend() if outside else None))
    assert sync(before).exit_code == 0
    after = named(before, "counted") if what == "source" else named(before, into="lake")
    assert sync(ruled(after, adopt=True)).exit_code == 0
    source.count += 2
    assert sync(after).exit_code == 0
    assert sync(before).exit_code == 3, "it would go on from a cursor that is over"
    assert plan(before)[0].exit_code == 3
    source.count += 1
    report = sync(ruled(before, adopt=True))
    assert (report.exit_code, report.tasks[0].rows_read) == (0, 1)
    assert ids(store) == list(range(9))
    assert {row[SOURCE_NAME] for batch in store.read(_stored(store)) for row in batch.to_pylist()} == {"numbers"}
    assert sync(before).tasks[0].rows_read == 0
    assert sync(after).exit_code == 3


def test_who_is_killed_as_it_follows_another_name_has_followed_it(store, monkeypatch):
    before = job(Numbers("a"), store, mode=WriteMode.APPEND)
    assert sync(before).exit_code == 0
    after = named(before, "counted")

    def killed(run, former):
        adopt(run, former)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("strandline.engine.task.adopt", killed)
        with pytest.raises(KeyboardInterrupt):
            sync(ruled(after, adopt=True))
    assert sync(before).exit_code == 3
    assert sync(after).exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5]


def test_a_run_that_goes_on_does_not_overwrite_who_has_taken_its_table(store):
    known, source = frozenset([Owner("one", "d0"), Owner("two", "d0")]), Numbers("a", count=40)
    first, second = (
        named(job(one, store, mode=WriteMode.OVERWRITE), name, known=known)
        for name, one in (("one", source), ("two", Numbers("a", count=40)))
    )
    taken = []

    def trouble(_, number):
        if number == 20:
            taken.append(sync(ruled(second, adopt=True)).exit_code)

    source.trouble = trouble
    assert sync(first).exit_code == 4
    assert taken == [0]
    assert {row[SOURCE_NAME] for batch in store.read(_stored(store)) for row in batch.to_pylist()} == {"two"}


def _stored(store):
    fields = [pa.field(SOURCE_NAME, pa.string()), pa.field("id", pa.int64())]
    return Table("a", pa.schema(fields), ("id",))


class Rereading(Numbers):
    """Reads all its rows again at every sync, and says so."""

    def read(self, task, reading):
        cursor = reading.cursor
        table = task.tables[0]
        rows = [{"id": number} for number in range(self.count)]
        yield Insert(table.name, pa.RecordBatch.from_pylist(rows, table.schema), reread=cursor is not None)
        yield Complete(table.name)
        yield Checkpoint({"next": self.count})


def test_rows_that_are_read_again_are_known_under_another_name_too(store):
    source = Rereading("a")
    before = job(source, store, mode=WriteMode.APPEND)
    for _ in range(2):
        assert sync(before).exit_code == 0
    known = len(ids(store))
    source.count += 1
    report = sync(ruled(named(before, "counted"), adopt=True))
    assert report.exit_code == 0
    for _ in range(2):
        assert sync(named(before, "counted")).exit_code == 0
    assert len(ids(store)) == known + 1


def test_a_renamed_source_that_is_another_projects_is_refused_as_one(store):
    mine, theirs = Placed("a"), Placed("a")
    mine.place, theirs.place = ["database 1"], ["database 2"]
    assert sync(named(job(theirs, store), "theirs")).exit_code == 0
    report = sync(named(job(mine, store), "mine"))
    assert report.exit_code == 2
    assert "'theirs' into 'd0'" in report.error.message


class Placed(Numbers):
    """Knows what it reads."""

    place = ()

    def places(self):
        return list(self.place)


def test_two_projects_of_equal_names_do_not_write_one_table(store):
    mine, theirs = Placed("a"), Placed("a")
    mine.place, theirs.place = ["database 1"], ["database 2"]
    one, other = backend(), backend()
    assert sync(job(theirs, store, backend=other)).exit_code == 0
    assert sync(job(mine, destination("another warehouse"), backend=one)).exit_code == 0
    report = sync(job(mine, store, backend=one))
    assert report.exit_code == 2
    assert "another project" in report.error.message
    assert [type(found.error) for found in plan(job(mine, store, backend=one))] == [UsageError]
    assert sync(job(theirs, store, backend=other)).exit_code == 0


def two_projects(store, *tables):
    """The one that is there, and one of equal names that comes; each with a database and a backend of its own."""
    theirs, mine = Placed(*tables), Placed(*tables)
    theirs.place, mine.place = ["database 1"], ["database 2"]
    return job(theirs, store, backend=backend()), job(mine, store, backend=backend())


def test_a_project_that_was_taken_over_does_not_write_on(store):
    theirs, mine = two_projects(store, "a")
    assert sync(theirs).exit_code == 0
    assert sync(ruled(mine, adopt=True)).exit_code == 0
    report = sync(theirs)
    assert report.exit_code == 2
    assert "another project" in report.error.message
    assert sync(mine).exit_code == 0


def test_who_takes_over_one_table_of_another_project_does_not_write_the_others(store):
    theirs, mine = two_projects(store, "a", "b")
    assert sync(theirs).exit_code == 0
    only = replace(
        mine, select=lambda tables: [one for one in tables if one.name == "a"], selects=lambda name: name == "a"
    )
    assert sync(ruled(only, adopt=True)).exit_code == 3
    assert sync(mine).exit_code == 3
    assert sync(theirs).exit_code == 0


def test_nobody_resets_the_cursors_of_another_project(store):
    theirs, mine = two_projects(store, "a")
    assert sync(theirs).exit_code == 0
    with pytest.raises(StateError):
        reset_states(mine, ["a"], [], actor="ann", now=datetime.now(UTC))
    assert sync(mine).exit_code == 3
    report = sync(theirs)
    assert (report.exit_code, report.tasks[0].rows_read) == (0, 0)


@pytest.mark.parametrize("outside", [False, True])
def test_a_source_that_reads_another_database_is_not_taken_for_the_old_one(store, outside):
    source = Placed("a")
    source.place = ["database 1", "path /a"]
    one = job(source, store, backend=backend() if outside else None)
    assert sync(one).exit_code == 0
    source.place = ["database 1", "path /b"]
    assert sync(one).exit_code == 0, "one of the names is enough"
    source.place = ["database 2"]
    fresh = replace(one, backend=backend()) if outside else one
    report = sync(fresh)
    assert report.exit_code == 3
    assert {task.status for task in report.tasks} == {Status.FAILED}
    assert sync(ruled(fresh, adopt=True)).exit_code == 0
    assert sync(fresh).exit_code == 0


def test_a_project_that_has_its_own_state_may_move_its_database(store):
    source, states = Placed("a"), backend()
    source.place = ["path /a"]
    assert sync(job(source, store, backend=states)).exit_code == 0
    source.place = ["path /b"]
    assert sync(job(source, store, backend=states)).exit_code == 0


class PlacedStore:
    """A destination that says where it is."""

    def __init__(self, store, *places):
        self._store, self._places = store, places

    def places(self):
        return list(self._places)

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_a_source_is_not_written_into(store):
    source = Placed("a")
    source.place = ["database 1"]
    report = sync(job(source, PlacedStore(store, "database 1", "inode 7")))
    assert report.exit_code == 2
    assert "same database" in report.error.message


def test_one_database_under_two_names_is_not_written_twice(store):
    other = destination("the other name")
    report = sync(job(Numbers("a"), PlacedStore(store, "inode 7"), PlacedStore(other, "inode 7", "path /a")))
    assert report.exit_code == 2
    assert "twice" in report.error.message


def test_a_new_column_is_filled_by_reading_again_if_the_spec_says_so(store):
    source = Numbers("a")
    assert sync(job(source, store, mode=WriteMode.OVERWRITE)).exit_code == 0
    wide = Wider("a")
    one = ruled(job(wide, store, mode=WriteMode.OVERWRITE), backfill=True)
    assert (plan(one)[0].full, plan(one)[0].refresh) == (True, False)
    report = sync(one)
    assert (report.exit_code, report.tasks[0].full, report.tasks[0].rows_read) == (0, True, 6)
    assert not plan(one)[0].full
    assert sync(one).tasks[0].rows_read == 0


@pytest.mark.parametrize("mode", [WriteMode.OVERWRITE, WriteMode.OVERWRITE_DELETE_STALE])
def test_rows_that_the_source_does_not_show_any_more_are_not_gone_because_a_column_is_new(store, mode):
    assert sync(job(Numbers("a"), store, mode=mode)).exit_code == 0
    assert sync(ruled(job(Wider("a", count=3), store, mode=mode), backfill=True)).exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5]


def test_versions_that_were_appended_are_not_replaced_because_a_column_is_new(store):
    assert sync(job(Numbers("a"), store, mode=WriteMode.APPEND)).exit_code == 0
    report = sync(ruled(job(Wider("a"), store, mode=WriteMode.APPEND), backfill=True))
    assert (report.exit_code, report.tasks[0].rows_read) == (0, 0)
    assert "--full-refresh 'a'" in report.tasks[0].warnings[0]
    assert ids(store) == [0, 1, 2, 3, 4, 5]


class Wider(Numbers):
    """Has a column more."""

    def tables(self):
        schema = pa.schema({"id": pa.int64(), "more": pa.string()})
        return [replace(table, schema=schema) for table in super().tables()]
