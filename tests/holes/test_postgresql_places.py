"""A PostgreSQL source that is its own destination would read, alter and delete what it writes."""

from contextlib import closing

import psycopg
import pytest
from places import between


@between("postgresql", "postgresql", "overwrite")
def test_a_database_is_not_written_into_the_tables_that_are_read(bench, sync, capfd):
    bench.origin.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, v text)",
        "CREATE TABLE items (id int PRIMARY KEY, orders int REFERENCES orders ON DELETE CASCADE)",
        "INSERT INTO orders SELECT i, 'v' FROM generate_series(1, 100) AS n(i)",
        "INSERT INTO items SELECT i, i FROM generate_series(1, 100) AS n(i)",
    )
    bench.store.spec["spec"] = {"connection_string": bench.origin.uri}
    outcome = sync(code=2)
    assert "are the same database and schema" in outcome.err
    assert "another `schema`" in outcome.err
    assert bench.run("plan") == 2
    assert bench.run("migrate") == 2
    capfd.readouterr()
    with closing(psycopg.connect(bench.origin.uri)) as connection:
        counted = connection.execute("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM items)").fetchone()
        columns = connection.execute(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' AND column_name LIKE '\\_cq%'"
        ).fetchone()
    assert (counted, columns) == ((100, 100), (0,))


@pytest.mark.parametrize("where", ["another schema", "another database"])
@between("postgresql", "postgresql", "overwrite")
def test_a_database_is_copied_beside_itself(bench, sync, database, where):
    bench.origin.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'v')")
    if where == "another schema":
        bench.store.spec["spec"] = {"connection_string": bench.origin.uri, "schema": "copy"}
    sync()
    uri = bench.store.spec["spec"]["connection_string"]
    with closing(psycopg.connect(uri)) as connection:
        schema = "copy" if where == "another schema" else "public"
        assert connection.execute(f"SELECT id, v FROM {schema}.t").fetchall() == [(1, "v")]


@between("postgresql", "postgresql", "overwrite")
def test_any_of_the_schemas_that_are_read_counts(bench, sync):
    bench.origin.execute("CREATE SCHEMA sales", "CREATE TABLE sales.t (id int PRIMARY KEY)")
    bench.origin.spec["spec"]["schemas"] = ["public", "sales"]
    bench.store.spec["spec"] = {"connection_string": bench.origin.uri, "schema": "sales"}
    assert "are the same database and schema" in sync(code=2).err
