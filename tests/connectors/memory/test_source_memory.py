import pyarrow as pa
import pytest

from strandline.connectors.memory.source import MemoryStore
from strandline.plugins import load_plugin
from strandline.table import Table
from strandline.testing.source import SourceConformance

SCHEMA = pa.schema([("id", pa.int64()), ("at", pa.int64()), ("what", pa.string())])
IN_FULL = Table("full", SCHEMA, primary_key=("id",))
BY_KEY = Table("key", SCHEMA, primary_key=("id",), incremental_key=("at",), incremental=True)
BY_CHANGE = Table("change", SCHEMA, primary_key=("id",), incremental=True)
WITHOUT_PRIMARY_KEY = Table("equal", SCHEMA, incremental_key=("at",), incremental=True)


class Memory(SourceConformance):
    tables: tuple = (IN_FULL, BY_KEY, BY_CHANGE, WITHOUT_PRIMARY_KEY)
    settings: dict = {}  # noqa: RUF012 the settings of a test, never changed

    @pytest.fixture
    def make_source(self, request):
        name = request.node.nodeid
        store = MemoryStore.named(name)
        store.now = 6
        for table in self.tables:
            store.create(table)
            for key in range(20):
                # ties, nulls, and rows dated in the future, written in another order than that of their stamps
                store.upsert(
                    table.name, {"id": key % 19, "at": None if key % 7 == 3 else key * 5 % 9, "what": f"{key % 19}"}
                )
            if table.primary_key:
                store.delete(table.name, {"id": 4})
        cls = load_plugin("source", "memory")
        yield lambda: cls(cls.Spec(store=name, **self.settings))
        MemoryStore.forget(name)

    @pytest.fixture
    def change(self, request):
        def change():
            store = MemoryStore.named(request.node.nodeid)
            store.now = 7
            for table in self.tables:
                store.upsert(table.name, {"id": 30, "at": 7, "what": "new"}, {"id": 31, "at": None, "what": "new"})
                if table.primary_key:
                    store.upsert(table.name, {"id": 1, "at": 7, "what": "changed"})

        return change


class TestMemory(Memory):
    pass


class TestOneTask(Memory):
    settings = {"one_task": True}  # noqa: RUF012 likewise, never changed


class TestOneTaskOfIncrementalTables(Memory):
    tables = (BY_KEY, BY_CHANGE, WITHOUT_PRIMARY_KEY)
    settings = {"one_task": True, "batch_rows": 2}  # noqa: RUF012 likewise, never changed


class TestSweep(Memory):
    tables = (IN_FULL, BY_KEY, BY_CHANGE)
    settings = {"deletes": "sweep"}  # noqa: RUF012 likewise, never changed


class TestFeed(Memory):
    tables = (BY_CHANGE,)
    settings = {"deletes": "feed"}  # noqa: RUF012 likewise, never changed
