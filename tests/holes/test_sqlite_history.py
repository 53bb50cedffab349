"""What changes in an SQLite file without a new stamp: files put back or exchanged, tables created again, columns and views that are others."""

import shutil
import sqlite3
from contextlib import closing
from unittest.mock import patch

import pytest

OVERWRITING = ["overwrite", "overwrite-delete-stale"]
ROWS = [(number, f"v{number}", f"2026-01-0{number} 00:00:00") for number in range(1, 5)]
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, at TEXT)"
AGAIN = "reading everything"
KEYED = {"t": {"incremental_key": "at", "deletes": "sweep"}}


class File:
    """The file of the source, as somebody with a shell treats it."""

    def __init__(self, bench):
        self.bench, self.path = bench, bench.origin.path

    def execute(self, *statements, rows=()):
        with closing(sqlite3.connect(self.path)) as connection:
            for statement in statements:
                if rows:
                    connection.executemany(statement, rows)
                else:
                    connection.execute(statement)
                connection.commit()

    def rows(self, columns="id, v"):
        with closing(sqlite3.connect(self.path)) as connection:
            return sorted(connection.execute(f"SELECT {columns} FROM t"), key=repr)

    def copy(self, name):
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(self.path, self.path.with_name(name))

    def put_back(self, name, *, move):
        for ending in ("-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        if move:
            shutil.copy(self.path.with_name(name), self.path.with_name("moved"))
            self.path.with_name("moved").replace(self.path)
        else:
            shutil.copy(self.path.with_name(name), self.path)


@pytest.fixture
def file(request, bench):
    file = File(bench)
    file.execute(f"PRAGMA journal_mode = {getattr(request, 'param', 'delete')}", TABLE)
    file.execute("INSERT INTO t VALUES (?, ?, ?)", rows=ROWS)
    bench.tables = KEYED
    return file


in_both_modes = pytest.mark.parametrize("file", ["delete", "wal"], indirect=True)
only_overwriting = pytest.mark.parametrize("bench", OVERWRITING, indirect=True)
only_appending = pytest.mark.parametrize("bench", ["append"], indirect=True)


@only_overwriting
@pytest.mark.parametrize("move", [False, True], ids=["cp", "mv"])
@in_both_modes
def test_a_file_that_was_put_back_from_a_backup(bench, sync, file, move):
    sync()
    file.copy("backup.db")
    file.execute(
        "UPDATE t SET v = 'wrong', at = '2026-01-06 00:00:00' WHERE id IN (2, 3)",
        "INSERT INTO t VALUES (5, 'e', '2026-01-07 00:00:00')",
    )
    sync()
    file.put_back("backup.db", move=move)
    assert "put back from a backup" in sync().text
    sync()
    assert bench.store.rows() == file.rows()


@only_overwriting
@in_both_modes
def test_a_file_that_was_put_back_and_written_since(bench, sync, file):
    sync()
    file.copy("backup.db")
    file.execute("UPDATE t SET v = 'wrong', at = '2026-01-06 00:00:00' WHERE id = 2")
    sync()
    file.put_back("backup.db", move=False)
    for number in range(6, 30):
        file.execute(f"INSERT INTO t VALUES ({number}, 'new', '2026-01-08 00:00:00')")
    assert "put back from a backup" in sync().text
    assert bench.store.rows() == file.rows()


@only_overwriting
@in_both_modes
def test_ids_that_were_handed_out_again_after_a_file_was_put_back(bench, sync, file):
    bench.tables = {"t": {"incremental_key": "id"}}
    sync()
    file.copy("backup.db")
    file.execute("INSERT INTO t VALUES (5, 'lost', NULL)", "INSERT INTO t VALUES (6, 'lost', NULL)")
    sync()
    file.put_back("backup.db", move=True)
    file.execute("INSERT INTO t VALUES (5, 'new', NULL)", "INSERT INTO t VALUES (6, 'new', NULL)")
    assert AGAIN in sync().text
    assert bench.store.rows() == file.rows()


@only_overwriting
@pytest.mark.parametrize("key", ["at", "id"])
@in_both_modes
def test_another_database_under_the_same_name(bench, sync, file, key):
    bench.tables = {"t": {"incremental_key": key}}
    sync()
    file.path.rename(file.path.with_name("old.db"))
    file.execute(TABLE)
    other = [(number, f"w{number}", f"2025-01-0{number} 00:00:00") for number in range(1, 8)]
    file.execute("INSERT INTO t VALUES (?, ?, ?)", rows=other)
    assert AGAIN in sync().text
    assert bench.store.rows() == file.rows()


@only_overwriting
def test_another_database_whose_rows_are_newer_and_were_read_past(bench, sync, file):
    sync()
    file.path.rename(file.path.with_name("old.db"))
    file.execute(TABLE)
    other = [(number, f"w{number}", f"2026-01-0{number} 00:00:01") for number in range(1, 4)]
    file.execute("INSERT INTO t VALUES (?, ?, ?)", rows=[*other, (7, "w7", "2026-01-01 00:00:00")])
    assert AGAIN in sync().text
    sync()
    assert bench.store.rows() == file.rows()


@only_overwriting
def test_rows_that_have_later_times_which_were_read_past(bench, sync, file):
    sync()
    file.execute("UPDATE t SET v = 'late', at = '2026-01-02 12:00:00' WHERE id = 1")
    assert AGAIN in sync().text
    assert bench.store.rows() == file.rows()


@only_overwriting
def test_two_copies_that_were_both_written_on(bench, sync, file):
    sync()
    file.copy("other.db")
    file.execute("INSERT INTO t VALUES (30, 'here', '2026-03-02 00:00:00')")
    sync()
    file.put_back("other.db", move=True)
    file.execute("INSERT INTO t VALUES (40, 'there', '2026-03-01 00:00:00')")
    assert AGAIN in sync().text
    sync()
    assert bench.store.rows() == file.rows()


@only_overwriting
def test_another_path(bench, sync, file):
    sync()
    file.path = file.path.with_name("other.db")
    bench.origin.path = file.path
    bench.origin.spec["spec"]["path"] = str(file.path)
    file.execute(TABLE)
    file.execute(
        "INSERT INTO t VALUES (?, ?, ?)", rows=[(1, "one", "2025-01-01 00:00:00"), (9, "nine", "2025-01-02 00:00:00")]
    )
    assert AGAIN in sync().text
    sync("--allow-mass-delete")
    assert bench.store.rows() == file.rows()


@only_overwriting
@pytest.mark.parametrize(
    "source",
    [
        "SELECT id, upper(v), at FROM t",
        "SELECT id, v, at FROM t UNION ALL SELECT id + 100, 'archive', '2020-01-01 00:00:00' FROM t",
        "SELECT id + 10, v, at FROM t",
    ],
    ids=["other values", "more rows", "other keys"],
)
def test_a_table_that_was_made_anew_under_the_same_name(bench, sync, file, source):
    sync()
    file.execute(
        TABLE.replace("TABLE t", "TABLE fresh"),
        f"INSERT INTO fresh {source}",
        "DROP TABLE t",
        "ALTER TABLE fresh RENAME TO t",
    )
    sync()
    sync()
    assert bench.store.rows() == file.rows()


COLUMNS = {
    "dropped and added": ("ALTER TABLE t DROP v", "ALTER TABLE t ADD v TEXT", "UPDATE t SET v = 'new'"),
    "renamed": ("ALTER TABLE t RENAME v TO old", "ALTER TABLE t ADD v TEXT DEFAULT 'new'"),
    "exchanged": ("ALTER TABLE t RENAME v TO x", "ALTER TABLE t RENAME w TO v", "ALTER TABLE t RENAME x TO w"),
    "the last one": ("ALTER TABLE t DROP z", "ALTER TABLE t ADD z TEXT"),
}


@only_overwriting
@pytest.mark.parametrize("statements", COLUMNS.values(), ids=[*COLUMNS])
def test_a_column_that_is_another_one_of_the_same_name(bench, sync, file, statements):
    file.execute("DROP TABLE t", "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT, at TEXT, z TEXT)")
    file.execute("INSERT INTO t VALUES (?, ?, 'w', ?, 'z')", rows=ROWS)
    sync()
    file.execute(*statements)
    assert AGAIN in sync().text
    columns = "id, v, w, z"
    assert bench.store.rows(columns) == file.rows(columns)


@only_overwriting
def test_a_generated_column_that_is_made_otherwise(bench, sync, file):
    made = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, at TEXT, g TEXT AS (v || '{}'))"
    file.execute("DROP TABLE t", made.format("!"))
    file.execute("INSERT INTO t (id, v, at) VALUES (?, ?, ?)", rows=ROWS)
    sync()
    file.execute(
        made.format("?").replace("TABLE t", "TABLE n"),
        "INSERT INTO n (id, v, at) SELECT id, v, at FROM t",
        "DROP TABLE t",
        "ALTER TABLE n RENAME TO t",
    )
    sync()
    assert bench.store.rows("id, g") == file.rows("id, g")


