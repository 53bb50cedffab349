"""A model of the source: whatever is written between slices and syncs, and wherever a sync is cut, no row is missed.

A writer with one clock stamps rows inside its transactions, and now and then somebody vacuums the file or alters it. The
engine is imitated: what stands before a committed
checkpoint is kept, the rest of an interrupted read is forgotten, and the next read goes on from that checkpoint.
"""

import json
import sqlite3
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sqlite_shop import Shop

from strandline.message import Checkpoint, Insert

FUTURE = 4_000_000_000
"""Seconds since 1970: a time that never comes."""
UNSET = {"INTEGER": 0, "TEXT": "0001-01-01T00:00:00Z"}
"""How programs write that there is no time."""
DDL = (
    "CREATE TABLE other (x)",
    "DROP TABLE other",
    "CREATE INDEX by_v ON {t} (v)",
    "DROP INDEX by_v",
    "ALTER TABLE {t} ADD w",
)
FORMS = {
    "s": lambda s: s,
    "ms": lambda s: s * 1000 + s % 7,
    "text": lambda s: _sql(f"datetime({s}, 'unixepoch')"),
    "iso": lambda s: _sql(f"strftime('%Y-%m-%dT%H:%M:%S', {s}, 'unixepoch')") + f".{s % 5}Z",
    "mixed": lambda s: FORMS[("text", "iso", "east", "minute")[s % 4]](s),
    "east": lambda s: _sql(f"datetime({s + 7200}, 'unixepoch')") + "+02:00",
    "minute": lambda s: _sql(f"strftime('%Y-%m-%d %H:%M', {s}, 'unixepoch')"),
}
KEYS = {
    "alias": "(id INTEGER PRIMARY KEY, at {kind}, v INTEGER)",
    "text key": "(id TEXT PRIMARY KEY, at {kind}, v INTEGER)",
    "nullable key": "(id TEXT PRIMARY KEY, at {kind}, v INTEGER)",
    "no key": "(id INTEGER, at {kind}, v INTEGER)",
    "without rowid": "(id INTEGER, at {kind}, v INTEGER, PRIMARY KEY (v, id)) WITHOUT ROWID",
    "view": "(id INTEGER PRIMARY KEY, at {kind}, v INTEGER)",
}


def _sql(expression):
    return Model.writer.execute(f"SELECT {expression}").fetchone()[0]


