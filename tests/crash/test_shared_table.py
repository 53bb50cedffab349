"""Two sources share a table, and one of them is emptied: whenever its sync is killed, no state becomes untrusted.

The table still has rows, but none of this source any more. Whoever finds that without a note that they were deleted has to
think that they were lost.
"""

import shutil
import sqlite3
from contextlib import closing

import pytest

from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lease import Claim
from strandline.engine.run import sync
from strandline.plugins import load_plugin
from strandline.rules import TableRules
from strandline.testing.crash import CHANGING, worth_striking
from strandline.testing.faults import FaultyStates, Killed, Killer, Outside, faulty_destination
from strandline.testing.plain import PlainDestination

pytestmark = pytest.mark.crash


class World:
    """Two databases, one destination, and the states: all of it in one directory."""

    def __init__(self, directory, kind):
        self.directory, self.kind = directory, kind
        directory.mkdir()
        for name, ids in (("one", (1, 2)), ("two", (11, 12))):
            self.execute(name, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
            self.execute(name, *(f"INSERT INTO t VALUES ({one}, 'v')" for one in ids))

    def execute(self, name, *statements):
        with closing(sqlite3.connect(self.directory / f"{name}.db")) as connection, connection:
            return [connection.execute(one).fetchall() for one in statements][-1]

    def open(self):
        if self.kind == "plain":
            return PlainDestination(PlainDestination.Spec(path=str(self.directory / "store")))
        cls = load_plugin("destination", self.kind)
        return cls(cls.Spec(path=str(self.directory / f"store.{self.kind}")))

    def sync(self, name, outside):
        source, backend = load_plugin("source", "sqlite"), load_plugin("state_backend", "local")
        with closing(self.open()) as destination:
            into = Into(
                "d",
                faulty_destination(destination, outside),
                WriteMode.OVERWRITE_DELETE_STALE,
                share_max=None,
                rules=lambda _: TableRules(shared=True),
            )
            states = FaultyStates(backend(backend.Spec(path=str(self.directory / "states"))), outside)
            reading = source(source.Spec(path=str(self.directory / f"{name}.db")))
            # a killed run's lease is of this process, which lives
            return sync(Job(name, reading, [into], states, concurrency=1, claim=Claim(takeover=True)))

    def rows(self):
        with closing(self.open()) as destination:
            table = next(iter(load_plugin("source", "sqlite")(self._spec("one")).tables()))
            return sorted(row for batch in destination.read(table, columns=["id"]) for row in batch["id"].to_pylist())

    def _spec(self, name):
        cls = load_plugin("source", "sqlite")
        return cls.Spec(path=str(self.directory / f"{name}.db"))

    def restore(self, saved):
        """At its own place, by which a source is known."""
        shutil.rmtree(self.directory)
        shutil.copytree(saved, self.directory)


@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "plain"])
def test_rows_that_were_deleted_are_never_taken_for_lost(tmp_path, kind):
    world = World(tmp_path / "world", kind)
    for name in ("one", "two"):
        assert world.sync(name, Outside()).exit_code == 0
    assert world.rows() == [1, 2, 11, 12]
    world.execute("one", "DELETE FROM t")
    saved = shutil.copytree(world.directory, tmp_path / "saved")
    undisturbed = Outside()
    assert world.sync("one", undisturbed).exit_code == 0
    points = worth_striking(undisturbed, CHANGING)
    assert len(points) > 10
    for point in points:
        world.restore(saved)
        with pytest.raises(Killed):
            world.sync("one", Killer(point))
        for name in ("one", "two", "one"):
            report = world.sync(name, Outside())
            assert report.exit_code == 0, (str(point), name, [task.error for task in report.tasks], report.error)
        assert world.rows() == [11, 12], str(point)


def test_a_source_of_another_spec_does_not_follow_one_whose_table_it_shares(tmp_path):
    """One that its own spec does not name, though both keep their states in one directory."""
    world = World(tmp_path / "world", "sqlite")
    for name in ("one", "two", "one", "two"):
        assert world.sync(name, Outside()).exit_code == 0
        assert name == "one" or world.rows() == [1, 2, 11, 12]
