"""What SQLite stores arrives as it is, or not at all: types, names, and files that are not what they should be."""

import pickle
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from sqlite_shop import Shop, at

from strandline.connectors.sqlite.source import SQLiteSource
from strandline.errors import RetryableError, TaskError, UnreachableError, UsageError
from strandline.reading import Reading


@pytest.fixture
def shop(tmp_path):
    shop = Shop(tmp_path / "shop.db")
    yield shop
    shop.close()


def column(shop, declared, *values, types=None):
    """What a column `c` of one table delivers."""
    shop.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, c {declared})")
    shop.execute("INSERT INTO t (c) VALUES (?)", *[(value,) for value in values])
    shop.settings = {"t": {"types": {"c": types}}} if types else {}
    return shop.table().schema.field("c").type, shop.sync().column("c")


@pytest.mark.parametrize(
    ("declared", "values", "type_"),
    [
        ("INTEGER", [1, -(2**63), 2**63 - 1, None], pa.int64()),
        ("unsigned big int", [1], pa.int64()),
        ("TEXT", ["", "é日🌊", "a\x00b", "1", None], pa.string()),
        ("VARCHAR(10)", ["longer than ten characters"], pa.string()),
        ("BLOB", [b"", b"\x00\xff", None], pa.binary()),
        ("REAL", [1.5, 0.1, float("inf"), -0.0, None], pa.float64()),
        ("DOUBLE PRECISION", [1.0], pa.float64()),
        ("DECIMAL(10, 2)", [1, 1.25, 2**53], pa.float64()),
        ("DECIMAL(10, 2)", [1.005], pa.float64()),
        ("DECIMAL(10, 2)", [None], pa.float64()),
        ("DECIMAL(10, 2)", [1.5, float("inf")], pa.float64()),
        ("DECIMAL(40, 2)", [1.5], pa.float64()),
        ("DECIMAL", [1.5], pa.float64()),
        ("BOOLEAN", [1, 0, None], pa.bool_()),
        ("DATETIME", ["2024-01-31 12:00:00", "anything"], pa.string()),
        ("TIMESTAMP", [1_700_000_000], pa.int64()),
        ("DATETIME", ["2024-01-31 12:00:00", "2024-01-31 12:00:00Z"], pa.string()),
        ("DATETIME", ["2024-01-31 12:00:00.1234567"], pa.string()),
        ("DATETIME", ["2024-02-30 12:00:00"], pa.string()),
        ("DATETIME", ["12:00:00"], pa.string()),
        ("DATE", [None], pa.string()),
        ("DATE", ["2024-01-31", "2024-01-31 12:00"], pa.string()),
        ("DATE", ["24-01-31"], pa.string()),
        ("", ["text"], pa.string()),
        ("", [b"blob"], pa.binary()),
        ("", [None, 2.5], pa.float64()),
        ("JSON", ["{a: 1}", "[1]"], pa.string()),
        ("JSON", ['{"a":  1, "a": 2}', "null", '"x"', None], pa.json_()),
        ("STRING", ["text"], pa.string()),
    ],
)
def test_values_arrive_as_they_are_stored(shop, declared, values, type_):
    assert column(shop, declared, *values) == (type_, values)


@pytest.mark.parametrize(
    ("declared", "values", "type_", "expected"),
    [
        ("DECIMAL(10, 2)", [1, 1.25, -0.1, None], pa.decimal128(10, 2), ["1.00", "1.25", "-0.10"]),
        ("numeric(5)", [12345, 1.0], pa.decimal128(5, 0), ["12345", "1"]),
        ("decimal(38,18)", [1e-18, 10**18], pa.decimal128(38, 18), ["1E-18", "1000000000000000000.000000000000000000"]),
        ("DATETIME", ["2024-01-31 12:00:00.5", "2024-01-31"], pa.timestamp("us"), ["2024-01-31 12:00:00.500000", "2024-01-31 00:00:00"]),
        ("TIMESTAMP", ["2024-01-31T12:00Z", "2024-01-31 14:00:00+02:00"], pa.timestamp("us", "UTC"), ["2024-01-31 12:00:00+00:00"] * 2),
        ("timestamp with time zone", ["2024-01-31 12:00:00.1234560+00:00"], pa.timestamp("us", "UTC"), ["2024-01-31 12:00:00.123456+00:00"]),
        ("DATE", ["2024-02-29", None], pa.date32(), ["2024-02-29"]),
    ],
)  # fmt: skip
def test_what_is_declared_counts_where_all_values_fit(shop, declared, values, type_, expected):
    found, delivered = column(shop, declared, *values)
    assert found == type_
    assert [str(value) for value in delivered if value is not None] == expected
    assert delivered.count(None) == values.count(None)
    assert shop.table().former["c"] in (pa.float64(), pa.string())


