"""Children of children: what they carry, what asks for them, and what becomes of them where a row above is gone."""

from contextlib import closing
from datetime import UTC, datetime

import duckdb
import pytest
from pydantic import ValidationError
from shop_api import moment

from services.api import Api, Reply
from strandline.connectors.rest.source import RestSource
from strandline.errors import TaskError
from strandline.message import Checkpoint, Insert, Replace
from strandline.reading import Reading

START = datetime(2026, 1, 1, tzinfo=UTC)
A_DAY_LATER = START.timestamp() + 86_400
KEYED = {"primary_key": ["id"]}
ORDERS = {"path": "orders", **KEYED}
LINES = {"parent": "orders", "path": "orders/{parent.id}/lines", **KEYED}
TAXES = {"parent": "lines", "path": "orders/{parent.parent.id}/lines/{parent.id}/taxes"}
NOTES = {"parent": "taxes", "path": "taxes/{parent.name}/{parent.parent.parent.id}", "parent_columns": {"tax": "name"}}


@pytest.fixture
def api():
    with Api(lambda _asked: Reply([])) as api:
        yield api


class Books:
    """Orders with lines with taxes; each may be changed, or refused."""

    def __init__(self):
        self.orders = {1: {11: ["a", "b"], 12: ["c"]}, 2: {21: ["d"]}, 3: {}}
        self.titles = dict.fromkeys(self.orders, "new")
        self.at = dict.fromkeys(self.orders, 1)
        self.refused = set()

    def __call__(self, asked):
        if asked.path in self.refused:
            return Reply({"message": "no access"}, status=403)
        match asked.path.strip("/").split("/"):
            case ["orders"]:
                rows = [{"id": n, "title": self.titles[n], "at": moment(self.at[n])} for n in self.orders]
                rows = [row for row in rows if row["at"] >= asked.query.get("since", "")]
            case ["orders", order, "lines"]:
                rows = [{"id": n, "text": f"line {n}", "at": moment(n)} for n in self.orders[int(order)]]
                rows = [row for row in rows if row["at"] >= asked.query.get("since", "")]
            case ["orders", order, "lines", line, "taxes"]:
                rows = [{"name": name, "at": moment(9)} for name in self.orders[int(order)][int(line)]]
            case ["taxes", name, order]:
                rows = [{"note": f"{name} of {order}"}]
            case _:
                return Reply({"message": f"no {asked.path}"}, status=404)
        return Reply(rows, date=A_DAY_LATER)

    def taxes(self):
        return sorted(
            (order, line, at, name)
            for order, lines in self.orders.items()
            for line, names in lines.items()
            for at, name in enumerate(names)
        )


@pytest.fixture
def books(api):
    api.answer = Books()
    return api.answer


def source_of(api, tables, **said):
    return RestSource(RestSource.Spec.model_validate({"base_url": api.url, "attempts": 1, "tables": tables, **said}))


def messages(source, cursor=None, task=None, names=None):
    with closing(source):
        tables = [one for one in source.tables() if names is None or one.name in names]
        tasks = {one.id: one for one in source.tasks(tables)}
        one = tasks[task] if task else next(iter(tasks.values()))
        return list(source.read(one, Reading(cursor, START)))


def rows(found, table):
    return [row for one in found if isinstance(one, Insert) and one.table == table for row in one.batch.to_pylist()]


def test_a_row_carries_the_keys_of_all_above_it_and_may_be_asked_for_by_any_of_them(api, books):
    found = messages(
        source_of(api, {"orders": ORDERS, "lines": LINES, "taxes": {**TAXES, "primary_key": ["name"]}, "notes": NOTES})
    )
    assert sorted((row["orders_id"], row["lines_id"], row["name"]) for row in rows(found, "taxes")) == [
        (order, line, name) for order, line, _, name in books.taxes()
    ]
    assert sorted((row["orders_id"], row["lines_id"], row["tax"], row["note"]) for row in rows(found, "notes")) == [
        (order, line, name, f"{name} of {order}") for order, line, _, name in books.taxes()
    ]


def test_what_belongs_to_a_row_at_the_top_is_replaced_at_every_level(api, books):
    found = messages(source_of(api, {"orders": ORDERS, "lines": LINES, "taxes": TAXES}))
    for table in ("lines", "taxes"):
        keys = [key for one in found if isinstance(one, Replace) and one.table == table for key in one.keys.to_pylist()]
        assert keys == [{"orders_id": 1}, {"orders_id": 2}, {"orders_id": 3}], table


def test_a_key_that_counts_below_its_parent_only_is_carried_once(api, books):
    books.orders = {1: {1: ["a"]}, 2: {1: ["b"]}}
    lines = {**LINES, "primary_key": ["orders_id", "id"]}
    found = messages(source_of(api, {"orders": ORDERS, "lines": lines, "taxes": TAXES}))
    assert [(row["orders_id"], row["lines_id"], row["position"], row["name"]) for row in rows(found, "taxes")] == [
        (1, 1, 0, "a"),
        (2, 1, 0, "b"),
    ]
    assert "lines_orders_id" not in rows(found, "taxes")[0]


