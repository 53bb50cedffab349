"""The destination files: what a user sees in the directory, and what its log makes of it."""

import os
import random
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from lakes import EVENTS, SALES, files, hidden, lake, lineage, sale, seen
from pydantic import ValidationError

from strandline.connectors.files import store as files_store
from strandline.connectors.files.formats import FORMATS, Compression, DataFile, FileFormat
from strandline.destination import MigrateMode, WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.run import sync
from strandline.errors import StateError, TaskError, UsageError
from strandline.message import Checkpoint, Complete, Insert
from strandline.plugins import load_plugin
from strandline.probe import Verdict
from strandline.source import Task
from strandline.state import State, StateKey
from strandline.table import CQ_ID, SOURCE_NAME, SYNC_TIME, Table
from strandline.testing.windows import Lineage


@pytest.fixture
def root(tmp_path):
    return tmp_path / "lake"


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


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_small_batches_become_large_row_groups_and_come_back_in_their_order(root, form):
    kind = pa.list_(pa.struct({"a": pa.string(), "b": pa.list_(pa.int64())}))
    table = Table("sales", pa.schema([*SALES.schema, pa.field("nested", kind)]), ("id",))
    values = [[{"a": str(n), "b": [n] * (n % 4)}] * (n % 3) if n % 7 else None for n in range(900)]
    with closing(lake(root, format=form)) as destination:
        one = lineage(destination, table)
        one.write(*(sale(one, n, n + 1, n + 2, table=table, nested=values[n : n + 3]) for n in range(0, 900, 3)))
        rows = [row for batch in one.read(table, columns=["id", "nested"]) for row in batch.to_pylist()]
        assert rows == [{"id": number, "nested": value} for number, value in enumerate(values)]
    (name,) = files(root, f".{form}")
    assert form != "parquet" or pq.ParquetFile(root / name).metadata.num_row_groups == 1


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


@pytest.mark.parametrize("day", [2_932_897, -719_529, 2**31 - 1, -(2**31)])
def test_a_date_that_could_not_be_read_back_is_refused_before_anything_is_written(root, day):
    with closing(lake(root, partition_by=["day"])) as destination:
        one = lineage(destination)
        with pytest.raises(TaskError, match=r"sales\.day: .* could not be read back") as raised:
            one.write(sale(one, 1), sale(one, 2, day=day))
        assert raised.value.hint
        assert (files(root), hidden(root)) == ([], [])


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.int64(), pa.uint64(), pa.bool_(), pa.string(), pa.large_string(), pa.date32()]
)
def test_whatever_a_partition_is_made_of_comes_back(root, kind):
    table = Table("sales", pa.schema([*SALES.schema.remove(3), pa.field("country", kind)]), ("id",))
    if pa.types.is_date32(kind):
        values = [-719_162, 2_932_896, None]  # the first day and the last
    elif pa.types.is_boolean(kind):
        values = [True, False, None]
    elif pa.types.is_integer(kind):
        values = [
            2 ** (kind.bit_width - 1) - 1,
            0 if pa.types.is_unsigned_integer(kind) else -(2 ** (kind.bit_width - 1)),
            None,
        ]
    else:
        values = ["2020-01-01", " ", None]
    with closing(lake(root, partition_by=["country"])) as destination:
        one = lineage(destination, table)
        one.write(one.insert(table, id=[1, 2, 3], country=values, day=[0] * 3))
        found = pa.Table.from_batches(one.read(table, columns=["id", "country"])).sort_by("id")["country"]
        assert found.combine_chunks() == pa.array(values, kind)


def test_columns_that_cannot_be_partitioned_by_are_refused(root):
    for column in ("nothing", SYNC_TIME):
        with closing(lake(root, partition_by=[column])) as destination, pytest.raises(TaskError, match=column):
            lineage(destination)


@pytest.mark.parametrize("column", [SOURCE_NAME, "_mine", ".mine"])
def test_a_partition_that_readers_would_ignore_is_refused(root, column):
    table = Table(
        "sales", SALES.schema if column == SOURCE_NAME else SALES.schema.append(pa.field(column, pa.int64())), ("id",)
    )
    with closing(lake(root, partition_by=[column])) as destination:
        with pytest.raises(UsageError, match=column) as raised:
            lineage(destination, table)
        assert raised.value.hint
    assert not root.exists()


@pytest.mark.parametrize("task", ["_orders", ".orders", "__", "_" * 200])
def test_readers_see_the_files_of_a_task_of_any_name(root, task):
    with closing(lake(root, partition_by=["country"])) as destination:
        one = Lineage(destination, WriteMode.APPEND, task=task)
        one.migrate(SALES)
        one.write(sale(one, 1), sale(one, 2, country="FR"))
    assert pyarrow.dataset.dataset(root, partitioning="hive").count_rows() == 2


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


