"""A table that is read in full, where something else is stored already."""

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
