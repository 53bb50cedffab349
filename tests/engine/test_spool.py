"""Keys of a sweep, kept aside."""

from contextlib import closing
from itertools import accumulate

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from strandline.engine import spool
from strandline.engine.spool import KeySpool


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_the_keys_at_some_places_come_back_in_order(sizes, data):
    total = sum(sizes)
    places = sorted(data.draw(st.sets(st.integers(0, total - 1)))) if total else []
    with closing(KeySpool()) as kept:
        for end, size in zip(accumulate(sizes), sizes, strict=True):
            kept.add(pa.record_batch({"id": pa.array(range(end - size, end), pa.int64())}))
        assert [row for batch in kept.take(places) for row in batch["id"].to_pylist()] == places


def test_keys_beyond_what_fits_into_memory_come_back(monkeypatch):
    monkeypatch.setattr(spool, "_MEMORY_BYTES", 100)
    kept = KeySpool()
    for start in range(0, 100_000, 1_000):
        kept.add(pa.record_batch({"id": pa.array([f"key {n}" for n in range(start, start + 1_000)])}))
    found = [row for batch in kept.take([7, 999, 1_000, 99_999]) for row in batch["id"].to_pylist()]
    assert found == ["key 7", "key 999", "key 1000", "key 99999"]
    kept.close()