@pytest.mark.parametrize("settings", [{"format": "csv"}, {"partition_by": ["id"]}])
def test_a_forced_migration_creates_again_what_has_another_format(root, settings):
    backend = load_plugin("state_backend", "memory")
    states = backend(backend.Spec())
    source = Numbers(3)
    source.table = Table(
        "numbers", source.table.schema.append(pa.field("v", pa.int64())), ("id",), ("id",), incremental=True
    )
    for more in ({}, settings):
        with closing(lake(root, **more)) as destination:
            into = Into("lake", destination, WriteMode.APPEND, MigrateMode.FORCED)
            assert sync(Job("shop", source, [into], states)).error is None
            found = [row["id"] for batch in destination.read(source.table, columns=["id"]) for row in batch.to_pylist()]
            assert sorted(found) == [0, 1, 2]


# the log --------------------------------------------------------------------------------------------------------------


def test_the_log_of_large_states_stays_short(root, monkeypatch):
    monkeypatch.setattr(files_store, "SNAPSHOT_BYTES_MIN", 1 << 20)
    key, cursor, token = StateKey("shop", "sales", "lake"), {"files": "x" * 300_000}, None
    with closing(lake(root)) as destination:
        for sequence in range(40):
            token = destination.states.save(key, State(cursor, 1, sequence, "run"), expected=token)
    assert sum(path.stat().st_size for path in (root / ".strandline" / "log").iterdir()) < 4 << 20


def test_a_log_that_nobody_else_writes_is_listed_once(root, monkeypatch):
    listed, real = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
    key, token = StateKey("shop", "sales", "lake"), None
    with closing(lake(root)) as one, closing(lake(root)) as other:
        one.states.save(replace(key, task="first"), State(None, 1, 0, "run"), expected=None)
        listed.clear()
        for sequence in range(10):
            token = one.states.save(key, State(None, 1, sequence, "run"), expected=token)
            assert one.states.load("shop")[key].sequence == sequence
        assert [path for path in listed if str(path).endswith("log")] == []
        for sequence in range(10, 20):
            writer, reader = (one, other) if sequence % 2 else (other, one)
            token = writer.states.save(key, State(None, 1, sequence, "run"), expected=token)
            assert reader.states.load("shop")[key].sequence == sequence


def test_the_log_stays_short_and_its_beginning_is_not_needed(root, monkeypatch):
    monkeypatch.setattr(files_store, "SNAPSHOT_ENTRIES_MIN", 8)
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
    monkeypatch.setattr(files_store, "SNAPSHOT_ENTRIES_MIN", 4)
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
        path.write_bytes(content.replace(b'"format": 2', b'"format": 9', 1))
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

    def read(self, task, reading):
        cursor = reading.cursor
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


def test_a_table_whose_files_are_gone_stops_until_its_state_is_reset(root):
    backend = load_plugin("state_backend", "memory")
    with closing(lake(root)) as destination:
        states = backend(backend.Spec())
        job = Job("shop", Numbers(3), [Into("lake", destination, WriteMode.APPEND)], states)
        assert sync(job).error is None
        shutil.rmtree(root / "numbers")
        assert isinstance(sync(job).tasks[0].error, StateError)


def test_equal_rows_of_one_window_are_counted_after_those_that_are_stored(root):
    with closing(lake(root)) as destination:
        one = lineage(destination, EVENTS)
        one.write(one.insert(EVENTS, id=list(range(100))))
        one.write(*(one.insert(EVENTS, id=[7]) for _ in range(3)))
        rows = [row for batch in one.read(EVENTS) for row in batch.to_pylist() if row["id"] == 7]
        assert sorted(row[CQ_ID].bytes[12:] for row in rows) == [bytes([0, 0, 0, number]) for number in range(4)]


def test_a_table_that_is_created_again_while_it_is_written_gets_no_rows(root):
    other = Table("sales", pa.schema([*SALES.schema.remove(3), pa.field("country", pa.binary())]), ("id",))
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


def test_a_column_of_different_values_is_written_once_and_not_into_a_dictionary_before(tmp_path):
    form, rows = FORMATS[FileFormat.PARQUET], 200_000
    table = pa.table({"few": pa.array(["a", "b"] * (rows // 2)), "many": pa.array(range(rows), pa.int64())})
    path = tmp_path / "t.parquet"
    file = DataFile(path, lambda raw, opened: form.writer(raw, table.schema, Compression.NONE, opened))
    file.write(table)
    file.close()
    few, many = (pq.ParquetFile(path).metadata.row_group(0).column(at).total_compressed_size for at in range(2))
    assert few < rows / 4
    assert many < 8 * rows + 3 * 64 * 1024
    assert pq.read_table(path).equals(table)
