"""Cases: rows into a table, and out of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from strandline.destination import Delivery, WriteMode
from strandline.errors import RetryableError, TaskError
from strandline.lazy import pa
from strandline.message import Checkpoint, Complete, Delete, Insert, Truncate, WindowMessage
from strandline.table import Table
from strandline.testing.data import all_types_table
from strandline.testing.destination_fixtures import (
    DestinationFixtures,
    Reopen,
    all_types_rows,
    keys,
    needs,
    orders,
    refuses,
    same,
    unkeyed,
)
from strandline.testing.exact import assert_same_rows
from strandline.testing.windows import Lineage, batch_of

__all__ = ["InsertCases", "ReadCases"]


class InsertCases(DestinationFixtures):
    """What a window may hold, in any mode."""

    @needs(WriteMode.APPEND)
    def test_appended_rows_are_as_many_as_came(self, lineage: Lineage) -> None:
        table = unkeyed()
        lineage.migrate(table)
        message = lineage.insert(table, id=[1], name=["foo"])
        lineage.write(message)
        same(lineage, table, message.batch)
        lineage.write(message)
        same(lineage, table, message.batch, message.batch)

    @needs(WriteMode.APPEND)
    def test_all_types_are_appended(self, lineage: Lineage) -> None:
        table = all_types_table("all_types", refused=lineage.destination.capabilities.types_refused)
        lineage.migrate(table)
        rows, nulls = all_types_rows(lineage, table), all_types_rows(lineage, table, nulls=True)
        lineage.write(Insert(table.name, rows))
        lineage.write(Insert(table.name, nulls))
        same(lineage, table, rows, nulls)

    @needs(WriteMode.APPEND)
    def test_appending_keeps_every_version_of_a_key(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        first = lineage.insert(table, id=[1, 1], name=["a", "b"], note=[None, None])
        lineage.write(first, first)
        lineage.next_pass(later_us=10_000_000)
        second = lineage.insert(table, id=[1], name=["c"], note=[None])
        lineage.write(second)
        same(lineage, table, first.batch, first.batch, second.batch)

    @needs(WriteMode.APPEND)
    def test_an_absent_column_is_null_when_appending(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1], name=["a"], note=["x"]), lineage.insert(table, id=[1], name=["b"]))
        same(lineage, table, lineage.batch(table, id=[1, 1], name=["a", "b"], note=["x", None]))

    @needs(WriteMode.APPEND)
    def test_appending_ignores_what_is_gone(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        rows = lineage.insert(table, id=[1], name=["a"], note=["x"])
        lineage.write(rows, Delete(table.name, keys(table, 1)), Truncate(table.name))
        same(lineage, table, rows.batch)

    @pytest.mark.parametrize("mode", WriteMode)
    def test_a_null_in_the_primary_key_fails_the_window(self, lineage: Lineage, mode: WriteMode) -> None:
        lineage.mode, table = mode, Table("lines", orders().schema, ("id", "name"))
        if refuses(lineage):
            return
        lineage.migrate(table)
        good = lineage.insert(table, id=[1], name=["a"], note=[None])
        lineage.write(good)
        before = lineage.state
        atomic = lineage.destination.capabilities.delivery is Delivery.ATOMIC
        for columns in ({"id": [2, 3], "name": ["b", None]}, {"id": [None], "name": ["c"]}, {"id": [4]}):
            with pytest.raises(TaskError):
                lineage.write(
                    *([lineage.insert(table, id=[5], name=["a"], note=[None])] if atomic else []),
                    lineage.insert(table, **columns),
                )
            assert lineage.state is before
            same(lineage, table, good.batch)
        last = lineage.insert(table, id=[6], name=["a"], note=[None])
        lineage.write(last)
        same(lineage, table, good.batch, last.batch)

    @needs(states=True)
    def test_a_window_of_several_tables_is_stored_as_one(self, lineage: Lineage) -> None:
        tables = [orders(f"table_{number}") for number in range(3)]
        lineage.migrate(*tables)
        good = [lineage.insert(table, id=[1], name=["a"], note=[None]) for table in tables]
        with pytest.raises(TaskError):
            lineage.write(*good, lineage.insert(tables[2], id=[None], name=["b"], note=[None]))
        for table in tables:
            same(lineage, table)
        assert lineage.stored() is None
        receipt = lineage.write(*good)
        assert receipt.rows == {"table_0": 1, "table_1": 1, "table_2": 1}
        for table, message in zip(tables, good, strict=True):
            same(lineage, table, message.batch)

    @needs(states=True)
    def test_a_stream_that_fails_midway_leaves_nothing(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        kept = lineage.insert(table, id=[1, 2], name=["a", "b"], note=[None, None])
        lineage.write(kept)
        failure = RetryableError("the source is gone")

        def messages() -> Iterator[WindowMessage]:
            yield lineage.insert(table, id=[1, 3], name=["c", "d"], note=[None, None])
            yield Checkpoint({"window": "half"})
            raise failure

        with pytest.raises(RetryableError) as raised:
            lineage.write_window(lineage.window(messages()))
        assert raised.value is failure
        same(lineage, table, kept.batch)
        assert lineage.stored() == lineage.state
        last = lineage.insert(table, id=[3], name=["d"], note=[None])
        lineage.write(last)
        same(lineage, table, kept.batch, last.batch)

    def test_the_receipt_counts_the_rows_that_were_taken(self, lineage: Lineage) -> None:
        table, other = orders(), orders("others")
        lineage.migrate(table, other)
        receipt = lineage.write(
            lineage.insert(table, id=[1, 2], name=["a", "b"], note=[None, None]),
            lineage.insert(table, id=[1, 3], name=["c", "d"], note=[None, None]),
            lineage.insert(other, id=[1], name=["a"], note=[None]),
        )
        assert {name: count for name, count in receipt.rows.items() if count} == {"orders": 4, "others": 1}
        assert not any(receipt.known.values())

    def test_a_table_may_be_stored_under_another_name(self, lineage: Lineage) -> None:
        table, hidden = orders(), orders("hidden")
        lineage.migrate(table, hidden)
        lineage.tables = {"orders": hidden}
        message = lineage.insert(table, id=[1], name=["a"], note=[None])
        assert lineage.write(message, Complete("orders")).rows == {"orders": 1}
        same(lineage, hidden, message.batch)
        same(lineage, table)

    def test_columns_may_come_in_another_order(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        batch = lineage.batch(table, id=[1, 2], name=["a", "b"], note=["x", "y"])
        lineage.write(Insert(table.name, batch.select([*reversed(batch.schema.names)])))
        same(lineage, table, batch)

    def test_slices_and_empty_batches_are_stored_as_they_are(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        batch = lineage.batch(table, id=[1, 2, 3, 4], name=["a", None, "c", "d"], note=["x", "y", None, "z"])
        lineage.write(Insert(table.name, batch.slice(1, 2)), Insert(table.name, batch.slice(0, 0)))
        same(lineage, table, batch.slice(1, 2))

    def test_several_tables_are_written_at_once(self, lineage: Lineage) -> None:
        writers = min(4, lineage.destination.capabilities.writers_max)
        lineages = [Lineage(lineage.destination, lineage.mode, task=f"table_{number}") for number in range(writers)]
        tables = [orders(one.task) for one in lineages]
        for one, table in zip(lineages, tables, strict=True):
            one.migrate(table)

        def write(number: int) -> None:
            one, table = lineages[number], tables[number]
            for at in range(0, 500, 100):
                ids = list(range(at, at + 100))
                one.write(one.insert(table, id=ids, name=[one.task] * 100, note=["x"] * 100))

        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(write, range(writers)))
        for one, table in zip(lineages, tables, strict=True):
            ids = list(range(500))
            same(one, table, one.batch(table, id=ids, name=[one.task] * 500, note=["x"] * 500))

    def test_several_partitions_of_a_table_are_written_at_once(self, lineage: Lineage) -> None:
        writers, table = min(4, lineage.destination.capabilities.writers_max), orders(partitioned=True)
        lineages = [
            Lineage(lineage.destination, lineage.mode, task=f"orders/{number}", partition=f"region {number}")
            for number in range(writers)
        ]
        lineages[0].migrate(table)

        def write(number: int) -> "pa.RecordBatch":
            one, ids = lineages[number], [number + writers * at for at in range(300)]
            one.tables = lineages[0].tables
            for at in range(0, 300, 100):
                part = ids[at : at + 100]
                one.write(one.insert(table, id=part, name=["a"] * 100, note=["x"] * 100))
            return one.batch(table, id=ids, name=["a"] * 300, note=["x"] * 300)

        with ThreadPoolExecutor(writers) as pool:
            expected = list(pool.map(write, range(writers)))
        same(lineages[0], table, *expected)


class ReadCases(DestinationFixtures):
    """Reading what is stored."""

    def test_an_empty_table_has_no_rows(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        assert sum(batch.num_rows for batch in lineage.read(table)) == 0

    def test_some_columns_can_be_read(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 2], name=["a", None], note=["x", "y"]))
        batches = lineage.read(table, columns=["note", "id"])
        assert {tuple(batch.schema.names) for batch in batches} == {("note", "id")}
        expected = batch_of(table, {"id": [1, 2], "note": ["x", "y"]})
        assert_same_rows([expected], batches, table, "note", "id")

    @needs(states=True)
    def test_an_iteration_sees_only_what_was_committed(self, lineage: Lineage) -> None:
        table = orders()
        lineage.migrate(table)
        seen: list[int] = []

        def messages() -> Iterator[WindowMessage]:
            yield lineage.insert(table, id=[1], name=["a"], note=["x"])
            yield Checkpoint({"window": 1})
            seen.append(sum(batch.num_rows for batch in lineage.read(table)))

        lineage.write_window(lineage.window(messages()))
        assert seen == [0]

    def test_a_restart_keeps_what_was_written(self, lineage: Lineage, reopen: Reopen) -> None:
        table = orders()
        mark = lineage.migrate(table).mark
        lineage.write(lineage.insert(table, id=[1, 2], name=["a", "b"], note=["x", "y"]))
        expected = lineage.batch(table, id=[1, 2], name=["a", "b"], note=["x", "y"])
        lineage.destination.close()
        with closing(reopen()) as destination:
            lineage.destination = destination
            same(lineage, table, expected)
            found = lineage.migrate(table)
            assert (found.changes, found.mark, found.empty) == ((), mark, False)
            lineage.write(lineage.insert(table, id=[3], name=["c"], note=["z"]))
            same(lineage, table, expected, lineage.batch(table, id=[3], name=["c"], note=["z"]))

    def test_closing_twice_is_closing_once(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        lineage.destination.close()
        lineage.destination.close()
