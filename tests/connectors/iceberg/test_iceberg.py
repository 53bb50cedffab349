"""What the destination ``iceberg`` promises beyond the contract: what others may do to its tables, and where it may be cut off."""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyiceberg.types as ice
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog as DriverCatalog
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitStateUnknownException
from pyiceberg.table import Table as DriverTable
from pyiceberg.transforms import IdentityTransform
from window_model import CHANGES, PASSES, changed, read_again, same_as_in_the_model

from strandline.connectors.iceberg.catalog import Catalog
from strandline.connectors.iceberg.destination import IcebergDestination
from strandline.destination import MigrateMode, WriteMode
from strandline.errors import StateConflictError, StateError, StrandlineError, TaskError, UsageError
from strandline.message import Complete, Delete, Present, Swap
from strandline.ownership import Owner, Ownership
from strandline.probe import Verdict
from strandline.table import Table
from strandline.testing.destination_fixtures import keys, orders, same, unkeyed
from strandline.testing.destination_swap import HIDDEN, refresh
from strandline.testing.windows import Lineage

MINE = Ownership(Owner("shop", "warehouse"))
ORDERS = orders(name=pa.string())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def opened(root: Path, **settings: Any) -> IcebergDestination:
    return IcebergDestination(IcebergDestination.Spec(path=str(root), **settings))


@pytest.fixture
def lineage(root: Path) -> Iterator[Lineage]:
    with closing(opened(root)) as destination:
        one = Lineage(destination)
        one.take_over()
        one.migrate(ORDERS, ownership=MINE)
        yield one


def rows(lineage: Lineage, *ids: int, name: str = "a", **options: Any) -> Any:
    return lineage.insert(ORDERS, id=list(ids), name=[name] * len(ids), **options)


def catalog_of(root: Path) -> DriverCatalog:
    """As anybody opens it."""
    return load_catalog("strandline", type="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=f"file://{root}")


def stored(root: Path, name: str = "orders") -> DriverTable:
    return catalog_of(root).load_table(("default", name))


def seen(root: Path, name: str = "orders") -> list[tuple[int, str]]:
    """By a reader that knows nothing of us."""
    found = stored(root, name).scan(selected_fields=("id", "name")).to_arrow()
    return sorted((row["id"], row["name"]) for row in found.to_pylist())


def foreign_batch(*ids: int) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64()), "name": pa.array(["theirs"] * len(ids), pa.string())})


# what others do to a table -------------------------------------------------------------------------------------------


def append(root: Path) -> None:
    stored(root).append(foreign_batch(101))


def compact(root: Path) -> None:
    table = stored(root)
    table.overwrite(table.scan().to_arrow())


def expire(root: Path) -> None:
    table = stored(root)
    table.maintenance.expire_snapshots().older_than(datetime.now(UTC)).commit()
    assert len(stored(root).metadata.snapshots) == 1


def add_a_column(root: Path) -> None:
    with stored(root).update_schema() as change:
        change.add_column("theirs", ice.StringType())


def set_a_property(root: Path) -> None:
    with stored(root).transaction() as transaction:
        transaction.set_properties({"theirs": "mine"})


def nothing(_root: Path) -> None:
    pass


OTHERS = {
    "rows": (append,),
    "compaction": (compact,),
    "expiry of snapshots": (expire,),
    "a column and a property": (add_a_column, set_a_property),
    "all of it": (append, add_a_column, compact, expire, set_a_property),
}


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
@pytest.mark.parametrize("others", OTHERS)
def test_state_and_rows_survive_what_others_do(lineage: Lineage, root: Path, others: str, mode: WriteMode) -> None:
    lineage.mode = mode
    lineage.write(rows(lineage, 1, 2))
    lineage.write(rows(lineage, 3, 4))
    theirs = [(101, "theirs")] if append in OTHERS[others] else []
    for do in OTHERS[others]:
        do(root)
    state = lineage.state
    with closing(opened(root)) as lineage.destination:
        assert lineage.stored() == state
        found = lineage.migrate(ORDERS, ownership=MINE)
        assert (found.changes, found.owners, found.empty) == ((), (MINE.owner,), False)
        receipt = lineage.write(rows(lineage, 2, 5, name="b"))
        assert receipt.rows == {"orders": 2}
        old = [(1, "a"), (2, "a"), (3, "a"), (4, "a")]
        kept = old if mode is WriteMode.APPEND else [row for row in old if row[0] != 2]
        assert seen(root) == sorted([*kept, (2, "b"), (5, "b"), *theirs])
        after = stored(root)
        assert (add_a_column in OTHERS[others]) == ("theirs" in after.schema().column_names)
        assert (set_a_property in OTHERS[others]) == ("theirs" in after.properties)


