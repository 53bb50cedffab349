"""Cases: rows that are gone at the source, one by one, all of them, or by a list of those that are left."""

from dataclasses import replace

import pytest

from strandline.destination import WriteMode
from strandline.errors import MassDeleteError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Delete, Present, Truncate
from strandline.table import Table
from strandline.testing.destination_fixtures import (
    DestinationFixtures,
    keys,
    needs,
    orders,
    same,
)
from strandline.testing.windows import Lineage, batch_of

__all__ = ["DeleteCases", "PresentCases", "neighbours", "partitioned"]


def _scoped() -> Table:
    return orders(name=pa.string())


def partitioned() -> Table:
    """A table of tasks in partitions."""
    return orders(partitioned=True, name=pa.string())


def neighbours(lineage: Lineage, table: Table) -> "tuple[Lineage, pa.RecordBatch, pa.RecordBatch]":
    """A lineage with rows 1 to 4 in a partition, and the rows of another partition and of another source."""
    mine = replace(lineage, partition="north")
    south = replace(lineage, partition="south", task="orders/south", tables={}, state=None)
    strange = replace(lineage, partition="north", source="other shop", tables={}, state=None)
    for one, first in ((mine, 1), (south, 11), (strange, 21)):
        one.migrate(table)
        one.write(one.insert(table, id=list(range(first, first + 4)), name=["x"] * 4))
    others = [
        one.batch(table, id=list(range(first, first + 4)), name=["x"] * 4)
        for one, first in ((south, 11), (strange, 21))
    ]
    return mine, others[0], others[1]


