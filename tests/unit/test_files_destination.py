"""The destination files: what a user sees in the directory, and what happens when things go wrong there."""

import errno
import hashlib
import json
import os
import random
import shutil
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from strandline.destination import MigrateMode, WriteMode
from strandline.destinations import _files_delivered, _files_store
from strandline.destinations._files_delivered import DeliveredSet
from strandline.destinations._files_store import Store
from strandline.destinations.files import FilesDestination
from strandline.engine.pipeline import Into
from strandline.engine.run import Job, sync
from strandline.errors import RetryableError, StateError, TaskError, UsageError
from strandline.message import Checkpoint, Complete, Insert
from strandline.plugins import load_plugin
from strandline.probe import Verdict
from strandline.source import Task
from strandline.table import CQ_ID, SOURCE_NAME, SYNC_TIME, Table, sync_time_type
from strandline.testing.windows import Lineage

SALES = Table(
    "sales",
    pa.schema(
        {
            SYNC_TIME: sync_time_type(),
            SOURCE_NAME: pa.string(),
            "id": pa.int64(),
            "country": pa.string(),
            "day": pa.date32(),
        }
    ),
    ("id",),
)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "lake"


def lake(root, **settings):
    return FilesDestination(FilesDestination.Spec(path=str(root), **settings))


def lineage(destination, *tables):
    one = Lineage(destination, WriteMode.APPEND)
    one.migrate(*tables or (SALES,))
    return one


def sale(one, *ids, country="DE", day=0, table=SALES, **more):
    count = len(ids)
    return one.insert(table, id=list(ids), country=[country] * count, day=[day] * count, **more)


def files(root, suffix=".parquet"):
    return sorted(str(path.relative_to(root)) for path in root.rglob(f"*{suffix}*"))


def hidden(root):
    return [path for path in (root / ".strandline" / "staged").rglob("*") if path.is_file() and path.name != ".lock"]


def seen(root):
    return sorted(
        row[0]
        for row in duckdb.sql(f"SELECT id FROM read_parquet('{root}/**/*.parquet', union_by_name = true)").fetchall()
    )


# what is in sight -----------------------------------------------------------------------------------------------------


def test_a_commit_is_one_file_of_each_table_and_its_name_says_whose(root):
    other = SALES.named("Other sales/../x")
    with closing(lake(root)) as destination:
        one = lineage(destination, SALES, other)
        one.write(sale(one, 1), sale(one, 2, table=other), sale(one, 3))
        one.write(sale(one, 4))
    names = files(root)
    assert [Path(name).parent.name for name in names] == ["%4fther%20sales%2f..%2fx", "sales", "sales"]
    assert sorted(name.split("-")[:4] for name in names[1:]) == [
        ["sales/orders", "1", "1", "0"],
        ["sales/orders", "1", "2", "0"],
    ]
    assert seen(root / "sales") == [1, 3, 4]


def test_nothing_is_in_sight_before_the_commit_and_nothing_hidden_is_left_after_it(root):
    with closing(lake(root)) as destination:
        one = lineage(destination)

        def messages():
            yield sale(one, *range(1000))
            yield Checkpoint({"n": 1})
            assert files(root) == []

        one.write_window(one.window(messages()))
        assert len(seen(root)) == 1000
        assert hidden(root) == []
    assert list((root / ".strandline" / "staged").iterdir()) == []


def test_a_window_that_fails_leaves_no_file(root):
    with closing(lake(root, partition_by=["country"])) as destination:
        one = lineage(destination)
        with pytest.raises(TaskError, match="primary key"):
            one.write(sale(one, 1), sale(one, None))
        assert files(root) == []
        assert hidden(root) == []


