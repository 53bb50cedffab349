"""Destinations of one place and different schemas: they have nothing of each other, neither rows nor delivered sets."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from strandline.connectors.files.destination import FilesDestination
from strandline.connectors.memory.destination import MemoryDestination
from strandline.connectors.sqlite.destination import SQLiteDestination
from strandline.destination import MigrateMode, WriteMode
from strandline.errors import StateError, TaskError, UsageError
from strandline.message import Complete, Forget, Swap
from strandline.plugins import load_plugin
from strandline.testing.destination_fixtures import orders, unkeyed
from strandline.testing.windows import Lineage

PLACES = {
    "duckdb": lambda root: {"path": str(root / "w.duckdb")},
    "sqlite": lambda root: {"path": str(root / "w.sqlite")},
    "files": lambda root: {"path": str(root / "lake")},
    "memory": lambda root: {"name": str(root)},
    "postgresql": None,
}
PAIRS = [(None, "a"), ("a", "b"), ("a", "A b")]


@pytest.fixture(params=PLACES)
def two(request, tmp_path) -> Callable[..., tuple[Lineage, Lineage]]:
    """Two tasks, each in a destination of its own, with these schemas."""
    cls = load_plugin("destination", request.param)
    of = PLACES[request.param]
    place = of(tmp_path) if of else {"connection_string": request.getfixturevalue("postgresql")}
    opened = []

    def two(*schemas, mode=WriteMode.APPEND):
        made = [cls(cls.Spec(**place, **({"schema": schema} if schema else {}))) for schema in schemas]
        opened.extend(made)
        return tuple(Lineage(one, mode, task=f"of {schema}") for one, schema in zip(made, schemas, strict=True))

    yield two
    for one in opened:
        one.close()


def rows(lineage, table=None, **options):
    table = table or orders()
    columns = {"name": ["a", "b"]} | ({} if table.primary_key[0] != "id" else {"note": ["x", "y"]})
    return lineage.insert(table, id=[1, 2], **columns, **options)


def ids(lineage, table=None):
    return sorted(one for batch in lineage.read(table or orders()) for one in batch.column("id").to_pylist())


@pytest.mark.parametrize("schemas", PAIRS)
def test_rows_are_apart(two, schemas):
    one, other = two(*schemas)
    one.migrate(orders())
    one.write(rows(one))
    assert other.migrate(orders(), apply=False).mark is None
    with pytest.raises(TaskError):
        ids(other)
    other.migrate(orders())
    assert (ids(one), ids(other)) == ([1, 2], [])
    assert one.migrate(orders()).mark != other.migrate(orders()).mark


@pytest.mark.parametrize("table", [orders(), unkeyed()], ids=["keyed", "unkeyed"])
@pytest.mark.parametrize("schemas", PAIRS)
def test_delivered_sets_are_apart(two, schemas, table):
    one, other = two(*schemas)
    one.migrate(table)
    one.write(rows(one, table, reread=True))
    other.migrate(table)  # a table that is made forgets what was delivered into one of its name
    other.write(rows(other, table, reread=True))
    for lineage in (one, other):
        lineage.write(Complete(table.name))
        lineage.next_pass()
        receipt = lineage.write(rows(lineage, table, reread=True), Complete(table.name))
        assert (receipt.rows, receipt.known) == ({table.name: 2}, {table.name: 2})
        assert ids(lineage, table) == [1, 2]


@pytest.mark.parametrize("two", [name for name in PLACES if name != "files"], indirect=True)
@pytest.mark.parametrize("schemas", PAIRS)
def test_full_refreshes_are_apart(two, schemas):
    one, other = two(*schemas, mode=WriteMode.OVERWRITE)
    hidden = orders().named("_cq_refresh_0")
    for lineage in (one, other):
        lineage.migrate(orders(), hidden)
        lineage.write(rows(lineage))
        lineage.tables = {"orders": hidden}
        lineage.write(lineage.insert(orders(), id=[3], name=["c"], note=["z"]))
        lineage.tables = {"orders": orders()}
    one.write(Swap("orders", hidden.name))
    assert (ids(one), ids(other), ids(other, hidden)) == ([3], [1, 2], [3])
    assert one.migrate(hidden, apply=False).mark is None
    one.write(Forget(hidden.name, drop=True))
    assert ids(other, hidden) == [3]
    other.write(Forget(hidden.name, drop=True))
    assert other.migrate(hidden, apply=False).mark is None
    assert (ids(one), ids(other)) == ([3], [1, 2])


@pytest.mark.parametrize("schemas", PAIRS)
def test_a_table_that_is_created_again_is_one_of_its_schema(two, schemas):
    one, other = two(*schemas)
    for lineage in (one, other):
        lineage.migrate(orders())
        lineage.write(rows(lineage, reread=True), Complete("orders"))
    one.migrate(orders(name=pa.binary(), note=pa.string()), mode=MigrateMode.FORCED)
    assert ids(one, orders(name=pa.binary(), note=pa.string())) == []
    other.next_pass()
    other.write(rows(other, reread=True))
    assert ids(other) == [1, 2]


class TestSQLite:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "w.sqlite"

    def opened(self, path, schema, **more):
        return Lineage(SQLiteDestination(SQLiteDestination.Spec(path=str(path), schema=schema, **more)))

    def test_the_schema_is_a_prefix_and_our_own_tables_are_one_set(self, path):
        for schema in ("main", "crm", 'my "own"'):
            lineage = self.opened(path, schema)
            lineage.task = schema
            lineage.migrate(orders())
            lineage.write(rows(lineage))
            lineage.destination.close()
        with closing(sqlite3.connect(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            (count,) = connection.execute("SELECT count(*) FROM cq_state").fetchone()
        assert tables == {
            "orders",
            "crm_orders",
            'my "own"_orders',
            "cq_state",
            "cq_state_history",
            "cq_delivered",
            "cq_tables",
        }
        assert count == 3

    def test_main_is_no_prefix_in_any_case(self, path):
        lineage = self.opened(path, "MAIN")
        assert lineage.migrate(orders(), apply=False).changes[0].ddl[0].startswith('CREATE TABLE "main"."orders" ')
        lineage.destination.close()

    def test_what_is_said_names_the_stored_table(self, path):
        lineage = self.opened(path, "crm")
        for apply in (False, True, False):
            found = lineage.migrate(orders(), apply=apply)
            assert all(change.table == "crm_orders" and '"crm_orders"' in change.ddl[0] for change in found.changes)
        with pytest.raises(TaskError, match="table 'crm_orders' cannot be made to fit"):
            lineage.migrate(orders(name=pa.binary(), note=pa.string()))
        with pytest.raises(TaskError, match=r"crm_orders\.id: a row has a null in its primary key"):
            lineage.write(lineage.insert(orders(), id=[None], name=["a"], note=["b"]))
        assert "under names that begin with crm_" in " ".join(one.found for one in lineage.destination.probes())
        lineage.destination.close()

    @pytest.mark.parametrize("schema", ["", "sqlite", "SQLite_x", "cq", "CQ_a", "_cq"])
    def test_a_prefix_that_makes_reserved_names_is_refused(self, path, schema):
        with pytest.raises(ValidationError):
            self.opened(path, schema)

    @pytest.mark.parametrize("schema", ["cqs", "sqlites", "größe", "a.b", "*"])
    def test_any_other_is_one(self, path, schema):
        lineage = self.opened(path, schema)
        lineage.migrate(orders())
        lineage.write(rows(lineage))
        assert ids(lineage) == [1, 2]
        lineage.destination.close()


class TestFiles:
    @pytest.fixture
    def opened(self, tmp_path):
        made = []

        def opened(schema=None, path="lake"):
            settings = {"path": str(tmp_path / path)} | ({"schema": schema} if schema else {})
            made.append(FilesDestination(FilesDestination.Spec(**settings)))
            return Lineage(made[-1], WriteMode.APPEND)

        yield opened
        for one in made:
            one.close()

    def filled(self, lineage, table):
        lineage.migrate(table)
        lineage.write(rows(lineage, table))
        return lineage

    def test_the_schema_is_a_directory_with_a_log_of_its_own(self, opened, tmp_path):
        self.filled(opened(), orders())
        self.filled(opened("crm"), orders())
        lake = tmp_path / "lake"
        assert {path.parent.relative_to(lake) for path in lake.rglob("*.parquet")} == {
            Path("orders"),
            Path("crm/orders"),
        }
        logs = [json.loads(path.read_text().split("\n")[0])["tables"] for path in lake.rglob("*.commit")]
        assert len({path.parent for path in lake.rglob("*.commit")}) == 2
        assert {name for tables in logs for name in tables} == {"orders"}

    @pytest.mark.parametrize("schema", ["..", ".strandline", "a/b", "CON", "größe", "."])
    def test_it_is_one_directory_below_the_path_whatever_its_name(self, opened, tmp_path, schema):
        self.filled(opened(schema), orders())
        self.filled(opened(), orders())
        (file,) = [one for one in tmp_path.rglob("*.parquet") if one.parent.parent != tmp_path / "lake"]
        assert file.parents[2] == tmp_path / "lake"
        assert file.parents[1].name != ".strandline"

    def test_a_directory_is_of_a_table_or_of_a_schema(self, opened, tmp_path):
        self.filled(opened(), orders("crm"))
        for apply in (False, True):
            with pytest.raises(UsageError, match="has the files of the table 'crm'") as caught:
                opened("crm").migrate(orders(), apply=apply)
            assert caught.value.hint
        assert not (tmp_path / "lake" / "crm" / ".strandline").exists()
        assert ids(opened(), orders("crm")) == [1, 2]

    def test_whichever_comes_first(self, opened):
        self.filled(opened("crm"), orders())
        for apply in (False, True):
            with pytest.raises(TaskError, match="is the root of another destination"):
                opened().migrate(orders("crm"), apply=apply)
        self.filled(opened(), orders())
        assert ids(opened("crm")) == [1, 2]

    def test_schemas_may_stand_in_each_other(self, opened):
        self.filled(opened("b", "lake/a"), orders())
        self.filled(opened("a"), orders())
        assert ids(opened("b", "lake/a")) == ids(opened("a")) == [1, 2]
        with pytest.raises(TaskError, match="is the root of another destination"):
            opened("a").migrate(orders("b"))

    def test_a_path_that_only_schemas_use_is_no_destination_yet(self, opened, tmp_path):
        self.filled(opened("crm"), orders())
        assert opened().migrate(orders(), apply=False).mark is None
        assert opened().stored() is None
        assert not (tmp_path / "lake" / ".strandline" / "log").exists()

    def test_a_root_that_was_begun_by_a_killed_run_is_finished(self, opened, tmp_path):
        (tmp_path / "lake" / "crm" / ".strandline").mkdir(parents=True)
        assert opened("crm").stored() is None
        self.filled(opened("crm"), orders())
        assert ids(opened("crm")) == [1, 2]

    def test_a_damaged_log_of_the_path_stops_no_schema_that_has_begun(self, opened, tmp_path):
        self.filled(opened(), orders())
        self.filled(opened("crm"), orders())
        for path in (tmp_path / "lake" / ".strandline" / "log").iterdir():
            path.write_text("damaged")
        assert opened("crm").migrate(orders("items")).mark
        assert ids(opened("crm")) == [1, 2]
        with pytest.raises(StateError, match="not an entry of a commit log"):
            opened("new").migrate(orders())


def test_a_store_in_memory_is_forgotten_with_all_its_schemas(tmp_path):
    name = str(tmp_path)
    made = {schema: Lineage(MemoryDestination(MemoryDestination.Spec(name=name, schema=schema))) for schema in "ab"}
    for lineage in made.values():
        lineage.migrate(orders())
    MemoryDestination.reset(name)
    for schema in made:
        again = Lineage(MemoryDestination(MemoryDestination.Spec(name=name, schema=schema)))
        assert again.migrate(orders(), apply=False).mark is None
