"""The hazards of reading SQLite incrementally, one test each. A row that is missed is the worst of them."""

import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlite_shop import Shop, at, insert, keyed, taken

from strandline.errors import CursorExpiredError, TaskError
from strandline.message import Checkpoint, Complete, Insert, Notice, Present


@pytest.fixture(params=[False, True], ids=["journal", "wal"])
def shop(tmp_path, request):
    shop = Shop(tmp_path / "shop.db", wal=request.param)
    yield shop
    shop.close()


@pytest.fixture(params=[True, False], ids=["indexed", "unindexed"])
def index(request):
    return request.param


# the hole table, at the source ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", ["0", "1h"])
def test_hole_a_a_row_that_appears_late_is_delivered_within_the_lag(shop, index, lag):
    keyed(shop, (1, at(minutes=10)), index=index, lag=lag)
    first = shop.sync()
    insert(shop, (2, at(minutes=40)))
    assert (2 in shop.sync(first.cursor).ids) == (lag == "1h")


def test_hole_b_a_new_row_with_the_cursor_value_of_the_last_one_synced(shop, index):
    stamp = at(hours=1)
    keyed(shop, (1, stamp), index=index)
    first = shop.sync()
    insert(shop, (2, stamp))
    assert 2 in shop.sync(first.cursor).ids


def test_hole_c_a_row_that_changes_again_within_the_same_timestamp(shop, index):
    keyed(shop, (1, at(hours=1)), index=index)
    first = shop.sync()
    shop.execute("UPDATE t SET v = 'new'")
    second = shop.sync(first.cursor)
    assert second.column("v") == ["new"]
    assert first.ids_again == second.ids_again == [1]


