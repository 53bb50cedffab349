"""Cases: a window that comes again, for a destination that replaces what the first attempt left."""

import pytest

from strandline.destination import Delivery, WriteMode
from strandline.errors import StateConflictError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete
from strandline.testing.destination_fixtures import DestinationFixtures, orders, same, unkeyed
from strandline.testing.windows import Lineage

__all__ = ["RepeatCases"]

_BOTH = pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])


def _repeats(lineage: Lineage, mode: WriteMode) -> bool:
    """Whether a repetition is to be known, and tried in this mode."""
    lineage.mode, able = mode, lineage.destination.capabilities
    return able.delivery is Delivery.IDEMPOTENT and mode in able.write_modes


class RepeatCases(DestinationFixtures):
    """Without states: the engine saves the cursor after the window, and may be killed in between."""

    @_BOTH
    @pytest.mark.parametrize("unique", [True, False])
    def test_a_window_that_comes_again_is_stored_once(self, lineage: Lineage, mode: WriteMode, unique: bool) -> None:  # noqa: FBT001 -- a parameter of the test
        if not _repeats(lineage, mode):
            return
        table = orders(name=pa.string()) if unique else unkeyed()
        lineage.migrate(table)
        first = lineage.insert(table, id=[1, 2], name=["a", "a"])
        lineage.write(first)
        rows = lineage.insert(table, id=[3, 3 if not unique else 4], name=["b", "b"])
        for _ in range(2):
            lineage.destination.write(lineage.window([rows, Checkpoint({})]), mode=mode, fence=lineage.fence)
        same(lineage, table, first.batch, rows.batch)

    @_BOTH
    def test_a_window_that_comes_again_with_other_rows_takes_the_place_of_what_it_was(
        self, lineage: Lineage, mode: WriteMode
    ) -> None:
        if not _repeats(lineage, mode):
            return
        table = orders(name=pa.string())
        lineage.migrate(table)
        before = lineage.window([lineage.insert(table, id=[1, 2], name=["a", "b"]), Checkpoint({})])
        lineage.destination.write(before, mode=mode, fence=lineage.fence)
        after = lineage.insert(table, id=[2, 1], name=["c", "d"])
        lineage.destination.write(lineage.window([after, Checkpoint({})]), mode=mode, fence=lineage.fence)
        same(lineage, table, after.batch)

    @_BOTH
    def test_another_window_is_no_repetition(self, lineage: Lineage, mode: WriteMode) -> None:
        if not _repeats(lineage, mode):
            return
        table = orders(name=pa.string())
        lineage.migrate(table)
        first, second = (lineage.insert(table, id=[number], name=["a"]) for number in (1, 2))
        lineage.write(first)
        lineage.write(second, Complete(table.name))
        same(lineage, table, first.batch, second.batch)

    @_BOTH
    def test_who_was_overtaken_replaces_nothing(self, lineage: Lineage, mode: WriteMode) -> None:
        if not _repeats(lineage, mode):
            return
        table = orders(name=pa.string())
        lineage.migrate(table)
        old, lineage.epoch = lineage.fence, 2
        rows = lineage.insert(table, id=[1], name=["new"])
        lineage.destination.write(lineage.window([rows, Checkpoint({})]), mode=mode, fence=lineage.fence)
        assert lineage.destination.holds(table, scope=lineage.scope).epoch == lineage.epoch
        late = lineage.window([lineage.insert(table, id=[2], name=["late"]), Checkpoint({})])
        with pytest.raises(StateConflictError):
            lineage.destination.write(late, mode=mode, fence=old)
        same(lineage, table, rows.batch)
