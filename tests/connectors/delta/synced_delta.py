"""Delta tables that are changed and synced."""

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from synced_table import SyncedTable

from strandline.plugins import load_plugin

FEED = {"delta.enableChangeDataFeed": "true"}


class SyncedDelta(SyncedTable):
    def write(self, table, mode="append", **settings):
        write_deltalake(self.place, table, mode=mode, **settings)

    @property
    def delta(self):
        return DeltaTable(self.place)

    def merge(self, table):
        merge = self.delta.merge(table, "s.id = t.id", source_alias="s", target_alias="t")
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def source(self):
        cls = load_plugin("source", "delta")
        return cls(cls.Spec(path=self.place, tables={"*": self.settings}))

    def found(self):
        return pa.table(QueryBuilder().register("t", self.delta).execute("SELECT * FROM t"))
