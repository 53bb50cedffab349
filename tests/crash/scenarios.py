"""Sources that change between syncs in every way that has lost rows somewhere, and what is in them at each step."""

from collections import Counter

import pyarrow as pa

from strandline.connectors.memory.source import MemoryStore
from strandline.table import Table

STEPS = 4
"""First load; everything that makes reading difficult; more of it; nothing new, but what was in the future is not."""
ROWS_MAX = 4
"""Rows in a batch, and in a window."""
SCHEMA = pa.schema({"id": pa.int64(), "v": pa.string(), "t": pa.int64()})
BARE = pa.schema({"v": pa.string(), "t": pa.int64()})


def row(id_, t, v=None):
    return {"id": id_, "v": v or f"v{id_}", "t": t}


def equal(count, v, t):
    return [{"v": v, "t": t}] * count


def keyed(store, step):
    """Rows with a key. Ties lie across the border of two batches; one transaction is open during the first sync."""
    store.now = 95
    late = store.begin()
    late.upsert("t", row(13, 95), row(14, 97))
    store.now = 100
    store.upsert("t", *(row(n, t) for n, t in enumerate([10, 20, 20, 20, 20, 50, 95, 100, 100], 1)))
    store.upsert("t", row(10, None), row(11, None), row(12, 130))
    if step >= 1:
        store.now = 120
        late.commit()
        store.upsert("t", row(15, 120), row(16, 120), row(17, None), row(18, 300))
        store.upsert("t", row(2, 110, "changed"), row(10, None, "changed"))
        store.delete("t", {"id": 3})
    if step >= 2:
        store.now = 200
        store.upsert("t", row(19, 120), row(16, 120, "changed at its tie"), row(15, 150, "changed"))
        store.upsert("t", row(17, 160, "no longer null"))
        store.delete("t", {"id": 4})
    if step >= 3:
        store.now = 400


def bare(store, step):
    """Rows without a key, some of them equal; how many are equal changes."""
    rows = [*equal(5, "a", 1), *equal(2, "b", 1), *equal(1, "c", 1), *equal(2, None, None), *equal(1, "e", 1)]
    if step >= 1:
        rows = [*equal(3, "a", 1), *equal(4, "b", 1), *equal(1, "c", 2), *equal(3, None, None), *equal(1, "e", 1)]
    if step >= 2:
        rows = [*rows[1:], *equal(1, "f", 3)]
    store.upsert("t", *rows)


def log(store, step):
    """Rows without a key that are only ever added; equal ones stand where rows are read again."""
    store.now = 95
    late = store.begin()
    late.upsert("t", *equal(1, "x", 95), *equal(1, "late", 97))
    store.now = 100
    store.upsert("t", *equal(1, "first", 10), *equal(4, "tied", 20), *equal(2, "x", 95), *equal(1, "y", 100))
    store.upsert("t", *equal(2, "null", None), *equal(2, "future", 130))
    if step >= 1:
        store.now = 120
        late.commit()
        store.upsert("t", *equal(1, "null", None), *equal(1, "future", 130), *equal(2, "z", 120), *equal(1, "far", 300))
    if step >= 2:
        store.now = 200
        store.upsert("t", *equal(2, "z", 120), *equal(1, "w", 150), *equal(1, "null", None))
    if step >= 3:
        store.now = 400


KINDS = {
    "keyed": (keyed, Table("t", SCHEMA, ("id",), ("t",), incremental=True)),
    "full": (keyed, Table("t", SCHEMA, ("id",))),
    "bare": (bare, Table("t", BARE)),
    "log": (log, Table("t", BARE, (), ("t",), incremental=True)),
    "fed": (keyed, Table("t", SCHEMA, ("id",), incremental=True)),
}
"""By name: what fills a store, and how its table is read. ``fed`` reads a log of changes, deletes among them."""


def store_at(name, kind, step):
    """The store as it stands at a step."""
    MemoryStore.forget(name)
    store = MemoryStore.named(name)
    fill, table = KINDS[kind]
    store.create(table)
    fill(store, step)
    return store


def contents(store):
    """The rows of a store, as tuples in the order of the columns, with how often each is there."""
    return Counter(tuple(row.values()) for row in store.rows("t").to_pylist())


def settled_below(store):
    """Rows with a smaller key are never read again by a sync that began with this store."""
    keys = [row["t"] for row in store.rows("t").to_pylist() if row["t"] is not None]
    return min(max(keys), store.horizon)