UNITS = {"text": None, "s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@pytest.mark.parametrize("unit", UNITS)
def test_hole_d_a_row_dated_in_the_future_never_moves_the_cursor_past_the_clock(shop, index, unit):
    def stamp(**ago):
        moment = datetime.now(UTC) - timedelta(**ago)
        return at(**ago) if unit == "text" else int(moment.timestamp()) * UNITS[unit]

    keyed(shop, (1, stamp(days=2)), (2, stamp(days=-4000)), kind="TEXT" if unit == "text" else "INTEGER", index=index)
    first = shop.sync()
    insert(shop, (3, stamp(days=1)))
    second = shop.sync(first.cursor)
    third = shop.sync(second.cursor)
    assert first.ids == [1, 2]
    assert {2, 3} <= set(second.ids)
    assert third.ids == third.ids_again == [2, 3]
    assert 2 in first.ids_again


def test_hole_d_a_table_of_future_rows_only_has_no_cursor_yet(shop, index):
    keyed(shop, (1, "9999-12-31 00:00:00"), index=index)
    first = shop.sync()
    insert(shop, (2, "1970-01-02 00:00:00"))
    assert shop.sync(first.cursor).ids == [1, 2]


def test_hole_e_a_null_in_the_key_is_read_at_every_sync(shop, index):
    keyed(shop, (1, at(hours=1)), index=index)
    first = shop.sync()
    insert(shop, (2, None))
    second = shop.sync(first.cursor)
    third = shop.sync(second.cursor)
    assert 2 in second.ids_again
    assert 2 in third.ids_again


@pytest.mark.parametrize("batch_rows", [1, 3, 7])
def test_hole_j_a_chunked_read_over_repeated_timestamps(shop, index, batch_rows):
    stamps = [at(minutes=30), at(minutes=20), at(minutes=10)]
    keyed(shop, *[(n, stamps[n % 3]) for n in range(20)], index=index)
    first = shop.sync(batch_rows=batch_rows)
    assert first.ids == list(range(20))
    insert(shop, *[(n, stamps[2]) for n in range(20, 60)])
    second = shop.sync(first.cursor, batch_rows=batch_rows)
    assert [n for n in second.ids if n >= 20] == list(range(20, 60))
    assert len(second.ids) == len(set(second.ids))


# what happens while a table is read ----------------------------------------------------------------------------------


DISTURBANCES = {
    "vacuum": ("VACUUM",),
    "index": ("CREATE INDEX IF NOT EXISTS later ON t (v)", "DROP INDEX later"),
    "column": ("ALTER TABLE t ADD COLUMN w TEXT", "ALTER TABLE t DROP COLUMN w"),
    "another table": ("CREATE TABLE other (x)", "DROP TABLE other"),
    "rewritten": ("CREATE TABLE u AS SELECT * FROM t ORDER BY id DESC", "DROP TABLE t", "ALTER TABLE u RENAME TO t"),
}


@pytest.mark.parametrize("disturbance", DISTURBANCES)
@pytest.mark.parametrize("settings", [{}, {"incremental_key": "at"}], ids=["full", "incremental"])
@pytest.mark.parametrize("definition", ["id INTEGER, at TEXT, v TEXT", "id TEXT PRIMARY KEY, at TEXT, v TEXT"])
def test_a_table_without_a_usable_key_is_never_read_twice_whatever_happens_to_it(
    shop, disturbance, settings, definition
):
    shop.execute(f"CREATE TABLE t ({definition})")
    shop.execute("INSERT INTO t VALUES (?, ?, ?)", (None, None, "none"))
    shop.execute("INSERT INTO t VALUES (?, ?, ?)", *[(n, at(minutes=n + 1), f"v{n}") for n in range(20)])
    shop.settings = {"t": settings}
    shop.execute("DELETE FROM t WHERE v IN ('v3', 'v4', 'v5')")
    found, cursors = [], []
    for message in shop.reading(batch_rows=4):
        if isinstance(message, Insert):
            found += message.batch.column("v").to_pylist()
        if isinstance(message, Checkpoint):
            cursors.append(message.cursor)
        for statement in DISTURBANCES[disturbance]:
            shop.execute(statement)
    assert sorted(found) == sorted(["none", *(f"v{n}" for n in range(20) if n not in {3, 4, 5})])
    # a position among rows without a key could not be found again, so there is none
    assert all(cursor is None or "current" not in cursor for cursor in cursors)


@pytest.mark.parametrize("before", ["INTEGER PRIMARY KEY", "INTEGER NOT NULL PRIMARY KEY DESC"])
@pytest.mark.parametrize("after", ["INTEGER PRIMARY KEY", "INTEGER NOT NULL PRIMARY KEY DESC", "INTEGER"])
def test_a_pass_does_not_go_on_among_rows_that_another_key_tells_apart(shop, before, after):
    shop.execute(f"CREATE TABLE t (id {before})")
    shop.execute("INSERT INTO t VALUES (1), (2), (3)")
    shop.settings = {"t": {"primary_key": ["id"]}}
    first = shop.sync(batch_rows=1)
    shop.execute("DROP TABLE t")
    shop.execute(f"CREATE TABLE t (id {after})")
    shop.execute("INSERT INTO t VALUES (1), (2), (3)")
    cursor, _ = first.checkpoints[0]
    if before == after:
        assert shop.sync(cursor).ids == [2, 3]
    else:
        with pytest.raises(CursorExpiredError):
            shop.sync(cursor)


def test_vacuum_does_not_disturb_tables_with_a_primary_key(shop):
    shop.execute("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)")
    shop.execute("INSERT INTO t VALUES (?, 'v')", *[(f"{n:02}",) for n in range(20)])
    first = shop.sync(batch_rows=5)
    cursor, rows = first.checkpoints[1]
    shop.execute("DELETE FROM t WHERE id < '05'")
    shop.execute("VACUUM")
    assert len(rows) == 10
    assert shop.sync(cursor, batch_rows=5).ids == [f"{n:02}" for n in range(10, 20)]


def test_rows_without_a_primary_key_value_are_delivered(shop):
    shop.execute("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)")
    shop.execute("INSERT INTO t VALUES (?, ?)", ("a", "1"), (None, "2"), (None, "3"), ("b", "4"))
    assert sorted(shop.sync(batch_rows=1).column("v")) == ["1", "2", "3", "4"]


def test_keys_that_differ_by_case_only_are_all_delivered(shop):
    shop.execute("CREATE TABLE t (id TEXT COLLATE NOCASE, v TEXT, PRIMARY KEY (id COLLATE BINARY))")
    shop.execute("INSERT INTO t VALUES (?, ?)", ("a", "1"), ("A", "2"), ("b", "3"), ("B", "4"))
    assert sorted(shop.sync(batch_rows=1).column("v")) == ["1", "2", "3", "4"]


def test_a_reader_never_holds_up_a_writer_however_slow_it_is(shop):
    keyed(shop, *[(n, at(minutes=n)) for n in range(1, 20)], deletes="sweep")
    shop.execute("CREATE VIEW seen AS SELECT * FROM t")
    for name in ("t", "seen"):
        for number, _ in enumerate(shop.reading(name=name, batch_rows=4)):
            # the writer does not wait at all: it fails at once if the file is held
            shop.execute("INSERT INTO t VALUES (?, ?, 'v')", (1000 * len(name) + number, at(minutes=0)))


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%fZ", "%s"])
def test_nothing_is_missed_while_another_connection_writes_without_a_pause(shop, index, form):
    keyed(shop, kind="INTEGER" if form == "%s" else "TEXT", index=index)
    shop.writer.execute("PRAGMA busy_timeout = 60000")
    done = threading.Event()

    def write():
        with closing(sqlite3.connect(shop.path, isolation_level=None, timeout=60)) as writer:
            for number in range(150):
                writer.execute("BEGIN IMMEDIATE")
                writer.execute("INSERT INTO t VALUES (?, strftime(?, 'now'), 'v')", (number, form))
                writer.execute("UPDATE t SET at = strftime(?, 'now'), v = v || 'w' WHERE id = ?", (form, number // 2))
                writer.execute("COMMIT")
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    cursor, found, was_done = None, {}, False
    while not was_done:
        was_done = done.is_set()
        synced = shop.sync(cursor, batch_rows=7)
        cursor = synced.cursor
        found |= {row["id"]: row["v"] for row in synced.rows}
    thread.join()
    assert found == dict(shop.writer.execute("SELECT id, v FROM t"))


def test_a_row_that_is_written_while_the_table_is_first_read_comes_with_the_next_sync(shop, index):
    keyed(shop, *[(n, at(minutes=100 - n)) for n in range(10, 20)], index=index)
    reading = shop.reading(batch_rows=2)
    next(reading)
    insert(shop, (1, at(minutes=0)), (99, at(minutes=0)))
    shop.execute("UPDATE t SET at = ?, v = 'changed' WHERE id IN (10, 19)", (at(minutes=0),))
    first = taken(reading)
    second = shop.sync(first.cursor)
    assert {1, 99, 10, 19} <= set(second.ids)


def test_a_table_to_which_rows_are_added_without_end_is_read_to_an_end(shop, index):
    keyed(shop, *[(n, at(minutes=100 - n)) for n in range(10)], index=index)
    cursor = None
    for _ in range(2):
        for number, message in enumerate(shop.reading(cursor, batch_rows=2)):
            assert number < 100
            top = shop.writer.execute("SELECT max(id) FROM t").fetchone()[0]
            insert(shop, *[(top + n, at(minutes=0)) for n in range(1, 4)])
            cursor = message.cursor if isinstance(message, Checkpoint) else cursor
    assert {row["id"] for row in shop.sync(cursor).rows} >= {top + 1, top + 2, top + 3}


def test_a_longer_lag_reaches_back_only_over_rows_that_were_marked(shop, index):
    keyed(shop, *[(n, at(minutes=60 - n)) for n in range(1, 6)], index=index)
    first = shop.sync()
    shop.settings["t"]["lag"] = "2h"
    second = shop.sync(first.cursor)
    assert second.ids == [5]
    insert(shop, (6, at(minutes=1)))
    third = shop.sync(second.cursor)
    insert(shop, (7, at(minutes=30)))
    assert 7 in shop.sync(third.cursor).ids


# deletes -------------------------------------------------------------------------------------------------------------


def test_the_key_sweep_names_every_row_that_is_there(shop, index):
    keyed(shop, *[(n, at(minutes=n)) for n in range(1, 11)], index=index, deletes="sweep")
    first = shop.sync(batch_rows=3)
    shop.execute("DELETE FROM t WHERE id = 4")
    reading = shop.reading(first.cursor, batch_rows=3)
    messages = []
    for message in reading:
        messages.append(message)
        if isinstance(message, Present):
            break
        insert(shop, (100 + len(messages), at(minutes=0)))
    second = taken(reading)
    kinds = [type(message) for message in [*messages, *second.messages]]
    present = {key["id"] for key in messages[-1].keys.to_pylist() + second.present}
    delivered = {row["id"] for message in messages if hasattr(message, "batch") for row in message.batch.to_pylist()}
    assert present >= ({1, 2, 3, 5, 6, 7, 8, 9, 10} | delivered)
    assert 4 not in present
    assert Checkpoint not in kinds[kinds.index(Present) : kinds.index(Complete)]


def test_the_key_sweep_of_an_emptied_table_says_that_nothing_is_there(shop):
    keyed(shop, (1, at(hours=1)), deletes="sweep")
    first = shop.sync()
    shop.execute("DELETE FROM t")
    second = shop.sync(first.cursor)
    assert sum(isinstance(message, Present) for message in second.messages) == 1
    assert second.present == []


def test_the_key_sweep_names_only_rows_that_the_settings_select(shop):
    keyed(shop, (1, "2024-01-01"), (2, "2024-06-01"), (3, None), deletes="sweep", start="2024-03-01", where="id <> 4")
    insert(shop, (4, "2024-07-01"))
    assert sorted(key["id"] for key in shop.sync().present) == [2, 3]


# settings that select rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["2024-03-01", datetime(2024, 3, 1, tzinfo=UTC).date(), "2024-02-29T23:59:59.5"])
def test_start_leaves_out_what_is_older(shop, index, start):
    keyed(shop, (1, "2024-02-29 23:59:58"), (2, "2024-03-01 00:00:00"), (3, None), index=index, start=start)
    assert shop.sync().ids == [2, 3]


def test_start_of_a_number_is_a_number(shop, index):
    keyed(shop, (1, 1_700_000_000), (2, 1_700_000_001), kind="INTEGER", index=index, start=1_700_000_001)
    assert shop.sync().ids == [2]


def test_nulls_can_be_left_out_or_refused(shop, index):
    keyed(shop, (1, at(hours=1)), (2, None), index=index, nulls="exclude")
    first = shop.sync(batch_rows=1)
    insert(shop, (3, None), (4, at(minutes=1)))
    assert first.ids == [1]
    second = shop.sync(first.cursor, batch_rows=1)
    assert second.ids == [1, 4]
    notices = [[one.text for one in sync.messages if isinstance(one, Notice)] for sync in (first, second)]
    assert [len(texts) for texts in notices] == [1, 1]
    assert notices[1][0].startswith("2 rows whose 'at' is NULL")
    shop.settings["t"]["nulls"] = "fail"
    with pytest.raises(TaskError, match="2 rows have no 'at'"):
        shop.sync()


def test_what_restricts_the_rows_is_part_of_the_state(shop):
    keyed(shop, (1, at(hours=1)))

    def fingerprint(**settings):
        shop.settings = {"t": {"incremental_key": "at", **settings}}
        return shop.table().fingerprint

    plain = fingerprint()
    restricted = [{"where": "id > 1"}, {"start": "2024-01-01"}, {"nulls": "exclude"}, {"timezone": "Europe/Berlin"}]
    restricted += [{"columns": ["id"]}, {"columns": ["id", "v"]}]
    assert len({plain, *(fingerprint(**settings) for settings in restricted)}) == 7
    assert fingerprint(columns=["v", "id"]) == fingerprint(columns=["id", "v"])
    assert fingerprint(columns=["v"], mode="full") == fingerprint(mode="full")
    assert fingerprint(lag="5m") == fingerprint(nulls="fail") == fingerprint(deletes="sweep") == plain


def test_full_mode_reads_all_rows_at_every_sync(shop):
    keyed(shop, (1, at(hours=1)), mode="full")
    first = shop.sync()
    assert first.cursor is None
    assert not shop.table().incremental
    assert shop.sync(first.cursor).ids == [1]


def test_the_clock_is_the_sources_own_when_none_is_given(shop):
    keyed(shop, (1, at(seconds=-3600)), (2, at(seconds=3600)))
    before = time.time()
    cursor = shop.sync().cursor
    assert datetime.fromisoformat(cursor["shown"]).replace(tzinfo=UTC).timestamp() <= before - 3500


def test_nothing_is_left_in_the_file_or_beside_it(shop):
    keyed(shop, (1, at(hours=1)), deletes="sweep")
    shop.execute("CREATE VIEW seen AS SELECT * FROM t")
    shop.sync(name="seen")
    shop.sync()
    with closing(sqlite3.connect(shop.path)) as other:
        names = {name for (name,) in other.execute("SELECT name FROM sqlite_schema")}
    assert names == {"t", "by_at", "seen"}
    assert {path.name for path in shop.path.parent.iterdir()} <= {"shop.db", "shop.db-wal", "shop.db-shm"}
