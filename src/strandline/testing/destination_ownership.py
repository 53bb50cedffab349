"""Cases: whose table is it. A destination that keeps states keeps a register beside them."""

from contextlib import closing
from dataclasses import replace

import pytest

from strandline.destination import ADD_COLUMN, MigrateMode, WriteMode
from strandline.errors import StateConflictError, UsageError
from strandline.lazy import pa
from strandline.message import Adopt, Complete, Forget
from strandline.ownership import Owner, Ownership
from strandline.place import Placed
from strandline.table import Table
from strandline.testing.destination_deletes import partitioned
from strandline.testing.destination_fixtures import DestinationFixtures, Reopen, Stranger, needs, orders, same, unkeyed
from strandline.testing.windows import Lineage

__all__ = ["AdoptCases", "OwnershipCases"]

_MINE, _THEIRS = Owner("shop", "warehouse"), Owner("other shop", "warehouse")


def _shared(owner: Owner) -> Owner:
    return Owner(owner.source, owner.destination, shared=True)


def _owners(lineage: Lineage, table: Table) -> tuple[Owner, ...] | None:
    return lineage.migrate(table, apply=False).owners


def _full(lineage: Lineage, table: Table, ownership: Ownership | None = None) -> "pa.RecordBatch":
    """A table with a row; without ``ownership`` nobody is registered as its owner, and no state tells of one."""
    lineage = replace(lineage, task="own", state=None)
    lineage.migrate(table)
    row = lineage.insert(table, id=[1], name=["a"], note=["b"])
    lineage.write(row)
    if ownership is not None:
        lineage.migrate(table, ownership=replace(ownership, adopt=True))
    return row.batch


