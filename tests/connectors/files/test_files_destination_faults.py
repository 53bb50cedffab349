"""The destination files: crashes, disks that fail, and whatever else is in the way of a commit."""

import errno
import os
import shutil
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from lakes import SALES, files, hidden, lake, lineage, sale, seen

from strandline.connectors.files.store import Store
from strandline.destination import MigrateMode, WriteMode
from strandline.errors import RetryableError, StateError, TaskError
from strandline.message import Checkpoint
from strandline.table import Table
from strandline.testing.windows import Lineage


@pytest.fixture
def root(tmp_path):
    return tmp_path / "lake"


def broken_after(monkeypatch, name, calls):
    """``os.<name>`` fails with EIO from the call of that number on; how many there were."""
    sound, count = getattr(os, name), [0]

    def fail(*arguments, **options):
        count[0] += 1
        if count[0] > calls:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return sound(*arguments, **options)

    monkeypatch.setattr(os, name, fail)
    return count


@pytest.mark.parametrize("name", ["fsync", "link", "open", "rename", "write", "unlink"])
def test_a_disk_that_fails_at_any_call_loses_and_repeats_nothing(root, monkeypatch, name):
    calls = 0
    while True:
        shutil.rmtree(root, ignore_errors=True)
        with closing(lake(root, partition_by=["country"])) as destination:
            one = lineage(destination)
            one.write(sale(one, 1))
            before = destination.states.load("shop")
            with monkeypatch.context() as patch:
                count = broken_after(patch, name, calls)
                try:
                    one.write(sale(one, 2), sale(one, 3, country="FR"))
                except (RetryableError, StateError, TaskError):
                    failed = True
                else:
                    failed = False
                visible = seen(root)
        assert set(visible) <= {1, 2, 3}
        with closing(lake(root, partition_by=["country"])) as destination:
            again = Lineage(destination, WriteMode.APPEND)
            again.migrate(SALES)
            again.state = destination.states.load("shop")[again.key]
            committed = again.state != before[again.key]
            assert committed or failed
            assert seen(root) == ([1, 2, 3] if committed else [1])
            again.write(sale(again, 4))
            assert seen(root) == ([1, 2, 3, 4] if committed else [1, 4])
            assert hidden(root) == []
        if count[0] <= calls:
            break
        calls += 1
    assert calls


def test_files_of_a_commit_that_was_interrupted_come_into_sight_before_anything_else(root, monkeypatch):
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(sale(one, 1))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
            with pytest.raises(StateError, match="durable"):
                one.write(sale(one, 2))
        assert seen(root) == [1]
    for look in (
        lambda lake: lake.states.load("shop"),
        lambda lake: lake.migrate(SALES, mode=MigrateMode.SAFE, fence=one.fence, apply=False),
        lambda lake: list(lake.read(SALES)),
        lineage,
    ):
        copy = root.with_name("copy")
        shutil.copytree(root, copy)
        with closing(lake(copy)) as destination:
            look(destination)
        assert seen(copy) == [1, 2]
        shutil.rmtree(copy)


def test_what_dead_runs_have_left_is_swept_and_what_live_ones_write_is_not(root):
    with closing(lake(root)) as alive, closing(lake(root)) as destination:
        one = lineage(alive)
        dead = root / ".strandline" / "staged" / "0123456789abcdef"
        dead.mkdir()
        (dead / "x.part").write_bytes(b"x")
        torn = root / ".strandline" / "log" / "x.tmp"
        torn.write_bytes(b"x")
        other = Lineage(destination, WriteMode.APPEND, task="other", tables=one.tables)

        def messages():
            yield sale(one, *range(200_000))
            other.write(sale(other, 200_000))
            assert not dead.exists()
            assert not torn.exists()
            yield Checkpoint({"n": 1})

        one.write_window(one.window(messages()))
        assert len(seen(root)) == 200_001


def part_removed(root):
    """What a user's clean-up takes, of what is staged."""
    for path in hidden(root):
        path.unlink()


def run_removed(root):
    for path in (root / ".strandline" / "staged").iterdir():
        shutil.rmtree(path)


def lock_removed(root):
    for path in (root / ".strandline" / "staged").rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.mark.parametrize("clean_up", [part_removed, run_removed, lock_removed])
def test_a_file_that_is_gone_before_its_commit_is_not_committed_and_a_retry_writes_it_again(
    root, monkeypatch, clean_up
):
    with closing(lake(root, partition_by=["country"])) as destination:
        one = lineage(destination)
        one.write(sale(one, 1))
        before = destination.states.load("shop")
        sound = Store.seal

        def seal(store, files):
            sound(store, files)
            clean_up(root)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "seal", seal)
            with pytest.raises(RetryableError) as raised:
                one.write(sale(one, 2), sale(one, 3, country="FR"))
        assert raised.value.hint
        assert destination.states.load("shop") == before
        assert seen(root) == [1]
        assert hidden(root) == []
        one.write(sale(one, 2), sale(one, 3, country="FR"))
        assert seen(root) == [1, 2, 3]