def test_a_column_that_seldom_has_a_value_keeps_its_type(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, c DATETIME, d DATETIME)")
    series = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
    shop.execute(f"{series} INSERT INTO t (id, c) SELECT i, iif(i = 2500, '2024-01-31', NULL) FROM n")
    assert shop.table().schema.field("c").type == pa.timestamp("us")
    assert shop.table().schema.field("d").type == pa.string()


def test_what_older_versions_made_of_it_is_still_to_be_had(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, c DATETIME, d DECIMAL(9, 2), j JSON)")
    shop.execute("INSERT INTO t (c, d, j) VALUES ('2024-01-31T12:00', 1.5, '[ ]')")
    former = {"t": ("c", "d", "j")}
    read = shop.sync(former=former)
    assert [read.column(name) for name in "cdj"] == [["2024-01-31T12:00"], [1.5], ["[ ]"]]
    assert shop.sync(former={"t": ("d",)}).column("c") == [datetime(2024, 1, 31, 12)]  # noqa: DTZ001 -- it has no zone


def test_keys_and_what_types_says_are_left_alone(shop):
    shop.execute("CREATE TABLE t (id DATE PRIMARY KEY, at DATETIME, c DATETIME)")
    shop.execute("INSERT INTO t VALUES ('2024-01-31', '2024-01-31 12:00:00', '2024-01-31 12:00:00')")
    shop.settings = {"t": {"incremental_key": "at", "types": {"c": "string"}}}
    assert set(shop.table().schema.types) == {pa.string()}
    assert not shop.table().former


@pytest.mark.parametrize(
    ("declared", "first", "value", "remedy"),
    [
        ("DECIMAL(10, 2)", "1.5", "1.005", "double"),
        ("DECIMAL(10, 2)", "1.5", "123456789.5", "double"),
        ("DATETIME", "'2024-01-01'", "'soon'", "string"),
        ("DATETIME", "'2024-01-01'", "1700000000", "string"),
        ("DATE", "'2024-01-01'", "'2024-01-01 10:00'", "string"),
        ("JSON", "'{}'", "5", "string"),
    ],
)
def test_a_value_between_those_that_are_looked_at_fails_with_its_row(shop, declared, first, value, remedy):
    shop.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, c {declared})")
    series = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
    shop.execute(f"{series} INSERT INTO t SELECT i, iif(i = 1500, {value}, {first}) FROM n")
    with pytest.raises(TaskError, match=r"'c', row id=1500: .* does not fit") as caught:
        shop.sync()
    assert f"types: {{c: {remedy}}}" in caught.value.hint
    shop.settings = {"t": {"types": {"c": remedy}}}
    assert len(shop.sync().column("c")) == 3000


def test_a_column_that_was_of_times_until_now_is_named(shop, caplog):
    shop.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, c DATETIME)",
    )
    shop.execute("INSERT INTO t (c) VALUES ('2024-01-31'), ('soon')")
    assert shop.table().schema.field("c").type == pa.string()
    assert "'c' is not read as timestamp" in caplog.text
    assert "soon" not in caplog.text


@pytest.mark.parametrize(
    ("declared", "value", "class_"),
    [
        ("INTEGER", 1.5, "real"),
        ("INTEGER", "many", "text"),
        ("INTEGER", b"\x01", "blob"),
        ("TEXT", b"text", "blob"),
        ("BLOB", "text", "text"),
        ("BLOB", 1, "integer"),
        ("REAL", "1,5", "text"),
        ("DECIMAL", 2**53 + 1, "integer"),
        ("DECIMAL", "12.5 EUR", "text"),
        ("BOOLEAN", 2, "integer"),
        ("BOOLEAN", "true", "text"),
        ("JSON", 5, "integer"),
    ],
)
def test_a_value_that_does_not_fit_names_its_table_column_row_and_a_way_out(shop, declared, value, class_):
    with pytest.raises(TaskError) as caught:
        column(shop, declared, *[None] * 6, value)
    text = caught.value.message
    assert all(part in text for part in ("'t'", "'c'", "id=7", class_))
    assert "types: {c:" in caught.value.hint
    assert "12.5" not in text  # a value may be private


