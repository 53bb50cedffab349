"""What one reading asks and yields: orders, bounds, windows, children, and faults in the middle, each from the cursor of a state."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier, Lock

import pytest
from shop_api import moment

from services.api import Api, Reply, paged
from strandline.connectors.rest.source import RestSource
from strandline.errors import RetryableError, TaskError
from strandline.message import Checkpoint, Insert, Notice, Replace, Truncate
from strandline.reading import Reading

WAIT_S = 60
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = START.timestamp() + 86_400
DIGITS = Decimal("0.1234567890123456789")


@pytest.fixture
def api():
    with Api(lambda _asked: Reply([])) as api:
        yield api


def source_of(api, tables, **said):
    said = {"base_url": api.url, "pagination": {"type": "link"}, "attempts": 1, "tables": tables, **said}
    return RestSource(RestSource.Spec.model_validate(said))


class Read:
    """One reading of the only task, as far as it comes."""

    def __init__(self, source, cursor=None, *, resumed=False, batch_rows=4):
        self.messages, self.error = [], None
        with closing(source):
            [task] = source.tasks(source.tables())
            reading = Reading(cursor, START, resumed=resumed, batch_rows=batch_rows)
            try:
                self.messages += source.read(task, reading)
            except (TaskError, RetryableError) as error:
                self.error = error

    @property
    def cursor(self):
        found = [one.cursor for one in self.messages if isinstance(one, Checkpoint)]
        return json.loads(json.dumps(found[-1])) if found else None

    def rows(self, table="rows"):
        return [
            row
            for one in self.messages
            if isinstance(one, Insert) and one.table == table
            for row in one.batch.to_pylist()
        ]

    def ids(self, table="rows"):
        return [row["id"] for row in self.rows(table)]


ROWS = {"path": "rows", "primary_key": ["id"], "incremental_key": "at", "query": {"since": "{since}"}, "lag": "0"}


def in_order(rows, size=4, fails_at=()):
    def answer(asked):
        if asked.query.get("page") in fails_at:
            return Reply({"message": "broken"}, status=500)
        reply = paged(asked, [row for row in rows if row["at"] >= asked.query.get("since", "")], size)
        reply.date = DAY
        return reply

    return answer


def test_a_sorted_table_goes_on_where_it_broke_off(api):
    rows = [{"id": n, "at": moment(n // 2)} for n in range(20)]
    api.answer = in_order(rows, fails_at={"4"})
    sorted_ = {"rows": {**ROWS, "sorted": True}}
    first = Read(source_of(api, sorted_))
    assert isinstance(first.error, RetryableError)
    assert first.cursor["after"].startswith("2026-01-01T00:04")
    api.answer = in_order(rows)
    rest = Read(source_of(api, sorted_), first.cursor, resumed=True)
    assert rest.error is None
    covered = [row["id"] for row in first.rows() if row["at"] <= START + timedelta(minutes=4)]
    assert sorted(covered + rest.ids()) == list(range(20))


def test_a_sorted_table_that_breaks_off_before_a_batch_is_full_keeps_what_came(api):
    api.answer = in_order([{"id": n, "at": moment(n // 2)} for n in range(20)], fails_at={"4"})
    read = Read(source_of(api, {"rows": {**ROWS, "sorted": True}}), batch_rows=1000)
    assert isinstance(read.error, RetryableError)
    assert read.cursor["after"].startswith("2026-01-01T00:04")
    assert read.ids() == [*range(10)]


def test_a_table_that_is_declared_sorted_and_is_not_fails_with_the_cursor_where_the_rows_are(api):
    rows = [{"id": n, "at": moment(n)} for n in [*range(8), 20, *range(8, 12)]]
    api.answer = in_order(rows)
    read = Read(source_of(api, {"rows": {**ROWS, "sorted": True}}))
    assert "declared sorted" in str(read.error)
    assert read.cursor is None or read.cursor["after"] < "2026-01-01T00:20"


def test_an_unsorted_table_that_breaks_off_has_no_cursor(api):
    api.answer = in_order([{"id": n, "at": moment(20 - n)} for n in range(20)], fails_at={"4"})
    read = Read(source_of(api, {"rows": ROWS}))
    assert read.error is not None
    assert read.rows()
    assert read.cursor is None


def test_a_clock_of_ours_that_is_wrong_moves_no_cursor(api):
    """The API is ten years behind us: what it stamps later is read later."""
    rows = [{"id": 1, "at": "2016-01-01T00:00:00Z"}, {"id": 2, "at": "2016-01-03T00:00:00Z"}]
    behind = datetime(2016, 1, 2, tzinfo=UTC).timestamp()

    def answer(asked):
        reply = in_order(rows)(asked)
        reply.date = behind
        return reply

    api.answer = answer
    read = Read(source_of(api, {"rows": ROWS}))
    assert read.cursor["since"].startswith("2016-01-02T00:00:00")


@pytest.mark.parametrize(
    "key", [lambda at: at.isoformat(), lambda at: int(at.timestamp()), lambda at: int(at.timestamp() * 1000)]
)
def test_a_look_back_window_is_read_again_in_each_form_of_a_key(api, key):
    rows = [{"id": n, "at": key(START + timedelta(minutes=n))} for n in range(10)]

    def answer(asked):
        assert asked.query.get("since") in {None, "2026-01-01T00:03:59Z"}
        return Reply(rows, date=(START + timedelta(minutes=9)).timestamp())

    api.answer = answer
    table = {**ROWS, "lag": "5m", "query": {"since": "{since:iso}"}}
    read = Read(source_of(api, {"rows": table}))
    later = Read(source_of(api, {"rows": table}), read.cursor)
    assert sorted(later.ids()) == list(range(4, 10))


def windowed(api, step="10m", **more):
    return source_of(
        api,
        {
            "rows": {
                **ROWS,
                "query": {"from": "{since}", "to": "{until}"},
                "start": "2026-01-01",
                "window": step,
                **more,
            }
        },
    )


def test_a_window_that_breaks_off_is_read_again_and_no_other_one(api):
    rows = [{"id": n, "at": moment((n * 7) % 60)} for n in range(60)]
    broken = {"2026-01-01T00:29:59Z"}

    def answer(asked):
        if asked.query["from"] in broken:
            return Reply({"message": "broken"}, status=500)
        found = [row for row in rows if asked.query["from"] <= row["at"] <= asked.query["to"]]
        return Reply(found[::-1], date=START.timestamp() + 3_600)

    api.answer = answer
    first = Read(windowed(api))
    assert first.error is not None
    api.asked.clear()
    broken.clear()
    rest = Read(windowed(api), first.cursor, resumed=True)
    assert rest.error is None
    at = datetime.fromisoformat(first.cursor["after"])
    assert sorted([row["id"] for row in first.rows() if row["at"] <= at] + rest.ids()) == list(range(60))
    assert api.asked[1].query["from"] >= "2026-01-01T00:2"


@pytest.mark.parametrize("form", ["date", "%Y-%m-%d %H", "iso", "unix"])
@pytest.mark.parametrize("includes", [True, False])
def test_windows_leave_nothing_out_however_coarse_their_bounds_and_whether_these_are_included(api, form, includes):
    """The API cuts the times of its records to what it is asked with, and windows begin anywhere."""
    rows = [{"id": n, "at": moment(7 * n)} for n in range(600)]
    written = {"date": "%Y-%m-%d", "iso": "%Y-%m-%dT%H:%M:%SZ", "unix": "%s"}.get(form, form)

    def answer(asked):
        def cut(row):
            at = datetime.fromisoformat(row["at"])
            return f"{int(at.timestamp())}" if form == "unix" else at.strftime(written)

        low, high = asked.query["from"], asked.query["to"]
        found = [row for row in rows if (low <= cut(row) <= high if includes else low < cut(row) < high)]
        return Reply(found, date=START.timestamp() + 86_400 * 4)

    api.answer = answer
    query = {"from": f"{{since:{form}}}", "to": f"{{until:{form}}}"}
    table = {**ROWS, "query": query, "start": "2026-01-01", "window": "5h"}
    read = Read(source_of(api, {"rows": table}))
    assert read.error is None
    assert sorted(read.ids()) == list(range(600))


def test_a_start_and_an_end_are_kept_though_more_is_asked_for(api):
    rows = [{"id": n, "at": moment(60 * n)} for n in range(-30, 50)]
    api.answer = lambda _asked: Reply(rows, date=DAY * 2)
    query = {"from": "{since:date}", "to": "{until:date}"}
    table = {**ROWS, "query": query, "start": "2026-01-01", "end": "2026-01-02"}
    assert sorted(Read(source_of(api, {"rows": table})).ids()) == list(range(24))


def test_pages_that_shift_under_the_reader_lose_no_row_that_was_there(api):
    """Rows that are new push others to later pages: those come twice, and none is left out."""
    rows = [{"id": n, "at": moment(n)} for n in range(20)]

    def answer(asked):
        found = sorted(rows, key=lambda row: row["at"], reverse=True)
        rows.append({"id": len(rows), "at": moment(100 + len(rows))})
        return paged(asked, found, 4)

    api.answer = answer
    read = Read(source_of(api, {"rows": ROWS}))
    assert set(read.ids()) >= set(range(20))
    assert len(read.ids()) > len(set(read.ids()))


# children ------------------------------------------------------------------------------------------------------------
ORDERS = {"path": "orders", "primary_key": ["id"], "incremental_key": "at", "query": {"since": "{since}"}, "lag": "0"}


def shop(asked):
    if asked.path == "/orders":
        return in_order([{"id": n, "at": moment(n), "shop": {"name": f"a/b {n}"}} for n in range(9)])(asked)
    number = int(asked.path.split("/")[2])
    return Reply([{"id": f"{number}-{n}", "at": moment(number, n)} for n in range(number % 4)])


def test_children_come_with_their_parents_who_are_named_also_without_any(api):
    api.answer = shop
    tables = {
        "orders": ORDERS,
        "lines": {"parent": "orders", "path": "orders/{parent.id}/lines", "primary_key": ["id"]},
    }
    read = Read(source_of(api, tables))
    named = [key for one in read.messages if isinstance(one, Replace) for key in one.keys.to_pylist()]
    assert sorted(row["orders_id"] for row in named) == list(range(9))
    assert sorted(read.ids("lines")) == sorted(f"{n}-{m}" for n in range(9) for m in range(n % 4))


def test_a_parent_whose_children_cannot_be_read_is_not_taken_for_one_without(api):
    broken = set()
    api.answer = lambda asked: Reply(status=403) if asked.path == "/orders/7/lines" and broken else shop(asked)
    tables = {
        "orders": ORDERS,
        "lines": {"parent": "orders", "path": "orders/{parent.id}/lines", "primary_key": ["id"]},
    }
    source = source_of(api, tables)
    source.tables()
    broken.add(1)
    read = Read(source)
    assert isinstance(read.error, TaskError)
    assert read.cursor is None
    named = [key for one in read.messages if isinstance(one, Replace) for key in one.keys.to_pylist()]
    assert {"orders_id": 7} not in named


def test_a_child_may_have_a_cursor_of_its_own_and_columns_of_its_parent(api):
    def answer(asked):
        if asked.path == "/orders":
            return shop(asked)
        number = int(asked.path.split("/")[2])
        rows = [{"id": f"{number}-{n}", "at": moment(number, n)} for n in range(number % 4)]
        return Reply([row for row in rows if row["at"] >= asked.query.get("since", "")], date=DAY)

    api.answer = answer
    lines = {"parent": "orders", "path": "orders/{parent.id}/lines", "primary_key": ["id"], "incremental_key": "at"}
    lines |= {"query": {"since": "{since}"}, "parent_columns": {"order": "id", "of": "shop"}}
    source = source_of(api, {"orders": {**ORDERS, "query": {}, "incremental_key": None}, "lines": lines})
    with closing(source):
        tasks = {task.id: task for task in source.tasks(source.tables())}
        assert tasks.keys() == {"orders", "lines"}
        messages = list(source.read(tasks["lines"], Reading(None, START)))
        rows = [row for one in messages if isinstance(one, Insert) for row in one.batch.to_pylist()]
        assert {(row["order"], row["of"]["name"]) for row in rows} == {(n, f"a/b {n}") for n in (1, 2, 3, 5, 6, 7)}
        api.asked.clear()
        list(source.read(tasks["lines"], Reading(messages[-1].cursor, START)))
    assert {one.query.get("since") for one in api.asked if one.path != "/orders"} == {"2026-01-01T00:07:01Z"}


def test_a_value_of_a_parent_is_one_part_of_a_path(api):
    paths = []

    def answer(asked):
        if asked.path == "/orders":
            return Reply([{"id": "a/../b ?c"}])
        paths.append(asked.path)
        return Reply([{"id": 1}])

    api.answer = answer
    tables = {"orders": {"path": "orders", "primary_key": ["id"]}}
    tables["lines"] = {"parent": "orders", "path": "orders/{parent.id}/lines", "primary_key": ["id"]}
    Read(source_of(api, tables))
    assert set(paths) == {"/orders/a%2F..%2Fb%20%3Fc/lines"}


def test_children_are_asked_for_at_once_but_no_more_than_allowed(api):
    going, most, lock = [0], [0], Lock()

    def answer(asked):
        if asked.path == "/orders":
            return shop(asked)
        with lock:
            going[0] += 1
            most[0] = max(most[0], going[0])
        reply = shop(asked)
        with lock:
            going[0] -= 1
        return reply

    api.answer = answer
    tables = {
        "orders": ORDERS,
        "lines": {"parent": "orders", "path": "orders/{parent.id}/lines", "primary_key": ["id"]},
    }
    assert Read(source_of(api, tables, concurrency=2)).error is None
    assert most[0] <= 2


# faults in the middle ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "bad",
    [
        Reply({"rows": [1]}, failure="cut"),
        Reply(b"<html>log in"),
        Reply(failure="endless"),
        Reply(failure="bomb"),
        Reply(status=302, headers={"Location": "/rows?page=2"}),
        Reply(status=401),
        Reply([{"id": 1, "at": moment(1)}], headers={"Link": '</rows?page=2>; rel="next"'}),
        Reply({"no": "list"}, status=404),
        Reply(["no object"]),
    ],
    ids=["cut", "HTML", "endless", "bomb", "circle", "401", "the same page twice", "404", "no objects"],
)
def test_a_fault_in_the_middle_is_told_and_covers_no_row_that_was_not_read(api, bad):
    rows = [{"id": n, "at": moment(n)} for n in range(20)]

    def answer(asked):
        return bad if asked.query.get("page") == "2" else in_order(rows)(asked)

    api.answer = answer
    read = Read(source_of(api, {"rows": ROWS}, answer_max="1MiB"))
    assert read.error is not None
    assert read.error.message
    assert read.cursor is None


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(
    ("odd", "found"),
    [
        (b'{"id": 11, "at": "2026-01-01T00:00:11Z", "new": {"a": 1}}', {"new": {"a": 1}}),
        (b'{"id": 1, "id": 11, "at": "2026-01-01T00:00:11Z"}', {}),
        (b'{"id": 11, "at": "2026-01-01T00:00:11Z", "cost": 18446744073709551616}', {"cost": Decimal(2**64)}),
        (b'{"id": 11, "at": "2026-01-01T00:00:11Z", "cost": 0.1234567890123456789}', {"cost": DIGITS}),
        (b'{"id": 11, "at": "2026-01-01T00:00:11Z", "name": "\\ud83d\\ude00"}', {"name": "\U0001f600"}),
    ],
)
def test_a_record_that_is_not_like_those_before_is_read_as_it_is_written(api, odd, found, concurrency):
    def answer(asked):
        numbers = range(int(asked.query["page"]) * 4, min(int(asked.query["page"]) * 4 + 4, 40))
        of = [odd if n == 11 else json.dumps({"id": n, "at": moment(n), "name": f"n{n}"}).encode() for n in numbers]
        return Reply(b'{"rows": [' + b",".join(of) + b'], "n": %d}' % len(of), date=DAY)

    api.answer = answer
    numbered = {"pagination": {"type": "page", "query": "page", "first": 0}, "records": "rows", "path": "rows"}
    said = {"rows": {**ROWS, **numbered, "query": {}}}
    read = Read(source_of(api, said, concurrency=concurrency), batch_rows=1000)
    assert read.error is None
    rows = {row["id"]: row for row in read.rows()}
    assert sorted(rows) == list(range(40))
    assert {name: rows[11][name] for name in found} == found
    assert [rows[n]["name"] for n in range(40) if n != 11] == [f"n{n}" for n in range(40) if n != 11]


def test_a_token_that_expires_in_the_middle_is_renewed_and_nothing_is_lost(api):
    rows, given = [{"id": n, "at": moment(n)} for n in range(20)], [0]

    def answer(asked):
        if asked.path == "/token":
            given[0] += 1
            return Reply({"access_token": f"access-{given[0]}-abcdef", "expires_in": 3600})
        if asked.query.get("page") == "3" and given[0] == 1:
            return Reply(status=401)
        good = asked.headers.get("authorization") == f"Bearer access-{given[0]}-abcdef"
        return in_order(rows)(asked) if good else Reply(status=401)

    api.answer = answer
    said = {"type": "oauth2", "url": f"{api.url}/token", "client_id": "a", "client_secret": "secret-1234"}
    read = Read(source_of(api, {"rows": ROWS}, authentication=said))
    assert read.error is None
    assert sorted(read.ids()) == list(range(20))
    assert given == [2]


def test_records_that_are_left_out_where_there_are_none_are_told_from_a_wrong_path(api):
    api.answer = lambda asked: Reply({"items": [{"id": 1}]} if "page" not in asked.query else {"kind": "list"})
    table = {"path": "rows", "records": "items", "pagination": {"type": "page", "query": "page", "first": 0}}
    api.answer = lambda asked: Reply({"items": [{"id": 1}]} if asked.query["page"] == "0" else {"kind": "list"})
    assert "answers without 'items'" in str(Read(source_of(api, {"rows": table})).error)
    read = Read(source_of(api, {"rows": {**table, "absent": "empty"}}))
    assert (read.error, read.ids()) == (None, [1])


def test_an_error_of_graphql_in_a_good_answer_is_an_error(api):
    api.answer = lambda asked: Reply(
        {"data": {"rows": [{"id": 1}]}} | ({"errors": [{"message": "timeout in rows"}]} if asked.number else {})
    )
    table = {"path": "graphql", "graphql": "{ rows { id } }", "records": "data.rows"}
    read = Read(source_of(api, {"rows": table}))
    assert "timeout in rows" in str(read.error)
    assert [one for one in read.messages if isinstance(one, Notice)] == []


@pytest.mark.parametrize("data", [None, {}, {"rows": None}, {"rows": []}])
def test_an_answer_of_graphql_with_an_error_is_no_page_without_records(api, data):
    api.answer = lambda asked: Reply(
        {"data": data, "errors": [{"message": "timeout in rows"}]} if asked.number else {"data": {"rows": [{"id": 1}]}}
    )
    table = {"path": "graphql", "graphql": "{ rows { id } }", "records": "data.rows", "absent": "empty"}
    assert "timeout in rows" in str(Read(source_of(api, {"rows": table})).error)


def test_a_limit_that_graphql_tells_of_in_a_good_answer_is_waited_for(api):
    limited = {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}
    api.answer = lambda asked: Reply(limited if asked.number else {"data": {"rows": [{"id": 1}]}})
    table = {"path": "graphql", "graphql": "{ rows { id } }", "records": "data.rows"}
    assert isinstance(Read(source_of(api, {"rows": table})).error, RetryableError)


def test_an_error_of_graphql_is_one_behind_answers_that_had_none(api):
    def answer(asked):
        at = asked.json.get("after") or 0
        errors = "timeout in rows" if at == 5 else ""
        return Reply({"data": {"rows": [{"id": at}]}, "errors": errors, "next": at + 1 if at < 9 else None})

    api.answer = answer
    paging = {"type": "token", "path": "next", "body": "after"}
    table = {"path": "graphql", "graphql": "{ rows { id } }", "records": "data.rows", "pagination": paging}
    read = Read(source_of(api, {"rows": table}))
    assert "timeout in rows" in str(read.error)
    assert read.cursor is None


def test_records_that_are_removed_while_offsets_are_counted_are_noticed(api):
    """One of a later page has moved to an earlier one, and would be missed."""
    rows = [{"id": n} for n in range(20)]

    def answer(asked):
        at = int(asked.query.get("skip", 0))
        page = Reply({"total": len(rows), "rows": rows[at : at + 5]})
        if at:
            del rows[0]
        return page

    api.answer = answer
    table = {"path": "rows", "records": "rows", "primary_key": ["id"]}
    read = Read(
        source_of(api, {"rows": {**table, "pagination": {"type": "offset", "query": "skip", "total": "total"}}})
    )
    assert "records were removed while it was read" in str(read.error)


def test_what_has_not_changed_by_its_etag_is_not_read_again(api):
    rows = [{"id": n} for n in range(3)]

    def answer(asked):
        etag = f'"{len(rows)}"'
        same = asked.headers.get("if-none-match") == etag
        return Reply(None if same else rows, status=304 if same else 200, headers={"ETag": etag})

    api.answer = answer
    tables = {"rows": {"path": "rows", "primary_key": ["id"], "etag": True, "pagination": {"type": "none"}}}
    first = Read(source_of(api, tables))
    assert first.ids() == [0, 1, 2]
    same = Read(source_of(api, tables), first.cursor)
    assert (same.error, same.ids(), same.cursor) == (None, [], first.cursor)
    rows.pop(0)
    other = Read(source_of(api, tables), same.cursor)
    assert other.ids() == [1, 2]
    kinds = [type(one) for one in other.messages]
    assert kinds.index(Truncate) < kinds.index(Insert)


# ahead ---------------------------------------------------------------------------------------------------------------

NUMBERED = {"rows": {"path": "rows", "primary_key": ["id"], "pagination": {"type": "page", "query": "p"}}}


def numbered(asked, count=9, size=2):
    """Pages of numbers."""
    number = int(asked.query["p"])
    return Reply([{"id": id_} for id_ in range((number - 1) * size, number * size)] if number <= count else [])


def test_pages_that_have_numbers_are_asked_for_at_once(api):
    together = Barrier(3)

    def answer(asked):
        if asked.query["p"] in {"4", "5", "6"}:
            together.wait(WAIT_S)
        return numbered(asked)

    api.answer = answer
    read = Read(source_of(api, NUMBERED, concurrency=3))
    assert (read.error, read.ids()) == (None, [*range(18)])


def test_what_lies_behind_the_last_page_is_nobodys_error(api):
    def answer(asked):
        behind = int(asked.query["p"]) > 10
        return Reply({"message": "no such page"}, status=404) if behind else numbered(asked)

    api.answer = answer
    read = Read(source_of(api, NUMBERED, concurrency=8))
    assert (read.error, read.ids()) == (None, [*range(18)])
    assert max(int(one.query["p"]) for one in api.asked) > 10


def test_a_table_of_one_page_is_asked_for_no_more_than_its_end(api):
    api.answer = lambda asked: numbered(asked, count=1)
    source = source_of(api, NUMBERED, concurrency=8)
    source.tables()
    api.asked.clear()
    assert Read(source).ids() == [0, 1]
    assert {one.query["p"] for one in api.asked} == {"1", "2"}


def test_an_offset_with_a_total_is_asked_for_nothing_behind_it(api):
    tables = {
        "rows": {
            "path": "rows",
            "records": "rows",
            "primary_key": ["id"],
            "pagination": {"type": "offset", "query": "skip", "total": "total"},
        }
    }

    def answer(asked):
        at = int(asked.query.get("skip", 0))
        return Reply({"rows": [{"id": id_} for id_ in range(at, min(at + 2, 18))], "total": 18})

    api.answer = answer
    read = Read(source_of(api, tables, concurrency=8))
    assert (read.error, read.ids()) == (None, [*range(18)])
    assert max(int(one.query.get("skip", 0)) for one in api.asked) == 16


def test_one_at_a_time_where_the_spec_says_so(api):
    going, most, lock = [], [], Lock()

    def answer(asked):
        with lock:
            going.append(asked)
            most.append(len(going))
        reply = numbered(asked)
        with lock:
            going.remove(asked)
        return reply

    api.answer = answer
    assert Read(source_of(api, NUMBERED, concurrency=1)).ids() == [*range(18)]
    assert max(most) == 1
