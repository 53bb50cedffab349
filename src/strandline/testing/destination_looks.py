"""Cases: many tables that are looked at together are found as each of them alone."""

from dataclasses import replace

from strandline.destination import Fence, MigrateMode
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.looking import LooksAtMany
from strandline.ownership import Owner, Ownership
from strandline.table import Table
from strandline.testing.destination_fixtures import DestinationFixtures, orders
from strandline.testing.windows import Lineage

__all__ = ["LookCases"]


def _tables(lineage: Lineage) -> list[Table]:
    """One that is not there, an empty one, a full one, and what these would be with another column, key or type."""
    missing, empty, full = (orders().named(name) for name in ("missing", "empty", "full"))
    for table in (empty, full):
        lineage.migrate(table)
    lineage.write(lineage.insert(full, id=[1], name=["a"], note=["x"]))
    more = replace(full, schema=full.schema.append(pa.field("more", pa.int64())))
    return [missing, empty, full, more, replace(empty, primary_key=("name",)), missing.named("FULL")]


class LookCases(DestinationFixtures):
    """``LooksAtMany``."""

    def test_tables_that_are_looked_at_together_are_found_as_each_alone(self, lineage: Lineage) -> None:
        destination, mode = lineage.destination, MigrateMode.FORCED
        tables = _tables(lineage)

        def looks(table: Table, owner: Owner | None) -> object:
            as_whom = Ownership(owner) if owner is not None else None
            try:
                found = destination.migrate(table, mode=mode, fence=lineage.fence, apply=False, ownership=as_whom)
            except (TaskError, UsageError) as error:
                return error.message
            # what would be made has a new mark each time
            changes = [replace(one, ddl=()) for one in found.changes]
            return replace(found, changes=tuple(changes))

        owners = [None, Owner(lineage.source, "warehouse"), Owner("strange", "warehouse")]
        alone = [looks(table, owner) for table in tables for owner in owners]
        if not isinstance(destination, LooksAtMany):
            return
        for _ in range(2):
            with destination.looking_at([one.name for one in tables]):
                assert [looks(table, owner) for table in tables for owner in owners] == alone
        with destination.looking_at([one.name for one in tables[:2]]):
            assert [looks(table, owner) for table in tables for owner in owners] == alone, (
                "also those that were not named"
            )

    def test_what_was_looked_at_together_is_looked_at_again_afterwards(self, lineage: Lineage) -> None:
        destination = lineage.destination
        _, empty, *_ = tables = _tables(lineage)
        if not isinstance(destination, LooksAtMany):
            return
        with destination.looking_at([one.name for one in tables]):
            assert destination.migrate(empty, mode=MigrateMode.SAFE, fence=lineage.fence, apply=False).empty
        lineage.write(lineage.insert(empty, id=[1], name=["a"], note=["x"]))
        assert not destination.migrate(empty, mode=MigrateMode.SAFE, fence=lineage.fence, apply=False).empty

    def test_looking_at_many_tables_makes_nothing(self, lineage: Lineage) -> None:
        destination, table = lineage.destination, orders()
        if isinstance(destination, LooksAtMany):
            with destination.looking_at([table.name]):
                nobody = Fence(lineage.source, "warehouse", 0, "")
                found = destination.migrate(table, mode=MigrateMode.SAFE, fence=nobody, apply=False)
            assert found.mark is None
            assert [change.kind for change in found.changes] == ["create"]
