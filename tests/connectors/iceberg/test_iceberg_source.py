"""What happens to an Iceberg table between two syncs, and what is stored after the second one."""

import random
import shutil
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import ClassVar

import pyarrow as pa
import pyiceberg.types as ice
import pytest
from pyiceberg.manifest import DataFileContent
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from synced_iceberg import SyncedIceberg
from synced_table import rows

from sampling import MATRIX, SHARE
from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.run import sync
from strandline.errors import UsageError
from strandline.plugins import load_plugin
from strandline.testing.kills import KillConformance

PLUGINS = (("source", "files"), ("destination", "iceberg"), ("state_backend", "memory"))
APPEND, OVERWRITE, MIRROR = WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.OVERWRITE_DELETE_STALE


@pytest.fixture
def place(tmp_path):
    (tmp_path / "lake").mkdir()
    return tmp_path / "lake"


def change(lake: SyncedIceberg, generator: random.Random) -> None:
    low = generator.randrange(30)
    match generator.randrange(6):
        case 0 | 1:
            start = generator.randrange(1000, 1_000_000, 10)
            lake.write(rows(start, start + 4))
        case 2:
            lake.ice.delete(f"id >= {low} AND id < {low + 3}")
        case 3:
            lake.merge(rows(low, low + 3, v=str(generator.random())))
        case 4:
            lake.compact()
        case 5:
            lake.delete_places(0)


def test_whatever_changes_a_mirror_holds_what_the_table_holds(place):
    generator = random.Random(2)
    lake = SyncedIceberg(place)
    lake.write(rows(0, 20))
    for number in range(6):
        lake.sync()
        assert lake.stored() == lake.there()
        for _ in range(generator.randrange(1, 4)):
            change(lake, generator)
        lake.write(rows(50 + 3 * number, 53 + 3 * number))


def test_appended_rows_are_read_once_and_compaction_brings_none(place):
    lake = SyncedIceberg(place, mode=APPEND, key=())
    lake.write(rows(0, 3))
    lake.sync()
    lake.write(rows(3, 6))
    lake.write(rows(3, 6))
    lake.compact()
    assert lake.sync().rows_read == 6
    assert lake.sync().rows_read == 0
    assert lake.stored() == lake.there()


def test_append_refuses_rows_that_were_written_again(place):
    lake = SyncedIceberg(place, mode=APPEND)
    lake.write(rows(0, 5))
    lake.sync()
    lake.ice.delete("id = 2")
    assert "(overwrite) has written rows again" in lake.failed().message
    assert lake.stored().total() == 5


def test_overwrite_says_that_rows_may_stay(place):
    lake = SyncedIceberg(place, mode=OVERWRITE)
    lake.write(rows(0, 5))
    lake.sync()
    lake.ice.delete("id = 2")
    assert ["(overwrite)" in text for text in lake.sync().warnings] == [True]
    assert lake.stored().total() == 5


def test_rows_that_are_deleted_by_place_are_not_read(place):
    lake = SyncedIceberg(place)
    lake.write(rows(0, 10))
    lake.delete_places(1, 3, 9)
    lake.sync()
    assert lake.stored() == lake.there()
    assert lake.stored().total() == 7


def test_rows_that_are_deleted_by_value_are_refused_in_words(place):
    lake = SyncedIceberg(place)
    lake.write(rows(0, 10))
    lake.delete_places(1, content=DataFileContent.EQUALITY_DELETES, equality_ids=[1])
    error = lake.failed()
    assert "delete rows by their values" in error.message
    assert "rewrite_data_files" in error.hint


def test_a_table_that_was_made_again_is_not_gone_on_with(place):
    lake = SyncedIceberg(place)
    lake.write(rows(0, 5))
    lake.sync()
    lake.catalog.drop_table("default.orders")
    lake.write(rows(20, 25))
    assert any("another table is there" in text for text in lake.sync().warnings)
    lake.sync()
    assert lake.stored() == lake.there()


@pytest.mark.parametrize("how", ["expired", "rolled back"])
def test_a_snapshot_that_is_no_ancestor_any_more_is_not_gone_on_with(place, how):
    lake = SyncedIceberg(place)
    lake.write(rows(0, 5))
    first = lake.ice.current_snapshot().snapshot_id
    lake.write(rows(5, 7))
    lake.sync()
    before = lake.ice.current_snapshot().snapshot_id
    if how == "expired":
        lake.write(rows(7, 9))
        table = lake.ice
        table.maintenance.expire_snapshots().by_ids([first, before]).commit()
    else:
        lake.ice.manage_snapshots().rollback_to_snapshot(first).commit()
        lake.write(rows(30, 32))
    assert any(f"snapshot {before}, which was read" in text for text in lake.sync().warnings)
    lake.sync()
    assert lake.stored() == lake.there()


def test_columns_are_known_by_their_numbers(place):
    lake = SyncedIceberg(place)
    lake.write(pa.table({"id": pa.array([1, 2], pa.int32()), "v": [1, 2], "gone": ["x", "y"]}))
    with lake.ice.update_schema() as update:
        update.update_column("id", ice.LongType())
        update.rename_column("v", "w")
        update.delete_column("gone")
    with lake.ice.update_schema() as update:
        update.add_column("v", ice.StringType())
    lake.write(pa.table({"id": [3], "w": [3], "v": ["new"]}))
    fresh = SyncedIceberg(place)  # what becomes of columns that are stored already is not the source's
    fresh.sync()
    assert fresh.stored() == fresh.there()


