"""The SQL that the destinations share, on DuckDB and on SQLite: what it does, and that no name breaks out of it."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strandline.connectors.arrow.widening import Fit, fit, grown_from, grows
from strandline.connectors.duckdb.dialect import DuckDBDialect
from strandline.connectors.sql.dialect import SEQUENCE, Dialect, Statement
from strandline.connectors.sql.staging import Op, Staging, Step
from strandline.destination import Scope, WriteMode
from strandline.errors import TaskError
from strandline.message import Checkpoint, Complete, Delete, Insert, Present, Replace
from strandline.table import CLIENT_ID, SOURCE_NAME, Table
from strandline.testing.destination_fixtures import keys, orders
from strandline.testing.windows import Lineage


class SQLiteDialect(Dialect):
    name = "SQLite"
    blob_type = "BLOB"


class Connection:
    """A database of either kind, in memory."""

    def __init__(self, dialect: Dialect, connection: Any) -> None:
        self.sql, self._connection = dialect, connection

    def run(self, statement: Statement | str) -> list[tuple[Any, ...]]:
        text, values = statement if isinstance(statement, Statement) else (statement, ())
        rows: list[tuple[Any, ...]] = self._connection.execute(text, list(values)).fetchall()
        return rows

    def table(self, name: str, columns: Sequence[str], *rows: Sequence[Any]) -> str:
        relation = self.sql.quote(name)
        self.run(f"DROP TABLE IF EXISTS {relation}")
        self.run(f"CREATE TABLE {relation} ({', '.join(self.sql.quote(one) + ' INTEGER' for one in columns)})")
        for row in rows:
            self.run(Statement(f"INSERT INTO {relation} VALUES ({', '.join('?' for _ in row)})", tuple(row)))
        return relation

    def rows(self, relation: str) -> list[tuple[Any, ...]]:
        return sorted(self.run(f"SELECT * FROM {relation}"), key=repr)

    def close(self) -> None:
        self._connection.close()


def connect(kind: str) -> Connection:
    if kind == "duckdb":
        return Connection(DuckDBDialect(), duckdb.connect())
    return Connection(SQLiteDialect(), sqlite3.connect(":memory:"))


@pytest.fixture(params=["duckdb", "sqlite"])
def database(request: pytest.FixtureRequest) -> Iterator[Connection]:
    connection = connect(request.param)
    yield connection
    connection.close()


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_any_name_is_quoted_to_mean_itself(kind: str) -> None:
    database = connect(kind)

    @given(st.lists(st.text(min_size=1).filter(lambda name: "\0" not in name), min_size=2, max_size=2))
    def check(names: list[str]) -> None:
        table, column = names
        relation = database.table(table, [column], [7])
        catalog = {
            "duckdb": "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal",
            "sqlite": "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c",
        }
        assert database.run(catalog[kind]) == [(table, column)]
        assert database.run(f"SELECT t.{database.sql.quote(column)} FROM {relation} AS t") == [(7,)]
        database.run(f"DROP TABLE {relation}")

    check()
    database.close()


def test_a_name_that_no_identifier_can_hold_is_refused() -> None:
    for name in ("", "a\0b"):
        with pytest.raises(TaskError, match="cannot be a name"):
            DuckDBDialect().quote(name)


def test_rows_are_replaced_by_key(database: Connection) -> None:
    into = database.table("t", ["a", "b", "v"], [1, 1, 10], [1, 2, 20], [2, 1, 30])
    stage = database.table("stage", ["a", "b", "v"], [1, 2, 21], [3, 1, 40])
    database.run(database.sql.delete_matching(into, ["a", "b"], stage))
    database.run(database.sql.insert(into, ["v", "b", "a"], stage))
    assert database.rows(into) == [(1, 1, 10), (1, 2, 21), (2, 1, 30), (3, 1, 40)]


def test_some_columns_are_replaced_by_key(database: Connection) -> None:
    into = database.table("t", ["id", "v", "w"], [1, 10, 11], [2, 20, 21])
    stage = database.table("stage", ["id", "v"], [2, None], [3, 30])
    database.run(database.sql.update_matching(into, ["id", "v"], ["id"], stage))
    database.run(database.sql.insert_from(into, ["id", "v"], database.sql.missing(into, ["id"], stage)))
    assert database.rows(into) == [(1, 10, 11), (2, None, 21), (3, 30, None)]


def test_the_last_row_of_a_key_is_the_last_in_the_stream(database: Connection) -> None:
    stage = database.table("stage", ["id", "v", SEQUENCE], [1, 9, 0], [2, 5, 1], [1, 3, 2], [1, 4, 3])
    assert database.run(Statement(f"SELECT count(*) FROM {database.sql.different_keys(['id'], stage)}")) == [(2,)]
    latest = database.run(database.sql.latest(["id", "v"], ["id"], stage))
    assert sorted(latest) == [(1, 4, 3), (2, 5, 1)]


def test_a_row_stays_away_if_its_key_was_deleted_after_it(database: Connection) -> None:
    into = database.table("t", ["id", "v"])
    stage = database.table("stage", ["id", "v", SEQUENCE], [1, 10, 0], [2, 20, 3], [3, 30, 4])
    deleted = database.table("deleted", ["id", SEQUENCE], [1, 1], [2, 2], [9, 5])
    database.run(database.sql.insert_from(into, ["id", "v"], database.sql.not_deleted(["id"], stage, deleted)))
    assert database.rows(into) == [(2, 20), (3, 30)]


def test_a_scope_is_a_source_and_a_partition(database: Connection) -> None:
    columns = [SOURCE_NAME, CLIENT_ID, "id"]
    into = database.table("t", columns, [1, None, 1], [1, 5, 2], [1, 6, 3], [2, None, 4], [None, None, 5])

    def ids(source: int, partition: int | None) -> list[int]:
        scope = Scope(source, partition, 0)  # type: ignore[arg-type]  # numbers, so that both databases compare alike
        text, values = database.sql.in_scope("t", columns, scope)
        return [row[0] for row in database.run(Statement(f"SELECT t.id FROM {into} AS t WHERE {text}", values))]

    assert ids(1, None) == [1]
    assert ids(1, 5) == [2]
    assert ids(2, None) == [4]
    assert ids(2, 5) == []


def test_a_table_that_does_not_say_whose_rows_are_has_no_scope() -> None:
    for columns, partition in ((["id"], None), (["id", SOURCE_NAME], "eu")):
        with pytest.raises(TaskError, match="not known which rows may be deleted"):
            DuckDBDialect().in_scope("t", columns, Scope("shop", partition, 0))


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        ("INTEGER", "INTEGER", Fit.SAME),
        ("INTEGER", "BIGINT", Fit.WIDEN),
        ("BIGINT", "INTEGER", Fit.SAME),
        ("UINTEGER", "INTEGER", Fit.NOT),
        ("UINTEGER", "BIGINT", Fit.WIDEN),
        ("BIGINT", "UBIGINT", Fit.NOT),
        ("FLOAT", "DOUBLE", Fit.WIDEN),
        ("INTEGER", "DOUBLE", Fit.WIDEN),
        ("INTEGER", "FLOAT", Fit.NOT),
        ("BIGINT", "DOUBLE", Fit.BY_VALUE),
        ("DECIMAL(10,2)", "DECIMAL(12,2)", Fit.WIDEN),
        ("DECIMAL(10,2)", "DECIMAL(12,4)", Fit.WIDEN),
        ("DECIMAL(10,2)", "DECIMAL(11,4)", Fit.NOT),
        ("BIGINT", "DECIMAL(19,0)", Fit.WIDEN),
        ("BIGINT", "DECIMAL(20,2)", Fit.NOT),
        ("TIMESTAMP", "TIMESTAMP_NS", Fit.WIDEN),
        ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", Fit.NOT),
        ("DATE", "TIMESTAMP", Fit.WIDEN),
        ("TIMESTAMP", "DATE", Fit.SAME),
        ("DATE", "TIMESTAMP WITH TIME ZONE", Fit.NOT),
        ("DOUBLE", "BIGINT", Fit.NOT),
        ("VARCHAR", "BIGINT", Fit.NOT),
        ("BIGINT", "VARCHAR", Fit.NOT),
        ("INTEGER[]", "BIGINT[]", Fit.NOT),
    ],
)
def test_a_column_is_widened_only_where_nothing_is_lost(stored: str, wanted: str, expected: Fit) -> None:
    assert fit((stored, ""), (wanted, "")) is expected


def test_what_the_type_does_not_say_counts_too() -> None:
    assert fit(("BIGINT", "duration[s]"), ("BIGINT", "duration[ms]")) is Fit.NOT
    assert fit(("BIGINT", "duration[s]"), ("BIGINT", "")) is Fit.NOT
    assert fit(("BOOLEAN", "null"), ("VARCHAR", "")) is Fit.EMPTY
    assert fit(("VARCHAR", ""), ("BOOLEAN", "null")) is Fit.SAME


class Spills:
    """Counts what a staging moves out of memory."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, step: Step) -> None:
        self.rows += sum(batch.num_rows for batch in step.batches)
        step.spilled = step.rows
        step.batches.clear()
        step.starts.clear()