def test_what_somebody_has_added_stays_when_the_table_changes_and_rows_are_rewritten(
    lineage: Lineage, root: Path
) -> None:
    lineage.write(rows(lineage, 1, 2))
    add_a_column(root)
    table = stored(root)
    whole = table.scan().to_arrow()
    place = whole.schema.get_field_index("theirs")
    table.overwrite(whole.set_column(place, "theirs", pa.array(["mine", "mine"])))
    wider = orders(name=pa.string(), more=pa.int64())
    assert lineage.migrate(wider).theirs == ("theirs",)
    lineage.write(lineage.insert(wider, id=[2], name=["b"], more=[7]))
    found = {row["id"]: row for row in stored(root).scan().to_arrow().to_pylist()}
    assert (found[1]["theirs"], found[1]["more"]) == ("mine", None)
    assert (found[2]["theirs"], found[2]["more"], found[2]["name"]) == ("mine", 7, "b")


def test_a_column_that_somebody_has_added_is_not_taken_for_the_source_s(lineage: Lineage, root: Path) -> None:
    add_a_column(root)
    with pytest.raises(TaskError, match="theirs"):
        lineage.migrate(orders(name=pa.string(), theirs=pa.string()), ownership=MINE)


def rename(root: Path) -> None:
    with stored(root).update_schema() as change:
        change.rename_column("name", "title")


def drop(root: Path) -> None:
    with stored(root).update_schema() as change:
        change.delete_column("name")


def partition(root: Path) -> None:
    with stored(root).update_spec() as change:
        change.add_field("id", IdentityTransform())


