"""What every destination must do, as a class to subclass.

::

    class TestDuckDB(DestinationConformance):
        @pytest.fixture
        def reopen(self, tmp_path: Path) -> Callable[[], Destination]:
            cls = load_plugin("destination", "duckdb")       # through the entry point, as a user would
            return lambda: cls(cls.Spec(path=str(tmp_path / "warehouse.db")))

        @pytest.fixture
        def destination(self, reopen: Callable[[], Destination]) -> Iterator[Destination]:
            destination = reopen()
            yield destination
            destination.close()

The suite follows ``Destination.capabilities``: what a destination declares that it cannot do, it is checked to refuse.
"""

from strandline.testing.destination_append import DeliveredCases, NumberCases
from strandline.testing.destination_attached import ColumnCases
from strandline.testing.destination_children import ChildCases
from strandline.testing.destination_deletes import DeleteCases, PresentCases
from strandline.testing.destination_former import FormerCases
from strandline.testing.destination_growing import GrowCases
from strandline.testing.destination_latest import LatestCases
from strandline.testing.destination_looks import LookCases
from strandline.testing.destination_migrate import ChangeCases, CreateCases
from strandline.testing.destination_newest import NewestCases
from strandline.testing.destination_overwrite import OverwriteCases
from strandline.testing.destination_ownership import AdoptCases, OwnershipCases
from strandline.testing.destination_repeated import RepeatCases
from strandline.testing.destination_reshaped import ReshapeCases
from strandline.testing.destination_stale import HeldCases, StaleCases
from strandline.testing.destination_states import FenceCases, StateCases
from strandline.testing.destination_swap import SwapCases
from strandline.testing.destination_types import NameCases, TypeCases
from strandline.testing.destination_writes import InsertCases, ReadCases

__all__ = ["DestinationConformance"]


class DestinationConformance(
    InsertCases,
    OverwriteCases,
    NewestCases,
    LatestCases,
    ReadCases,
    DeleteCases,
    PresentCases,
    ChildCases,
    StaleCases,
    HeldCases,
    SwapCases,
    ReshapeCases,
    CreateCases,
    LookCases,
    ChangeCases,
    FormerCases,
    GrowCases,
    ColumnCases,
    TypeCases,
    NameCases,
    StateCases,
    FenceCases,
    DeliveredCases,
    NumberCases,
    OwnershipCases,
    AdoptCases,
    RepeatCases,
):
    """Subclass it, and provide the fixtures ``destination`` and ``reopen``: see ``DestinationFixtures``."""
