"""Cases: a column that a source meets in mid-stream, between two windows of one pass."""

from typing import Any

import pytest

from strandline.destination import WriteMode
from strandline.lazy import pa
from strandline.message import Complete, Swap
from strandline.testing.destination_fixtures import DestinationFixtures, needs, orders, refuses, refuses_type, same
from strandline.testing.windows import Lineage

__all__ = ["GrowCases"]


class GrowCases(DestinationFixtures):
    """The engine asks for the new column between two windows; the rows before it have none."""

    @pytest.mark.parametrize("mode", WriteMode)
    def test_a_column_that_is_met_within_a_pass_is_stored_from_then_on(self, lineage: Lineage, mode: WriteMode) -> None:
        lineage.mode = mode
        if refuses(lineage):
            return
        nested = pa.list_(pa.int64())
        tags: dict[str, Any] = {} if refuses_type(lineage, nested) else {"tags": nested}
        before, after = orders(name=pa.string()), orders(name=pa.string(), price=pa.float64(), **tags)
        mark = lineage.migrate(before).mark
        first = lineage.insert(before, id=[1], name=["a"])
        lineage.write(first)
        assert lineage.migrate(after).mark == mark
        more: Any = {name: [[1, None]] for name in tags}
        second = lineage.insert(after, id=[2], name=["b"], price=[0.1], **more)
        # a message may have fewer columns than the table
        third = lineage.insert(after, id=[3], name=["c"])
        lineage.write(second, third, Complete(after.name))
        rows = {"id": [1, 2, 3], "name": ["a", "b", "c"], "price": [None, 0.1, None]}
        rows |= {name: [None, [1, None], None] for name in tags}
        same(lineage, after, lineage.batch(after, rows))

    @needs(WriteMode.APPEND, states=True)
    def test_a_row_from_before_the_column_is_known_after_it(self, lineage: Lineage) -> None:
        """The engine gives a row the same version, as long as it has no value there."""
        before, after = orders(name=pa.string()), orders(name=pa.string(), price=pa.float64())
        lineage.migrate(before)
        lineage.write(lineage.insert(before, id=[1], name=["a"], reread=True))
        lineage.migrate(after)
        lineage.write(lineage.insert(after, id=[2], name=["b"], price=[0.1], reread=True), Complete(after.name))
        lineage.next_pass()
        again = lineage.insert(after, id=[1], name=["a"], reread=True)
        other = lineage.insert(after, id=[2], name=["b"], price=[0.1], reread=True)
        assert lineage.write(again, other, Complete(after.name)).known == {after.name: 2}

    @needs(WriteMode.OVERWRITE, replace=True)
    def test_a_column_that_is_met_by_a_full_refresh_comes_with_its_rows(self, lineage: Lineage) -> None:
        """Added to the table itself, too, since a swap takes what that has columns for."""
        before, after = orders(name=pa.string()), orders(name=pa.string(), price=pa.float64())
        hidden, grown = before.named("_cq_refresh_0"), after.named("_cq_refresh_0")
        lineage.migrate(before, hidden)
        lineage.write(lineage.insert(before, id=[1], name=["old"]))
        lineage.tables = {before.name: hidden}
        lineage.write(lineage.insert(before, id=[1], name=["a"]))
        lineage.migrate(after, grown)
        lineage.tables = {before.name: grown}
        lineage.write(lineage.insert(after, id=[2], name=["b"], price=[0.1]))
        # another run may make the swap, to which the source has not said anything of the column
        lineage.migrate(before)
        lineage.tables = {before.name: before}
        lineage.write(Swap(before.name, hidden.name))
        same(lineage, after, lineage.batch(after, id=[1, 2], name=["a", "b"], price=[None, 0.1]))