def test_a_table_alone_is_read_by_those_above_it(api, books):
    found = messages(source_of(api, {"orders": ORDERS, "lines": LINES, "taxes": TAXES}), names={"taxes"})
    assert {one.table for one in found if isinstance(one, Insert | Replace)} == {"taxes"}
    assert len(rows(found, "taxes")) == len(books.taxes())


def test_a_child_that_comes_twice_has_its_own_once(api, books):
    def answer(asked):
        reply = books(asked)
        return Reply(reply.body * 2) if asked.path == "/orders/1/lines" else reply

    api.answer = answer
    found = messages(source_of(api, {"orders": ORDERS, "lines": LINES, "taxes": TAXES}))
    assert sorted(row["name"] for row in rows(found, "taxes")) == ["a", "b", "c", "d"]


def test_a_level_that_cannot_be_read_leaves_the_cursor_where_it_was(api, books):
    tables = {
        "orders": {**ORDERS, "incremental_key": "at", "query": {"since": "{since}"}},
        "lines": LINES,
        "taxes": TAXES,
    }
    source = source_of(api, tables)
    source.tables()
    books.refused.add("/orders/2/lines/21/taxes")
    [task] = source.tasks(source.tables())
    read = []
    with pytest.raises(TaskError, match="no access"):
        read.extend(source.read(task, Reading(None, START)))
    assert not [one for one in read if isinstance(one, Checkpoint)]


def test_one_with_a_cursor_of_its_own_is_asked_for_below_all_that_lie_above_it(api, books):
    def answer(asked):
        reply = books(asked)
        if asked.path.endswith("/taxes"):
            reply.body = [row for row in reply.body if row["at"] >= asked.query.get("since", "")]
        return reply

    api.answer = answer
    taxes = {**TAXES, "primary_key": ["name"], "incremental_key": "at", "query": {"since": "{since}"}}
    notes = {**NOTES, "path": "taxes/{parent.name}/{parent.orders_id}"}
    tables = {"orders": ORDERS, "lines": LINES, "taxes": taxes, "notes": notes}
    found = messages(source_of(api, tables), task="taxes")
    assert sorted((row["orders_id"], row["lines_id"], row["name"]) for row in rows(found, "taxes")) == [
        (order, line, name) for order, line, _, name in books.taxes()
    ]
    assert sorted(row["note"] for row in rows(found, "notes")) == ["a of 1", "b of 1", "c of 1", "d of 2"]
    cursor = found[-1].cursor
    api.asked.clear()
    messages(source_of(api, tables), cursor, task="taxes")
    since = {one.query.get("since") for one in api.asked if one.path.endswith("/taxes")}
    assert since == {None, "2026-01-01T00:08:59Z"}, "the look, and the reading"


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"a": {**LINES, "parent": "b"}, "b": {**LINES, "parent": "a"}}, "go round in a circle: a, b, a"),
        ({"a": {**LINES, "parent": "a"}}, "go round in a circle: a, a"),
        ({"lines": LINES}, "there is no table 'orders', its `parent`"),
        ({"orders": ORDERS, "lines": {**LINES, "primary_key": []}, "taxes": TAXES}, "'lines' needs a `primary_key`"),
        (
            {"orders": ORDERS, "lines": LINES, "taxes": {**TAXES, "parent_columns": {"orders_id": "text"}}},
            "its column 'orders_id' is that of 'orders'",
        ),
        (
            {
                "orders": ORDERS,
                "lines": {**LINES, "incremental_key": "at", "query": {"since": "{since}"}},
                "taxes": TAXES,
            },
            "lies above 'lines', which has a cursor of its own: its rows have orders_id",
        ),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_is_asked(tables, words):
    with pytest.raises(ValidationError, match=words):
        RestSource.Spec.model_validate({"base_url": "http://a.example", "tables": tables})


def test_a_list_of_a_child_is_no_table_and_that_is_told(api):
    api.answer = lambda _asked: Reply([{"id": 1, "tags": ["x"]}])
    with closing(source_of(api, {"orders": ORDERS, "lines": {**LINES, "lists": "tables"}})) as source:
        assert "its list 'tags' can be no table" in str(source.tables()[0].unreadable)


