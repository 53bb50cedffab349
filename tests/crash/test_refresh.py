"""A full refresh that was interrupted: it goes on, or begins again, and leaves nothing over."""

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from scenarios import KINDS
from worlds import LooseDestination, MemoryWorld

from strandline.connectors.memory.destination import MemoryDestination
from strandline.connectors.memory.source import MemoryStore
from strandline.connectors.memory.state import MemoryState
from strandline.destination import Fence, MigrateMode, WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lease import Claim
from strandline.engine.lineage import stored_table
from strandline.engine.run import sync
from strandline.engine.task import Retries
from strandline.engine.window import Bounds
from strandline.errors import TaskError
from strandline.message import Checkpoint, Complete, Insert
from strandline.plugins import load_plugin
from strandline.source import Task
from strandline.table import Table
from strandline.testing.crash import worth_striking
from strandline.testing.faults import FaultyStates, Killed, Killer, Outside, Point, faulty_destination
from strandline.testing.plain import PlainDestination

pytestmark = pytest.mark.crash

REFRESHED = 2


def killed(world, step, point):
    killer = Killer(point)
    with pytest.raises(Killed):
        world.run(step, killer)


def begun(kind, mode, point, **options):
    """A filled table, and a full refresh of it that was killed."""
    world = MemoryWorld(kind, mode, refresh_at=REFRESHED, **options)
    for step in range(REFRESHED):
        assert world.run(step, Outside()).exit_code == 0
    killed(world, REFRESHED, point)
    return world


@pytest.mark.parametrize("point", [Point("destination.migrate", 1, after=True), Point("destination.write", 3)], ids=str)
@pytest.mark.parametrize("backend", ["memory", "none"])
def test_its_hidden_table_is_not_left_over(backend, point):
    world = begun("keyed", WriteMode.OVERWRITE, point, backend=backend)
    assert len(world.hidden()) == 1
    assert world.run(REFRESHED, Outside()).exit_code == 0
    assert world.hidden() == []
    assert world.content() == world.contents[REFRESHED]


@pytest.mark.parametrize("backend", ["memory", "none"])
def test_it_goes_on_where_it_was_and_also_unasked(backend):
    world = begun("keyed", WriteMode.OVERWRITE, Point("destination.write", 3), backend=backend)
    world.refresh_at = None
    report = world.run(REFRESHED, Outside())
    assert report.exit_code == 0
    assert 0 < report.tasks[0].rows_read < world.contents[REFRESHED].total()
    assert world.content() == world.contents[REFRESHED]


def test_without_a_backend_a_clock_that_went_back_brings_no_duplicates():
    world = begun("log", WriteMode.APPEND, Point("destination.write", 3), backend="none", clock_step_s=-3600)
    assert world.run(REFRESHED, Outside()).exit_code == 0
    assert world.content() == world.contents[REFRESHED]


def test_it_begins_again_when_its_hidden_table_is_gone():
    world = begun("keyed", WriteMode.OVERWRITE, Point("destination.write", 4))
    world.inner.drop_table(world.hidden()[0])
    report = world.run(REFRESHED, Outside())
    assert report.exit_code == 0
    assert world.content() == world.contents[REFRESHED]
    assert any("beginning another one" in warning for warning in report.tasks[0].warnings)


def test_it_begins_again_when_the_table_is_read_otherwise():
    world = begun("keyed", WriteMode.OVERWRITE, Point("destination.write", 4))
    store = MemoryStore.named(f"{world.name} {REFRESHED}")
    store.create(replace(KINDS["keyed"][1], selection="all of it"))
    report = world.run(REFRESHED, Outside())
    assert report.exit_code == 0
    assert report.tasks[0].rows_read == world.contents[REFRESHED].total()
    assert world.content() == world.contents[REFRESHED]