@only_overwriting
@pytest.mark.parametrize(
    "below", ["CREATE VIEW t AS SELECT {} FROM b", "CREATE VIEW t AS SELECT id, v, at FROM middle"]
)
def test_a_view_that_is_defined_otherwise(bench, sync, file, below):
    bench.tables = {"t": {"incremental_key": "at", "primary_key": ["id"]}}
    columns = ("id, v, at", "id, upper(v) AS v, at")
    file.execute(
        "ALTER TABLE t RENAME TO b", f"CREATE VIEW middle AS SELECT {columns[0]} FROM b", below.format(columns[0])
    )
    sync()
    file.execute(
        "DROP VIEW t", "DROP VIEW middle", f"CREATE VIEW middle AS SELECT {columns[1]} FROM b", below.format(columns[1])
    )
    assert "defined otherwise" in sync().text
    assert bench.store.rows() == [(number, f"V{number}") for number in range(1, 5)]


@only_overwriting
def test_ids_of_autoincrement_that_start_again(bench, sync, file):
    bench.tables = {"t": {"incremental_key": "id"}}
    file.execute("DROP TABLE t", "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)")
    file.execute("INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (9, 'b')")
    sync()
    file.execute("DELETE FROM t", "DELETE FROM sqlite_sequence", "INSERT INTO t VALUES (1, 'new'), (2, 'new')")
    assert AGAIN in sync().text
    assert {(1, "new"), (2, "new")} <= set(bench.store.rows())