@pytest.mark.parametrize(
    ("types", "values", "delivered"),
    [
        ("string", [1, 0.1, "x", None], ["1", "0.1", "x", None]),
        ("binary", [b"\x00", "é", 5, None], [b"\x00", "é".encode(), b"5", None]),
        ("int64", [1, 2.0, None], [1, 2, None]),
        ("double", [1, 2.5], [1.0, 2.5]),
        ("decimal128(10, 2)", [1, 0.1, "2.50", None], [Decimal("1.00"), Decimal("0.10"), Decimal("2.50"), None]),
        ("bool", [0, 1], [False, True]),
    ],
)
def test_types_that_the_user_asks_for(shop, types, values, delivered):
    assert column(shop, "", *values, types=types)[1] == delivered


def test_texts_as_times(shop):
    texts = ["2024-01-31", "2024-01-31 12:00", "2024-01-31T12:00:00.123456Z", "2024-01-31 14:00:00+02:00"]
    type_, found = column(shop, "TEXT", *texts, types="timestamp")
    assert type_ == pa.timestamp("us", tz="UTC")
    assert [moment.strftime("%d %H:%M:%S.%f") for moment in found] == [
        "31 00:00:00.000000",
        "31 12:00:00.000000",
        "31 12:00:00.123456",
        "31 12:00:00.000000",
    ]


@pytest.mark.parametrize(
    ("types", "value"),
    [
        ("int64", 1.5),
        ("int64", 1e300),
        ("double", 2**53 + 1),
        ("decimal128(10, 2)", 0.301),
        ("decimal128(3, 2)", 100),
        ("timestamp", "2024-01-31 12:00:00.1234567"),
        ("timestamp", "31.01.2024"),
        ("timestamp[us]", "2024-01-31 12:00:00Z"),
        ("date32", "2024-02-31"),
        ("string", b"\xff"),
    ],
)
def test_asking_for_a_type_never_changes_a_value(shop, types, value):
    with pytest.raises(TaskError, match="does not fit"):
        column(shop, "", value, types=types)


def test_a_text_that_is_not_utf_8_is_named_and_can_be_read_as_bytes(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, c TEXT)")
    shop.execute("INSERT INTO t (c) VALUES ('fine'), (CAST(x'ff61' AS TEXT))")
    with pytest.raises(TaskError, match=r"'c', row id=2: .*not UTF-8"):
        shop.sync()
    shop.settings = {"t": {"types": {"c": "binary"}}}
    assert shop.sync().column("c") == [b"fine", b"\xffa"]


def test_batches_of_wide_rows_keep_to_their_bytes(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, c BLOB)")
    shop.execute("INSERT INTO t (c) VALUES (zeroblob(?))", *[(size,) for size in [10] * 300 + [50_000] * 30 + [10] * 9])
    found = shop.sync(batch_rows=1000, batch_bytes=100_000)
    batches = [message.batch for message in found.messages if hasattr(message, "batch")]
    assert sum(batch.num_rows for batch in batches) == 339
    assert all(batch.nbytes <= 100_000 or batch.num_rows == 1 for batch in batches)
    assert len(batches) < 40


# names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["@run", "%x", 'a "b" c', "select", "é日", "x'; DROP TABLE y; --", "rowid", " "])
def test_any_name_of_a_table_and_a_column(shop, name):
    quoted = '"' + name.replace('"', '""') + '"'
    shop.execute(f"CREATE TABLE {quoted} ({quoted} INTEGER, at TEXT)")
    shop.execute(f"CREATE INDEX i ON {quoted} (at)")
    shop.execute(f"INSERT INTO {quoted} VALUES (1, '{at(hours=1)}'), (2, NULL)")
    shop.settings = {name: {"incremental_key": "at", "primary_key": [name], "deletes": "sweep"}}
    first = shop.sync(name=name, batch_rows=1)
    assert sorted(first.column(name)) == [1, 2]
    assert sorted(shop.sync(first.cursor, name=name).column(name)) == [1, 2]
    with_task = shop.source()
    (task,) = with_task.tasks(with_task.tables())
    assert not task.id.startswith("@")


