"""A shop in one SQLite file, and the syncs that read it: what the tests of the source share."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from strandline.connectors.sqlite.source import SQLiteSource
from strandline.message import Checkpoint, Complete, Insert, Present
from strandline.reading import Reading


def at(*, form="%Y-%m-%d %H:%M:%S", **ago):
    """A time before now, as a text."""
    return (datetime.now(UTC) - timedelta(**ago)).strftime(form)


@dataclass
class Delivered:
    """What one sync yielded."""

    rows: list
    again: list
    """Of these, the ones marked as such that may come again."""
    present: list
    cursor: object
    checkpoints: list
    """(cursor, rows so far) each."""
    messages: list

    def column(self, name):
        return [row[name] for row in self.rows]

    @property
    def ids(self):
        return sorted(row["id"] for row in self.rows)

    @property
    def ids_again(self):
        return sorted(row["id"] for row in self.again)


class Shop:
    """The file, a writer that is always open, and a spec."""

    def __init__(self, path, *, wal=False):
        self.path = path
        self.writer = sqlite3.connect(path, isolation_level=None, timeout=0)
        self.writer.execute("PRAGMA synchronous = OFF")  # no test pulls the plug
        self.writer.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
        self.settings = {}
        self.now = None
        """The time at the source, where it is not the real one."""

    def execute(self, sql, *rows):
        if rows:
            self.writer.executemany(sql, rows)
        else:
            self.writer.execute(sql)

    def source(self, **spec):
        clock = {} if self.now is None else {"clock": lambda _: int(self.now.timestamp())}
        return SQLiteSource(SQLiteSource.Spec(path=str(self.path), tables=self.settings, **spec), **clock)

    def table(self, name="t"):
        with closing(self.source()) as source:
            return next(table for table in source.tables() if table.name == name)

    def reading(self, cursor=None, *, name="t", **bounds):
        source = self.source()
        reading = Reading(cursor, datetime.now(UTC), **{"batch_rows": 100, "batch_bytes": 1 << 20, **bounds})
        tables = [table for table in source.tables() if table.name == name]
        (task,) = source.tasks(tables)
        return source.read(task, reading)

    def sync(self, cursor=None, **bounds):
        return taken(self.reading(cursor, **bounds))

    def close(self):
        self.writer.close()


def keyed(shop, *rows, kind="TEXT", index=True, **settings):
    """A table `t` with the incremental key `at`."""
    shop.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, at {kind}, v TEXT)")
    if index:
        shop.execute("CREATE INDEX by_at ON t (at)")
    if rows:
        shop.execute("INSERT INTO t VALUES (?, ?, 'v')", *rows)
    shop.settings = {"t": {"incremental_key": "at", **settings}}


def insert(shop, *rows):
    shop.execute("INSERT INTO t VALUES (?, ?, 'v')", *rows)


def taken(messages):
    """All that is left of a reading."""
    done = Delivered([], [], [], None, [], [])
    for message in messages:
        done.messages.append(message)
        match message:
            case Insert():
                rows = message.batch.to_pylist()
                done.rows += rows
                done.again += rows if message.reread else []
            case Present():
                done.present += message.keys.to_pylist()
            case Checkpoint():
                done.cursor = json.loads(json.dumps(message.cursor, allow_nan=False))
                done.checkpoints.append((done.cursor, list(done.rows)))
            case Complete():
                continue
    return done
