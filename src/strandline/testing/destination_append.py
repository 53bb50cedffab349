"""Cases: what is read again is stored once, and equal rows are several rows."""

import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from strandline.destination import MigrateMode, Receipt, WriteMode
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.message import Complete, Insert
from strandline.table import CQ_ID, Table
from strandline.testing.destination_fixtures import DestinationFixtures, Reopen, needs, orders, refuses, same, unkeyed
from strandline.testing.windows import Lineage, versions_of

__all__ = ["DeliveredCases", "NumberCases"]

_MODES = list(WriteMode)


def _reread(lineage: Lineage, table: Table, *rows: tuple[int, str]) -> Insert:
    """Rows of id and name that may be read again."""
    return lineage.insert(table, reread=True, id=[row[0] for row in rows], name=[row[1] for row in rows])


def _deliver(lineage: Lineage, table: Table, *rows: tuple[int, str]) -> Receipt:
    """A pass that reads these rows, and nothing else."""
    lineage.next_pass()
    return lineage.write(_reread(lineage, table, *rows), Complete(table.name))


def _keyed() -> Table:
    return orders(name=pa.string())


class DeliveredCases(DestinationFixtures):
    """Append mode, with rows that are read again in a later pass."""

    @pytest.fixture(params=[_keyed, unkeyed], ids=["keyed", "unkeyed"])
    def table(self, request: pytest.FixtureRequest) -> Table:
        """With a primary key, and without one."""
        make: Callable[[], Table] = request.param
        return make()

    @needs(WriteMode.APPEND, states=True)
    def test_a_row_that_is_read_again_is_stored_once(self, lineage: Lineage, table: Table) -> None:
        lineage.migrate(table)
        first = _reread(lineage, table, (1, "a"), (2, "b"))
        lineage.write(first, Complete(table.name))
        receipt = _deliver(lineage, table, (2, "b"), (3, "c"))
        assert receipt.rows == {table.name: 2}
        assert receipt.known == {table.name: 1}
        same(lineage, table, first.batch, lineage.batch(table, id=[3], name=["c"]))
        for _ in range(2):
            assert _deliver(lineage, table, (3, "c"), (2, "b")).known == {table.name: 2}
        # the passes that stored it say so in its sync time
        third = replace(lineage, pass_=replace(lineage.pass_, sync_time_us=lineage.pass_.sync_time_us - 2_000_000))
        same(lineage, table, first.batch, third.batch(table, id=[3], name=["c"]))

    @needs(WriteMode.APPEND, states=True)
    def test_a_row_that_was_not_marked_is_stored_again(self, lineage: Lineage, table: Table) -> None:
        lineage.migrate(table)
        first = lineage.insert(table, id=[1], name=["a"])
        lineage.write(first)
        lineage.next_pass()
        second = _reread(lineage, table, (1, "a"))
        lineage.write(second)
        lineage.next_pass()
        third = lineage.insert(table, id=[1], name=["a"])
        lineage.write(third)
        same(lineage, table, first.batch, second.batch, third.batch)

    @needs(WriteMode.APPEND, states=True)
    def test_there_and_back_are_three_versions(self, lineage: Lineage, table: Table) -> None:
        lineage.migrate(table)
        batches = []
        for name in ("a", "b", "a"):
            assert not any(_deliver(lineage, table, (1, name)).known.values())
            batches.append(lineage.batch(table, id=[1], name=[name]))
        same(lineage, table, *batches)

    @needs(WriteMode.APPEND, states=True)
    def test_what_a_pass_did_not_read_again_is_forgotten_when_it_is_complete(
        self, lineage: Lineage, table: Table
    ) -> None:
        lineage.migrate(table)
        first = _reread(lineage, table, (1, "a"), (2, "b"))
        lineage.write(first, Complete(table.name))
        lineage.next_pass()
        lineage.write(_reread(lineage, table, (2, "b")))  # interrupted: nothing is forgotten yet
        assert _deliver(lineage, table, (1, "a")).known == {table.name: 1}
        again = _deliver(lineage, table, (1, "a"), (2, "b"))
        assert again.known == {table.name: 1}
        same(lineage, table, first.batch, lineage.batch(table, id=[2], name=["b"]))

    @needs(WriteMode.APPEND, states=True)
    def test_a_pass_of_several_windows_is_one_pass(self, lineage: Lineage, table: Table) -> None:
        lineage.migrate(table)
        first = _reread(lineage, table, (1, "a"), (2, "b"), (3, "c"))
        lineage.write(first, Complete(table.name))
        lineage.next_pass()
        assert lineage.write(_reread(lineage, table, (1, "a"))).known == {table.name: 1}
        assert lineage.write(_reread(lineage, table, (3, "c")), Complete(table.name)).known == {table.name: 1}
        assert _deliver(lineage, table, (1, "a"), (3, "c")).known == {table.name: 2}
        same(lineage, table, first.batch)

    @needs(WriteMode.APPEND, states=True)
    def test_a_window_that_failed_has_delivered_nothing(self, lineage: Lineage, table: Table) -> None:
        lineage.migrate(table, orders("other"))
        failing = lineage.insert(orders("other"), id=[None], name=["x"], note=["x"])
        with pytest.raises(TaskError):
            lineage.write(_reread(lineage, table, (1, "a")), failing)
        row = _reread(lineage, table, (1, "a"))
        assert not any(lineage.write(row).known.values())
        same(lineage, table, row.batch)

    @needs(WriteMode.APPEND, states=True)
    def test_a_restart_forgets_nothing(self, lineage: Lineage, reopen: Reopen, table: Table) -> None:
        lineage.migrate(table)
        first = _reread(lineage, table, (1, "a"), (2, "b"))
        lineage.write(first, Complete(table.name))
        lineage.next_pass()
        lineage.write(_reread(lineage, table, (1, "a")))
        lineage.destination.close()
        with closing(reopen()) as destination:
            lineage.destination = destination
            receipt = lineage.write(_reread(lineage, table, (2, "b"), (3, "c")), Complete(table.name))
            assert receipt.known == {table.name: 1}
            same(lineage, table, first.batch, lineage.batch(table, id=[3], name=["c"]))
            assert _deliver(lineage, table, (1, "a"), (2, "b"), (3, "c")).known == {table.name: 3}

    @needs(WriteMode.APPEND, states=True)
    def test_each_lineage_and_table_has_delivered_its_own(self, lineage: Lineage, table: Table) -> None:
        twin = table.named("twin")
        lineage.migrate(table, twin)
        other = replace(lineage, task="other", tables=lineage.tables)
        for one, into in ((lineage, table), (lineage, twin), (other, table)):
            assert not any(one.write(_reread(one, into, (1, "a"))).known.values())
        row = lineage.batch(table, id=[1], name=["a"])
        same(lineage, table, row, row)
        same(lineage, twin, row)

    @needs(WriteMode.APPEND, states=True)
    def test_a_table_that_is_created_again_has_been_delivered_nothing(self, lineage: Lineage, table: Table) -> None:
        lineage.migrate(table)
        _deliver(lineage, table, (1, "a"))
        fields = [one.with_type(pa.binary()) if one.name == "name" else one for one in table.schema]
        changed = replace(table, schema=pa.schema(fields))
        lineage.migrate(changed, mode=MigrateMode.FORCED)
        lineage.migrate(table, mode=MigrateMode.FORCED)
        assert not any(_deliver(lineage, table, (1, "a")).known.values())
        same(lineage, table, lineage.batch(table, id=[1], name=["a"]))

    @needs(WriteMode.APPEND, states=True)
    def test_a_version_of_a_key_is_one_row(self, lineage: Lineage) -> None:
        table = _keyed()
        lineage.migrate(table)
        receipt = lineage.write(_reread(lineage, table, (1, "a"), (1, "b"), (1, "a")), Complete(table.name))
        assert (receipt.rows, receipt.known) == ({table.name: 3}, {table.name: 1})
        same(lineage, table, lineage.batch(table, id=[1, 1], name=["a", "b"]))

    @needs(WriteMode.APPEND, states=True)
    def test_equal_rows_without_a_key_are_counted(self, lineage: Lineage) -> None:
        table = unkeyed()
        lineage.migrate(table)
        first = _reread(lineage, table, (1, "a"), (1, "a"))
        lineage.write(first)
        second = _reread(lineage, table, (1, "a"))  # the third of this pass, in another window
        lineage.write(second, Complete(table.name))
        same(lineage, table, first.batch, second.batch)
        assert _deliver(lineage, table, *[(1, "a")] * 3).known == {table.name: 3}
        lineage.next_pass()
        assert lineage.write(_reread(lineage, table, *[(1, "a")] * 2)).known == {table.name: 2}
        assert lineage.write(_reread(lineage, table, *[(1, "a")] * 2)).known == {table.name: 1}
        same(lineage, table, first.batch, second.batch, lineage.batch(table, id=[1], name=["a"]))

    @needs(WriteMode.APPEND, states=True)
    def test_of_equal_rows_as_many_are_known_as_the_last_pass_read(self, lineage: Lineage) -> None:
        table = unkeyed()
        lineage.migrate(table)
        batches = []
        for count, new in ((3, 3), (1, 0), (2, 1)):
            receipt = _deliver(lineage, table, *[(1, "a")] * count)
            assert receipt.rows[table.name] - receipt.known.get(table.name, 0) == new
            batches.append(lineage.batch(table, id=[1] * new, name=["a"] * new))
        same(lineage, table, *batches)

    @needs(WriteMode.APPEND, states=True)
    def test_an_equal_row_that_was_not_marked_does_not_count(self, lineage: Lineage) -> None:
        table = unkeyed()
        lineage.migrate(table)
        lineage.write(
            lineage.insert(table, id=[1], name=["a"]), _reread(lineage, table, (1, "a")), Complete(table.name)
        )
        first = lineage.batch(table, id=[1, 1], name=["a", "a"])
        assert _deliver(lineage, table, *[(1, "a")] * 2).known == {table.name: 1}
        same(lineage, table, first, lineage.batch(table, id=[1], name=["a"]))