def upgrade(root: Path) -> None:
    path = Path(stored(root).metadata_location.removeprefix("file://"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format-version": 3, "next-row-id": 0}))


@pytest.mark.parametrize("change", [rename, drop, partition, upgrade])
def test_what_a_table_asks_of_who_writes_and_we_cannot_is_refused(
    lineage: Lineage, root: Path, change: Callable[[Path], None]
) -> None:
    lineage.write(rows(lineage, 1))
    change(root)
    before = stored(root).current_snapshot()
    with closing(opened(root)) as lineage.destination:
        with pytest.raises(TaskError, match="orders"):
            lineage.write(rows(lineage, 2))
        assert lineage.stored() == lineage.state
    assert stored(root).current_snapshot() == before


def test_a_column_that_was_dropped_and_added_again_has_not_its_old_values(lineage: Lineage, root: Path) -> None:
    lineage.write(rows(lineage, 1))
    drop(root)
    with stored(root).update_schema() as change:
        change.add_column("name", ice.StringType())
    lineage.write(rows(lineage, 2))
    same(lineage, ORDERS, lineage.batch(ORDERS, id=[1, 2], name=[None, "a"]))
    assert [row["name"] for row in stored(root).scan().to_arrow().sort_by("id").to_pylist()] == [None, "a"]


# where it is cut off -------------------------------------------------------------------------------------------------


class Cut(BaseException):
    """The process has ended."""


def cuts(*_: object) -> None:
    raise Cut


BETWEEN = {"nothing": (nothing,), "compaction": (compact,), "both": (append, add_a_column, compact, expire)}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
def test_a_window_that_was_decided_comes_into_sight_with_the_next_look(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch, between: str, mode: WriteMode
) -> None:
    lineage.mode = mode
    lineage.write(rows(lineage, 1, 2))
    lineage.write(rows(lineage, 3, 4))
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "commit", cuts)
        gone = [] if mode is WriteMode.APPEND else [Delete("orders", keys(ORDERS, 3))]
        with pytest.raises(Cut):
            lineage.write(rows(lineage, 2, 5, name="b"), *gone)
    assert seen(root) == [(1, "a"), (2, "a"), (3, "a"), (4, "a")]
    for do in BETWEEN[between]:
        do(root)
    theirs = [(101, "theirs")] if append in BETWEEN[between] else []
    with closing(opened(root)) as lineage.destination:
        found = lineage.stored()
        assert found is not None
        assert found.sequence == lineage.state.sequence + 1  # type: ignore[union-attr]
        lineage.state = found
        for _ in range(2):
            assert lineage.holds(ORDERS)
            expected = [(1, "a"), (4, "a"), (2, "b"), (5, "b"), *theirs]
            assert seen(root) == sorted(expected + ([(2, "a"), (3, "a")] if mode is WriteMode.APPEND else []))
        lineage.write(rows(lineage, 1, name="c"))


def test_a_full_refresh_that_was_decided_replaces_what_somebody_has_compacted_meanwhile(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage.mode = WriteMode.APPEND
    lineage.write(rows(lineage, 1, 2))
    lineage.write(rows(lineage, 3))
    side = refresh(lineage, ORDERS)
    side.write(rows(side, 3, 7, name="new"), Complete("orders"))
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "commit", cuts)
        with pytest.raises(Cut):
            lineage.write(Swap("orders", HIDDEN))
    append(root)
    compact(root)
    with closing(opened(root)) as lineage.destination:
        lineage.holds(ORDERS)
        assert seen(root) == [(3, "new"), (7, "new"), (101, "theirs")]
        assert lineage.migrate(ORDERS.named(HIDDEN)).empty


def test_a_file_that_was_removed_before_its_window_came_into_sight_is_not_skipped(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage.write(rows(lineage, 1))
    named = {task.file.file_path.removeprefix("file://") for task in stored(root).scan().plan_files()}
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "commit", cuts)
        with pytest.raises(Cut):
            lineage.write(rows(lineage, 2))
    (orphan,) = {str(path) for path in root.rglob("*.parquet")} - named
    Path(orphan).unlink()
    with closing(opened(root)) as destination, pytest.raises(StateError, match="gone"):
        list(destination.read(ORDERS))


def test_a_window_that_fails_leaves_no_file(lineage: Lineage, root: Path) -> None:
    lineage.write(rows(lineage, 1, 2, 3, 4))
    before = sorted(root.rglob("*.parquet"))
    lineage.share_max = 0.5
    with pytest.raises(StrandlineError):
        lineage.write(rows(lineage, 1, name="b"), Present("orders", keys(ORDERS, 1)), Complete("orders"))
    for mode in (WriteMode.OVERWRITE, WriteMode.APPEND):
        late = Lineage(lineage.destination, mode, tables=dict(lineage.tables))
        with pytest.raises(StateConflictError):
            late.write(rows(late, 1, name="c"))
    assert sorted(root.rglob("*.parquet")) == before


LOST = [CommitStateUnknownException("lost"), ConnectionError("lost")]


@pytest.mark.parametrize("kept", [True, False], ids=["made", "not made"])
@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_commit_of_the_catalog_whose_reply_was_lost_is_read_back(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, *, kept: bool
) -> None:
    lineage.write(rows(lineage, 1))
    commit, lost = SqlCatalog.commit_table, []

    def loses(self: SqlCatalog, *args: Any) -> Any:
        if lost:
            return commit(self, *args)
        lost.append(args)
        if kept:
            commit(self, *args)
        raise error

    monkeypatch.setattr(SqlCatalog, "commit_table", loses)
    try:
        lineage.write(rows(lineage, 2))
    except StateError:
        assert isinstance(error, ConnectionError)
        lineage.state = lineage.stored()
    lineage.write(rows(lineage, 3))
    assert seen(root) == [(1, "a"), (2, "a"), (3, "a")]
    assert len(lost) == 1


def test_a_commit_that_arrives_late_is_made_once(lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run looks while this one commits, and makes the table say what is decided."""
    lineage.write(rows(lineage, 1))
    commit, late = SqlCatalog.commit_table, []

    def suspended(self: SqlCatalog, *args: Any) -> Any:
        if not late:
            late.append(args)
            with closing(opened(root)) as other:
                assert sum(batch.num_rows for batch in other.read(ORDERS)) == 2
        return commit(self, *args)

    monkeypatch.setattr(SqlCatalog, "commit_table", suspended)
    lineage.write(rows(lineage, 2))
    assert seen(root) == [(1, "a"), (2, "a")]
    assert late


def test_a_commit_of_somebody_else_in_between_is_kept(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage.write(rows(lineage, 1))
    commit, others = Catalog.commit, []

    def interrupted(self: Catalog, *args: Any) -> Any:
        if not others:
            others.append(args)
            append(root)
            add_a_column(root)
        return commit(self, *args)

    monkeypatch.setattr(Catalog, "commit", interrupted)
    lineage.migrate(orders(name=pa.string(), more=pa.int64()))
    assert others
    assert seen(root) == [(1, "a"), (101, "theirs")]
    assert {"more", "theirs"} <= set(stored(root).schema().column_names)


# whose table ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ownership", [MINE, Ownership(MINE.owner, adopt=True), None], ids=["mine", "adopts", "nobody"])
def test_what_is_somebody_s_is_refused(root: Path, ownership: Ownership | None) -> None:
    root.mkdir()
    catalog = catalog_of(root)
    catalog.create_namespace("default")
    catalog.create_table("default.orders", foreign_batch().schema).append(foreign_batch(1))
    with closing(opened(root)) as destination:
        one = Lineage(destination)
        for mode in MigrateMode:
            with pytest.raises((UsageError, TaskError), match="orders"):
                one.migrate(ORDERS, ownership=ownership, mode=mode)
        found = one.migrate(ORDERS, ownership=ownership, apply=False)
        assert (found.owners, found.empty) == ((), False)
    assert seen(root) == [(1, "theirs")]


def test_files_that_lie_where_a_table_would_are_left_alone(root: Path) -> None:
    notes = root / "default" / "orders" / "data" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("precious")
    with closing(opened(root)) as destination:
        one = Lineage(destination)
        one.migrate(ORDERS, ownership=MINE)
        one.write(rows(one, 1))
        one.write(Delete("orders", keys(ORDERS, 1)))
    assert [path.name for path in (root / "default" / "orders").rglob("*") if path.is_file()] == ["notes.txt"]
    assert seen(root) == []


def test_a_table_that_was_put_in_the_place_of_ours_is_not_touched(lineage: Lineage, root: Path) -> None:
    lineage.write(rows(lineage, 1))
    catalog = catalog_of(root)
    catalog.drop_table("default.orders")
    catalog.create_table("default.orders", foreign_batch().schema).append(foreign_batch(7))
    with closing(opened(root)) as lineage.destination:
        assert lineage.migrate(ORDERS, apply=False).owners == ()
        with pytest.raises((UsageError, TaskError), match="orders"):
            lineage.migrate(ORDERS, ownership=MINE)
        with pytest.raises(TaskError):
            lineage.write(rows(lineage, 2))
        assert not lineage.holds(ORDERS)
    assert seen(root) == [(7, "theirs")]


def test_a_table_that_was_removed_is_missed(lineage: Lineage, root: Path) -> None:
    lineage.write(rows(lineage, 1))
    catalog_of(root).drop_table("default.orders")
    with closing(opened(root)) as lineage.destination:
        assert lineage.migrate(ORDERS, apply=False).mark is None
        with pytest.raises(TaskError, match="gone"):
            lineage.write(rows(lineage, 2))
        assert lineage.migrate(ORDERS, ownership=MINE).empty


def test_looking_makes_nothing(root: Path) -> None:
    with closing(opened(root)) as destination:
        assert Lineage(destination).migrate(ORDERS, apply=False).mark is None
        assert destination.states.load("shop") == {}
    assert not root.exists()


def test_a_namespace_that_another_run_makes_at_the_same_time_is_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.mkdir()
    catalog_of(root).create_namespace("default")
    exists, looked = SqlCatalog.namespace_exists, []

    def not_yet(self: SqlCatalog, name: Any) -> bool:
        looked.append(name)
        return len(looked) > 1 and exists(self, name)

    monkeypatch.setattr(SqlCatalog, "namespace_exists", not_yet)
    with closing(opened(root)) as destination:
        assert Lineage(destination).migrate(ORDERS, ownership=MINE).empty
    assert seen(root) == []


# partitions ----------------------------------------------------------------------------------------------------------

BY = orders(name=pa.string(), country=pa.string(), day=pa.date32(), at=pa.timestamp("us", "UTC"))
APART = ("country", "month(day)", "hour(at)", "bucket(4, id)", "truncate(2, name)")


def moment(day: int) -> datetime:
    return datetime(2026, 2, day, day, 30, tzinfo=UTC)


def test_partitions_are_apart_and_rows_move_between_them(root: Path) -> None:
    with closing(opened(root, partition_by=APART)) as destination:
        one = Lineage(destination)
        one.migrate(BY)
        first = one.insert(
            BY,
            id=[1, 2, 3],
            name=["abc", "abd", None],
            country=["de", None, "ä b/%20"],
            day=[date(1969, 12, 31), date(2026, 2, 1), None],
            at=[moment(1), moment(2), None],
        )
        one.write(first)
        same(one, BY, first.batch)
        fields = [(field.name, str(field.transform)) for field in stored(root).spec().fields]
        assert fields == [
            ("country", "identity"),
            ("day_month", "month"),
            ("at_hour", "hour"),
            ("id_bucket", "bucket[4]"),
            ("name_trunc", "truncate[2]"),
        ]
        for found, expected in (
            ("country = 'de'", [1]),
            ("day < '1970-01-01'", [1]),
            ("at >= '2026-02-02T00:00:00+00:00'", [2]),
            ("id = 3", [3]),
            ("name is null", [3]),
        ):
            scan = stored(root).scan(row_filter=found)
            assert (scan.to_arrow()["id"].to_pylist(), len(list(scan.plan_files()))) == (expected, 1), found
        moved = one.insert(BY, id=[1, 2], name=["A", "B"], country=["fr", "fr"], day=[None, None], at=[None, None])
        one.write(moved)
        same(one, BY, moved.batch, first.batch.slice(2))
        one.write(one.insert(BY, id=[3], name=["C"]), Delete("orders", keys(BY, 2)))
        last = one.batch(BY, id=[3], name=["C"], country=["ä b/%20"], day=[None], at=[None])
        same(one, BY, moved.batch.slice(0, 1), last)
        assert sorted(stored(root).scan().to_arrow()["id"].to_pylist()) == [1, 3]
    with closing(opened(root)) as destination, pytest.raises(TaskError, match="partitioned by"):
        Lineage(destination).migrate(BY)


@pytest.mark.parametrize("wrong", ["nowhere", "bucket(2, nowhere)", "hour(day)", "day(name)", "truncate(2, day)"])
def test_what_cannot_be_partitioned_by_is_said(root: Path, wrong: str) -> None:
    with closing(opened(root, partition_by=(wrong,))) as destination, pytest.raises((UsageError, TaskError)):
        Lineage(destination).migrate(BY)


@pytest.mark.parametrize("name", ["format-version", "strandline.entry"])
def test_properties_that_are_not_the_user_s_to_set_are_refused(root: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        opened(root, properties={name: "3"})


@pytest.mark.parametrize("wrong", ["bucket(id)", "day(2, at)", "bucket(0, id)"])
def test_a_transform_that_is_none_is_refused_with_the_spec(root: Path, wrong: str) -> None:
    with pytest.raises(ValueError, match="write "):
        opened(root, partition_by=(wrong,))


# types ---------------------------------------------------------------------------------------------------------------

NAIVE = datetime(2026, 1, 2, 3)  # noqa: DTZ001 -- it has no zone
VALUES: dict[str, tuple[pa.DataType, Any, Any]] = {
    "small": (pa.int16(), -3, -3),
    "unsigned": (pa.uint64(), 2**64 - 1, Decimal(2**64 - 1)),
    "real": (pa.float32(), 0.5, 0.5),
    "money": (pa.decimal128(20, 4), Decimal("1.2300"), Decimal("1.2300")),
    "noon": (pa.time32("s"), time(12), time(12)),
    "nanos": (pa.timestamp("ns"), 1, 1),
    "naive": (pa.timestamp("ms"), NAIVE, NAIVE),
    "blob": (pa.binary(), b"\0\xff", b"\0\xff"),
    "list": (pa.list_(pa.int8()), [1, None], [1, None]),
    "object": (pa.struct({"a": pa.list_(pa.struct({"b": pa.string()}))}), {"a": [{"b": "c"}]}, {"a": [{"b": "c"}]}),
    "map": (pa.map_(pa.string(), pa.int64()), [("a", 1)], [("a", 1)]),
}


def test_others_read_what_was_written_also_after_columns_were_added(lineage: Lineage, root: Path) -> None:
    lineage.write(rows(lineage, 1))
    wide = orders(name=pa.string(), **{name: kind for name, (kind, _, _) in VALUES.items()})
    lineage.migrate(wide)
    given = {name: [value] for name, (_, value, _) in VALUES.items()}
    lineage.write(lineage.insert(wide, id=[2], name=["b"], **given))
    first, second = stored(root).scan().to_arrow().sort_by("id").to_pylist()
    assert {name: first[name] for name in VALUES} == dict.fromkeys(VALUES)
    assert {name: second[name] for name in VALUES} == {name: expected for name, (_, _, expected) in VALUES.items()}


def test_a_column_that_is_widened_keeps_its_values_for_others(root: Path) -> None:
    narrow, wide = orders(name=pa.int16(), real=pa.float32()), orders(name=pa.int64(), real=pa.float64())
    with closing(opened(root)) as destination:
        one = Lineage(destination)
        one.migrate(narrow)
        one.write(one.insert(narrow, id=[1], name=[7], real=[0.5]))
        before = {field.name: field.field_id for field in stored(root).schema().fields}
        one.migrate(wide)
        one.write(one.insert(wide, id=[2], name=[2**40], real=[0.1]))
    found = stored(root).scan().to_arrow().sort_by("id").to_pylist()
    assert [(row["name"], row["real"]) for row in found] == [(7, 0.5), (2**40, 0.1)]
    assert {field.name: field.field_id for field in stored(root).schema().fields} == before


# the same as in the model --------------------------------------------------------------------------------------------


def test_any_stream_of_changes(root: Path) -> None:
    numbers = itertools.count()
    with closing(opened(root)) as destination:

        @settings(max_examples=5, deadline=None)
        @given(CHANGES, st.sampled_from(WriteMode))
        def check(changes: list[tuple[str, list[int]]], mode: WriteMode) -> None:
            table = orders(f"changes_{next(numbers)}")
            same_as_in_the_model(destination, lambda lineage: changed(lineage, table, mode, changes))

        check()


@pytest.mark.parametrize("make", [orders, unkeyed])
def test_any_passes_that_read_again(root: Path, make: Callable[..., Table]) -> None:
    numbers = itertools.count()
    with closing(opened(root)) as destination:

        @settings(max_examples=3, deadline=None)
        @given(PASSES, st.sampled_from(WriteMode))
        def check(passes: list[tuple[str, list[int]]], mode: WriteMode) -> None:
            table = make(f"{make.__name__}_{next(numbers)}")
            same_as_in_the_model(destination, lambda lineage: read_again(lineage, table, mode, passes))

        check()


def test_probes(root: Path) -> None:
    with closing(opened(root)) as destination:
        Lineage(destination).migrate(ORDERS)
        assert Verdict.PROBLEM not in {probe.verdict for probe in destination.probes()}
