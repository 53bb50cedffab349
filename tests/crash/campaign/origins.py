"""The sources: how each is set up, changed step by step, and what it has to deliver."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta

import psycopg

from campaign.apis import BEGIN as API_BEGIN
from campaign.apis import PAGE, ApiOrigin, RestServer
from campaign.series import LAG, STEPS, Series
from services.api import paged
from strandline.plugins import load_plugin

_BEGIN = datetime(2020, 1, 1)  # noqa: DTZ001 -- the zone is written where a database wants one
FIRST_ROWS, FULL_ROWS, FEW = 11, 6, 3


def stamp(second):
    return None if second is None else str(_BEGIN + timedelta(seconds=second))


class Kept:
    """How the rows of one table end up in each write mode.

    Args:
        series: what happens to it.
        deletes: rows deleted at the source are deleted at the destination.
        full: it is read in full at every sync.
    """

    def __init__(self, series, *, deletes=False, full=False):
        self.series, self.deletes, self.full = series, deletes, full

    def expected(self, step, mode, _state):
        """The rows, with how often each is there; or of each pass, where every pass appends all of the table."""
        if mode == "append":
            return self.series.ever(step)
        return self.series.current(step) if self.deletes else self.series.newest(step)

    def passes(self, step, mode):
        """What each of the passes that were appended may be; none where it is not about passes."""
        return [self.series.current(one) for one in range(step + 1)] if self.full and mode == "append" else None


class Origin:
    """A source of one cell."""

    steps = STEPS
    columns = ("id", "v")
    files = ()
    """What may be in the directory of the world because of it."""

    def __init__(self, world, mode, seed):
        del world
        self.mode, self.seed = mode, seed

    def refused(self):
        """The value of a row of ``t`` that the second step brings."""
        change = self.tables["t"].series.steps[1]
        return next(iter(change.upserts.values()))[1]

    def series(self, name, **sizes):
        return Series(f"{self.seed}/{name}", **sizes)

    def close(self):
        """Let go of what is open."""


class SQLOrigin(Origin):
    """Tables of a database: ``t`` incremental, ``f`` in full."""

    def __init__(self, world, mode, seed):
        super().__init__(world, mode, seed)
        mirrored = mode == "overwrite-delete-stale"
        few = {
            "t": lambda: Kept(self.series("t", first_rows=FIRST_ROWS, few=FEW), deletes=mirrored),
            "k": lambda: Kept(self.series("k", first_rows=FIRST_ROWS, few=FEW), deletes=mirrored),
            "f": lambda: Kept(self.series("f", first_rows=FULL_ROWS, few=2), deletes=mirrored, full=True),
        }
        self.tables = {name: few[name]() for name in self.names()}

    def names(self):
        return "t", "f"

    def settings(self):
        sweep = {"deletes": "sweep"} if self.mode == "overwrite-delete-stale" else {}
        return {"t": {"incremental_key": "at", "lag": LAG, **sweep}, "f": {"mode": "full"}}

    def creation(self):
        return [(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, at {self.time}, v TEXT)", ()) for name in self.tables]

    def statements(self, step):
        for name, kept in self.tables.items():
            change = kept.series.steps[step]
            yield from self.upserts(name, change.upserts)
            for id_ in change.deletes:
                yield f"DELETE FROM {name} WHERE id = {id_}", ()

    def upserts(self, name, rows):
        for id_, (second, v) in rows.items():
            sql = f"INSERT INTO {name} VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at, v = excluded.v"
            yield sql, (id_, stamp(second), v)

    def late(self, step):
        for name, kept in self.tables.items():
            yield from self.upserts(name, kept.series.steps[step].late)


class SQLiteOrigin(SQLOrigin):
    time = "TIMESTAMP"

    def __init__(self, world, mode, seed):
        super().__init__(world, mode, seed)
        self.path = world / "shop.db"
        self.spec = {"path": "sqlite", "spec": {"path": str(self.path), "tables": self.settings()}}

    def execute(self, statements):
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for sql, values in statements:
                connection.execute(sql, values)

    def change(self, step):
        self.execute([*([] if step else self.creation()), *self.late(step), *self.statements(step)])


class PostgreSQLOrigin(SQLOrigin):
    """``t`` is read by transaction ids. The place of ``f`` has ``k``, read by its key, where nothing is deleted by age."""

    time = "timestamptz"

    def __init__(self, world, mode, seed, uri, *, by=None):
        super().__init__(world, mode, seed)
        self.uri, self._open, self._late = uri, None, []
        by_key = self.settings()
        tables = {"k": by_key["t"]} if "k" in self.tables else {"f": by_key["f"]}
        self.spec = {"path": "postgresql", "spec": {"connection_string": by or uri, "tables": tables}}

    def names(self):
        return ("t", "f") if self.mode == "overwrite-delete-stale" else ("t", "k")

    def connect(self):
        return psycopg.connect(self.uri, options="-c timezone=UTC")

    def execute(self, statements):
        with self.connect() as connection:
            self._do(connection, statements)

    def change(self, step):
        """What is late at the next step is written first, by a transaction that is open until then."""
        self.close()
        if step == 0:
            self.execute(self.creation())
        if step + 1 < self.steps:
            self._open = self.connect()
            self._late = [*self.late(step + 1)]
            self._do(self._open, self._late)
        self.execute(self.statements(step))

    def close(self):
        """Commit what is late. A server that was stopped has forgotten it: then it is written now."""
        if self._open is None:
            return
        connection, self._open = self._open, None
        try:
            connection.commit()
        except psycopg.OperationalError:
            self.execute(self._late)
        finally:
            connection.close()

    @staticmethod
    def _do(connection, statements):
        for sql, values in statements:
            connection.execute(sql.replace("?", "%s"), values)


class FilesOrigin(Origin):
    """A directory of JSON lines that grow, appear, are renamed, replaced and removed."""

    def __init__(self, world, mode, seed):
        super().__init__(world, mode, seed)
        self.folder = world / "data" / "t"
        self.spec = {
            "path": "files",
            "spec": {"path": "data", "primary_key": ["id"], "types": {"id": "int64", "v": "string"}},
        }
        self.series = self.series("t", first_rows=FIRST_ROWS, few=FEW)
        self._changes = [{**one.late, **one.upserts} for one in self.series.steps]
        self.delivered = []
        self.tables = {"t": self}

    def expected(self, step, mode, _state):
        rows = [row for delivered in self.delivered[: step + 1] for row in delivered]
        return Counter(rows) if mode == "append" else Counter(dict(rows).items())

    def passes(self, _step, _mode):
        return None

    def change(self, step):
        rows = [(id_, v) for id_, (_, v) in self._changes[step].items()]
        half = len(rows) // 2
        if step == 0:
            self.delivered.append(self._write("m.jsonl", rows[:half]) + self._write("n.jsonl", rows[half:]))
            return
        fresh = self._write(f"{9 - step}.jsonl", rows[:half]) + self._write("m.jsonl", rows[half:], grow=True)
        if step == 1:
            self.folder.joinpath("n.jsonl").rename(self.folder / "o.jsonl")
        elif step == 2:
            fresh += self._write("o.jsonl", [(1001, "another"), (1002, "content")])
        else:
            self.folder.joinpath("8.jsonl").unlink()
        self.delivered.append(fresh)

    def _write(self, name, rows, *, grow=False):
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        lines = "".join(json.dumps({"id": id_, "v": v}) + "\n" for id_, v in rows)
        path.write_text((path.read_text() if grow else "") + lines)
        return rows


class GeneratedOrigin(Origin):
    """Rows made from a seed; how many syncs there were, the state says."""

    columns = ("id", "version")

    def __init__(self, world, mode, seed):
        super().__init__(world, mode, seed)
        incremental = mode != "overwrite-delete-stale"
        changing = {"changed": 0.3, "added": FEW} if incremental else {"incremental": False}
        spec = {"rows": FIRST_ROWS, "types": ["string*"], "seed": self._chance_seed(), **changing}
        self.spec = {"path": "test", "spec": spec}
        plugin = load_plugin("source", "test")
        self._source = plugin(plugin.Spec(**spec))
        self._made = {}
        self.tables = {"test_1": self}

    def _chance_seed(self):
        return sum(map(ord, str(self.seed)))

    def change(self, step):
        """It changes by itself, at each sync."""

    def expected(self, _step, mode, state):
        syncs = (state.cursor or {"sync": 1})["sync"]
        if (mode, syncs) not in self._made:
            made = self._source.delivered if mode == "append" else self._source.expected
            rows = made("test_1", syncs).to_pylist()
            self._made[mode, syncs] = Counter((row["id"], row["version"]) for row in rows)
        return self._made[mode, syncs]

    def passes(self, _step, _mode):
        return None


class RestOrigin(ApiOrigin, Origin):
    """An API with pages and links, whose clock is that of its rows. It may die and come back."""

    def __init__(self, world, mode, seed):
        Origin.__init__(self, world, mode, seed)
        ApiOrigin.__init__(self, Kept, mode, seed)
        self.server = RestServer(self._answer)
        since = {"incremental_key": "at", "lag": LAG, "query": {"since": "{since}"}}
        said = {"t": since, "s": {**since, "sorted": True}, "f": {}}
        tables = {name: {"path": name, "primary_key": ["id"], **one} for name, one in said.items()}
        spec = {"base_url": self.server.url, "pagination": {"type": "link"}, "attempts": 1, "tables": tables}
        self.spec = {"path": "rest", "spec": spec}

    def _answer(self, asked):
        name, since = asked.path.strip("/"), asked.query.get("since", "")
        rows = [*self.rows.get(name, ()), *(self.bad if name == "t" else ())]
        reply = paged(asked, [row for row in rows if row["at"] in {None, True} or row["at"] >= since[:19]], PAGE)
        reply.date = (API_BEGIN + timedelta(seconds=max(one.now_s for one in self.records.values()))).timestamp()
        return reply

    def close(self):
        self.server.stop()


_MODULE = """
import json
from pathlib import Path

