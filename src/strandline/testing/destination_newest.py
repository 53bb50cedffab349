"""Cases: tables whose versions are ordered by a column (``Table.version_order``)."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from strandline.destination import WriteMode
from strandline.lazy import pa
from strandline.message import Delete, Insert, Replace, Swap
from strandline.table import Table
from strandline.testing.destination_fixtures import REFUSALS, DestinationFixtures, keys, needs, orders, same
from strandline.testing.windows import Lineage

__all__ = ["NewestCases"]

_MOMENTS = [datetime(1969, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 5, UTC)]
_VALUES: dict[str, list[Any]] = {
    "int64": [-5, 9, 10],
    "uint64": [0, 2**63 - 1, 2**64 - 1],
    "float64": [-0.5, 9.25, float("inf")],
    "date32": [date(1969, 12, 31), date(2024, 1, 9), date(2024, 1, 10)],
    "timestamp": [one.replace(tzinfo=None) for one in _MOMENTS],
    "zoned": _MOMENTS,
    "string": ["", "10", "9", "B", "a", "\u00e9", "\uffff", "\U0001f600"],
}
"""Of each type, ascending."""


def _type(name: str) -> "pa.DataType":
    zones = {"timestamp": None, "zoned": "UTC"}
    return pa.timestamp("us", zones[name]) if name in zones else getattr(pa, name)()


def _ordered(kind: "pa.DataType | None" = None) -> Table:
    table = orders(updated_at=kind or pa.int64(), name=pa.string())
    return replace(table, version_order="updated_at")


def _skips(lineage: Lineage) -> bool:
    """The engine refuses such a table where it is not declared; see ``engine.job``."""
    return not lineage.destination.capabilities.orders_versions


class NewestCases(DestinationFixtures):
    """Of two rows of one key the one with the greater value wins, whichever comes last."""

    def _row(self, lineage: Lineage, table: Table, key: int, at: Any, name: str) -> Insert:
        return lineage.insert(table, id=[key], updated_at=[at], name=[name])

    @pytest.mark.parametrize("kind", _VALUES)
    @needs(WriteMode.OVERWRITE)
    def test_an_older_row_never_replaces_a_newer_one(self, lineage: Lineage, kind: str) -> None:
        table, values = _ordered(_type(kind)), _VALUES[kind]
        if _skips(lineage):
            return
        lineage.migrate(table)
        ascending: Sequence[Any] = [None, *values]
        newest = [lineage.batch(table, id=[key], updated_at=[values[-1]], name=["new"]) for key in (1, 2, 3)]
        for at in ascending:  # each in a window of its own
            lineage.write(self._row(lineage, table, 1, at, "new"))
        for at in reversed(ascending):
            lineage.write(self._row(lineage, table, 2, at, "new" if at == values[-1] else "old"))
        lineage.write(
            *(self._row(lineage, table, 3, at, "new" if at == values[-1] else "old") for at in reversed(ascending))
        )
        same(lineage, table, *newest)

    @needs(WriteMode.OVERWRITE)
    def test_of_equal_values_the_last_wins_and_of_nulls_too(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        lineage.migrate(table)
        for at in (7, None):
            key = 2 if at is None else 1
            lineage.write(self._row(lineage, table, key, at, "a"), self._row(lineage, table, key, at, "b"))
            lineage.write(self._row(lineage, table, key, at, "c"))
        same(lineage, table, lineage.batch(table, id=[1, 2], updated_at=[7, None], name=["c", "c"]))

    @needs(WriteMode.OVERWRITE)
    def test_many_rows_of_one_key_in_a_batch_are_the_newest(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        lineage.migrate(table)
        count = 1000
        at = [(place * 7919) % count for place in range(count)]
        lineage.write(
            lineage.insert(table, id=[place % 10 for place in range(count)], updated_at=at, name=list(map(str, at)))
        )
        newest = [max(at[key::10]) for key in range(10)]
        same(lineage, table, lineage.batch(table, id=list(range(10)), updated_at=newest, name=list(map(str, newest))))

    @needs(WriteMode.OVERWRITE)
    def test_a_window_that_comes_again_changes_nothing(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        lineage.migrate(table)
        first, second = self._row(lineage, table, 1, 5, "first"), self._row(lineage, table, 1, 9, "second")
        for message in (first, second, first, first, second):
            lineage.write(message)
        same(lineage, table, second.batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_what_was_deleted_is_not_compared(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        lineage.migrate(table)
        lineage.write(self._row(lineage, table, 1, 9, "gone"))
        older = self._row(lineage, table, 1, 5, "older")
        for key in (keys(table, 1), lineage.insert(table, name=["gone"]).batch.select(["name"])):
            gone = Delete(table.name, key) if "id" in key.schema.names else Replace(table.name, key)
            lineage.write(self._row(lineage, table, 1, 8, "gone"), gone, older)
            same(lineage, table, older.batch)

    @needs(WriteMode.OVERWRITE)
    def test_rows_without_the_column_are_refused(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        lineage.migrate(table)
        with pytest.raises(REFUSALS):
            lineage.write(lineage.insert(table, id=[1], name=["a"]))
        same(lineage, table)

    @needs(WriteMode.APPEND)
    def test_all_versions_are_appended(self, lineage: Lineage) -> None:
        table = _ordered()
        lineage.migrate(table)
        rows = [self._row(lineage, table, 1, at, "a") for at in (9, 5)]
        for row in rows:
            lineage.write(row)
        same(lineage, table, *(row.batch for row in rows))

    @needs(WriteMode.OVERWRITE_DELETE_STALE, deletes=True)
    def test_after_a_pass_from_nothing_there_is_the_newest_of_what_it_delivered(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        lineage.migrate(table)
        for key in (1, 2, 3):
            lineage.write(self._row(lineage, table, key, 9, "first pass"))
        lineage.next_pass()
        expected = [self._row(lineage, table, 1, 5, "this pass"), self._row(lineage, table, 2, 9, "this pass")]
        lineage.write(*expected)
        lineage.write(self._row(lineage, table, 2, 7, "older"), self._row(lineage, table, 1, 4, "older"))
        lineage.delete_stale(table)
        same(lineage, table, *(one.batch for one in expected))

    @needs(WriteMode.OVERWRITE_DELETE_STALE, deletes=True)
    def test_a_key_that_comes_in_the_pass_that_deletes_for_another_is_not_lost(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        lineage.migrate(table)
        for key in (1, 2, 3):
            lineage.write(self._row(lineage, table, key, 9, "first pass"))
        lineage.next_pass()
        spared = lineage.pass_ = replace(lineage.pass_, spares=True)
        first = self._row(lineage, table, 1, 5, "spares")
        lineage.write(first)
        lineage.next_pass()
        lineage.pass_ = replace(lineage.pass_, full=False, spares=False, stale_us=spared.sync_time_us)
        second = self._row(lineage, table, 2, 5, "deletes")
        lineage.write(second)
        lineage.delete_stale(table)
        same(lineage, table, first.batch, second.batch)

    @needs(WriteMode.OVERWRITE_DELETE_STALE, deletes=True)
    def test_a_later_pass_that_goes_on_replaces_no_newer_row(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        lineage.migrate(table)
        newer = self._row(lineage, table, 1, 9, "newer")
        lineage.write(newer)
        lineage.next_pass()
        lineage.pass_ = replace(lineage.pass_, full=False)
        lineage.write(self._row(lineage, table, 1, 5, "older"))
        same(lineage, table, newer.batch)

    @needs(WriteMode.OVERWRITE, deletes=True)
    def test_a_key_of_a_pass_from_nothing_is_not_lost_where_the_mode_changes(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        lineage.migrate(table)
        lineage.write(self._row(lineage, table, 1, 9, "newer"), self._row(lineage, table, 2, 9, "stale"))
        lineage.next_pass()
        lineage.write(self._row(lineage, table, 1, 5, "older"))
        lineage.mode = WriteMode.OVERWRITE_DELETE_STALE
        lineage.delete_stale(table)
        same(lineage, table, self._row(lineage, table, 1, 9, "newer").batch)

    @needs(WriteMode.OVERWRITE)
    def test_a_newer_row_of_another_source_stays(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        other = Lineage(lineage.destination, lineage.mode, source="other shop")
        for one in (lineage, other):
            one.migrate(table)
        newer = self._row(other, table, 1, 9, "theirs")
        other.write(newer)
        lineage.next_pass()
        lineage.write(self._row(lineage, table, 1, 5, "ours"))
        same(lineage, table, newer.batch)

    @needs(WriteMode.OVERWRITE, replace=True)
    def test_a_full_refresh_replaces_by_what_it_delivered(self, lineage: Lineage) -> None:
        table = _ordered()
        if _skips(lineage):
            return
        hidden = table.named("hidden")
        lineage.migrate(table, hidden)
        lineage.write(self._row(lineage, table, 1, 9, "newer"))
        lineage.next_pass()
        kept = self._row(lineage, table, 1, 5, "kept")
        lineage.write(replace(kept, table="hidden"), replace(self._row(lineage, table, 1, 4, "older"), table="hidden"))
        lineage.write(Swap(table.name, "hidden"))
        same(lineage, table, kept.batch)
