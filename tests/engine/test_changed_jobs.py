"""A spec that is changed while a pass is not finished: what the old one asked for is not done any more."""

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from test_engine import Numbers, backend, destination, ids, job

from strandline.destination import WriteMode
from strandline.engine.administer import reset_states
from strandline.engine.run import sync
from strandline.errors import TaskError
from strandline.fold import window as fold_window
from strandline.message import Checkpoint, Complete, Insert
from strandline.source import Task


class Later(Numbers):
    """Without the rows that are gone."""

    def __init__(self, first):
        super().__init__("a")
        self.first = first

    def read(self, task, reading):
        for message in super().read(task, reading):
            if not (isinstance(message, Insert) and message.batch["id"][0].as_py() < self.first):
                yield message


@pytest.mark.parametrize("gone", [2, 4], ids=["few", "more than half"])
def test_a_delete_of_stale_rows_that_did_not_happen_is_not_made_up_for_in_another_mode(gone, monkeypatch):
    store, states = destination(f"changed{gone}"), backend()
    mirror, keep = WriteMode.OVERWRITE_DELETE_STALE, WriteMode.OVERWRITE
    one = job(Later(0), store, mode=keep, backend=states)
    assert sync(one).exit_code == 0
    reset_states(one, [], [], actor="anna", now=datetime(2026, 1, 1, tzinfo=UTC))  # so that it is read from nothing
    with monkeypatch.context() as broken:

        def refuses(*_, **__):
            raise TaskError("not now")

        broken.setattr(fold_window, "is_stale", refuses)
        assert sync(job(Later(gone), store, mode=mirror, backend=states)).exit_code == 1
    report = sync(job(Later(gone), store, mode=keep, backend=states))
    assert (report.exit_code, ids(store)) == (0, [0, 1, 2, 3, 4, 5])


class Log(Numbers):
    """One task of two tables, the first of them filtered."""

    def __init__(self, selection, names, *, until=6):
        super().__init__(*names, incremental=False)
        self.offered = [replace(one, selection=selection) if one.name == "a" else one for one in self.offered]
        self.selection, self.until = selection, until

    def tasks(self, tables):
        return [Task("log", tuple(tables))]

    def read(self, task, reading):
        cursor = reading.cursor
        for number in range(0 if cursor is None else cursor["next"], 6):
            if number == self.until:
                raise TaskError("interrupted")
            if not self.selection or number % 2 == 0:
                yield Insert("a", pa.record_batch({"id": pa.array([number], pa.int64())}))
            yield Checkpoint({"next": number + 1})
        for table in task.tables:
            yield Complete(table.name)
        yield Checkpoint(None)


@pytest.mark.parametrize("names", [["a", "b"], ["a"]], ids=["the same tables", "one table fewer"])
def test_a_pass_that_was_begun_with_another_filter_is_not_gone_on_with(names):
    store, states = destination(f"filters{len(names)}"), backend()
    mode = WriteMode.OVERWRITE
    assert sync(job(Log("even", ["a", "b"], until=4), store, mode=mode, backend=states)).exit_code == 1
    assert sync(job(Log("", names), store, mode=mode, backend=states)).exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 4, 5]