def staged(
    mode: WriteMode, *messages: Any, tables: Sequence[Table] = (), bytes_max: int = 1 << 20
) -> tuple[Staging, Spills]:
    lineage, spills = Lineage(None, mode), Spills()  # type: ignore[arg-type]  # a window needs no destination
    lineage.tables = {table.name: table for table in tables}
    staging = Staging(mode, prepare=lambda _table, batch, _version: batch, spill=spills, bytes_max=bytes_max)
    staging.take(lineage.window([*messages, Checkpoint(None)]))
    return staging, spills


def insert(table: Table, *ids: int) -> Insert:
    return Insert(table.name, Lineage(None).batch(table, id=list(ids), name=["a"] * len(ids), note=["b"] * len(ids)))  # type: ignore[arg-type]


def test_a_stream_of_changes_is_one_step() -> None:
    table = orders()
    changes = [message for at in range(50) for message in (insert(table, at), Delete("orders", keys(table, at)))]
    staging, _ = staged(WriteMode.OVERWRITE, *changes, tables=[table])
    (step,) = staging.steps
    assert (step.op, step.rows, step.starts) == (Op.INSERT, 50, list(range(0, 100, 2)))
    assert step.keys is not None
    assert step.keys.starts == list(range(1, 100, 2))


def test_the_rows_of_many_parents_are_replaced_in_one_step() -> None:
    table = orders()
    pages = [(Replace("orders", pa.record_batch({"name": [str(at)]})), insert(table, at)) for at in range(50)]
    staging, _ = staged(WriteMode.OVERWRITE, *(message for page in pages for message in page), tables=[table])
    (step,) = staging.steps
    assert (step.op, step.rows, step.starts) == (Op.INSERT, 50, list(range(1, 100, 2)))
    assert step.keys is not None
    assert (step.keys.op, step.keys.starts) == (Op.REPLACE, list(range(0, 100, 2)))


