"""A row to which somebody's foreign key refers is deleted only if the spec says so; and what a full refresh leaves alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from attached_warehouse import KINDS, Warehouse, opened

from strandline.destination import MigrateMode, WriteMode
from strandline.errors import TaskError
from strandline.lazy import pa
from strandline.message import Complete, Delete, Insert, Present, Stale, Swap, Truncate, WindowMessage
from strandline.testing.destination_fixtures import keys, orders
from strandline.testing.destination_swap import HIDDEN, refresh

NOTES = [(1, "mine"), (5, "mine too")]


@pytest.fixture(params=KINDS)
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    uri = request.getfixturevalue("postgresql") if request.param == "postgresql" else ""
    with opened(request.param, tmp_path, uri) as one:
        prepare(one)
        yield one


def prepare(warehouse: Warehouse) -> None:
    """Three orders."""
    warehouse.lineage.mode = WriteMode.OVERWRITE_DELETE_STALE
    warehouse.lineage.migrate(orders())
    warehouse.lineage.write(rows(warehouse, 1, 2, 5))
    warehouse.lineage.next_pass()


def rows(warehouse: Warehouse, *ids: int, name: str = "a") -> Insert:
    return warehouse.lineage.insert(orders(), id=list(ids), name=[name] * len(ids), note=["x"] * len(ids))


def allowed(warehouse: Warehouse) -> None:
    warehouse.lineage.tables = {"orders": replace(orders(), allow_cascade=True)}


def refreshed(warehouse: Warehouse, *ids: int) -> None:
    side = refresh(warehouse.lineage, orders())
    side.write(rows(warehouse, *ids, name="A"), Complete("orders"))


def orders_of(warehouse: Warehouse) -> list[int]:
    return [row[0] for row in warehouse.sql("SELECT id FROM orders ORDER BY id")]


def leaving(warehouse: Warehouse, how: str, *ids: int) -> list[WindowMessage]:
    """Messages after which only the orders of these ids are left."""
    gone = [one for one in (1, 2, 5) if one not in ids]
    match how:
        case "delete":
            return [Delete("orders", keys(orders(), *gone))]
        case "truncate":
            return [Truncate("orders"), *([rows(warehouse, *ids)] if ids else [])]
        case "sweep":
            return [Present("orders", keys(orders(), *ids)), Complete("orders")]
        case "stale":
            return [rows(warehouse, *ids), Complete("orders"), Stale("orders")]
        case _:
            refreshed(warehouse, *ids)
            return [Swap("orders", HIDDEN)]


WAYS = ["delete", "sweep", "stale", "refresh"]


@pytest.mark.parametrize("how", [*WAYS, "truncate"])
@pytest.mark.parametrize("action", ["ON DELETE CASCADE", "ON DELETE SET NULL", ""])
def test_a_row_that_somebody_refers_to_is_not_deleted(warehouse: Warehouse, action: str, how: str) -> None:
    warehouse.refer(action)
    messages = leaving(warehouse, how, 2, 5)
    with pytest.raises(TaskError, match=r"foreign key .* of note .*refers to") as caught:
        warehouse.lineage.write(*messages)
    assert "allow_cascade" in caught.value.hint
    assert warehouse.sql("SELECT tid, txt FROM note ORDER BY 1") == NOTES
    assert orders_of(warehouse) == [1, 2, 5]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("action", ["ON DELETE CASCADE", ""])
def test_a_row_that_nobody_refers_to_is_deleted_all_the_same(warehouse: Warehouse, action: str, how: str) -> None:
    warehouse.refer(action)
    warehouse.lineage.write(*leaving(warehouse, how, 1, 5))
    assert warehouse.sql("SELECT tid, txt FROM note ORDER BY 1") == NOTES
    assert orders_of(warehouse) == [1, 5]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("action", ["ON DELETE CASCADE", "ON DELETE SET NULL"])
def test_what_the_spec_allows_leaves_no_orphan(warehouse: Warehouse, action: str, how: str) -> None:
    if warehouse.kind == "duckdb":
        return  # whose foreign keys forbid it
    warehouse.refer(action)
    allowed(warehouse)
    warehouse.lineage.write(*leaving(warehouse, how, 2, 5))
    left = [(5, "mine too")] if "CASCADE" in action else [(5, "mine too"), (None, "mine")]
    assert warehouse.sql("SELECT tid, txt FROM note ORDER BY txt DESC") == left
    assert orders_of(warehouse) == [2, 5]


@pytest.mark.parametrize("how", WAYS)
def test_a_foreign_key_that_forbids_it_is_obeyed(warehouse: Warehouse, how: str) -> None:
    warehouse.refer("ON DELETE RESTRICT")
    allowed(warehouse)
    messages = leaving(warehouse, how, 2, 5)
    with pytest.raises(TaskError):
        warehouse.lineage.write(*messages)
    assert warehouse.sql("SELECT tid, txt FROM note ORDER BY 1") == NOTES
    assert orders_of(warehouse) == [1, 2, 5]


def test_rows_that_exchange_what_is_unique_take_nothing_with_them(warehouse: Warehouse) -> None:
    lineage = warehouse.lineage
    lineage.write(lineage.insert(orders(), id=[1, 2, 5], name=["a", "b", "c"], note=["x"] * 3))
    warehouse.refer("ON DELETE CASCADE")
    warehouse.sql("CREATE UNIQUE INDEX orders_name ON orders (name)")
    turned = lineage.insert(orders(), id=[1, 2, 5], name=["b", "c", "a"], note=["x"] * 3)
    with pytest.raises(TaskError):
        lineage.write(turned)
    assert warehouse.sql("SELECT tid, txt FROM note ORDER BY 1") == NOTES


def test_a_table_that_somebody_refers_to_is_not_created_again(warehouse: Warehouse) -> None:
    warehouse.refer("ON DELETE CASCADE")
    for apply in (False, True):
        with pytest.raises(TaskError, match="refers to 2 rows"):
            warehouse.lineage.migrate(orders(name=pa.binary()), mode=MigrateMode.FORCED, apply=apply)
    assert warehouse.sql("SELECT tid, txt FROM note ORDER BY 1") == NOTES
    assert orders_of(warehouse) == [1, 2, 5]


def test_what_is_lost_when_a_table_is_created_again_is_said_before(warehouse: Warehouse) -> None:
    other = orders(name=pa.binary(), note=pa.string())
    warehouse.sql("ALTER TABLE orders ADD COLUMN mine varchar", "CREATE INDEX by_name ON orders (name)")
    lost = ["column mine", "index by_name"]
    if warehouse.kind == "sqlite":
        warehouse.sql("CREATE TRIGGER told AFTER DELETE ON orders BEGIN SELECT 1; END")
        lost += ["trigger told"]
    if warehouse.kind == "postgresql":
        lost += ATTACHED
        warehouse.sql(*ATTACHING, "COMMENT ON COLUMN orders.name IS 'how it is called'")
    found = warehouse.lineage.migrate(other, mode=MigrateMode.FORCED, apply=False)
    assert sorted(found.attached) == sorted(lost)
    (change,) = found.changes
    assert all(one in change.detail for one in lost)
    assert warehouse.lineage.migrate(orders(), apply=False).attached == ()


ATTACHING = [
    "CREATE VIEW names AS SELECT name FROM orders",
    "CREATE MATERIALIZED VIEW stored_names AS SELECT name FROM orders",
    "GRANT SELECT ON orders TO PUBLIC",
    "CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
    "CREATE TRIGGER told AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION told()",
    "CREATE POLICY mine ON orders USING (id = 1)",
    "CREATE PUBLICATION changes FOR TABLE orders",
    "ALTER TABLE orders ADD CONSTRAINT positive CHECK (id > 0)",
]
ATTACHED = [
    "view names",
    "materialized view stored_names",
    "grant of SELECT to everybody",
    "trigger told",
    "policy mine",
    "publication changes",
    "constraint positive",
    "comment on column name",
]
CATALOG = """
    SELECT 'trigger', tgname::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'orders'::regclass
    UNION SELECT 'policy', polname, pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = 'orders'::regclass
    UNION SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'orders'::regclass
    UNION SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE 'orders'::regclass IN (conrelid, confrelid)
    UNION SELECT 'view', viewname, definition FROM pg_views WHERE schemaname = 'public'
    UNION SELECT 'materialized view', matviewname, definition FROM pg_matviews
    UNION SELECT 'publication', pubname, tablename FROM pg_publication_tables
    UNION SELECT 'table', oid::text, relacl::text FROM pg_class WHERE oid = 'orders'::regclass
    UNION SELECT 'row security', relrowsecurity::text, '' FROM pg_class WHERE oid = 'orders'::regclass
    UNION SELECT 'comment', objsubid::text, description FROM pg_description WHERE objoid = 'orders'::regclass
    UNION SELECT 'column', column_name, column_default FROM information_schema.columns WHERE table_name = 'orders'
    ORDER BY 1, 2, 3
