"""Cases: the end of a full refresh, when a hidden table takes the place of the rows."""

from dataclasses import replace

import pytest

from strandline.destination import WriteMode
from strandline.errors import MassDeleteError, StateConflictError, TaskError
from strandline.lazy import pa
from strandline.message import Complete, Forget, Swap
from strandline.table import Table
from strandline.testing.destination_fixtures import DestinationFixtures, needs, orders, refuses, same, unkeyed
from strandline.testing.windows import Lineage

__all__ = ["HIDDEN", "SwapCases", "refresh"]

HIDDEN = "_cq_refresh_0123456789abcdef"


def refresh(lineage: Lineage, table: Table) -> Lineage:
    """The lineage that fills the hidden table, in a pass of its own: what the engine makes of a full refresh."""
    side = replace(lineage, task=f"@refresh/{lineage.task}", state=None)
    side.next_pass()
    side.migrate(table.named(HIDDEN))
    side.tables = {table.name: table.named(HIDDEN)}
    lineage.pass_ = side.pass_
    return side


class SwapCases(DestinationFixtures):
    """A full refresh, as the engine makes it: a lineage of its own fills a hidden table, then ``Swap``."""

    @needs(replace=True)
    def test_a_reader_sees_the_old_rows_until_the_swap(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        old = lineage.insert(table, id=[1, 2], name=["a", "b"], note=["x", "y"])
        lineage.write(old)
        side = refresh(lineage, table)
        new = side.insert(table, id=[2, 3], name=["new", "c"], note=["x", None])
        side.write(new)
        side.write(Complete(table.name))
        same(lineage, table, old.batch)
        lineage.write(Swap(table.name, HIDDEN))
        same(lineage, table, new.batch)

    @needs(replace=True)
    def test_the_table_stays_the_same_and_the_hidden_one_is_dropped(self, lineage: Lineage) -> None:
        table = orders()
        mark = lineage.migrate(table).mark
        side = refresh(lineage, table)
        hidden_mark = side.migrate(table.named(HIDDEN), apply=False).mark
        side.write(side.insert(table, id=[1], name=["a"], note=["x"]))
        lineage.write(Swap(table.name, HIDDEN))
        assert lineage.migrate(table).mark == mark
        assert side.migrate(table.named(HIDDEN), apply=False).mark is None
        again = side.migrate(table.named(HIDDEN))
        assert again.empty
        assert again.mark not in {mark, hidden_mark}

    @pytest.mark.parametrize("mode", WriteMode)
    def test_rows_of_other_partitions_and_sources_stay(self, lineage: Lineage, mode: WriteMode) -> None:
        lineage.mode, lineage.partition, table = mode, "north", orders(partitioned=True, name=pa.string())
        if refuses(lineage, replace=True):
            return
        south = replace(lineage, partition="south", task="orders/south", tables={})
        strange = replace(lineage, source="other shop", tables={})
        for one, key in ((lineage, 1), (south, 11), (strange, 21)):
            one.migrate(table)
            one.write(one.insert(table, id=[key], name=["x"]))
        others = [one.batch(table, id=[key], name=["x"]) for one, key in ((south, 11), (strange, 21))]
        side = refresh(lineage, table)
        new = side.insert(table, id=[2], name=["new"])
        side.write(new, Complete(table.name))
        lineage.write(Swap(table.name, HIDDEN))
        same(lineage, table, new.batch, *others)

    @needs(replace=True)
    def test_an_empty_refresh_empties_the_scope_only_if_that_is_allowed(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        two = lineage.insert(table, id=[1, 2], name=["a", "b"], note=["x", "y"])
        lineage.write(two)
        lineage.share_max = 0.5
        refresh(lineage, table).write(Complete(table.name))
        with pytest.raises(MassDeleteError):
            lineage.write(Swap(table.name, HIDDEN))
        same(lineage, table, two.batch)
        lineage.share_max = None
        lineage.write(Swap(table.name, HIDDEN))
        same(lineage, table)

    @needs(replace=True)
    def test_a_column_that_only_the_old_table_has_is_null(self, lineage: Lineage) -> None:
        table, narrow = orders(), orders(note=pa.string())
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1], name=["a"], note=["x"]))
        lineage.migrate(narrow)
        side = refresh(lineage, narrow)
        new = side.insert(narrow, id=[2], note=["y"])
        side.write(new)
        lineage.write(Swap(narrow.name, HIDDEN))
        same(lineage, narrow, new.batch)
        same(lineage, table, new.batch)

    @needs(replace=True, states=True)
    def test_a_swap_that_fails_leaves_both_tables_and_the_state(self, lineage: Lineage) -> None:
        table, other = orders(), orders("other")
        lineage.migrate(table, other)
        late = replace(lineage)
        old = lineage.insert(table, id=[1], name=["a"], note=["x"])
        lineage.write(old)
        side = refresh(lineage, table)
        new = side.insert(table, id=[2], name=["b"], note=["x"])
        side.write(new)
        with pytest.raises(TaskError):
            lineage.write(Swap(table.name, HIDDEN), lineage.insert(other, id=[None], name=["a"], note=["x"]))
        with pytest.raises(StateConflictError):
            late.write(Swap(table.name, HIDDEN))
        assert lineage.stored() == lineage.state
        same(lineage, table, old.batch)
        same(lineage, table.named(HIDDEN), new.batch)
        lineage.write(Swap(table.name, HIDDEN))
        assert lineage.stored() == lineage.state
        same(lineage, table, new.batch)

    @needs(replace=True)
    def test_several_tables_are_swapped_in_one_window(self, lineage: Lineage) -> None:
        tables = [orders("one"), orders("two")]
        lineage.migrate(*tables)
        expected = []
        for number, table in enumerate(tables):
            lineage.write(lineage.insert(table, id=[0], name=["old"], note=["x"]))
            side = replace(lineage, task=f"@refresh/{number}", state=None)
            side.migrate(table.named(f"hidden {number}"))
            side.tables = {table.name: table.named(f"hidden {number}")}
            expected.append(side.insert(table, id=[number], name=["new"], note=["x"]))
            side.write(expected[-1])
        lineage.write(*(Swap(table.name, f"hidden {number}") for number, table in enumerate(tables)))
        for table, message in zip(tables, expected, strict=True):
            same(lineage, table, message.batch)

    @pytest.mark.parametrize("unique", [True, False])
    @needs(WriteMode.APPEND, replace=True, states=True)
    def test_what_the_refresh_delivered_is_known_afterwards(self, lineage: Lineage, unique: bool) -> None:  # noqa: FBT001 -- a parameter of the test
        table = orders(name=pa.string()) if unique else unkeyed()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, reread=True, id=[1, 2], name=["a", "b"]), Complete(table.name))
        side = refresh(lineage, table)
        new = side.insert(table, reread=True, id=[2, 3, 3], name=["b", "c", "d"])
        assert not any(side.write(new, Complete(table.name)).known.values())
        lineage.write(Swap(table.name, HIDDEN))
        same(lineage, table, new.batch)
        lineage.next_pass()
        again = lineage.insert(table, reread=True, id=[3, 2, 1], name=["d", "b", "a"])
        receipt = lineage.write(again, Complete(table.name))
        assert receipt.known == {table.name: 2}  # row 1 went with the old table
        same(lineage, table, new.batch, again.batch.slice(2))

    @needs(replace=True)
    def test_a_refresh_that_is_given_up_leaves_nothing_over(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        old = lineage.insert(table, id=[1, 2], name=["a", "b"], note=["x", "y"])
        lineage.write(old)
        side = refresh(lineage, table)
        side.write(side.insert(table, id=[2], name=["new"], note=["x"]))
        for _ in range(2):
            side.tables = {}
            side.write(Forget(HIDDEN, drop=True))
            assert side.migrate(table.named(HIDDEN), apply=False).mark is None
            same(lineage, table, old.batch)

    @pytest.mark.parametrize("drop", [False, True])
    @needs(WriteMode.APPEND, replace=True, states=True)
    def test_what_is_forgotten_is_delivered_again(self, lineage: Lineage, drop: bool) -> None:  # noqa: FBT001 -- a parameter of the test
        table, other = orders(name=pa.string()), orders("other", name=pa.string())
        lineage.migrate(table, other)
        first = [lineage.insert(one, reread=True, id=[1, 2], name=["a", "b"]) for one in (table, other)]
        lineage.write(*first, Complete(table.name), Complete(other.name))
        lineage.write(Forget(table.name, drop=drop))
        lineage.migrate(table)
        lineage.next_pass()
        again = [lineage.insert(one, reread=True, id=[1, 2], name=["a", "b"]) for one in (table, other)]
        receipt = lineage.write(*again)
        assert {name: count for name, count in receipt.known.items() if count} == {other.name: 2}
        same(lineage, table, *([] if drop else [first[0].batch]), again[0].batch)
        same(lineage, other, first[1].batch)
