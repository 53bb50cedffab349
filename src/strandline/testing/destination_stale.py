"""Cases: rows that the last pass did not deliver, and what is there of a scope."""

from contextlib import closing
from dataclasses import replace

import pytest

from strandline.destination import WriteMode
from strandline.errors import MassDeleteError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Delete, Present, Replace, Stale, Truncate
from strandline.table import Table
from strandline.testing.data import all_types_table, random_columns
from strandline.testing.destination_deletes import neighbours, partitioned
from strandline.testing.destination_fixtures import (
    DestinationFixtures,
    Reopen,
    all_types_rows,
    keys,
    needs,
    orders,
    refuses,
    same,
)
from strandline.testing.windows import Lineage

__all__ = ["HeldCases", "StaleCases"]


def _scoped() -> Table:
    return orders(name=pa.string())


class StaleCases(DestinationFixtures):
    """``Stale``: what the pass did not deliver."""

    @needs(WriteMode.OVERWRITE_DELETE_STALE, deletes=True)
    def test_only_rows_of_an_older_pass_are_stale(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[0], name=["a"], note=[None]))
        old = lineage.batch(table, id=[0], name=["a"], note=[None])
        assert lineage.delete_stale(table) == 0
        same(lineage, table, old)
        lineage.next_pass(later_us=1)
        new = lineage.insert(table, id=[1], name=["b"], note=[None])
        lineage.write(new)
        same(lineage, table, old, new.batch)
        assert lineage.delete_stale(table) == 1
        same(lineage, table, new.batch)
        assert lineage.delete_stale(table) == 0

    @needs(WriteMode.OVERWRITE_DELETE_STALE, deletes=True)
    def test_stale_rows_of_all_types(self, lineage: Lineage) -> None:
        table = all_types_table("all_types", refused=lineage.destination.capabilities.types_refused)
        lineage.migrate(table)
        rows = all_types_rows(lineage, table)
        lineage.write(lineage.insert(table, id=list(range(10)), **random_columns(table, 10)))
        assert lineage.delete_stale(table) == 0
        same(lineage, table, rows)
        lineage.next_pass()
        new = lineage.batch(table, id=list(range(5, 15)), **random_columns(table, 10, nulls=True))
        lineage.write(lineage.insert(table, id=list(range(5, 15)), **random_columns(table, 10, nulls=True)))
        assert lineage.delete_stale(table) == 5
        same(lineage, table, new)

    @needs(WriteMode.OVERWRITE_DELETE_STALE, deletes=True)
    def test_an_updated_row_is_not_stale(self, lineage: Lineage) -> None:
        table, incremental = orders(), orders("incremental")
        lineage.migrate(table, incremental)
        rows = [lineage.insert(one, id=[1, 2], name=["a", "b"], note=["x", "y"]) for one in (table, incremental)]
        lineage.write(*rows)
        lineage.next_pass()
        updated = lineage.insert(table, id=[1], name=["new"])  # the note is absent, and stays
        lineage.write(updated)
        assert lineage.delete_stale(table) == 1
        same(lineage, table, lineage.batch(table, id=[1], name=["new"], note=["x"]))
        same(lineage, incremental, rows[1].batch)

    @needs(WriteMode.OVERWRITE_DELETE_STALE, deletes=True)
    def test_stale_rows_of_other_partitions_and_sources_stay(self, lineage: Lineage) -> None:
        mine, south, strange = neighbours(lineage, partitioned())
        mine.next_pass()
        assert mine.delete_stale(partitioned()) == 4
        same(lineage, partitioned(), south, strange)

    @needs(WriteMode.OVERWRITE_DELETE_STALE, deletes=True)
    def test_stale_rows_of_another_source_stay_in_a_table_without_partitions(self, lineage: Lineage) -> None:
        strange = Lineage(lineage.destination, lineage.mode, source="other shop")
        for one, key in ((lineage, 1), (strange, 2)):
            one.migrate(_scoped())
            one.write(one.insert(_scoped(), id=[key], name=["x"]))
        lineage.next_pass()
        assert lineage.delete_stale(_scoped()) == 1
        same(lineage, _scoped(), strange.batch(_scoped(), id=[2], name=["x"]))

    @needs(WriteMode.OVERWRITE_DELETE_STALE, deletes=True)
    def test_too_large_a_share_of_stale_rows_stays(self, lineage: Lineage) -> None:
        mine, south, strange = neighbours(lineage, partitioned())
        mine.share_max = 0.5
        old = mine.batch(partitioned(), id=[1, 2, 3, 4], name=["x"] * 4)
        mine.next_pass()
        new = mine.insert(partitioned(), id=[1], name=["new"])
        mine.write(new)
        with pytest.raises(MassDeleteError):
            mine.delete_stale(partitioned())  # 3 of 4
        same(lineage, partitioned(), new.batch, old.slice(1), south, strange)
        more = mine.insert(partitioned(), id=[2], name=["new"])
        mine.write(more)
        assert mine.delete_stale(partitioned()) == 2  # a half is not too large
        same(lineage, partitioned(), new.batch, more.batch, south, strange)
        mine.share_max = 0.99
        mine.next_pass()
        with pytest.raises(MassDeleteError):
            mine.delete_stale(partitioned())
        mine.share_max = None
        assert mine.delete_stale(partitioned()) == 2

    @pytest.mark.parametrize("mode", [WriteMode.OVERWRITE, WriteMode.OVERWRITE_DELETE_STALE])
    def test_writing_deletes_no_stale_rows(self, lineage: Lineage, mode: WriteMode) -> None:
        lineage.mode, table = mode, orders()
        if refuses(lineage):
            return
        lineage.migrate(table)
        old = lineage.insert(table, id=[1], name=["a"], note=["x"])
        lineage.write(old)
        lineage.next_pass()
        new = lineage.insert(table, id=[2], name=["b"], note=["x"])
        lineage.write(new, Complete(table.name))
        same(lineage, table, old.batch, new.batch)


