"""Rows that PostgreSQL drops without an error, as its users may have told it to."""

from collections.abc import Iterator

import pytest
from dropped_rows import CASES, DROPPED, check_that_nothing_is_lost
from postgresql_warehouse import Sql, as_user, ids_of, row, warehouse

from strandline.errors import TaskError
from strandline.testing.destination_fixtures import orders
from strandline.testing.windows import Lineage


@pytest.fixture
def lineage(postgresql: str) -> Iterator[Lineage]:
    with warehouse(postgresql) as one:
        yield one


@pytest.fixture
def sql(postgresql: str) -> Iterator[Sql]:
    with as_user(postgresql) as run:
        yield run


class TestDrops:
    @pytest.mark.parametrize(
        ("case", "spills"),
        [*((case, False) for case in CASES), ("append", True), ("overwrite", True), ("overwrite and delete", True)],
    )
    def test_a_row_that_a_trigger_drops_fails_the_window(
        self, lineage: Lineage, sql: Sql, case: str, *, spills: bool
    ) -> None:
        if spills:
            lineage.destination.staged_bytes_max = 1
        sql(
            "CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN IF NEW.id = {DROPPED} THEN RETURN NULL; END IF; RETURN NEW; END $$"
        )

        def make(table: str) -> None:
            sql(f"CREATE TRIGGER drops BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION drops()")

        check_that_nothing_is_lost(lineage, CASES[case], make, lambda table: sql(f"DROP TRIGGER drops ON {table}"))

    def test_a_row_that_a_rule_drops_fails_the_window(self, lineage: Lineage, sql: Sql) -> None:
        lineage.migrate(orders())
        lineage.write(row(lineage, 1))
        lineage.next_pass()
        sql(f"CREATE RULE drops AS ON INSERT TO orders WHERE NEW.id = {DROPPED} DO INSTEAD NOTHING")
        with pytest.raises(TaskError, match=r"orders: 3 rows .* stored 2 of them"):
            lineage.write(row(lineage, 1, 2, 3))
        assert ids_of(sql) == [1]

    def test_rows_of_a_partitioned_table_are_all_counted(self, lineage: Lineage, sql: Sql) -> None:
        lineage.migrate(orders())
        sql("ALTER TABLE orders RENAME TO low")
        sql("CREATE TABLE orders (LIKE low) PARTITION BY RANGE (id)")
        sql("ALTER TABLE orders ATTACH PARTITION low FOR VALUES FROM (0) TO (10)")
        sql("CREATE TABLE high PARTITION OF orders FOR VALUES FROM (10) TO (20)")
        lineage.migrate(orders())
        lineage.write(row(lineage, 1, 2, 11))
        lineage.next_pass()
        assert lineage.write(row(lineage, 2, 11, 12)).rows == {"orders": 3}
        assert ids_of(sql) == [1, 2, 11, 12]
