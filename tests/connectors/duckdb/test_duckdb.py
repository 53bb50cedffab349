"""What is DuckDB's own: its file and lock, its catalog, its types at their limits, and staging beyond memory."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from window_model import WRITER, check_what_is_there

from strandline.connectors.duckdb.destination import DuckDBDestination
from strandline.destination import Fence, MigrateMode
from strandline.errors import LockedError, TaskError, UsageError
from strandline.message import Delete, Insert
from strandline.table import SOURCE_NAME, SYNC_TIME, Table, sync_time_type
from strandline.testing.destination_fixtures import keys, orders, same
from strandline.testing.windows import Lineage

FENCE = Fence("shop", "warehouse", 1, "run-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def open_one(path: Path) -> Iterator[Callable[..., DuckDBDestination]]:
    opened: list[DuckDBDestination] = []

    def make(**spec: Any) -> DuckDBDestination:
        opened.append(DuckDBDestination(DuckDBDestination.Spec(**({"path": str(path)} | spec))))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def lineage(open_one: Callable[..., DuckDBDestination]) -> Lineage:
    return Lineage(open_one())


def sql(path: Path, *statements: str) -> list[tuple[Any, ...]]:
    """As a user would, with another connection of this process."""
    with duckdb.connect(str(path)) as connection:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


@pytest.mark.parametrize("step", [1, -1], ids=["ascending", "descending"])
def test_a_window_of_several_row_groups_is_stored_whole(lineage: Lineage, path: Path, step: int) -> None:
    table, size = orders(), 50_000
    lineage.migrate(table)
    starts = range(0, 6 * size, size)
    for name in ("old", "new"):
        messages = [
            lineage.insert(table, id=list(range(start, start + size)), name=[name] * size, note=[str(start)] * size)
            for start in starts[::step]
        ]
        lineage.write(*messages)
    lineage.destination.close()
    found = sql(path, "SELECT name, note, count(*), min(id), max(id) FROM orders GROUP BY ALL ORDER BY min(id)")
    assert found == [("new", str(start), size, start, start + size - 1) for start in starts]


class TestFile:
    def test_a_file_in_use_by_another_process_is_locked_and_its_holder_named(
        self, open_one: Callable[..., DuckDBDestination], path: Path
    ) -> None:
        code = f"import duckdb, sys; c = duckdb.connect({str(path)!r}); print('open', flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "open\n"
            with pytest.raises(LockedError, match=f"process {holder.pid}") as raised:
                open_one().migrate(orders(), mode=MigrateMode.SAFE, fence=FENCE)
            assert str(holder.pid) in raised.value.hint
            holder.communicate()
        assert open_one().migrate(orders(), mode=MigrateMode.SAFE, fence=FENCE).mark

    def test_what_is_not_a_database_is_a_wrong_setting(
        self, open_one: Callable[..., DuckDBDestination], tmp_path: Path
    ) -> None:
        (tmp_path / "text").write_text("not a database" * 1000)
        for wrong in ({"path": str(tmp_path / "text")}, {"path": str(tmp_path / "nowhere" / "x.duckdb")}):
            with pytest.raises(UsageError):
                open_one(**wrong).migrate(orders(), mode=MigrateMode.SAFE, fence=FENCE)
        with pytest.raises(UsageError, match="memory_limit"):
            open_one(memory_limit="plenty").migrate(orders(), mode=MigrateMode.SAFE, fence=FENCE)

    def test_a_table_that_is_missing_is_no_variable_of_the_program(self, lineage: Lineage) -> None:
        rows = pa.table({"id": [1]})
        with lineage.destination._database.session() as session:  # type: ignore[attr-defined]
            for name in ("rows", "main.rows"):
                with pytest.raises(duckdb.CatalogException):
                    session.cursor.execute(f"SELECT * FROM {name}")
        assert rows

    def test_memory_is_a_database_of_its_own(self, open_one: Callable[..., DuckDBDestination]) -> None:
        one, other = Lineage(open_one(path=":memory:")), Lineage(open_one(path=":memory:"))
        one.migrate(orders())
        one.write(one.insert(orders(), id=[1], name=["a"], note=["x"]))
        assert other.migrate(orders(), apply=False).mark is None

    def test_schemas_have_tables_and_states_of_their_own(
        self, open_one: Callable[..., DuckDBDestination], path: Path
    ) -> None:
        for schema, ids in (("main", [1]), ('my "own"', [1, 2])):
            lineage = Lineage(open_one(schema=schema))
            lineage.migrate(orders())
            assert lineage.stored() is None
            lineage.write(lineage.insert(orders(), id=ids, name=["a"] * len(ids), note=["x"] * len(ids)))
        assert sql(path, 'SELECT count(*) FROM "my ""own""".orders') == [(2,)]
        assert sql(path, "SELECT count(*) FROM main.orders") == [(1,)]

    def test_a_reader_may_stop_in_the_middle(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        count = 200_000
        lineage.write(lineage.insert(orders(), id=list(range(count)), name=["a"] * count, note=["x"] * count))
        reading = lineage.destination.read(orders())
        assert next(iter(reading)).num_rows < count
        lineage.write(Delete("orders", keys(orders(), *range(count))))
        assert sum(batch.num_rows for batch in lineage.read(orders())) == 0
        del reading
        lineage.destination.close()

    @pytest.mark.parametrize("limit_kib", [64, 6_000, 17_000])
    def test_a_full_disk_leaves_what_was_committed(self, path: Path, limit_kib: int) -> None:
        ran = subprocess.run(
            [sys.executable, "-c", WRITER, "duckdb", path, str(limit_kib)], stdout=subprocess.PIPE, check=True
        )
        *acknowledged, kind = ran.stdout.split()
        assert kind in {b"UnreachableError", b"StateError", b"RetryableError"}
        check_what_is_there("duckdb", path, len(acknowledged))

    @pytest.mark.crash
    @pytest.mark.parametrize("after", [1, 4, 9])
    def test_a_kill_leaves_what_was_committed(self, path: Path, after: int) -> None:
        with subprocess.Popen([sys.executable, "-c", WRITER, "duckdb", path, "0"], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            acknowledged = [writer.stdout.readline() for _ in range(after)]
            writer.kill()
            acknowledged += [line for line in writer.stdout if line.endswith(b"\n")]
        check_what_is_there("duckdb", path, len(acknowledged))

    def test_a_second_name_of_a_file_that_is_open_is_refused(
        self, lineage: Lineage, open_one: Callable[..., DuckDBDestination], path: Path, tmp_path: Path
    ) -> None:
        lineage.migrate(orders())
        rows = [lineage.insert(orders(), id=[at], name=["a"], note=["x"]) for at in range(3)]
        lineage.write(rows[0])
        (tmp_path / "linked.duckdb").hardlink_to(path)
        (tmp_path / "symbolic.duckdb").symlink_to(path)
        linked, symbolic = (open_one(path=str(tmp_path / name)) for name in ("linked.duckdb", "symbolic.duckdb"))
        for _ in range(2):
            with pytest.raises(UsageError, match=r"linked\.duckdb is the same file as .*warehouse\.duckdb"):
                linked.migrate(orders(), mode=MigrateMode.SAFE, fence=FENCE)
            lineage.write(rows[1])
        other = Lineage(symbolic, task="other")  # which is the same name, in the end
        other.migrate(orders())
        other.write(rows[2])
        lineage.write(rows[1])
        same(lineage, orders(), *(one.batch for one in rows))
        for one in (lineage.destination, symbolic):
            one.close()
        assert [batch.num_rows for batch in linked.read(orders())] == [3]
        linked.close()
        lineage.write(rows[0])

    def test_a_symbolic_link_to_nothing_is_a_new_file(
        self, open_one: Callable[..., DuckDBDestination], tmp_path: Path
    ) -> None:
        (tmp_path / "link.duckdb").symlink_to(tmp_path / "new.duckdb")
        lineage = Lineage(open_one(path=str(tmp_path / "link.duckdb")))
        lineage.migrate(orders())
        lineage.write(lineage.insert(orders(), id=[1], name=["a"], note=["x"]))
        lineage.destination.close()
        assert sql(tmp_path / "new.duckdb", "SELECT id FROM orders") == [(1,)]


class TestVacuum:
    """Rows that are deleted leave places, which a checkpoint fills by writing what is around them again."""

    COUNT = 250_000

    @pytest.fixture
    def run(self, open_one: Callable[..., DuckDBDestination], path: Path) -> Callable[[range], tuple[int, int]]:
        """One run that writes the rows of these ids, and ends; how many row groups there are then, and rows in them."""
        runs, states = itertools.count(1), [None]

        def write(ids: range) -> tuple[int, int]:
            lineage, table = Lineage(open_one(), epoch=next(runs), state=states[-1]), orders()
            lineage.migrate(table)
            lineage.write(lineage.insert(table, id=ids, name=pa.repeat("n", len(ids)), note=pa.repeat("x", len(ids))))
            states.append(lineage.state)
            lineage.destination.close()
            (found,) = sql(
                path,
                "SELECT count(DISTINCT row_group_id), sum(count) FROM pragma_storage_info('orders') "
                "WHERE column_name = 'id' AND segment_type <> 'VALIDITY'",
            )
            return found

        return write

    def test_a_run_that_changes_little_writes_little(self, run: Callable[[range], tuple[int, int]]) -> None:
        run(range(0, self.COUNT, 2))
        run(range(1, self.COUNT, 2))
        full_and_begun = 2  # row groups, of each of these
        assert run(range(1)) == (2 * full_and_begun + 1, self.COUNT + 1)

    def test_runs_that_change_little_do_not_add_up(self, run: Callable[[range], tuple[int, int]]) -> None:
        run(range(self.COUNT))
        written = [run(range(number, self.COUNT, 40))[1] for number in range(31)]
        assert min(written[16:]) < 1.2 * self.COUNT

    def test_a_run_that_changes_much_fills_places(self, run: Callable[[range], tuple[int, int]]) -> None:
        run(range(self.COUNT))
        run(range(0, self.COUNT, 2))
        _, written = run(range(0, self.COUNT, 3))
        assert written < 1.6 * self.COUNT


class TestCatalog:
    def test_a_table_that_the_user_created_again_has_another_mark(self, lineage: Lineage, path: Path) -> None:
        mark = lineage.migrate(orders()).mark
        lineage.write(lineage.insert(orders(), id=[1], name=["a"], note=["x"]))
        sql(path, "CREATE TABLE copy AS FROM orders", "DROP TABLE orders", "ALTER TABLE copy RENAME TO orders")
        asked = lineage.migrate(orders(), apply=False)
        assert asked.mark != mark
        assert [change.kind for change in asked.changes] == ["adopt"]
        adopted = lineage.migrate(orders())
        assert adopted.mark not in {None, "", mark}
        again = lineage.migrate(orders())
        assert (again.changes, again.mark, again.empty) == ((), adopted.mark, False)
        same(lineage, orders(), lineage.batch(orders(), id=[1], name=["a"], note=["x"]))

    def test_a_table_of_the_user_s_is_taken_over_with_its_rows(self, lineage: Lineage, path: Path) -> None:
        sql(path, "CREATE TABLE orders (id BIGINT PRIMARY KEY, name VARCHAR)", "INSERT INTO orders VALUES (7, 'mine')")
        found = lineage.migrate(orders())
        assert {change.kind for change in found.changes} == {"add_column", "adopt"}
        lineage.write(lineage.insert(orders(), id=[8], name=["new"], note=["x"]))
        assert sql(path, "SELECT id, name, note FROM orders ORDER BY id") == [(7, "mine", None), (8, "new", "x")]

    def test_a_column_that_the_table_generates_is_nobody_s(self, lineage: Lineage, path: Path) -> None:
        generated = 'twice BIGINT GENERATED ALWAYS AS (id * 2), "a ""b" VARCHAR GENERATED ALWAYS AS (name || \', i\')'
        sql(
            path,
            f"CREATE TABLE orders (id BIGINT, name VARCHAR, {generated}, made VARCHAR DEFAULT 'GENERATED ALWAYS AS(')",
        )
        lineage.migrate(orders())
        for name in ("old", "new"):
            lineage.write(lineage.insert(orders(), id=[1], name=[name], note=["x"]))
            sql(path, "UPDATE orders SET made = 'mine'")
        assert lineage.migrate(orders(), apply=False).theirs == ("made",)
        assert sql(path, 'SELECT name, twice, "a ""b", made FROM orders') == [("new", 2, "new, i", "mine")]

    def test_another_comment_is_no_mark_and_is_kept(self, lineage: Lineage, path: Path) -> None:
        for comment in ("all orders", "[1]", '{"mark": "x"}', '{"strandline": 1}', '{"strandline": "its"}'):
            sql(path, "CREATE OR REPLACE TABLE orders (id BIGINT)", f"COMMENT ON TABLE orders IS '{comment}'")
            assert not lineage.migrate(orders(), apply=False).mark
            assert lineage.migrate(orders()).mark
            assert lineage.migrate(orders()).changes == ()
            (kept,) = sql(path, "SELECT comment->>'comment' FROM duckdb_tables() WHERE table_name = 'orders'")
            assert kept == (comment.replace("''", "'"),)

    def test_the_unit_of_a_duration_cannot_change_unnoticed(self, lineage: Lineage) -> None:
        lineage.migrate(orders(took=pa.duration("s")))
        with pytest.raises(TaskError, match=r"took.*duration\[s\].*duration\[ms\]"):
            lineage.migrate(orders(took=pa.duration("ms")))
        lineage.migrate(orders(took=pa.duration("ms")), mode=MigrateMode.FORCED)
        assert lineage.migrate(orders(took=pa.duration("ms"))).changes == ()

    def test_nothing_is_asked_of_the_net(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        with lineage.destination._database.session() as session:  # type: ignore[attr-defined]
            ask = "SELECT current_setting('autoinstall_known_extensions'), current_setting('autoload_known_extensions')"
            assert session.cursor.execute(ask).fetchall() == [(False, False)]

    def test_a_key_whose_collation_takes_two_for_one_is_refused(self, lineage: Lineage, path: Path) -> None:
        table = Table("orders", orders(**{"na me": pa.string()}).schema, ("na me",))
        for collation in ("NOCASE", "nocase NOT NULL", "NOCASE.NOACCENT PRIMARY KEY", "NFC"):
            for definition in ('"na me" VARCHAR COLLATE {}', 'id BIGINT, "na me" VARCHAR COLLATE {}, x VARCHAR'):
                sql(path, "DROP TABLE IF EXISTS orders", f"CREATE TABLE orders ({definition.format(collation)})")
                with pytest.raises(TaskError, match=r"'na me' of its primary key has the collation [Nn]"):
                    lineage.migrate(table)
                lineage.destination.close()
        sql(path, "DROP TABLE orders", 'CREATE TABLE orders (note VARCHAR COLLATE NOCASE, "na me" VARCHAR COLLATE C)')
        lineage.migrate(table)
        rows = lineage.insert(table, {"id": [1, 2], "na me": ["a", "A"]})
        lineage.write(rows)
        same(lineage, table, rows.batch)


def ints(*values: int) -> pa.Array:
    return pa.array(values, pa.int64())


LIMITS = (2**63 - 1, -(2**63), 2**63 - 2, -(2**63) + 1, 0)
KEPT = {
    **{f"timestamp_{unit}": ints(*LIMITS).view(pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
    **{f"zoned_{unit}": ints(*LIMITS).view(pa.timestamp(unit, "Europe/Berlin")) for unit in ("us", "ns")},
    **{f"duration_{unit}": ints(*LIMITS).view(pa.duration(unit)) for unit in ("s", "ms", "us", "ns")},
    "date32": pa.array([2**31 - 1, -(2**31), 2**31 - 2, -(2**31) + 1], pa.int32()).view(pa.date32()),
    "date64": ints(-719_162 * 86_400_000, 2_932_896 * 86_400_000).view(pa.date64()),
    "interval": pa.array(
        [(2**31 - 1, -(2**31), 2**62 // 1000 * 1000), (-(2**31), 2**31 - 1, -3000)], pa.month_day_nano_interval()
    ),
    "float": pa.array([float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 5e-324]),
    "half": pa.array([float("nan"), float("inf"), 65504.0, -0.0], pa.float16()),
    "uint64": pa.array([2**64 - 1, 0], pa.uint64()),
    "decimal128": pa.array([Decimal("9" * 38), Decimal("-" + "9" * 38)], pa.decimal128(38, 0)),
    "decimal256": pa.array([Decimal("9" * 76), Decimal(-1)], pa.decimal256(76, 0)),
    "string": pa.array(["a\0b", "", "\0", "\U0010ffff", "\ufffe"]),
    "binary": pa.array([b"\0\xff", b""]),
    "large_list": pa.array([[1] * 10_000, [], None], pa.large_list(pa.int8())),
    "dictionary_of_numbers": pa.array([7, None, 7]).dictionary_encode(),
    "sliced_view": pa.array([[1], [2, 3], None, []], pa.list_view(pa.int16())).slice(1),
    "sliced_lists": pa.array([[[1], None], None, [[2, 3]]], pa.list_(pa.list_(pa.duration("s")))).slice(1),
    "sliced_fixed": pa.array([[1, 2], None, [3, 4], [None, 5]], pa.list_(pa.duration("s"), 2)).slice(1),
    "sliced_struct": pa.array([{"a": 1}, None, {"a": 2}], pa.struct([("a", pa.duration("s"))])).slice(1),
    "sliced_map": pa.array([[("a", 1)], None, [("b", 2)]], pa.map_(pa.string(), pa.duration("s"))).slice(1),
    "sliced_nulls": pa.nulls(5).slice(2),
}
REFUSED = {
    "date64_with_a_time": ints(86_400_001).view(pa.date64()),
    "zoned_beyond_microseconds": ints(2**60).view(pa.timestamp("s", "UTC")),
    "interval_with_nanoseconds": pa.array([(1, 2, 3001)], pa.month_day_nano_interval()),
    "nested_interval_with_nanoseconds": pa.array(
        [[{"a": (1, 2, 1)}]], pa.list_(pa.struct([("a", pa.month_day_nano_interval())]))
    ),
    "map_with_a_key_twice": pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64())),
    "json_that_is_none": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{a"])),
    "text_that_is_not_utf8": pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    ),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Lineage]:
    destination = DuckDBDestination(DuckDBDestination.Spec(path=":memory:"))
    yield Lineage(destination)
    destination.close()


class TestTypes:
    """The suite has every type; here are the values at their limits."""

    @pytest.mark.parametrize("label", KEPT)
    def test_a_value_at_the_limit_is_kept(self, shared: Lineage, label: str) -> None:
        values = KEPT[label]
        table = orders(f"kept_{label}", value=values.type)
        lineage = Lineage(shared.destination, task=label)
        if duckdb.__version__ < "2" and label == "zoned_ns":
            with pytest.raises(TaskError, match=r"kept_zoned_ns.value: .*cannot be stored in DuckDB 1\.") as caught:
                lineage.migrate(table)
            assert "duckdb 2" in caught.value.hint
            return
        lineage.migrate(table)
        rows = lineage.insert(table, id=list(range(len(values))), value=values)
        lineage.write(rows)
        same(lineage, table, rows.batch)

    @pytest.mark.parametrize("label", REFUSED)
    def test_a_value_that_has_no_place_fails_the_window(self, shared: Lineage, label: str) -> None:
        values = REFUSED[label]
        table = orders(f"refused_{label}", value=values.type)
        lineage = Lineage(shared.destination, task=label)
        lineage.migrate(table)
        bad = Insert(table.name, lineage.batch(table, id=[1], value=values))
        with pytest.raises(TaskError, match=table.name):
            lineage.write(lineage.insert(table, id=[0], value=[None]), bad)
        same(lineage, table)
        assert lineage.stored() is None

    @pytest.mark.parametrize(
        ("extension", "values", "kept_as"),
        [
            ("uuid", pa.array([b"0123456789abcdef", None], pa.binary(16)), "UUID"),
            ("json", pa.array([b'{"a": 1}', None]), "JSON"),
            ("inet", pa.array([b"192.0.2.0/24", None]), "VARCHAR"),
            ("mac", pa.array([b"\0\1\2\3\4\5", None]), "BLOB"),
        ],
    )
    def test_the_extension_types_of_cloudquery(
        self, shared: Lineage, extension: str, values: pa.Array, kept_as: str
    ) -> None:
        field = pa.field("value", values.type, metadata={b"ARROW:extension:name": extension.encode()})
        fields = [(SYNC_TIME, sync_time_type()), (SOURCE_NAME, pa.string()), ("id", pa.int64())]
        table = Table(
            f"cloudquery_{extension}", pa.schema([*map(pa.field, *zip(*fields, strict=True)), field]), ("id",)
        )
        lineage = Lineage(shared.destination, task=extension)
        lineage.migrate(table)
        rows = lineage.insert(table, id=[1, 2], value=values)
        lineage.write(rows)
        same(lineage, table, rows.batch)
        with lineage.destination._database.session() as session:  # type: ignore[attr-defined]
            assert session.columns(table.name)["value"] == kept_as

    def test_types_that_cannot_be_stored_are_refused_with_a_reason(self, shared: Lineage) -> None:
        for kind, reason in (
            (pa.struct([]), "no struct without fields"),
            (pa.struct([("a", pa.int8()), ("A", pa.int8())]), "differ by case"),
            (pa.sparse_union([pa.field("a", pa.int8())]), "sparse_union"),
            (pa.list_(pa.dense_union([pa.field("a", pa.int8())])), "dense_union"),
            (pa.list_(pa.list_view(pa.int8())), "list_view"),
            (pa.list_(pa.run_end_encoded(pa.int32(), pa.int8())), "run_end_encoded"),
            (pa.struct([("a", pa.dictionary(pa.int8(), pa.int64()))]), "dictionary"),
        ):
            with pytest.raises(TaskError, match=reason) as caught:
                shared.migrate(orders("refused", value=kind), apply=False)
            assert caught.value.hint


def test_what_was_staged_beyond_memory_is_gone_after_the_window(lineage: Lineage) -> None:
    lineage.destination.staged_bytes_max = 0  # type: ignore[attr-defined]
    lineage.migrate(orders())
    rows = lineage.insert(orders(), id=[1, 2], name=["a", "b"], note=["x", "y"])
    lineage.write(rows)
    same(lineage, orders(), rows.batch)
    with lineage.destination._database.session() as session:  # type: ignore[attr-defined]
        assert session.cursor.execute("SELECT count(*) FROM duckdb_tables() WHERE temporary").fetchall() == [(0,)]