def test_a_column_that_was_added_is_null_in_older_files_and_a_reader_takes_columns_by_name(root):
    wider = Table("sales", pa.schema([*SALES.schema, pa.field("price", pa.decimal128(9, 2))]), ("id",))
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(sale(one, 1))
        one.migrate(wider)
        one.write(sale(one, 2, table=wider, price=[7]))
        found = duckdb.sql(f"SELECT id, price FROM read_parquet('{root}/sales/*.parquet', union_by_name = true)")
        assert sorted(found.fetchall()) == [(1, None), (2, 7)]


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "none"])
def test_parquet_is_compressed_as_the_spec_says(root, compression):
    with closing(lake(root, compression=compression)) as destination:
        one = lineage(destination)
        one.write(sale(one, *range(100)))
    (name,) = files(root)
    column = pq.ParquetFile(root / name).metadata.row_group(0).column(2)
    assert column.compression == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_texts_are_read_by_duckdb_and_by_us(root, form, compression):
    suffix = {"none": "", "gzip": ".gz", "zstd": ".zst"}[compression]
    values = ["", None, 'say "hi",\r\nthere', "NULL", "é\u2028"]
    with closing(lake(root, format=form, compression=compression)) as destination:
        one = lineage(destination)
        one.write(one.insert(SALES, id=[1, 2, 3, 4, 5], country=values, day=[0, None, 19000, 0, 0]))
        (batch,) = one.read(SALES)
        assert batch["country"].to_pylist() == values
    (name,) = files(root, f".{form}")
    assert name.endswith(f".{form}{suffix}")
    read = f"read_csv('{root / name}', allow_quoted_nulls = false)" if form == "csv" else f"read_json('{root / name}')"
    found = duckdb.sql(f"SELECT id, country, day::TEXT FROM {read} ORDER BY id").fetchall()
    days = ["1970-01-01", None, "2022-01-08", "1970-01-01", "1970-01-01"]
    assert found == list(zip([1, 2, 3, 4, 5], values, days, strict=True))


def test_a_compression_that_the_format_has_not_is_refused(root):
    with pytest.raises(ValidationError, match="snappy"):
        lake(root, format="csv", compression="snappy")


# partitions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_partitions_are_hives_and_come_back_exactly(root, form):
    countries = ["DE", "de", "a/b=c", "100%", None, "é", " x", "..", "new\nline", "1"]
    with closing(lake(root, format=form, partition_by=["country", "day"])) as destination:
        one = lineage(destination)
        days = [0, 19000, None, *range(7)]
        one.write(one.insert(SALES, id=list(range(10)), country=countries, day=days))
        one.write(one.insert(SALES, id=[10], country=["DE"], day=[0]))
        rows = {row["id"]: row["country"] for batch in one.read(SALES) for row in batch.to_pylist()}
        assert rows == dict(enumerate([*countries, "DE"]))
        batches = one.read(SALES, columns=["day"])
        assert sorted(str(day) for batch in batches for day in batch["day"].cast(pa.int32()).to_pylist()) == sorted(
            map(str, [*days, 0])
        )
    assert len(list((root / "sales" / "country=DE" / "day=1970-01-01").iterdir())) == 2
    if form == "parquet":
        options = "hive_partitioning = true, hive_types_autocast = false"
        found = duckdb.sql(f"SELECT id, country FROM read_parquet('{root}/sales/**/*.parquet', {options})").fetchall()
        assert dict(found) == rows


def test_too_many_partitions_are_an_error_that_names_the_setting(root):
    with closing(lake(root, partition_by=["country"], partitions_max=3)) as destination:
        one = lineage(destination)
        with pytest.raises(TaskError, match=r"more than 3 different values of country") as raised:
            one.write(*(sale(one, n, country=f"C{n}") for n in range(4)))
        assert "partitions_max" in raised.value.hint
        assert files(root) == []


@pytest.mark.parametrize("country", ["", "__HIVE_DEFAULT_PARTITION__", "x" * 300])
def test_a_value_that_no_directory_can_be_named_after_is_refused(root, country):
    with closing(lake(root, partition_by=["country"])) as destination:
        one = lineage(destination)
        with pytest.raises(TaskError, match=r"sales\.country"):
            one.write(sale(one, 1, country=country))
        assert files(root) == []


def test_columns_that_cannot_be_partitioned_by_are_refused(root):
    for column in ("nothing", SYNC_TIME):
        with closing(lake(root, partition_by=[column])) as destination, pytest.raises(TaskError, match=column):
            lineage(destination)


