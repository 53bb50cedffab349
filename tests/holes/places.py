"""Where a user's rows come from and where they go: one interface over SQLite, PostgreSQL, DuckDB and files.

The tests say what happens in the SQL that all of them understand; what differs stands here.
"""

import shutil
import sqlite3
import zlib
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import ClassVar

import duckdb
import psycopg
import pytest

from sampling import MATRIX

MODES = ("append", "overwrite", "overwrite-delete-stale")
SOURCES = ("sqlite", "postgresql")
DATABASES = ("duckdb", "postgresql", "sqlite")
DESTINATIONS = (*DATABASES, "files")
APPENDED = {"files"}
"""Destinations to which rows are appended, and nothing else."""
STAMP = "%Y-%m-%d %H:%M:%S"


def between(sources=SOURCES, destinations=DESTINATIONS, modes=MODES):
    """Runs a test for all of these, or those that are named; each a string, with spaces between several.

    `make test` tries every pair of source and destination, but every mode only from SQLite into DuckDB: elsewhere one, in
    turn, so that all tests together try each mode of each pair. `make matrix` tries every mode everywhere.
    """
    named = [one.split() if isinstance(one, str) else one for one in (sources, destinations, modes)]

    def chosen(test):
        cells = []
        for turn, (source, destination) in enumerate(product(*named[:2]), start=zlib.crc32(test.__name__.encode())):
            possible = [mode for mode in named[2] if destination not in APPENDED or mode == "append"]
            if possible and not MATRIX and (source, destination) != ("sqlite", "duckdb"):
                possible = [possible[turn % len(possible)]]
            cells += [(source, destination, mode) for mode in possible]
        return pytest.mark.parametrize("bench", cells, ids="-".join, indirect=True)(test)

    return chosen


def in_turn(**others):
    """Runs a test of the fixture `shop` with each value of one thing and each of another, by their names.

    `make test` tries each pair in one mode, in turn; `make matrix` tries it in every mode.
    """

    def chosen(test):
        cells, first = [], zlib.crc32(test.__name__.encode())
        for cell in product(*(enumerate(values.items()) for values in others.values())):
            turn = first + sum(place for place, _ in cell)
            names, values = zip(*(named for _, named in cell), strict=True)
            modes = MODES if MATRIX else [MODES[turn % len(MODES)]]
            cells += [pytest.param(mode, *values, id="-".join(map(str, (mode, *names)))) for mode in modes]
        return pytest.mark.parametrize(("shop", *others), cells, indirect=["shop"])(test)

    return chosen


def _epoch(text):
    return int(datetime.strptime(text, STAMP).replace(tzinfo=UTC).timestamp())


class SQLiteOrigin:
    """The database that a user syncs from."""

    time = "TEXT"
    forms: ClassVar = {"usual": ("TIMESTAMP", str, {}), "other": ("TIMESTAMP", _epoch, {})}
    """Types of times: the column's, how a stamp is written, and what the spec has to say."""
    unreadable = ("INTEGER", "not a number")
    """A type, and a value that makes the reading of a table fail."""

    def __init__(self, path: Path):
        self.path = path
        self.spec = {"path": "sqlite", "spec": {"path": str(path)}}

    def execute(self, *statements, rows=()):
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                if rows:
                    connection.executemany(statement, rows)
                else:
                    connection.execute(statement)

    def create_large(self):
        """A table `t` that is read in many slices: any, if the batches are small."""
        self.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, v TEXT)")


class PostgreSQLOrigin:
    """The server that a user syncs from. All times are in UTC."""

    time = "timestamptz"
    forms: ClassVar = {"usual": ("timestamptz", str, {}), "other": ("timestamp", str, {"timezone": "UTC"})}
    unreadable = ("date", "infinity")

    def __init__(self, uri):
        self.uri = uri
        self.spec = {"path": "postgresql", "spec": {"connection_string": uri}}

    def connect(self):
        return psycopg.connect(self.uri, options="-c timezone=UTC")

    def execute(self, *statements, rows=()):
        with self.connect() as connection:
            for statement in statements:
                if rows:
                    connection.cursor().executemany(statement.replace("?", "%s"), rows)
                else:
                    connection.execute(statement)

    def create_large(self):
        """Each partition is a slice of its own, so few rows are enough for many of them."""
        parts = 40
        self.execute(
            "CREATE TABLE t (id integer PRIMARY KEY, at timestamptz, v text) PARTITION BY HASH (id)",
            *(
                f"CREATE TABLE t_{part} PARTITION OF t FOR VALUES WITH (MODULUS {parts}, REMAINDER {part})"
                for part in range(parts)
            ),
        )


