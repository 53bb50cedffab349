"""A warehouse of any SQL database, with what its user attaches to our tables in SQL of his own."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from strandline.plugins import load_plugin
from strandline.testing.windows import Lineage

__all__ = ["KINDS", "Warehouse", "opened"]

KINDS = ("duckdb", "sqlite", "postgresql")

Rows = list[tuple[Any, ...]]


class Warehouse:
    """``lineage`` is ours, ``sql`` the user's."""

    def __init__(self, kind: str, lineage: Lineage, run: Callable[[Sequence[str]], Rows]) -> None:
        self.kind, self.lineage, self._run = kind, lineage, run

    def sql(self, *statements: str) -> Rows:
        """The rows of the last one. Every other one is committed before it."""
        return self._run(statements)

    def refer(self, action: str, *, table: str = "note", name: str = "note_tid_fkey") -> None:
        """A table of the user's refers to ``orders``, and has a row for each of the orders 1 and 5."""
        if self.kind == "sqlite":  # which makes no constraint of an existing table
            self.sql("CREATE UNIQUE INDEX orders_id ON orders (id)")
        else:
            self.sql("ALTER TABLE orders ADD PRIMARY KEY (id)")
        action = "" if self.kind == "duckdb" else action  # it has none
        self.sql(
            f"CREATE TABLE {table} (tid bigint CONSTRAINT {name} REFERENCES orders (id) {action}, txt varchar)",
            f"INSERT INTO {table} VALUES (1, 'mine'), (5, 'mine too')",
        )


def _sqlite(path: Path, statements: Sequence[str]) -> Rows:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        return [connection.execute(one).fetchall() for one in statements][-1]


def _duckdb(path: Path, statements: Sequence[str]) -> Rows:
    with duckdb.connect(str(path)) as connection:
        return [connection.execute(one).fetchall() for one in statements][-1]


def _postgresql(uri: str, statements: Sequence[str]) -> Rows:
    rows: Rows = []
    with closing(psycopg.connect(uri, autocommit=True)) as connection:
        for one in statements:
            cursor = connection.execute(one.encode())
            rows = cursor.fetchall() if cursor.description else []
    return rows


@contextmanager
def opened(kind: str, path: Path, uri: str) -> Iterator[Warehouse]:
    """A new one. ``uri`` is that of an empty database of PostgreSQL, ``path`` a new directory."""
    cls = load_plugin("destination", kind)
    if kind == "postgresql":
        spec, run = {"connection_string": uri}, lambda statements: _postgresql(uri, statements)
    else:
        file = path / f"warehouse.{kind}"
        ask = _duckdb if kind == "duckdb" else _sqlite
        spec, run = {"path": str(file)}, lambda statements: ask(file, statements)
    with closing(cls(cls.Spec(**spec))) as destination:
        yield Warehouse(kind, Lineage(destination), run)
