"""A sync that a program watches, and ends; and what it says of single tables."""

import contextlib
import json
import logging
import sqlite3
import threading

import pytest

import strandline as sl
from strandline.api.project import _project
from strandline.logs import register_secret
from strandline.runs import EventKind, Status

SECRET = "s3cret-of-orders"
ROWS = 1000


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(name, count, **declared):
    return sl.table(name=name, primary_key="id", **declared)(lambda: iter([[{"id": n} for n in range(count)]]))


@pytest.fixture
def endless():
    """A table that goes on until it is let go, with what says that its first page was taken, and what lets it go."""
    begun, go_on = threading.Event(), threading.Event()

    @sl.table(primary_key="id")
    def slow(cursor):
        for n in range(ROWS):
            yield [{"id": n}]
            yield sl.checkpoint({"n": n})
            begun.set()
            go_on.wait(0.05)

    yield slow, begun, go_on
    go_on.set()


def project(*tables, name="ours", to=None):
    """As ``sl.sync`` makes one of objects."""
    return _project(tables, to or sl.sqlite("store.db"), name, None)


def test_events_come_while_it_goes_on_and_then_the_report():
    with project(numbers("few", 2), numbers("more", 3)).start() as running:
        kinds = [event.kind for event in running]
        report = running.report()
    assert kinds[0] is EventKind.RUN_STARTED
    assert kinds[-1] is EventKind.RUN_FINISHED
    assert kinds.count(EventKind.TASK_FINISHED) == 2
    assert report.ok
    assert running.report().ok
    assert list(running) == []


def test_a_table_ends_with_the_last_of_its_tasks_in_the_last_of_its_destinations():
    @sl.table(primary_key=["region", "id"], partitions=["eu", "us"])
    def accounts(region):
        yield [{"id": 1, "region": region}] * (2 if region == "eu" else 1)

    into = [sl.sqlite("a.db"), sl.destination(sl.sqlite("b.db"), name="b")]
    with project(accounts, numbers("few", 2), to=into).start() as running:
        ended = [[(one.name, one.destination) for one in running.ended(event)] for event in running]
    assert sorted(name for name in ended if name) == [
        [("accounts", "sqlite"), ("accounts", "b")],
        [("few", "sqlite"), ("few", "b")],
    ]
    (accounts_here, *_) = running.report().tables
    assert (accounts_here.name, accounts_here.rows_read) == ("accounts", 3)


def test_it_ends_when_it_is_asked_to_and_the_next_one_goes_on(endless):
    slow, begun, go_on = endless
    with project(slow).start() as running:
        assert begun.wait(30)
        running.stop()
        report = running.report(check=False)
    assert report.exit_code == 143
    (table,) = report.tables
    assert table.status is Status.STOPPED
    assert table.rows_read < ROWS
    go_on.set()
    assert project(slow).sync().arrow("slow").num_rows == ROWS


@pytest.mark.parametrize(("error", "signal"), [(KeyboardInterrupt, 2), (RuntimeError, 15), (None, 15)])
def test_nothing_goes_on_behind_its_block(endless, error, signal):
    slow, begun, _ = endless
    with contextlib.suppress(KeyboardInterrupt, RuntimeError), project(slow).start() as running:
        assert begun.wait(30)
        if error is not None:
            raise error
    assert not any(thread.name == "sync" for thread in threading.enumerate())
    assert running.report(check=False).runs[0].signal == signal
    with pytest.raises(sl.SyncError, match="it was stopped"):
        running.report()


def test_what_ends_the_program_that_waits_ends_the_sync_first(endless):
    slow, begun, _ = endless

    class Interruption(BaseException):
        """As an orchestrator raises one from the handler of a signal."""

    def say(_level, text):
        assert begun.wait(30)
        raise Interruption(text)

    with pytest.raises(Interruption):
        project(slow).sync(say=say)
    assert not any(thread.name == "sync" for thread in threading.enumerate())


def test_what_the_command_line_logs_is_said_without_secrets(monkeypatch):
    def orders():
        yield [{"id": 1}]
        raise RuntimeError(f"401 for {SECRET}")

    register_secret(SECRET)  # as filling in a variable does
    said = []
    table = sl.table(name="orders", primary_key="id")(orders)
    report = project(table, numbers("few", 2)).sync(check=False, say=lambda *line: said.append(line))
    assert (logging.INFO, "ours/few → sqlite: completed: 2 rows committed, cursor –") in said
    assert logging.ERROR in {level for level, _ in said}
    failed = next(one for one in report.tables if not one.ok)
    assert "401 for ***" in failed.error
    assert SECRET not in f"{said}{report.tables}"