class Store:
    """The warehouse that a user syncs into."""

    def query(self, sql):
        with self.reader() as read:
            return read(sql)

    def rows(self, columns="id, v", table="t"):
        return sorted(self.query(f'SELECT {columns} FROM "{table}"'), key=repr)

    def execute(self, *statements):
        with self.reader() as do:
            for statement in statements:
                do(statement)

    def create_again(self):
        """The table `t` as another one of its name, with some of its rows."""
        self.execute("CREATE TABLE other AS SELECT * FROM t LIMIT 1", "DROP TABLE t", "ALTER TABLE other RENAME TO t")


class DuckDBStore(Store):
    def __init__(self, path: Path):
        self.path = path
        self.spec = {"path": "duckdb", "spec": {"path": str(path)}}

    @contextmanager
    def reader(self):
        """Something that reads for as long as it is open."""
        with closing(duckdb.connect(str(self.path))) as connection:
            yield lambda sql: connection.execute(sql).fetchall()

    def tables(self):
        return {row[0] for row in self.query("SELECT table_name FROM duckdb_tables()")}

    def columns(self, table="t"):
        sql = f"SELECT column_name FROM duckdb_columns() WHERE table_name = '{table}'"
        return sorted(row[0] for row in self.query(sql))

    def drop_all(self):
        self.path.unlink()


class SQLiteStore(Store):
    def __init__(self, path: Path):
        self.path = path
        self.spec = {"path": "sqlite", "spec": {"path": str(path)}}

    @contextmanager
    def reader(self):
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            yield lambda sql: connection.execute(sql).fetchall()

    def tables(self):
        return {row[0] for row in self.query("SELECT name FROM sqlite_schema WHERE type = 'table'")}

    def columns(self, table="t"):
        return sorted(row[0] for row in self.query(f"SELECT name FROM pragma_table_info('{table}')"))

    def create_again(self):
        # CREATE TABLE AS would declare other types, which is another fault than the one to be noticed
        ((create,),) = self.query("SELECT sql FROM sqlite_schema WHERE name = 't'")
        self.execute(
            "CREATE TABLE kept AS SELECT * FROM t LIMIT 1",
            "DROP TABLE t",
            create,
            "INSERT INTO t SELECT * FROM kept",
            "DROP TABLE kept",
        )

    def drop_all(self):
        for file in self.path.parent.glob(f"{self.path.name}*"):
            file.unlink()


class PostgreSQLStore(Store):
    def __init__(self, uri):
        self.uri = uri
        self.spec = {"path": "postgresql", "spec": {"connection_string": uri}}

    @contextmanager
    def reader(self):
        with psycopg.connect(self.uri, autocommit=True, options="-c timezone=UTC") as connection:

            def read(sql):
                cursor = connection.execute(sql)
                return cursor.fetchall() if cursor.description else []

            yield read

    def tables(self):
        return {row[0] for row in self.query("SELECT relname FROM pg_class WHERE relkind = 'r'")}

    def columns(self, table="t"):
        sql = f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0"
        return sorted(row[0] for row in self.query(sql))

    def drop_all(self):
        self.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


class FilesStore(Store):
    """A directory of Parquet files, as DuckDB sees it."""

    def __init__(self, path: Path):
        self.path = path
        self.spec = {"path": "files", "spec": {"path": str(path)}}

    @contextmanager
    def reader(self):
        with closing(duckdb.connect()) as connection:
            for table in self.tables():
                files = f"read_parquet('{self.path / table}/*.parquet', union_by_name = true)"
                connection.execute(f'CREATE VIEW "{table}" AS SELECT * FROM {files}')
            yield lambda sql: connection.execute(sql).fetchall()

    def tables(self):
        return {path.parent.name for path in self.path.glob("*/*.parquet")}

    def drop_all(self):
        shutil.rmtree(self.path)

    def drop(self, table):
        shutil.rmtree(self.path / table)

    def empty(self, table):
        for path in (self.path / table).iterdir():
            path.unlink()


def origin_of(kind, directory, database):
    """``database`` makes a new one on a PostgreSQL server."""
    return SQLiteOrigin(directory / "shop.db") if kind == "sqlite" else PostgreSQLOrigin(database())


def store_of(kind, directory, database):
    if kind == "postgresql":
        return PostgreSQLStore(database())
    return {"duckdb": DuckDBStore, "sqlite": SQLiteStore, "files": FilesStore}[kind](directory / f"warehouse.{kind}")
