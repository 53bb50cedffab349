"""Whole syncs from an API into DuckDB: what is stored, what the exit code says, and where the cursor stands."""

from contextlib import closing
from datetime import UTC, datetime

import duckdb
import pytest
from shop_api import Shop, moment

from services.api import Api, Reply, paged

START = datetime(2026, 1, 1, tzinfo=UTC)
A_DAY_LATER = START.timestamp() + 86_400


@pytest.fixture
def api():
    with Api(lambda _asked: Reply([])) as api:
        yield api


def spec(cli, api, tables, mode="overwrite-delete-stale", **said):
    source = {"name": "shop", "path": "rest", "tables": ["*"], "destinations": ["copy"]}
    said = {"base_url": api.url, "pagination": {"type": "link"}, "attempts": 1, "tables": tables, **said}
    cli.spec(
        ("source", source | {"spec": said}),
        ("destination", {"name": "copy", "path": "duckdb", "write_mode": mode, "spec": {"path": "w.duckdb"}}),
    )


def stored(query):
    with closing(duckdb.connect("w.duckdb", read_only=True)) as connection:
        return connection.execute(query).fetchall()


ISSUES = {"path": "issues", "primary_key": ["id"], "incremental_key": "updated_at", "query": {"since": "{since}"}}


def newest_first(rows, size=5, *, fails_at=None, now=A_DAY_LATER):
    def answer(asked):
        since = asked.query.get("since", "")
        found = sorted(
            (row for row in rows if row["updated_at"] >= since), key=lambda row: row["updated_at"], reverse=True
        )
        if fails_at is not None and asked.query.get("page") == str(fails_at):
            return Reply({"message": "not now"}, status=403)
        reply = paged(asked, found, size)
        reply.date = now
        return reply

    return answer


@pytest.mark.parametrize(("status", "exit_code"), [(200, 1), (204, 0)])
def test_an_answer_without_a_body_is_the_end_only_where_its_status_says_so(cli, api, status, exit_code):
    def answer(asked):
        return Reply([{"id": 1}]) if asked.query["page"] == "1" else Reply(status=status)

    spec(cli, api, {"things": {"path": "things", "primary_key": ["id"]}}, pagination={"type": "page", "query": "page"})
    api.answer = answer
    assert cli("sync").exit_code == exit_code


def test_children_are_not_taken_for_gone_where_the_api_says_that_nothing_was_changed(cli, api):
    spec(
        cli,
        api,
        {"things": {"path": "things", "primary_key": ["id"]}, "parts": {"parent": "things", "path": "{parent.id}"}},
    )
    api.answer = lambda _asked: Reply([{"id": 1}])
    assert cli("sync").exit_code == 0
    api.answer = lambda asked: Reply([{"id": 1}]) if asked.path == "/things" else Reply(status=304)
    assert cli("sync").exit_code == 1
    assert stored("SELECT id FROM parts") == [(1,)]


def test_a_table_that_the_api_refuses_at_the_first_sync_is_not_left_out(cli, api):
    spec(cli, api, {"things": {"path": "things"}})
    api.answer = lambda _asked: Reply({"message": "no"}, status=403)
    assert cli("sync").exit_code == 1


def test_a_stream_that_comes_newest_first_and_dies_in_the_middle_leaves_no_gap(cli, api):
    rows = [{"id": n, "updated_at": moment(n)} for n in range(20)]
    spec(cli, api, {"issues": ISSUES})
    api.answer = newest_first(rows, fails_at=3)
    assert cli("sync").exit_code == 1
    api.answer = newest_first(rows)
    assert cli("sync").exit_code == 0
    assert stored("SELECT count(*), count(DISTINCT id) FROM issues") == [(20, 20)]
    rows += [{"id": n, "updated_at": moment(60 + n)} for n in range(20, 40)]
    api.answer = newest_first(rows, fails_at=2)
    assert cli("sync").exit_code == 1
    api.answer = newest_first(rows)
    assert cli("sync").exit_code == 0
    assert stored("SELECT count(*), count(DISTINCT id) FROM issues") == [(40, 40)]