def test_a_key_that_no_record_shows_is_asked_for_in_words(api, books):
    books.orders = {1: {}, 2: {}}
    with closing(source_of(api, {"orders": ORDERS, "lines": LINES, "taxes": TAXES})) as source:
        unreadable = source.tables()[0].unreadable
        assert "2 records of orders were looked at, and no record of theirs has 'id'" in unreadable.message
        assert "types: {id: int64}" in unreadable.hint
    tables = {"orders": ORDERS, "lines": {**LINES, "types": {"id": "int64"}}, "taxes": TAXES}
    source = source_of(api, tables)
    source.tables()
    books.orders = {1: {}, 2: {7: ["x"]}}
    with closing(source):
        [task] = source.tasks(source.tables())
        with pytest.raises(Exception, match="new columns were found"):
            list(source.read(task, Reading(None, START)))
        found = list(source.read(task, Reading(None, START)))
    assert [(row["orders_id"], row["lines_id"], row["name"]) for row in rows(found, "taxes")] == [(2, 7, "x")]


# whole syncs ---------------------------------------------------------------------------------------------------------
def spec(cli, api, tables, mode="overwrite-delete-stale", **said):
    source = {"name": "shop", "path": "rest", "tables": ["*"], "destinations": ["copy"]}
    cli.spec(
        ("source", source | {"spec": {"base_url": api.url, "attempts": 1, "tables": tables, **said}}),
        ("destination", {"name": "copy", "path": "duckdb", "write_mode": mode, "spec": {"path": "w.duckdb"}}),
    )


def stored(query="SELECT orders_id, lines_id, position, name FROM taxes ORDER BY ALL"):
    with closing(duckdb.connect("w.duckdb", read_only=True)) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("key", [None, "at"])
def test_what_is_gone_above_is_gone_below(cli, api, books, key):
    """A tax, a line with its taxes, and in a table that is read in full an order with all of it."""
    orders = ORDERS if key is None else {**ORDERS, "incremental_key": key, "query": {"since": "{since}"}, "lag": "0"}
    spec(cli, api, {"orders": orders, "lines": LINES, "taxes": TAXES})
    assert cli("sync").exit_code == 0
    assert stored() == books.taxes()
    books.orders[1] = {12: ["c", "e"]}
    books.at[1] = 60
    assert cli("sync").exit_code == 0
    assert stored() == books.taxes()
    if key is None:
        del books.orders[2]
        assert cli("sync").exit_code == 0
        assert stored() == books.taxes()
        assert stored("SELECT id FROM lines") == [(12,)]


def test_a_child_that_is_gone_is_removed_though_a_column_of_its_parent_has_changed(cli, api, books):
    """What is taken from the parent besides its key may be anything, and null."""
    lines = {**LINES, "parent_columns": {"order": "id", "title": "title"}}
    spec(cli, api, {"orders": ORDERS, "lines": lines}, "overwrite")
    assert cli("sync").exit_code == 0
    del books.orders[1][11]
    books.titles |= {1: "other", 3: None}
    assert cli("sync").exit_code == 0
    assert stored('SELECT "order", title, id FROM lines ORDER BY ALL') == [(1, "other", 12), (2, "new", 21)]


def test_an_account_of_which_a_child_of_a_child_is_refused_fails_alone(cli, api):
    both, refused = {"x": Books(), "y": Books()}, []

    def answer(asked):
        _, account, *rest = asked.path.split("/")
        if refused and [account, *rest] == refused:
            return Reply({"message": "no access"}, status=403)
        asked.path = "/" + "/".join(rest)
        return both[account](asked)

    api.answer = answer
    tables = {"orders": ORDERS, "lines": LINES, "taxes": TAXES}
    tables = {name: {**said, "path": f"{{partition}}/{said['path']}"} for name, said in tables.items()}
    tables["taxes"]["primary_key"] = ["lines_id", "name"]
    both["y"].orders = {4: {41: ["f"]}}
    both["y"].titles, both["y"].at = {4: "y"}, {4: 1}
    spec(cli, api, tables, partitions=["x", "y"])
    assert cli("sync").exit_code == 0
    refused += ["x", "orders", "1", "lines", "11", "taxes"]
    both["x"].orders[2], both["y"].orders[4] = {}, {41: ["g"]}
    done = cli("sync")
    assert done.exit_code == 1
    assert "no access" in done.output
    assert stored("SELECT _cq_client_id, name FROM taxes ORDER BY ALL") == [("x", n) for n in "abcd"] + [("y", "g")]


def test_a_server_that_goes_away_in_the_middle_of_a_line_and_comes_back(cli, api, books):
    def broken(asked):
        """It answers as long as columns are looked for."""
        again = api.paths()[seen:].count("/orders/2/lines/21/taxes") > 1
        return Reply(failure="hang up") if again else books(asked)

    spec(cli, api, {"orders": ORDERS, "lines": LINES, "taxes": TAXES})
    assert cli("sync").exit_code == 0
    before, books.orders = books.taxes(), {1: {}, 2: {21: ["z"]}}
    seen, api.answer = len(api.asked), broken
    assert cli("sync").exit_code != 0
    assert "does not answer" in cli("sync").output
    assert stored() == before
    api.answer = books
    assert cli("sync").exit_code == 0
    assert stored() == books.taxes()
