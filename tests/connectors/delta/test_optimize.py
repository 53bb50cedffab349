"""`optimize` of a lake: small files are joined, leftovers removed, and nobody notices."""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from click.testing import CliRunner

from services.s3 import S3
from strandline.cli import main
from strandline.connectors.delta.delta_table import DeltaTable
from strandline.connectors.delta.destination import DeltaDestination
from strandline.destination import WriteMode
from strandline.errors import RetryableError, TaskError
from strandline.optimize import Optimized
from strandline.ownership import Owner, Ownership
from strandline.testing.destination_fixtures import orders
from strandline.testing.windows import Lineage

WEEK, HOUR = timedelta(days=7), timedelta(hours=1)
MINE = Ownership(Owner("shop", "warehouse"))
ORDERS = orders(name=pa.string(), day=pa.string())


@pytest.fixture
def lineage(tmp_path: Path) -> Iterator[Lineage]:
    with closing(opened(tmp_path)) as destination:
        yield started(destination)


def opened(tmp_path: Path) -> DeltaDestination:
    return DeltaDestination(DeltaDestination.Spec(path=str(tmp_path / "lake"), partition_by=("day",)))


def started(destination: DeltaDestination) -> Lineage:
    one = Lineage(destination)
    one.take_over()
    one.migrate(ORDERS, ownership=MINE)
    return one


def row(lineage: Lineage, number: int, name: str = "a", *, reread: bool = False) -> Any:
    return lineage.insert(ORDERS, reread=reread, id=[number], name=[name], day=[f"day {number % 2}"])


def seen(path: Path | str, options: dict[str, str] | None = None) -> list[tuple[int, str]]:
    found = deltalake.DeltaTable(path, storage_options=options).to_pyarrow_table(columns=["id", "name"])
    return sorted((one["id"], one["name"]) for one in found.to_pylist())


def aged(path: Path, age: timedelta) -> Path:
    then_s = time.time() - age.total_seconds()
    os.utime(path, (then_s, then_s))
    return path


def test_small_files_become_one_for_each_partition_and_readers_read_on(lineage: Lineage, tmp_path: Path) -> None:
    for number in range(30):
        lineage.write(row(lineage, number))
    table = tmp_path / "lake" / "orders"
    reader, state = deltalake.DeltaTable(table), lineage.state
    with closing(opened(tmp_path)) as other:
        assert other.optimizable() == ["orders"]
        assert other.optimize("orders", keep=HOUR) == Optimized(before=30, after=2, removed=0)
        assert other.optimize("orders", keep=HOUR) == Optimized(before=2, after=2, removed=0)
    assert reader.to_pyarrow_table().num_rows == 30
    assert seen(table) == [(number, "a") for number in range(30)]
    assert lineage.stored() == state


@pytest.mark.parametrize("mode", WriteMode)
def test_a_run_goes_on_after_it_as_before(lineage: Lineage, tmp_path: Path, mode: WriteMode) -> None:
    lineage.mode = mode
    lineage.write(row(lineage, 1), row(lineage, 2))
    lineage.write(row(lineage, 3), row(lineage, 4))
    with closing(opened(tmp_path)) as other:
        other.optimize("orders", keep=HOUR)
    lineage.write(row(lineage, 3, "b"))
    kept = [(3, "a")] if mode is WriteMode.APPEND else []
    assert seen(tmp_path / "lake" / "orders") == [(1, "a"), (2, "a"), *kept, (3, "b"), (4, "a")]


def test_files_that_nothing_names_go_once_they_are_old_enough(lineage: Lineage, tmp_path: Path) -> None:
    lineage.mode = WriteMode.APPEND
    lineage.write(row(lineage, 1, reread=True), row(lineage, 2, reread=True))
    root = tmp_path / "lake"
    for folder in ("_strandline/keys", "_strandline/delivered", "orders"):
        (root / folder).mkdir(exist_ok=True)
    stays = {aged(path, 2 * WEEK) for path in root.rglob("*") if path.is_file()}
    old = [
        root / place for place in ("_strandline/keys/1.arrow", "_strandline/delivered/1.arrow", "orders/part-1.parquet")
    ]
    young = [path.with_name(path.name.replace("1", "2")) for path in old]
    for path in [*old, *young]:
        path.write_bytes(b"left by a run that was killed")
        aged(path, WEEK + HOUR if path in old else WEEK - HOUR)
    with closing(opened(tmp_path)) as other:
        done = other.optimize("orders", keep=WEEK)
    assert done.removed == 3
    assert not [path for path in old if path.exists()]
    assert {*stays, *young} <= set(root.rglob("*"))
    assert seen(root / "orders") == [(1, "a"), (2, "a")]


