"""What people attach to our tables survives a sync: on every SQL database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from attached_warehouse import KINDS, Warehouse, opened

from strandline.errors import TaskError
from strandline.message import Delete, Insert
from strandline.table import CQ_ID, Table
from strandline.testing.destination_fixtures import keys, orders, same, unkeyed


@pytest.fixture(params=KINDS)
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    uri = request.getfixturevalue("postgresql") if request.param == "postgresql" else ""
    with opened(request.param, tmp_path, uri) as one:
        yield one


def rows(warehouse: Warehouse, *ids: int, name: str = "a") -> Insert:
    return warehouse.lineage.insert(orders(), id=list(ids), name=[name] * len(ids), note=["x"] * len(ids))


def part(warehouse: Warehouse, *ids: int, name: str) -> Insert:
    return warehouse.lineage.insert(orders(), id=list(ids), name=[name] * len(ids))


def filled(warehouse: Warehouse) -> None:
    warehouse.lineage.migrate(orders())
    warehouse.lineage.write(rows(warehouse, 1, 2, 5))
    warehouse.lineage.next_pass()


UPDATES: dict[str, Callable[[Warehouse], list[Insert | Delete]]] = {
    "one row": lambda one: [rows(one, 1, name="A")],
    "with new ones": lambda one: [rows(one, 1, 5, 9, name="A")],
    "a key twice": lambda one: [rows(one, 1, 5, 1, name="A")],
    "some columns": lambda one: [part(one, 1, 9, name="A")],
    "deletes among them": lambda one: [rows(one, 1, 5, name="A"), Delete("orders", keys(orders(), 2))],
    "deleted, and there again": lambda one: [
        rows(one, 5, name="A"),
        Delete("orders", keys(orders(), 1)),
        rows(one, 1, name="A"),
    ],
}


class TestForeignKeys:
    @pytest.mark.parametrize("spills", [False, True])
    @pytest.mark.parametrize("update", UPDATES)
    @pytest.mark.parametrize("action", ["ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE SET DEFAULT", ""])
    def test_an_update_leaves_the_rows_that_refer_to_it(
        self, warehouse: Warehouse, action: str, update: str, *, spills: bool
    ) -> None:
        if warehouse.kind == "duckdb" and action:
            return
        if spills:
            warehouse.lineage.destination.staged_bytes_max = 1  # type: ignore[attr-defined]
        filled(warehouse)
        warehouse.refer(action)
        warehouse.lineage.write(*UPDATES[update](warehouse))
        assert warehouse.sql("SELECT tid, txt FROM note ORDER BY 1") == [(1, "mine"), (5, "mine too")]
        assert warehouse.sql("SELECT name FROM orders WHERE id = 1") == [("A",)]

    def test_a_row_without_a_key_of_its_own_keeps_what_refers_to_it(self, warehouse: Warehouse) -> None:
        table, lineage = unkeyed(), warehouse.lineage
        lineage.migrate(table)
        lineage.write(lineage.insert(table, id=[1, 1, 2], name=["a", "a", "b"]))
        kind = "uuid" if warehouse.kind != "sqlite" else "text"
        warehouse.sql(
            "CREATE UNIQUE INDEX events_id ON events (_cq_id)"
            if warehouse.kind == "sqlite"
            else "ALTER TABLE events ADD UNIQUE (_cq_id)",
            f"CREATE TABLE note (tid {kind} REFERENCES events (_cq_id) "
            f"{'' if warehouse.kind == 'duckdb' else 'ON DELETE CASCADE'})",
            "INSERT INTO note SELECT _cq_id FROM events",
        )
        lineage.next_pass()
        again = lineage.insert(table, id=[1, 2, 1, 3], name=["a", "b", "a", "c"])
        lineage.write(again)
        same(lineage, table, again.batch)
        assert warehouse.sql(f"SELECT count(*) FROM note JOIN events ON note.tid = events.{CQ_ID}") == [(3,)]


class TestTriggers:
    def test_an_update_fires_no_trigger_of_a_delete(self, warehouse: Warehouse) -> None:
        if warehouse.kind == "duckdb":
            return  # which has no triggers
        filled(warehouse)
        warehouse.sql("CREATE TABLE fired (what varchar, id bigint)")
        for what, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            body = f"INSERT INTO fired VALUES ('{what}', {row}.id);"
            if warehouse.kind == "sqlite":
                warehouse.sql(f"CREATE TRIGGER on_{what} AFTER {what} ON orders BEGIN {body} END")
                continue
            warehouse.sql(
                f"CREATE FUNCTION on_{what}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$",
                f"CREATE TRIGGER x{what} AFTER {what} ON orders FOR EACH ROW EXECUTE FUNCTION on_{what}()",
            )
        warehouse.lineage.write(rows(warehouse, 1, 9, name="A"))
        assert warehouse.sql("SELECT * FROM fired ORDER BY id") == [("UPDATE", 1), ("INSERT", 9)]


class TestIndexes:
    def test_rows_that_exchange_what_is_unique_are_stored(self, warehouse: Warehouse) -> None:
        filled(warehouse)
        table, lineage = orders(), warehouse.lineage
        names = lineage.insert(table, id=[1, 2, 5], name=["a", "b", "c"], note=["x"] * 3)
        lineage.write(names)
        warehouse.sql("CREATE UNIQUE INDEX orders_name ON orders (name)")
        turned = lineage.insert(table, id=[1, 2, 5], name=["b", "c", "a"], note=["x"] * 3)
        lineage.write(turned)
        same(lineage, table, turned.batch)


class TestCounts:
    def test_a_key_that_was_there_twice_hides_no_row_that_is_dropped(self, warehouse: Warehouse) -> None:
        if warehouse.kind == "duckdb":
            return  # which has no triggers
        warehouse.sql(
            "CREATE TABLE orders (id bigint, name text, note text)",
            "INSERT INTO orders VALUES (7, 'mine', 'x'), (7, 'too', 'x'), (8, 'mine', 'x')",
        )
        warehouse.lineage.migrate(orders())
        if warehouse.kind == "sqlite":
            warehouse.sql(
                "CREATE TRIGGER drops BEFORE UPDATE ON orders WHEN NEW.id = 8 BEGIN SELECT RAISE(IGNORE); END"
            )
        else:
            warehouse.sql(
                "CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
                "CREATE TRIGGER drops BEFORE UPDATE ON orders FOR EACH ROW WHEN (NEW.id = 8) EXECUTE FUNCTION drops()",
            )
        with pytest.raises(TaskError, match="stored 1 of them"):
            warehouse.lineage.write(rows(warehouse, 7, 8))
        assert warehouse.sql("SELECT id, name FROM orders ORDER BY 1, 2") == [(7, "mine"), (7, "too"), (8, "mine")]
        warehouse.sql("DROP TRIGGER drops" + (" ON orders" if warehouse.kind == "postgresql" else ""))
        warehouse.lineage.write(rows(warehouse, 7, 8))
        assert warehouse.sql("SELECT id, name FROM orders ORDER BY 1, 2") == [(7, "a"), (8, "a")]


@pytest.mark.parametrize("inside", [False, True])
def test_a_key_is_stored_as_it_came_last(warehouse: Warehouse, *, inside: bool) -> None:
    """What is equal need not be the same."""
    if inside and warehouse.kind != "postgresql":
        return  # where lists are compared by their texts
    plain = orders(key=pa.list_(pa.float64()) if inside else pa.float64(), amount=pa.int64())
    table = Table("keyed", plain.schema, ("key",))
    warehouse.lineage.migrate(table)
    for zero in (0.0, -0.0):
        last = warehouse.lineage.insert(table, id=[0], key=[[zero] if inside else zero], amount=[1])
        warehouse.lineage.write(last)
    same(warehouse.lineage, table, last.batch)