import strandline as sl

ROWS = json.loads(Path(__file__).with_name("rows.json").read_text("utf-8"))


def pages(name, cursor=None):
    since = "" if cursor is None else cursor.strftime("%Y-%m-%dT%H:%M:%SZ")
    rows = [row for row in ROWS.get(name, ()) if row["at"] in (None, True) or row["at"] >= since]
    for start in range(0, len(rows), 4):
        yield rows[start : start + 4]


@sl.table(primary_key="id", incremental_key="at")
def t(cursor):
    yield from pages("t", cursor)


@sl.table(primary_key="id", incremental_key="at", sorted=True)
def s(cursor):
    yield from pages("s", cursor)


@sl.table(primary_key="id")
def f():
    yield from pages("f")
"""


class PythonOrigin(ApiOrigin, Origin):
    """The functions of a module. Nothing is late: they are asked for what is new, and have no clock but ours."""

    late = False
    files = ("__pycache__", "rows.json", "our_rows.py")

    def __init__(self, world, mode, seed):
        Origin.__init__(self, world, mode, seed)
        ApiOrigin.__init__(self, Kept, mode, seed)
        self.world = world
        (world / "our_rows.py").write_text(_MODULE, "utf-8")
        self.spec = {"path": "our_rows", "registry": "python"}

    def serve(self):
        rows = {**self.rows, "t": [*self.rows.get("t", ()), *self.bad]}
        (self.world / "rows.json").write_text(json.dumps(rows), "utf-8")


ORIGINS = {"sqlite": SQLiteOrigin, "postgresql": PostgreSQLOrigin, "files": FilesOrigin, "test": GeneratedOrigin}
APIS = {"rest": RestOrigin, "python": PythonOrigin}
ORIGINS |= APIS