class Model(RuleBasedStateMachine):
    writer = None

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.shop = Shop(Path(self.directory.name) / "shop.db")
        Model.writer = self.shop.writer
        self.now = 1_700_000_000
        self.versions = 0
        self.rows = {}
        """What is in the table: (stamp in seconds or None, version) by id. Rows without an id have one here."""
        self.stored = {}
        """What an overwriting destination has: the version by id."""
        self.cursor, self.reading, self.pending = None, None, []
        self.kept = Counter()
        """How often each version was delivered and committed."""
        self.free = set()
        """Versions that were committed without a mark."""
        self.in_pass = Counter()
        self.expected = set()

    @initialize(
        form=st.sampled_from([*FORMS]),
        key=st.sampled_from([*KEYS]),
        indexed=st.booleans(),
        lag=st.sampled_from([0, 0, 30]),
        batch_rows=st.integers(1, 4),
        rows=st.integers(0, 12),
        full=st.sampled_from([False, False, True]),
    )
    def create(self, form, key, indexed, lag, batch_rows, rows, full):
        self.form, self.key, self.lag, self.batch_rows, self.full = FORMS[form], key, lag, batch_rows, full
        self.kind = "INTEGER" if form in {"s", "ms"} else "TEXT"
        self.shop.execute(f"CREATE TABLE {'origin' if key == 'view' else 't'} {KEYS[key].format(kind=self.kind)}")
        self.name = "t"
        if key == "view":
            self.name = "origin"
            self.shop.execute("CREATE VIEW t AS SELECT * FROM origin")
        if indexed:
            self.shop.execute(f"CREATE INDEX by_at ON {self.name} (at)")
        self.shop.settings = {} if full else {"t": {"incremental_key": "at", "lag": f"{lag}s"}}
        for _ in range(rows):
            self.insert(tick=1)

    # the writer ------------------------------------------------------------------------------------------------------

    def write(self, id_, stamp):
        self.versions += 1
        value = None if stamp is None else UNSET[self.kind] if stamp == "unset" else self.form(stamp)
        if id_ in self.rows:
            self.shop.execute(f"DELETE FROM {self.name} WHERE v = ?", (self.rows[id_][1],))
        given = None if id_ < 0 else id_
        self.shop.execute(f"INSERT INTO {self.name} (id, at, v) VALUES (?, ?, ?)", (given, value, self.versions))
        self.rows[id_] = (stamp, self.versions)

    def fresh(self):
        number = len(self.rows) + self.versions + 1
        return -number if self.key == "nullable key" and number % 3 == 0 else number

    @rule(tick=st.integers(0, 3))
    def insert(self, tick):
        self.now += tick
        self.write(self.fresh(), self.now)

    @precondition(lambda self: self.rows)
    @rule(tick=st.integers(0, 3), data=st.data())
    def update(self, tick, data):
        self.now += tick
        self.write(data.draw(st.sampled_from(sorted(self.rows))), self.now)

    @rule(stamp=st.sampled_from([None, FUTURE, FUTURE + 1, "unset"]))
    def insert_odd(self, stamp):
        self.write(self.fresh(), stamp)

    @precondition(lambda self: self.lag)
    @rule(late=st.integers(1, 25))
    def insert_late(self, late):
        self.write(self.fresh(), self.now - late)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def delete(self, data):
        id_ = data.draw(st.sampled_from(sorted(self.rows)))
        self.shop.execute(f"DELETE FROM {self.name} WHERE v = ?", (self.rows[id_][1],))
        del self.rows[id_]

    @rule()
    def vacuum(self):
        self.shop.execute("VACUUM")

    @rule(statement=st.sampled_from(DDL))
    def alter(self, statement):
        with suppress(sqlite3.OperationalError):  # it is there already, or not there
            self.shop.execute(statement.format(t=self.name))

    @rule()
    def time_passes(self):
        self.now += 90

    # the engine ------------------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 6), commit=st.booleans())
    def read(self, count, commit):
        """Some messages more; then perhaps the process dies."""
        for _ in range(count):
            if not self.step():
                return
        if not commit:
            self.die()

    @rule()
    def read_to_the_end(self):
        while self.step():
            pass

    def step(self):
        """One message; whether the pass goes on."""
        begins = self.reading is None and (self.cursor is None or "current" not in self.cursor)
        if self.reading is None:
            self.shop.now = None
            self.reading = self.shop.reading(self.cursor, batch_rows=self.batch_rows, absorbs=False)
            if begins:
                self.expected = {version for _, version in self.rows.values()}
                self.in_pass = Counter()
        message = next(self.reading)
        match message:
            case Insert():
                assert message.batch.num_rows <= self.batch_rows
                self.pending += [(row["id"], row["v"], message.reread) for row in message.batch.to_pylist()]
            case Checkpoint():
                self.commit(json.loads(json.dumps(message.cursor)))
                if "current" not in (message.cursor or {}):
                    assert next(self.reading, None) is None
                    self.reading = None
                    self.completed()
                    return False
        return True

    def commit(self, cursor):
        for id_, version, marked in self.pending:
            if not self.full:
                assert version not in self.free, "a row that was not marked came again"
                assert marked or not self.kept[version], "a row came again without a mark"
            self.kept[version] += 1
            self.stored[id_ and int(id_)] = version
            self.in_pass[version] += 1
            assert self.in_pass[version] == 1, "a row came twice in one pass"
            if not marked:
                self.free.add(version)
        self.cursor, self.pending = cursor, []

    def completed(self):
        still = {version for _, version in self.rows.values()}
        missed = (self.expected & still) - set(self.in_pass if self.full else self.kept)
        assert not missed, f"rows that were there before the pass were missed: {missed}"

    def die(self):
        if self.reading is not None:
            self.reading.close()
        self.reading, self.pending = None, []

    def teardown(self):
        try:
            self.die()
            if hasattr(self, "form"):
                for _ in range(2):
                    self.read_to_the_end()
                missed = {version for _, version in self.rows.values()} - set(self.kept)
                assert not missed, f"rows were missed: {missed}"
                for id_, (_, version) in self.rows.items():
                    assert id_ < 0 or self.stored[id_] == version, "an older version was stored over a newer one"
        finally:
            self.die()
            self.shop.close()
            self.directory.cleanup()


Model.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
TestModel = Model.TestCase
