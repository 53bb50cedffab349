"""A forced migration: a table is created again and read from nothing, or nothing is forgotten."""

from dataclasses import replace

import pyarrow as pa
import pytest

from strandline.destination import Fence, MigrateMode, WriteMode
from strandline.engine.administer import migrate
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lease import Claim
from strandline.engine.lineage import stored_table
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.engine.task import Retries
from strandline.engine.window import Bounds
from strandline.errors import RetryableError, StateError, TaskError
from strandline.message import Checkpoint, Complete, Insert
from strandline.plugins import load_plugin
from strandline.source import Task
from strandline.state import StateKey
from strandline.table import Table
from strandline.testing.crash import worth_striking
from strandline.testing.faults import FaultyStates, Injector, Killed, Killer, Outside, Point, faulty_destination

KEY = StateKey("shop", "all", "store")
FLAG, NUMBER = pa.bool_(), pa.int64()
QUICK = Retries(attempts_max=3, first_s=0.001, longest_s=0.001)
APPENDED = Into("store", None, WriteMode.APPEND, MigrateMode.FORCED, bounds=Bounds(rows_max=2))
MODES = pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])


class Values:
    """One task of tables whose column `v` has a type of its own; read by `id`, all after the cursor."""

    def __init__(self, **types):
        self.types, self.count = types, 6

    def tables(self):
        schemas = {name: pa.schema({"id": pa.int64(), "v": kind}) for name, kind in self.types.items()}
        return [Table(name, schema, ("id",), ("id",), incremental=True) for name, schema in schemas.items()]

    def tasks(self, tables):
        return [Task("all", tuple(tables))]

    def read(self, task, reading):
        cursor = reading.cursor
        first = 0 if cursor is None else cursor["next"]
        for number in range(first, self.count):
            for table in task.tables:
                columns = [pa.array([number], pa.int64()), pa.array([number]).cast(self.types[table.name])]
                yield Insert(table.name, pa.record_batch(columns, schema=table.schema))
            yield Checkpoint({"next": number + 1})
        for table in task.tables:
            yield Complete(table.name)
        yield Checkpoint({"next": self.count})

    def acknowledge(self, task, cursor):
        pass

    def close(self):
        pass


class World:
    """A destination and a backend, in memory or not yet used."""

    def __init__(self, name, mode=WriteMode.APPEND):
        kept, made = load_plugin("state_backend", "memory"), load_plugin("destination", "memory")
        made.reset(name)
        self.backend, self.store, self.mode = kept(kept.Spec()), made(made.Spec(name=name)), mode

    def job(self, source, outside=None, **more):
        outside = outside or Outside()
        into = replace(APPENDED, destination=faulty_destination(self.store, outside), mode=self.mode, **more)
        kept = FaultyStates(self.backend, outside)
        return Job("shop", source, [into], backend=kept, retries=QUICK, claim=Claim(takeover=True))

    def ids(self, name="a"):
        table = Table(name, pa.schema({"id": pa.int64()}), ("id",))
        return sorted(row["id"] for batch in self.store.read(table) for row in batch.to_pylist())

    @property
    def state(self):
        return self.store.states.load("shop")[KEY]


def filled(name, mode=WriteMode.APPEND, **types):
    world = World(name, mode)
    assert sync(world.job(Values(**types or {"a": FLAG}))).exit_code == 0
    return world


@pytest.fixture
def name(request):
    return request.node.nodeid


@MODES
def test_a_table_is_created_again_and_read_from_nothing(name, mode):
    world = filled(name, mode)
    (planned,) = plan(world.job(Values(a=NUMBER)))
    assert (planned.cursor, planned.full) == (None, True)
    report = sync(world.job(Values(a=NUMBER)))
    assert report.exit_code == 0
    assert "created again" in " ".join(report.tasks[0].warnings)
    assert world.ids() == [0, 1, 2, 3, 4, 5]
    again = sync(world.job(Values(a=NUMBER)))
    assert (again.exit_code, again.tasks[0].rows_read, again.tasks[0].warnings) == (0, 0, [])


def test_a_migration_that_is_forbidden_forgets_nothing(name):
    world = filled(name)
    report = sync(world.job(Values(a=NUMBER), may_migrate=False))
    assert report.exit_code == TaskError.exit_code
    assert world.state.cursor == {"next": 6}
    back = sync(world.job(Values(a=FLAG)))
    assert (back.exit_code, back.tasks[0].rows_read) == (0, 0)
    assert world.ids() == [0, 1, 2, 3, 4, 5]


