"""Which values of an incremental key are new, in every form that SQLite stores: none that may be newer is missed."""

import time
from datetime import UTC, datetime

import pytest
from sqlite_shop import Shop, at, insert, keyed, taken

from strandline.connectors.sqlite.source import SQLiteSource
from strandline.errors import CursorExpiredError, TaskError, UsageError
from strandline.reading import Reading


@pytest.fixture(params=[False, True], ids=["journal", "wal"])
def shop(tmp_path, request):
    shop = Shop(tmp_path / "shop.db", wal=request.param)
    yield shop
    shop.close()


@pytest.fixture(params=[True, False], ids=["indexed", "unindexed"])
def index(request):
    return request.param


# the order of texts is not always the order of time -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2024-05-05T10:00:00Z", "2024-05-05T10:00:00.700Z"),
        ("2024-05-05T10:00:00.5", "2024-05-05T10:00:00.45"),
        ("2024-05-05T10:00:00.500", "2024-05-05T10:00:00.5"),
        ("2024-05-05T10:00:00", "2024-05-05 11:00:00"),
        ("2024-05-05T10:00:00+00:00", "2024-05-05T05:30:00-05:00"),
        ("2024-05-06T00:30:00+14:00", "2024-05-04T22:31:00-12:00"),
        ("2024-05-05 10:00:00", "2024-05-05"),
        ("2024-05-05 10:00:30", "2024-05-05 10:00"),
        ("2024-05-05 10:00:30Z", "2024-05-05T12:00+02:00"),
        ("2024-05-05", "2024-05-05"),
    ],
)
def test_times_written_in_two_forms_are_all_delivered(shop, index, older, newer):
    keyed(shop, (1, older), index=index)
    first = shop.sync()
    insert(shop, (2, newer))
    assert 2 in shop.sync(first.cursor).ids


def test_times_written_in_two_forms_are_marked_when_they_first_come(shop, index):
    day = at(days=3, form="%Y-%m-%d")
    keyed(shop, (1, f"{day}T10:00:00"), (2, f"{day} 09:00:00"), (3, f"{day} 11:00:00"), (4, day), index=index)
    first = shop.sync()
    second = shop.sync(first.cursor)
    assert set(second.ids) <= set(first.ids_again)
    assert second.ids == second.ids_again


@pytest.mark.parametrize(
    "text", ["21/12/2023 10:00", "2024/12/31", "2024-1-5 10:00", "20240505", "2024-05-05 10:00 PM"]
)
def test_texts_that_only_look_like_times_are_refused(shop, text):
    keyed(shop, (1, text), (2, "2024-05-05 10:00:00"))
    with pytest.raises(TaskError) as caught:
        shop.sync()
    assert "'t'" in caught.value.message
    assert "'at'" in caught.value.message
    assert caught.value.hint


NO_TIMES = """|0000-00-00 00:00:00|0001-01-01T00:00:00Z|1900-01-01|1970-01-01 00:00:00|12/31/2023|1/6/2026|n/a|now"""


@pytest.mark.parametrize("odd", [*NO_TIMES.split("|"), 5, 2.5, b"\x00", b""])
def test_keys_of_another_class_or_without_a_time_are_read_at_every_sync(shop, index, odd):
    keyed(shop, (1, at(days=1)), (2, odd), kind="BLOB", index=index, types={"at": "string"})
    if isinstance(odd, bytes):
        with pytest.raises(TaskError, match="class blob"):
            shop.sync()
        return
    first = shop.sync()
    insert(shop, (3, odd), (4, at(hours=1)))
    second = shop.sync(first.cursor)
    assert first.ids_again == [1, 2]
    assert second.ids == [1, 2, 3, 4]
    assert shop.sync(second.cursor).ids == [2, 3, 4]


