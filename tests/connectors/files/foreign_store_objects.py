"""The source ``files`` with stores of other people: `make stores`, since they are built first, for minutes."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import from_url
from synced_objects import SyncedObjects

from services.object_stores import ObjectStore


@pytest.fixture(params=["versitygw", "azurite", "fake-gcs-server"])
def objects(request):
    with ObjectStore(request.param) as store:
        root = store.url.rpartition("/")[0]
        made = SyncedObjects.__new__(SyncedObjects)
        made.spec = {"path": f"{root}/in", "options": store.options, "table": "t"}
        made.cursors, made.messages = {}, []
        made.store = from_url(f"{root}/in", config=store.options, client_options={"allow_http": True})
        yield made


def parquet(numbers) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"n": list(numbers)}), sink, row_group_size=100_000)
    return sink.getvalue().to_pybytes()


def numbers(rows: list[dict]) -> list[int]:
    return sorted(row["n"] for row in rows)


def csv(of) -> str:
    return "n\n" + "".join(f"{n}\n" for n in of)


def test_lines_are_read_once_whatever_becomes_of_their_objects(objects):
    objects.write("a b.csv", csv(range(3)))
    objects.write("x/ü.csv", csv(range(3, 6)))
    assert numbers(objects.rows()) == [*range(6)]
    assert objects.rows() == []
    objects.append("a b.csv", "6\n")
    assert numbers(objects.rows()) == [6]
    objects.write("a b.csv", csv(range(4)) + "6\n")
    assert numbers(objects.rows()) == [0, 1, 2, 3, 6]
    objects.write("x/ü.csv", csv(range(3, 6)))  # as it was; the ETag may be another one
    assert objects.rows() == []
    objects.remove("a b.csv")
    assert objects.rows() == []
    assert objects.cursors["t"]["gone"][0] == 1


def test_parquet_is_read_by_ranges_and_again_when_it_is_replaced(objects):
    objects.write("a.parquet", parquet(range(400_000)))
    assert numbers(objects.rows()) == [*range(400_000)]
    assert objects.rows() == []
    objects.write("a.parquet", parquet(range(7)))
    assert numbers(objects.rows()) == [*range(7)]


def test_an_object_that_is_replaced_while_it_is_read_is_noticed(objects):
    objects.write("a.csv", csv(range(2_000_000)))
    source = objects.source()
    (task,) = source.tasks(source.tables())
    messages = source.read(task, objects.reading(None, rows_max=20_000))
    next(messages)
    objects.write("a.csv", csv(range(10, 2_000_010)))
    with pytest.raises(Exception, match="replaced while it was read"):
        for _ in messages:
            pass
    assert numbers(objects.rows()) == [*range(10, 2_000_010)]


def test_what_becomes_longer_while_it_is_read_is_read_on(objects):
    objects.write("a.csv", csv(range(2_000_000)))
    found = []
    for _, message in objects.read(rows_max=20_000):
        if (batch := getattr(message, "batch", None)) is not None:
            if not found:
                objects.append("a.csv", "2000000\n")
            found += batch.column("n").to_pylist()
    assert found == [*range(2_000_000)]
    assert numbers(objects.rows()) == [2_000_000]