def test_values_are_those_that_other_readers_find(place):
    lake = SyncedIceberg(place, key=("n",))
    values = {
        "n": pa.array([1, 2, 3], pa.int32()),
        "text": ["a b/c%", "ä=1", None],
        "day": [date(2024, 2, 29), None, date(1, 1, 1)],
        "at": pa.array([1_704_067_200_123_456, None, -1], pa.timestamp("us")),
        "utc": pa.array([datetime(2024, 1, 1, 1, 2, 3, 4, UTC), None, datetime(1900, 1, 1, tzinfo=UTC)]),
        "time": pa.array([time(1, 2, 3, 4), None, time(0)], pa.time64("us")),
        "price": [Decimal("1.50"), None, Decimal("-0.01")],
        "yes": [True, None, False],
        "f": [1.5, None, float("nan")],
        "bytes": [b"\0x", None, b""],
        "id": pa.array([uuid.UUID(int=1).bytes, None, uuid.UUID(int=2).bytes], pa.uuid()),
        "list": [[{"a": 1, "b": "x"}, None], None, []],
        "map": pa.array([[("a", [1])], None, []], pa.map_(pa.string(), pa.list_(pa.int64()))),
    }
    table = lake.create(pa.table(values).schema)
    with table.update_spec() as spec:
        spec.add_field("text", IdentityTransform())
    lake.write(pa.table(values))
    lake.sync()
    assert lake.stored() == lake.there()
    assert lake.stored().total() == 3


def test_what_strandline_has_written_has_its_keys_and_is_no_place_to_write_what_is_read_there(place, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/orders.csv").write_text("id,v\n1,a\n2,b\n")
    read, write, states = (load_plugin(kind, name) for kind, name in PLUGINS)
    files, lake = read(read.Spec(path=str(tmp_path / "in"), primary_key=["id"])), write(write.Spec(path=str(place)))
    sync(Job("shop", files, [Into("lake", lake, OVERWRITE)], states(states.Spec())))
    source = SyncedIceberg(place, key=()).source()
    (table,) = source.tables()
    assert (table.name, table.primary_key) == ("orders", ("id",))
    assert set(source.places()) & set(lake.places())


def test_a_column_that_stands_in_no_file_but_in_its_partition_is_read(place):
    lake = SyncedIceberg(place)
    table = lake.create(rows(0, 1).schema)
    with table.update_spec() as spec:
        spec.add_field("day", IdentityTransform())
    lake.write(rows(0, 3))
    numbers = {"id": "1", "v": "2"}
    schema = pa.schema(
        [
            pa.field(one.name, one.type, metadata={"PARQUET:field_id": numbers[one.name]})
            for one in rows(0, 1).drop_columns(["day"]).schema
        ]
    )
    added = rows(7, 9).drop_columns(["day"]).cast(schema)
    lake.add_file(added, partition=Record("d 9"), spec_id=lake.ice.spec().spec_id)
    lake.sync()
    assert lake.stored() == lake.there()
    assert (7, "v7", "d 9") in lake.stored()


def test_no_catalog_is_made(place):
    cls = load_plugin("source", "iceberg")
    with pytest.raises(UsageError, match=r"there is no catalog\.db"):
        cls(cls.Spec(path=str(place))).tables()
    assert list(place.iterdir()) == []


@pytest.mark.crash
class TestKilled(KillConformance):
    SHARE = SHARE if MATRIX else 0.04
    STEPS = 2
    ROWS_MAX = 4
    WRITE_MODE = MIRROR
    TABLE: ClassVar = {"primary_key": ["id"]}

    @pytest.fixture
    def steps(self, place):
        """The lake at each step; its files are named as they lie, so that only the catalog is another one."""
        lake = SyncedIceberg(place)
        lake.write(rows(0, 4))
        lake.write(rows(4, 9))
        found = [lake.found().to_pylist()]
        (place / "0").mkdir()
        shutil.copy(place / "catalog.db", place / "0/catalog.db")
        lake.write(rows(20, 24))
        lake.ice.delete("id = 5")
        lake.merge(rows(1, 3, v="new"))
        (place / "1").mkdir()
        shutil.copy(place / "catalog.db", place / "1/catalog.db")
        return place, [*found, lake.found().to_pylist()]

    @pytest.fixture
    def rows(self, steps):
        return lambda step: {"orders": steps[1][step]}

    @pytest.fixture
    def plugins(self, steps):
        source = load_plugin("source", "iceberg")
        destination, backend = load_plugin("destination", "duckdb"), load_plugin("state_backend", "local")
        return lambda directory, step: (
            source(source.Spec(path=str(steps[0] / str(step)), tables={"*": self.TABLE})),
            destination(destination.Spec(path=str(directory / "rows.duckdb"))),
            backend(backend.Spec(path=str(directory / "states"))),
        )