UNORDERED = """20/06/2026 10:00|2/6/2026 10:00:00|20 Jun 2026|2026 06 20|2026- 6-20|2026-06- 7|2026-06|2x|1999/12/31
2026-06-20 11:00:00 PM|2026-06-20T9:00"""


@pytest.mark.parametrize(("kind", "settings"), [("TEXT", {}), ("DATETIME", {"start": "2024-05-01"})])
@pytest.mark.parametrize("text", UNORDERED.replace("\n", "|").split("|"))
def test_texts_that_sort_below_the_cursor_but_may_be_later_are_refused_and_not_missed(
    shop, index, kind, settings, text
):
    keyed(shop, (1, "2026-06-20 12:00:00"), kind=kind, index=index, **settings)
    shop.now = datetime(2026, 6, 21, tzinfo=UTC)
    first = shop.sync()
    insert(shop, (2, text))
    for cursor in (first.cursor, None):
        with pytest.raises(TaskError) as caught:
            shop.sync(cursor)
        assert repr(text) in caught.value.message
        assert "where" in caught.value.hint


@pytest.mark.parametrize(
    ("newest", "late"),
    [
        ("2024-05-05 10:01", "2024-05-05 10:00"),
        ("2024-05-05", "2024-05-04"),
        ("2024-05-05T10:01Z", "2024-05-05 10:00:31"),
    ],
)
def test_the_lag_reaches_back_from_the_first_second_that_a_time_may_mean(shop, index, newest, late):
    keyed(shop, (1, newest), index=index, lag="30s")
    first = shop.sync()
    insert(shop, (2, late))
    assert 2 in shop.sync(first.cursor).ids


def test_an_hour_that_comes_twice_is_not_lost(shop, index):
    # Berlin, 29 October 2023: at 01:00 UTC the clocks went back from 03:00 to 02:00
    keyed(shop, (1, "2023-10-29 02:59:00"), index=index, timezone="Europe/Berlin")
    shop.now = datetime(2023, 10, 29, 0, 59, 30, tzinfo=UTC)
    first = shop.sync()
    insert(shop, (2, "2023-10-29 02:01:00"))
    shop.now = datetime(2023, 10, 29, 1, 1, 30, tzinfo=UTC)
    assert 2 in shop.sync(first.cursor).ids


def test_times_behind_utc_are_not_lost_after_a_future_row(shop, index):
    # stamps of a zone nine hours behind, and a date of the year 9999: the clock says nothing about where the rows are
    keyed(shop, (1, at(hours=10)), (2, "9999-12-31 00:00:00"), index=index)
    first = shop.sync()
    insert(shop, (3, at(hours=9)))
    assert 3 in shop.sync(first.cursor).ids


# sequences -----------------------------------------------------------------------------------------------------------


def test_a_sequence_that_started_again_is_noticed(shop):
    keyed(shop, *[(n, None) for n in range(1, 11)])
    shop.settings = {"t": {"incremental_key": "id"}}
    first = shop.sync()
    shop.execute("DELETE FROM t")
    assert shop.sync(first.cursor).ids == []
    insert(shop, (1, None), (2, None))
    with pytest.raises(TaskError, match="started again") as caught:
        shop.sync(first.cursor)
    assert "full-refresh" in caught.value.hint


def test_deleting_the_newest_rows_is_no_restart_where_ids_are_never_handed_out_again(shop):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)")
    shop.execute("INSERT INTO t (v) VALUES (?)", *[("v",)] * 5)
    shop.settings = {"t": {"incremental_key": "id"}}
    first = shop.sync()
    shop.execute("DELETE FROM t WHERE id > 2")
    second = shop.sync(first.cursor)
    shop.execute("INSERT INTO t (v) VALUES ('new')")
    assert second.ids == []
    assert shop.sync(second.cursor).ids == [6]


