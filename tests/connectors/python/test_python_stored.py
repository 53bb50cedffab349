"""A table that is read in full, where something else is stored already."""

import sqlite3
from contextlib import closing

import pytest

import strandline as sl


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def place(request, named):
    if named == "postgresql":
        return sl.postgresql(request.getfixturevalue("postgresql"))
    return {"duckdb": sl.duckdb("w.duckdb"), "sqlite": sl.sqlite("w.db"), "files": sl.files("lake")}[named]


def synced(pages, place, mode="overwrite", **declared):
    @sl.table(primary_key="id", name="items", **declared)
    def items():
        yield from pages

    return sl.sync(items, to=sl.destination(place, write_mode=mode), name="t")


def values(report, column):
    return {row["id"]: row[column] for row in report.arrow("items").to_pylist()}


@pytest.mark.parametrize(
    ("now", "stored"), [(7, "7"), (12_345_678_901, "12345678901"), (True, "true"), ("2024-05-01", "2024-05-01")]
)
def test_a_value_of_another_type_in_a_column_of_text_is_as_it_was_sent(now, stored):
    place = sl.duckdb("w.duckdb")
    synced([[{"id": 1, "x": "n/a"}]], place)
    assert values(synced([[{"id": 1, "x": "n/a"}, {"id": 2, "x": now}]], place), "x") == {1: "n/a", 2: stored}
    assert values(synced([[{"id": 1, "x": now}, {"id": 2, "x": now}]], place), "x") == {1: stored, 2: stored}


@pytest.mark.parametrize("named", ["duckdb", "sqlite", "files", "postgresql"])
def test_a_whole_number_in_a_column_of_text_is_one_in_every_place(place, named):
    mode = "append" if named == "files" else "overwrite"
    synced([[{"id": 1, "x": "n/a"}]], place, mode)
    assert values(synced([[{"id": 2, "x": 7}]], place, mode), "x") == {1: "n/a", 2: "7"}


def test_so_it_is_where_a_column_comes_in_mid_stream():
    place = sl.duckdb("w.duckdb")
    synced([[{"id": 1, "x": "n/a"}]], place)
    pages = [[{"id": n, "x": n} for n in range(1200)], [{"id": 2000, "x": 2000, "more": "y"}]]
    found = values(synced(pages, place), "x")
    assert found == {n: str(n) for n in [*range(1200), 2000]}


TAGGED = [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": ["c"]}]


def tags(report):
    rows = report.arrow("items_tags").to_pylist() if any("items_tags" in one.tables for one in report.tasks) else None
    return None if rows is None else sorted((row["items_id"], row["value"]) for row in rows)


@pytest.mark.parametrize("mode", ["overwrite", "overwrite-delete-stale"])
@pytest.mark.parametrize("empty", [[], None])
def test_lists_that_are_tables_and_are_empty_now_lose_their_rows(mode, empty):
    place = sl.sqlite("w.db")
    synced([TAGGED], place, mode, lists="tables")
    assert tags(synced([[TAGGED[0] | {"tags": empty}, TAGGED[1]]], place, mode, lists="tables")) == [(2, "c")]
    report = synced([[one | {"tags": empty} for one in TAGGED]], place, mode, lists="tables")
    assert stored_tags() == []
    assert report.arrow("items").column_names[-1] == "id"
    synced([TAGGED], place, mode, lists="tables")
    assert stored_tags() == [(1, "a"), (1, "b"), (2, "c")]


def test_a_list_that_is_shown_by_later_records_only_is_the_same_table():
    place, many = sl.duckdb("w.duckdb"), [{"id": n} for n in range(1, 1200)]
    synced([TAGGED], place, lists="tables")
    report = synced([many, [{"id": 2000, "tags": ["d"]}]], place, lists="tables")
    rows = report.arrow("items_tags").to_pylist()
    assert [(row["items_id"], row["value"]) for row in rows] == [(2000, "d")]


@pytest.mark.parametrize("mode", ["overwrite", "overwrite-delete-stale", "append"])
def test_lists_of_which_no_record_says_anything_any_more_keep_their_rows(mode):
    place = sl.sqlite("w.db")
    synced([TAGGED], place, mode, lists="tables")
    if mode != "append":
        with pytest.raises(sl.SyncError, match="no record has 'tags' any more"):
            synced([[{"id": 1}, {"id": 2}]], place, mode, lists="tables")
    else:
        synced([[{"id": 1}, {"id": 2}]], place, mode, lists="tables")
    assert stored_tags() == [(1, "a"), (1, "b"), (2, "c")]


def test_a_list_that_is_a_text_now_is_no_column_all_of_a_sudden():
    place = sl.sqlite("w.db")
    synced([TAGGED], place, lists="tables")
    with pytest.raises(sl.SyncError, match="its list 'tags' is a table, and it is string now"):
        synced([[{"id": 1, "tags": "a"}]], place, lists="tables")
    assert stored_tags() == [(1, "a"), (1, "b"), (2, "c")]


def test_a_table_that_is_not_selected_any_more_stays_as_it_is():
    place = sl.sqlite("w.db")
    synced([TAGGED], place, lists="tables")

    @sl.table(primary_key="id", lists="tables")
    def items():
        yield [{"id": 1, "tags": []}]

    alone = sl.source(items, name="t", tables=["items"])
    sl.sync(alone, to=sl.destination(place, write_mode="overwrite"))
    assert stored_tags() == [(1, "a"), (1, "b"), (2, "c")]


def stored_tags():
    with closing(sqlite3.connect("w.db")) as connection:
        return connection.execute("SELECT items_id, value FROM items_tags ORDER BY 1, 2").fetchall()


def test_a_function_that_has_nothing_yet_is_no_failure_and_makes_no_table():
    report = synced([], sl.sqlite("w.db"))
    assert report.ok
    assert "there is no record yet, and no column is declared, so no table is made" in " ".join(str(report).split())
    assert values(synced([[{"id": 1, "x": 2}]], sl.sqlite("w.db")), "x") == {1: 2}
