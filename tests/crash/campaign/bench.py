"""What one worker of the matrix has: a nursery with the doubles, and servers where it needs them."""

from functools import cached_property, partial
from pathlib import Path

from campaign.keepers import KEEPERS
from campaign.worlds import Databases, World
from services.postgresql import PostgreSQLServer
from strandline.testing.campaign import chains
from strandline.testing.campaign.processes import Nursery


class Bench(chains.Bench):
    """See ``strandline.testing.campaign.chains``."""

    def __init__(self, seed, **options):
        nursery = partial(Nursery, module="campaign.nursery", cwd=Path(__file__).parents[1])
        super().__init__(seed, nursery=nursery, **options)
        self._keepers = {}

    @cached_property
    def databases(self):
        server = PostgreSQLServer()
        self._stack.callback(server.remove)
        return Databases(server.create())

    def world(self, cell, *, directory=None, **more):
        needs = "postgresql" in (cell.source, cell.destination, cell.backend)
        databases = self.databases if needs else None
        return World(cell, directory or self.root / "world", self.seed, self.keeper(cell), databases, **more)

    def keeper(self, cell):
        """Of the cell's states."""
        if cell.backend not in self._keepers:
            databases = self.databases if cell.backend == "postgresql" else None
            self._keepers[cell.backend] = KEEPERS[cell.backend](self._stack, databases)
        return self._keepers[cell.backend]
