"""Rows that PostgreSQL drops or hides without an error, as its users may have told it to."""

import time
from collections.abc import Iterator

import pytest
from dropped_rows import CASES, DROPPED, check_that_nothing_is_lost
from postgresql_warehouse import Sql, as_user, ids_of, row, warehouse

from strandline.destination import MigrateMode
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


def check_that_hiding_rows_is_noticed(owner: Lineage, role: str, sql: Sql) -> None:
    owner.migrate(orders())
    owner.write(row(owner, 1))
    sql("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    owner.migrate(orders())  # it is its owner's, who sees everything
    sql("ALTER TABLE orders FORCE ROW LEVEL SECURITY")
    sql("CREATE POLICY few ON orders USING (id > 1) WITH CHECK (true)")
    for mode in MigrateMode:
        with pytest.raises(TaskError, match=f"row security .* may hide rows from role {role}") as raised:
            owner.migrate(orders(), mode=mode)
        assert "BYPASSRLS" in raised.value.hint
    for ids in ([1], [2]):  # one is hidden, and one would not be
        with pytest.raises(TaskError, match=f"may hide rows from role {role}"):
            owner.write(row(owner, *ids))
    sql(f"ALTER ROLE {role} BYPASSRLS")
    owner.migrate(orders())
    owner.write(row(owner, 1, 2))
    assert ids_of(sql) == [1, 2]


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

    def test_a_table_whose_rows_may_be_hidden_is_refused(self, postgresql: str, sql: Sql) -> None:
        role = f"owner_{time.time_ns()}"
        sql(f"CREATE ROLE {role} LOGIN")
        sql(f"GRANT ALL ON SCHEMA public TO {role}")
        try:
            with warehouse(postgresql.replace("postgres@", f"{role}@")) as owner:
                check_that_hiding_rows_is_noticed(owner, role, sql)
        finally:
            sql(f"DROP OWNED BY {role}")
            sql(f"DROP ROLE {role}")
