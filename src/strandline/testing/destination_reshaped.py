"""Cases: a full refresh after which a table has columns of other types, or another primary key."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strandline.destination import ADD_COLUMN, BY_REFRESH, CHANGE_COLUMN, CHANGE_KEY, MigrateMode, WriteMode
from strandline.errors import TaskError, UsageError
from strandline.lazy import pa
from strandline.message import Complete, Swap
from strandline.ownership import Owner, Ownership
from strandline.table import CQ_ID, Table
from strandline.testing.destination_fixtures import (
    DestinationFixtures,
    Stranger,
    needs,
    orders,
    refuses,
    refuses_type,
    same,
    unkeyed,
)
from strandline.testing.destination_swap import HIDDEN, refresh
from strandline.testing.windows import Lineage

__all__ = ["ReshapeCases"]

_OWNER = Owner("shop", "warehouse")
_TYPES: dict[str, Callable[[], tuple[Any, list[Any], Any, list[Any]]]] = {
    "text to number": lambda: (pa.string(), ["10", "n/a"], pa.int64(), [10, None]),
    "number to text": lambda: (pa.int64(), [10, None], pa.string(), ["10", "n/a"]),
    "fraction to number": lambda: (pa.float64(), [0.5, None], pa.int64(), [2**60 + 1, None]),
    "large number to fraction": lambda: (pa.int64(), [2**60 + 1, None], pa.float64(), [0.5, 10.0]),
    "more digits after the point": lambda: (pa.decimal128(38, 2), [None, 1], pa.decimal128(38, 30), [None, 2]),
    "flag to number": lambda: (pa.bool_(), [True, None], pa.int32(), [7, None]),
    "moment to text": lambda: (pa.timestamp("us", "UTC"), [0, None], pa.string(), ["now", None]),
    "text to list": lambda: (pa.string(), ["x", None], pa.list_(pa.int64()), [[1, 2], None]),
}


def _key(table: Table, *columns: str) -> Table:
    return replace(table, primary_key=columns)


def _reshape(lineage: Lineage, table: Table) -> Lineage:
    """The lineage that fills the hidden table of a full refresh, which gives the stored one other columns."""
    lineage.migrate(table, replaces=lineage.scope)
    return refresh(lineage, table)


def _kinds(lineage: Lineage, table: Table, **options: Any) -> list[str]:
    found = lineage.migrate(table, replaces=lineage.scope, apply=False, **options)
    return [change.kind for change in found.changes if change.kind in BY_REFRESH]


class ReshapeCases(DestinationFixtures):
    """What ``migrate`` says with ``replaces``, and what ``Swap`` then does."""

    @pytest.mark.parametrize("mode", WriteMode)
    @pytest.mark.parametrize("change", _TYPES)
    def test_a_column_takes_any_other_type_with_the_new_rows(
        self, lineage: Lineage, mode: WriteMode, change: str
    ) -> None:
        lineage.mode = mode
        before, old_values, after, new_values = _TYPES[change]()
        if refuses(lineage, replace=True) or refuses_type(lineage, before) or refuses_type(lineage, after):
            return
        old, new = (
            orders(name=pa.string(), v=before, last=pa.int32()),
            orders(name=pa.string(), v=after, last=pa.int32()),
        )
        mark = lineage.migrate(old).mark
        first = lineage.insert(old, id=[1, 2], name=["a", "b"], v=old_values, last=[5, 6])
        lineage.write(first)
        assert _kinds(lineage, new) == [CHANGE_COLUMN]
        for _ in range(2):
            side = _reshape(lineage, new)
        fresh = side.insert(new, id=[2, 3], name=["new", "c"], v=new_values, last=[7, None])
        side.write(fresh, Complete(new.name))
        same(lineage, old, first.batch)
        lineage.write(Swap(new.name, HIDDEN))
        same(lineage, new, fresh.batch)
        assert not _kinds(lineage, new)
        assert not lineage.migrate(new, apply=False).changes
        assert lineage.migrate(new).mark == mark
        assert side.migrate(new.named(HIDDEN), apply=False).mark is None
        lineage.next_pass()
        again = lineage.insert(new, id=[9], name=["i"], v=new_values[:1], last=[1])
        lineage.write(again)
        same(lineage, new, fresh.batch, again.batch)

    @pytest.mark.parametrize("mode", [MigrateMode.SAFE, MigrateMode.FORCED])
    @needs(replace=True)
    def test_nothing_is_created_again(self, lineage: Lineage, mode: MigrateMode) -> None:
        old, new = orders(v=pa.int64()), _key(orders(v=pa.bool_()), "id", "v")
        lineage.migrate(old)
        rows = lineage.insert(old, id=[1], v=[10])
        lineage.write(rows)
        for apply in (False, True):
            found = lineage.migrate(new, mode=mode, apply=apply, replaces=lineage.scope)
            assert sorted(change.kind for change in found.changes) == [CHANGE_COLUMN, CHANGE_KEY]
            assert all("v" in (change.column or change.detail) for change in found.changes)
            assert not found.empty
        same(lineage, old, rows.batch)

    @pytest.mark.parametrize("mode", [WriteMode.OVERWRITE, WriteMode.OVERWRITE_DELETE_STALE])
    def test_the_primary_key_becomes_another(self, lineage: Lineage, mode: WriteMode) -> None:
        lineage.mode, old = mode, orders(name=pa.string(), note=pa.string())
        if refuses(lineage, replace=True):
            return
        new = _key(old, "id", "name")
        mark = lineage.migrate(old).mark
        lineage.write(lineage.insert(old, id=[1, 2], name=["a", "b"], note=["x", "y"]))
        assert _kinds(lineage, new) == [CHANGE_KEY]
        side = _reshape(lineage, new)
        fresh = side.insert(new, id=[1, 1], name=["a", "b"], note=["x", "z"])
        side.write(fresh, Complete(new.name))
        lineage.write(Swap(new.name, HIDDEN))
        same(lineage, new, fresh.batch)
        assert not _kinds(lineage, new)
        assert not lineage.migrate(new, apply=False).changes
        assert lineage.migrate(new).mark == mark
        with pytest.raises(TaskError):
            lineage.migrate(old, apply=False)
        lineage.next_pass()
        more = lineage.insert(new, id=[1, 1], name=["b", "c"], note=["Z", "w"])
        lineage.write(more)
        same(lineage, new, fresh.batch.slice(0, 1), more.batch)

    @needs(replace=True)
    def test_a_number_that_was_the_key_becomes_a_text(self, lineage: Lineage) -> None:
        old = orders(name=pa.string())
        new = replace(old, schema=old.schema.set(old.schema.get_field_index("id"), pa.field("id", pa.string())))
        lineage.migrate(old)
        lineage.write(lineage.insert(old, id=[1, 2], name=["a", "b"]))
        side = _reshape(lineage, new)
        fresh = side.insert(new, id=["1", "n/a"], name=["a", "c"])
        side.write(fresh, Complete(new.name))
        lineage.write(Swap(new.name, HIDDEN))
        lineage.next_pass()
        more = lineage.insert(new, id=["n/a", "01"], name=["C", "d"])
        lineage.write(more)
        same(lineage, new, fresh.batch.slice(0, 1), more.batch)

    @needs(WriteMode.APPEND, replace=True, states=True)
    def test_a_table_gets_a_key_of_its_own(self, lineage: Lineage) -> None:
        old = unkeyed()
        columns = [column for column in old.schema if column.name != CQ_ID]
        new = Table(old.name, pa.schema(columns), ("id",))
        lineage.migrate(old)
        lineage.write(lineage.insert(old, id=[1, 1], name=["a", "a"]))
        side = _reshape(lineage, new)
        fresh = side.insert(new, reread=True, id=[1, 2], name=["a", "b"])
        side.write(fresh, Complete(new.name))
        lineage.write(Swap(new.name, HIDDEN))
        same(lineage, new, fresh.batch)
        lineage.next_pass()
        known = lineage.write(lineage.insert(new, reread=True, id=[1, 2], name=["a", "b"])).known
        assert known == {new.name: 2}

    @needs(replace=True)
    def test_text_becomes_a_number_only_at_a_full_refresh(self, lineage: Lineage) -> None:
        old, new = orders(note=pa.string()), orders(note=pa.int64())
        lineage.migrate(old)
        lineage.write(lineage.insert(old, id=[1], note=["n/a"]))
        assert lineage.migrate(new, apply=False).kept == {"note": pa.string()}
        found = lineage.migrate(new, replaces=lineage.scope)
        assert (found.kept, [change.kind for change in found.changes]) == ({}, [CHANGE_COLUMN])

    @needs(replace=True)
    def test_a_column_that_is_new_is_added_as_ever(self, lineage: Lineage) -> None:
        old, new = orders(v=pa.int32()), orders(v=pa.int64(), more=pa.string())
        lineage.migrate(old)
        lineage.write(lineage.insert(old, id=[1], v=[10]))
        assert not _kinds(lineage, new)
        found = lineage.migrate(new, replaces=lineage.scope)
        assert ADD_COLUMN in {change.kind for change in found.changes}
        assert not lineage.migrate(new, replaces=lineage.scope).changes

    @pytest.mark.parametrize("other", ["partition", "source"])
    @needs(replace=True)
    def test_rows_of_others_keep_their_columns(self, lineage: Lineage, other: str) -> None:
        lineage.partition = "north"
        old, new = (orders(partitioned=True, v=kind, note=pa.string()) for kind in (pa.int64(), pa.bool_()))
        others: dict[str, Any] = {"partition": {"partition": "south"}, "source": {"source": "other shop"}}[other]
        theirs = replace(lineage, task="orders/south", tables={}, **others)
        for one, key in ((lineage, 1), (theirs, 11)):
            one.migrate(old)
            one.write(one.insert(old, id=[key], v=[key], note=["n/a"]))
        kept = [one.batch(old, id=[key], v=[key], note=["n/a"]) for one, key in ((lineage, 1), (theirs, 11))]
        for table in (new, _key(old, "id", "v")):
            for apply in (False, True):
                with pytest.raises(UsageError, match="south" if other == "partition" else "other shop"):
                    lineage.migrate(table, replaces=lineage.scope, apply=apply)
        texts = orders(partitioned=True, v=pa.int64(), note=pa.int64())
        found = lineage.migrate(texts, apply=False, replaces=lineage.scope)
        assert (found.kept, found.changes) == ({"note": pa.string()}, ())
        assert found.users
        lineage.pass_ = replace(lineage.pass_)
        side = refresh(lineage, new)
        side.write(side.insert(new, id=[1], v=[True], note=["x"]), Complete(new.name))
        lineage.tables = {new.name: new}
        with pytest.raises(UsageError):
            lineage.write(Swap(new.name, HIDDEN))
        same(lineage, old, *kept)

    @needs(replace=True, states=True)
    def test_another_owner_keeps_the_columns(self, lineage: Lineage) -> None:
        old, new = orders(v=pa.int64()), orders(v=pa.bool_())
        for source in ("other shop", "shop"):
            owner = Owner(source, "warehouse", shared=True)
            replace(lineage, source=source).migrate(old, ownership=Ownership(owner))
        lineage.write(lineage.insert(old, id=[1], v=[1]))
        for apply in (False, True):
            with pytest.raises(UsageError, match="other shop"):
                lineage.migrate(
                    new,
                    replaces=lineage.scope,
                    apply=apply,
                    ownership=Ownership(Owner("shop", "warehouse", shared=True)),
                )

    @needs(replace=True, states=True)
    def test_a_swap_that_fails_leaves_the_old_columns(self, lineage: Lineage) -> None:
        old, new, other = orders(v=pa.int64()), _key(orders(v=pa.string()), "id", "v"), orders("other")
        lineage.migrate(old, other)
        first = lineage.insert(old, id=[1], v=[10])
        lineage.write(first)
        side = _reshape(lineage, new)
        fresh = side.insert(new, id=[1, 1], v=["n/a", "10"])
        side.write(fresh, Complete(new.name))
        with pytest.raises(TaskError):
            lineage.write(Swap(new.name, HIDDEN), lineage.insert(other, id=[None], name=["a"], note=["x"]))
        same(lineage, old, first.batch)
        assert not lineage.migrate(old, apply=False).changes
        lineage.tables[new.name] = new
        lineage.write(Swap(new.name, HIDDEN))
        same(lineage, new, fresh.batch)

    # what people have attached ---------------------------------------------------------------------------------------

    @needs(replace=True)
    def test_somebodys_column_keeps_its_values_or_the_key_stays(
        self, lineage: Lineage, stranger: Stranger | None
    ) -> None:
        if stranger is None:
            return
        old, new = orders(v=pa.string()), orders(v=pa.int64())
        lineage.migrate(old, ownership=Ownership(_OWNER))
        lineage.write(lineage.insert(old, id=[1, 2], v=["a", "b"]))

        def sql(statement: str) -> list[tuple[Any, ...]]:
            lineage.destination.close()
            return stranger(old.name, statement)

        sql("ALTER TABLE {table} ADD COLUMN mine VARCHAR")
        sql("UPDATE {table} SET mine = 'kept' WHERE id = 1")
        with pytest.raises(UsageError, match="mine"):
            lineage.migrate(_key(old, "id", "v"), replaces=lineage.scope, apply=False)
        side = _reshape(lineage, new)
        side.write(side.insert(new, id=[1, 3], v=[10, None]), Complete(new.name))
        lineage.write(Swap(new.name, HIDDEN))
        rows = sql("SELECT id, v, mine FROM {table} ORDER BY id")
        assert [tuple(row) for row in rows] == [(1, 10, "kept"), (3, None, None)]
