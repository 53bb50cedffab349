"""A full refresh that gives a table other columns: what people have attached to it stays, or is named and nothing is done."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from attached_warehouse import KINDS, Warehouse, opened

from strandline.errors import TaskError, UsageError
from strandline.message import Complete, Swap
from strandline.table import Table
from strandline.testing.destination_fixtures import orders, same
from strandline.testing.destination_swap import HIDDEN, refresh

OLD, NEW = orders(v=pa.string(), w=pa.string()), orders(v=pa.int64(), w=pa.string())
NEW_KEY = replace(OLD, primary_key=("id", "v"))


@pytest.fixture(params=KINDS)
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    uri = request.getfixturevalue("postgresql") if request.param == "postgresql" else ""
    with opened(request.param, tmp_path, uri) as one:
        one.lineage.migrate(OLD)
        one.lineage.write(one.lineage.insert(OLD, id=[1, 2, 5], v=["a", "b", "c"], w=["x", "y", "z"]))
        one.lineage.destination.close()
        yield one


def refuses(warehouse: Warehouse, table: Table, name: str) -> None:
    lineage = warehouse.lineage
    for apply in (False, True):
        with pytest.raises(UsageError, match=name):
            lineage.migrate(replace(table, schema=table.schema), replaces=lineage.scope, apply=apply)
    lineage.destination.close()
    assert warehouse.sql("SELECT id, v FROM orders ORDER BY 1") == [(1, "a"), (2, "b"), (5, "c")]


def refreshed(warehouse: Warehouse, table: Table = NEW) -> None:
    lineage = warehouse.lineage
    lineage.migrate(table, replaces=lineage.scope)
    side = refresh(lineage, table)
    fresh = side.insert(
        table, id=[1, 2, 7], v=pa.array([1, None, 3]).cast(table.schema.field("v").type), w=["p", "q", "r"]
    )
    side.write(fresh, Complete(table.name))
    lineage.write(Swap(table.name, HIDDEN))
    same(lineage, table, fresh.batch)
    lineage.destination.close()


def test_a_foreign_key_keeps_the_key(warehouse: Warehouse) -> None:
    warehouse.refer("")
    refuses(warehouse, NEW_KEY, "note")


def test_somebodys_unique_index_keeps_the_key(warehouse: Warehouse) -> None:
    warehouse.sql("CREATE UNIQUE INDEX mine ON orders (id)")
    refuses(warehouse, NEW_KEY, "mine")


def test_a_trigger_keeps_the_key(warehouse: Warehouse) -> None:
    if warehouse.kind == "duckdb":
        return  # which has no triggers
    warehouse.sql("CREATE TABLE fired (id bigint)")
    if warehouse.kind == "sqlite":
        warehouse.sql("CREATE TRIGGER mine AFTER DELETE ON orders BEGIN INSERT INTO fired VALUES (OLD.id); END")
    else:
        warehouse.sql(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
            "CREATE TRIGGER mine AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION f()",
        )
    refuses(warehouse, NEW_KEY, "mine")


@pytest.mark.parametrize("of", ["v", "w"])
def test_a_view_keeps_its_columns_where_the_database_says_so(warehouse: Warehouse, of: str) -> None:
    """PostgreSQL lets no column of a view take another type. To the others a view is a text."""
    warehouse.sql(f"CREATE VIEW mine AS SELECT id, {of} FROM orders WHERE {of} IS NOT NULL")
    if warehouse.kind == "postgresql" and of == "v":
        table = orders(v=pa.bool_(), w=pa.string())
        found = warehouse.lineage.migrate(table, replaces=warehouse.lineage.scope, apply=False)
        assert dict(found.kept) == {"v": pa.string()}  # text it was, and it can stay so
        assert "mine" in " ".join(found.users)
        refuses(warehouse, orders(v=pa.list_(pa.int64()), w=pa.string()), "mine")
        return
    if warehouse.kind == "sqlite" and of == "v":
        refuses(warehouse, orders(v=pa.list_(pa.int64()), w=pa.string()), "mine")
        return
    refreshed(warehouse)
    expected = [(1, 1), (7, 3)] if of == "v" else [(1, "p"), (2, "q"), (7, "r")]
    assert warehouse.sql("SELECT * FROM mine ORDER BY 1") == expected


def test_an_index_is_made_again_or_named(warehouse: Warehouse) -> None:
    warehouse.sql("CREATE INDEX mine ON orders (v)")
    if warehouse.kind == "duckdb":
        refuses(warehouse, orders(v=pa.list_(pa.int64()), w=pa.string()), "index mine")
        warehouse.sql("DROP INDEX mine")
        refreshed(warehouse)
        return
    refreshed(warehouse)
    catalog = "sqlite_master WHERE name" if warehouse.kind == "sqlite" else "pg_indexes WHERE indexname"
    assert warehouse.sql(f"SELECT count(*) FROM {catalog} = 'mine'") == [(1,)]
    warehouse.lineage.next_pass()
    warehouse.lineage.write(warehouse.lineage.insert(NEW, id=[1], v=[9], w=["z"]))
    warehouse.lineage.destination.close()
    assert warehouse.sql("SELECT w FROM orders WHERE v = 9") == [("z",)]


def test_grants_and_comments_stay(warehouse: Warehouse) -> None:
    if warehouse.kind != "postgresql":
        return
    warehouse.sql(
        "GRANT SELECT ON orders TO PUBLIC",
        "COMMENT ON COLUMN orders.v IS 'what it is'",
        "ALTER TABLE orders ADD CONSTRAINT positive CHECK (id > 0)",
    )
    before = warehouse.sql("SELECT oid, CAST(relacl AS text) FROM pg_class WHERE relname = 'orders'")
    refreshed(warehouse)
    assert warehouse.sql("SELECT oid, CAST(relacl AS text) FROM pg_class WHERE relname = 'orders'") == before
    assert warehouse.sql(
        "SELECT col_description('orders'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'v'"
    ) == [("what it is",)]
    assert warehouse.sql("SELECT count(*) FROM pg_constraint WHERE conname = 'positive'") == [(1,)]


@pytest.mark.parametrize(
    "what",
    [
        "ALTER TABLE orders ADD CONSTRAINT mine CHECK (v <> '')",
        "CREATE INDEX mine ON orders (lower(v))",
        "CREATE INDEX mine ON orders (id) WHERE v = 'a'",
        "ALTER TABLE orders ALTER COLUMN v SET DEFAULT 'mine'",
        "CREATE POLICY mine ON orders USING (v <> '')",
    ],
)
def test_what_postgresql_ties_to_a_column_is_named(warehouse: Warehouse, what: str) -> None:
    if warehouse.kind == "postgresql":
        warehouse.sql(what)
        name = "default value for column v" if "DEFAULT" in what else "mine"
        refuses(warehouse, orders(v=pa.list_(pa.int64()), w=pa.string()), name)


@pytest.mark.parametrize("what", ["ALTER TABLE orders ADD COLUMN mine AS (v || w)", "CREATE TABLE t AS SELECT 1"])
def test_what_sqlite_ties_to_a_column_is_named(warehouse: Warehouse, what: str) -> None:
    if warehouse.kind != "sqlite":
        return
    warehouse.sql(what)
    if "mine" in what:
        refuses(warehouse, orders(v=pa.list_(pa.int64()), w=pa.string()), "after drop column: no such column: v")
    else:
        refreshed(warehouse)


def test_the_index_of_the_old_key_goes(warehouse: Warehouse) -> None:
    if warehouse.kind == "duckdb":
        return  # which has none
    new = orders(v=pa.int64(), w=pa.string())
    refreshed(warehouse, replace(new, primary_key=("id", "w")))
    found = (
        "sqlite_master WHERE type = 'index' AND name" if warehouse.kind == "sqlite" else "pg_indexes WHERE indexname"
    )
    assert warehouse.sql(f"SELECT count(*) FROM {found} LIKE 'cq!_key!_%' ESCAPE '!'") == [(1,)]


def test_what_must_not_be_null_is_null_at_no_time(warehouse: Warehouse) -> None:
    """Rows that are exchanged one by one, because of somebody's column, are there while their columns change."""
    if warehouse.kind == "sqlite":
        return  # which adds no constraint to a table
    warehouse.sql("ALTER TABLE orders ALTER COLUMN v SET NOT NULL")
    warehouse.sql("ALTER TABLE orders ADD COLUMN mine bigint")
    refuses(warehouse, orders(v=pa.list_(pa.int64()), w=pa.string()), "NOT NULL")


