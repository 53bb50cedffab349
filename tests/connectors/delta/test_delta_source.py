"""What happens to a Delta table between two syncs, and what is stored after the second one."""

import json
import random
import shutil
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from synced_delta import FEED, SyncedDelta
from synced_table import rows

from services.s3 import S3
from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.run import sync
from strandline.errors import CursorExpiredError, TaskError
from strandline.message import Checkpoint, Insert, Present
from strandline.plugins import load_plugin
from strandline.reading import Reading

APPEND, OVERWRITE, MIRROR = WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.OVERWRITE_DELETE_STALE


@pytest.fixture
def place(tmp_path):
    return tmp_path / "lake/orders"


def changes(lake: SyncedDelta, generator: random.Random) -> None:
    """One commit, or a few, of any kind."""
    low = generator.randrange(30)
    match generator.randrange(8):
        case 0 | 1:
            start = generator.randrange(1000, 1_000_000, 10)
            lake.write(rows(start, start + 4))
        case 2:
            lake.delta.delete(f"id >= {low} AND id < {low + 3}")
        case 3:
            lake.delta.update(predicate=f"id = {low}", updates={"v": f"'{generator.random()}'"})
        case 4:
            lake.merge(rows(low, low + 3, v=str(generator.random())))
        case 5:
            lake.delta.optimize.compact()
        case 6:
            lake.delta.delete("day = 'd 1'")
        case 7:
            lake.write(rows(low, low + 20, v=str(generator.random())), mode="overwrite")


@pytest.mark.parametrize("feed", [{}, FEED])
def test_whatever_changes_a_mirror_holds_what_the_table_holds(place, feed):
    generator = random.Random(len(feed))
    lake = SyncedDelta(place)
    lake.write(rows(0, 20), configuration=feed, partition_by=["day"])
    for _ in range(8):
        lake.sync()
        assert lake.stored() == lake.there()
        for _ in range(generator.randrange(1, 4)):
            changes(lake, generator)


def test_appended_rows_are_read_once_and_compaction_brings_none(place):
    lake = SyncedDelta(place, mode=APPEND, key=())
    lake.write(rows(0, 3))
    lake.sync()
    lake.write(rows(3, 6))
    lake.write(rows(3, 6))
    lake.delta.optimize.compact()
    assert lake.sync().rows_read == 6
    assert lake.sync().rows_read == 0
    assert lake.stored() == lake.there()


def test_with_change_data_only_changed_rows_are_read(place):
    lake = SyncedDelta(place)
    lake.write(rows(0, 50), configuration=FEED)
    lake.sync()
    lake.delta.delete("id = 1")
    lake.delta.update(predicate="id = 2", updates={"id": "77"})
    task = lake.sync()
    assert task.rows_read == 1
    assert lake.stored() == lake.there()


def test_a_key_that_moves_to_another_row_is_not_lost(place):
    lake = SyncedDelta(place, mode=OVERWRITE)
    lake.write(rows(0, 5), configuration=FEED)
    lake.sync()
    lake.delta.update(updates={"id": "id + 1"})
    lake.sync()
    assert lake.stored() == lake.there()


def test_change_data_in_append_mode_are_versions_of_rows(place):
    lake = SyncedDelta(place, mode=APPEND)
    lake.write(rows(0, 5), configuration=FEED)
    lake.sync()
    lake.delta.update(predicate="id = 2", updates={"v": "'new'"})
    lake.delta.delete("id = 3")
    assert lake.sync().rows_read == 1
    assert lake.stored().total() == 6


def test_append_refuses_rows_that_were_written_again(place):
    lake = SyncedDelta(place, mode=APPEND)
    lake.write(rows(0, 5))
    lake.sync()
    lake.delta.update(predicate="id = 2", updates={"v": "'new'"})
    error = lake.failed()
    assert "version 1 (UPDATE) has written rows again" in error.message
    assert "change data feed" in error.hint
    assert lake.stored().total() == 5


def test_append_goes_on_where_files_only_went(place):
    lake = SyncedDelta(place, mode=APPEND)
    lake.write(rows(0, 6), partition_by=["day"])
    lake.sync()
    lake.delta.delete("day = 'd 1'")
    lake.write(rows(6, 8))
    assert lake.sync().rows_read == 2
    assert lake.stored().total() == 8