def test_a_destination_without_transactions_swaps_once():
    """Killed when the rows were exchanged, but the cursor was not saved: there is nothing to exchange any more."""
    undisturbed = MemoryWorld("keyed", WriteMode.APPEND, loose=True, refresh_at=REFRESHED)
    for step in range(REFRESHED):
        undisturbed.run(step, Outside())
    outside = Outside()
    undisturbed.run(REFRESHED, outside)
    writes = Counter(point.call for point in outside.calls)["destination.write"]
    world = begun("keyed", WriteMode.APPEND, Point("destination.write", writes, after=True), loose=True)
    assert world.hidden() == []
    assert world.run(REFRESHED, Outside()).exit_code == 0
    assert world.content() == world.contents[REFRESHED] == undisturbed.content()


def test_the_mirror_forgets_it_too():
    """Killed between the two saves that end it."""
    world = MemoryWorld("keyed", WriteMode.OVERWRITE, refresh_at=REFRESHED)
    outside = Outside()
    for step in range(REFRESHED):
        world.run(step, Outside())
    before = world.snapshot()
    world.run(REFRESHED, outside)
    world.restore(before)
    last = Counter(point.call for point in outside.calls)["backend.save"]
    killed(world, REFRESHED, Point("backend.save", last))
    world.refresh_at = None
    assert world.run(REFRESHED, Outside()).exit_code == 0
    assert list(world.settled(REFRESHED, kills=1, skipped=True)) == []


class Drifting:
    """A table whose column `v`, and whose key, are others once its rows are."""

    def __init__(self, kind, values, key=("id",)):
        self.table = Table("t", pa.schema({"id": pa.int64(), "v": kind}), key, ("id",), incremental=True)
        self.values = values

    def tables(self):
        return [self.table]

    def tasks(self, tables):
        return [Task("t", tuple(tables))]

    def read(self, task, reading):
        cursor = reading.cursor
        for number in range(cursor["next"] if cursor else 0, len(self.values)):
            row = {
                "id": pa.array([number], pa.int64()),
                "v": pa.array([self.values[number]], self.table.schema[1].type),
            }
            yield Insert("t", pa.record_batch(row, schema=self.table.schema))
            yield Checkpoint({"next": number + 1})
        yield Complete("t")
        yield Checkpoint({"next": len(self.values)})

    def acknowledge(self, task, cursors):
        pass

    def close(self):
        pass


NUMBERS = Drifting(pa.int64(), [10, None, 2**60 + 1])
TEXTS = Drifting(pa.string(), ["10", "n/a", "", "10.50"], ("id", "v"))
"""The same table later: another type, and another key."""
FLAGS = Drifting(pa.bool_(), [True, None])


class Stores:
    """Where it is stored: opened anew for each run, as after a crash."""

    def __init__(self, kind, directory, uri):
        self.kind, self.mirror = kind, MemoryState(MemoryState.Spec())
        MemoryDestination.reset(str(directory))
        self.open = {
            "memory": lambda: MemoryDestination(MemoryDestination.Spec(name=str(directory))),
            "loose": lambda: LooseDestination(MemoryDestination(MemoryDestination.Spec(name=str(directory)))),
            "plain": lambda: PlainDestination(PlainDestination.Spec(path=str(directory / "plain"))),
            "idempotent": lambda: PlainDestination(
                PlainDestination.Spec(path=str(directory / "rows"), delivery="idempotent")
            ),
            "duckdb": lambda: plugin("duckdb", path=str(directory / "w.duckdb")),
            "sqlite": lambda: plugin("sqlite", path=str(directory / "w.sqlite")),
            "postgresql": lambda: plugin("postgresql", connection_string=uri, schema=directory.name),
        }[kind]

    def run(self, source, outside=None, *, refresh=False):
        store = self.open()
        into = Into(
            "store", faulty_destination(store, outside or Outside()), WriteMode.OVERWRITE, bounds=Bounds(rows_max=1)
        )
        job = Job(
            "shop",
            source,
            [into],
            FaultyStates(self.mirror, outside or Outside()),
            refresh=lambda _: refresh,
            retries=Retries(1, first_s=0.001, longest_s=0.001),
            claim=Claim(takeover=True),
        )
        try:
            return sync(job)
        finally:
            store.close()

    def content(self, source):
        store = self.open()
        try:
            table = stored_table(source.table, mode=WriteMode.OVERWRITE, partitioned=False)
            batches = store.read(table, columns=source.table.schema.names)
            return sorted((tuple(row.values()) for batch in batches for row in batch.to_pylist()), key=repr)
        finally:
            store.close()

    def shows(self, *sources):
        """Which of the sources' tables, columns and rows a reader finds."""
        return [source for source in sources if self._fits(source)]

    def _fits(self, source):
        store, table = self.open(), stored_table(source.table, mode=WriteMode.OVERWRITE, partitioned=False)
        try:
            found = store.migrate(table, mode=MigrateMode.SAFE, fence=Fence("shop", "store", 9, "look"), apply=False)
        except TaskError:
            return False
        finally:
            store.close()
        rows = sorted(enumerate(source.values), key=repr)
        return not found.changes and not found.kept and self.content(source) == rows


