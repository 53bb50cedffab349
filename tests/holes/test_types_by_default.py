"""Types by default are useful and exact; what an older version has stored as text stays so until a full refresh."""

from decimal import Decimal

import pytest
from places import between


def shop(bench):
    bench.origin.execute(
        "CREATE TABLE t (id int PRIMARY KEY, price numeric, paid money, v text)",
        "INSERT INTO t VALUES (1, 1.50, '$1,234.50', 'a'), (2, 0.25, -0.05, 'b')",
    )


@between("postgresql", "duckdb postgresql files")
def test_numbers_of_postgresql_can_be_summed_after_a_first_sync(bench, sync):
    shop(bench)
    sync()
    assert bench.store.query("SELECT sum(price), sum(paid) FROM t") == [(Decimal("1.75"), Decimal("1234.45"))]


@between("postgresql")
def test_what_was_stored_as_text_stays_text_in_its_own_spelling_until_a_full_refresh(bench, sync):
    shop(bench)
    bench.tables = {"t": {"types": {"price": "string", "paid": "string"}}}  # as older versions read them
    sync()
    bench.tables = {}
    bench.origin.execute("INSERT INTO t VALUES (3, 10.0, 7, 'c')", "UPDATE t SET v = 'x' WHERE id = 1")
    sync()
    sync()
    rows = bench.store.rows("id, price, paid, v")
    expected = [(1, "1.50", "$1,234.50", "x"), (2, "0.25", "-$0.05", "b"), (3, "10.0", "$7.00", "c")]
    assert rows == sorted(expected + [(1, "1.50", "$1,234.50", "a")] * (bench.mode == "append"), key=repr)
    if bench.pair[1] == "files":
        return
    assert bench.run("sync", "--full-refresh", "t") == 0
    bench.origin.execute("INSERT INTO t VALUES (4, 2.5, 1, 'd')")
    sync()
    sync()
    found = bench.store.rows("id, price, paid, v")
    numbers = [(one, Decimal(str(price)), Decimal(str(paid)), v) for one, price, paid, v in found]
    expected = [(1, "1.5", "1234.5", "x"), (2, "0.25", "-0.05", "b"), (3, "10", "7", "c"), (4, "2.5", "1", "d")]
    assert numbers == [(one, Decimal(price), Decimal(paid), v) for one, price, paid, v in expected]


@between("postgresql", "duckdb", "append")
def test_rows_that_are_read_again_are_the_rows_that_were_read_as_text(bench, sync):
    """In append mode, those above the horizon are read again by each sync, and known by what they hold."""
    shop(bench)
    bench.tables = {"t": {"types": {"price": "string", "paid": "string"}}}
    with bench.origin.connect() as open_one:
        open_one.execute("INSERT INTO t VALUES (9, 9.90, 9, 'open')")  # which holds the horizon back
        bench.origin.execute("INSERT INTO t VALUES (3, 10.0, 7, 'c')")
        sync()
        bench.tables = {}
        sync()
    sync()
    assert [row[:2] for row in bench.store.rows("id, price")] == [(1, "1.50"), (2, "0.25"), (3, "10.0"), (9, "9.90")]


@between("postgresql", "duckdb", "overwrite")
def test_a_column_that_held_nothing_takes_the_type_of_now(bench, sync):
    bench.origin.execute("CREATE TABLE t (id int PRIMARY KEY, price numeric)", "INSERT INTO t VALUES (1, NULL)")
    bench.tables = {"t": {"types": {"price": "string"}}}
    sync()
    bench.tables = {}
    bench.origin.execute("INSERT INTO t VALUES (2, 2.50)")
    sync()
    assert bench.store.query("SELECT sum(price) FROM t") == [(Decimal("2.5"),)]


@between("postgresql", "duckdb", "overwrite")
def test_a_number_that_does_not_fit_fails_its_table_and_leaves_the_cursor(bench, sync, capfd):
    shop(bench)
    sync()
    before = bench.state()["cursor"] if bench.state() else None
    bench.origin.execute("INSERT INTO t VALUES (3, 0.4902817365091827364, 7, 'c')")
    capfd.readouterr()
    assert bench.run("sync") == 1
    said = "".join(capfd.readouterr())
    for word in ("t.price", "0.4902817365091827364", "id = 3", "types", "price: string"):
        assert word in said
    assert (bench.state()["cursor"] if bench.state() else None) == before
    assert bench.store.rows("id") == [(1,), (2,)]
    bench.tables = {"t": {"types": {"price": "string"}}}
    assert bench.run("sync", "--full-refresh", "t") == 0
    assert bench.store.rows("id, price") == [(1, "1.50"), (2, "0.25"), (3, "0.4902817365091827364")]


@pytest.mark.parametrize("where", ["key", "incremental key"])
@between("postgresql", "duckdb", "overwrite")
def test_a_key_that_is_a_number_without_a_bound_goes_on_as_text(bench, sync, where):
    bench.origin.execute(
        "CREATE TABLE t (id numeric PRIMARY KEY, k numeric, v text)", "INSERT INTO t VALUES (1.0, 1, 'a')"
    )
    bench.tables = {"t": {"incremental_key": "k"}} if where == "incremental key" else {}
    sync()
    bench.origin.execute("INSERT INTO t VALUES (2.0, 2, 'b')", "UPDATE t SET v = 'x', k = 3 WHERE id = 1")
    sync()
    assert bench.store.rows("id, k, v") == [
        ("1", "3" if bench.tables else Decimal(3), "x"),
        ("2", "2" if bench.tables else Decimal(2), "b"),
    ]