class OwnershipCases(DestinationFixtures):
    """Who may write a table."""

    @needs(states=True)
    def test_a_table_is_its_makers(self, lineage: Lineage, reopen: Reopen) -> None:
        table, other = orders(), orders("other")
        assert _owners(lineage, table) == ()
        lineage.migrate(table, ownership=Ownership(_MINE))
        lineage.migrate(other, ownership=Ownership(_THEIRS))
        lineage.destination.close()
        with closing(reopen()) as lineage.destination:
            assert _owners(lineage, table) == (_MINE,)
            assert _owners(lineage, other) == (_THEIRS,)
            found = lineage.migrate(table, ownership=Ownership(_MINE))
            assert (found.owners, found.changes) == ((_MINE,), ())

    @needs(states=True)
    def test_a_full_table_that_nobody_registered_is_not_touched(self, lineage: Lineage) -> None:
        table, wider = orders(), orders(name=pa.string(), note=pa.string(), more=pa.string())
        row = _full(lineage, table)
        assert _owners(lineage, table) == ()
        with pytest.raises(UsageError, match="orders"):
            lineage.migrate(wider, ownership=Ownership(_MINE))
        # looking is free, and tells what would be done
        assert [change.kind for change in lineage.migrate(wider, apply=False).changes] == [ADD_COLUMN]
        assert _owners(lineage, table) == ()
        same(lineage, table, row)

    @needs(states=True)
    def test_an_empty_table_that_nobody_registered_is_taken_over(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        assert lineage.migrate(orders(), ownership=Ownership(_MINE)).owners == ()
        assert _owners(lineage, orders()) == (_MINE,)

    @needs(states=True)
    def test_a_full_table_is_taken_over_by_who_adopts_it(self, lineage: Lineage) -> None:
        row = _full(lineage, orders())
        lineage.migrate(orders(), ownership=Ownership(_MINE, adopt=True))
        assert _owners(lineage, orders()) == (_MINE,)
        same(lineage, orders(), row)
        lineage.migrate(orders(), ownership=Ownership(_MINE))
        lineage.migrate(orders(), ownership=Ownership(_THEIRS, adopt=True))
        assert _owners(lineage, orders()) == (_THEIRS,)

    @pytest.mark.parametrize("full", [False, True])
    @needs(states=True)
    def test_another_ones_table_is_not_touched(self, lineage: Lineage, full: bool) -> None:  # noqa: FBT001 -- a parameter of the test
        table, wider = orders(), orders(name=pa.string(), note=pa.string(), more=pa.string())
        rows = [_full(lineage, table, Ownership(_THEIRS))] if full else []
        lineage.migrate(table, ownership=Ownership(_THEIRS))
        for owner in (_MINE, _shared(_MINE), Owner("other shop", "lake")):
            with pytest.raises(UsageError, match="other shop"):
                lineage.migrate(wider, ownership=Ownership(owner))
        assert _owners(lineage, table) == (_THEIRS,)
        assert lineage.migrate(table, apply=False).changes == ()
        same(lineage, table, *rows)

    @needs(states=True)
    def test_a_table_is_shared_if_all_its_owners_say_so(self, lineage: Lineage) -> None:
        table, third = orders(), Owner("third shop", "warehouse")
        lineage.migrate(table, ownership=Ownership(_shared(_THEIRS)))
        with pytest.raises(UsageError):
            lineage.migrate(table, ownership=Ownership(_MINE))
        lineage.migrate(table, ownership=Ownership(_shared(_MINE)))
        assert _owners(lineage, table) == (_shared(_THEIRS), _shared(_MINE))
        with pytest.raises(UsageError):
            lineage.migrate(table, ownership=Ownership(third))
        lineage.migrate(table, ownership=Ownership(_shared(third), adopt=True))
        assert _owners(lineage, table) == (_shared(_THEIRS), _shared(_MINE), _shared(third))

    @needs(states=True)
    def test_the_spec_may_say_that_another_one_shares_a_table(self, lineage: Lineage) -> None:
        lineage.migrate(orders(), ownership=Ownership(_THEIRS))
        lineage.migrate(orders(), ownership=Ownership(_shared(_MINE), sharers=frozenset([_shared(_THEIRS)])))
        assert _owners(lineage, orders()) == (_shared(_THEIRS), _shared(_MINE))

    @needs(states=True)
    def test_a_forced_migration_drops_no_row_of_another_one(self, lineage: Lineage) -> None:
        other = orders(name=pa.binary(), note=pa.string())
        row = _full(lineage, orders(), Ownership(_shared(_THEIRS)))
        mine, adopting = Ownership(_shared(_MINE)), Ownership(_MINE, adopt=True)
        lineage.migrate(orders(), ownership=mine)
        for ownership in (mine, adopting):
            with pytest.raises(UsageError, match="other shop"):
                lineage.migrate(other, mode=MigrateMode.FORCED, ownership=ownership)
        same(lineage, orders(), row)

    @needs(states=True)
    def test_a_table_that_was_dropped_has_no_owner_any_more(self, lineage: Lineage) -> None:
        lineage.migrate(orders(), ownership=Ownership(_THEIRS))
        lineage.write(Forget(orders().name, drop=True))
        lineage.migrate(orders(), ownership=Ownership(_MINE))
        assert _owners(lineage, orders()) == (_MINE,)

    @pytest.mark.parametrize("mode", list(MigrateMode))
    @needs(states=True)
    def test_a_table_that_somebody_made_in_the_place_of_ours_is_not_touched(
        self, lineage: Lineage, stranger: Stranger | None, mode: MigrateMode
    ) -> None:
        if stranger is None:
            return  # nobody can make a table of this destination but the destination
        table = orders()
        lineage.migrate(table, ownership=Ownership(_MINE))
        lineage.destination.close()
        for statement in (
            "DROP TABLE {table}",
            "CREATE TABLE {table} (id BIGINT PRIMARY KEY, name BIGINT, extra VARCHAR)",
            "INSERT INTO {table} VALUES (1, 2, 'precious')",
        ):
            stranger(table.name, statement)
        assert lineage.migrate(table, mode=MigrateMode.FORCED, apply=False).owners == ()
        for ownership in (Ownership(_MINE), Ownership(_shared(_MINE)), Ownership(_THEIRS)):
            with pytest.raises(UsageError, match="orders"):
                lineage.migrate(table, mode=mode, ownership=ownership)
        lineage.destination.close()
        assert stranger(table.name, "SELECT * FROM {table}") == [(1, 2, "precious")]

    def test_a_destination_is_where_it_was_after_a_restart(self, lineage: Lineage, reopen: Reopen) -> None:
        lineage.migrate(orders())
        one = lineage.destination
        before = set(one.places()) if isinstance(one, Placed) else set()
        one.close()
        with closing(reopen()) as other:
            assert isinstance(other, Placed) == isinstance(one, Placed)
            assert not before or before & set(other.places() if isinstance(other, Placed) else ())

    @needs(states=True)
    def test_who_has_lost_a_table_to_another_one_writes_no_more_of_it(self, lineage: Lineage) -> None:
        table, other = orders(), orders("other")
        lineage.migrate(table, other, ownership=Ownership(_MINE))
        row = lineage.insert(table, id=[1], name=["a"], note=["b"])
        lineage.write(row)
        lineage.migrate(table, ownership=Ownership(_THEIRS, adopt=True))
        with pytest.raises(StateConflictError, match="orders"):
            lineage.write(lineage.insert(table, id=[2], name=["c"], note=["d"]))
        same(lineage, table, row.batch)
        # what is left to it goes on, and it may forget
        lineage.write(lineage.insert(other, id=[1], name=["a"], note=["b"]))
        lineage.write(Forget(table.name))

    @needs(states=True)
    def test_who_shares_a_table_goes_on_writing_it(self, lineage: Lineage) -> None:
        lineage.migrate(orders(), ownership=Ownership(_shared(_MINE)))
        lineage.migrate(orders(), ownership=Ownership(_shared(_THEIRS)))
        row = lineage.insert(orders(), id=[1], name=["a"], note=["b"])
        lineage.write(row)
        same(lineage, orders(), row.batch)

    @needs(states=True)
    def test_who_was_overtaken_registers_nobody(self, lineage: Lineage) -> None:
        lineage.take_over()
        old = lineage.epoch
        lineage.take_over()
        lineage.epoch = old
        with pytest.raises(StateConflictError):
            lineage.migrate(orders(), ownership=Ownership(_MINE))
        assert lineage.migrate(orders(), apply=False).mark is None


class AdoptCases(DestinationFixtures):
    """``Adopt``: a source, or a destination, that is called otherwise than before."""

    @needs(deletes=True, states=True)
    def test_rows_go_over_to_the_new_name(self, lineage: Lineage) -> None:
        table = partitioned()
        old = Lineage(lineage.destination, lineage.mode, source="old shop", partition="north", task="a")
        south = Lineage(lineage.destination, lineage.mode, source="old shop", partition="south", task="b")
        for one, key in ((old, 1), (south, 2)):
            one.migrate(table)
            one.write(one.insert(table, id=[key], name=["x"]))
        lineage.partition = "north"
        lineage.migrate(table)
        assert not lineage.holds(table)
        lineage.write(Adopt(table.name, "old shop", "a", "warehouse"))
        assert lineage.holds(table)
        assert not old.holds(table)
        assert south.holds(table)
        rows = lineage.batch(table, id=[1], name=["x"])
        same(lineage, table, rows, south.batch(table, id=[2], name=["x"]))

    @pytest.mark.parametrize("unique", [True, False])
    @needs(WriteMode.APPEND, states=True)
    def test_what_was_delivered_is_known_under_the_new_name(self, lineage: Lineage, unique: bool) -> None:  # noqa: FBT001 -- a parameter of the test
        table = orders(name=pa.string()) if unique else unkeyed()
        old = Lineage(lineage.destination, lineage.mode, source="old shop")
        old.migrate(table)
        old.write(old.insert(table, reread=True, id=[1, 2], name=["a", "b"]), Complete(table.name))
        lineage.migrate(table)
        lineage.write(Adopt(table.name, old.key.source, old.key.task, old.key.destination))
        lineage.next_pass()
        again = lineage.insert(table, reread=True, id=[1, 2, 3], name=["a", "b", "c"])
        receipt = lineage.write(again, Complete(table.name))
        assert receipt.known == {table.name: 2}

    @needs(states=True)
    def test_the_old_name_is_over(self, lineage: Lineage) -> None:
        table = orders(name=pa.string())
        old = Lineage(lineage.destination, lineage.mode, source="old shop")
        old.migrate(table, ownership=Ownership(Owner("old shop", "warehouse")))
        old.write(old.insert(table, id=[1], name=["a"]))
        lineage.migrate(table)
        lineage.write(Adopt(table.name, old.key.source, old.key.task, old.key.destination))
        assert _owners(lineage, table) == (_MINE,)
        left = old.stored()
        assert left is not None
        assert left.is_blank
        assert str(lineage.key) in left.note
        assert left.version > (old.state.version if old.state is not None else (0, 0))
        with pytest.raises(StateConflictError):
            old.write(old.insert(table, id=[2], name=["b"]))
        lineage.next_pass()
        lineage.write(lineage.insert(table, id=[3], name=["c"]))
        old.state = left
        old.next_pass()
        old.write(Adopt(table.name, lineage.key.source, lineage.key.task, lineage.key.destination))
        assert _owners(lineage, table) == (Owner("old shop", "warehouse"),)

    @needs(states=True)
    def test_who_shares_a_table_keeps_it_when_another_one_is_renamed(self, lineage: Lineage) -> None:
        table, old = orders(name=pa.string()), Lineage(lineage.destination, lineage.mode, source="old shop")
        old.migrate(table, ownership=Ownership(Owner("old shop", "warehouse", shared=True)))
        old.migrate(table, ownership=Ownership(_shared(_THEIRS)))
        old.write(old.insert(table, id=[1], name=["a"]))
        lineage.migrate(table)
        lineage.write(Adopt(table.name, old.key.source, old.key.task, old.key.destination))
        assert _owners(lineage, table) == (_shared(_THEIRS), _shared(_MINE))
