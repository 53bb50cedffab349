"""What one worker of the matrix has: a nursery with the doubles, and a PostgreSQL server if it needs one."""

from functools import cached_property, partial
from pathlib import Path

from campaign.worlds import Databases, World
from services.postgresql import PostgreSQLServer
from strandline.testing.campaign import chains
from strandline.testing.campaign.processes import Nursery


class Bench(chains.Bench):
    """See ``strandline.testing.campaign.chains``."""

    def __init__(self, seed, **options):
        nursery = partial(Nursery, module="campaign.nursery", cwd=Path(__file__).parents[1])
        super().__init__(seed, nursery=nursery, **options)

    @cached_property
    def databases(self):
        server = PostgreSQLServer()
        self._stack.callback(server.remove)
        return Databases(server.create())

    def world(self, cell, *, directory=None, **more):
        needs = "postgresql" in (cell.source, cell.destination)
        return World(cell, directory or self.root / "world", self.seed, self.databases if needs else None, **more)
