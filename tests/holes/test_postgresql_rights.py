"""Tables that a role may not read are never left out in silence, nor is what it may read of them held back."""

from contextlib import closing

import pytest
from postgresql_origin import ATTACH, PARTITIONED, TABLE, Origin, fill

from strandline.errors import UsageError
from strandline.probe import Verdict

MODES = ("append", "overwrite", "overwrite-delete-stale")
PEOPLE = (
    "CREATE TABLE t (id int PRIMARY KEY, name text, secret text)",
    "INSERT INTO t VALUES (1, 'a', 's'), (2, 'b', 's')",
    "GRANT SELECT (id, name) ON t TO reader",
)


@pytest.fixture(params=MODES)
def shop(request, postgresql):
    """Read by a role that owns nothing; ``admin`` does."""
    shop = Origin(postgresql, request.param)
    shop.execute("CREATE ROLE reader LOGIN")
    shop.admin, shop.uri = postgresql, postgresql.replace("postgres@", "reader@")
    yield shop
    shop.execute("DROP OWNED BY reader", "DROP ROLE reader", uri=postgresql)


def admin(shop, *statements):
    shop.execute(*statements, uri=shop.admin)


def offered(shop, name="t"):
    with closing(shop.source()) as source:
        return next(one for one in source.tables() if one.name == name)


def warned(report):
    return [text for task in report.tasks for text in task.warnings] + list(report.warnings)


def test_a_table_without_a_right_is_named_with_the_statement_that_grants_it(shop):
    admin(shop, TABLE, fill(1, 3), "GRANT SELECT ON t TO reader", "CREATE TABLE orders (id int PRIMARY KEY)")
    report = shop.sync()
    assert any("'orders' is left out" in one for one in warned(report))
    assert any('GRANT SELECT ON "public"."orders" TO "reader"' in one for one in warned(report))
    assert shop.ids() == [1, 2, 3]


def test_a_right_that_was_taken_fails_the_table_and_one_that_comes_back_reads_no_row_again(shop):
    admin(shop, TABLE, fill(1, 3), "GRANT SELECT ON t TO reader")
    shop.sync()
    admin(shop, "REVOKE SELECT ON t FROM reader", fill(4, 5))
    (task,) = shop.sync(code=1).tasks
    assert 'GRANT SELECT ON "public"."t" TO "reader"' in task.error.hint
    assert shop.store.read
    admin(shop, "GRANT SELECT ON t TO reader")
    assert shop.report().rows_read == 2
    assert shop.ids() == [1, 2, 3, 4, 5]


def test_a_schema_without_a_right_shows_its_tables(shop):
    admin(shop, "CREATE SCHEMA sales", "CREATE TABLE sales.t (id int PRIMARY KEY)", "GRANT SELECT ON sales.t TO reader")
    shop.settings = {"schemas": ["sales"]}
    error = offered(shop, "sales_t").unreadable
    assert error.hint == 'GRANT USAGE ON SCHEMA "sales" TO "reader"'
    admin(shop, "REVOKE SELECT ON sales.t FROM reader")
    assert offered(shop, "sales_t").unreadable.hint == (
        'GRANT USAGE ON SCHEMA "sales" TO "reader"; GRANT SELECT ON "sales"."t" TO "reader"'
    )
    admin(shop, "GRANT USAGE ON SCHEMA sales TO reader", "GRANT SELECT ON sales.t TO reader")
    assert offered(shop, "sales_t").unreadable is None


def test_a_schema_that_is_not_there_is_an_error(shop):
    shop.settings = {"schemas": ["public", "Sales"]}
    admin(shop, "CREATE SCHEMA sales")
    with closing(shop.source()) as source, pytest.raises(UsageError, match="no schema 'Sales'") as caught:
        source.tables()
    assert "did you mean 'sales'" in caught.value.hint
    admin(shop, "DROP SCHEMA sales")


def test_a_column_without_a_right_fails_the_table_unless_the_others_are_chosen(shop):
    admin(shop, *PEOPLE)
    error = offered(shop).unreadable
    assert '"secret"' in error.message
    assert "`columns`" in error.hint
    for settings in ({"columns": ["id", "name"]}, {"columns": ["name"]}, {"mask": {"secret": "null"}}):
        shop.tables = {"t": settings}
        assert offered(shop).unreadable is None, settings
    shop.tables = {"t": {"columns": ["id", "name"]}}
    shop.sync()
    assert shop.rows("id", "name") == [(1, "a"), (2, "b")]


def test_columns_of_a_table_are_read_by_a_key(shop):
    shop.tables = {"t": {"columns": ["id", "name"], "incremental_key": "id"}}
    admin(shop, *PEOPLE)
    shop.sync()
    admin(shop, "INSERT INTO t VALUES (3, 'c', 's')")
    shop.sync()
    admin(shop, "GRANT SELECT ON t TO reader")
    assert shop.report().rows_written <= 1
    assert shop.rows("id", "name") == [(1, "a"), (2, "b"), (3, "c")]


def test_a_partition_is_attached_of_which_only_columns_may_be_read(shop):
    shop.tables = {"t": {"columns": ["id"], "incremental_key": "id"}}
    older = ("CREATE TABLE t2 (id int NOT NULL, v text)", "INSERT INTO t2 VALUES (101, 'old')")
    admin(shop, *PARTITIONED, "GRANT SELECT (id) ON t TO reader", fill(1, 2), *older)
    admin(shop, "CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (200) TO (300)", "INSERT INTO t VALUES (200, 'x')")
    shop.sync()
    admin(shop, ATTACH)
    code = 1 if shop.mode == "append" else 0
    report = shop.sync(code=code)
    if code:
        assert "--full-refresh" in report.tasks[0].error.hint
        shop.sync(refresh=lambda task: True)
    assert shop.ids() == [1, 2, 101, 200]


def test_a_table_that_is_read_by_xid_needs_the_right_on_all_of_it(shop):
    shop.tables = {"t": {"columns": ["id"], "settle": "xid"}}
    admin(shop, *PEOPLE)
    error = offered(shop, "t").unreadable
    assert isinstance(error, UsageError)
    assert "some columns only" in error.message
    assert error.hint == 'GRANT SELECT ON "public"."t" TO "reader"'


def test_doctor_looks_only_at_what_can_be_read(shop):
    admin(shop, *PEOPLE, "CREATE TABLE u (id int PRIMARY KEY)", "GRANT SELECT ON u TO reader")
    with closing(shop.source()) as source:
        assert not [one for one in source.probes() if one.verdict is Verdict.PROBLEM]
        assert [one.table for one in source.proposals().tables] == ["u"]
        assert any("may not read" in note and "'t'" in note for note in source.proposals().notes)
