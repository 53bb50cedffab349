"""The first load of a table: its key gets an index when the rows are there, and no key is there twice at any time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from postgresql_warehouse import BLOCKED, WAIT_S, Sql, as_user, held, ids_of, row, wait_for, warehouse

from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.message import Complete, Delete
from strandline.table import Table
from strandline.testing.destination_fixtures import keys, orders
from strandline.testing.windows import Lineage


@pytest.fixture
def sql(postgresql: str) -> Iterator[Sql]:
    with as_user(postgresql) as run:
        yield run


@pytest.fixture
def lineage(postgresql: str) -> Iterator[Lineage]:
    with warehouse(postgresql) as lineage:
        lineage.migrate(orders())
        yield lineage


def unique_indexes(sql: Sql, table: str = "orders") -> int:
    ((count,),) = sql(f"SELECT count(*) FROM pg_index WHERE indrelid = '\"{table}\"'::regclass AND indisunique")
    return int(count)


def test_keys_that_rise_are_indexed_once_all_are_there(lineage: Lineage, sql: Sql) -> None:
    lineage.write(row(lineage, 1, 2))
    lineage.write(row(lineage, 3, 10), row(lineage, 11))
    assert unique_indexes(sql) == 0
    lineage.write(row(lineage, 12), Complete("orders"))
    assert (unique_indexes(sql), ids_of(sql)) == (1, [1, 2, 3, 10, 11, 12])


@pytest.mark.parametrize("again", [(12, 2), (2,), (11,), (11, 11), (2, 3), (11, 12)], ids=str)
def test_a_key_that_comes_again_is_stored_once(lineage: Lineage, sql: Sql, again: tuple[int, ...]) -> None:
    lineage.write(row(lineage, 1, 2, 11))
    lineage.write(row(lineage, *again, name="b"))
    assert (unique_indexes(sql), ids_of(sql)) == (1, sorted({1, 2, 11, *again}))
    assert sql("SELECT count(*) FROM orders WHERE name = 'b'") == [(len(set(again)),)]


def test_a_row_that_is_deleted_in_the_load_is_gone(lineage: Lineage, sql: Sql) -> None:
    lineage.write(row(lineage, 1, 2, 3))
    lineage.write(row(lineage, 4, 5), Delete("orders", keys(orders(), 2, 4)))
    assert (unique_indexes(sql), ids_of(sql)) == (1, [1, 3, 5])


def test_a_run_that_goes_on_with_a_load_indexes_it_first(lineage: Lineage, postgresql: str, sql: Sql) -> None:
    lineage.write(row(lineage, 1, 2))
    with warehouse(postgresql) as later:
        resumed = replace(later, tables=lineage.tables, state=lineage.state)
        resumed.write(row(resumed, 2, 3, name="b"))
    assert unique_indexes(sql) == 1
    assert sql("SELECT id, name FROM orders ORDER BY id") == [(1, "a"), (2, "b"), (3, "b")]


def test_a_window_that_failed_has_taught_nothing(lineage: Lineage, sql: Sql) -> None:
    sql("ALTER TABLE orders ADD CHECK (note <> 'wrong')")
    wrong = lineage.insert(orders(), id=[5], name=["a"], note=["wrong"])
    with pytest.raises(TaskError):
        lineage.write(wrong)
    lineage.write(row(lineage, 1, 2))
    assert (unique_indexes(sql), ids_of(sql)) == (0, [1, 2])
    with pytest.raises(TaskError):
        lineage.write(wrong)
    lineage.write(row(lineage, 3), Complete("orders"))
    assert (unique_indexes(sql), ids_of(sql)) == (1, [1, 2, 3])


def test_two_lineages_that_load_one_table_store_a_key_once(lineage: Lineage, postgresql: str, sql: Sql) -> None:
    with warehouse(postgresql) as destination:
        other = replace(destination, task="other", tables=lineage.tables)
        other.write(row(other, 5, 6, name="theirs"))
        lineage.write(row(lineage, 1, 6, name="ours"))
        other.write(row(other, 7, 8, name="theirs"), Complete("orders"))
        lineage.write(row(lineage, 7, 9, name="ours"), Complete("orders"))
    assert unique_indexes(sql) == 1
    stored = sql("SELECT id, name FROM orders ORDER BY id")
    assert stored == [(1, "ours"), (5, "theirs"), (6, "ours"), (7, "ours"), (8, "theirs"), (9, "ours")]


def test_two_loads_that_begin_at_once_store_a_key_once(lineage: Lineage, postgresql: str, sql: Sql) -> None:
    sql("CREATE TABLE gate ()")
    sql("CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM 1 FROM gate; RETURN NEW; END$$")
    sql("CREATE TRIGGER wait AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION wait()")
    with warehouse(postgresql) as destination, ThreadPoolExecutor(2) as pool:
        other = replace(destination, task="other", tables=lineage.tables)
        with held(postgresql, "LOCK TABLE gate"):
            one = pool.submit(lineage.write, row(lineage, 1, 2))
            wait_for(sql, f"{BLOCKED} AND wait_event = 'relation'")
            two = pool.submit(other.write, row(other, 2, 3, name="b"))
            wait_for(sql, f"{BLOCKED} AND wait_event = 'advisory'")
        one.result(WAIT_S)
        two.result(WAIT_S)
        lineage.write(row(lineage, 3, 4, name="c"), Complete("orders"))
    assert unique_indexes(sql) == 1
    assert sql("SELECT id, name FROM orders ORDER BY id") == [(1, "a"), (2, "b"), (3, "c"), (4, "c")]


def test_what_somebody_puts_into_a_load_is_overwritten_as_ever(lineage: Lineage, sql: Sql) -> None:
    lineage.write(row(lineage, 1, 2))
    sql("INSERT INTO orders (id, name) VALUES (2, 'theirs'), (3, 'theirs'), (9, 'theirs')")
    lineage.write(row(lineage, 3, 4), Complete("orders"))
    assert unique_indexes(sql) == 1
    assert sql("SELECT id, name FROM orders ORDER BY id") == [(1, "a"), (2, "a"), (3, "a"), (4, "a"), (9, "theirs")]


@pytest.mark.parametrize(("last", "rows"), [((2, 9), 7), ((3, 2), 6)], ids=["falls", "twice"])
def test_a_key_of_several_columns_rises_by_the_first_that_differs(
    lineage: Lineage, sql: Sql, last: tuple[int, int], rows: int
) -> None:
    fields = [*orders().schema, pa.field("line", pa.int32())]
    lines = Table("lines", pa.schema(fields), ("id", "line"))

    def insert(*lines_: tuple[int, int]) -> object:
        ids, numbers = zip(*lines_, strict=True)
        return lineage.insert(lines, id=ids, line=numbers, name=["a"] * len(ids), note=["x"] * len(ids))

    lineage.migrate(lines)
    lineage.write(insert((1, 1), (1, 2), (2, 1)))
    lineage.write(insert((2, 2), (3, 1)))
    assert unique_indexes(sql, "lines") == 0
    lineage.write(insert((3, 2), last))
    assert unique_indexes(sql, "lines") == 1
    assert sql("SELECT count(*) FROM lines") == [(rows,)]
