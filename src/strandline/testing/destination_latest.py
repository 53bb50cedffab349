"""Cases: a view of the last version of each row, beside a table to which versions are appended (``Table.latest_view``)."""

from dataclasses import replace

from strandline.destination import WriteMode
from strandline.lazy import pa
from strandline.testing.destination_fixtures import DestinationFixtures, needs, orders, same
from strandline.testing.windows import Lineage

__all__ = ["LatestCases"]


class LatestCases(DestinationFixtures):
    """The engine refuses such a table where it is not declared."""

    @needs(WriteMode.APPEND)
    def test_a_view_shows_the_last_version_of_each_row_and_every_column(self, lineage: Lineage) -> None:
        if not lineage.destination.capabilities.latest_views:
            return
        table = replace(orders(name=pa.string()), latest_view=True)
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 2], name=["a", "b"]))
        unchanged = lineage.batch(table, id=[2], name=["b"])
        lineage.next_pass()
        changed = lineage.insert(table, id=[1], name=["c"])
        lineage.write(changed)
        same(lineage, table.named(table.latest_name), unchanged, changed.batch)
        assert lineage.migrate(table).changes == ()
        grown = replace(orders(name=pa.string(), city=pa.string()), latest_view=True)
        lineage.migrate(grown)
        lineage.next_pass()
        moved = lineage.insert(grown, id=[2], name=["b"], city=["Rome"])
        lineage.write(moved)
        rows = [row for batch in lineage.destination.read(grown.named(grown.latest_name)) for row in batch.to_pylist()]  # type: ignore[attr-defined]
        assert sorted((row["id"], row["name"], row["city"]) for row in rows) == [(1, "c", None), (2, "b", "Rome")]
