"""Cases: a column that somebody has added to a stored table keeps its values, as long as its row is there."""

from collections.abc import Callable
from typing import Any

import pytest

from strandline.destination import MigrateMode, WriteMode
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.message import Complete, Delete, Replace, Swap, WindowMessage
from strandline.ownership import Owner, Ownership
from strandline.table import Table
from strandline.testing.destination_fixtures import (
    DestinationFixtures,
    Stranger,
    keys,
    orders,
    refuses,
    refuses_type,
    same,
    unkeyed,
)
from strandline.testing.destination_swap import HIDDEN, refresh
from strandline.testing.windows import Lineage, batch_of

__all__ = ["ColumnCases"]

_OVERWRITING = [WriteMode.OVERWRITE, WriteMode.OVERWRITE_DELETE_STALE]
_OWNER = Owner("shop", "warehouse")

Update = Callable[[Lineage, Table], list[WindowMessage]]
UPDATES: dict[str, Update] = {
    "one row": lambda one, table: [one.insert(table, id=[1], name=["A"], note=["Y"])],
    "with a new one": lambda one, table: [one.insert(table, id=[1, 7], name=["A", "g"], note=["Y", "y"])],
    "a key twice": lambda one, table: [one.insert(table, id=[1, 1], name=["B", "A"], note=["X", "Y"])],
    "some columns": lambda one, table: [one.insert(table, id=[1], name=["A"])],
    "deletes among them": lambda one, table: [
        one.insert(table, id=[1], name=["A"], note=["Y"]),
        Delete(table.name, keys(table, 3)),
    ],
    "replaced, and not among them": lambda one, table: [
        Replace(table.name, batch_of(table, {"name": ["a", "b", "c"]})),
        one.insert(table, id=[1], name=["A"], note=["Y"]),
        one.insert(table, id=[2], name=["b"], note=["Y"]),
    ],
    "deleted, and there again": lambda one, table: [
        one.insert(table, id=[2], name=["A"], note=["Y"]),
        Delete(table.name, keys(table, 1)),
        one.insert(table, id=[1], name=["A"], note=["Y"]),
    ],
}


class _Theirs:
    """A table of three rows, to which somebody has added columns: in row 1 and 2 they have values, in row 3 defaults."""

    def __init__(self, lineage: Lineage, stranger: Stranger, table: Table) -> None:
        self.lineage, self.table, self._stranger = lineage, table, stranger
        lineage.migrate(table, ownership=Ownership(_OWNER))
        lineage.write(lineage.insert(table, id=[1, 2, 3], name=["a", "b", "c"], **self._note(3)))
        self.sql("ALTER TABLE {table} ADD COLUMN mine VARCHAR")
        self.sql("ALTER TABLE {table} ADD COLUMN kept BIGINT DEFAULT 8")
        self.sql("UPDATE {table} SET mine = 'first', kept = 1 WHERE id = 1")
        self.sql("UPDATE {table} SET mine = 'second', kept = 2 WHERE id = 2")
        lineage.next_pass()

    def _note(self, count: int) -> dict[str, Any]:
        return {"note": ["x"] * count} if "note" in self.table.schema.names else {}

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        self.lineage.destination.close()
        return self._stranger(self.table.name, statement)

    def values(self) -> dict[int, tuple[Any, ...]]:
        return {row[0]: row[1:] for row in self.sql("SELECT id, mine, kept FROM {table}")}