@pytest.mark.parametrize("clause", ["NOT NULL", "DEFAULT 'a'", "CHECK (v <> '')", "COLLATE NOCASE"])
def test_what_somebodys_own_definition_says_of_a_column_is_named(warehouse: Warehouse, clause: str) -> None:
    if warehouse.kind != "sqlite":
        return
    warehouse.sql("ALTER TABLE orders RENAME TO before")
    columns = "_cq_sync_time, _cq_source_name, id, v, w"
    warehouse.sql(
        f"CREATE TABLE orders (_cq_sync_time TEXT, _cq_source_name TEXT, id INTEGER, v TEXT {clause}, w TEXT)"
    )
    warehouse.sql(f"INSERT INTO orders ({columns}) SELECT {columns} FROM before")
    word = clause.partition(" ")[0].lower() if "DEFAULT" in clause else clause.partition(" ")[0]
    refuses(warehouse, orders(v=pa.list_(pa.int64()), w=pa.string()), word)


@pytest.mark.parametrize("removed", [True, False], ids=["somebody has removed it", "the table never had it"])
def test_no_column_of_a_full_refresh_is_left_out_in_silence(warehouse: Warehouse, removed: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    lineage, wide = warehouse.lineage, OLD if removed else orders(v=pa.string(), w=pa.string(), x=pa.string())
    (*_, name) = wide.schema.names
    side = refresh(lineage, wide)
    side.write(
        side.insert(wide, {"id": [1, 7], "v": ["p", "q"], "w": ["r", "s"], name: ["r", "s"]}), Complete("orders")
    )
    lineage.destination.close()
    if removed:
        warehouse.sql(f"ALTER TABLE orders DROP COLUMN {name}")
    with pytest.raises(TaskError, match=f"no column '{name}'"):
        lineage.write(Swap("orders", HIDDEN))
    lineage.destination.close()
    assert warehouse.sql("SELECT id, v FROM orders ORDER BY 1") == [(1, "a"), (2, "b"), (5, "c")]
    lineage.migrate(wide)
    lineage.write(Swap("orders", HIDDEN))
    lineage.destination.close()
    assert warehouse.sql(f"SELECT id, v, {name} FROM orders ORDER BY 1") == [(1, "p", "r"), (7, "q", "s")]
