"""What the destinations that write to a database in a file have in common: the file, its catalog, and staging."""

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_model import CHANGES, PASSES, changed, read_again, same_as_in_the_model

from strandline.destination import MigrateMode, WriteMode
from strandline.errors import StateError, StrandlineError, TaskError
from strandline.message import Insert
from strandline.plugins import load_plugin
from strandline.table import Table
from strandline.testing.destination_fixtures import orders, same, unkeyed
from strandline.testing.windows import Lineage


@dataclass(frozen=True)
class System:
    name: str
    connect: Callable[[str], Any]
    tables: str
    """A query of the names of all tables."""


SYSTEMS = {
    "duckdb": System("DuckDB", duckdb.connect, "SELECT table_name FROM duckdb_tables() ORDER BY ALL"),
    "sqlite": System(
        "SQLite",
        partial(sqlite3.connect, isolation_level=None),
        "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
    ),
}


def opened(plugin: str, path: Path) -> Any:
    cls = load_plugin("destination", plugin)
    return cls(cls.Spec(path=str(path)))


@pytest.fixture(params=SYSTEMS)
def plugin(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def system(plugin: str) -> System:
    return SYSTEMS[plugin]


@pytest.fixture
def path(tmp_path: Path, plugin: str) -> Path:
    return tmp_path / f"warehouse.{plugin}"


@pytest.fixture
def lineage(plugin: str, path: Path) -> Iterator[Lineage]:
    with closing(opened(plugin, path)) as destination:
        yield Lineage(destination)


@pytest.fixture
def sql(system: System, path: Path) -> Callable[[str], list[tuple[Any, ...]]]:
    """A statement, as a user would give it: with another connection."""

    def run(statement: str) -> list[tuple[Any, ...]]:
        with closing(system.connect(str(path))) as connection:
            rows: list[tuple[Any, ...]] = connection.execute(statement).fetchall()
            return rows

    return run


def test_a_file_is_taken_for_what_it_is_said_to_be_whatever_another_destination_took_it_for(tmp_path: Path) -> None:
    kinds = [load_plugin("destination", name) for name in ("sqlite", "duckdb")]
    several = [cls(cls.Spec(path=str(tmp_path / "w.db"))) for cls in (*kinds, *reversed(kinds))]
    for destination in several:
        destination.close()


def test_looking_creates_no_file(lineage: Lineage, path: Path, system: System) -> None:
    found = lineage.migrate(orders(), apply=False)
    assert (found.mark, found.empty) == (None, True)
    assert found.changes[0].ddl[0].startswith('CREATE TABLE "main"."orders"')
    assert lineage.states.load("shop") == {}
    with pytest.raises(TaskError, match=f"there is no {system.name} file"):
        lineage.read(orders())
    assert not path.exists()


class TestCatalog:
    def test_states_that_are_gone_in_part_are_not_taken_for_none(
        self, lineage: Lineage, sql: Callable[[str], list[tuple[Any, ...]]]
    ) -> None:
        lineage.migrate(orders())
        lineage.write(lineage.insert(orders(), id=[1], name=["a"], note=["x"]))
        lineage.destination.close()
        sql("DROP TABLE cq_state")
        with pytest.raises(StateError, match="cq_state is gone"):
            lineage.stored()
        with pytest.raises(StateError, match="cq_state is gone"):
            lineage.write(lineage.insert(orders(), id=[2], name=["a"], note=["x"]))
        assert sql("SELECT id FROM orders") == [(1,)]

    def test_names_that_differ_by_case_are_refused(
        self, lineage: Lineage, system: System, sql: Callable[[str], list[tuple[Any, ...]]]
    ) -> None:
        twins = Table("twins", pa.schema([("a", pa.int64()), ("A", pa.int64())]))
        with pytest.raises(TaskError, match="'a' are one column"):
            lineage.migrate(twins)
        lineage.migrate(orders())
        row = lineage.insert(orders(), id=[1], name=["a"], note=["x"])
        lineage.write(row)
        fields = [*orders().schema, pa.field("NOTE", pa.string())]
        for mode in MigrateMode:
            with pytest.raises(TaskError, match="'orders' are one table"):
                lineage.migrate(orders("Orders"), mode=mode)
            with pytest.raises(TaskError, match="one column"):
                lineage.migrate(Table("orders", pa.schema(fields), ("id",)), mode=mode)
        renamed = [*list(orders().schema)[:-1], pa.field("NOTE", pa.string())]
        with pytest.raises(TaskError, match="'note' are one column"):
            lineage.migrate(Table("orders", pa.schema(renamed), ("id",)))
        same(lineage, orders(), row.batch)
        assert [name for (name,) in sql(system.tables)] == [
            "cq_delivered",
            "cq_state",
            "cq_state_history",
            "cq_tables",
            "orders",
        ]

    def test_the_names_of_our_own_tables_and_columns_are_refused(self, lineage: Lineage) -> None:
        for name in ("cq_state", "CQ_State_History", "cq_delivered"):
            with pytest.raises(TaskError, match="Strandline's own"):
                lineage.migrate(orders(name))
        with pytest.raises(TaskError, match="Strandline's own"):
            lineage.migrate(orders(_cq_stage_sequence=pa.int64()))

    def test_a_view_is_left_alone(self, lineage: Lineage, sql: Callable[[str], list[tuple[Any, ...]]]) -> None:
        sql("CREATE VIEW orders AS SELECT 1 AS id")
        for mode in MigrateMode:
            with pytest.raises(TaskError, match="is a view"):
                lineage.migrate(orders(), mode=mode)

    def test_a_table_that_is_dropped_between_windows_fails_and_nothing_is_saved(
        self, lineage: Lineage, sql: Callable[[str], list[tuple[Any, ...]]]
    ) -> None:
        lineage.migrate(orders())
        before = lineage.write(lineage.insert(orders(), id=[1], name=["a"], note=["x"])).state
        sql("DROP TABLE orders")
        with pytest.raises(TaskError, match="orders"):
            lineage.write(lineage.insert(orders(), id=[2], name=["a"], note=["x"]))
        assert lineage.stored() == before

    def test_a_column_of_nulls_becomes_what_comes_later(self, lineage: Lineage) -> None:
        nulls, texts = orders(value=pa.null()), orders(value=pa.string())
        lineage.migrate(nulls)
        lineage.write(lineage.insert(nulls, id=[1], value=[None]))
        assert [change.kind for change in lineage.migrate(texts).changes] == ["widen_column", "record"]
        lineage.write(lineage.insert(texts, id=[2], value=["a"]))
        assert lineage.migrate(nulls).changes == ()
        lineage.write(lineage.insert(nulls, id=[3], value=[None]))
        same(lineage, texts, lineage.batch(texts, id=[1, 2, 3], value=[None, "a", None]))

    @pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
    def test_a_default_of_the_user_s_is_not_stored_for_what_is_absent(
        self, lineage: Lineage, sql: Callable[[str], list[tuple[Any, ...]]], mode: WriteMode
    ) -> None:
        sql("CREATE TABLE orders (id BIGINT, name VARCHAR, note VARCHAR DEFAULT 'none')")
        lineage.mode = mode
        lineage.migrate(orders())
        rows = lineage.insert(orders(), id=[1, 2], name=["a", "b"])
        lineage.write(rows)
        again = lineage.insert(orders(), id=[3], name=["c"], reread=True)
        lineage.write(again)
        same(lineage, orders(), rows.batch, again.batch)


@pytest.fixture(scope="module", params=SYSTEMS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A destination for all tests of one system."""
    with closing(opened(request.param, tmp_path_factory.mktemp("shared") / request.param)) as destination:
        destination.usual_bytes_max = destination.staged_bytes_max
        yield destination


@pytest.mark.parametrize("bytes_max", [None, 0], ids=["within memory", "beyond memory"])
class TestStaging:
    """Whatever comes, in whatever windows: the same as in the model, within memory and beyond it."""

    @pytest.fixture(autouse=True)
    def bounds(self, shared: Any, bytes_max: int | None) -> None:
        shared.staged_bytes_max = shared.usual_bytes_max if bytes_max is None else bytes_max

    def test_any_stream_of_changes(self, shared: Any, bytes_max: int | None) -> None:
        numbers = itertools.count()

        @settings(max_examples=30)
        @given(CHANGES, st.sampled_from(WriteMode))
        def check(changes: list[tuple[str, list[int]]], mode: WriteMode) -> None:
            table = orders(f"changes_{bytes_max}_{next(numbers)}")
            same_as_in_the_model(shared, lambda lineage: changed(lineage, table, mode, changes))

        check()

    @pytest.mark.parametrize("make", [orders, unkeyed])
    def test_any_passes_that_read_again(self, shared: Any, bytes_max: int | None, make: Callable[..., Table]) -> None:
        numbers = itertools.count()

        @settings(max_examples=30)
        @given(PASSES, st.sampled_from(WriteMode))
        def check(passes: list[tuple[str, list[int]]], mode: WriteMode) -> None:
            table = make(f"{make.__name__}_{bytes_max}_{next(numbers)}")
            same_as_in_the_model(shared, lambda lineage: read_again(lineage, table, mode, passes))

        check()


def test_a_window_beyond_memory_is_stored_as_one_within(lineage: Lineage) -> None:
    lineage.destination.staged_bytes_max = 100_000  # type: ignore[attr-defined]
    table, count = orders(), 20_000
    lineage.migrate(table)
    batches = [
        lineage.batch(table, id=list(range(at, at + 1000)), name=[f"{at}"] * 1000, note=["x"] * 1000)
        for at in [*range(0, count, 1000), *range(0, count, 2000)]
    ]
    receipt = lineage.write(*(Insert("orders", batch) for batch in batches))
    assert receipt.rows == {"orders": 30_000}
    same(lineage, table, *batches[:20])


def test_no_row_of_a_window_that_fails_in_the_middle_is_left(lineage: Lineage) -> None:
    lineage.destination.staged_bytes_max = 0  # type: ignore[attr-defined]
    lineage.migrate(orders())
    good = lineage.insert(orders(), id=[1], name=["a"], note=["x"])
    with pytest.raises(StrandlineError):
        lineage.write(good, lineage.insert(orders(), id=[None], name=["b"], note=["x"]))
    same(lineage, orders())
    lineage.write(good)
    same(lineage, orders(), good.batch)