def test_a_migration_that_fails_forgets_nothing(name):
    """As in PostgreSQL, where a view depends on the table."""
    world = filled(name)
    outside = Injector(Point("destination.migrate", 1), lambda: TaskError("a view depends on it"))
    assert sync(world.job(Values(a=NUMBER), outside)).exit_code == TaskError.exit_code
    assert outside.struck
    back = sync(world.job(Values(a=FLAG)))
    assert (back.exit_code, back.tasks[0].rows_read) == (0, 0)
    assert world.ids() == [0, 1, 2, 3, 4, 5]


@MODES
@pytest.mark.parametrize("later", [FLAG, NUMBER], ids=["put back", "the same"])
def test_wherever_it_is_killed_the_next_sync_stores_each_row_once(name, mode, later):
    outside = Outside()
    assert sync(filled(name, mode).job(Values(a=NUMBER), outside)).exit_code == 0
    for point in worth_striking(outside):
        world = filled(name, mode)
        with pytest.raises(Killed):
            sync(world.job(Values(a=NUMBER), Killer(point)))
        report = sync(world.job(Values(a=later)))
        assert report.exit_code == 0, (point, report)
        assert world.ids() == [0, 1, 2, 3, 4, 5], point


def test_whichever_call_fails_for_once_each_row_is_stored_once(name):
    outside = Outside()
    assert sync(filled(name).job(Values(a=NUMBER), outside)).exit_code == 0
    for point in outside.points:
        world = filled(name)
        sync(world.job(Values(a=NUMBER), Injector(point, lambda: RetryableError("line dropped"))))
        report = sync(world.job(Values(a=NUMBER)))
        assert report.exit_code == 0, (point, report)
        assert world.ids() == [0, 1, 2, 3, 4, 5], point


def test_a_table_that_somebody_else_creates_again_still_stops(name):
    world = filled(name)
    assert sync(world.job(Values(a=NUMBER))).exit_code == 0
    world.store.drop_table("a")
    stored = stored_table(Values(a=NUMBER).tables()[0], mode=world.mode, partitioned=False)
    world.store.migrate(stored, mode=MigrateMode.SAFE, fence=Fence("shop", "store", 99_000, "somebody else"))
    report = sync(world.job(Values(a=NUMBER)))
    assert isinstance(report.tasks[0].error, StateError)
    assert report.exit_code == 3


def test_rows_of_another_table_of_the_task_are_not_appended_again(name):
    """One cursor covers both, so that one of them alone cannot be read from nothing."""
    world = filled(name, a=FLAG, b=FLAG)
    changed = Values(a=NUMBER, b=FLAG)
    assert "'b'" in plan(world.job(changed))[0].problem
    report = sync(world.job(changed))
    assert isinstance(report.tasks[0].error, StateError)
    assert "--full-refresh 'all'" in report.tasks[0].error.hint
    assert (world.ids("a"), world.ids("b")) == ([0, 1, 2, 3, 4, 5],) * 2
    assert sync(replace(world.job(changed), refresh=lambda task: True)).exit_code == 0
    assert (world.ids("a"), world.ids("b")) == ([0, 1, 2, 3, 4, 5],) * 2


def test_where_rows_are_overwritten_another_table_of_the_task_may_be_read_again(name):
    world = filled(name, WriteMode.OVERWRITE, a=FLAG, b=FLAG)
    assert sync(world.job(Values(a=NUMBER, b=FLAG))).exit_code == 0
    assert (world.ids("a"), world.ids("b")) == ([0, 1, 2, 3, 4, 5],) * 2


@MODES
def test_a_table_that_was_migrated_by_hand_is_read_from_nothing(name, mode):
    world = filled(name, mode)
    (change,) = migrate(world.job(Values(a=NUMBER)), run_id="by hand").changes
    assert change.kind == "recreate"
    assert world.ids() == []
    report = sync(world.job(Values(a=NUMBER)))
    assert report.exit_code == 0, report
    assert world.ids() == [0, 1, 2, 3, 4, 5]


def test_until_a_full_refresh_is_complete_the_old_table_stays(name):
    world = filled(name)
    source = Values(a=NUMBER)
    outside = Injector(Point("destination.write", 2), lambda: TaskError("no room"))
    refreshed = replace(world.job(source, outside), refresh=lambda task: True)
    assert sync(refreshed).exit_code == TaskError.exit_code
    assert world.ids() == [0, 1, 2, 3, 4, 5]
    assert world.state.cursor == {"next": 6}
    assert sync(world.job(source)).exit_code == 0
    assert world.ids() == [0, 1, 2, 3, 4, 5]