def test_overwrite_says_that_rows_may_stay(place):
    lake = SyncedDelta(place, mode=OVERWRITE)
    lake.write(rows(0, 5))
    lake.sync()
    lake.delta.delete("id = 2")
    task = lake.sync()
    assert ["version 1 (DELETE)" in text for text in task.warnings] == [True]
    assert lake.stored().total() == 5


def test_a_mirror_compares_keys_only_after_something_was_removed(place):
    lake = SyncedDelta(place)
    lake.write(rows(0, 5))
    first = lake.read(mirror=True)
    lake.write(rows(5, 6))
    assert not [one for one in lake.read(first[-1].cursor, mirror=True) if isinstance(one, Present)]
    lake.delta.delete("id = 2")
    swept = [one for one in lake.read(first[-1].cursor, mirror=True) if isinstance(one, Present)]
    assert sorted(value for one in swept for value in one.keys["id"].to_pylist()) == [0, 1, 3, 4, 5]


def test_a_table_that_is_read_in_full_needs_no_key(place):
    lake = SyncedDelta(place, key=(), settings={"mode": "full"})
    lake.write(rows(0, 5))
    lake.sync()
    lake.delta.delete("id = 2")
    lake.sync()
    assert lake.stored() == lake.there()


def test_a_table_that_was_made_again_is_not_gone_on_with(place, tmp_path):
    lake = SyncedDelta(place)
    lake.write(rows(0, 5))
    lake.write(rows(5, 9))
    lake.sync()
    place.rename(tmp_path / "away")
    lake.write(rows(20, 25))
    lake.write(rows(25, 29))
    lake.write(rows(30, 31))
    task = lake.sync()
    assert any("another table is there" in text for text in task.warnings)
    lake.sync()
    assert lake.stored() == lake.there()


def test_a_table_of_another_history_is_not_gone_on_with(place, tmp_path):
    """A backup from before the last version was put back, and written to."""
    lake = SyncedDelta(place)
    lake.write(rows(0, 5))
    shutil.copytree(place, tmp_path / "backup")
    lake.write(rows(5, 9))
    lake.sync()
    place.rename(tmp_path / "away")
    (tmp_path / "backup").rename(place)
    assert any("it is at version 0 now" in text for text in lake.sync().warnings)
    lake.write(rows(5, 9))
    lake.sync()
    (place / "_delta_log" / f"{1:020d}.json").unlink()
    lake.write(rows(50, 51))
    lake.write(rows(51, 52))
    assert any("version 1 is another one" in text for text in lake.sync().warnings)
    lake.sync()
    assert lake.stored() == lake.there()


def test_versions_that_were_cleaned_up_are_not_passed_over(place):
    lake = SyncedDelta(place)
    lake.write(rows(0, 5))
    lake.sync()
    lake.write(rows(5, 7))
    lake.write(rows(7, 9))
    lake.delta.create_checkpoint()
    (place / "_delta_log" / f"{1:020d}.json").unlink()
    task = lake.sync()
    assert any("version 1 was cleaned up" in text for text in task.warnings)
    assert lake.stored() == lake.there()


def vacuum(lake):
    lake.delta.vacuum(0, dry_run=False, enforce_retention_duration=False)


def test_a_first_pass_whose_files_were_removed_begins_again(place):
    lake = SyncedDelta(place)
    for start in range(0, 20, 5):
        lake.write(rows(start, start + 5))
    first = lake.read(batch_rows=3)
    middle = [one for one in first if isinstance(one, Checkpoint)][2].cursor
    lake.delta.optimize.compact()
    vacuum(lake)
    with pytest.raises(CursorExpiredError, match="VACUUM"):
        lake.read(middle, resumed=True)
    lake.sync()
    assert lake.stored() == lake.there()


def test_files_that_were_compacted_and_removed_are_not_passed_over(place):
    lake = SyncedDelta(place)
    lake.write(rows(0, 5))
    lake.sync()
    lake.write(rows(5, 7))
    lake.write(rows(7, 9))
    lake.delta.optimize.compact()
    vacuum(lake)
    assert any("VACUUM" in text for text in lake.sync().warnings)
    assert lake.stored() == lake.there()


def test_what_was_replaced_meanwhile_need_not_be_there_any_more(place):
    lake = SyncedDelta(place)
    lake.write(rows(0, 5))
    lake.sync()
    lake.write(rows(5, 9))
    lake.delta.update(predicate="id = 6", updates={"v": "'new'"})
    vacuum(lake)
    assert not lake.sync().warnings
    assert lake.stored() == lake.there()