def test_a_condition_that_rows_leave_is_no_restart(shop):
    keyed(shop, (1, None), (2, None))
    shop.settings = {"t": {"incremental_key": "id", "where": "v = 'v' -- open"}}
    first = shop.sync()
    shop.execute("UPDATE t SET v = 'closed' WHERE id = 2")
    assert shop.sync(first.cursor).ids == []


def test_ids_that_are_texts_are_read_in_their_order(shop, index):
    keyed(shop, (1, "01HX0A"), (2, "01HX0B"), index=index)
    shop.settings = {"t": {"incremental_key": "at"}}
    shop.execute("ALTER TABLE t RENAME COLUMN at TO ulid")
    shop.settings = {"t": {"incremental_key": "ulid"}}
    first = shop.sync()
    insert(shop, (3, "01HX0C"))
    assert shop.sync(first.cursor).ids == [2, 3]


@pytest.fixture
def numbered(shop, index):
    """A table with an incremental key of texts that are no times."""
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, number TEXT, v TEXT)")
    if index:
        shop.execute("CREATE INDEX by_number ON t (number)")
    shop.settings = {"t": {"incremental_key": "number"}}
    return shop


@pytest.mark.parametrize(("older", "newer"), [("999", "1000"), ("ORD-99", "ORD-100"), ("z", "10"), ("9", "10")])
def test_numbers_in_texts_that_grow_by_a_digit_are_refused_and_not_missed(numbered, older, newer):
    insert(numbered, (1, older))
    first = numbered.sync()
    insert(numbered, (2, newer))
    for cursor in (first.cursor, None):
        with pytest.raises(TaskError, match="differ in length") as caught:
            numbered.sync(cursor)
        assert repr(newer) in caught.value.message
        assert caught.value.hint
    assert "of one length" in numbered.table().guarantee.limits


def test_random_ids_are_no_sequence(numbered):
    insert(numbered, (1, "9d2c4a3e-8c39-4f6c-a6de-7d0c37b4b0a1"))
    with pytest.raises(TaskError, match="random") as caught:
        numbered.sync()
    assert caught.value.hint


@pytest.mark.parametrize("definition", ["id INTEGER PRIMARY KEY", "id TEXT PRIMARY KEY", "id INTEGER"])
def test_what_is_added_to_an_empty_table_while_it_is_read_comes_with_the_next_sync(tmp_path, definition):
    shop = Shop(tmp_path / "shop.db", wal=True)
    shop.execute(f"CREATE TABLE t ({definition}, number TEXT)")
    shop.settings = {"t": {"incremental_key": "number"}}

    def clock(_):
        # within the transaction that looks for the bounds, which does not see it
        shop.execute("INSERT OR IGNORE INTO t VALUES (1, '2026-06-20 12:00:00')")
        return int(time.time())

    source = SQLiteSource(SQLiteSource.Spec(path=str(shop.path), tables=shop.settings), clock=clock)
    (task,) = source.tasks(source.tables())
    first = taken(source.read(task, Reading(None, datetime.now(UTC))))
    second = shop.sync(first.cursor)
    assert first.rows + second.rows
    shop.close()


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("odd", [0, -1, 20_260_621, 202_606_211_200, 315_532_799])
def test_numbers_that_are_no_times_of_that_unit_are_read_at_every_sync(shop, index, unit, odd):
    now_s = 1_782_000_100
    shop.now = datetime.fromtimestamp(now_s, UTC)
    keyed(shop, (1, (now_s - 90) * unit), (2, odd), kind="INTEGER", index=index)
    first = shop.sync()
    insert(shop, (3, odd), (4, (now_s - 60) * unit))
    second = shop.sync(first.cursor)
    assert first.ids_again == [1, 2]
    assert second.ids == second.ids_again == [1, 2, 3, 4]
    assert shop.sync(second.cursor).ids == [2, 3, 4]


def test_numbers_that_are_dates_without_marks_are_not_missed_after_one_of_the_future(shop, index):
    keyed(shop, (1, 202_601_011_200), (2, 999_912_312_359), kind="INTEGER", index=index)
    first = shop.sync()
    insert(shop, (3, 202_601_021_200))
    assert 3 in shop.sync(first.cursor).ids


