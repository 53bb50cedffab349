"""Everything of one cell that outlives a process, and what is wrong with it."""

import json
import shutil
import uuid
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from campaign.keepers import SOURCE
from campaign.origins import ORIGINS
from campaign.spoils import of_destination, of_source
from campaign.stores import STORES
from strandline.message import Insert
from strandline.plugins import load_plugin
from strandline.reading import Reading
from strandline.spec.models import without_batch
from strandline.state import StateKey
from strandline.testing.campaign.chains import Wrong


def _add(found, missing, extra, where, *, again=frozenset()):
    """Rows of one table that are missing or too many; both of one id is one that is wrong.

    Those of ``again`` may be there several times.
    """
    extra = Counter({row: n for row, n in extra.items() if row not in again})
    if not missing and not extra:
        return
    changed = {row[0] for row in missing} & {row[0] for row in extra}
    found.wrong += len(changed)
    found.missing += sum(n for row, n in missing.items() if row[0] not in changed)
    found.duplicates += sum(n for row, n in extra.items() if row[0] not in changed)
    found.problems.append(f"{where}: missing {_some(missing)}, too many {_some(extra)}")


def _read(source, task, cursor):
    return Counter(
        (row["id"], row["v"])
        for message in source.read(task, Reading(cursor, datetime.now(UTC)))
        if isinstance(message, Insert)
        for row in message.batch.to_pylist()
    )


def _some(rows):
    return sorted(rows.items(), key=repr)[:3]


@dataclass(frozen=True)
class Cell:
    """A source, a destination and a write mode; and where states are kept, beside those of the destination."""

    source: str
    destination: str
    mode: str
    backend: str = "local"

    def __str__(self):
        backend = "" if self.backend == "local" else f"/{self.backend}"
        return f"{self.source}/{self.destination}/{self.mode}{backend}"

    @property
    def impossible(self):
        """Why there is no such cell; nothing where there is."""
        modes = STORES[self.destination].modes
        return "" if self.mode in modes else f"{self.destination} refuses {self.mode}"


class Databases:
    """Databases of one server, emptied for each world."""

    def __init__(self, server):
        self.server = server
        self._names = {role: f"{role}_{uuid.uuid4().hex[:8]}" for role in ("origin", "store", "states")}
        for name in self._names.values():
            server.create_database(name)

    def uri(self, role):
        return self.server.uri(self._names[role])

    def empty(self, role):
        with closing(psycopg.connect(self.uri(role), autocommit=True)) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return self.uri(role)


class World:
    """One directory, with a spec in it, and databases where the cell needs any.

    Args:
        cell: what is between them.
        directory: made anew.
        seed: of the changes.
        keeper: of the cell's backend; emptied.
        databases: emptied.
        ports: by role, ``origin`` or ``store``: of a proxy by which syncs reach it.
    """

    def __init__(self, cell, directory, seed, keeper, databases=None, *, ports=None):
        self.cell, self.directory, self.keeper = cell, directory, keeper
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)

        def reached(role, kind):
            if kind != "postgresql":
                return {}
            uri, port = databases.empty(role), (ports or {}).get(role)
            by = uri.replace(f":{databases.server.port}/", f":{port}/") if port else None
            return {"uri": uri, "by": by}

        needs = reached("origin", cell.source)
        self.origin = ORIGINS[cell.source](directory, cell.mode, f"{seed}/{cell}", **needs)
        self.store = STORES[cell.destination](directory, **reached("store", cell.destination))
        self.kept = keeper.begin(directory)
        self.write_spec()
        self._mine = {"strandline.yml", *(path.name for path in directory.iterdir())}

    @property
    def steps(self):
        return self.origin.steps

    @property
    def moves(self):
        return self.cell.source == "test"

    @property
    def places(self):
        return [*self.keeper.places, *self.store.places]

    def change(self, step):
        self.origin.change(step)

    def spoils(self):
        yield from of_source(self)
        yield from of_destination(self)

    def write_spec(self):
        source = {"name": SOURCE, "destinations": ["warehouse"], "concurrency": 1, **self.kept, **self.origin.spec}
        store = {"name": "warehouse", "write_mode": self.cell.mode, **self.store.spec}
        documents = [{"kind": "source", "spec": source}, {"kind": "destination", "spec": store}]
        (self.directory / "strandline.yml").write_text("\n---\n".join(json.dumps(one) for one in documents))

    def close(self):
        self.origin.close()
        shutil.rmtree(self.directory)

    def differences(self, step, *, ended=True):
        """What is wrong after a sync of ``step`` has come to its end."""
        found = Wrong()
        stored, states = self.store.contents(self.origin.columns), self.keeper.load()
        for name, table in self.origin.tables.items():
            state = states.get(StateKey(SOURCE, name, "warehouse"))
            if state is None or name not in stored:
                found.problems.append(f"{name}: there is no state, or no table")
                found.missing += 1
                continue
            self._compare(found, name, table, step, state, stored[name])
        if left := stored.keys() - {*self.origin.tables}:
            found.problems.append(f"tables are left over: {sorted(left)}")
        if ended and (left := self._files_left()):
            found.problems.append(f"files are left over: {sorted(left)}")
        return found

    def _compare(self, found, name, table, step, state, rows):
        passes = table.passes(step, self.cell.mode)
        if passes is None:
            stored, expected = Counter(row for _, row in rows), table.expected(step, self.cell.mode, state)
            again = expected.keys() if self.store.repeats and self.cell.mode == "append" else ()
            _add(found, expected - stored, stored - expected, name, again=again)
            return
        groups = {}
        for time_, row in rows:
            groups.setdefault(time_, Counter())[row] += 1
        newest = groups.pop(max(groups), Counter()) if groups else Counter()
        again = passes[-1].keys() if self.store.repeats_passes else ()
        _add(found, passes[-1] - newest, newest - passes[-1], f"{name}, the newest pass", again=again)
        for group in groups.values():
            nearest = min(passes, key=lambda one: ((one - group) + (group - one)).total())
            again = nearest.keys() if self.store.repeats_passes else ()
            _add(found, nearest - group, group - nearest, f"{name}, a pass", again=again)

    def uncovered(self):
        """By table: the rows that a sync would read now, and those that the newest state says it need not; and all stored.

        Of tables of databases, else none. It looks into the destination, as a run would that comes now.
        """
        if self.cell.source not in {"sqlite", "postgresql"}:
            return {}
        source = load_plugin("source", self.cell.source)
        source = source(source.Spec(**self.origin.spec["spec"]))
        states, stored = self._states(), self.store.contents(self.origin.columns)
        found = {}
        with closing(source):
            for task in source.tasks([one for one in source.tables() if one.name in self.origin.tables]):
                state = states.get(StateKey(SOURCE, task.id, "warehouse"))
                left = _read(source, task, state.cursor if state else None)
                covered = _read(source, task, None) - left
                found[task.id] = left, covered, Counter(row for _, row in stored.get(task.id, ()))
        return found

    def _states(self):
        """As the destination keeps them, or the backend."""
        if self.store.kind != "plain":
            plugin = load_plugin("destination", self.store.kind)
            spec = without_batch(plugin.Spec, self.store.spec["spec"])
            with closing(plugin(plugin.Spec(**spec))) as destination:
                return destination.states.load(SOURCE)
        return self.keeper.load()

    def _files_left(self):
        known = self._mine | {"shop.db", "data", ".cq", "summary.jsonl", *self.store.files, *self.origin.files}
        left = {path.name for path in self.directory.iterdir()} - known
        return left | self.store.left() | self.keeper.left(self.origin.tables)
