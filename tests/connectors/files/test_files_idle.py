"""A list of files that tells that nothing has changed: when it may be believed, and what a sync then leaves alone."""

import os
from datetime import timedelta

import pytest
from synced_files import SyncedFiles, opened_files

import strandline as sl
from strandline.connectors.files import positions
from strandline.runs import Status

NOW = timedelta(0)


@pytest.fixture
def files(tmp_path):
    one = SyncedFiles(tmp_path / "drop")
    for day in "ab":
        one.write(f"events/{day}.csv", "id\n1\n2\n")
    return one


def idle(files, after=timedelta(hours=1), **settings):
    """Whether the source says of the table that it has nothing new."""
    source = files.source(**settings)
    (task,) = source.tasks(files.tables(**settings))
    return source.idle([(task, files.reading(files.cursors.get(task.id), after))]).keys() == {task.id}


def test_files_that_look_as_they_did_are_not_opened(files, monkeypatch):
    files.sync()
    source = files.source()
    (task,) = source.tasks(source.tables())
    opened = opened_files(monkeypatch)
    assert list(source.idle([(task, files.reading(files.cursors[task.id]))])) == ["events"]
    assert opened == []


@pytest.mark.parametrize(
    "change", ["first", "grown", "new", "gone", "replaced", "touched", "renamed", "same size and time"]
)
def test_whatever_else_has_happened_the_files_are_read(files, change):
    if change != "first":
        files.sync()
        assert idle(files)
    path = files.path / "events/a.csv"
    before = path.stat()
    match change:
        case "grown":
            files.append("events/a.csv", "3\n")
        case "new":
            files.write("events/c.csv", "id\n3\n")
        case "gone":
            path.unlink()
        case "replaced":
            path.write_text("id\n3\n4\n")
        case "touched":
            os.utime(path, (1, 1))
        case "renamed":
            path.rename(path.with_name("c.csv"))
        case "same size and time":
            path.write_text("id\n7\n8\n")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not idle(files)


def test_files_that_were_young_when_they_were_read_are_compared_first(files):
    """Their times may be too coarse to show a change."""
    files.sync(after=NOW)
    assert not idle(files)
    files.sync()
    assert idle(files)


def test_a_directory_that_is_gone_proves_nothing(files):
    files.sync()
    source = files.source()
    (task,) = source.tasks(source.tables())
    files.path.rename(files.path.with_name("elsewhere"))
    assert source.idle([(task, files.reading(files.cursors[task.id]))]) == {}


def test_a_sync_without_anything_new_writes_no_object_in_a_lake(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(positions, "_RACY_NS", -(10**18))  # as if the files had lain there for long
    drop = sl.files("drop", primary_key=["id"])
    sl.sync(drop, to=sl.delta("lake"))
    before = _objects(tmp_path / "lake")
    report = sl.sync(drop, to=sl.delta("lake"))
    assert [one.status for one in report.runs[0].tasks] == [Status.COMPLETED]
    assert _objects(tmp_path / "lake") == before
    files.append("events/a.csv", "3\n")
    sl.sync(drop, to=sl.delta("lake"))
    assert len(_objects(tmp_path / "lake")) > len(before)


def _objects(lake):
    return {path: path.stat().st_mtime_ns for path in lake.rglob("*") if path.is_file()}
