"""Tables whose versions are ordered by a column: which can be, what a cursor depends on, and who refuses them."""

from dataclasses import replace

import pyarrow as pa
import pytest

from strandline.destination import WriteMode
from strandline.engine.into import Into
from strandline.engine.job import Job
from strandline.engine.lineage import stored_table
from strandline.engine.preview import plan
from strandline.engine.run import sync
from strandline.errors import UsageError
from strandline.plugins import load_plugin
from strandline.source import Task
from strandline.table import Table

SCHEMA = pa.schema(
    {"id": pa.int64(), "at": pa.timestamp("us"), "tags": pa.list_(pa.string()), "price": pa.decimal128(9, 2)}
)
TABLE = Table("orders", SCHEMA, ("id",), version_order="at", incremental=True)


class Offers:
    def tables(self):
        return [TABLE]

    def tasks(self, tables):
        return [Task(table.name, (table,)) for table in tables]


@pytest.mark.parametrize("column", ["tags", "price", "nowhere"])
def test_only_a_column_that_has_one_order_everywhere_will_do(column):
    with pytest.raises(UsageError, match=f"'orders' cannot order the versions of its rows by '{column}'"):
        Table("orders", SCHEMA, ("id",), version_order=column)


def test_a_cursor_depends_on_it_and_on_its_type():
    plain = replace(TABLE, version_order="")
    text = replace(TABLE, schema=SCHEMA.set(1, pa.field("at", pa.string())))
    assert len({TABLE.fingerprint, plain.fingerprint, text.fingerprint}) == 3
    assert TABLE.basis["version_order"] == "at"
    assert "version_order" not in plain.basis


def test_rows_whose_key_is_their_content_have_no_versions():
    assert stored_table(TABLE, mode=WriteMode.OVERWRITE, partitioned=False).version_order == "at"
    assert not stored_table(TABLE, mode=WriteMode.OVERWRITE, partitioned=False, cq_id_only=True).version_order


@pytest.mark.parametrize("run", [plan, sync])
def test_a_destination_that_cannot_is_refused_by_name_before_anything_is_touched(request, run):
    cls = load_plugin("destination", "memory")
    store = cls(cls.Spec(name=request.node.nodeid))
    store.capabilities = replace(store.capabilities, orders_versions=False)
    backend = load_plugin("state_backend", "memory")

    def job(mode):
        return Job("shop", Offers(), [Into("lake", store, mode)], backend=backend(backend.Spec()))

    said = run(job(WriteMode.OVERWRITE))
    (error,) = [one.error for one in said] if run is plan else [said.error]
    assert isinstance(error, UsageError)
    assert "destination 'lake' cannot order the rows of table 'orders' by 'at'" in error.message
    assert run is sync or [one.problem for one in plan(job(WriteMode.APPEND))] == [""]


def refused(report):
    raise report.error