"""


class TestEverything:
    """What is attached survives a sync, deletes included, and a full refresh."""

    @pytest.mark.parametrize("how", WAYS)
    def test_postgresql(self, warehouse: Warehouse, how: str) -> None:
        if warehouse.kind != "postgresql":
            return
        warehouse.lineage.migrate(orders())
        warehouse.lineage.write(rows(warehouse, 1))
        warehouse.refer("ON DELETE CASCADE")
        warehouse.sql(
            *ATTACHING,
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
            "CREATE INDEX by_name ON orders (name) WHERE id > 1",
            "COMMENT ON TABLE orders IS 'what people buy'",
            "COMMENT ON COLUMN orders.name IS 'how it is called'",
            "ALTER TABLE orders ADD COLUMN mine integer DEFAULT 3",
        )
        warehouse.lineage.migrate(orders())  # which goes on with the comment
        before = warehouse.sql(CATALOG)
        warehouse.lineage.migrate(orders())
        warehouse.lineage.write(*leaving(warehouse, how, 1, 5))
        warehouse.lineage.migrate(orders())
        assert warehouse.sql(CATALOG) == before
        assert any("what people buy" in (row[2] or "") for row in before)

    @pytest.mark.parametrize("how", WAYS)
    def test_sqlite_and_duckdb(self, warehouse: Warehouse, how: str) -> None:
        if warehouse.kind == "postgresql":
            return
        if warehouse.kind == "sqlite":  # DuckDB updates no row that has both
            warehouse.refer("ON DELETE CASCADE")
        warehouse.sql("CREATE VIEW names AS SELECT name FROM orders", "CREATE INDEX by_name ON orders (name)")
        catalog = "SELECT sql FROM sqlite_master ORDER BY sql"
        if warehouse.kind == "sqlite":
            warehouse.sql("CREATE TRIGGER told AFTER DELETE ON orders BEGIN SELECT 1; END")
        else:
            warehouse.sql("COMMENT ON COLUMN orders.name IS 'how it is called'")
            catalog = (
                "SELECT sql FROM duckdb_tables() UNION ALL SELECT sql FROM duckdb_views() WHERE NOT internal "
                "UNION ALL SELECT sql FROM duckdb_indexes() UNION ALL SELECT comment FROM duckdb_columns() "
                "WHERE table_name = 'orders' ORDER BY 1"
            )
        warehouse.lineage.destination.close()
        before = warehouse.sql(catalog)
        warehouse.lineage.write(*leaving(warehouse, how, 1, 5))
        warehouse.lineage.migrate(orders())
        warehouse.lineage.destination.close()
        assert warehouse.sql(catalog) == before

    def test_a_full_refresh_fires_triggers_for_what_has_changed_only(self, warehouse: Warehouse) -> None:
        if warehouse.kind == "duckdb":
            return  # which has no triggers
        warehouse.sql("CREATE TABLE fired (id bigint)")
        if warehouse.kind == "sqlite":
            warehouse.sql(
                "CREATE TRIGGER told AFTER DELETE ON orders BEGIN INSERT INTO fired VALUES (OLD.id); END",
            )
        else:
            warehouse.sql(
                "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN INSERT INTO fired VALUES (OLD.id); RETURN NULL; END $$",
                "CREATE TRIGGER told AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION tell()",
            )
        warehouse.lineage.write(*leaving(warehouse, "refresh", 2, 5))
        assert warehouse.sql("SELECT id FROM fired") == [(1,)]
        assert orders_of(warehouse) == [2, 5]
