"""`latest_view`: beside a table to which versions are appended, a view of the last version of each row."""

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg
import pytest


class Shop:
    """A database of orders, and what became of them in one destination."""

    def __init__(self, cli, plugin, place):
        self._cli, self._plugin, self._place = cli, plugin, place
        with closing(sqlite3.connect("shop.db")) as shop:
            shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, price DECIMAL(10, 2), at TEXT)")
        self.change("INSERT INTO orders VALUES (1, 'new', 1, '2026-01-01'), (2, 'new', 2, '2026-01-02')")
        self.spec()

    def spec(self, *, mode="append", **settings):
        rules = {"incremental_key": "at", "latest_view": True} | settings
        own = {"connection_string": self._place} if self._plugin == "postgresql" else {"path": self._place}
        source = {"name": "shop", "path": "sqlite", "destinations": ["copy"], "spec": {"path": "shop.db"}}
        self._cli.spec(
            ("source", source | {"table_settings": {"orders": rules}}),
            ("destination", {"name": "copy", "path": self._plugin, "write_mode": mode, "spec": own}),
        )

    def change(self, sql):
        with closing(sqlite3.connect("shop.db")) as shop, shop:
            shop.execute(sql)

    def __call__(self, *arguments, code=0):
        done = self._cli(*arguments)
        assert done.exit_code == code, done.output
        return done.output

    def ask(self, sql):
        """The rows of a query; of a statement, none."""
        if self._plugin == "postgresql":
            with psycopg.connect(self._place) as there:
                done = there.execute(sql)
                return sorted(done.fetchall()) if done.description else []
        connect = {"duckdb": duckdb.connect, "sqlite": sqlite3.connect}[self._plugin]
        with closing(connect(self._place)) as there:
            rows = there.execute(sql).fetchall()
            there.commit()
            return sorted(rows)


@pytest.fixture(params=["duckdb", "sqlite", "postgresql"])
def shop(request, cli):
    place = request.getfixturevalue("postgresql") if request.param == "postgresql" else f"copy.{request.param}"
    return Shop(cli, request.param, place)


def test_it_shows_the_last_version_of_each_row_and_the_columns_that_there_are_now(shop):
    assert "orders_latest" in shop("plan", "-v")
    shop("sync")
    shop.change("UPDATE orders SET status = 'paid', at = '2026-01-03' WHERE id = 1")
    shop("sync")
    latest = "SELECT id, status FROM orders_latest"
    assert shop.ask(latest) == [(1, "paid"), (2, "new")]
    assert shop.ask("SELECT count(*) FROM orders") == [(3,)]
    assert "orders_latest" not in shop("plan", "-v")

    shop.change("ALTER TABLE orders ADD COLUMN city TEXT")
    shop.change("UPDATE orders SET city = 'Rome', at = '2026-01-04' WHERE id = 2")
    shop("sync")
    assert shop.ask("SELECT id, status, city FROM orders_latest WHERE city IS NOT NULL") == [(2, "new", "Rome")]

    shop.spec(types={"price": "string"})
    shop("sync", "--full-refresh", "orders")
    assert shop.ask("SELECT id, city FROM orders_latest WHERE id = 2") == [(2, "Rome")]
    assert isinstance(shop.ask("SELECT price FROM orders_latest WHERE id = 1")[0][0], str)
    assert shop.ask("SELECT count(*) FROM orders_latest") == [(2,)]


def test_of_two_versions_of_one_pass_the_one_with_the_greater_key_is_newer(shop):
    shop("sync")
    shop.ask("UPDATE orders SET \"at\" = '2025-01-01' WHERE id = 2")
    shop.ask(
        "INSERT INTO orders SELECT _cq_sync_time, _cq_source_name, id, 'older', price, '2024-01-01' FROM orders WHERE id = 2"
    )
    assert shop.ask("SELECT id, status FROM orders_latest") == [(1, "new"), (2, "new")]


@pytest.mark.parametrize("kind", ["TABLE", "VIEW"])
def test_what_has_its_name_is_left_alone(shop, kind):
    shop.spec(latest_view=False)
    shop("sync")
    shop.ask(f"CREATE {kind} orders_latest AS SELECT 7 AS mine")
    shop.change("INSERT INTO orders VALUES (3, 'new', 3, '2026-01-05')")
    shop.spec()
    for command in ("plan", "sync"):
        assert "which is not Strandline's" in shop(command, code=2)
    assert shop.ask("SELECT * FROM orders_latest") == [(7,)]
    assert shop.ask("SELECT count(*) FROM orders") == [(2,)]


def test_a_view_of_a_person_on_it_does_not_keep_a_column_from_being_added(shop):
    shop("sync")
    shop.ask("CREATE VIEW mine AS SELECT id FROM orders_latest")
    shop.change("ALTER TABLE orders ADD COLUMN city TEXT")
    shop("sync")
    assert shop.ask("SELECT city FROM orders_latest") in ([(None,)], [(None,), (None,)])
    assert shop.ask("SELECT id FROM mine") == [(1,), (2,)]


@pytest.mark.parametrize(
    ("plugin", "settings", "why"),
    [
        ("files", {}, "has no views"),
        ("sqlite", {"mode": "overwrite"}, "has one version of each row only"),
    ],
)
def test_it_is_refused_where_it_cannot_be(cli, plugin, settings, why):
    shop = Shop(cli, plugin, f"copy.{plugin}")
    shop.spec(**settings)
    assert why in shop("plan", code=2)


def test_without_a_primary_key_it_is_refused(cli):
    shop = Shop(cli, "sqlite", "copy.sqlite")
    shop.change("DROP TABLE orders")
    shop.change("CREATE TABLE orders (status TEXT)")
    shop.spec(incremental_key=None)
    assert "without a primary key" in shop("plan", code=2)


def test_a_table_of_its_name_is_refused(cli):
    shop = Shop(cli, "sqlite", "copy.sqlite")
    shop.change("CREATE TABLE orders_latest (id INTEGER PRIMARY KEY)")
    assert "would both be 'orders_latest'" in shop("sync", code=2)
    assert not Path("copy.sqlite").exists()