def test_the_cursor_does_not_pass_the_clock_of_the_api(cli, api):
    """A row with a stamp of the future is stored, and one that appears before it is not missed."""
    rows = [{"id": 1, "updated_at": moment(1)}, {"id": 2, "updated_at": moment(500)}]
    spec(cli, api, {"issues": ISSUES}, mode="append")
    api.answer = newest_first(rows, now=START.timestamp() + 600)
    assert cli("sync").exit_code == 0
    rows.append({"id": 3, "updated_at": moment(11)})
    api.answer = newest_first(rows, now=START.timestamp() + 1_200)
    assert cli("sync").exit_code == 0
    assert sorted(stored("SELECT id FROM issues")) == [(1,), (2,), (3,)]


def test_the_first_request_of_a_later_sync_asks_for_what_is_new(cli, api):
    rows = [{"id": n, "updated_at": moment(n)} for n in range(20)]
    spec(cli, api, {"issues": ISSUES})
    api.answer = newest_first(rows)
    cli("sync")
    api.asked.clear()
    assert cli("sync").exit_code == 0
    assert [one.query.get("since") for one in api.asked] == [None, "2026-01-01T00:18:59Z"]


def test_an_account_that_is_refused_fails_alone(cli, api):
    """The others advance; of the refused one nothing is deleted, and its cursor stays."""
    refused = set()

    def answer(asked):
        _, account, _ = asked.path.split("/")
        if account in refused:
            return Reply({"message": "no access"}, status=403)
        count = 3 if refused else 2
        return Reply([{"id": f"{account}{n}"} for n in range(1, count)])

    api.answer = answer
    spec(cli, api, {"users": {"path": "{partition}/users", "primary_key": ["id"]}}, partitions=["a", "b", "c"])
    assert cli("sync").exit_code == 0
    assert sorted(stored("SELECT _cq_client_id, id FROM users")) == [("a", "a1"), ("b", "b1"), ("c", "c1")]
    refused.add("b")
    done = cli("sync")
    assert done.exit_code == 1
    assert "no access" in done.output
    assert sorted(stored("SELECT id FROM users")) == [("a1",), ("a2",), ("b1",), ("c1",), ("c2",)]
    refused |= {"a"}
    assert cli("sync").exit_code == 1
    assert len(stored("SELECT id FROM users")) == 5


def test_a_server_that_goes_away_and_comes_back(cli):
    shop = Shop()
    with shop.serve() as api:
        port = api.port
        spec(cli, api, {"issues": {**ISSUES, "query": {"since": "{since}", "per_page": 4}}})
    done = cli("sync")
    assert done.exit_code == 5
    assert "does not answer" in done.output
    with Api(shop, port=port):
        assert cli("sync").exit_code == 0
        shop.step = 1
        assert cli("sync").exit_code == 0
    assert stored("SELECT count(*) FROM issues") == [(len(shop.issues),)]


def test_all_mistakes_of_a_spec_are_told_at_once(cli, api):
    tables = {
        "a": {"path": "a/{snice}"},
        "b": {"path": "b", "window": "1d"},
        "c": {"path": "c", "parent": "nobody"},
        "d": {"query": {"since": "{since}"}},
        "e": {"path": "e", "types": {"x": "nonsense"}, "pagination": {"type": "token", "path": "next"}},
    }
    spec(cli, api, tables, authentication={"type": "oauth2", "url": api.url, "client_id": "a", "refresh_token": "r"})
    done = cli("validate-config")
    assert done.exit_code == 2
    for words in (
        "{snice} is unknown",
        "'nonsense' is not a type",
        "`query` or `body`, one of the two",
        "`file` go together",
    ):
        assert words in done.output
    assert api.asked == []


def test_contradictions_of_all_tables_are_told_at_once(cli, api):
    tables = {
        "b": {"path": "b", "window": "1d"},
        "c": {"path": "c", "parent": "nobody"},
        "d": {"query": {"since": "{since}"}},
    }
    spec(cli, api, tables)
    done = cli("validate-config")
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    for words in (
        "'b': a `window` needs",
        "there is no table 'nobody'",
        "'d': it has no `path`",
        "need an `incremental_key`",
    ):
        assert words in said


def test_a_table_that_cannot_be_read_fails_though_a_glob_asks_for_it(cli, api):
    """The spec names it, so it is not one of many that happen to be there. The other one is synced."""
    bad = Reply({"message": "no such thing"}, status=404)
    api.answer = lambda asked: bad if asked.path == "/bad" else Reply([{"id": 1}])
    spec(cli, api, {"good": {"path": "good", "primary_key": ["id"]}, "bad": {"path": "bad", "primary_key": ["id"]}})
    done = cli("sync")
    assert done.exit_code == 1
    assert "bad" in done.output
    assert stored("SELECT id FROM good") == [(1,)]