def test_another_format_or_partitioning_is_refused_or_begins_anew(root):
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(sale(one, 1))
    for settings in ({"format": "csv"}, {"partition_by": ["country"]}):
        with (
            closing(lake(root, **settings)) as destination,
            pytest.raises(TaskError, match="cannot be changed in place"),
        ):
            lineage(destination)
    with closing(lake(root, format="csv")) as destination:
        one = Lineage(destination, WriteMode.APPEND)
        assert one.migrate(SALES, mode=MigrateMode.FORCED).empty
        assert files(root) == []


# crashes and faults ---------------------------------------------------------------------------------------------------


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


# the log --------------------------------------------------------------------------------------------------------------


def test_the_log_stays_short_and_its_beginning_is_not_needed(root, monkeypatch):
    monkeypatch.setattr(_files_store, "SNAPSHOT_ENTRIES_MIN", 8)
    with closing(lake(root)) as destination:
        one = lineage(destination)
        for number in range(100):
            one.write(one.insert(SALES, reread=True, id=[number], country=["DE"], day=[0]))
            if number % 10 == 0:
                one.write(Complete("sales"))
                one.next_pass()
        history = destination.states.history(one.key)
    log = list((root / ".strandline" / "log").iterdir())
    assert len([path for path in log if path.suffix == ".snapshot"]) == 1
    assert len(log) < 60
    with closing(lake(root)) as destination:
        assert destination.states.history(one.key) == history
        one.destination = destination
        receipt = one.write(one.insert(SALES, reread=True, id=[99, 100], country=["DE"] * 2, day=[0] * 2))
        assert receipt.known == {"sales": 1}
        assert seen(root) == list(range(101))


def test_two_handles_that_take_turns_see_each_others_commits_across_snapshots(root, monkeypatch):
    monkeypatch.setattr(_files_store, "SNAPSHOT_ENTRIES_MIN", 4)
    chance = random.Random(7)
    with closing(lake(root)) as first, closing(lake(root)) as second:
        ones = [lineage(first), Lineage(second, WriteMode.APPEND, task="other", tables={"sales": SALES})]
        for number in range(80):
            one = chance.choices(ones, [1, 9])[0]
            one.write(sale(one, number))
        for one in ones:
            assert one.stored() == one.state
        assert seen(root) == list(range(80))


@pytest.mark.parametrize("kind", ["torn", "flipped", "gone", "foreign", "newer"])
def test_a_log_that_cannot_be_trusted_stops_the_run(root, kind):
    with closing(lake(root)) as destination:
        one = lineage(destination)
        for number in range(3):
            one.write(sale(one, number))
    log = root / ".strandline" / "log"
    path = sorted(log.glob("*.commit"))[-2]
    content = path.read_bytes()
    if kind == "torn":
        path.write_bytes(content[:40])
    elif kind == "flipped":
        path.write_bytes(content.replace(b'"moves"', b'"mover"', 1))
    elif kind == "gone":
        path.unlink()
    elif kind == "newer":
        path.write_bytes(content.replace(b'"format": 1', b'"format": 9', 1))
    else:
        path.write_bytes(sorted(log.glob("*.commit"))[-3].read_bytes())
    with closing(lake(root)) as destination, pytest.raises(StateError) as raised:
        destination.states.load("shop")
    assert str(path) in raised.value.message
    assert raised.value.hint


def test_states_are_private_and_rows_are_not(root):
    before = os.umask(0o022)
    try:
        with closing(lake(root)) as destination:
            one = lineage(destination)
            one.write(one.insert(SALES, reread=True, id=[1], country=["DE"], day=[0]))
    finally:
        os.umask(before)
    (name,) = files(root)
    assert (root / name).stat().st_mode & 0o777 == 0o644
    assert (root / ".strandline").stat().st_mode & 0o777 == 0o700
    for path in (root / ".strandline" / "log").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_what_was_delivered_is_never_taken_for_nothing(root, damage):
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(one.insert(SALES, reread=True, id=[1], country=["DE"], day=[0]))
        damage(next((root / ".strandline" / "delivered").iterdir()))
        with pytest.raises((RetryableError, TaskError), match="delivered") as raised:
            one.write(one.insert(SALES, reread=True, id=[1], country=["DE"], day=[0]))
        assert raised.value.hint
        assert seen(root) == [1]