def test_a_lag_on_an_id_is_refused(shop):
    keyed(shop, (1, None), (2, None))
    shop.settings = {"t": {"incremental_key": "id", "lag": "5m"}}
    with pytest.raises(TaskError, match="`lag` is a time"):
        shop.sync()


@pytest.mark.parametrize("values", [(2**53, 2**53 + 1, 2**53 + 2), (2**63 - 3, 2**63 - 2, 2**63 - 1), (-3, -2, 0)])
def test_large_and_negative_ids_are_exact(shop, values):
    keyed(shop, *[(value, None) for value in values[:2]])
    shop.settings = {"t": {"incremental_key": "id"}}
    first = shop.sync()
    insert(shop, (values[2], None))
    assert shop.sync(first.cursor).ids == list(values[1:])


@pytest.mark.parametrize("kind", ["REAL", "NUMERIC", "DOUBLE"])
def test_a_float_is_no_key(shop, kind):
    keyed(shop, (1, 0.5), kind=kind)
    with pytest.raises(UsageError) as caught:
        shop.sync()
    assert "is a float" in str(caught.value)
    assert "types: {at: int64}" in caught.value.hint
    shop.settings = {"t": {"primary_key": ["at"]}}
    with pytest.raises(UsageError) as caught:
        shop.sync()
    assert "is a float" in str(caught.value)


def test_a_float_that_holds_decimals_or_whole_numbers_can_be_a_key(shop):
    keyed(shop, (1, 0.1), (2, 0.2), kind="REAL", types={"at": "decimal128(38, 9)"})
    first = shop.sync(batch_rows=1)
    insert(shop, (3, 0.3))
    assert 3 in shop.sync(first.cursor).ids


def test_a_numeric_key_of_whole_numbers_is_an_integer(shop):
    shop.execute("CREATE TABLE t (id NUMERIC PRIMARY KEY NOT NULL)")
    shop.execute("INSERT INTO t VALUES (?)", (2**53,), (2**53 + 1,))
    shop.settings = {"t": {"incremental_key": "id"}}
    assert shop.sync().ids == [2**53, 2**53 + 1]


def test_a_table_with_a_float_as_its_own_key_is_named_and_holds_back_no_other(shop):
    shop.execute("CREATE TABLE f (x REAL PRIMARY KEY)")
    shop.execute("INSERT INTO f VALUES (?)", (0.5,))
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    assert "is a float" in shop.table("f").unreadable.message
    assert shop.table().unreadable is None
    assert shop.sync().ids == []


NOW_S = int(time.time())
FORMS = {
    "seconds": lambda s: s,
    "milliseconds": lambda s: s * 1000 + 1,
    "microseconds": lambda s: s * 10**6 + 1,
    "nanoseconds": lambda s: s * 10**9 + 1,
    "text seconds": str,
    "text milliseconds": lambda s: f"{s}000",
    "digits": lambda s: int(datetime.fromtimestamp(s, UTC).strftime("%Y%m%d%H%M%S")),
    "text digits": lambda s: datetime.fromtimestamp(s, UTC).strftime("%Y%m%d%H%M%S"),
    "basic": lambda s: datetime.fromtimestamp(s, UTC).strftime("%Y%m%dT%H%M%SZ"),
    "days": lambda s: int(datetime.fromtimestamp(s, UTC).strftime("%Y%m%d")),
    "uuid": lambda s: f"{s * 1000:012x}"[:8] + "-" + f"{s * 1000:012x}"[8:] + "-7000-8000-000000000000",
}
DAY_S = 86_400


