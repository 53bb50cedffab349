"""A PostgreSQL database that a user syncs from, within this process: what the tests of late rows share."""

import uuid
from contextlib import closing

import psycopg
import pytest

from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.run import sync
from strandline.engine.window import Bounds
from strandline.plugins import load_plugin
from strandline.table import Table

AT_ONCE = {"alone": 1, "two": 2, "five": 5}
"""How many slices are read at once; there are four connections."""
EACH = pytest.mark.parametrize("at_once", AT_ONCE.values(), ids=AT_ONCE)
TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"
PARTITIONED = (
    "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
    "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
)
T2 = "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (100) TO (200)"
ATTACH = "ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (100) TO (200)"
BIG = "repeat('x', 900)"
"""As a value: a page has room for eight such rows."""


def fill(first, last, v="'v'", table="t"):
    """A statement that inserts a row for each number."""
    return f"INSERT INTO {table} SELECT i, {v} FROM generate_series({first}, {last}) AS n(i)"


def meanwhile(origin, at, action):
    """A source that does something when it has sent its n-th message."""
    source = origin.source()
    read, done = source.read, []

    def reading(task, reading):
        for number, message in enumerate(read(task, reading)):
            yield message
            if number == at and not done:
                done.append(at)
                action()

    source.read = reading
    return source


def _order(row):
    return tuple((value is not None, value) for value in row)


class Origin:
    """A database, a spec, and a destination in memory; ``sync`` as often as wanted."""

    def __init__(self, uri, mode=WriteMode.OVERWRITE, **settings):
        self.uri, self.mode, self.settings, self.tables = uri, WriteMode(mode), settings, {}
        stored, keep = load_plugin("destination", "memory"), load_plugin("state_backend", "memory")
        self.store, self.backend = stored(stored.Spec(name=uuid.uuid4().hex)), keep(keep.Spec())
        self.slice_pages, self.at_once = None, 1

    def connect(self, uri=None):
        return psycopg.connect(uri or self.uri, autocommit=True)

    def execute(self, *statements, uri=None):
        with closing(self.connect(uri)) as connection:
            for statement in statements:
                connection.execute(statement)

    def source(self):
        cls = load_plugin("source", "postgresql")
        settings = {"parallel": self.at_once, **self.settings}
        source = cls(cls.Spec(connection_string=self.uri, tables=self.tables, **settings))
        if self.slice_pages:
            source.slice_pages = self.slice_pages
        return source

    def sync(self, *, code=0, source=None, share_max=0.5, rows_max=1_000_000, **more):
        with closing(source or self.source()) as opened:
            report = sync(
                Job(
                    "shop",
                    opened,
                    [Into("d", self.store, self.mode, share_max=share_max, bounds=Bounds(rows_max=rows_max))],
                    backend=self.backend,
                    **more,
                )
            )
        assert report.exit_code == code, [(task.error, task.warnings) for task in report.tasks] or report.error
        return report

    def report(self, table="t", **more):
        return next(one for one in self.sync(**more).tasks if one.task == table)

    def rows(self, *columns, table="t"):
        with closing(self.source()) as source:
            schema = next(one.schema for one in source.tables() if one.name == table)
        found = self.store.read(Table(table, schema), columns=columns)
        return sorted((tuple(row.values()) for batch in found for row in batch.to_pylist()), key=_order)

    def ids(self, table="t"):
        return [row[0] for row in self.rows("id", table=table)]
