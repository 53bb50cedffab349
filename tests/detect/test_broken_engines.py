"""Engines and connectors that are broken on purpose: each is caught by the campaign that the sound one passes."""

from dataclasses import replace

import pyarrow as pa
import pytest
from worlds import MemoryWorld

import strandline.engine.task as task_module
import strandline.sources.memory as memory_module
from strandline.destination import WriteMode
from strandline.destinations.memory import MemoryDestination
from strandline.engine.ledger import Ledger
from strandline.engine.lineage import Decorator
from strandline.engine.pipeline import Pipeline
from strandline.errors import StateConflictError
from strandline.message import Insert
from strandline.table import CQ_ID
from strandline.testing.crash import Campaign

pytestmark = pytest.mark.crash

APPEND, OVERWRITE, DELETE_STALE = WriteMode


def findings(kind, mode, *, share=0.3, steps=(0, 1, 2), **world):
    return Campaign(MemoryWorld(kind, mode, **world), seed=7, share=share, steps=steps).kill_everywhere().findings


def zombies(kind, mode):
    return Campaign(MemoryWorld(kind, mode), seed=7, share=0.3, steps=[1]).interfere_everywhere().findings


class _Replayed:
    """A window that was pulled before it is written."""

    def __init__(self, window, messages):
        self.key, self.expected, self.tables = window.key, window.expected, window.tables
        self.scope, self.pass_ = window.scope, window.pass_
        self._window, self._messages = window, messages

    def __iter__(self):
        return iter(self._messages)

    checkpoint = property(lambda self: self._window.checkpoint)
    state = property(lambda self: self._window.state)


class _StateFirst:
    def __init__(self, inner, ledger):
        self._inner, self._ledger = inner, ledger

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def write(self, window, *, mode, fence):
        messages = list(window)
        self._ledger.save(window.key, window.state)
        return self._inner.write(_Replayed(window, messages), mode=mode, fence=fence)


@pytest.mark.detects("P2", "the state is saved before its rows", by="kill campaign")
def test_a_state_that_is_saved_before_its_rows_is_a_gap(monkeypatch):
    assert not findings("keyed", OVERWRITE, loose=True)
    deliver, save = Pipeline.deliver, Ledger.save

    def broken(self, feed, following=None):
        sound = self.into
        self.into = replace(sound, destination=_StateFirst(sound.destination, self.ledger))
        try:
            deliver(self, feed, following)
        finally:
            self.into = sound

    monkeypatch.setattr(Pipeline, "deliver", broken)
    monkeypatch.setattr(
        Ledger, "save", lambda self, key, state: state if self.stored(key) is state else save(self, key, state)
    )
    assert findings("keyed", OVERWRITE, loose=True)


@pytest.mark.detects("P5", "a source reads > its cursor, not >=", by="kill campaign")
def test_reading_what_is_greater_than_the_cursor_instead_of_what_is_not_smaller_is_a_gap(monkeypatch):
    assert not findings("keyed", OVERWRITE, share=0.02)
    sound = memory_module._by_key

    def broken(table, rows, place, horizon):
        column, start = table.incremental_key[0], place.get("key") if place else None
        if start is not None:
            kept = memory_module._decoded(start, table.schema.field(column).type)
            rows = [row for row in rows if row.values.get(column) is None or row.values[column] != kept]
        return sound(table, rows, place, horizon)

    monkeypatch.setattr(memory_module, "_by_key", broken)
    assert findings("keyed", OVERWRITE, share=0.02)


@pytest.mark.detects("P4", "the cursor moves past the horizon, as with a row dated in the future", by="kill campaign")
def test_a_cursor_past_the_horizon_is_a_gap(monkeypatch):
    sound = memory_module._by_key
    monkeypatch.setattr(memory_module, "_by_key", lambda table, rows, place, _: sound(table, rows, place, None))
    assert findings("keyed", OVERWRITE, share=0.02)


@pytest.mark.detects("P15", "what the run did not deliver is stale, not what the pass did not", by="kill campaign")
def test_deleting_what_the_run_did_not_deliver_instead_of_the_pass_deletes_good_rows(monkeypatch):
    assert not findings("full", DELETE_STALE, share_max=None)
    sound = task_module.open_lineage

    def broken(lineage, *, now_us, **options):
        opening = sound(lineage, now_us=now_us, **options)
        return replace(opening, current=replace(opening.current, sync_time_us=now_us + 1))

    monkeypatch.setattr(task_module, "open_lineage", broken)
    assert findings("full", DELETE_STALE, share_max=None)


@pytest.mark.detects(
    "P17", "a conflict is swallowed, and the window written under the newer state", by="zombie campaign"
)
def test_a_conflict_that_is_swallowed_lets_a_zombie_write(monkeypatch):
    assert not zombies("keyed", OVERWRITE)
    sound = MemoryDestination.write

    def broken(self, window, *, mode, fence):
        replay = _Replayed(window, list(window))
        try:
            return sound(self, replay, mode=mode, fence=fence)
        except StateConflictError:
            stored = self.states.load(window.key.source).get(window.key)
            replay.expected = stored.token if stored else None
            return sound(self, replay, mode=mode, fence=replace(fence, epoch=1_000_000))

    monkeypatch.setattr(MemoryDestination, "write", broken)
    assert zombies("keyed", OVERWRITE)


@pytest.mark.detects("P7", "rows of equal content get one id", by="kill campaign")
def test_rows_of_equal_content_that_are_collapsed_are_a_gap(monkeypatch):
    assert not findings("bare", OVERWRITE, share=0.05)
    sound = Decorator.insert

    def broken(self, message):
        out = sound(self, message)
        if out.version is None or self.stored[out.table].primary_key != (CQ_ID,):
            return out
        ids = pa.ExtensionArray.from_storage(pa.uuid(), out.version)
        return Insert(out.table, out.batch.append_column(CQ_ID, ids), out.reread)

    monkeypatch.setattr(Decorator, "insert", broken)
    assert findings("bare", OVERWRITE, share=0.05)
