"""Worlds in memory for the crash campaign, with a model of what must be in them."""

import secrets
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scenarios import KINDS, ROWS_MAX, STEPS, contents, settled_below, store_at

from strandline.connectors.local.state import LocalState
from strandline.connectors.memory.commits import Commits
from strandline.connectors.memory.destination import MemoryDestination
from strandline.connectors.memory.source import MemorySource
from strandline.connectors.memory.state import MemoryState
from strandline.connectors.none.state import NoState
from strandline.destination import Capabilities, Delivery, Receipt, WriteMode
from strandline.engine.clock import Clock
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lease import Claim
from strandline.engine.plan import hidden_name
from strandline.engine.run import sync
from strandline.engine.task import Retries
from strandline.engine.window import Bounds
from strandline.message import Insert
from strandline.reading import Reading
from strandline.state import RUN_TASK, Phase, State, StateKey, is_newer
from strandline.table import SYNC_TIME
from strandline.testing.faults import FaultySource, FaultyStates, faulty_destination

TASK = StateKey("shop", "t", "store")
REFRESH = StateKey("shop", "@refresh/t", "store")
HIDDEN = "_cq_refresh_"


class LooseDestination:
    """Keeps no state and has no transactions: each message is stored as it is pulled, and nothing is ever undone."""

    capabilities = Capabilities(write_modes=frozenset(WriteMode), delivery=Delivery.PLAIN)

    def __init__(self, inner):
        self.inner = inner

    def migrate(self, table, **options):
        return self.inner.migrate(table, **options)

    def write(self, window, *, mode, fence):
        rows = Counter()
        for message in window:
            alone = replace(message, reread=False) if isinstance(message, Insert) else message
            rows += Counter(self.inner.write(_Single(window, alone, self.inner), mode=mode, fence=fence).rows)
        return Receipt(None, dict(rows))

    def holds(self, table, **options):
        return self.inner.holds(table, **options)

    def read(self, table, **options):
        return self.inner.read(table, **options)

    def close(self):
        self.inner.close()


class _Single:
    """A window of one message, which nobody takes for the last one. The state in it is nobody's: the destination below insists on keeping one."""

    def __init__(self, window, message, inner):
        self.id, self.key, self.tables = secrets.token_hex(16), window.key, window.tables
        self.scope, self.pass_ = window.scope, window.pass_
        kept = inner.states.load(window.key.source).get(window.key)
        self.expected = kept.token if kept else None
        self.checkpoint, self.state, self.emptied = None, State(None, 0, 0, ""), lambda *_: None
        self._message = message

    def __iter__(self):
        return iter([self._message])


class Ticking(Clock):
    """A second a call, and at every tenth a step that may go back."""

    def __init__(self, step_s):
        self.time, self.calls, self.step_s = datetime(2026, 1, 1, tzinfo=UTC), 0, step_s

    def now(self):
        self.calls += 1
        self.time += timedelta(seconds=1 if self.calls % 10 else self.step_s)
        return self.time


class _Contents:
    """What is in a world: rows, tables and states. Each is looked at once, until it changes."""

    def tables(self):
        return dict(self.inner._store.data.tables)

    def rows(self, name="t"):
        """The rows of a stored table, as pairs of the pass's time and the content."""
        return self._table(name)[1]

    def content(self, name="t"):
        return self._table(name)[2]

    def _table(self, name):
        """A table that is in place is never changed, so it is looked at once."""
        stored = self.tables().get(name)
        if stored is None:
            return None, [], Counter()
        if name not in self._read or self._read[name][0] is not stored:
            wanted = [SYNC_TIME, *self.table.schema.names]
            found = [row for batch in self.inner.read(stored.table, columns=wanted) for row in batch.to_pylist()]
            rows = [(row[SYNC_TIME], tuple(row.values())[1:]) for row in found]
            self._read[name] = stored, rows, Counter(content for _, content in rows)
        return self._read[name]

    def hidden(self):
        return [name for name in self.tables() if name.startswith(HIDDEN)]

    def authority(self):
        if self.loose:
            return self._kept()
        data = self.inner._store.data
        if self._known[0] is not data:
            self._known = data, dict(self.inner.states.load("shop"))
        return self._known[1]

    def mirror(self):
        return {} if self.loose else self._kept()

    def _kept(self):
        """What the backend keeps; in memory the tokens tell whether it is still the same."""
        if not isinstance(self.backend, MemoryState):
            return dict(self.backend.load("shop"))
        tokens = [commits[0][0] for commits in list(self.backend._commits.values())]
        if self._mirrored[0] != tokens:
            self._mirrored = tokens, dict(self.backend.load("shop"))
        return self._mirrored[1]