@pytest.mark.parametrize("mode", ["append", "overwrite", "overwrite-delete-stale"])
@pytest.mark.parametrize("key", [{}, {"incremental_key": "at"}])
def test_a_table_without_a_record_is_no_failure_and_is_made_once_there_is_one(cli, api, mode, key):
    rows = []
    api.answer = lambda _: Reply(list(rows))
    spec(cli, api, {"issues": {"path": "issues", "primary_key": ["id"], **key}}, mode)
    for command in ("sync", "plan", "sync"):
        done = cli(command)
        assert done.exit_code == 0
        assert "'issues': there is no record yet" in " ".join(done.output.split())
    rows.append({"id": 1, "at": 5})
    assert cli("sync").exit_code == 0
    assert stored('SELECT id, "at" FROM issues') == [(1, 5)]
    rows.clear()
    emptied = cli("sync")
    said = " ".join(emptied.output.split())
    if mode == "overwrite-delete-stale" and not key:
        assert emptied.exit_code == 1
        assert "the source has no row of it any more" in said
    else:
        assert emptied.exit_code == 0
        assert "the source has no row of 'issues' now; what is stored stays as it is" in said
    assert stored('SELECT id, "at" FROM issues') == [(1, 5)]
    rows.append({"id": 2, "at": 6})
    assert cli("sync").exit_code == 0
    assert (2, 6) in stored('SELECT id, "at" FROM issues')


@pytest.mark.parametrize("sort", [{}, {"sorted": True}])
def test_rows_within_the_lag_are_appended_once_though_the_clock_of_the_api_goes_on(cli, api, sort):
    rows = [{"id": n, "at": moment_at(n)} for n in range(10)]
    clock = [START.timestamp() + 9]

    def answer(asked):
        since = asked.query.get("since", "")
        reply = paged(asked, [row for row in rows if row["at"] >= since[:19]], 3)
        reply.date = clock[0]
        return reply

    api.answer = answer
    spec(cli, api, {"t": {**ISSUES, "path": "t", "incremental_key": "at", "lag": "5s", **sort}}, "append")
    for number in range(10, 40, 10):
        assert cli("sync").exit_code == 0
        clock[0] += 7
        rows.append({"id": number, "at": moment_at(number)})
    assert cli("sync").exit_code == 0
    assert stored("SELECT count(*), count(DISTINCT id) FROM t") == [(13, 13)]


def moment_at(seconds):
    return f"{datetime.fromtimestamp(START.timestamp() + seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def test_of_partitions_one_that_fails_counts_for_more_than_one_without_a_record(cli, api):
    bad = Reply({"message": "forbidden"}, status=403)
    api.answer = lambda asked: bad if asked.path == "/a" else Reply([])
    spec(cli, api, {"issues": {"path": "{partition}", "primary_key": ["id"]}}, partitions=["b", "a"])
    done = cli("sync")
    assert done.exit_code == 1
    assert "forbidden" in done.output


def test_partitions_that_the_api_lists_are_read_each_for_itself(cli, api):
    accounts = [{"account": {"id": n}} for n in range(3)]

    def answer(asked):
        if asked.path == "/accounts":
            at = int(asked.query.get("at", 0))
            return Reply(
                {"data": accounts[at : at + 2], "next": f"/accounts?at={at + 2}" if at + 2 < len(accounts) else None}
            )
        return Reply([{"id": f"{asked.path.split('/')[1]}-1"}])

    api.answer = answer
    listed = {
        "path": "accounts",
        "records": "data",
        "field": "account.id",
        "pagination": {"type": "next_url", "path": "next"},
    }
    spec(cli, api, {"users": {"path": "{partition}/users", "primary_key": ["id"]}}, partitions=listed)
    assert cli("sync").exit_code == 0
    assert sorted(stored("SELECT _cq_client_id, id FROM users")) == [("0", "0-1"), ("1", "1-1"), ("2", "2-1")]
    accounts.pop()
    assert cli("sync").exit_code == 0
    assert len(stored("SELECT id FROM users")) == 3