def test_values_are_those_that_other_readers_find(place):
    """Also where they stand in no file, but in the log, as of columns by which a table is partitioned."""
    lake = SyncedDelta(place, key=("n",))
    values = {
        "n": pa.array([1, 2, 3], pa.int8()),
        "text": ["a b/c%", "ä=1", None],
        "day": [date(2024, 2, 29), None, date(1, 1, 1)],
        "at": pa.array([1_704_067_200_123_456, None, -1], pa.timestamp("us")),
        "utc": pa.array([datetime(2024, 1, 1, 1, 2, 3, 4, UTC), None, datetime(1900, 1, 1, tzinfo=UTC)]),
        "price": [Decimal("1.50"), None, Decimal("2.25")],
        "yes": [True, None, False],
        "f": [1.5, None, float("nan")],
    }
    inside = {
        "bytes": [b"\0x", None, b""],
        "list": [[{"a": 1, "b": "x"}, None], None, []],
        "map": pa.array([[("a", [1])], None, []], pa.map_(pa.string(), pa.list_(pa.int64()))),
    }
    both = {name + suffix: column for suffix in ("", " p") for name, column in values.items()}
    partitions = [f"{name} p" for name in values if name != "f"]
    lake.write(pa.table(both | inside), partition_by=partitions)
    lake.sync()
    assert lake.stored() == lake.there()
    assert lake.stored().total() == 3


def test_columns_that_are_added_or_widened_come(place):
    lake = SyncedDelta(place)
    lake.write(pa.table({"id": pa.array([1, 2], pa.int32()), "s": [{"a": 1}, None]}))
    lake.sync()
    lake.write(pa.table({"id": pa.array([3], pa.int32()), "s": [{"a": 2, "b": "x"}], "n": [1.5]}), schema_mode="merge")
    assert lake.sync().rows_read == 1
    assert lake.stored() == lake.there()
    lake.sync(refresh=lambda task: True)
    assert lake.stored() == lake.there()


class Written:
    """A Delta table whose log is written by hand, as no writer here can make it."""

    def __init__(self, place: Path, schema: list, **settings) -> None:
        self.place, self.version = place, 0
        (place / "_delta_log").mkdir(parents=True)
        features = settings.pop("features", [])
        protocol = {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": features,
            "writerFeatures": features,
        }
        self.metadata = {
            "id": "x",
            "format": {"provider": "parquet", "options": {}},
            "partitionColumns": [],
            "configuration": {},
            "createdTime": 1,
        } | settings
        self.commit({"protocol": protocol}, self.described(schema))

    def described(self, schema: list) -> dict:
        return {"metaData": self.metadata | {"schemaString": json.dumps({"type": "struct", "fields": schema})}}

    def commit(self, *actions: dict) -> None:
        log = self.place / "_delta_log" / f"{self.version:020d}.json"
        log.write_text("\n".join(map(json.dumps, actions)), "utf-8")
        self.version += 1

    def add(self, name: str, table: pa.Table | None = None, **action) -> dict:
        if table is not None:
            pq.write_table(table, self.place / name, row_group_size=4)
        size = (self.place / name).stat().st_size
        return {
            "add": {"path": name, "partitionValues": {}, "size": size, "modificationTime": 1, "dataChange": True}
            | action
        }


def column(name: str, kind, number: int = 0) -> dict:
    mapped = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"col-{number}"} if number else {}
    return {"name": name, "type": kind, "nullable": True, "metadata": mapped}