def plugin(kind, **settings):
    cls = load_plugin("destination", kind)
    return cls(cls.Spec(**settings))


@pytest.fixture
def filled(request, tmp_path):
    """Makes a stored table of numbers, which cannot become texts by themselves."""

    def fill(kind, name):
        uri = request.getfixturevalue("postgresql") if kind == "postgresql" else ""
        directory = tmp_path / name
        directory.mkdir()
        stores = Stores(kind, directory, uri)
        assert stores.run(NUMBERS).exit_code == 0
        assert stores.run(TEXTS).exit_code != 0
        return stores

    return fill


def points_of(kind, outside):
    """Where a refresh can be killed; in databases, where that is for the slow, not every place of the same kind."""
    if kind not in DATABASES:
        lasting = {"destination.migrate", "destination.write", "states.save", "backend.save"}
        return worth_striking(outside, lasting)
    last = max(point.number for point in outside.calls if point.call == "destination.write")
    writes = {("destination.write", number) for number in (1, 2, last - 1, last)}
    lasting = worth_striking(outside, {"destination.migrate", "destination.write"})
    return [p for p in lasting if p.call == "destination.migrate" or (p.call, p.number) in writes]


DATABASES = ("duckdb", "sqlite", "postgresql")


@pytest.mark.parametrize("kind", ["memory", "loose", "plain", "idempotent", *DATABASES])
def test_other_columns_come_with_the_rows_wherever_it_is_killed(filled, kind):
    """A reader finds the old rows in the old table, or the new ones in the new; and the next run ends it."""
    whole, seen = filled(kind, "whole"), Outside()
    assert whole.run(TEXTS, seen, refresh=True).exit_code == 0
    assert whole.shows(NUMBERS, TEXTS) == [TEXTS]
    assert whole.run(TEXTS).tasks[0].rows_read == 0
    for number, point in enumerate(points_of(kind, seen)):
        stores = filled(kind, f"at {number}")
        with pytest.raises(Killed):
            stores.run(TEXTS, Killer(point), refresh=True)
        assert stores.shows(NUMBERS, TEXTS) in ([NUMBERS], [TEXTS]), point
        report = stores.run(TEXTS, refresh=number % 3 == 0)
        if report.exit_code:  # it had not begun yet, and nobody has asked for it
            assert stores.shows(NUMBERS, TEXTS) == [NUMBERS]
            report = stores.run(TEXTS, refresh=True)
        assert report.exit_code == 0, (point, report)
        assert stores.shows(NUMBERS, TEXTS) == [TEXTS], point
        assert stores.run(TEXTS).tasks[0].rows_read == 0


@pytest.mark.parametrize("kind", ["memory", "plain", "sqlite"])
@pytest.mark.parametrize("number", [1, 2, 4, 5, 6])
def test_it_begins_again_when_the_columns_are_others_meanwhile(filled, kind, number):
    stores = filled(kind, "one")
    with pytest.raises(Killed):
        stores.run(TEXTS, Killer(Point("destination.write", number)), refresh=True)
    report = stores.run(FLAGS)
    assert report.exit_code == 0, report
    assert stores.shows(NUMBERS, TEXTS, FLAGS) == [FLAGS]
    assert stores.run(FLAGS).tasks[0].rows_read == 0