def test_keys_of_nothing_are_nothing() -> None:
    table, none = orders(), pa.record_batch({"id": pa.array([], pa.int64())})
    for gone in (Delete("orders", none), Replace("orders", none)):
        staging, _ = staged(WriteMode.OVERWRITE, gone, insert(table, 1), gone, tables=[table])
        (step,) = staging.steps
        assert step.keys is None


def test_deletes_among_parts_of_rows_keep_their_place() -> None:
    table = orders()
    part = Insert("orders", insert(table, 1).batch.drop_columns(["note"]))
    staging, _ = staged(WriteMode.OVERWRITE, part, Delete("orders", keys(table, 1)), part, tables=[table])
    assert [step.op for step in staging.steps] == [Op.INSERT, Op.DELETE, Op.INSERT]


def test_tables_do_not_disturb_each_other() -> None:
    one, other = orders("one"), orders("other")
    messages = [message for at in range(9) for message in (insert(one, at), insert(other, at))]
    staging, _ = staged(WriteMode.APPEND, *messages, tables=[one, other])
    assert [(step.name, step.rows) for step in staging.steps] == [("one", 9), ("other", 9)]


def test_the_keys_of_a_sweep_wait_for_the_end_of_the_table() -> None:
    table = orders()
    present = [Present("orders", keys(table, at)) for at in range(3)]
    staging, _ = staged(WriteMode.OVERWRITE, insert(table, 1), *present, Complete("orders"), tables=[table])
    assert [step.op for step in staging.steps] == [Op.INSERT, Op.COMPLETE]
    assert staging.steps[1].keys is not None
    assert staging.steps[1].keys.rows == 3