def test_a_table_that_cannot_be_written_to_is_left_alone(lineage: Lineage, tmp_path: Path) -> None:
    lineage.write(row(lineage, 1))
    lineage.write(row(lineage, 3))
    table = tmp_path / "lake" / "orders"
    deltalake.DeltaTable(table).alter.set_table_properties({"delta.appendOnly": "true"})
    with closing(opened(tmp_path)) as other, pytest.raises(TaskError, match="append-only"):
        other.optimize("orders", keep=HOUR)
    assert len(deltalake.DeltaTable(table).file_uris()) == 2


def test_a_table_that_is_gone_is_not_made_again(lineage: Lineage, tmp_path: Path) -> None:
    lineage.write(row(lineage, 1))
    (tmp_path / "lake" / "orders").rename(tmp_path / "away")
    with closing(opened(tmp_path)) as other, pytest.raises(TaskError, match="no table 'orders'"):
        other.optimize("orders", keep=HOUR)
    assert not (tmp_path / "lake" / "orders").exists()


def test_a_window_that_was_decided_and_not_yet_said_is_said_first(
    lineage: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage.write(row(lineage, 1))
    lineage.write(row(lineage, 3))

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(DeltaTable, "_commit", cut)
        with pytest.raises(KeyboardInterrupt):
            lineage.write(row(lineage, 1, "b"))
    for path in (tmp_path / "lake" / "orders").rglob("*.parquet"):
        aged(path, 2 * WEEK)
    with closing(opened(tmp_path)) as other:
        other.optimize("orders", keep=WEEK)
    assert seen(tmp_path / "lake" / "orders") == [(1, "b"), (3, "a")]


def test_whoever_loses_to_a_run_does_it_again_later(
    lineage: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage.write(row(lineage, 1))
    lineage.write(row(lineage, 3))
    compact = deltalake.table.TableOptimizer.compact

    def overtaken(self: Any, *arguments: Any, **options: Any) -> Any:
        lineage.write(row(lineage, 1, "b"))
        return compact(self, *arguments, **options)

    monkeypatch.setattr(deltalake.table.TableOptimizer, "compact", overtaken)
    with closing(opened(tmp_path)) as other, pytest.raises(RetryableError, match="others write to it"):
        other.optimize("orders", keep=HOUR)
    assert seen(tmp_path / "lake" / "orders") == [(1, "b"), (3, "a")]


def test_in_an_object_store() -> None:
    with S3() as s3:
        spec = DeltaDestination.Spec(path="s3://bucket/lake", options=s3.options)
        with closing(DeltaDestination(spec)) as destination:
            lineage = started(destination)
            for number in range(4):
                lineage.write(row(lineage, number))
            store = destination._lake.store
            store.create("_strandline/keys/1.arrow", b"young")
            assert destination.optimize("orders", keep=HOUR) == Optimized(before=4, after=1, removed=0)
            assert store.older("_strandline/keys", -HOUR) == ["_strandline/keys/1.arrow"]
        found = seen("s3://bucket/lake/orders", {**s3.options, "allow_http": "true"})
        assert found == [(number, "a") for number in range(4)]


# the command ---------------------------------------------------------------------------------------------------------

SPEC = """
kind: source
spec: {name: made, path: test, destinations: [there], spec: {rows: 3}}
---
kind: destination
spec: {name: there, path: DESTINATION}
"""


def invoked(tmp_path: Path, destination: str, *arguments: str) -> Any:
    spec = tmp_path / "strandline.yml"
    spec.write_text(SPEC.replace("DESTINATION", destination))
    with contextlib.chdir(tmp_path):
        return CliRunner().invoke(main, [*arguments, str(spec)])


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    lake = f"delta, spec: {{path: {tmp_path}/lake}}"
    assert invoked(tmp_path, lake, "optimize").output == "there: no tables yet\n"
    for _ in range(2):
        assert invoked(tmp_path, lake, "sync", "-q").exit_code == 0
    done = invoked(tmp_path, lake, "optimize", "--select", "test_*")
    assert (done.exit_code, done.output) == (0, "there: test_1: 1 file\n")
    assert invoked(tmp_path, lake, "optimize", "--select", "tset_1").exit_code == 2


@pytest.mark.parametrize(
    ("destination", "arguments", "said"),
    [
        ("memory", (), "nothing to optimize in there (memory)"),
        ("delta, spec: {path: no-such-lake}", ("--keep", "59m"), "--keep is less than an hour"),
        ("delta, spec: {path: no-such-lake}", ("--select", "orders"), "--select orders: no such table is stored"),
    ],
)
def test_what_it_refuses(tmp_path: Path, destination: str, arguments: tuple[str, ...], said: str) -> None:
    done = invoked(tmp_path, destination, "optimize", *arguments)
    assert done.exit_code == 2
    assert said in done.output