class DeleteCases(DestinationFixtures):
    """``Delete`` and ``Truncate``."""

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_deleted_row_is_gone_and_a_missing_one_is_no_error(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[0, 1, 2], name=["a", "b", "c"], note=[None] * 3))
        kept = lineage.batch(table, id=[0, 1, 2], name=["a", "b", "c"], note=[None] * 3)
        lineage.write(Delete(table.name, keys(table, 7)))
        same(lineage, table, kept)
        lineage.write(Delete(table.name, keys(table, 0, 7, 2)))
        same(lineage, table, kept.slice(1, 1))
        lineage.write(Delete(table.name, keys(table, 0, 1)), Delete(table.name, keys(table)))
        same(lineage, table)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_the_last_message_about_a_key_wins(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        gone = Delete(table.name, keys(table, 1, 2))
        first = lineage.insert(table, id=[1, 2], name=["a", "b"], note=["x", "x"])
        last = lineage.insert(table, id=[1], name=["c"], note=["x"])
        lineage.write(first, gone)
        same(lineage, table)
        lineage.write(first, gone, last)
        same(lineage, table, last.batch)
        lineage.write(gone, first, gone, last, last)
        same(lineage, table, last.batch)
        lineage.write(gone, first)
        same(lineage, table, first.batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_composite_key_is_deleted_as_a_whole(self, lineage: Lineage) -> None:
        table = Table("lines", orders(line=pa.string(), amount=pa.int64()).schema, ("id", "line"))
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 1, 2, 2], line=["a", "b", "a", "b"], amount=[1, 2, 3, 4]))
        lineage.write(Delete(table.name, batch_of(table, {"id": [1, 2], "line": ["a", "b"]})))
        same(lineage, table, lineage.batch(table, id=[1, 2], line=["b", "a"], amount=[2, 3]))

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_truncated_table_is_empty_but_for_what_comes_after(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        before = lineage.insert(table, id=[1, 2], name=["a", "b"], note=["x", "y"])
        lineage.write(before)
        lineage.write(
            lineage.insert(table, id=[3], name=["c"], note=["z"]),
            Truncate(table.name),
            lineage.insert(table, id=[1, 4], name=["new", "d"]),
        )
        same(lineage, table, lineage.batch(table, id=[1, 4], name=["new", "d"], note=[None, None]))
        for _ in range(2):
            lineage.write(Truncate(table.name))
            same(lineage, table)
        lineage.write(before)
        same(lineage, table, before.batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_truncating_leaves_other_partitions_and_sources_alone(self, lineage: Lineage) -> None:
        mine, south, strange = neighbours(lineage, partitioned())
        mine.write(Truncate("orders"))
        same(lineage, partitioned(), south, strange)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_deleting_leaves_other_partitions_and_sources_alone(self, lineage: Lineage) -> None:
        table = partitioned()
        mine, south, strange = neighbours(lineage, table)
        rows = mine.insert(table, id=[1, 2, 3, 4], name=["x"] * 4)
        gone = Delete("orders", keys(table, 1, 12, 22))
        mine.write(gone)
        same(lineage, table, rows.batch.slice(1), south, strange)
        mine.write(rows, gone)
        same(lineage, table, rows.batch.slice(1), south, strange)
        mine.write(gone, rows)
        same(lineage, table, rows.batch, south, strange)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_row_that_another_source_has_delivered_since_is_not_deleted(self, lineage: Lineage) -> None:
        table, strange = _scoped(), Lineage(lineage.destination, lineage.mode, source="other shop")
        lineage.migrate(table)
        strange.migrate(table)
        mine = lineage.insert(table, id=[1, 2, 3], name=["mine"] * 3)
        lineage.write(mine)
        theirs = strange.insert(table, id=[2, 3], name=["theirs"] * 2)
        strange.write(theirs)
        lineage.write(Delete("orders", keys(table, 1, 2)))
        same(lineage, table, theirs.batch)
        lineage.write(lineage.insert(table, id=[2], name=["again mine"]), Delete("orders", keys(table, 2, 3)))
        same(lineage, table, theirs.batch.slice(1))

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_truncating_one_table_leaves_the_others_alone(self, lineage: Lineage) -> None:
        table, other = orders(), orders("other")
        lineage.migrate(table, other)
        rows = [lineage.insert(one, id=[1], name=["a"], note=["x"]) for one in (table, other)]
        lineage.write(*rows, Truncate(table.name))
        same(lineage, table)
        same(lineage, other, rows[1].batch)


class PresentCases(DestinationFixtures):
    """The key sweep: what is not among the keys is removed when the table is complete."""

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_exactly_what_is_missing_is_removed(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 2, 3, 4], name=["a", "b", "c", "d"], note=["x"] * 4))
        kept = lineage.batch(table, id=[1, 3], name=["a", "c"], note=["x"] * 2)
        lineage.next_pass()
        new = lineage.insert(table, id=[5], name=["e"], note=["x"])
        receipt = lineage.write(
            new, Present(table.name, keys(table, 3, 5)), Present(table.name, keys(table, 1, 99)), Complete(table.name)
        )
        assert receipt.removed == 2
        same(lineage, table, kept, new.batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_keys_that_the_destination_lacks_are_told(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 2, 3], name=["a", "b", "c"], note=["x"] * 3))
        lineage.next_pass()
        new = lineage.insert(table, id=[4], name=["d"], note=["x"])
        some = [Present(table.name, keys(table, 3, 7, 4)), Present(table.name, keys(table, 9, 1, 2))]
        window = lineage.window([new, *some, Complete(table.name), Checkpoint({"window": 2})])
        receipt = lineage.write_window(window)
        assert {name: list(places) for name, places in receipt.lacking.items()} == {table.name: [1, 3]}
        if receipt.state is not None:  # whoever is killed now would not know it otherwise
            assert window.lacking == {table.name}
        receipt = lineage.write(Present(table.name, keys(table, 1, 2, 3, 4)), Complete(table.name))
        assert dict(receipt.lacking) == {}

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_every_key_is_lacking_in_an_empty_table(self, lineage: Lineage) -> None:
        table = Table("lines", orders(line=pa.string(), amount=pa.int64()).schema, ("id", "line"))
        lineage.migrate(table)
        there = batch_of(table, {"id": [1, 1, 2], "line": ["b", "a", "a"]})
        receipt = lineage.write(Present(table.name, there), Complete(table.name))
        assert list(receipt.lacking[table.name]) == [0, 1, 2]

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_composite_key_is_swept_as_a_whole(self, lineage: Lineage) -> None:
        table = Table("lines", orders(line=pa.string(), amount=pa.int64()).schema, ("id", "line"))
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 1, 2, 2], line=["a", "b", "a", "b"], amount=[1, 2, 3, 4]))
        left = batch_of(table, {"id": [1, 2], "line": ["b", "a"]})
        lineage.write(Present(table.name, left), Complete(table.name))
        same(lineage, table, lineage.batch(table, id=[1, 2], line=["b", "a"], amount=[2, 3]))

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_without_keys_nothing_is_removed(self, lineage: Lineage) -> None:
        table, other = orders(), orders("other")
        lineage.migrate(table, other)
        rows = [lineage.insert(one, id=[1, 2], name=["a", "b"], note=["x"] * 2) for one in (table, other)]
        lineage.write(*rows, Complete(table.name))
        lineage.write(Present(table.name, keys(table, 1)), Complete(other.name), Complete(table.name))
        same(lineage, table, rows[0].batch.slice(0, 1))
        same(lineage, other, rows[1].batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_sweep_without_a_single_key_removes_everything(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        rows = lineage.insert(table, id=[1, 2], name=["a", "b"], note=["x"] * 2)
        lineage.write(rows)
        lineage.share_max = 0.5
        with pytest.raises(MassDeleteError):
            lineage.write(Present(table.name, keys(table)), Complete(table.name))
        same(lineage, table, rows.batch)
        lineage.share_max = None
        lineage.write(Present(table.name, keys(table)), Complete(table.name))
        same(lineage, table)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_sweep_leaves_other_partitions_and_sources_alone(self, lineage: Lineage) -> None:
        mine, south, strange = neighbours(lineage, partitioned())
        mine.write(Present("orders", keys(partitioned(), 2)), Complete("orders"))
        same(lineage, partitioned(), mine.batch(partitioned(), id=[2], name=["x"]), south, strange)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_sweep_of_too_large_a_share_fails_the_window(self, lineage: Lineage) -> None:
        mine, south, strange = neighbours(lineage, partitioned())
        mine.share_max = 0.5
        rows, state = mine.batch(partitioned(), id=[1, 2, 3, 4], name=["x"] * 4), mine.state
        new = mine.insert(partitioned(), id=[1], name=["new"])
        with pytest.raises(MassDeleteError):
            mine.write(new, Present("orders", keys(partitioned(), 1)), Complete("orders"))
        assert mine.state is state
        same(lineage, partitioned(), rows, south, strange)
        mine.write(new, Present("orders", keys(partitioned(), 1, 2)), Complete("orders"))  # a half is not too large
        same(lineage, partitioned(), new.batch, rows.slice(1, 1), south, strange)
