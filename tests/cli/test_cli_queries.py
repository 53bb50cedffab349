"""A query of the spec as a table, from SQLite and from PostgreSQL."""

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg
import pytest

TABLES = (
    "CREATE TABLE orders (id int PRIMARY KEY, at {time}, customer int, price decimal(9, 2))",
    "CREATE TABLE customers (id int PRIMARY KEY, name text, password text)",
    "INSERT INTO orders VALUES (1, '2026-01-01 00:00:00', 1, 5), (2, '2026-01-02 00:00:00', 1, 7.5)",
    "INSERT INTO customers VALUES (1, 'ann', 'secret')",
)
JOINED = "SELECT o.id, o.at, c.name, o.price * 2 AS twice FROM orders AS o JOIN customers AS c ON c.id = o.customer;"


class Shop:
    def __init__(self, cli, uri):
        self.cli, self.uri = cli, uri
        self.own = {"connection_string": uri} if uri else {"path": "shop.db"}
        self.execute(*(sql.replace("{time}", "timestamptz" if uri else "text") for sql in TABLES))

    def execute(self, *statements):
        if self.uri:
            with psycopg.connect(self.uri, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement)
            return
        with closing(sqlite3.connect("shop.db")) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def spec(self, query=JOINED, *, name="big", mode="overwrite-delete-stale", **settings):
        table = {"query": query, "primary_key": ["id"]} | settings
        source = {
            "name": "shop",
            "path": "postgresql" if self.uri else "sqlite",
            "tables": [name],
            "destinations": ["w"],
        }
        self.cli.spec(
            ("source", source | {"spec": self.own, "table_settings": {name: table}}),
            ("destination", {"name": "w", "path": "duckdb", "write_mode": mode, "spec": {"path": "w.duckdb"}}),
        )

    def sync(self, *arguments):
        return self.cli("sync", *arguments)

    def stored(self, columns="*", name="big"):
        with closing(duckdb.connect("w.duckdb")) as connection:
            return connection.execute(f"SELECT {columns} FROM {name} ORDER BY id").fetchall()


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(cli, request):
    return Shop(cli, request.getfixturevalue("postgresql") if request.param == "postgresql" else "")


def test_a_query_is_a_table_that_is_read_incrementally_by_a_key(shop):
    shop.spec(incremental_key="at", types={"twice": "double"})
    said = shop.cli("plan").stdout
    assert "big    incremental  by at" in said
    assert "a row that appears, changes or goes because of another row, as in a join, keeps its key" in said
    assert shop.sync().exit_code == 0
    shop.execute("INSERT INTO orders VALUES (3, '2026-01-03 00:00:00', 1, 9)")
    second = shop.sync()
    assert (second.exit_code, "1 task completed: 2 rows read" in second.stdout) == (0, True)
    assert shop.stored("id, name, twice") == [(1, "ann", 10.0), (2, "ann", 15.0), (3, "ann", 18.0)]


def test_without_a_key_it_is_read_in_full_and_what_it_shows_no_more_is_deleted(shop):
    shop.spec("SELECT id, name FROM customers", name="customers")  # in the place of the table
    shop.execute("INSERT INTO customers VALUES (2, 'bea', 'x'), (3, 'cem', 'x')")
    assert shop.sync().exit_code == 0
    shop.execute("DELETE FROM customers WHERE id = 1")
    assert shop.sync().exit_code == 0
    assert shop.stored("id, name", "customers") == [(2, "bea"), (3, "cem")]
    assert "secret" not in str(shop.stored(name="customers"))


def test_another_query_leaves_no_wrong_rows_in_silence(shop):
    shop.spec(incremental_key="at")
    assert shop.sync().exit_code == 0
    shop.spec(JOINED.replace("* 2", "* 3"), incremental_key="at")
    refused = shop.sync()
    assert refused.exit_code == 3
    assert "query was " in refused.stdout + refused.stderr
    assert shop.sync("--full-refresh", "big").exit_code == 0
    assert [float(twice) for (twice,) in shop.stored("twice")] == [15.0, 22.5]
    # read in full, there is no cursor; but what the former one let through may not be stale
    shop.spec(JOINED.replace(";", " WHERE o.id > 1"))
    assert shop.sync("--full-refresh", "big").exit_code == 0
    shop.spec()
    assert shop.sync().exit_code == 0
    shop.spec(JOINED.replace(";", " WHERE o.id > 1"))
    done = shop.sync()
    assert (done.exit_code, [one for (one,) in shop.stored("id")]) == (0, [1, 2])
    assert "were read with another filter" in done.stdout


def test_what_a_query_depends_on_may_not_change_unseen(shop):
    shop.spec(incremental_key="at")
    assert shop.sync().exit_code == shop.sync().exit_code == 0
    shop.execute("ALTER TABLE customers RENAME name TO former", "ALTER TABLE customers ADD name text")
    done = shop.sync()
    assert (done.exit_code, "reading everything" in done.stdout) == (0, True)
    assert shop.stored("name") == [(None,), (None,)]
    assert "reading everything" not in shop.sync().stdout


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS id; SELECT 2 AS id",
        "DELETE FROM orders RETURNING id",
        "INSERT INTO orders (id) VALUES (9)",
        "CREATE TABLE x (id int)",
        "SELECT idd FROM orders",
        "SELECT id FROM nowhere",
        "SELECT 1) AS t, (SELECT 2 AS id",
        "SELEC 1",
    ],
)
def test_what_is_not_one_query_is_refused_at_its_place(shop, query):
    shop.spec(query)
    done = shop.sync()
    assert (done.exit_code, Path("w.duckdb").exists()) == (2, False)
    assert "error: table 'big': its `query` does not work: " in done.stderr
    assert "\n  strandline.yml:1:" in done.stderr
    assert "error: the spec has a problem; nothing was touched" in done.stderr
    assert shop.cli("plan").exit_code == 2


def test_a_query_belongs_to_one_table(shop):
    shop.spec("SELECT 1 AS id", name="*")
    done = shop.sync()
    assert done.exit_code == 2
    assert "a `query` makes one table" in done.stderr


def test_a_query_of_a_server_is_held_to_the_rights_of_its_role(cli, postgresql):
    shop = Shop(cli, postgresql)
    role = postgresql.rpartition("/")[2]
    shop.execute(f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON orders TO {role}")
    try:
        shop.own = {"connection_string": postgresql.replace("postgres@", f"{role}@")}
        shop.spec()
        done = shop.sync()
        assert (done.exit_code, "permission denied for table customers" in done.stdout) == (1, True)
    finally:
        shop.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_types_of_a_servers_query_are_those_of_its_columns(cli, postgresql):
    shop = Shop(cli, postgresql)
    shop.execute("CREATE TYPE mood AS ENUM ('a', 'b')", "CREATE DOMAIN even AS int CHECK (value % 2 = 0)")
    shop.spec(
        "SELECT 2::even AS id, 'a'::mood AS m, '{1,2}'::int[] AS l, price, now()::timestamptz AS n, NULL AS x FROM orders LIMIT 1"
    )
    assert shop.sync().exit_code == 0
    with closing(duckdb.connect("w.duckdb")) as connection:
        kinds = {name: kind for name, kind, *_ in connection.execute("DESCRIBE big").fetchall()}
    assert (kinds["id"], kinds["price"], kinds["n"]) == ("INTEGER", "DECIMAL(9,2)", "TIMESTAMP WITH TIME ZONE")
    assert shop.stored("id, m, price") == [(2, "a", 5)]