class HeldCases(DestinationFixtures):
    """What is there of a scope: evidence beside the states."""

    def test_a_table_that_is_not_there_holds_nothing(self, lineage: Lineage) -> None:
        assert not lineage.holds(orders())
        lineage.migrate(orders())
        assert not lineage.holds(orders())
        assert not lineage.holds(orders("other"))

    def test_rows_of_one_scope_are_no_evidence_of_another(self, lineage: Lineage) -> None:
        table = orders(partitioned=True)
        mine = replace(lineage, partition="north")
        others = (
            replace(lineage, partition="south", task="orders/south", tables={}, state=None),
            replace(lineage, partition="north", source="other shop", tables={}, state=None),
            replace(lineage, partition=None, task="all orders", tables={}, state=None),
        )
        mine.migrate(table)
        mine.write(mine.insert(table, id=[1], name=["a"], note=["b"]))
        assert mine.holds(table)
        assert not any(one.holds(table) for one in others)

    def test_rows_are_found_after_a_restart_and_whatever_columns_came_since(
        self, lineage: Lineage, reopen: Reopen
    ) -> None:
        lineage.migrate(orders())
        lineage.write(lineage.insert(orders(), id=[1], name=["a"], note=["b"]))
        lineage.destination.close()
        with closing(reopen()) as destination:
            lineage.destination = destination
            assert lineage.holds(orders(name=pa.string(), note=pa.string(), more=pa.string()))

    @needs(WriteMode.OVERWRITE, deletes=True, states=True)
    def test_whatever_removes_the_last_rows_says_so_before_the_state_is_kept(self, lineage: Lineage) -> None:
        table, other = orders(), orders("other")
        lineage.migrate(table, other)
        one = keys(table, 1)
        for messages in (
            [Delete(table.name, one)],
            [Truncate(table.name)],
            [Present(table.name, keys(table)), Complete(table.name)],
            [Replace(table.name, one)],
            [Stale(table.name)],
        ):
            lineage.write(lineage.insert(table, id=[1], name=["a"], note=["b"]))
            lineage.next_pass()
            window = lineage.window([*messages, Checkpoint({})])
            lineage.write_window(window)
            assert "orders" in window.empty, messages
            assert not lineage.holds(table)

    @needs(WriteMode.OVERWRITE, deletes=True, states=True)
    def test_a_table_that_keeps_a_row_of_the_scope_is_not_said_to_be_empty(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 2], name=["a", "b"], note=["b", "b"]))
        window = lineage.window([Delete(table.name, keys(table, 1)), Checkpoint({})])
        lineage.write_window(window)
        assert "orders" not in window.empty

    @needs(WriteMode.OVERWRITE, deletes=True, states=True)
    def test_rows_of_another_source_do_not_hide_that_the_last_own_one_is_gone(self, lineage: Lineage) -> None:
        table, strange = orders(), Lineage(lineage.destination, WriteMode.OVERWRITE, source="other shop")
        for one, key in ((lineage, 1), (strange, 2)):
            one.migrate(table)
            one.write(one.insert(table, id=[key], name=["a"], note=["b"]))
        window = lineage.window([Delete(table.name, keys(table, 1)), Checkpoint({})])
        lineage.write_window(window)
        assert "orders" in window.empty
        assert strange.holds(table)
