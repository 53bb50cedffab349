"""Windows of any kind, and what a destination of one file must hold after them: the model, and writers that are killed."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from hypothesis import strategies as st

from strandline.connectors.memory.destination import MemoryDestination
from strandline.destination import Destination, WriteMode
from strandline.message import Complete, Delete, Replace, Truncate, WindowMessage
from strandline.plugins import load_plugin
from strandline.table import Table
from strandline.testing.destination_fixtures import keys, orders
from strandline.testing.exact import exact_rows
from strandline.testing.windows import Lineage

_ids = st.lists(st.integers(0, 3), min_size=1, max_size=4)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["whole", "part", "delete", "replace"]), _ids),
        st.tuples(st.sampled_from(["truncate", "window", "complete"]), st.just([0])),
    ),
    max_size=14,
)


_rows = st.lists(st.integers(0, 2), min_size=1, max_size=4)
PASSES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["insert", "reread"]), _rows),
        st.tuples(st.sampled_from(["window", "pass"]), st.just([0])),
    ),
    max_size=14,
)


def same_as_in_the_model(destination: Destination, play: Callable[[Lineage], list[pa.RecordBatch]]) -> None:
    """Fail unless ``play`` finds in both the same rows."""
    MemoryDestination.reset("model")
    model = MemoryDestination(MemoryDestination.Spec(name="model"))
    found = [
        sorted((row for batch in play(Lineage(one)) for row in exact_rows(batch)), key=repr)
        for one in (destination, model)
    ]
    assert found[0] == found[1]


def changed(
    lineage: Lineage, table: Table, mode: WriteMode, changes: list[tuple[str, list[int]]]
) -> list[pa.RecordBatch]:
    """What a destination holds after a stream of changes; every name tells where in the stream it came from."""
    lineage.mode, lineage.task = mode, table.name
    lineage.migrate(table)
    window: list[WindowMessage] = []
    for at, (kind, ids) in enumerate(changes):
        names = [f"{at}.{place}" for place in range(len(ids))]
        match kind:
            case "whole":
                parents = [f"parent {(one + at) % 2}" for one in ids]
                window.append(lineage.insert(table, id=ids, name=names, note=parents))
            case "part":
                window.append(lineage.insert(table, id=ids, name=names))
            case "replace":
                parents = [f"parent {one}" for one in ids]
                window.append(Replace(table.name, pa.record_batch({"note": pa.array(parents)})))
            case "delete":
                window.append(Delete(table.name, keys(table, *ids)))
            case "truncate":
                window.append(Truncate(table.name))
            case "complete":
                window.append(Complete(table.name))
            case "window":
                lineage.write(*window)
                window = []
    lineage.write(*window)
    return lineage.read(table)


def read_again(
    lineage: Lineage, table: Table, mode: WriteMode, passes: list[tuple[str, list[int]]]
) -> list[pa.RecordBatch]:
    """What a destination holds after several passes over rows that are few, and often equal."""
    lineage.mode, lineage.task = mode, table.name
    lineage.migrate(table)
    window: list[WindowMessage] = []
    for kind, ids in passes:
        if kind in {"insert", "reread"}:
            names = [str(one) for one in ids]
            window.append(lineage.insert(table, reread=kind == "reread", id=ids, name=names))
            continue
        lineage.write(*window, *([Complete(table.name)] if kind == "pass" else []))
        window = []
        if kind == "pass":
            lineage.next_pass()
    lineage.write(*window)
    return lineage.read(table)


WRITER = """
import os, resource, signal, sys
from strandline.errors import StrandlineError
from strandline.plugins import load_plugin
from strandline.testing.destination_fixtures import orders
from strandline.testing.windows import Lineage

plugin, path, limit_kib = load_plugin("destination", sys.argv[1]), sys.argv[2], int(sys.argv[3])
lineage = Lineage(plugin(plugin.Spec(path=path)))
lineage.migrate(orders())
if limit_kib:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kib << 10, resource.RLIM_INFINITY))
try:
    while True:
        ids = list(range(lineage.windows * 1000, lineage.windows * 1000 + 1000))
        notes = [os.urandom(900).hex() for _ in ids]
        lineage.write(lineage.insert(orders(), id=ids, name=["a"] * 1000, note=notes))
        print(lineage.windows, flush=True)
except StrandlineError as error:
    print(type(error).__name__)
"""
"""Writes windows of 1,000 rows and 2 MB, and prints the number of each that is acknowledged, until it cannot."""


def check_what_is_there(plugin: str, path: Path, acknowledged: int) -> None:
    """The windows that were acknowledged, and perhaps the one after them: whole, and covered by the state."""
    cls = load_plugin("destination", plugin)
    lineage = Lineage(cls(cls.Spec(path=str(path))))
    state = lineage.stored()
    windows = int(state.cursor["window"]) if state and state.cursor else 0
    assert windows - acknowledged in {0, 1}
    ids = [one for batch in lineage.read(orders()) for one in batch.column("id").to_pylist()]
    assert sorted(ids) == list(range(windows * 1000))
    lineage.destination.close()