def test_a_table_says_what_was_done_with_it():
    rows = [{"id": 1}, {"id": 2}]
    since = lambda cursor: iter([[row for row in rows if row["id"] >= (cursor or 0)]])  # noqa: E731 -- a table in a line
    shop = sl.table(name="orders", primary_key="id", incremental_key="id")(since)
    to = sl.destination(sl.sqlite("store.db"), write_mode="append")
    sl.sync(shop, to=to, name="shop")
    (one,) = sl.sync(shop, to=to, name="shop").tables
    assert (one.source, one.name, one.destination, one.stored) == ("shop", "orders", "sqlite", "orders")
    assert (one.ok, one.rows_read, one.rows_known, one.rows_written) == (True, 1, 1, 0)
    assert (one.cursor_from, one.cursor_to) == ("2", "2")
    assert "committed together" in one.delivery
    assert one.delivery == sl.plan(shop, to=to, name="shop").words[0].plan.delivery


def test_rows_of_a_task_are_told_apart_by_table():
    tickets = numbers("tickets", 2)
    comments = sl.table(name="comments", parent=tickets)(lambda _: iter([[{"n": 1}, {"n": 2}]]))
    for _ in range(2):  # the second one by the hidden table of a full refresh
        report = sl.sync(tickets, comments, to=sl.sqlite("store.db"), name="t", full_refresh="*")
        assert {one.name: (one.rows_read, one.beside) for one in report.tables} == {
            "tickets": (2, ("comments",)),
            "comments": (4, ("tickets",)),
        }


def spec(directory, *names):
    """Sources that have the tables a and b each, of three rows and two."""
    with contextlib.closing(sqlite3.connect(directory / "shop.db")) as shop, shop:
        shop.executescript(
            "CREATE TABLE a (id INTEGER PRIMARY KEY); INSERT INTO a VALUES (1), (2), (3);"
            "CREATE TABLE b (id INTEGER PRIMARY KEY); INSERT INTO b VALUES (1), (2);"
        )
    documents = [
        f"kind: source\nspec: {{name: {name}, path: sqlite, destinations: [store], names: '{name}_{{table}}', "
        "spec: {path: shop.db}}\n---\n"
        for name in names
    ]
    (directory / "strandline.yml").write_text(
        "".join(documents) + "kind: destination\nspec: {name: store, path: files, spec: {path: store}}\n"
    )
    return sl.load("strandline.yml")


def test_a_source_of_several_is_synced_alone(directory):
    both = spec(directory, "one", "two")
    report = both.sync(sources="two", select=["a"])
    assert [(run.source, [task.task for task in run.tasks]) for run in report.runs] == [("two", ["a"])]
    with pytest.raises(sl.UsageError, match="there is no source 'tow'") as caught:
        both.sync(sources=["tow"])
    assert "'two'" in caught.value.hint


def test_tables_are_listed_without_their_destination(directory):
    both = spec(directory, "one", "two")
    found = {(one.source, one.name): one for one in both.tables(exclude="b")}
    assert found.keys() == {("one", "a"), ("two", "a")}
    two = found["two", "a"]
    assert (two.stored, two.destinations, two.table.name) == ("two_a", ("store",), "a")
    assert not (directory / "store").exists()
    with pytest.raises(sl.UsageError, match="no table matches 'c'"):
        both.tables(select="c")


def test_workers_do_what_a_spec_says(directory):
    report = spec(directory, "one").sync(executor="processes")
    assert {one.name: one.rows_read for one in report.tables} == {"a": 3, "b": 2}
    with pytest.raises(sl.UsageError, match="executor"):
        sl.load("strandline.yml").sync(executor="nobody")


def test_whom_the_spec_names_are_told_as_by_the_command_line(directory):
    (directory / "strandline.yml").write_text(
        """
kind: source
spec:
  name: shop
  path: sqlite
  destinations: [copy]
  on_failure: {command: [sh, -c, "cat > failed.json"]}
  on_success: {command: [sh, -c, "cat > done.json"]}
  spec: {path: shop.db}
---
kind: destination
spec:
  name: copy
  path: sqlite
  spec: {path: copy.db}
"""
    )
    project, failed, done = sl.load("strandline.yml"), directory / "failed.json", directory / "done.json"
    with pytest.raises(sl.StrandlineError):
        project.sync()
    assert json.loads(failed.read_text())["exit_code"] == 5
    failed.unlink()
    with contextlib.closing(sqlite3.connect("shop.db")) as file, file:
        file.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    report = project.sync()
    assert json.loads(done.read_text())["run_id"] == report.runs[0].run_id
    assert not failed.exists()