def test_rows_that_a_deletion_vector_hides_are_not_read(place):
    def hidden(*places: int) -> dict:
        """In the format of RoaringBitmap, in Z85."""
        bits = struct.pack("<IIHHI", 12346, 1, 0, len(places) - 1, 16) + struct.pack(f"<{len(places)}H", *places)
        content = struct.pack("<IQI", 1681511377, 1, 0) + bits
        content += b"\0" * (-len(content) % 4)
        signs = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
        numbers = struct.unpack(f">{len(content) // 4}I", content)
        text = "".join(signs[number // 85**power % 85] for number in numbers for power in (4, 3, 2, 1, 0))
        vector = {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(content), "cardinality": len(places)}
        return {"deletionVector": vector, "stats": '{"numRecords": 10}'}

    made = Written(place, [column("id", "long"), column("v", "string")], features=["deletionVectors"])
    made.commit(made.add("a.parquet", rows(0, 10).drop_columns(["day"]), **hidden(2, 5)))
    lake = SyncedDelta(place)
    lake.sync()
    assert lake.stored() == lake.there()
    assert lake.stored().total() == 8
    remove = {"remove": {"path": "a.parquet", "dataChange": True, "deletionTimestamp": 1} | hidden(2, 5)}
    made.commit(remove, made.add("a.parquet", **hidden(2, 5, 9)))
    lake.sync()
    assert lake.stored() == lake.there()
    assert lake.stored().total() == 7


def test_columns_that_were_renamed_are_found_by_their_names_in_files(place):
    inner = {"type": "struct", "fields": [column("x", "long", 3)]}
    element = {"type": "struct", "fields": [column("x", "long", 6)]}
    listed = {"type": "array", "elementType": element, "containsNull": True}
    before = [column("id", "long", 1), column("old", inner, 2), column("l", listed, 4)]
    mapped = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "6"}
    made = Written(place, before, features=["columnMapping"], configuration=mapped)
    first = {
        "col-1": [1, 2, 3],
        "col-2": [{"col-3": 1}, None, {"col-3": None}],
        "col-4": [[{"col-6": 1}, None], None, []],
    }
    made.commit(made.add("a.parquet", pa.table(first)))
    renamed = {"type": "struct", "fields": [column("y", "long", 3), column("z", "string", 5)]}
    made.commit(made.described([column("id", "long", 1), column("new", renamed, 2), column("l", listed, 4)]))
    source = SyncedDelta(place)
    source.sync()
    read = [row for one in source.read() if isinstance(one, Insert) for row in one.batch.to_pylist()]
    assert read == [
        {"id": 1, "new": {"y": 1, "z": None}, "l": [{"x": 1}, None]},
        {"id": 2, "new": None, "l": None},
        {"id": 3, "new": {"y": None, "z": None}, "l": []},
    ]


def test_what_cannot_be_read_is_refused_in_words(place):
    made = Written(place, [column("id", "long")])
    made.commit(made.add("a.parquet", pa.table({"id": [1]})))
    lake = SyncedDelta(place)
    (place / "a.parquet").write_bytes(b"no Parquet")
    assert "is the file damaged" in lake.failed().hint
    made.metadata["configuration"] = {"delta.columnMapping.mode": "id"}
    made.commit(made.described([column("id", "long", 1)]))
    table = lake.table()
    assert isinstance(table.unreadable, TaskError)
    assert "mapped by id" in table.unreadable.message


def test_tables_in_an_object_store():
    with S3() as server:
        options = {**server.options, "allow_http": "true"}
        for name in ("orders", "more/deep"):
            place = f"s3://bucket/lake/{name}"
            write_deltalake(place, rows(0, 4), partition_by=["day"], storage_options=options)
        cls = load_plugin("source", "delta")
        for path in ("lake", "lake/orders"):
            source = cls(cls.Spec(path=f"s3://bucket/{path}", options=server.options))
            (task,) = source.tasks(source.tables())
            assert task.id == "orders"
            messages = source.read(task, Reading(None, datetime.now(UTC)))
            assert sum(one.batch.num_rows for one in messages if isinstance(one, Insert)) == 4


def test_what_strandline_has_written_has_its_keys_and_names(tmp_path):
    shop = tmp_path / "in/Our Orders.csv"
    shop.parent.mkdir()
    shop.write_text("id,v\n1,a\n2,b\n")
    read, write, states = (
        load_plugin("source", "files"),
        load_plugin("destination", "delta"),
        load_plugin("state_backend", "memory"),
    )
    into = Into("lake", write(write.Spec(path=str(tmp_path / "lake"))), OVERWRITE)
    sync(Job("shop", read(read.Spec(path=str(shop.parent), primary_key=["id"])), [into], states(states.Spec())))
    cls = load_plugin("source", "delta")
    (folder,) = [one for one in (tmp_path / "lake").iterdir() if not one.name.startswith("_")]
    for path in (tmp_path / "lake", folder):
        (table,) = cls(cls.Spec(path=str(path))).tables()
        assert (table.name, table.primary_key) == ("Our Orders", ("id",))
        assert cls(cls.Spec(path=str(path))).reaches(write(write.Spec(path=str(tmp_path / "lake"))).places())
