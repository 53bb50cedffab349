"""What the destination ``delta`` promises beyond the contract: what others may do to its tables, and where it may be cut off."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_model import CHANGES, PASSES, changed, read_again, same_as_in_the_model

from services.s3 import S3
from strandline.connectors.delta import delta_table
from strandline.connectors.delta.delta_table import DeltaTable
from strandline.connectors.delta.destination import DeltaDestination
from strandline.connectors.lake import journal as delta_journal
from strandline.connectors.lake.store import LocalStore, ObjectStore
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


def opened(root: Path, **settings: Any) -> DeltaDestination:
    return DeltaDestination(DeltaDestination.Spec(path=str(root), **settings))


@pytest.fixture
def lineage(root: Path) -> Iterator[Lineage]:
    with closing(opened(root)) as destination:
        one = Lineage(destination)
        one.take_over()
        one.migrate(ORDERS, ownership=MINE)
        yield one


def rows(lineage: Lineage, *ids: int, name: str = "a", **options: Any) -> Any:
    return lineage.insert(ORDERS, id=list(ids), name=[name] * len(ids), **options)


def seen(root: Path, table: str = "orders") -> list[tuple[int, str]]:
    """By a reader that knows nothing of us."""
    found = deltalake.DeltaTable(root / table).to_pyarrow_table(columns=["id", "name"])
    return sorted((row["id"], row["name"]) for row in found.to_pylist())


def foreign_batch(*ids: int, name: str = "theirs") -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64()), "name": [name] * len(ids)})


# what others do to a table -------------------------------------------------------------------------------------------


def clean_up(root: Path) -> None:
    table = deltalake.DeltaTable(root / "orders")
    table.alter.set_table_properties(
        {"delta.logRetentionDuration": "interval 0 days", "delta.enableExpiredLogCleanup": "true"}
    )
    table.create_checkpoint()
    table.cleanup_metadata()
    assert not (root / "orders" / "_delta_log" / f"{0:020d}.json").exists()


def compact(root: Path) -> None:
    assert deltalake.DeltaTable(root / "orders").optimize.compact()["numFilesRemoved"]


def vacuum(root: Path) -> None:
    table = deltalake.DeltaTable(root / "orders")
    table.vacuum(full=True, retention_hours=0, enforce_retention_duration=False, dry_run=False)


def append(root: Path) -> None:
    deltalake.write_deltalake(root / "orders", foreign_batch(101), mode="append", schema_mode="merge")


def add_a_column(root: Path) -> None:
    table = deltalake.DeltaTable(root / "orders")
    table.alter.add_columns(deltalake.Field("theirs", deltalake.schema.PrimitiveType("string")))


def nothing(_root: Path) -> None:
    pass


OTHERS = {
    "log clean-up": (clean_up,),
    "checkpoint": (lambda root: deltalake.DeltaTable(root / "orders").create_checkpoint(),),
    "compaction": (compact,),
    "compaction and vacuum": (compact, vacuum),
    "rows": (append,),
    "a column": (add_a_column,),
    "all of it": (append, compact, clean_up, vacuum, add_a_column),
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
        assert "theirs" not in others or "theirs" in deltalake.DeltaTable(root / "orders").schema().to_json()


def test_what_somebody_has_added_stays_when_the_table_changes_and_rows_are_rewritten(
    lineage: Lineage, root: Path
) -> None:
    lineage.write(rows(lineage, 1, 2))
    add_a_column(root)
    deltalake.DeltaTable(root / "orders").update({"theirs": "'mine'"})
    deltalake.DeltaTable(root / "orders").alter.set_table_properties({"delta.logRetentionDuration": "interval 3 days"})
    wider = orders(name=pa.string(), more=pa.int64())
    assert lineage.migrate(wider).theirs == ("theirs",)
    lineage.write(lineage.insert(wider, id=[2], name=["b"], more=[7]))
    table = deltalake.DeltaTable(root / "orders")
    found = {row["id"]: row for row in table.to_pyarrow_table().to_pylist()}
    assert (found[1]["theirs"], found[1]["more"]) == ("mine", None)
    assert (found[2]["theirs"], found[2]["more"], found[2]["name"]) == ("mine", 7, "b")
    assert table.metadata().configuration["delta.logRetentionDuration"] == "interval 3 days"


def test_a_column_that_somebody_has_added_is_not_taken_for_the_source_s(lineage: Lineage, root: Path) -> None:
    add_a_column(root)
    with pytest.raises(TaskError, match="theirs"):
        lineage.migrate(orders(name=pa.string(), theirs=pa.string()), ownership=MINE)


def append_only(table: deltalake.DeltaTable) -> None:
    table.alter.set_table_properties({"delta.appendOnly": "true"})


def constrain(table: deltalake.DeltaTable) -> None:
    table.alter.add_constraint({"positive": "id > 0"})


@pytest.mark.parametrize("change", [append_only, constrain])
def test_what_a_table_asks_of_who_writes_and_we_cannot_is_refused(
    lineage: Lineage, root: Path, change: Callable[[deltalake.DeltaTable], None]
) -> None:
    lineage.write(rows(lineage, 1))
    change(deltalake.DeltaTable(root / "orders"))
    with pytest.raises(TaskError, match="orders"):
        lineage.write(rows(lineage, 2))
    assert lineage.stored() == lineage.state
    assert seen(root) == [(1, "a")]


# where it is cut off -------------------------------------------------------------------------------------------------


class Cut(BaseException):
    """The process has ended."""


def cuts(*_: object) -> None:
    raise Cut


BETWEEN = {"nothing": (nothing,), "compaction": (compact,), "rows": (append,), "both": (append, compact)}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
def test_a_window_that_was_decided_comes_into_sight_with_the_next_look(
    lineage: Lineage,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    between: str,
    mode: WriteMode,
) -> None:
    lineage.mode = mode
    lineage.write(rows(lineage, 1, 2))
    lineage.write(rows(lineage, 3, 4))
    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "_commit", cuts)
        gone = [] if mode is WriteMode.APPEND else [Delete("orders", keys(ORDERS, 3))]
        with pytest.raises(Cut):
            lineage.write(rows(lineage, 2, 5, name="b"), *gone)
    assert seen(root) == [(1, "a"), (2, "a"), (3, "a"), (4, "a")]
    for do in BETWEEN[between]:
        do(root)
    theirs = [(101, "theirs")] if append in BETWEEN[between] else []
    with closing(opened(root)) as lineage.destination:
        stored = lineage.stored()
        assert stored is not None
        assert stored.sequence == lineage.state.sequence + 1  # type: ignore[union-attr]
        lineage.state = stored
        for _ in range(2):
            assert lineage.holds(ORDERS)
            expected = [(1, "a"), (4, "a"), (2, "b"), (5, "b"), *theirs]
            assert seen(root) == sorted(expected + ([(2, "a"), (3, "a")] if mode is WriteMode.APPEND else []))
        lineage.write(rows(lineage, 1, name="c"))


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE_DELETE_STALE])
def test_a_full_refresh_that_was_decided_replaces_what_somebody_has_compacted_meanwhile(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch, mode: WriteMode
) -> None:
    lineage.mode = mode
    lineage.write(rows(lineage, 1, 2))
    lineage.write(rows(lineage, 3))
    strange = Lineage(lineage.destination, mode, source="other shop")
    strange.migrate(ORDERS)
    strange.mode = WriteMode.APPEND
    lineage.destination.migrate(ORDERS, mode=MigrateMode.SAFE, fence=lineage.fence, ownership=None)
    side = refresh(lineage, ORDERS)
    side.write(rows(side, 3, 7, name="new"), Complete("orders"))
    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "_commit", cuts)
        with pytest.raises(Cut):
            lineage.write(Swap("orders", HIDDEN))
    append(root)
    compact(root)
    with closing(opened(root)) as lineage.destination:
        lineage.holds(ORDERS)
        assert seen(root) == [(3, "new"), (7, "new"), (101, "theirs")]
        assert not (root / HIDDEN).exists() or lineage.migrate(ORDERS.named(HIDDEN), apply=False).mark is None
        assert lineage.migrate(ORDERS.named(HIDDEN)).empty


def test_a_file_that_a_vacuum_has_removed_before_its_window_came_into_sight_is_not_skipped(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage.write(rows(lineage, 1))
    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "_commit", cuts)
        with pytest.raises(Cut):
            lineage.write(rows(lineage, 2))
    vacuum(root)
    with closing(opened(root)) as destination, pytest.raises(StateError, match="gone"):
        list(destination.read(ORDERS))


def test_a_window_that_fails_leaves_no_file(lineage: Lineage, root: Path) -> None:
    lineage.write(rows(lineage, 1, 2, 3, 4))
    before = sorted(root.rglob("*.parquet"))
    lineage.share_max = 0.5
    with pytest.raises(StrandlineError):
        lineage.write(rows(lineage, 1, name="b"), Present("orders", keys(ORDERS, 1)), Complete("orders"))
    late = Lineage(lineage.destination, tables=dict(lineage.tables))
    with pytest.raises(StateConflictError):
        late.write(rows(late, 1, name="c"))
    lineage.mode = WriteMode.APPEND
    with pytest.raises(StateConflictError):
        Lineage(lineage.destination, WriteMode.APPEND, tables=dict(lineage.tables)).write(rows(lineage, 9))
    assert sorted(root.rglob("*.parquet")) == before


@pytest.mark.parametrize("kept", [True, False], ids=["made", "not made"])
def test_a_commit_whose_reply_was_lost_is_read_back(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    lineage.write(rows(lineage, 1))
    create, lost = LocalStore.create, []

    def loses(self: LocalStore, name: str, content: bytes) -> bool:
        if "_strandline/log" not in name or lost:
            return create(self, name, content)
        lost.append(name)
        if kept:
            create(self, name, content)
        raise TimeoutError("the reply was lost")

    monkeypatch.setattr(LocalStore, "create", loses)
    with pytest.raises(StateError):
        lineage.write(rows(lineage, 2))
    with closing(opened(root)) as lineage.destination:
        stored = lineage.stored()
        assert stored is not None
        assert (stored.sequence == lineage.state.sequence + 1) is kept  # type: ignore[union-attr]
        lineage.state = stored
        lineage.write(rows(lineage, 3))
        same(lineage, ORDERS, rows(lineage, 1, *([2] if kept else []), 3).batch)


@pytest.mark.parametrize("others", [1, 6, 13], ids=["one", "with a snapshot", "with several snapshots"])
def test_who_was_away_while_others_committed_commits_nothing_that_they_do_not_know(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """His number was removed with the entries before a snapshot, and can be created again."""
    monkeypatch.setattr(delta_journal, "_SNAPSHOT_EVERY", 5)
    lineage.write(rows(lineage, 1))
    create, away = LocalStore.create, []
    other = Lineage(opened(root), task="other", tables=dict(lineage.tables))

    def suspended(self: LocalStore, name: str, content: bytes) -> bool:
        if "_strandline/log/" in name and not away:
            away.append(name)
            for number in range(others):
                other.write(rows(other, 1000 + number))
        return create(self, name, content)

    monkeypatch.setattr(LocalStore, "create", suspended)
    lineage.write(rows(lineage, 2))
    with closing(opened(root)) as destination:
        assert Lineage(destination, WriteMode.OVERWRITE).stored() == lineage.state
    assert [one for one, _ in seen(root)] == [1, 2, *(1000 + number for number in range(others))]


def test_who_only_looks_sees_what_others_committed_and_removed(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_journal, "_SNAPSHOT_EVERY", 5)
    with closing(opened(root)) as looks:
        looks.states.load("shop")
        for number in range(12):
            lineage.write(rows(lineage, number))
            if number % 11 == 0:
                assert looks.states.load("shop")[lineage.key] == lineage.state


def test_who_is_overtaken_while_he_commits_commits_nothing(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage.write(rows(lineage, 1))
    create, done = LocalStore.create, []

    def overtaken(self: LocalStore, name: str, content: bytes) -> bool:
        if "_strandline/log/" in name and not done:
            done.append(name)
            Lineage(opened(root)).take_over()
        return create(self, name, content)

    monkeypatch.setattr(LocalStore, "create", overtaken)
    with pytest.raises(StateConflictError):
        lineage.write(rows(lineage, 2))
    assert lineage.stored() == lineage.state
    assert seen(root) == [(1, "a")]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_delivered_set_that_is_damaged_is_not_an_empty_one(
    lineage: Lineage, root: Path, damage: Callable[[Path], object]
) -> None:
    lineage.mode = WriteMode.APPEND
    lineage.write(rows(lineage, 1, 2, reread=True), Complete("orders"))
    lineage.next_pass()
    (path,) = (root / "_strandline" / "delivered").iterdir()
    damage(path)
    with pytest.raises(TaskError, match="delivered"):
        lineage.write(rows(lineage, 1, 2, reread=True))
    assert [one for one, _ in seen(root)] == [1, 2]


def test_what_was_delivered_is_kept_in_few_files(lineage: Lineage, root: Path) -> None:
    lineage.mode = WriteMode.APPEND
    for number in range(9):
        lineage.next_pass()
        lineage.write(rows(lineage, number, number + 1, reread=True), Complete("orders"))
        assert len(list((root / "_strandline" / "delivered").iterdir())) <= 2
    late = Lineage(lineage.destination, WriteMode.APPEND, tables=dict(lineage.tables))
    before = sorted((root / "_strandline" / "delivered").iterdir())
    with pytest.raises(StateConflictError):
        late.write(rows(late, 50, reread=True))
    assert sorted((root / "_strandline" / "delivered").iterdir()) == before
    assert [one for one, _ in seen(root)] == list(range(10))


def test_the_logs_are_short_whatever_was_committed(
    lineage: Lineage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_journal, "_SNAPSHOT_EVERY", 5)
    monkeypatch.setattr(delta_table, "_CHECKPOINT_EVERY", 5)
    for number in range(13):
        lineage.write(rows(lineage, number % 7))
    assert len(list((root / "_strandline" / "log").iterdir())) <= 6
    assert list((root / "_strandline" / "keys").iterdir()) == []
    assert list((root / "orders" / "_delta_log").glob("*.checkpoint.parquet"))
    assert [one for one, _ in seen(root)] == list(range(7))
    with closing(opened(root)) as destination:
        assert Lineage(destination).stored() == lineage.state


def test_a_damaged_entry_is_no_empty_log(lineage: Lineage, root: Path) -> None:
    lineage.write(rows(lineage, 1))
    newest = max((root / "_strandline" / "log").iterdir())
    newest.write_bytes(newest.read_bytes().replace(b'"orders"', b'"ordert"'))
    with closing(opened(root)) as destination, pytest.raises(StateError, match="damaged"):
        destination.states.load("shop")
    newest.unlink()
    (root / "_strandline" / "log" / f"{int(newest.stem) + 1:020d}.json").write_bytes(b"{}")
    with closing(opened(root)) as destination, pytest.raises(StateError, match="gone"):
        destination.states.load("shop")


# whose table ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ownership", [MINE, Ownership(MINE.owner, adopt=True), None], ids=["mine", "adopts", "nobody"])
@pytest.mark.parametrize("what", ["a Delta table", "files"])
def test_what_is_somebody_s_is_refused(root: Path, what: str, ownership: Ownership | None) -> None:
    if what == "files":
        (root / "orders").mkdir(parents=True)
        (root / "orders" / "notes.txt").write_text("precious")
    else:
        deltalake.write_deltalake(root / "orders", foreign_batch(1))
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with closing(opened(root)) as destination:
        one = Lineage(destination)
        for mode in MigrateMode:
            with pytest.raises((UsageError, TaskError), match="orders"):
                one.migrate(ORDERS, ownership=ownership, mode=mode)
        found = one.migrate(ORDERS, ownership=ownership, apply=False)
        assert (found.owners, found.empty) == ((), False)
    assert {path: path.read_bytes() for path in before} == before


def test_a_table_that_was_put_in_the_place_of_ours_is_not_touched(lineage: Lineage, root: Path) -> None:
    lineage.write(rows(lineage, 1))
    shutil.rmtree(root / "orders")
    deltalake.write_deltalake(root / "orders", foreign_batch(7))
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
    shutil.rmtree(root / "orders")
    with closing(opened(root)) as lineage.destination:
        assert lineage.migrate(ORDERS, apply=False).mark is None
        with pytest.raises(TaskError, match="gone"):
            lineage.write(rows(lineage, 2))
        assert lineage.migrate(ORDERS, ownership=MINE).empty


# partitions ----------------------------------------------------------------------------------------------------------

BY = orders(name=pa.string(), country=pa.string(), day=pa.date32())


def test_partitions_are_apart_and_rows_move_between_them(root: Path) -> None:
    with closing(opened(root, partition_by=("country", "day"))) as destination:
        one = Lineage(destination)
        one.migrate(BY)
        first = one.insert(BY, id=[1, 2, 3], name=["a", "b", "c"], country=["de", None, "ä b/%20"], day=[0, 1, None])
        one.write(first)
        same(one, BY, first.batch)
        table = deltalake.DeltaTable(root / "orders")
        assert table.metadata().partition_columns == ["country", "day"]
        assert table.to_pyarrow_table(filters=[("country", "=", "de")])["id"].to_pylist() == [1]
        moved = one.insert(BY, id=[1, 2], name=["A", "B"], country=["fr", "fr"], day=[2, 2])
        one.write(moved)
        same(one, BY, moved.batch, first.batch.slice(2))
        deltalake.DeltaTable(root / "orders").optimize.compact()
        one.write(one.insert(BY, id=[3], name=["C"]), Delete("orders", keys(BY, 2)))
        same(
            one,
            BY,
            moved.batch.slice(0, 1),
            one.batch(BY, id=[3], name=["C"], country=["ä b/%20"], day=[None]),
        )
        with pytest.raises(TaskError, match="empty text"):
            one.write(one.insert(BY, id=[9], name=["x"], country=[""], day=[0]))
    for wrong in ("nowhere", "_cq_sync_time"):
        with closing(opened(root, partition_by=(wrong,))) as destination, pytest.raises((UsageError, TaskError)):
            Lineage(destination).migrate(BY)
    with closing(opened(root)) as destination, pytest.raises(TaskError, match="partitioned by"):
        Lineage(destination).migrate(BY)


# the same as in the model --------------------------------------------------------------------------------------------


def test_any_stream_of_changes(root: Path) -> None:
    numbers = itertools.count()
    with closing(opened(root)) as destination:

        @settings(max_examples=12, deadline=None)
        @given(CHANGES, st.sampled_from(WriteMode))
        def check(changes: list[tuple[str, list[int]]], mode: WriteMode) -> None:
            table = orders(f"changes_{next(numbers)}")
            same_as_in_the_model(destination, lambda lineage: changed(lineage, table, mode, changes))

        check()


@pytest.mark.parametrize("make", [orders, unkeyed])
def test_any_passes_that_read_again(root: Path, make: Callable[..., Table]) -> None:
    numbers = itertools.count()
    with closing(opened(root)) as destination:

        @settings(max_examples=6, deadline=None)
        @given(PASSES, st.sampled_from(WriteMode))
        def check(passes: list[tuple[str, list[int]]], mode: WriteMode) -> None:
            table = make(f"{make.__name__}_{next(numbers)}")
            same_as_in_the_model(destination, lambda lineage: read_again(lineage, table, mode, passes))

        check()


# object stores -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as server:
        yield server


def test_a_lake_in_an_object_store(s3: S3) -> None:
    s3.empty()

    def there() -> DeltaDestination:
        return DeltaDestination(DeltaDestination.Spec(path="s3://bucket/lake", options=s3.options))

    with closing(there()) as destination:
        assert {probe.verdict for probe in destination.probes()} == {Verdict.OK}
        one = Lineage(destination)
        one.take_over()
        one.migrate(ORDERS, ownership=MINE)
        one.write(rows(one, 1, 2))
        one.write(rows(one, 2, 3, name="b"), Delete("orders", keys(ORDERS, 1)))
        side = refresh(one, ORDERS)
        side.write(rows(side, 4, name="new"), Complete("orders"))
    uri, options = "s3://bucket/lake/orders", {**s3.options, "allow_http": "true"}
    found = deltalake.DeltaTable(uri, storage_options=options).to_pyarrow_table()
    assert sorted(found["name"].to_pylist()) == ["b", "b"]
    with closing(there()) as one.destination:
        assert one.stored() == one.state
        same(one, ORDERS, found.select(ORDERS.schema.names).to_batches()[0])
        late = Lineage(one.destination, state=one.state, tables=dict(one.tables), epoch=1)
        one.write(Swap("orders", HIDDEN))
        with pytest.raises(StateConflictError):
            late.write(rows(late, 9))
        same(one, ORDERS, rows(one, 4, name="new").batch)
        assert one.destination._lake.store.listed(HIDDEN) == []


def test_an_object_store_whose_driver_repeats_a_commit_has_it_once(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply is lost after the object is there; the driver tries again, and is told that the name is taken."""
    s3.empty()
    create = ObjectStore.create

    def twice(self: ObjectStore, name: str, content: bytes) -> bool:
        create(self, name, content)
        return create(self, name, content)

    with closing(DeltaDestination(DeltaDestination.Spec(path="s3://bucket/lake", options=s3.options))) as destination:
        one = Lineage(destination)
        one.migrate(ORDERS)
        monkeypatch.setattr(ObjectStore, "create", twice)
        one.write(rows(one, 1))
        one.write(rows(one, 2))
        same(one, ORDERS, rows(one, 1, 2).batch)
        assert one.stored() == one.state
