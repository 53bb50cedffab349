"""A destination of Strandline is a source: what it keeps beside the rows is left out, and nobody's table of such a name is."""

import contextlib

import duckdb
import pyarrow as pa
import pytest

from strandline.connectors.sql.delivered import DELIVERED_COLUMNS
from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.run import sync
from strandline.own_tables import DELIVERED, OWN_TABLES
from strandline.plugins import load_plugin
from strandline.selection import select_tables
from strandline.table import Table


def table(name, *columns, spec_name=""):
    return Table(name, pa.schema([(column, pa.string()) for column in columns]), (), spec_name=spec_name)


OURS = [table(name, *columns) for name, columns in OWN_TABLES.items()]


@pytest.mark.parametrize("pattern", ["*", "cq_*", "*_state"])
def test_states_are_not_meant_by_a_glob(pattern):
    shop = table("orders_state", "id")
    assert select_tables([*OURS, shop], [pattern, "orders*"]) == [shop]


def test_states_of_another_schema_or_prefix_are_not_meant_either():
    names = [("crm_cq_state", "crm.cq_state"), ("crm_cq_state", "")]
    for name, spec_name in names:
        assert select_tables([table(name, *OWN_TABLES["cq_state"], spec_name=spec_name)], ["*"]) == []


def test_states_that_are_named_are_meant():
    assert [one.name for one in select_tables(OURS, ["*", "cq_state"])] == ["cq_state"]


def test_a_table_of_such_a_name_that_is_somebodys_is_read():
    somebodys = [table("cq_state", "id", "state"), table("cq_tables", "id")]
    assert select_tables(somebodys, ["*"]) == somebodys


def test_what_is_known_of_our_tables_is_what_they_are_made_of():
    assert OWN_TABLES[DELIVERED] == DELIVERED_COLUMNS


def _copied(source, into, name, backend):
    chosen = lambda tables: select_tables(tables, ["*"])  # noqa: E731 -- as the command line does
    with contextlib.closing(source), contextlib.closing(into):
        job = Job(name, source, [Into("d", into, WriteMode.OVERWRITE)], backend=backend, select=chosen)
        report = sync(job)
    assert report.exit_code == 0, report.error or [task.error for task in report.tasks]


def _open(kind, name, **settings):
    cls = load_plugin(kind, name)
    return cls(cls.Spec(**settings))


@pytest.mark.parametrize("middle", ["sqlite", "postgresql"])
def test_a_destination_is_a_source_with_all_its_tables(middle, tmp_path, request):
    backend = _open("state_backend", "memory")
    place = {"path": str(tmp_path / "middle.db")}
    if middle == "postgresql":
        place = {"connection_string": request.getfixturevalue("postgresql")}
    for _ in range(2):
        _copied(_open("source", "test", tables=1, rows=5), _open("destination", middle, **place), "first", backend)
        end = _open("destination", "duckdb", path=str(tmp_path / "end.duckdb"))
        _copied(_open("source", middle, **place), end, "second", backend)
    with duckdb.connect(str(tmp_path / "end.duckdb")) as copy:
        names = [name for (name,) in copy.sql("SELECT table_name FROM information_schema.tables").fetchall()]
        (rows,) = [name for name in names if not name.startswith("cq_")]
        assert copy.sql(f'SELECT count(*), count(DISTINCT "_cq_source_name") FROM "{rows}"').fetchall()[0][0] >= 5