def test_distinct_names_have_distinct_tasks(shop):
    for name in ("@x", "%@x", "%%@x", "x"):
        shop.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY)')
    source = shop.source()
    assert len({task.id for task in source.tasks(source.tables())}) == 4


def test_a_table_whose_columns_hide_the_rowid_is_read(shop):
    shop.execute("CREATE TABLE t (rowid TEXT, _rowid_ TEXT, oid TEXT)")
    shop.execute("INSERT INTO t VALUES ('a', 'b', 'c'), ('a', 'b', 'c')")
    assert shop.sync(batch_rows=1).rows == [{"rowid": "a", "_rowid_": "b", "oid": "c"}] * 2


def test_a_column_that_was_dropped_meanwhile_is_an_error_and_no_text_of_its_name(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, c TEXT)")
    shop.execute("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    reading = shop.reading(batch_rows=1)
    next(reading)
    next(reading)
    shop.execute("ALTER TABLE t DROP COLUMN c")
    with pytest.raises(TaskError, match="no such column") as caught:
        list(reading)
    assert caught.value.hint


def test_generated_and_composite_and_descending_keys(shop):
    shop.execute(
        "CREATE TABLE t (a INTEGER, b TEXT, double INTEGER GENERATED ALWAYS AS (a * 2) VIRTUAL, "
        "kept INTEGER GENERATED ALWAYS AS (a * 3) STORED, PRIMARY KEY (b DESC, a)) WITHOUT ROWID"
    )
    shop.execute("INSERT INTO t (a, b) VALUES (?, ?)", *[(n, "xy"[n % 2]) for n in range(7)])
    table, found = shop.table(), shop.sync(batch_rows=2)
    assert table.primary_key == ("b", "a")
    assert sorted(found.column("a")) == list(range(7))
    assert all((row["double"], row["kept"]) == (row["a"] * 2, row["a"] * 3) for row in found.rows)


def test_what_is_no_table_of_the_user_is_left_out(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)")
    shop.execute("CREATE VIRTUAL TABLE words USING fts5(v)")
    shop.execute("CREATE VIEW works AS SELECT count(*) AS n FROM t")
    assert [table.name for table in shop.source().tables() if table.unreadable is None] == ["t", "works"]


def test_a_virtual_table_is_named_and_not_read(shop):
    shop.execute("CREATE VIRTUAL TABLE words USING fts5(v)")
    (words,) = shop.source().tables()
    assert words.name == "words"
    assert "virtual" in words.unreadable.message
    assert "skip_tables" in words.unreadable.hint


def test_a_table_whose_column_needs_a_function_that_is_missing_holds_back_no_other(shop):
    shop.writer.create_function("shout", 1, str.upper, deterministic=True)
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    shop.execute("CREATE TABLE loud (id INTEGER PRIMARY KEY, v TEXT, w TEXT AS (shout(v)))")
    found = {table.name: table.unreadable for table in shop.source().tables()}
    assert found["t"] is None
    assert found["loud"].message.startswith("table 'loud' does not work: ")
    assert "shout" in found["loud"].message


# settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "message", "hint"),
    [
        ({"ordres": {}}, "no table 'ordres'", "did you mean 'orders'?"),
        ({"orders": {"incremental_key": "updatedat"}}, "no column 'updatedat'", "did you mean 'updated_at'?"),
        ({"orders": {"columns": ["id", "nam"]}}, "no column 'nam'", "did you mean 'name'?"),
        ({"orders": {"primary_key": ["idd"]}}, "no column 'idd'", "did you mean 'id'?"),
        ({"orders": {"types": {"idd": "string"}}}, "no column 'idd'", "did you mean 'id'?"),
        ({"orders": {"types": {"id": "number"}}}, "no type 'number'", "the types are string"),
        ({"orders": {"where": "nosuch = 1"}}, "`where` is no condition", "nosuch = 1"),
        ({"orders": {"where": "1) OR (1"}}, "`where` is no condition", "1) OR (1"),
        ({"orders": {"lag": "5m"}}, "`lag` means nothing", "remove `lag`"),
        ({"orders": {"incremental_key": "picture"}}, "of type binary", "choose a column"),
        ({"orders": {"incremental_key": "updated_at", "timezone": "Mars/Base"}}, "no time zone", "Europe/Berlin"),
        ({"bare": {"deletes": "sweep"}}, "needs a primary key", "name its `primary_key`"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_way_out(shop, tables, message, hint):
    shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, updated_at TEXT, name TEXT, picture BLOB)")
    shop.execute("CREATE TABLE bare (v TEXT)")
    shop.settings = tables
    with pytest.raises(UsageError) as caught:
        shop.sync(name=next(iter(tables)))
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("start", ["soon", "2024-13-01"])
def test_a_start_that_is_no_value_of_the_key_is_refused(shop, start):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT)")
    for key in ("id", "at"):
        shop.settings = {"t": {"incremental_key": key, "start": start}}
        with pytest.raises(UsageError, match="`start"):
            shop.sync()


def test_chosen_columns_and_the_keys_are_delivered(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, a TEXT, b TEXT)")
    shop.execute(f"INSERT INTO t VALUES (1, '{at(hours=1)}', 'a', 'b')")
    shop.settings = {"t": {"columns": ["b"], "incremental_key": "at"}}
    assert set(shop.sync().rows[0]) == {"id", "at", "b"}


def test_about_how_many_rows_there_are_is_told_where_it_is_known(shop):
    for statement in (
        "TABLE t (id INTEGER PRIMARY KEY)",
        "TABLE far (id INTEGER PRIMARY KEY)",
        "VIEW v AS SELECT * FROM t",
    ):
        shop.execute(f"CREATE {statement}")
    shop.execute("INSERT INTO t VALUES (?)", *[(number,) for number in range(1, 501)])
    shop.execute("INSERT INTO far VALUES (1234567890123)")
    assert [shop.table(name).rows_about for name in ("t", "far", "v")] == [500, None, None]
    shop.settings = {"t": {"where": "id > 7"}}
    assert shop.table().rows_about is None


# the file ------------------------------------------------------------------------------------------------------------


def source(path, **spec):
    return SQLiteSource(SQLiteSource.Spec(path=str(path), **spec))


def test_a_file_that_is_missing_is_named_and_not_created(tmp_path):
    with pytest.raises(UnreachableError, match=r"shop\.db") as caught:
        source(tmp_path / "shop.db").tables()
    assert "path" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "shop.db").write_text("a,b\n1,2\n" * 1000)
    with pytest.raises(UsageError, match="not an SQLite database"):
        source(tmp_path / "shop.db").tables()


