"""What is the destination SQLite's own: its file and locks, and its catalog."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dropped_rows import CASES, DROPPED, check_that_nothing_is_lost
from pydantic import ValidationError
from window_model import WRITER, check_what_is_there

from strandline.connectors.sqlite import drivers
from strandline.connectors.sqlite.destination import SQLiteDestination
from strandline.destination import Fence, MigrateMode, WriteMode
from strandline.errors import LockedError, StateError, TaskError, UsageError
from strandline.message import Delete
from strandline.table import Table
from strandline.testing.destination_fixtures import keys, orders, same
from strandline.testing.windows import Lineage

FENCE = Fence("shop", "warehouse", 1, "run-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.sqlite"


@pytest.fixture
def open_one(path: Path) -> Iterator[Callable[..., SQLiteDestination]]:
    opened: list[SQLiteDestination] = []

    def make(**spec: Any) -> SQLiteDestination:
        opened.append(SQLiteDestination(SQLiteDestination.Spec(**({"path": str(path)} | spec))))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def lineage(open_one: Callable[..., SQLiteDestination]) -> Lineage:
    return Lineage(open_one())


def sql(path: Path, *statements: str) -> list[tuple[Any, ...]]:
    """As a user would, with another connection."""
    with closing(sqlite3.connect(path)) as connection, connection:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


class TestFile:
    def test_looking_changes_nothing_in_a_file(self, lineage: Lineage, path: Path) -> None:
        sql(path, "CREATE TABLE orders (id INTEGER, name TEXT)", "INSERT INTO orders VALUES (7, 'mine')")
        before = path.read_bytes()
        assert lineage.migrate(orders(), apply=False).changes
        assert lineage.stored() is None
        assert len(lineage.read(Table("orders", orders().schema), columns=["id", "name"])) == 1
        lineage.destination.close()
        assert path.read_bytes() == before

    def test_a_file_that_another_process_writes_to_is_locked_after_the_timeout(
        self, open_one: Callable[..., SQLiteDestination], path: Path
    ) -> None:
        lineage = Lineage(open_one(busy_timeout="50ms"))
        lineage.migrate(orders())
        row = lineage.insert(orders(), id=[1], name=["a"], note=["x"])
        code = (
            f"import sqlite3, sys; c = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
            "c.execute('BEGIN IMMEDIATE'); print('open', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "open\n"
            with pytest.raises(LockedError, match="another process") as raised:
                lineage.write(row)
            assert raised.value.exit_code == 4
            assert "busy_timeout" in raised.value.hint
            same(lineage, orders())
            holder.communicate()
        lineage.write(row)
        same(lineage, orders(), row.batch)

    def test_what_cannot_be_a_database_is_a_wrong_setting(
        self, open_one: Callable[..., SQLiteDestination], tmp_path: Path
    ) -> None:
        (tmp_path / "text").write_text("not a database" * 1000)
        sql(tmp_path / "utf16", "PRAGMA encoding = 'UTF-16'", "CREATE TABLE x (y)")
        for wrong, reason in (
            (tmp_path / "text", "not an SQLite database"),
            (tmp_path / "nowhere" / "x.sqlite", "there is no directory"),
            (tmp_path, "unable to open"),
            (tmp_path / "utf16", "UTF-16"),
        ):
            with pytest.raises(UsageError, match=reason) as raised:
                open_one(path=str(wrong)).migrate(orders(), mode=MigrateMode.SAFE, fence=FENCE)
            assert raised.value.hint
        assert not (tmp_path / "nowhere").exists()
        with pytest.raises(ValidationError, match="lost with the cursor"):
            open_one(path=":memory:")

    def test_any_name_of_a_file_is_that_file(self, open_one: Callable[..., SQLiteDestination], tmp_path: Path) -> None:
        for name in ("a?mode=memory", "50% off#1.db", "file:x", "é 中"):
            open_one(path=str(tmp_path / name)).migrate(orders(), mode=MigrateMode.SAFE, fence=FENCE)
            assert sql(tmp_path / name, "SELECT count(*) FROM orders") == [(0,)]

    def test_a_damaged_file_stops_the_run(self, open_one: Callable[..., SQLiteDestination], path: Path) -> None:
        lineage = Lineage(open_one())
        lineage.migrate(orders())
        lineage.write(lineage.insert(orders(), id=[1], name=["a"], note=["x"]))
        lineage.destination.close()
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        with pytest.raises(StateError, match="malformed") as raised:
            lineage.stored()
        assert "backup" in raised.value.hint

    def test_an_sqlite_that_is_too_old_is_refused(
        self, lineage: Lineage, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(drivers.sqlite3, "sqlite_version_info", (3, 34, 1))
        with pytest.raises(UsageError, match="too old") as raised:
            lineage.migrate(orders())
        assert "3.35" in raised.value.hint
        assert not path.exists()

    def test_readers_and_the_writer_do_not_wait_for_each_other(self, lineage: Lineage, path: Path) -> None:
        lineage.migrate(orders())
        count = 20_000
        lineage.write(lineage.insert(orders(), id=list(range(count)), name=["a"] * count, note=["x"] * count))
        reading = lineage.destination.read(orders())
        seen = next(iter(reading)).num_rows
        with closing(sqlite3.connect(path, timeout=0)) as user:
            user.execute("BEGIN")
            assert user.execute("SELECT count(*) FROM orders").fetchall() == [(count,)]
            lineage.write(Delete("orders", keys(orders(), *range(count))))
            assert user.execute("SELECT count(*) FROM orders").fetchall() == [(count,)]
        assert sum(batch.num_rows for batch in lineage.read(orders())) == 0
        assert seen + sum(batch.num_rows for batch in reading) == count

    def test_what_is_committed_is_on_the_disk(self, lineage: Lineage) -> None:
        lineage.migrate(orders())
        with lineage.destination._database.session() as session:  # type: ignore[attr-defined]
            ask = [session.connection.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")]
        assert ask == [("wal",), (3,)]

    def test_a_closed_file_is_one_file(self, lineage: Lineage, path: Path) -> None:
        lineage.migrate(orders())
        lineage.destination.close()
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("limit_kib", [64, 6_000, 17_000])
    def test_a_full_disk_leaves_what_was_committed(self, path: Path, limit_kib: int) -> None:
        command = [sys.executable, "-c", WRITER, "sqlite", path, str(limit_kib)]
        ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        *acknowledged, kind = ran.stdout.split()
        assert kind in {b"UnreachableError", b"StateError"}
        check_what_is_there("sqlite", path, len(acknowledged))

    @pytest.mark.crash
    @pytest.mark.parametrize("after", [1, 4, 9])
    def test_a_kill_leaves_what_was_committed(self, path: Path, after: int) -> None:
        command = [sys.executable, "-c", WRITER, "sqlite", path, "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            acknowledged = [writer.stdout.readline() for _ in range(after)]
            writer.kill()
            acknowledged += [line for line in writer.stdout if line.endswith(b"\n")]
        check_what_is_there("sqlite", path, len(acknowledged))


class TestCatalog:
    def test_a_table_that_the_user_created_again_has_another_mark(self, lineage: Lineage, path: Path) -> None:
        mark = lineage.migrate(orders()).mark
        lineage.write(lineage.insert(orders(), id=[1], name=["a"], note=["x"]))
        ((created,),) = sql(path, "SELECT sql FROM sqlite_master WHERE name = 'orders'")
        sql(path, "ALTER TABLE orders RENAME TO old", created, "INSERT INTO orders SELECT * FROM old", "DROP TABLE old")
        asked = lineage.migrate(orders(), apply=False)
        assert asked.mark != mark
        assert [change.kind for change in asked.changes] == ["adopt"]
        adopted = lineage.migrate(orders())
        assert adopted.mark not in {None, "", mark}
        again = lineage.migrate(orders())
        assert (again.changes, again.mark, again.empty) == ((), adopted.mark, False)
        same(lineage, orders(), lineage.batch(orders(), id=[1], name=["a"], note=["x"]))

    def test_a_column_without_a_mark_is_not_taken_for_one_of_nothing_but_nulls(
        self, lineage: Lineage, path: Path
    ) -> None:
        table, nothing = orders(name=pa.string(), value=pa.float64()), orders(name=pa.null(), value=pa.null())
        lineage.migrate(table)
        rows = lineage.insert(table, id=[1], name=["a"], value=[1.5])
        lineage.write(rows)
        lineage.destination.close()
        for (index,) in sql(path, "SELECT name FROM sqlite_master WHERE name GLOB 'cq_mark_*'"):
            sql(path, f'DROP INDEX "{index}"')
        lineage.migrate(nothing)
        lineage.migrate(orders(name=pa.string()))
        with pytest.raises(TaskError, match="'value'"):  # that it was a float, only the mark has told
            lineage.migrate(table)
        same(lineage, table, rows.batch)

    def test_the_mark_goes_where_the_table_goes(self, lineage: Lineage, path: Path) -> None:
        table = orders("it's", **{"say 'hi'": pa.uint64()})
        mark = lineage.migrate(table).mark
        sql(path, """ALTER TABLE "it's" RENAME TO "that's" """)
        assert lineage.migrate(table.named("that's"), apply=False).mark == mark
        assert lineage.migrate(table.named("that's"), apply=False).changes == ()
        lineage.destination.close()
        with closing(sqlite3.connect(path, isolation_level=None)) as user:
            user.execute("VACUUM")
        assert lineage.migrate(table.named("that's"), apply=False).mark == mark

    def test_a_table_of_the_user_s_is_taken_over_with_its_rows(self, lineage: Lineage, path: Path) -> None:
        created = "CREATE TABLE orders (id INTEGER PRIMARY KEY, name VARCHAR(20))"
        sql(path, created, "INSERT INTO orders VALUES (7, 'mine')")
        found = lineage.migrate(orders())
        assert {change.kind for change in found.changes} == {"add_column", "adopt"}
        assert lineage.migrate(orders()).changes == ()
        lineage.write(lineage.insert(orders(), id=[8], name=["new"], note=["x"]))
        assert sql(path, "SELECT id, name, note FROM orders ORDER BY id") == [(7, "mine", None), (8, "new", "x")]

    def test_a_column_of_the_user_s_that_would_change_values_is_refused(self, lineage: Lineage, path: Path) -> None:
        for declared, kind in (("REAL", pa.float64()), ("INTEGER", pa.uint64()), ("NUMERIC", pa.decimal128(9, 2))):
            sql(path, "DROP TABLE IF EXISTS orders", f"CREATE TABLE orders (id INTEGER, value {declared})")
            with pytest.raises(TaskError, match=declared):
                lineage.migrate(orders(value=kind))

    def test_a_key_whose_collation_takes_two_for_one_is_refused(self, lineage: Lineage, path: Path) -> None:
        table = Table("orders", orders().schema, ("name",))
        exact = 'id INTEGER, note TEXT COLLATE NOCASE, "name" TEXT /* COLLATE NOCASE */ COLLATE binary'
        for columns in ("name TEXT COLLATE NOCASE PRIMARY KEY, id INTEGER", 'id INTEGER, "name" TEXT collate rtrim'):
            sql(path, "DROP TABLE IF EXISTS orders", f"CREATE TABLE orders ({columns})")
            with pytest.raises(TaskError, match=r"'name' of its primary key has the collation (NOCASE|rtrim)"):
                lineage.migrate(table)
        sql(path, "DROP TABLE orders", f"CREATE TABLE orders ({exact})")
        lineage.migrate(table)
        rows = lineage.insert(table, id=[1, 2], name=["a", "A"], note=["x", "x"])
        lineage.write(rows)
        same(lineage, table, rows.batch)
        sql(path, "CREATE TABLE other (id INTEGER, name TEXT COLLATE NOCASE)")
        lineage.migrate(orders("other"))  # which is no key here

    def test_letters_beyond_ascii_keep_their_case(self, lineage: Lineage) -> None:
        table = orders("Über", ä=pa.string(), Ä=pa.string())
        lineage.migrate(table, table.named("über"))
        row = lineage.insert(table, id=[1], ä=["small"], Ä=["large"])
        lineage.write(row)
        same(lineage, table, row.batch)
        same(lineage, table.named("über"))

    def test_names_that_sqlite_keeps_to_itself_are_refused(self, lineage: Lineage) -> None:
        with pytest.raises(TaskError, match="sqlite_"):
            lineage.migrate(orders("SQLite_orders"))

    def test_a_table_named_like_a_temporary_one_is_not_taken_for_it(self, lineage: Lineage) -> None:
        table = orders("_cq_stage_1")
        lineage.migrate(table)
        row = lineage.insert(table, id=[1], name=["a"], note=["x"])
        lineage.write(row)
        same(lineage, table, row.batch)

    def test_a_column_that_is_not_there_is_not_read_as_its_own_name(self, lineage: Lineage) -> None:
        lineage.migrate(orders(name=pa.string()))
        lineage.write(lineage.insert(orders(name=pa.string()), id=[1], name=["a"]))
        with pytest.raises(TaskError, match="note"):
            lineage.read(orders(name=pa.string(), note=pa.string()))

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (pa.duration("s"), pa.duration("ms")),
            (pa.timestamp("s"), pa.timestamp("us")),
            (pa.timestamp("us"), pa.timestamp("us", "UTC")),
            (pa.decimal128(9, 2), pa.decimal128(9, 3)),
            (pa.uint64(), pa.int64()),
            (pa.int64(), pa.uint64()),
            (pa.string(), pa.uuid()),
            (pa.bool_(), pa.int64()),
        ],
        ids=str,
    )
    def test_values_that_would_mean_something_else_are_refused(
        self, lineage: Lineage, before: pa.DataType, after: pa.DataType
    ) -> None:
        lineage.migrate(orders(value=before))
        with pytest.raises(TaskError, match="value"):
            lineage.migrate(orders(value=after))
        lineage.migrate(orders(value=after), mode=MigrateMode.FORCED)
        assert lineage.migrate(orders(value=after)).changes == ()

    def test_rows_are_found_by_an_index_once_they_are_overwritten(self, lineage: Lineage, path: Path) -> None:
        count = (
            "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND tbl_name = 'orders' AND name LIKE 'cq_key%'"
        )
        lineage.migrate(orders())
        for mode, indexes in ((WriteMode.APPEND, 0), (WriteMode.OVERWRITE, 1), (WriteMode.OVERWRITE, 1)):
            lineage.mode = mode
            lineage.write(lineage.insert(orders(), id=[1], name=["a"], note=["x"]))
            assert sql(path, count) == [(indexes,)]


class TestDrops:
    """Rows that SQLite drops without an error, as its users may have told it to."""

    @pytest.mark.parametrize("case", CASES)
    def test_a_row_that_a_trigger_drops_fails_the_window(self, lineage: Lineage, path: Path, case: str) -> None:
        def make(table: str) -> None:
            for event in ("INSERT", "UPDATE"):
                sql(
                    path,
                    f"CREATE TRIGGER drops_{event} BEFORE {event} ON {table} WHEN NEW.id = {DROPPED} "
                    "BEGIN SELECT RAISE(IGNORE); END",
                )

        def drop(_table: str) -> None:
            sql(path, "DROP TRIGGER drops_INSERT", "DROP TRIGGER drops_UPDATE")

        check_that_nothing_is_lost(lineage, CASES[case], make, drop)

    def test_rows_that_a_trigger_stores_elsewhere_are_not_counted(self, lineage: Lineage, path: Path) -> None:
        lineage.migrate(orders())
        sql(path, "CREATE TABLE log (id)")
        sql(path, "CREATE TRIGGER logs AFTER INSERT ON orders BEGIN INSERT INTO log VALUES (NEW.id), (NEW.id); END")
        rows = lineage.insert(orders(), id=[1, 2], name=["a", "b"], note=["x", "y"])
        assert lineage.write(rows).rows == {"orders": 2}
        same(lineage, orders(), rows.batch)

    def test_rows_that_a_constraint_ignores_fail_the_window(self, lineage: Lineage, path: Path) -> None:
        sql(path, "CREATE TABLE orders (id INTEGER, name TEXT UNIQUE ON CONFLICT IGNORE, note TEXT)")
        lineage.migrate(orders())
        with pytest.raises(TaskError, match=r"orders: 2 rows .* stored 1 of them"):
            lineage.write(lineage.insert(orders(), id=[1, 2], name=["a", "a"], note=["x", "y"]))
        same(lineage, orders())