def a_set(root, *, keep_digest=True):
    """A lake with one row that may be read again, and the file that says so."""
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(one.insert(SALES, reread=True, id=[1], country=["DE"], day=[0]))
    (path,) = (root / ".strandline" / "delivered").iterdir()
    if keep_digest:
        assert path.stem.split("-")[1] == hashlib.sha256(path.read_bytes()).hexdigest()
        return path, one
    (entry,) = (one for one in (root / ".strandline" / "log").glob("*.commit") if path.name in one.read_text())
    old = path.rename(path.with_name(f"{path.stem.split('-')[0]}.arrow"))
    head, *states = entry.read_text().replace(path.name, old.name).split("\n")
    head = json.loads(head)
    del head["checksum"]
    head["checksum"] = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    entry.write_text("\n".join([json.dumps(head), *states]))
    return old, one


def test_every_bit_that_flips_in_what_was_delivered_is_noticed(root):
    path, _ = a_set(root)
    content = path.read_bytes()
    name = str(path.relative_to(root))
    for at in random.sample(range(8 * len(content)), 500):
        changed = bytearray(content)
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        with pytest.raises(TaskError, match="damaged") as raised:
            DeliveredSet(root, [name], 0, set())
        assert raised.value.hint
    path.write_bytes(content)
    DeliveredSet(root, [name], 0, set())


def test_a_bit_that_flipped_in_what_was_delivered_loses_and_repeats_nothing(root):
    path, one = a_set(root)
    content = bytearray(path.read_bytes())
    content[content.index((1).to_bytes(8, "little"))] ^= 1  # a count
    path.write_bytes(content)
    with closing(lake(root)) as destination:
        one.destination = destination
        with pytest.raises(TaskError, match="damaged"):
            one.write(one.insert(SALES, reread=True, id=[1, 2], country=["DE"] * 2, day=[0] * 2))
        assert seen(root) == [1]


def test_what_an_older_version_delivered_is_read_without_a_digest_and_damage_is_no_passing_fault(root):
    path, one = a_set(root, keep_digest=False)
    content = path.read_bytes()
    with closing(lake(root)) as destination:
        one.destination = destination
        receipt = one.write(one.insert(SALES, reread=True, id=[1, 2], country=["DE"] * 2, day=[0] * 2))
        assert receipt.known == {"sales": 1}
        assert seen(root) == [1, 2]
    path.write_bytes(content)
    for at in random.sample(range(8 * len(content)), 500):
        changed = bytearray(content)
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        with suppress(TaskError):
            DeliveredSet(root, [str(path.relative_to(root))], 0, set())


def test_a_set_is_compared_with_its_digest_once_in_a_process(root, monkeypatch):
    hashed, sound = [], hashlib.sha256
    with closing(lake(root)) as destination:
        one = lineage(destination, EVENTS)
        one.write(one.insert(EVENTS, id=list(range(1000))))
        monkeypatch.setattr(
            _files_delivered.hashlib, "sha256", lambda *content: hashed.append(content) or sound(*content)
        )
        for number in range(4):
            one.write(one.insert(EVENTS, id=[number]))
    assert len([content for content in hashed if content and len(content[0]) > 48_000]) == 1


def test_a_probe_says_whether_commits_can_be_made(root):
    with closing(lake(root)) as destination:
        assert [probe.verdict for probe in destination.probes() if probe.subject == "commits"] == [Verdict.OK]
    assert not root.exists()
    root.write_text("")
    with closing(lake(root)) as destination, pytest.raises(UsageError, match="no directory"):
        list(destination.probes())


# what users do --------------------------------------------------------------------------------------------------------


def test_a_file_may_be_removed_and_a_table_without_any_is_empty(root):
    with closing(lake(root)) as destination:
        one = lineage(destination)
        one.write(sale(one, 1))
        one.write(sale(one, 2))
        for count in (1, 0):
            (root / files(root)[0]).unlink()
            assert one.migrate(SALES, apply=False).empty is (count == 0)
        shutil.rmtree(root / "sales")
        assert one.migrate(SALES, apply=False).empty
        one.write(sale(one, 3))
        assert seen(root) == [3]


def test_files_that_the_log_does_not_know_are_not_mixed_with_a_new_table(root):
    (root / "sales").mkdir(parents=True)
    pq.write_table(pa.table({"id": [7]}), root / "sales" / "old.parquet")
    with closing(lake(root)) as destination, pytest.raises(TaskError, match=r"old\.parquet") as raised:
        lineage(destination)
    assert "move" in raised.value.hint


