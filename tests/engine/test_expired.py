"""A source that cannot go on from a cursor, and what it has to say."""

from dataclasses import replace

import pyarrow as pa
import pytest

from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.run import sync
from strandline.errors import CursorExpiredError, TaskError
from strandline.message import Checkpoint, Complete, Insert, Notice, Present
from strandline.plugins import load_plugin
from strandline.source import Task
from strandline.table import Table

TABLE = Table("t", pa.schema({"id": pa.int64(), "v": pa.string()}), ("id",), incremental=True)


class Server:
    """A table in a database that may be restored: then its cursors are of another history."""

    def __init__(self):
        self.rows, self.history, self.mirrors = {1: "a", 2: "b"}, 1, []

    def tables(self):
        return [TABLE]

    def tasks(self, tables):
        return [Task(table.name, (table,)) for table in tables]

    def read(self, task, reading):
        cursor = reading.cursor
        self.mirrors.append(reading.mirror)
        yield Notice("t", "the moon is full")
        if cursor is not None and cursor["history"] != self.history:
            raise CursorExpiredError("the server was restored")
        for id_, value in list(self.rows.items()) if cursor is None else []:
            yield Insert("t", pa.record_batch({"id": pa.array([id_], pa.int64()), "v": pa.array([value])}))
        yield Checkpoint({"history": self.history})
        yield Complete("t")
        yield Checkpoint({"history": self.history})

    def acknowledge(self, task, cursors):
        pass

    def close(self):
        pass


@pytest.fixture
def run(request):
    """Syncs, with a destination and a backend of its own; also what is stored then."""
    cls, keep = load_plugin("destination", "memory"), load_plugin("state_backend", "memory")
    server, store, backend = Server(), cls(cls.Spec(name=request.node.nodeid)), keep(keep.Spec())

    def sync_once(mode, **changes):
        for name, value in changes.items():
            setattr(server, name, value)
        report = sync(Job("s", server, [Into("d", store, mode)], backend=backend))
        return report, sorted((row["id"], row["v"]) for batch in store.read(TABLE) for row in batch.to_pylist())

    sync_once.server = server
    return sync_once


MIRROR = WriteMode.OVERWRITE_DELETE_STALE


def test_a_mirror_is_read_again_and_what_the_restored_server_lacks_is_deleted_by_the_next_sync(run):
    """What cannot be seen may only be hidden: the sync that notices deletes nothing."""
    run(MIRROR)
    report, stored = run(MIRROR, rows={1: "A", 3: "c"}, history=2)
    assert (report.exit_code, stored) == (0, [(1, "A"), (2, "b"), (3, "c")])
    assert any("restored" in warning and "by the next sync" in warning for warning in report.tasks[0].warnings)
    report, stored = run(MIRROR)
    assert (report.exit_code, report.tasks[0].rows_read, stored) == (0, 0, [(1, "A"), (3, "c")])
    assert report.tasks[0].rows_deleted == 1
    report, stored = run(MIRROR)
    assert (report.exit_code, report.tasks[0].rows_deleted, stored) == (0, 0, [(1, "A"), (3, "c")])


def test_rows_that_come_back_before_the_next_sync_were_never_gone(run):
    run(MIRROR)
    run(MIRROR, rows={1: "a"}, history=2)
    report, stored = run(MIRROR, rows={1: "a", 2: "b"}, history=3)
    assert (report.exit_code, report.tasks[0].rows_deleted, stored) == (0, 0, [(1, "a"), (2, "b")])
    report, stored = run(MIRROR)
    assert (report.exit_code, report.tasks[0].rows_deleted, stored) == (0, 0, [(1, "a"), (2, "b")])


def test_a_sweep_of_keys_is_not_believed_in_the_sync_that_notices(run):
    sound = run.server.read

    def sweeping(task, reading):
        for message in sound(task, reading):
            if isinstance(message, Complete):
                yield Present("t", pa.record_batch({"id": pa.array(sorted(run.server.rows), pa.int64())}))
            yield message

    run.server.read = sweeping
    run(MIRROR)
    report, stored = run(MIRROR, rows={2: "b", 3: "c"}, history=2)
    assert (report.exit_code, stored) == (0, [(1, "a"), (2, "b"), (3, "c")])
    report, stored = run(MIRROR)
    assert (report.exit_code, stored) == (0, [(2, "b"), (3, "c")])


def test_a_table_that_every_sync_appends_whole_begins_again_by_itself(run, monkeypatch):
    """Its cursor is only a place in the middle of a reading that was interrupted."""
    whole = replace(TABLE, incremental=False)
    monkeypatch.setattr(run.server, "tables", lambda: [whole])
    sound = run.server.read

    def breaks(task, reading):
        for number, message in enumerate(sound(task, reading)):
            if number == 2:
                yield Checkpoint({"history": run.server.history})
                raise TaskError("the line was cut")
            yield message

    run.server.read = breaks
    assert run(WriteMode.APPEND)[0].exit_code == 1
    run.server.read = sound
    report, stored = run(WriteMode.APPEND, history=2)
    assert (report.exit_code, stored) == (0, [(1, "a"), (1, "a"), (2, "b")])


def test_overwriting_reads_anew_and_keeps_what_is_there(run):
    run(WriteMode.OVERWRITE)
    report, stored = run(WriteMode.OVERWRITE, rows={2: "B", 3: "c"}, history=2)
    assert (report.exit_code, stored) == (0, [(1, "a"), (2, "B"), (3, "c")])


def test_appending_stops_since_it_would_store_rows_twice(run):
    run(WriteMode.APPEND)
    for _ in range(2):
        report, stored = run(WriteMode.APPEND, history=2)
        assert (report.exit_code, stored) == (1, [(1, "a"), (2, "b")])
        assert "--full-refresh" in report.tasks[0].error.hint


def test_a_server_that_expires_at_every_look_fails_in_the_end(run):
    run(WriteMode.OVERWRITE)
    run.server.read = lambda task, reading: (_ for _ in ()).throw(CursorExpiredError("restored"))
    report, _ = run(WriteMode.OVERWRITE)
    assert report.exit_code == 1


def test_a_notice_is_a_warning_of_the_report(run):
    report, _ = run(WriteMode.OVERWRITE)
    assert report.tasks[0].warnings == ["the moon is full"]


@pytest.mark.parametrize("mode", WriteMode)
def test_a_source_is_told_whether_to_mirror(run, mode):
    run(mode)
    assert run.server.mirrors == [mode is WriteMode.OVERWRITE_DELETE_STALE]