class NumberCases(DestinationFixtures):
    """The ``_cq_id`` that a destination makes for rows without a key: their content, and their number in the pass."""

    @staticmethod
    def numbered(batch: "pa.RecordBatch", *numbers: int) -> "pa.RecordBatch":
        """The rows with the ``_cq_id`` that they should have."""
        versions = versions_of(batch, "id", "name").to_pylist()
        ids = [version[:12] + struct.pack(">I", number) for version, number in zip(versions, numbers, strict=True)]
        storage = pa.array(ids, pa.binary(16))
        return batch.append_column(pa.field(CQ_ID, pa.uuid()), pa.ExtensionArray.from_storage(pa.uuid(), storage))

    @pytest.mark.parametrize("mode", _MODES)
    def test_equal_rows_are_numbered(self, lineage: Lineage, mode: WriteMode) -> None:
        lineage.mode, table = mode, unkeyed()
        if refuses(lineage):
            return
        lineage.migrate(table)
        lineage.write(
            lineage.insert(table, id=[1, 2, 1], name=["a", "b", "a"]),
            lineage.insert(table, id=[1, None], name=["a", None]),
        )
        batch = lineage.batch(table, id=[1, 2, 1, 1, None], name=["a", "b", "a", "a", None])
        same(lineage, table, self.numbered(batch, 0, 0, 1, 2, 0))

    @pytest.mark.parametrize("mode", _MODES)
    def test_numbers_go_on_in_the_next_window_of_the_pass(self, lineage: Lineage, mode: WriteMode) -> None:
        lineage.mode, table = mode, unkeyed()
        if refuses(lineage, states=True):
            return
        lineage.migrate(table)
        for reread in (False, True, False):
            lineage.write(lineage.insert(table, reread=reread, id=[1, 2], name=["a", f"{reread}"]))
        batch = lineage.batch(table, id=[1, 1, 1, 2, 2, 2], name=["a", "a", "a", "False", "True", "False"])
        same(lineage, table, self.numbered(batch, 0, 1, 2, 0, 0, 1))

    @needs(WriteMode.OVERWRITE, states=True)
    def test_the_same_rows_in_a_later_pass_are_the_same(self, lineage: Lineage) -> None:
        table = unkeyed()
        lineage.migrate(table)
        for _ in range(3):
            lineage.next_pass()
            lineage.write(lineage.insert(table, id=[1, 1], name=["a", "a"]))
            lineage.write(lineage.insert(table, id=[1, 2], name=["a", "b"]), Complete(table.name))
        batch = lineage.batch(table, id=[1, 1, 1, 2], name=["a", "a", "a", "b"])
        same(lineage, table, self.numbered(batch, 0, 1, 2, 0))

    @needs(WriteMode.APPEND, states=True)
    def test_an_appended_row_is_numbered_after_the_ones_that_are_known(self, lineage: Lineage) -> None:
        table = unkeyed()
        lineage.migrate(table)
        lineage.write(_reread(lineage, table, (1, "a"), (1, "a")), Complete(table.name))
        first = lineage.batch(table, id=[1, 1], name=["a", "a"])
        _deliver(lineage, table, *[(1, "a")] * 3)
        second = lineage.batch(table, id=[1], name=["a"])
        same(lineage, table, self.numbered(first, 0, 1), self.numbered(second, 2))

    @pytest.mark.parametrize("mode", _MODES)
    def test_an_id_that_is_given_is_kept(self, lineage: Lineage, mode: WriteMode) -> None:
        lineage.mode, table = mode, unkeyed()
        if refuses(lineage):
            return
        lineage.migrate(table)
        batch = self.numbered(lineage.batch(table, id=[1, 1], name=["a", "a"]), 7, 8)
        lineage.write(Insert(table.name, batch))
        same(lineage, table, batch)