class Numbers:
    """A table of numbers, read in full."""

    def __init__(self, count):
        self.count = count
        self.table = Table("numbers", pa.schema({"id": pa.int64()}), ("id",), ("id",), incremental=True)

    def tables(self):
        return [self.table]

    def tasks(self, tables):
        return [Task("numbers", tuple(tables))]

    def read(self, task, cursor, context):
        begin = cursor["next"] if cursor else 0
        yield Insert("numbers", pa.record_batch({"id": pa.array(range(begin, self.count), pa.int64())}))
        yield Complete("numbers")
        yield Checkpoint({"next": self.count})

    def acknowledge(self, task, cursor):
        pass

    def close(self):
        pass


def test_a_full_refresh_is_refused_before_anything_is_written(root):
    backend = load_plugin("state_backend", "memory")
    with closing(lake(root)) as destination:
        states = backend(backend.Spec())
        job = Job("shop", Numbers(3), [Into("lake", destination, WriteMode.APPEND)], states)
        assert sync(job).error is None
        log = sorted((root / ".strandline" / "log").iterdir())
        job.refresh = lambda task: True
        report = sync(job)
        assert isinstance(report.error, UsageError)
        assert "state reset" in report.error.hint
        assert sorted((root / ".strandline" / "log").iterdir()) == log
        assert seen(root) == [0, 1, 2]


def test_a_table_whose_files_are_gone_stops_the_run_until_its_state_is_reset(root):
    backend = load_plugin("state_backend", "memory")
    with closing(lake(root)) as destination:
        states = backend(backend.Spec())
        job = Job("shop", Numbers(3), [Into("lake", destination, WriteMode.APPEND)], states)
        assert sync(job).error is None
        shutil.rmtree(root / "numbers")
        assert isinstance(sync(job).error, StateError)


EVENTS = Table(
    "events",
    pa.schema({SYNC_TIME: sync_time_type(), SOURCE_NAME: pa.string(), CQ_ID: pa.uuid(), "id": pa.int64()}),
    (CQ_ID,),
)


def test_equal_rows_of_one_window_are_counted_after_those_that_are_stored(root):
    with closing(lake(root)) as destination:
        one = lineage(destination, EVENTS)
        one.write(one.insert(EVENTS, id=list(range(100))))
        one.write(*(one.insert(EVENTS, id=[7]) for _ in range(3)))
        rows = [row for batch in one.read(EVENTS) for row in batch.to_pylist() if row["id"] == 7]
        assert sorted(row[CQ_ID].bytes[12:] for row in rows) == [bytes([0, 0, 0, number]) for number in range(4)]


def test_a_table_that_is_created_again_while_it_is_written_gets_no_rows(root):
    other = Table("sales", pa.schema([*SALES.schema.remove(3), pa.field("country", pa.int64())]), ("id",))
    with closing(lake(root)) as destination:
        one = lineage(destination)

        def messages():
            yield sale(one, 1)
            destination.migrate(other, mode=MigrateMode.FORCED, fence=one.fence)
            yield Checkpoint({"n": 1})

        with pytest.raises(TaskError, match="created again"):
            one.write_window(one.window(messages()))
        assert (files(root), hidden(root)) == ([], [])


def test_rows_without_a_key_are_numbered_and_their_set_is_kept_in_few_files(root, monkeypatch):
    with closing(lake(root)) as destination:
        one = lineage(destination, EVENTS)
        for window in range(40):
            one.write(one.insert(EVENTS, id=[window, window // 2, 7]))
        rows = [row for batch in one.read(EVENTS) for row in batch.to_pylist()]
        numbers = sorted(int.from_bytes(row[CQ_ID].bytes[12:], "big") for row in rows if row["id"] == 7)
        assert numbers == list(range(len(numbers)))
        assert len({row[CQ_ID] for row in rows}) == len(rows) == 120
        sets = list((root / ".strandline" / "delivered").iterdir())
        assert len(sets) < 10
        one.write(Complete("events"))
        assert list((root / ".strandline" / "delivered").iterdir()) == []
