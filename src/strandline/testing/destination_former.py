"""Cases: a column that an older version of the source offered in another type, and that is stored so."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from strandline.destination import CHANGE_COLUMN, MigrateMode
from strandline.lazy import pa
from strandline.message import Complete, Swap
from strandline.table import Table
from strandline.testing.destination_fixtures import DestinationFixtures, needs, orders, refuses_type, same
from strandline.testing.destination_swap import HIDDEN, refresh
from strandline.testing.windows import Lineage

__all__ = ["FormerCases"]

_FORMER: Mapping[str, Callable[[], tuple[Any, list[Any], Any, Any]]] = {
    "text is a decimal now": lambda: (pa.string(), ["1.50", "NaN"], pa.decimal128(38, 18), "2"),
    "a double is a decimal now": lambda: (pa.float64(), [0.1, 1e300], pa.decimal128(12, 2), "2"),
    "text is a day now": lambda: (pa.string(), ["2024-01-01", ""], pa.date32(), "2024-01-01"),
    "text is a moment now": lambda: (
        pa.string(),
        ["2024-01-01T00:00:00+02:00", "never"],
        pa.timestamp("us", "UTC"),
        "2024-01-01T00:00:00Z",
    ),
}


class FormerCases(DestinationFixtures):
    """``Table.former`` and ``Migration.kept``: it stays so until a full refresh, and no row is another one."""

    @pytest.mark.parametrize("mode", MigrateMode)
    @pytest.mark.parametrize("change", _FORMER)
    def test_a_column_stays_as_an_older_version_stored_it(
        self, lineage: Lineage, change: str, mode: MigrateMode
    ) -> None:
        kind, values, wanted, _ = _FORMER[change]()
        if refuses_type(lineage, kind) or refuses_type(lineage, wanted):
            return
        before, after = _tables(kind, wanted)
        mark = lineage.migrate(before).mark
        first = lineage.insert(before, id=[1, 2], name=["a", "b"], value=values)
        lineage.write(first)
        for apply in (False, True, True):
            found = lineage.migrate(after, apply=apply, mode=mode)
            assert (found.mark, found.changes, found.kept) == (mark, (), {"value": kind})
        lineage.tables = {after.name: after.keeping({"value": kind})}
        second = lineage.insert(before, id=[3], name=["c"], value=values[:1])
        lineage.write(second)
        same(lineage, before, first.batch, second.batch)

    def test_text_stays_text_where_former_says_something_else(self, lineage: Lineage) -> None:
        """As an API has it that shows whole numbers now: a text in which there is one is no fraction."""
        before, after = _tables(pa.string(), pa.int64())
        if refuses_type(lineage, pa.int64()):
            return
        lineage.migrate(before)
        first = lineage.insert(before, id=[1], name=["a"], value=["n/a"])
        lineage.write(first)
        for apply in (False, True):
            found = lineage.migrate(replace(after, former={"value": pa.float64()}), apply=apply)
            assert (found.changes, found.kept) == ((), {"value": pa.string()})
        same(lineage, before, first.batch)

    @pytest.mark.parametrize("change", _FORMER)
    def test_a_table_that_is_new_has_the_type_of_now(self, lineage: Lineage, change: str) -> None:
        kind, _, wanted, value = _FORMER[change]()
        if refuses_type(lineage, kind) or refuses_type(lineage, wanted):
            return
        _, after = _tables(kind, wanted)
        for _ in range(2):
            assert lineage.migrate(after).kept == {}
        rows = lineage.insert(after, id=[1], name=["a"], value=pa.array([value]).cast(wanted))
        lineage.write(rows)
        same(lineage, after, rows.batch)

    @needs(replace=True)
    def test_a_full_refresh_gives_it_the_type_of_now(self, lineage: Lineage) -> None:
        kind, values, wanted, value = _FORMER["text is a decimal now"]()
        if refuses_type(lineage, wanted):
            return
        before, after = _tables(kind, wanted)
        mark = lineage.migrate(before).mark
        lineage.write(lineage.insert(before, id=[1, 2], name=["a", "b"], value=values))
        found = lineage.migrate(after, replaces=lineage.scope)
        assert (found.kept, [one.kind for one in found.changes]) == ({}, [CHANGE_COLUMN])
        side = refresh(lineage, after)
        fresh = side.insert(after, id=[1], name=["a"], value=pa.array([value]).cast(wanted))
        side.write(fresh, Complete(after.name))
        lineage.tables = {after.name: after}
        lineage.write(Swap(after.name, HIDDEN))
        same(lineage, after, fresh.batch)
        found = lineage.migrate(after)
        assert (found.mark, found.changes, found.kept) == (mark, (), {})


def _tables(kind: Any, wanted: Any) -> tuple[Table, Table]:
    now = orders(name=pa.string(), value=wanted)
    return orders(name=pa.string(), value=kind), replace(now, former={"value": kind})