def test_a_directory_of_staged_files_that_is_gone_between_windows_is_made_again(root):
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(sale(one, 1))
        run_removed(root)
        one.write(sale(one, 2))
        assert seen(root) == [1, 2]


def interrupted(root, monkeypatch, *, name="rename"):
    """A lake whose newest commit is durable, and its files are not in their place."""
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(sale(one, 1))
        with monkeypatch.context() as patch:
            patch.setattr(os, name, lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
            with pytest.raises(StateError, match="durable"):
                one.write(sale(one, 2))
    assert seen(root) == [1]


def test_a_file_of_an_interrupted_commit_that_is_lost_stops_the_run_until_the_user_says_so(root, monkeypatch):
    interrupted(root, monkeypatch)
    part_removed(root)
    with closing(lake(root)) as destination:
        for _ in range(2):
            with pytest.raises(StateError, match="rows are lost") as raised:
                destination.states.load("shop")
        assert "backup" in raised.value.hint
        assert "*.tmp" in raised.value.hint
        for path in (root / ".strandline" / "log").glob("*.tmp"):
            path.unlink()
        assert destination.states.load("shop")
    assert seen(root) == [1]


def test_a_user_may_remove_the_newest_file_once_the_commit_that_was_interrupted_is_finished(root, monkeypatch):
    interrupted(root, monkeypatch)
    with closing(lake(root)) as destination:
        destination.states.load("shop")
        assert seen(root) == [1, 2]
    for name in files(root):
        (root / name).unlink()
    with closing(lake(root)) as destination:
        assert destination.states.load("shop")
        assert lineage_again(destination).empty


def lineage_again(destination):
    return Lineage(destination, WriteMode.APPEND).migrate(SALES, apply=False)


def test_a_lock_that_cannot_be_looked_at_is_a_live_runs(root):
    with closing(lake(root)) as destination:
        lineage(destination)
    staged = root / ".strandline" / "staged"
    for name in ("loop", "dead"):
        (staged / name).mkdir()
        (staged / name / "x.part").write_bytes(b"x")
    (staged / "loop" / ".lock").symlink_to(".lock")
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(sale(one, 1))
    assert [path.name for path in staged.iterdir()] == ["loop"]


def test_where_locks_may_not_hold_only_what_is_a_day_old_is_swept(root):
    with closing(lake(root)) as destination:
        lineage(destination)
    staged, old = root / ".strandline" / "staged", time.time() - 90_000
    for name in ("new", "written", "old"):
        (staged / name).mkdir()
        (staged / name / "x.part").write_bytes(b"x")
        if name != "written":
            os.utime(staged / name / "x.part", (old, old))
        if name != "new":
            os.utime(staged / name, (old, old))
    with closing(lake(root, allow_network=True)) as destination:
        one = lineage(destination)
        one.write(sale(one, 1))
    assert sorted(path.name for path in staged.iterdir()) == ["new", "written"]


def plain_file(folder, elsewhere):
    folder.write_text("")


def link_to_nothing(folder, elsewhere):
    folder.symlink_to(folder.with_name("nothing"))


def link_elsewhere(folder, elsewhere):
    folder.symlink_to(elsewhere)


@pytest.fixture
def elsewhere(tmp_path):
    """A directory of another file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as found:
        assert Path(found).stat().st_dev != tmp_path.stat().st_dev
        yield Path(found)


@pytest.mark.parametrize("obstacle", [plain_file, link_to_nothing, link_elsewhere])
def test_a_place_where_no_file_can_be_is_found_before_the_commit_and_stops_nobody_else(root, elsewhere, obstacle):
    other = SALES.named("other")
    with closing(lake(root)) as destination:
        one = lineage(destination, SALES, other)
        before = destination.states.load("shop")
        obstacle(root / "sales", elsewhere)
        with pytest.raises(TaskError, match=f"{root / 'sales'}: .*nothing was committed") as raised:
            one.write(sale(one, 1, table=other), sale(one, 2))
        assert raised.value.hint
        assert hidden(root) == []
    with closing(lake(root)) as destination:
        one = Lineage(destination, WriteMode.APPEND, tables=one.tables)
        assert destination.states.load("shop") == before
        one.write(sale(one, 1, table=other))
        assert seen(root) == [1]


def test_a_directory_where_this_user_may_not_write_is_found_before_the_commit(root, monkeypatch):
    with closing(lake(root)) as destination:
        one = lineage(destination)
        with monkeypatch.context() as patch:
            patch.setattr(
                os, "access", lambda path, _: path != root / "sales"
            )  # root, who may run this, may everything
            with pytest.raises(TaskError, match="not writable"):
                one.write(sale(one, 1))
        one.write(sale(one, 1))
        assert seen(root) == [1]


def test_a_table_may_be_a_link_to_another_directory_of_the_file_system(root):
    with closing(lake(root)) as destination:
        one = lineage(destination)
        (root.parent / "big").mkdir()
        (root / "sales").symlink_to(root.parent / "big")
        one.write(sale(one, 1))
        assert [row["id"] for batch in one.read(SALES) for row in batch.to_pylist()] == [1]


def test_a_path_that_is_too_long_is_found_before_the_commit(root):
    names = [f"part_{number:02}" for number in range(30)]
    wide = Table("wide", pa.schema([*SALES.schema, *(pa.field(name, pa.string()) for name in names)]), ("id",))
    with closing(lake(root, partition_by=names)) as destination:
        one = lineage(destination, wide)
        values = {name: ["x" * 150] for name in names}
        with pytest.raises(TaskError, match="nothing was committed") as raised:
            one.write(one.insert(wide, id=[1], country=["DE"], day=[0], **values))
        assert "partition" in raised.value.hint
        assert not (root / "wide").exists()
        assert one.stored() is None
        assert hidden(root) == []


class Killed(BaseException):
    """Nothing of the process goes on."""


@pytest.fixture
def calls(root, monkeypatch):
    """The calls that make things durable or put them in sight, in their order: what, and where, from the root."""
    seen, fsync, rename = [], os.fsync, os.rename

    def traced(fd):
        seen.append(("fsync", os.path.relpath(Path(f"/proc/self/fd/{fd}").readlink(), root)))
        fsync(fd)

    def renamed(source, target, **more):
        seen.append(("rename", os.path.relpath(target, root)))
        rename(source, target, **more)

    monkeypatch.setattr(os, "fsync", traced)
    monkeypatch.setattr(os, "rename", renamed)
    return seen


@pytest.fixture
def killed(root, monkeypatch, calls):
    """A commit into a directory that is new, killed at the first fsync of which a function of its place says so."""
    with closing(lake(root, partition_by=["country"])) as destination:  # what is killed closes nothing

        def kill(at):
            one = lineage(destination)
            sound = os.fsync

            def fsync(fd):
                if at(os.path.relpath(Path(f"/proc/self/fd/{fd}").readlink(), root)):
                    raise Killed
                sound(fd)

            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", fsync)
                with pytest.raises(Killed):
                    one.write(one.insert(SALES, reread=True, id=[1], country=["DE"], day=[0]))
            calls.clear()

        yield kill


def test_an_entry_that_a_killed_run_linked_is_durable_before_its_files_are_in_sight(root, killed, calls):
    log = root / ".strandline" / "log"
    killed(lambda folder: folder == ".strandline/log" and len(list(log.glob("*.commit"))) == 2)
    assert files(root) == []
    with closing(lake(root, partition_by=["country"])) as destination:
        destination.states.load("shop")
    kinds = [kind for kind, _ in calls]
    assert kinds.count("rename") == 2
    assert calls.index(("fsync", ".strandline/log")) < kinds.index("rename")


def test_what_a_killed_run_has_renamed_is_made_durable_by_the_next(root, killed, calls):
    killed(lambda _: any(kind == "rename" for kind, _ in calls))
    assert len(files(root)) == 1
    with closing(lake(root, partition_by=["country"])) as destination:
        destination.states.load("shop")
    synced = {where for kind, where in calls if kind == "fsync"}
    assert {".strandline/log", ".strandline/delivered", "sales/country=DE", "sales", ".", ".."} <= synced
    assert any(where.startswith(".strandline/staged/") for where in synced)
    assert len(calls) <= 10


def test_the_name_of_a_directory_that_a_killed_run_has_made_is_made_durable(root, calls):
    with closing(lake(root)) as destination:
        lineage(destination)
    (root / "sales").mkdir()
    calls.clear()
    with closing(lake(root)) as destination:
        one = lineage(destination)
        assert {("fsync", ".."), ("fsync", "."), ("fsync", ".strandline")} <= {*calls}
        calls.clear()
        one.write(sale(one, 1))
        assert ("fsync", ".") in calls
        calls.clear()
        one.write(sale(one, 2))
        assert len([call for call, _ in calls if call == "fsync"]) == 6


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_an_error_says_what_to_do(root, monkeypatch, number):
    with closing(lake(root)) as destination:
        one = lineage(destination)
        sound = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
        with pytest.raises(RetryableError if number == errno.ENOSPC else TaskError) as raised:
            one.write(sale(one, 1))
        assert raised.value.hint
        monkeypatch.setattr(os, "fsync", sound)
        one.write(sale(one, 1))
        assert seen(root) == [1]