class MemoryWorld(_Contents):
    """See ``strandline.testing.crash.World``."""

    steps = STEPS

    def __init__(
        self,
        kind,
        mode,
        *,
        loose=False,
        backend="memory",
        refresh_at=None,
        directory=None,
        kept=None,
        source=MemorySource,
        destination=MemoryDestination,
        share_max=0.5,
        clock_step_s=1,
        attempts_max=1,
    ):
        self.kind, self.mode, self.refresh_at = kind, mode, refresh_at
        self.name = f"{kind} {mode} {loose} {backend} {refresh_at} {directory}"
        self.stores = [store_at(f"{self.name} {step}", kind, step) for step in range(STEPS)]
        self.contents = [contents(store) for store in self.stores]
        self.table = KINDS[kind][1]
        self.loose, self.stateless, self.share_max = loose, backend == "none", share_max
        self.incremental = self.table.incremental
        self.source = source
        destination.reset(self.name)
        self.inner = destination(destination.Spec(name=self.name))
        self.destination = LooseDestination(self.inner) if loose else self.inner
        self.directory = Path(directory) if directory else None
        self.kept = kept
        self.backend = (
            kept.backend
            if kept is not None
            else {
                "memory": lambda: MemoryState(MemoryState.Spec()),
                "none": lambda: NoState(NoState.Spec()),
                "local": lambda: LocalState(LocalState.Spec(path=str(self.directory))),
            }[backend]()
        )
        self.retries = Retries(attempts_max, first_s=0.001, longest_s=0.001)
        self.clock = Ticking(clock_step_s)
        self._saved_at, self._began_at = {}, {}
        self._read, self._left, self._known, self._mirrored = {}, {}, (None, {}), ([], {})

    # what a campaign does with it

    def run(self, step, outside):
        into = Into(
            "store",
            faulty_destination(self.destination, outside),
            self.mode,
            bounds=Bounds(rows_max=ROWS_MAX),
            share_max=self.share_max,
        )
        job = Job(
            "shop",
            FaultySource(self.source_at(step), outside),
            [into],
            FaultyStates(self.backend, outside),
            stateless=self.stateless,
            refresh=lambda _: step == self.refresh_at,
            concurrency=1,
            retries=self.retries,
            claim=Claim(takeover=True),  # a killed run's lease is of this process, which lives
        )
        return sync(job, clock=self.clock)

    def source_at(self, step):
        deletes = "feed" if self.kind == "fed" else "ignore"
        return self.source(self.source.Spec(store=f"{self.name} {step}", deletes=deletes))

    def snapshot(self):
        kept = None
        if isinstance(self.backend, MemoryState):
            kept = {key: list(commits) for key, commits in self.backend._commits.items()}
        elif isinstance(self.backend, LocalState):
            kept = {path: path.read_bytes() for path in self.directory.rglob("*.json")}
        elif self.kept is not None:
            kept = self.kept.snapshot()
        return self.inner._store.data, kept, dict(self._began_at)

    def restore(self, snapshot):
        self.inner._store.data, kept, began_at = snapshot
        self._began_at = dict(began_at)
        if isinstance(self.backend, MemoryState):
            self.backend._commits = Commits({key: list(commits) for key, commits in kept.items()})
        elif isinstance(self.backend, LocalState):
            for path in self.directory.rglob("*.json"):
                if path not in kept:
                    path.unlink()
            for path, content in kept.items():
                path.write_bytes(content)
        elif self.kept is not None:
            self.kept.restore(kept)

    def digest(self):
        authority, mirror = self.authority(), self.mirror()
        states = [*authority.values(), *mirror.values()]
        rows = {name: self.rows(name) for name in self.tables()}
        data = self.inner._store.data
        times = {time.timestamp() * 1e6 for some in rows.values() for time, _ in some}
        times |= {state.current.sync_time_us for state in states if state.current}
        times |= {delivered.sync_time_us for delivered in data.delivered.values()}
        rank = {time: number for number, time in enumerate(sorted(times))}
        epochs = {epoch: number for number, epoch in enumerate(sorted({state.epoch for state in states}))}

        def known(state):
            current = state.current
            return (
                repr(state.cursor),
                epochs[state.epoch],
                current and (rank[current.sync_time_us], current.full, current.phase, current.completed),
                [
                    (name, one.fingerprint, one.rows, bool(one.mark) and one.mark == self._mark(name))
                    for name, one in sorted(state.tables.items())
                ],
            )

        def named(name):
            return HIDDEN if name.startswith(HIDDEN) else name

        return repr(
            [
                sorted(
                    (named(n), sorted((rank[t.timestamp() * 1e6], repr(c)) for t, c in some))
                    for n, some in rows.items()
                ),
                sorted(
                    (
                        str(key),
                        named(name),
                        rank[one.sync_time_us],
                        *(sorted(c.items()) for c in (one.versions, one.seen, one.numbered)),
                    )
                    for (key, name), one in data.delivered.items()
                ),
                sorted((str(key), known(state)) for key, state in authority.items()),
                sorted(
                    (str(key), known(state), key in authority and state.nonce == authority[key].nonce)
                    for key, state in mirror.items()
                ),
            ]
        )

    def _mark(self, name):
        stored = self.tables().get(name)
        return stored.mark if stored else ""

    # what must be true of it

    def watcher(self, step):
        before = self.content()
        versions, checked = {}, {}
        self.stores[step].acknowledged.clear()

        def look():
            authority = self.authority()
            states = [("authority", authority), ("mirror", self.mirror())]
            told = self.stores[step].acknowledged.pop("t", {}).values()
            yield from (
                f"P2: the source was told of {one}, which is not saved" for one in told if not self._has_saved(one)
            )
            for where, found in states:
                for key, state in found.items():
                    last = versions.get((where, key))
                    if last is not None and state.version < last:
                        yield f"P3: the {where}'s state of {key} went back from {last} to {state.version}"
                    versions[where, key] = state.version
                    if where == "mirror" and (key not in authority or is_newer(state, authority[key])):
                        yield f"P1: the mirror's state of {key} is ahead of the destination's"
                    tables = list(self.tables().values())
                    if list(map(id, checked.get(state.nonce, ()))) != list(map(id, tables)):
                        checked[state.nonce] = tables
                        yield from self._uncovered(step, where, key, state)
            if self.refresh_at == step and before:
                seen = self.content()
                if seen != before and self.contents[step] - seen:
                    yield f"hole N: a reader saw {sum(seen.values())} rows during a full refresh"

        return look

    def _has_saved(self, cursor):
        keeper = self.backend if self.loose else self.inner.states
        return any(state.cursor == cursor for key in (TASK, REFRESH) for state in keeper.history(key))

    def _uncovered(self, step, where, key, state):
        """P1: rows that a readable cursor covers, but that are not stored. The source says what it covers."""
        if key.task == RUN_TASK or state.cursor is None or self._saved_at.setdefault(state.nonce, step) != step:
            return
        began_at = self._began_at.setdefault(state.current.sync_time_us, step)
        if state.current.phase is Phase.READING and began_at != step:
            return  # what changed behind its position since the pass began is for the next pass
        name = "t"
        if key == REFRESH:
            name = hidden_name(TASK, "t", state.current)
            name = name if name in self.tables() else "t"
        left = self._to_come(step, state.cursor)
        missing = self.contents[step] - left - self.content(name)
        if missing:
            yield f"P1, a gap: the {where}'s cursor {state.cursor} covers {sorted(missing, key=repr)}, not stored"

    def _to_come(self, step, cursor):
        """What the source yields from a cursor on."""
        place = step, repr(cursor)
        if place not in self._left:
            source = self.source_at(step)
            [task] = source.tasks(source.tables())
            reading = Reading(cursor, datetime(2026, 1, 1, tzinfo=UTC))
            self._left[place] = Counter(
                tuple(row.values())
                for message in source.read(task, reading)
                if isinstance(message, Insert)
                for row in message.batch.to_pylist()
            )
        return self._left[place]

    def settled(self, step, *, kills, skipped):
        yield from self._finished()
        rows, now = self.content(), self.contents[step]
        ever = Counter()
        for one in self.contents[: step + 1]:
            ever |= one
        refreshed = (
            self.refresh_at is not None and step >= self.refresh_at and not skipped
        )  # else nobody may have asked
        slack = kills * ROWS_MAX if self.loose else 0
        if self.mode is WriteMode.APPEND:
            if self.incremental:
                must, may = (now, now if refreshed else ever) if skipped or refreshed else (ever, ever)
                yield from self._appended(step, rows, must, may, slack, refreshed=refreshed, skipped=skipped)
            else:
                yield from self._snapshots(step, slack, refreshed=refreshed, skipped=skipped)
            return
        exact = (
            refreshed or self.kind == "fed" or (self.mode is WriteMode.OVERWRITE_DELETE_STALE and not self.incremental)
        )
        yield from _gap(now - rows)
        if self.table.primary_key:
            current = {content[0] for content in now}
            kept = Counter() if exact else Counter(content for content in ever if content[0] not in current)
            twice = [id_ for id_, count in Counter(content[0] for content in rows.elements()).items() if count > 1]
            yield from _too_many(Counter(twice), 0)
            extra = Counter(content for content in rows - now if content[0] not in {one[0] for one in kept})
            yield from _too_many(extra, 0)
        else:
            yield from _too_many(rows - (now if exact else ever), slack)

    def _finished(self):
        """A sync that came to its end has left nothing over."""
        if self.hidden():
            yield f"P29: the table of a refresh is left over: {self.hidden()}"
        authority, mirror = self.authority(), self.mirror()
        for key, state in authority.items():
            if state.current and state.current.phase is not Phase.DONE:
                yield f"{key} is still {state.current.phase}"
        if mirror or not (self.loose or self.stateless):
            kept = {
                key: state for key, state in authority.items() if key.task != RUN_TASK
            }  # that one is fenced by itself
            differ = [str(key) for key, state in kept.items() if key not in mirror or mirror[key].nonce != state.nonce]
            if differ:
                yield f"the mirror differs of {differ}"

    def _appended(self, step, rows, must, may, slack, *, refreshed, skipped):
        """Append, incremental: each version of a row once; loosely: again where it is read again, or after a kill."""
        yield from _gap(must - rows)
        if self.stateless:
            return
        if not self.loose:
            yield from _too_many(rows - may, 0)
            return
        first = self.refresh_at if refreshed else 0
        for content in rows:
            seen = next((one for one in range(first, step + 1) if self.contents[one][content]), None)
            since = settled_below(self.stores[first if skipped else seen]) if seen is not None else None
            again = since is not None and (content[-1] is None or content[-1] >= since)
            if not again and self.kind != "fed":
                slack -= max(0, rows[content] - may[content])
        if slack < 0:
            yield f"duplicates: {-slack} more than the interrupted windows hold: {sorted((rows - may).items(), key=repr)}"

    def _snapshots(self, step, slack, *, refreshed, skipped):
        """Append, in full: each pass appended the table as it was, all of it and once; loosely, a torn window more."""
        groups = {}
        for time, content in self.rows():
            groups.setdefault(time, Counter())[content] += 1
        if not groups:
            yield "a gap: nothing is stored"
            return
        newest = [groups[max(groups)]] if not self.loose else groups.values()  # a zombie may have left a later piece
        yield from _gap(min((self.contents[step] - group for group in newest), key=Counter.total))
        known = self.contents[self.refresh_at if refreshed else 0 : step + 1]
        most = Counter()
        for one in known:
            most |= one
        torn = Counter()
        for group in groups.values():
            wholes = [one for one in known if not one - group]
            extra = min((group - one for one in wholes), key=lambda one: sum(one.values()), default=group)
            if self.stateless or skipped:
                extra = group - most
            torn += extra
        yield from _too_many(torn, slack)


def _gap(missing):
    if missing:
        yield f"a gap: {sorted(missing.items(), key=repr)} missing"


def _too_many(extra, slack):
    if sum(extra.values()) > slack:
        yield f"duplicates: {sorted(extra.items(), key=repr)} too many"