def test_a_directory_is_no_database(tmp_path):
    with pytest.raises(UnreachableError, match="is a directory"):
        source(tmp_path).tables()


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "a?mode=rwc&x=.db", "a#b.db", "é日.db"])
def test_a_path_is_a_path_and_no_url(tmp_path, name):
    shop = Shop(tmp_path / name)
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    assert [table.name for table in shop.source().tables()] == ["t"]
    shop.close()


def test_a_writer_that_holds_the_file_is_waited_for_and_then_named(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    shop.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RetryableError, match="busy_timeout"):
        shop.source(busy_timeout="0").tables()
    shop.execute("ROLLBACK")


def test_the_source_is_never_written(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    shop.settings = {"t": {"where": "id IN (SELECT 1)"}}
    before = shop.path.read_bytes()
    shop.sync()
    assert shop.path.read_bytes() == before


def test_a_table_that_went_away_fails_its_task(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    reading = shop.reading()
    shop.execute("DROP TABLE t")
    with pytest.raises(TaskError) as caught:
        list(reading)
    assert caught.value.hint


@pytest.mark.parametrize(
    "cursor",
    [
        {},
        {"version": 2, "kind": "time"},
        {"version": 1, "kind": "time", "height": {"hex": "00"}},
        {"version": 1, "kind": "time", "height": 5, "extra": 1},
        {"version": 1, "kind": "full"},
        {"version": 1, "kind": "text", "height": "x"},
        {"id": 5},
    ],
)
def test_a_cursor_that_is_not_its_own_is_refused(shop, cursor):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT)")
    shop.settings = {"t": {"incremental_key": "at"}}
    with pytest.raises(TaskError) as caught:
        shop.sync(cursor)
    assert caught.value.hint


def test_a_task_is_read_by_another_process_that_has_not_asked_for_tables(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    shop.execute("INSERT INTO t VALUES (1), (2)")
    source_ = shop.source()
    (task,) = pickle.loads(pickle.dumps(list(source_.tasks(source_.tables()))))
    (insert,) = [one for one in shop.source().read(task, Reading(None, datetime.now(UTC))) if hasattr(one, "batch")]
    assert insert.batch.column("id").to_pylist() == [1, 2]