def test_an_empty_sweep_is_a_sweep() -> None:
    table = orders()
    staging, _ = staged(WriteMode.OVERWRITE, Present("orders", keys(table)), Complete("orders"), tables=[table])
    assert staging.steps[0].keys is not None
    staging, _ = staged(WriteMode.OVERWRITE, Complete("orders"), tables=[table])
    assert staging.steps[0].keys is None


def test_memory_is_bounded() -> None:
    table = orders()
    messages = [insert(table, *range(at, at + 100)) for at in range(0, 10_000, 100)]
    bound = 4 * messages[0].batch.nbytes
    staging, spills = staged(WriteMode.APPEND, *messages, tables=[table], bytes_max=bound)
    (step,) = staging.steps
    assert step.rows == 10_000
    assert spills.rows == step.spilled
    assert sum(batch.nbytes for batch in step.batches) <= bound


def test_keys_that_are_not_the_table_s_are_refused() -> None:
    table = orders()
    for batch in (pa.record_batch({"name": ["a"]}), pa.record_batch({"id": [None]}, pa.schema([("id", pa.int64())]))):
        with pytest.raises(TaskError):
            staged(WriteMode.OVERWRITE, Delete("orders", batch), tables=[table])


def _struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct(list(fields.items()))


@pytest.mark.parametrize(
    ("stored", "wanted", "yes"),
    [
        (_struct(a=pa.int64()), _struct(a=pa.int64(), b=pa.string()), True),
        (_struct(b=pa.string()), _struct(a=pa.int64(), b=pa.string()), True),
        (_struct(a=pa.int64(), b=pa.string()), _struct(a=pa.int64()), False),
        (_struct(a=pa.int64()), _struct(a=pa.string()), False),
        (_struct(a=pa.int64()), _struct(ab=pa.int64()), False),
        (pa.list_(_struct(a=pa.int64())), pa.list_(_struct(a=pa.int64(), b=_struct(c=pa.int8()))), True),
        (
            _struct(s=_struct(x=pa.int8()), t=pa.bool_()),
            _struct(s=_struct(x=pa.int8(), y=pa.int8()), t=pa.bool_()),
            True,
        ),
        (_struct(a=pa.list_(pa.int8())), _struct(a=pa.list_(pa.int16())), False),
        (_struct(**{"a: b, c": pa.int8()}), _struct(**{"a: b, c": pa.int8(), ">": pa.int8()}), True),
        (pa.list_(pa.int8()), _struct(a=pa.int8()), False),
        (pa.timestamp("us", "UTC"), pa.timestamp("us", "UTC"), True),
    ],
)
def test_a_struct_grows_by_fields_and_by_nothing_else(stored: pa.DataType, wanted: pa.DataType, *, yes: bool) -> None:
    assert grows(stored, wanted) is yes
    assert grown_from(str(stored), wanted) is yes
