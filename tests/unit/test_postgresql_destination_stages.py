"""How a window comes into PostgreSQL: through memory, or through temporary tables that are gone afterwards."""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest
from postgresql_warehouse import Sql, as_user, ids_of, row, warehouse

from strandline.destination import WriteMode
from strandline.errors import TaskError
from strandline.message import Delete
from strandline.testing.destination_fixtures import keys, orders, same
from strandline.testing.windows import Lineage

BIG = pa.decimal256(60, 10)
"""A type that the server has to cast to."""


@pytest.fixture
def lineage(postgresql: str) -> Iterator[Lineage]:
    with warehouse(postgresql) as one:
        yield one


@pytest.fixture
def sql(postgresql: str) -> Iterator[Sql]:
    with as_user(postgresql) as run:
        yield run


class TestStages:
    @pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
    def test_what_does_not_fit_into_memory_goes_through_temporary_tables(
        self, lineage: Lineage, sql: Sql, mode: WriteMode
    ) -> None:
        lineage.destination.staged_bytes_max = 1
        lineage, table = replace(lineage, mode=mode), orders(at=pa.list_(pa.timestamp("us", "UTC")), big=BIG)
        lineage.migrate(table)
        batches = [
            lineage.insert(table, id=[number, 100], at=[[number], None], big=[number, None]) for number in range(5)
        ]
        lineage.write(*batches, Delete(table.name, keys(table, 3)))
        kept = [one.batch.slice(0, 1) for at, one in enumerate(batches) if at != 3 or mode is WriteMode.APPEND]
        last = [one.batch.slice(1) for one in batches] if mode is WriteMode.APPEND else [batches[-1].batch.slice(1)]
        same(lineage, table, *kept, *last)
        assert sql("SELECT relname FROM pg_class WHERE relpersistence = 't'") == []

    def test_a_window_that_fails_leaves_no_temporary_table(self, lineage: Lineage, sql: Sql) -> None:
        lineage.destination.staged_bytes_max = 1
        lineage.migrate(orders())
        bad = lineage.insert(orders(), id=[None], name=["a"], note=["x"])
        with pytest.raises(TaskError, match="null in its primary key"):
            lineage.write(row(lineage, 1), bad)
        assert sql("SELECT relname FROM pg_class WHERE relpersistence = 't'") == []
        lineage.write(row(lineage, 1))
        assert sql("SELECT relname FROM pg_class WHERE relpersistence = 't'") == []
        assert ids_of(sql) == [1]

    def test_a_first_load_in_which_keys_come_again_keeps_the_last(self, lineage: Lineage, sql: Sql) -> None:
        lineage.migrate(orders())
        for name, ids in (("a", [1, 2]), ("b", [3, 4]), ("c", [4, 5]), ("d", [6, 6]), ("e", [1, 7]), ("f", [8])):
            lineage.write(row(lineage, *ids, name=name))
        expected = {1: "e", 2: "a", 3: "b", 4: "c", 5: "c", 6: "d", 7: "e", 8: "f"}
        assert dict(sql("SELECT id, name FROM orders")) == expected
