"""Files whose rows are ordered by a column: whenever a sync is killed, the newest row of each key is stored at last."""

import os
import random
import shutil
from contextlib import closing

import pytest

from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lease import Claim
from strandline.engine.run import sync
from strandline.engine.window import Bounds
from strandline.plugins import load_plugin
from strandline.testing.crash import CHANGING, worth_striking
from strandline.testing.faults import FaultyStates, Killed, Killer, Outside, faulty_destination
from strandline.testing.plain import PlainDestination

pytestmark = pytest.mark.crash


class World:
    """Files, a destination and the states, all of it in one directory."""

    def __init__(self, directory, kind, mode):
        self.directory, self.kind, self.mode, self.newest = directory, kind, mode, {}
        (directory / "in").mkdir(parents=True)

    def write(self, name, rows):
        path = self.directory / "in" / name
        lines = [
            "id,at,v",
            *(f"{key},{'' if at is None else at},{name}-{place}" for place, (key, at) in enumerate(rows)),
        ]
        path.write_text("\n".join([*lines, ""]))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        for place, (key, at) in enumerate(rows):
            if (at or 0) >= (self.newest.get(key, (0, ""))[0] or 0):
                self.newest[key] = at, f"{name}-{place}"

    def open(self):
        if self.kind in {"plain", "idempotent"}:
            return PlainDestination(PlainDestination.Spec(path=str(self.directory / "store"), delivery=self.kind))
        cls = load_plugin("destination", self.kind)
        return cls(cls.Spec(path=str(self.directory / f"store.{self.kind}")))

    def source(self):
        cls = load_plugin("source", "files")
        path = str(self.directory / "in")
        return cls(cls.Spec(path=path, table="t", primary_key=["id"], incremental_key="at"))

    def sync(self, outside):
        backend = load_plugin("state_backend", "local")
        with closing(self.open()) as destination:
            into = Into("d", faulty_destination(destination, outside), self.mode, bounds=Bounds(rows_max=3))
            states = FaultyStates(backend(backend.Spec(path=str(self.directory / "states"))), outside)
            # a killed run's lease is of this process, which lives
            return sync(Job("s", self.source(), [into], states, concurrency=1, claim=Claim(takeover=True)))

    def rows(self):
        (table,) = self.source().tables()
        with closing(self.open()) as destination:
            batches = list(destination.read(table, columns=["id", "at", "v"]))
        return {row["id"]: (row["at"], row["v"]) for batch in batches for row in batch.to_pylist()}


@pytest.mark.parametrize("mode", [WriteMode.OVERWRITE, WriteMode.OVERWRITE_DELETE_STALE])
@pytest.mark.parametrize("kind", ["plain", "idempotent", "sqlite"])
def test_killed_anywhere_the_newest_rows_are_stored(tmp_path, kind, mode):
    world, chance = World(tmp_path / "world", kind, mode), random.Random(7)

    def rows():
        return [(chance.randint(1, 5), chance.choice([None, 1, 2, 3, 4])) for _ in range(8)]

    world.write("5.csv", rows())
    assert world.sync(Outside()).exit_code == 0
    assert world.rows() == world.newest
    for name in ("2.csv", "7.csv"):
        world.write(name, rows())
    saved = shutil.copytree(world.directory, tmp_path / "saved")
    undisturbed = Outside()
    assert world.sync(undisturbed).exit_code == 0
    assert world.rows() == world.newest
    points = worth_striking(undisturbed, CHANGING)
    assert len(points) > 8
    for point in points:
        shutil.rmtree(world.directory)
        shutil.copytree(saved, world.directory)
        with pytest.raises(Killed):
            world.sync(Killer(point))
        report = world.sync(Outside())
        assert report.exit_code == 0, (str(point), [task.error for task in report.tasks], report.error)
        assert world.rows() == world.newest, str(point)