@pytest.mark.parametrize("form", FORMS.values(), ids=[*FORMS])
def test_one_row_dated_into_the_future_hides_no_later_row(shop, index, form):
    """Whatever the column is called: that it is a time is seen by its values."""
    kind = "TEXT" if isinstance(form(NOW_S), str) else "INTEGER"
    shop.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, rev {kind})")
    if index:
        shop.execute("CREATE INDEX by_rev ON t (rev)")
    shop.settings = {"t": {"incremental_key": "rev"}}
    shop.execute("INSERT INTO t VALUES (?, ?)", (1, form(NOW_S - 9 * DAY_S)), (2, form(NOW_S - 8 * DAY_S)))
    first = shop.sync()
    shop.execute("INSERT INTO t VALUES (?, ?)", (3, form(NOW_S + 400 * DAY_S)))
    second = shop.sync(first.cursor)
    assert 3 in second.ids
    shop.execute("INSERT INTO t VALUES (?, ?)", (4, form(NOW_S - 5 * DAY_S)))
    third = shop.sync(second.cursor)
    assert {3, 4} <= set(third.ids)
    assert 1 not in third.ids
    shop.execute("DELETE FROM t WHERE id IN (3, 4)")  # a time may go back, when rows are deleted
    shop.execute("INSERT INTO t VALUES (?, ?)", (5, form(NOW_S - 4 * DAY_S)))
    assert 5 in shop.sync(third.cursor).ids


@pytest.mark.parametrize("form", FORMS.values(), ids=[*FORMS])
def test_a_first_row_dated_into_the_future_hides_no_later_row(shop, form):
    kind = "TEXT" if isinstance(form(NOW_S), str) else "INTEGER"
    shop.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, rev {kind})")
    shop.settings = {"t": {"incremental_key": "rev"}}
    shop.execute("INSERT INTO t VALUES (?, ?)", (1, form(NOW_S + 40 * DAY_S)))
    first = shop.sync()
    shop.execute("INSERT INTO t VALUES (?, ?)", (2, form(NOW_S)))
    try:
        assert 2 in shop.sync(first.cursor).ids
    except CursorExpiredError:
        assert form is FORMS["nanoseconds"]  # they could be identifiers, until there are some of the past


def test_a_cursor_that_has_followed_a_row_into_the_future_expires(shop):
    """As of version 0.1, which went by the name of the column."""
    keyed(shop, (1, NOW_S), (2, NOW_S + 400 * DAY_S), kind="INTEGER")
    shop.execute("ALTER TABLE t RENAME COLUMN at TO rev")
    shop.settings = {"t": {"incremental_key": "rev"}}
    old = {"version": 1, "kind": "number", "height": NOW_S + 400 * DAY_S, "shown": "x"}
    with pytest.raises(CursorExpiredError) as caught:
        shop.sync(old)
    assert "into the future" in str(caught.value)


@pytest.mark.parametrize("last", [500, 3_000_000_000, 5 * 10**12, 2**63 - 1])
def test_a_long_sequence_of_ids_is_no_time(shop, last):
    """What lies above the present is not read again at every sync."""
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    shop.execute("INSERT INTO t VALUES (?)", *[(number,) for number in range(1, 120)], (last - 2,), (last - 1,))
    shop.settings = {"t": {"incremental_key": "id"}}
    first = shop.sync()
    shop.execute("INSERT INTO t VALUES (?)", (last,))
    second = shop.sync(first.cursor)
    assert second.ids == [last - 1, last]
    assert shop.sync(second.cursor).ids == [last]


@pytest.mark.parametrize("values", [(112 * 10**15, 112 * 10**15 + 7), (7 * 10**18, 7 * 10**18 + 1)])
def test_identifiers_that_hold_a_time_in_a_form_of_their_own_are_ids(shop, values):
    shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    shop.execute("INSERT INTO t VALUES (?)", *[(value,) for value in values])
    shop.settings = {"t": {"incremental_key": "id"}}
    first = shop.sync()
    assert shop.sync(first.cursor).ids == [values[1]]
