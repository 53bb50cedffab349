"""A row that is read again is stored once in append mode, also where its table has changed since."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from test_engine import backend, job

import strandline as sl
from strandline.engine import lineage
from strandline.engine.run import sync
from strandline.engine.versions import content_versions, former_forms
from strandline.plugins import load_plugin
from strandline.table import Table

PLACES = {
    "duckdb": lambda root: {"path": str(root / "w.duckdb")},
    "files": lambda root: {"path": str(root / "lake")},
    "postgresql": None,
}
NOW = datetime.now(UTC)
GREW = {
    "a field of an object": ({"who": {"id": 1}}, {"who": {"id": 2, "name": "n"}}),
    "a field of objects in a list": ({"who": [{"id": 1}]}, {"who": [{"id": 2, "of": {"x": "y"}}]}),
    "a column": ({}, {"who": "n"}),
    "fractions": ({"n": 12_345_678_901}, {"n": 0.5}),
}


@pytest.fixture
def store(request, tmp_path, place):
    cls, of = load_plugin("destination", place), PLACES[place]
    one = cls(cls.Spec(**(of(tmp_path) if of else {"connection_string": request.getfixturevalue("postgresql")})))
    yield one
    one.close()


def source_of(rows):
    @sl.table(primary_key="id", incremental_key="at", lag=timedelta(hours=1))
    def items(cursor):
        yield rows

    cls = load_plugin("source", "python")
    return cls(cls.Spec(functions=[items]))


def synced(rows, store, kept):
    report = sync(job(source_of(rows), store, backend=kept))
    assert [one.error for one in report.tasks] == [None]


def ids(store):
    [table] = source_of([{"id": 1, "at": NOW}]).tables()
    found = [row["id"] for batch in store.read(Table("items", table.schema, ("id",))) for row in batch.to_pylist()]
    return sorted(found)


@pytest.mark.parametrize("before", ["by this version", "by an older one"])
@pytest.mark.parametrize("grew", GREW)
@pytest.mark.parametrize("place", ["duckdb"])
def test_a_row_whose_table_grew_is_not_stored_twice(store, grew, before):
    check(store, grew, before)


@pytest.mark.parametrize("place", ["files", "postgresql"])
def test_so_it_is_in_other_places(store):
    check(store, "a field of an object", "by this version")


def check(store, grew, before):
    first, later = ({"id": number, "at": NOW} | more for number, more in enumerate(GREW[grew]))
    kept = backend()
    if before == "by an older one":
        with pytest.MonkeyPatch.context() as older:
            older.setattr(lineage, "content_versions", former_versions)
            synced([first], store, kept)
        for states in (kept, store.states):
            for key, state in states.load("numbers").items():
                states.save(key, replace(state, forms=None), expected=state.token)
        synced([first], store, kept)
    else:
        synced([first], store, kept)
    assert ids(store) == [0]
    synced([first, later], store, kept)
    assert ids(store) == [0, 1]


def former_versions(batch, columns, scope=(), forms=None):
    """As they were made before there were forms."""
    return content_versions(batch, columns, scope, former_forms(Table("items", batch.schema)))
