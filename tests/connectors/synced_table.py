"""A table that keeps its versions, syncs of it, and what is stored then, beside what another reader finds in it."""

import secrets
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime

import pyarrow as pa

from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lease import Claim
from strandline.engine.run import sync
from strandline.engine.window import Bounds
from strandline.plugins import load_plugin
from strandline.reading import Reading
from strandline.testing.exact import exact_rows


def rows(first, last, v="v"):
    ids = list(range(first, last))
    return pa.table({"id": ids, "v": [f"{v}{n}" for n in ids], "day": [f"d {n % 3}" for n in ids]})


class SyncedTable:
    """One table, and a destination in memory that has its rows. A subclass says ``source`` and ``found``."""

    def __init__(self, place, *, mode=WriteMode.OVERWRITE_DELETE_STALE, key=("id",), settings=None):
        self.place, self.mode, self.name = str(place), mode, secrets.token_hex(8)
        self.settings = (settings or {}) | ({"primary_key": list(key)} if key else {})
        backend = load_plugin("state_backend", "memory")
        self.states = backend(backend.Spec())

    def destination(self):
        cls = load_plugin("destination", "memory")
        return cls(cls.Spec(name=self.name))

    def run(self, **options):
        """A sync, by a source that is opened for it; small batches and windows."""
        into = Into("store", self.destination(), self.mode, bounds=Bounds(rows_max=5))
        with closing(self.source()) as source:
            return sync(Job("lake", source, [into], self.states, claim=Claim(takeover=True), **options))

    def sync(self, **options):
        report = self.run(**options)
        errors = [task.error for task in report.tasks if task.error is not None]
        assert (repr(report.error), [repr(one) + one.hint for one in errors]) == ("None", [])
        (task,) = report.tasks
        return task

    def failed(self):
        (task,) = self.run().tasks
        assert task.error is not None
        return task.error

    def table(self):
        with closing(self.source()) as source:
            (table,) = source.tables()
        return table

    def stored(self):
        table = self.table()
        batches = self.destination().read(table, columns=table.schema.names)
        return Counter(row for batch in batches for row in exact_rows(batch))

    def there(self):
        """As another reader has it."""
        schema = self.table().schema
        found = self.found().select(schema.names).cast(schema)
        return Counter(row for batch in found.to_batches() for row in exact_rows(batch))

    def read(self, cursor=None, **reading):
        """All messages of a read."""
        with closing(self.source()) as source:
            (task,) = source.tasks(source.tables())
            return list(source.read(task, Reading(cursor, datetime.now(UTC), **reading)))