class ColumnCases(DestinationFixtures):
    """Columns that are not ours, in tables that are."""

    @pytest.mark.parametrize("update", UPDATES)
    @pytest.mark.parametrize("mode", _OVERWRITING)
    def test_somebodys_column_keeps_its_values_when_rows_are_updated(
        self, lineage: Lineage, stranger: Stranger | None, mode: WriteMode, update: str
    ) -> None:
        lineage.mode = mode
        if stranger is None or refuses(lineage, deletes=True):
            return
        theirs = _Theirs(lineage, stranger, orders())
        lineage.write(*UPDATES[update](lineage, theirs.table))
        found = theirs.values()
        assert {key: found[key] for key in (1, 2)} == {1: ("first", 1), 2: ("second", 2)}
        assert set(found) - {7} == ({1, 2} if "among" in update else {1, 2, 3})
        assert all(found[key] == (None, 8) for key in found if key > 2)
        assert theirs.sql("SELECT name FROM {table} WHERE id = 1") == [("A",)]

    @pytest.mark.parametrize("keyed", [True, False])
    @pytest.mark.parametrize("mode", _OVERWRITING)
    def test_somebodys_column_keeps_its_values_at_a_full_refresh(
        self,
        lineage: Lineage,
        stranger: Stranger | None,
        mode: WriteMode,
        keyed: bool,  # noqa: FBT001 -- a parameter of the test
    ) -> None:
        lineage.mode = mode
        if stranger is None or refuses(lineage, replace=True):
            return
        theirs = _Theirs(lineage, stranger, orders(name=pa.string()) if keyed else unkeyed())
        side = refresh(lineage, theirs.table)
        new = side.insert(theirs.table, id=[1, 3, 9], name=["A" if keyed else "a", "c", "i"])
        side.write(new, Complete(theirs.table.name))
        lineage.write(Swap(theirs.table.name, HIDDEN))
        same(lineage, theirs.table, new.batch)
        assert theirs.values() == {1: ("first", 1), 3: (None, 8), 9: (None, 8)}

    def test_somebodys_column_keeps_its_values_when_rows_are_appended(
        self, lineage: Lineage, stranger: Stranger | None
    ) -> None:
        lineage.mode = WriteMode.APPEND
        if stranger is None or refuses(lineage):
            return
        theirs = _Theirs(lineage, stranger, orders())
        lineage.write(lineage.insert(theirs.table, reread=True, id=[3, 4], name=["c", "d"], note=["x", "y"]))
        assert {key: value for key, value in theirs.values().items() if key != 3} == {
            1: ("first", 1),
            2: ("second", 2),
            4: (None, 8),
        }

    @pytest.mark.parametrize("mode", MigrateMode)
    def test_somebodys_column_keeps_its_values_when_columns_of_ours_change(
        self, lineage: Lineage, stranger: Stranger | None, mode: MigrateMode
    ) -> None:
        wider = orders(name=pa.large_string(), note=pa.string(), more=pa.int64())
        if stranger is None or refuses_type(lineage, pa.large_string()):
            return
        theirs = _Theirs(lineage, stranger, orders())
        lineage.migrate(wider, mode=mode)
        lineage.write(lineage.insert(wider, id=[1], name=["A"], note=["y"], more=[1]))
        assert theirs.values()[1] == ("first", 1)

    @pytest.mark.parametrize("mode", MigrateMode)
    def test_a_column_of_the_source_does_not_overwrite_one_that_somebody_has_added(
        self, lineage: Lineage, stranger: Stranger | None, mode: MigrateMode
    ) -> None:
        after = orders(name=pa.string(), note=pa.string(), mine=pa.string())
        if stranger is None:
            return
        theirs = _Theirs(lineage, stranger, orders())
        for apply in (False, True):
            with pytest.raises(TaskError, match="'mine'"):
                lineage.migrate(after, mode=mode, apply=apply, ownership=Ownership(_OWNER))
        assert theirs.values()[1] == ("first", 1)
        lineage.migrate(after, ownership=Ownership(_OWNER, adopt=True))
        lineage.migrate(after, ownership=Ownership(_OWNER))
        lineage.write(lineage.insert(after, id=[1], name=["A"], note=["y"], mine=["ours"]))
        assert theirs.values()[1] == ("ours", 1)

    @pytest.mark.parametrize("mode", _OVERWRITING)
    def test_a_column_that_the_source_has_no_more_is_null_beside_new_values(
        self, lineage: Lineage, stranger: Stranger | None, mode: WriteMode
    ) -> None:
        lineage.mode = mode
        if stranger is None or refuses(lineage):
            return
        theirs, narrow = _Theirs(lineage, stranger, orders()), orders(name=pa.string())
        lineage.migrate(narrow)
        lineage.write(lineage.insert(narrow, id=[1], name=["A"]))
        assert theirs.sql("SELECT name, note, mine FROM {table} WHERE id = 1") == [("A", None, "first")]
        assert theirs.sql("SELECT name, note, mine FROM {table} WHERE id = 2") == [("b", "x", "second")]
