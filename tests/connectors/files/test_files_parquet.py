"""Parquet that other writers made: old times, required fields, odd schemas, and damage that must not pass for data."""

import datetime as dt
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synced_files import SyncedFiles

from strandline.errors import TaskError
from strandline.message import Insert


@pytest.fixture
def files(tmp_path):
    return SyncedFiles(tmp_path / "in")


def parquet(files, name, table, **options):
    files.path.mkdir(exist_ok=True)
    pq.write_table(table, files.path / name, **options)


def moments(*texts):
    return [dt.datetime.fromisoformat(text) for text in texts]


FAR = moments(
    "0001-01-01T00:00:00", "1600-02-29T12:00:00.000001", "2024-01-02T03:04:05.123456", "9999-12-31T23:59:59.999999"
)


def of_times(values, unit="us"):
    return pa.array(values, pa.timestamp(unit))


NEST = {
    "plain": lambda times: times,
    "struct": lambda times: pa.StructArray.from_arrays([times], ["x"]),
    "list": lambda times: pa.ListArray.from_arrays(pa.array(range(len(times) + 1), pa.int32()), times),
}


@pytest.mark.parametrize("nest", NEST)
def test_old_times_of_any_year_are_themselves(files, nest):
    parquet(files, "t.parquet", pa.table({"at": NEST[nest](of_times(FAR))}), use_deprecated_int96_timestamps=True)
    assert files.rows() == [{"at": at} for at in NEST[nest](of_times(FAR)).to_pylist()]


@pytest.mark.parametrize("nest", NEST)
def test_nanoseconds_of_old_times_are_not_cut_off_in_silence(files, nest):
    table = pa.table({"at": NEST[nest](of_times([1_704_164_645_123_456_789], "ns"))})
    parquet(files, "t.parquet", table, use_deprecated_int96_timestamps=True)
    with pytest.raises(TaskError, match=r"t\.parquet: column 'at': a time has nanoseconds") as raised:
        files.rows()
    assert 'types: {at: "timestamp[ns]"}' in raised.value.hint


def test_old_times_may_be_declared_to_have_nanoseconds(files):
    times = of_times([1_704_164_645_123_456_789, -1], "ns")
    parquet(files, "t.parquet", pa.table({"at": times}), use_deprecated_int96_timestamps=True)
    declared = {"types": {"at": "timestamp[ns]"}}
    assert files.table(**declared).schema.field("at").type == pa.timestamp("ns")
    batch = next(message.batch for _, message in files.read(**declared) if isinstance(message, Insert))
    assert batch.column("at").cast(pa.int64()).to_pylist() == [1_704_164_645_123_456_789, -1]


def test_a_far_time_is_refused_where_nanoseconds_are_declared(files):
    parquet(files, "t.parquet", pa.table({"at": of_times(FAR)}), use_deprecated_int96_timestamps=True)
    with pytest.raises(TaskError, match="beyond 1677 to 2262"):
        files.rows(types={"at": "timestamp[ns]"})


A = pa.field("a", pa.int64(), nullable=False)
REQUIRED = {
    "struct": (pa.struct([A]), {"a": 1}),
    "list": (pa.list_(pa.field("item", pa.int64(), nullable=False)), [1, 2]),
    "large list": (pa.large_list(pa.field("item", pa.int64(), nullable=False)), [1, 2]),
    "fixed list": (pa.list_(pa.field("item", pa.int64(), nullable=False), 2), [1, 2]),
    "map": (pa.map_(pa.string(), pa.field("value", pa.int64(), nullable=False)), [("k", 1)]),
    "list of structs": (pa.list_(pa.struct([A])), [{"a": 1}]),
    "struct of a list": (pa.struct([pa.field("l", pa.list_(pa.int32()), nullable=False)]), {"l": [1]}),
    "deep": (
        pa.struct([pa.field("s", pa.struct([pa.field("t", pa.struct([A]), nullable=False)]))]),
        {"s": {"t": {"a": 1}}},
    ),
    "itself": (pa.int64(), 7),
}


@pytest.mark.parametrize("kind", REQUIRED)
def test_what_is_required_may_be_null_in_a_table(files, kind):
    type_, value = REQUIRED[kind]
    parquet(
        files,
        "t.parquet",
        pa.table([pa.array([value], type_)], schema=pa.schema([pa.field("v", type_, nullable=False)])),
    )
    assert "not null" not in str(files.table().schema.field("v").type)
    assert files.rows() == [{"v": value}]


def test_files_need_not_agree_on_what_is_required(files):
    (files.path / "t").mkdir(parents=True)
    parquet(files, "t/1.parquet", pa.table({"s": pa.array([{"a": 1}], pa.struct([A]))}))
    parquet(files, "t/2.parquet", pa.table({"s": pa.array([{"a": None}], pa.struct([("a", pa.int64())]))}))
    assert files.rows() == [{"s": {"a": 1}}, {"s": {"a": None}}]


def test_a_column_that_comes_twice_fails_the_table_by_name(files):
    parquet(files, "t.parquet", pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["n", "n"]))
    with pytest.raises(TaskError, match=r"t\.parquet: it has column 'n' twice"):
        files.rows()


@pytest.mark.parametrize("kind", [pa.null(), pa.list_(pa.null()), pa.struct([("x", pa.null())])], ids=str)
def test_columns_of_nothing_but_nulls_are_text(files, kind):
    parquet(files, "t.parquet", pa.table({"id": [1], "v": pa.array([None], kind)}))
    assert files.rows() == [{"id": 1, "v": None}]


def test_a_map_without_keys_of_a_type_is_read_or_named(files):
    table = pa.table({"id": [1], "m": pa.array([[]], pa.map_(pa.string(), pa.null()))})
    parquet(files, "t.parquet", table)
    assert files.rows() == [{"id": 1, "m": []}]


def damaged(path, chance):
    """One bit of what lies in front of the footer."""
    data = bytearray(path.read_bytes())
    at = chance.randrange(4, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    data[at] ^= 1 << chance.randrange(8)
    return bytes(data)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_a_flipped_bit_never_passes_for_data_where_there_are_checksums(files, compression, version):
    table = pa.table(
        {"id": range(3000), "s": [f"name {at % 97}" for at in range(3000)], "x": [at / 7 for at in range(3000)]}
    )
    parquet(files, "t.parquet", table, compression=compression, data_page_version=version, write_page_checksum=True)
    path, chance = files.path / "t.parquet", random.Random(f"{compression} {version}")
    good = path.read_bytes()
    refused = []
    for _ in range(40):
        path.write_bytes(good)
        path.write_bytes(damaged(path, chance))
        files.cursors.clear()
        try:
            assert files.rows() == table.to_pylist()
        except TaskError as error:
            refused.append(error.message)
    assert len(refused) > 20
    assert all("t.parquet" in message for message in refused)


def test_a_footer_that_counts_other_rows_is_damage(files, monkeypatch):
    parquet(files, "t.parquet", pa.table({"id": range(3000)}), row_group_size=1000)
    whole = pq.ParquetFile.iter_batches

    def short(self, *args, **options):
        yield from list(whole(self, *args, **options))[:-1]

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", short)
    with pytest.raises(TaskError, match=r"t\.parquet: damaged: \d+ rows were read where the footer says 1000"):
        files.rows(rows_max=100)