MOVES = {
    "vacuum": lambda file: file.execute("VACUUM"),
    "vacuum into": lambda file: (file.execute("VACUUM INTO 'copy.db'"), file.put_back("copy.db", move=True)),
    "cp": lambda file: (file.copy("copy.db"), file.put_back("copy.db", move=True)),
    "new column": lambda file: file.execute("ALTER TABLE t ADD more TEXT"),
    "index": lambda file: file.execute("CREATE INDEX i ON t (v)", "ANALYZE", "DROP INDEX i"),
    "other table": lambda file: file.execute("CREATE TABLE other (x)", "INSERT INTO other VALUES (1)"),
}


@pytest.mark.parametrize("bench", ["append", "overwrite"], indirect=True)
@pytest.mark.parametrize("key", ["at", "id"])
@pytest.mark.parametrize("move", MOVES.values(), ids=[*MOVES])
@in_both_modes
def test_a_file_that_was_only_moved_or_altered_is_not_read_again(bench, sync, file, monkeypatch, key, move):
    monkeypatch.chdir(bench.directory)
    bench.tables = {"t": {"incremental_key": key}}
    sync()
    move(file)
    file.execute("INSERT INTO t (id, v, at) VALUES (5, 'e', '2026-01-05 00:00:00')")
    outcome = sync()
    assert "reading everything" not in outcome.text
    assert bench.store.rows() == file.rows()


@only_appending
def test_where_rows_would_be_stored_twice_the_table_stops_with_a_hint(bench, sync, file):
    bench.tables = {"t": {"incremental_key": "at"}}
    sync()
    file.copy("backup.db")
    file.execute("UPDATE t SET v = 'wrong', at = '2026-01-06 00:00:00' WHERE id IN (2, 3)")
    sync()
    before = bench.store.rows()
    file.put_back("backup.db", move=False)
    outcome = sync(code=1)
    assert "put back from a backup" in outcome.text
    assert "--full-refresh" in outcome.text
    assert bench.store.rows() == before
    sync("--full-refresh", "t")
    assert bench.store.rows() == file.rows()


@pytest.mark.parametrize("bench", ["append", "overwrite"], indirect=True)
def test_a_cursor_of_version_0_1_goes_on_without_reading_again(bench, sync, file):
    """It takes what tells of the file at its first sync."""
    with patch("strandline.connectors.sqlite.cursor.Saved.json_value", _of_0_1):
        bench.tables = {"t": {"incremental_key": "at"}}
        sync()
    assert set(bench.state()["cursor"]) == {"version", "kind", "height", "seen", "tracked", "shown"}
    file.execute("INSERT INTO t VALUES (5, 'e', '2026-01-05 00:00:00')")
    assert AGAIN not in sync().text
    assert bench.store.rows() == file.rows()
    assert bench.state()["cursor"]["origin"]
    file.execute("ALTER TABLE t DROP v", "ALTER TABLE t ADD v TEXT")
    assert "is another one" in sync(code=1 if bench.mode == "append" else 0).text


def _of_0_1(saved):
    whole = saved.model_dump(mode="json", exclude_none=True)
    return {name: value for name, value in whole.items() if name not in {"origin", "witnesses", "form"}}
