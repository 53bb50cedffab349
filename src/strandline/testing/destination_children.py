"""Cases: the rows of some parents are replaced, so that a child that a parent has no more is gone."""

from dataclasses import replace

import pytest

from strandline.destination import WriteMode
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.message import Complete, Delete, Insert, Replace, Truncate
from strandline.table import Table
from strandline.testing.destination_fixtures import DestinationFixtures, keys, needs, orders, same, unkeyed
from strandline.testing.windows import Lineage, batch_of

__all__ = ["ChildCases"]


def _lines(name: str = "lines", *, partitioned: bool = False) -> Table:
    """The lines of orders: ``order`` refers to the parent."""
    columns = orders(partitioned=partitioned, order=pa.int64(), product=pa.string())
    return replace(columns.named(name), parent="orders")


def _of(table: Table, *parents: int) -> Replace:
    return Replace(table.name, batch_of(table, {"order": list(parents)}))


def _rows(lineage: Lineage, table: Table, *rows: tuple[int, int, str]) -> Insert:
    """Lines: id, order and product."""
    ids, parents, products = map(list, zip(*rows, strict=True))
    return lineage.insert(table, id=ids, order=parents, product=products)


class ChildCases(DestinationFixtures):
    """``Replace``."""

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_children_that_are_not_sent_again_are_gone_and_the_others_stay(self, lineage: Lineage) -> None:
        table = _lines()
        lineage.migrate(table)
        lineage.write(_rows(lineage, table, (1, 10, "a"), (2, 10, "b"), (3, 20, "c"), (4, 30, "d")))
        others = lineage.batch(table, id=[3, 4], order=[20, 30], product=["c", "d"])
        lineage.next_pass()
        new = _rows(lineage, table, (2, 10, "B"), (5, 10, "e"))
        receipt = lineage.write(_of(table, 10), new)
        assert receipt.rows == {table.name: 2}
        assert receipt.removed == 1
        same(lineage, table, others, new.batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_parent_without_children_has_none_left(self, lineage: Lineage) -> None:
        table = _lines()
        lineage.migrate(table)
        lineage.write(_rows(lineage, table, (1, 10, "a"), (2, 10, "b"), (3, 20, "c")))
        receipt = lineage.write(_of(table), _of(table, 10, 99))
        assert receipt.removed == 2
        same(lineage, table, lineage.batch(table, id=[3], order=[20], product=["c"]))
        assert lineage.write(_of(table, 20)).removed == 1
        same(lineage, table)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_window_that_comes_again_changes_nothing(self, lineage: Lineage) -> None:
        table = _lines()
        lineage.migrate(table)
        lineage.write(_rows(lineage, table, (1, 10, "a"), (2, 10, "b"), (3, 20, "c")))
        new = _rows(lineage, table, (2, 10, "B"), (5, 20, "e"))
        window = (_of(table, 10, 20), new, Complete(table.name))
        for gone in (2, 0, 0):
            assert lineage.write(*window).removed == gone
            same(lineage, table, new.batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_children_are_replaced_in_the_order_of_the_stream(self, lineage: Lineage) -> None:
        table = _lines()
        lineage.migrate(table)
        first = _rows(lineage, table, (1, 10, "a"), (2, 10, "b"), (3, 20, "c"))
        again = _rows(lineage, table, (2, 10, "B"))
        lineage.write(first, _of(table, 10), again)
        same(lineage, table, first.batch.slice(2), again.batch)
        lineage.write(_of(table, 10), first, _of(table, 10), again, _of(table, 20))
        same(lineage, table, again.batch)
        lineage.write(_of(table, 10), again, first)
        same(lineage, table, first.batch)
        lineage.write(again, _of(table, 20, 10))
        same(lineage, table)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_child_that_goes_to_another_parent_is_replaced_with_that_one(self, lineage: Lineage) -> None:
        table = _lines()
        lineage.migrate(table)
        first = _rows(lineage, table, (1, 10, "a"), (2, 10, "b"))
        moved = _rows(lineage, table, (1, 20, "A"))
        lineage.write(first)
        lineage.write(moved, _of(table, 10))
        same(lineage, table, moved.batch)
        lineage.write(_of(table, 20), first)
        same(lineage, table, first.batch)
        lineage.write(_of(table, 10, 20), moved)
        same(lineage, table, moved.batch)
        lineage.write(first, _of(table, 20))
        same(lineage, table, first.batch)
        lineage.write(moved, _of(table, 20))
        same(lineage, table, first.batch.slice(1))

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_child_is_of_the_parent_that_its_last_row_names(self, lineage: Lineage) -> None:
        table = _lines()
        lineage.migrate(table)
        went = [_rows(lineage, table, (1, order, f"in {order}")) for order in (10, 20)]
        stays = [_rows(lineage, table, (2, order, f"in {order}")) for order in (20, 10)]
        at_once = _rows(lineage, table, (3, 10, "in 10"), (3, 20, "in 20"))
        lineage.write(*went, *stays, at_once, _of(table, 20))
        same(lineage, table, stays[1].batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_children_are_replaced_among_other_messages(self, lineage: Lineage) -> None:
        table = _lines()
        lineage.migrate(table)
        first = _rows(lineage, table, (1, 10, "a"), (2, 10, "b"), (3, 20, "c"), (4, 30, "d"))
        lineage.write(first)
        lineage.write(_of(table, 10), first, Delete(table.name, keys(table, 1)), _of(table, 20))
        same(lineage, table, first.batch.slice(1, 1), first.batch.slice(3))
        lineage.write(Delete(table.name, keys(table, 4)), _of(table, 10), first)
        same(lineage, table, first.batch)
        lineage.write(first, Truncate(table.name), _of(table, 10), _rows(lineage, table, (7, 10, "g")))
        same(lineage, table, lineage.batch(table, id=[7], order=[10], product=["g"]))

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_many_parents_are_replaced_one_by_one(self, lineage: Lineage) -> None:
        table, parents = _lines(), range(40)
        lineage.migrate(table)
        lineage.write(*(_rows(lineage, table, (100 + one, one, "a"), (200 + one, one, "b")) for one in parents))
        lineage.next_pass()
        pages = [(_of(table, one), _rows(lineage, table, (100 + one, one, "A"))) for one in parents]
        assert lineage.write(*(message for page in pages for message in page)).removed == len(parents)
        same(lineage, table, *(rows.batch for _, rows in pages))

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_many_parents_are_replaced_at_once(self, lineage: Lineage) -> None:
        table, parents = _lines(), range(2_000)
        lineage.migrate(table)
        lineage.write(_rows(lineage, table, *((one, one % 4_000, "a") for one in range(8_000))))
        left = _rows(lineage, table, *((one, one, "A") for one in range(1_000)))
        assert lineage.write(_of(table, *parents), left).removed == 3_000
        kept = lineage.batch(
            table,
            id=[one for one in range(8_000) if one % 4_000 >= len(parents)],
            order=[one % 4_000 for one in range(8_000) if one % 4_000 >= len(parents)],
            product=["a"] * 4_000,
        )
        same(lineage, table, kept, left.batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_parent_of_several_columns_is_one_parent(self, lineage: Lineage) -> None:
        table = replace(orders("lines", shop=pa.string(), order=pa.int64(), product=pa.string()), parent="orders")
        lineage.migrate(table)
        rows = lineage.insert(
            table, id=[1, 2, 3, 4], shop=["x", "x", "y", "y"], order=[1, 2, 1, 2], product=["a", "b", "c", "d"]
        )
        lineage.write(rows)
        lineage.write(Replace(table.name, batch_of(table, {"shop": ["x", "y"], "order": [1, 2]})))
        same(lineage, table, rows.batch.slice(1, 2))

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_child_without_a_parent_is_nobodys(self, lineage: Lineage) -> None:
        table = _lines()
        lineage.migrate(table)
        orphan = lineage.insert(table, id=[1], order=[None], product=["a"])
        lineage.write(orphan, _rows(lineage, table, (2, 10, "b")))
        lineage.write(_of(table, 10), orphan, _of(table, 10))
        same(lineage, table, orphan.batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_children_of_other_partitions_sources_and_tables_are_left_alone(self, lineage: Lineage) -> None:
        table, other = _lines(partitioned=True), _lines("notes", partitioned=True)
        north = replace(lineage, partition="north", tables={}, state=None)
        south = replace(lineage, partition="south", task="lines/south", tables={}, state=None)
        strange = replace(lineage, partition="north", source="other shop", tables={}, state=None)
        kept = []
        for one, first in ((north, 1), (south, 11), (strange, 21)):
            one.migrate(table, other)
            one.write(*(_rows(one, each, (first, 10, "a"), (first + 1, 10, "b")) for each in (table, other)))
            kept.append(one.batch(table, id=[first, first + 1], order=[10, 10], product=["a", "b"]))
        assert north.write(_of(table, 10)).removed == 2
        same(north, table, *kept[1:])
        same(north, other, *kept)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_children_without_a_key_of_their_own_are_replaced_too(self, lineage: Lineage) -> None:
        """Equal rows are counted: of three, two are left."""
        table = unkeyed("tags")

        def tags(*rows: tuple[int, str]) -> Insert:
            return lineage.insert(table, id=[row[0] for row in rows], name=[row[1] for row in rows])

        def of(*parents: int) -> Replace:
            return Replace(table.name, batch_of(table, {"id": list(parents)}))

        lineage.migrate(table)
        lineage.write(of(10, 20), tags((10, "x"), (10, "x"), (10, "x"), (10, "y"), (20, "x")))
        kept = lineage.batch(table, id=[20], name=["x"])
        for _ in range(2):
            lineage.next_pass()
            left = tags((10, "x"), (10, "x"), (10, "z"))
            for _ in range(2):  # in one pass the parent was read twice
                lineage.write(of(10), left)
                same(lineage, table, kept, left.batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_children_of_a_column_that_is_not_there_fail_the_window(self, lineage: Lineage) -> None:
        table = _lines()
        lineage.migrate(table)
        first = _rows(lineage, table, (1, 10, "a"))
        lineage.write(first)
        for columns in ({"parent": [10]}, {"order": [10, None]}):
            wrong = Replace(table.name, pa.record_batch({name: pa.array(v, pa.int64()) for name, v in columns.items()}))
            with pytest.raises(TaskError):
                lineage.write(wrong)
            same(lineage, table, first.batch)

    @needs(WriteMode.APPEND)
    def test_appending_keeps_the_children_of_every_time(self, lineage: Lineage) -> None:
        table = _lines()
        lineage.migrate(table)
        first = _rows(lineage, table, (1, 10, "a"), (2, 10, "b"))
        lineage.write(first)
        lineage.next_pass()
        again = _rows(lineage, table, (1, 10, "A"))
        assert lineage.write(_of(table, 10), again).removed == 0
        same(lineage, table, first.batch, again.batch)
